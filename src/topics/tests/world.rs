//! Several cores in one thread: their homes, their subscriptions, and bounded ways with delays between them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::*;
use super::random::Random;

/// All cores, what is on its way between them, and what really was published.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) now: Moment,
    pub(super) style: Style,
    pub(super) cores: Vec<Core>,
    /// From and to; what is sent first arrives first.
    links: Vec<Vec<VecDeque<(Moment, Carried)>>>,
    pub(super) namespaces: Arc<Namespaces>,
    /// All drafts of each life of each topic, by offset less one.
    pub(super) truth: BTreeMap<(Topic, Epoch), Vec<Draft>>,
    /// Answers to publications.
    pub(super) answers: Vec<(Ticket, Answer)>,
}

/// What kind of weather it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) core_count: usize,
    /// Messages that a link holds; whatever does not fit is lost.
    pub(super) link_len: usize,
    pub(super) delay_ms: u64,
    /// Whether a publication is refused while it would not fit into a link.
    pub(super) admits: bool,
    /// Frames that a connection's queue takes before they wait in its backlog.
    pub(super) outbox_len: usize,
    pub(super) backlog_bytes: usize,
}

pub(super) struct Core {
    pub(super) local: Local,
    pub(super) home: Home,
    pub(super) connections: BTreeMap<SubscriberId, Connection>,
    /// Read too slowly.
    pub(super) doomed: Vec<SubscriberId>,
    /// How many queues each publication has entered when it was delivered.
    pub(super) entered: BTreeMap<(Topic, Epoch, u64), u64>,
}

pub(super) struct Connection {
    pub(super) outbox: VecDeque<Frame>,
    pub(super) backlog: Backlog<Frame>,
    /// Questions who is present.
    pub(super) asked_for_members: BTreeMap<Ticket, Topic>,
}

/// What a client reads.
#[derive(Debug)]
pub(super) enum Frame {
    Begun { subject: Subject, position: Option<Position>, recovery: Recovery, count: u64 },
    Message { topic: Topic, epoch: Epoch, publication: Publication },
    Gap { topic: Topic, position: Position },
    Presence { topic: Topic, change: PresenceChange },
    Members { topic: Topic, members: Vec<Member> },
}

enum Carried {
    ToHome(ToHome),
    ToCore(ToCore),
}

/// A core's connections, as its topics reach them.
pub(super) struct Surroundings<'a> {
    connections: &'a mut BTreeMap<SubscriberId, Connection>,
    doomed: &'a mut Vec<SubscriberId>,
    entered: &'a mut BTreeMap<(Topic, Epoch, u64), u64>,
    namespaces: &'a Namespaces,
    outbox_len: usize,
    sent: Vec<(usize, ToHome)>,
    answers: Vec<(Ticket, Answer)>,
}

impl World {
    pub(super) fn new(mut random: Random, style: Style, namespaces: Namespaces) -> Self {
        let namespaces = Arc::new(namespaces);
        let seed = random.next_u64();
        let core = |core| {
            let mut options = HomeOptions::new(core, style.core_count, seed.wrapping_mul(core as u64 + 1));
            options.idle_ttl = std::time::Duration::from_secs(2);
            Core {
                local: Local::new(style.core_count, namespaces.clone()),
                home: Home::new(options, namespaces.clone()),
                connections: BTreeMap::new(),
                doomed: Vec::new(),
                entered: BTreeMap::new(),
            }
        };
        let row = || (0..style.core_count).map(|_| VecDeque::new()).collect();
        Self {
            now: Moment(1),
            cores: (0..style.core_count).map(core).collect(),
            links: (0..style.core_count).map(|_| row()).collect(),
            namespaces: namespaces.clone(),
            truth: BTreeMap::new(),
            answers: Vec::new(),
            random,
            style,
        }
    }

    /// Lets a core's topics do something, and carries what they say.
    pub(super) fn local<R>(&mut self, core: usize, act: impl FnOnce(&mut Local, &mut Surroundings<'_>) -> R) -> R {
        let Core { local, connections, doomed, entered, .. } = &mut self.cores[core];
        let mut surroundings = Surroundings {
            connections,
            doomed,
            entered,
            namespaces: &self.namespaces,
            outbox_len: self.style.outbox_len,
            sent: Vec::new(),
            answers: Vec::new(),
        };
        let result = act(local, &mut surroundings);
        let Surroundings { sent, answers, .. } = surroundings;
        self.answers.extend(answers);
        for (to, message) in sent {
            self.carry(core, to, Carried::ToHome(message));
        }
        result
    }

    /// Sends something to a topic's home, unless there is no room. Answers whether there was.
    pub(super) fn send(&mut self, from: usize, topic: &Topic, message: ToHome) -> bool {
        self.carry(from, home_of(topic, self.style.core_count), Carried::ToHome(message))
    }

    /// The next thing that happens by itself, if it is not later than `until`.
    pub(super) fn advance(&mut self, until: Moment) -> bool {
        let arrivals = self.links.iter().flatten().filter_map(|link| link.front()).map(|(due, _)| *due);
        let deadlines = self.cores.iter().flat_map(|core| [core.local.deadline(), core.home.deadline()]).flatten();
        let Some(next) = arrivals.chain(deadlines).min().filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        self.arrive();
        self.time_out();
        true
    }

    /// Everything that is due arrives, links in random order.
    fn arrive(&mut self) {
        let core_count = self.style.core_count;
        let first = self.random.below((core_count * core_count) as u64) as usize;
        for link in (0..core_count * core_count).map(|link| (link + first) % (core_count * core_count)) {
            let (from, to) = (link / core_count, link % core_count);
            // Only what is there now: a core that speaks to itself must not keep the others waiting.
            for _ in 0..self.links[from][to].len() {
                let Some((_, carried)) = self.links[from][to].pop_front_if(|(due, _)| *due <= self.now) else { break };
                let now = self.now;
                match carried {
                    Carried::ToHome(message) => self.at_home(from, to, message),
                    Carried::ToCore(message) => {
                        self.local(to, |local, outlet| local.handle(from, message, now, outlet))
                    }
                }
            }
        }
    }

    fn time_out(&mut self) {
        let now = self.now;
        for core in 0..self.style.core_count {
            self.local(core, |local, outlet| local.handle_timeout(now, outlet));
            let mut out = Outbound::default();
            self.cores[core].home.handle_timeout(now, &mut out);
            self.carry_all(core, out);
        }
    }

    fn at_home(&mut self, from: usize, to: usize, message: ToHome) {
        let mut out = Outbound::default();
        let party = Party::Core(from);
        match message {
            ToHome::Publish(publish) => {
                let (topic, draft) = (publish.topic.clone(), publish.draft.clone());
                if self.style.admits && !self.has_room(to, &topic) {
                    let answer = Answer::Refused(Refused::Busy);
                    out.messages.push((party, ToCore::Answer { ticket: publish.ticket, answer }));
                    return self.carry_all(to, out);
                }
                let home = &mut self.cores[to].home;
                let before = home.position(&topic);
                home.handle(party, ToHome::Publish(publish), self.now, &mut out);
                let after = home.position(&topic).expect("it was published");
                if before != Some(after) {
                    let drafts = self.truth.entry((topic, after.epoch)).or_default();
                    drafts.push(draft);
                    assert_eq!(drafts.len() as u64, after.offset, "offsets have no gaps");
                }
            }
            message => self.cores[to].home.handle(party, message, self.now, &mut out),
        }
        self.carry_all(to, out);
    }

    fn has_room(&self, home: usize, topic: &Topic) -> bool {
        let audience = self.cores[home].home.audience(topic);
        audience.iter().all(|core| core == home || self.links[home][core].len() < self.style.link_len)
    }

    fn carry_all(&mut self, from: usize, out: Outbound) {
        for (party, message) in out.messages {
            let Party::Core(to) = party else { panic!("nobody outside asks here") };
            let missed = message.missed_topic().cloned();
            let message = if from == to { message } else { message.detached() };
            if !self.carry(from, to, Carried::ToCore(message))
                && let Some(topic) = missed
            {
                self.cores[from].home.missed(to, &topic, self.now);
            }
        }
    }

    fn carry(&mut self, from: usize, to: usize, carried: Carried) -> bool {
        let link = &mut self.links[from][to];
        if from != to && link.len() >= self.style.link_len {
            return false;
        }
        let delay = if from == to { 0 } else { self.random.below(self.style.delay_ms + 1) };
        let due = Moment(self.now.0 + delay).max(link.back().map_or(Moment(0), |(due, _)| *due));
        link.push_back((due, carried));
        true
    }
}

impl Connection {
    pub(super) fn new(backlog: Backlog<Frame>) -> Self {
        Self { outbox: VecDeque::new(), backlog, asked_for_members: BTreeMap::new() }
    }
}

impl Surroundings<'_> {
    fn queue(&mut self, to: SubscriberId, frame: Frame, len: usize, keep: Keep<'_>) -> Tally {
        let connection = self.connections.get_mut(&to).expect("only connections that are there are told anything");
        if connection.backlog.is_empty() && connection.outbox.len() < self.outbox_len {
            connection.outbox.push_back(frame);
            return Tally { delivered: 1, ..Tally::default() };
        }
        connection.backlog.push(frame, len, keep).unwrap_or_else(|Overflow| {
            self.doomed.push(to);
            Tally { dropped: 1, ..Tally::default() }
        })
    }

    fn queue_publication(&mut self, to: SubscriberId, topic: &Topic, epoch: Epoch, publication: &Publication) -> Tally {
        let message = Frame::Message { topic: topic.clone(), epoch, publication: publication.clone() };
        let keep = match self.namespaces.of(topic).slow_consumer {
            SlowConsumer::Disconnect => Keep::Firm,
            SlowConsumer::DropOldest => Keep::Droppable,
            SlowConsumer::Latest => Keep::Latest(topic, publication.draft.key.as_ref()),
        };
        self.queue(to, message, publication.draft.bytes(), keep)
    }

    fn queue_news(&mut self, to: &[SubscriberId], frame: impl Fn() -> Frame) {
        to.iter().for_each(|to| {
            self.queue(*to, frame(), 10, Keep::Firm);
        });
    }
}

impl Outlet for Surroundings<'_> {
    fn send(&mut self, core: usize, message: ToHome) {
        self.sent.push((core, message));
    }

    fn deliver(&mut self, topic: &Topic, epoch: Epoch, publication: &Publication, to: &[SubscriberId]) -> Tally {
        assert!(to.is_sorted() || to.iter().collect::<std::collections::BTreeSet<_>>().len() == to.len(), "each once");
        let mut tally = Tally::default();
        to.iter().for_each(|to| tally.add(self.queue_publication(*to, topic, epoch, publication)));
        *self.entered.entry((topic.clone(), epoch, publication.offset)).or_default() += tally.delivered;
        tally
    }

    fn subscribed(&mut self, to: SubscriberId, subject: &Subject, begun: &Begun<'_>) {
        let (position, recovery, count) = (begun.position, begun.recovery, begun.publications.len() as u64);
        self.queue(to, Frame::Begun { subject: subject.clone(), position, recovery, count }, 10, Keep::Firm);
        if let (Subject::Topic(topic), Some(position)) = (subject, position) {
            for publication in begun.publications {
                self.queue_publication(to, topic, position.epoch, publication);
            }
        }
    }

    fn refused(&mut self, _: SubscriberId, topic: &Topic, refused: Refused) {
        panic!("{topic} was refused: {refused}");
    }

    fn gap(&mut self, topic: &Topic, position: Position, to: &[SubscriberId]) {
        self.queue_news(to, || Frame::Gap { topic: topic.clone(), position });
    }

    fn presence(&mut self, topic: &Topic, change: &PresenceChange, to: &[SubscriberId]) {
        self.queue_news(to, || Frame::Presence { topic: topic.clone(), change: change.clone() });
    }

    fn members(&mut self, topic: &Topic, members: &[Member], to: &[SubscriberId]) {
        self.queue_news(to, || Frame::Members { topic: topic.clone(), members: members.to_vec() });
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let Answer::Members(members) = answer else { return self.answers.push((ticket, answer)) };
        // The connection may be gone, and another have its number.
        let asked = self
            .connections
            .iter_mut()
            .find_map(|(id, connection)| connection.asked_for_members.remove(&ticket).map(|topic| (*id, topic)));
        if let Some((id, topic)) = asked {
            let members: Vec<_> = members.into_iter().map(|attendee| attendee.member).collect();
            self.members(&topic, &members, &[id]);
        }
    }
}
