//! Several cores, clients that come and go, read slowly or not at all, and messages between cores that are late or
//! lost: per topic one order, nothing lost or twice, recovery exact, presence exact.
//!
//! What each client checks at every frame is in `client`. At the end the weather clears, everybody comes back and
//! reads, and all must know everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::*;
use super::client::{Client, is_kept_whole};
use super::random::Random;
use super::seeds;
use super::world::{Connection, Frame, Style, World};

#[test]
fn everybody_hears_everything_once_and_in_order() {
    seeds(|seed| Simulation::new(seed).run());
}

struct Simulation {
    world: World,
    clients: Vec<Client>,
    topics: Vec<Topic>,
    /// Connections whose client is gone, and when their core notices.
    ghosts: Vec<(Moment, usize, SubscriberId)>,
    /// Publications that are not answered yet.
    tickets: BTreeMap<Ticket, Topic>,
    tickets_given: u64,
    counted: Vec<(Topic, Receipt)>,
    is_lossless: bool,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let is_lossless = random.one_in(2);
        let style = Style {
            core_count: 1 + random.below(4) as usize,
            // Less would always lose the same one of two messages that are sent at the same moments.
            link_len: if is_lossless { usize::MAX } else { 4 + random.below(12) as usize },
            delay_ms: random.below(60),
            admits: random.one_in(2),
            outbox_len: 1 + random.below(8) as usize,
            backlog_bytes: 300 + random.below(8000) as usize,
        };
        let names = ["whole:a", "whole:b", "short:a", "none:a", "last:a", "drop:a", "latest:a", "latest:b", "else"];
        let topics = names.map(|name| Topic::parse(name).expect(name)).to_vec();
        let clients = (0..3 + random.below(10)).map(|_| client(&mut random, &topics)).collect();
        Self {
            world: World::new(random, style, namespaces()),
            clients,
            topics,
            ghosts: Vec::new(),
            tickets: BTreeMap::new(),
            tickets_given: 0,
            counted: Vec::new(),
            is_lossless,
        }
    }

    fn run(mut self) {
        for _ in 0..100 + self.world.random.below(300) {
            self.step();
        }
        self.settle();
        self.check();
    }

    fn step(&mut self) {
        match self.world.random.below(100) {
            0..40 => self.publish(),
            40..70 => self.read_some(),
            70..80 => self.come_or_go(),
            80..84 => self.toggle_topic(),
            84..98 => self.pass(40),
            _ => self.pass(3000),
        }
        self.close_doomed();
    }

    fn pass(&mut self, most_ms: u64) {
        let until = Moment(self.world.now.0 + self.world.random.below(most_ms));
        while self.world.advance(until) {
            self.take_answers();
        }
        for (_, core, id) in self.ghosts.extract_if(.., |(at, _, _)| *at <= until).collect::<Vec<_>>() {
            self.remove(core, id);
        }
    }

    fn publish(&mut self) {
        let topic = self.world.random.pick(&self.topics).clone();
        let from = self.world.random.below(self.world.style.core_count as u64) as usize;
        for _ in 0..1 + self.world.random.below(4) {
            let ticket = self.ticket(&topic);
            let random = &mut self.world.random;
            let key = ["EUR", "USD", "JPY"][random.below(3) as usize];
            let draft = Draft {
                kind: DataKind::Text,
                data: Bytes::from(format!("{} {}", ticket.0, "x".repeat(random.below(60) as usize))),
                key: (!random.one_in(4)).then(|| Arc::from(key)),
                publisher: None,
            };
            // Now and then something is said twice.
            let idempotency_key = random.one_in(5).then(|| Arc::from(format!("{}", ticket.0)));
            let times = if idempotency_key.is_some() { 2 } else { 1 };
            let reply = if random.one_in(2) { Reply::Counted } else { Reply::Accepted };
            let publish = Publish { topic: topic.clone(), draft, idempotency_key, ticket, reply };
            for _ in 0..times {
                self.world.send(from, &topic, ToHome::Publish(Box::new(publish.clone())));
            }
        }
    }

    fn read_some(&mut self) {
        let client = self.world.random.below(self.clients.len() as u64) as usize;
        let most = 1 + self.world.random.below(20) as usize;
        self.read(client, most);
    }

    fn read(&mut self, client: usize, most: usize) {
        let Some((core, id)) = self.clients[client].at else { return };
        for _ in 0..most {
            let connection = self.world.cores[core].connections.get_mut(&id).expect("it is connected");
            let Some(frame) = connection.outbox.pop_front() else { return };
            connection.outbox.extend(connection.backlog.pop());
            if let Frame::Begun { subject: Subject::Topic(topic), .. } = &frame
                && is_kept_whole(topic)
            {
                self.ask_for_members(core, id, topic);
            }
            self.clients[client].read(frame, &self.world);
        }
    }

    fn come_or_go(&mut self) {
        let index = self.world.random.below(self.clients.len() as u64) as usize;
        match self.clients[index].at {
            None => self.connect(index),
            Some((core, id)) => {
                self.part(index);
                if self.world.random.one_in(3) {
                    let noticed_at = Moment(self.world.now.0 + self.world.random.below(5000));
                    self.ghosts.push((noticed_at, core, id));
                } else {
                    self.remove(core, id);
                }
            }
        }
    }

    fn connect(&mut self, index: usize) {
        let core = self.world.random.below(self.world.style.core_count as u64) as usize;
        let connections = &mut self.world.cores[core].connections;
        let id = (0..).map(SubscriberId).find(|id| !connections.contains_key(id)).expect("there are enough");
        let backlog = Backlog::new(self.world.style.backlog_bytes);
        connections.insert(id, Connection::new(backlog));
        self.clients[index].at = Some((core, id));
        let topics: Vec<_> = self.clients[index].topics.keys().cloned().collect();
        topics.iter().for_each(|topic| self.subscribe(index, topic));
        let now = self.world.now;
        for pattern in self.clients[index].patterns.clone() {
            let subscribed = self.world.local(core, |local, outlet| local.subscribe_pattern(id, &pattern, now, outlet));
            subscribed.expect("it is new");
        }
    }

    fn subscribe(&mut self, index: usize, topic: &Topic) {
        let client = &self.clients[index];
        let Some((core, id)) = client.at else { return };
        let want = match client.topics[topic].position {
            Some(position) => Want::Since(position),
            None if self.world.random.one_in(2) => Want::Last,
            None => Want::Nothing,
        };
        let (member, now) = (client.member.clone(), self.world.now);
        let subscribed =
            self.world.local(core, |local, outlet| local.subscribe(id, topic, want, Some(&member), now, outlet));
        subscribed.expect("it is new");
    }

    /// What is told from now on can be counted on, so it is time to ask who is present.
    fn ask_for_members(&mut self, core: usize, id: SubscriberId, topic: &Topic) {
        self.tickets_given += 1;
        let ticket = Ticket(self.tickets_given);
        let connection = self.world.cores[core].connections.get_mut(&id).expect("it is connected");
        connection.asked_for_members.insert(ticket, topic.clone());
        self.world.send(core, topic, ToHome::Read { topic: topic.clone(), ticket, what: Read::Members });
    }

    /// A client subscribes to another topic, or unsubscribes from one.
    fn toggle_topic(&mut self) {
        let index = self.world.random.below(self.clients.len() as u64) as usize;
        let topic = self.world.random.pick(&self.topics).clone();
        let client = &mut self.clients[index];
        let Some((core, id)) = client.at.filter(|_| client.patterns.is_empty()) else { return };
        match client.topics.get(&topic) {
            None => {
                client.topics.entry(topic.clone()).or_default();
                self.subscribe(index, &topic);
            }
            // What is still in its queue must be read before it may forget the topic.
            Some(_) => {
                self.world.local(core, |local, outlet| assert!(local.unsubscribe(id, topic.as_str(), outlet)));
                self.read(index, usize::MAX);
                self.clients[index].topics.remove(&topic);
            }
        }
    }

    /// The client's connection is gone, whether its core knows or not.
    fn part(&mut self, index: usize) {
        self.clients[index].has_drops |= self.has_drops(index);
        self.clients[index].lose();
    }

    /// Whether something was dropped that the client was to read.
    fn has_drops(&self, index: usize) -> bool {
        let client = &self.clients[index];
        let connection = client.at.and_then(|(core, id)| self.world.cores[core].connections.get(&id));
        client.has_drops || connection.is_some_and(|connection| connection.backlog.lost().dropped > 0)
    }

    fn close_doomed(&mut self) {
        for core in 0..self.world.style.core_count {
            for id in std::mem::take(&mut self.world.cores[core].doomed) {
                if let Some(index) = self.clients.iter().position(|client| client.at == Some((core, id))) {
                    self.part(index);
                }
                self.remove(core, id);
            }
        }
    }

    fn remove(&mut self, core: usize, id: SubscriberId) {
        // It may be told to close more than once.
        if self.world.cores[core].connections.remove(&id).is_some() {
            self.ghosts.retain(|(_, ghost_core, ghost)| (*ghost_core, *ghost) != (core, id));
            self.world.local(core, |local, outlet| local.remove(id, outlet));
        }
    }

    fn ticket(&mut self, topic: &Topic) -> Ticket {
        self.tickets_given += 1;
        self.tickets.insert(Ticket(self.tickets_given), topic.clone());
        Ticket(self.tickets_given)
    }

    fn take_answers(&mut self) {
        for (ticket, answer) in std::mem::take(&mut self.world.answers) {
            match answer {
                Answer::Published(receipt) if receipt.is_repeat => {}
                Answer::Published(receipt) => {
                    let topic = self.tickets.remove(&ticket).expect("it is answered once");
                    self.counted.push((topic, receipt));
                }
                Answer::Refused(refused) => assert_eq!(refused, Refused::Busy),
                answer => panic!("nobody asked for {answer:?}"),
            }
        }
    }

    /// Everybody comes back, everything is read, and what was lost is found.
    fn settle(&mut self) {
        // Room for a recovery as a whole: who has none is disconnected, as is right, and would be again.
        self.world.style.backlog_bytes = 1 << 20;
        for round in 0..200 {
            for index in 0..self.clients.len() {
                if self.clients[index].at.is_none() {
                    self.connect(index);
                }
                self.read(index, usize::MAX);
            }
            // Slowly at first, then past all deadlines.
            self.pass(if round < 100 { 100 } else { 2000 });
            self.close_doomed();
        }
        for index in 0..self.clients.len() {
            self.read(index, usize::MAX);
        }
    }

    fn check(&mut self) {
        assert!(self.ghosts.is_empty());
        for topic in self.topics.clone() {
            let home = home_of(&topic, self.world.style.core_count);
            let newest = self.world.cores[home].home.position(&topic);
            for client in 0..self.clients.len() {
                self.check_reader(client, &topic, newest);
            }
            self.check_presence(&topic);
        }
        self.check_patterns();
        self.check_receipts();
    }

    fn check_reader(&self, client: usize, topic: &Topic, newest: Option<Position>) {
        let may_miss = self.has_drops(client);
        let client = &self.clients[client];
        let Some(reading) = client.topics.get(topic) else { return };
        assert!(client.at.is_some(), "whoever reads stays connected");
        assert!(reading.has_begun, "{topic}");
        let newest = newest.expect("it is known while somebody hears it");
        let position = reading.position.expect("it has begun");
        assert_eq!(position.epoch, newest.epoch, "{topic}");
        let slow_consumer = self.world.namespaces.of(topic).slow_consumer;
        assert!(position == newest || (slow_consumer != SlowConsumer::Disconnect && may_miss), "{topic}");
        if slow_consumer == SlowConsumer::Latest && !may_miss {
            let mut want = BTreeMap::new();
            let drafts = self.world.truth.get(&(topic.clone(), newest.epoch)).map_or(&[][..], |drafts| drafts);
            for (index, draft) in drafts.iter().enumerate().skip(reading.complete_from as usize) {
                want.insert(draft.key.clone(), index as u64 + 1);
            }
            assert_eq!(reading.newest, want, "{topic}: the newest of each key");
        }
    }

    fn check_presence(&mut self, topic: &Topic) {
        let mut want = BTreeSet::new();
        if is_kept_whole(topic) {
            let present = self.clients.iter().filter(|client| client.topics.contains_key(topic));
            want.extend(present.map(|client| client.member.user.clone()));
        }
        let home = home_of(topic, self.world.style.core_count);
        let mut out = Outbound::default();
        let read = ToHome::Read { topic: topic.clone(), ticket: Ticket(0), what: Read::Members };
        self.world.cores[home].home.handle(Party::Outside, read, self.world.now, &mut out);
        let Some((_, ToCore::Answer { answer: Answer::Members(members), .. })) = out.messages.pop() else {
            panic!("a question is answered")
        };
        let users = members.iter().map(|attendee| &attendee.member.user);
        assert!(users.eq(&want), "{topic}: {members:?}, should be {want:?}");
        for Attendee { member, connections } in members {
            let its = |client: &&Client| client.member.user == member.user && client.topics.contains_key(topic);
            let count = self.clients.iter().filter(its).count();
            assert_eq!(connections as usize, count, "{topic}: connections of {}", member.user);
        }
        for client in &self.clients {
            let told = client.topics.get(topic).and_then(|reading| reading.members.as_ref());
            assert!(told.is_none_or(|told| *told == want), "{topic}: {told:?}, should be {want:?}");
            let asked = is_kept_whole(topic) && client.topics.contains_key(topic);
            assert!(!self.is_lossless || told.is_some() == asked, "{topic}");
        }
    }

    fn check_patterns(&self) {
        for client in &self.clients {
            assert_eq!(client.begun, client.patterns.len(), "all patterns have begun");
            if !self.is_lossless {
                continue;
            }
            for (topic, heard) in &client.heard {
                let home = home_of(topic, self.world.style.core_count);
                if self.world.namespaces.of(topic).slow_consumer != SlowConsumer::Disconnect {
                    continue;
                }
                assert!(heard.is_complete && heard.first <= heard.last, "{topic}");
                let newest = self.world.cores[home].home.position(topic);
                assert!(newest.is_none_or(|newest| newest == heard.last || newest.offset == 0), "{topic}: {newest:?}");
            }
        }
    }

    fn check_receipts(&self) {
        for (topic, receipt) in &self.counted {
            let Some(counts) = &receipt.counts else { continue };
            assert!(counts.tally.delivered <= counts.tally.subscribers, "{receipt:?}");
            if self.is_lossless {
                assert!(counts.silent.is_empty(), "every core answers: {receipt:?}");
                let Position { epoch, offset } = receipt.position;
                let key = (topic.clone(), epoch, offset);
                let entered: u64 = self.world.cores.iter().filter_map(|core| core.entered.get(&key)).sum();
                assert_eq!(counts.tally.delivered, entered, "{topic} {receipt:?}");
            }
        }
        if self.is_lossless {
            assert!(self.tickets.is_empty() || self.world.style.admits, "every publication is answered");
        }
    }
}

fn client(random: &mut Random, topics: &[Topic]) -> Client {
    // Fewer users than clients: some have several connections.
    let mut client = Client::new(["ann", "bob", "cid", "dan"][random.below(4) as usize]);
    if random.one_in(4) {
        let patterns = ["whole:*", "**", "*:a", "latest:**", "none:*"];
        let chosen: BTreeSet<_> = (0..1 + random.below(3)).map(|_| *random.pick(&patterns)).collect();
        client.patterns = chosen.into_iter().map(|text| Pattern::parse(text).expect(text)).collect();
    } else {
        for topic in topics {
            if random.one_in(2) {
                client.topics.entry(topic.clone()).or_default();
            }
        }
    }
    client
}

fn namespaces() -> Namespaces {
    let named = |name: &str| Namespace { name: name.to_owned(), ..Namespace::default() };
    let whole = |name: &str| Namespace {
        history_messages: 100_000,
        history_bytes: usize::MAX,
        history_ttl: Duration::from_secs(1_000_000),
        ..named(name)
    };
    let all = [
        Namespace { presence: true, ..whole("whole") },
        Namespace { history_messages: 3, history_ttl: Duration::from_secs(1), ..named("short") },
        Namespace { history_messages: 0, ..named("none") },
        Namespace { history_messages: 1, ..named("last") },
        Namespace { slow_consumer: SlowConsumer::DropOldest, ..whole("drop") },
        Namespace { slow_consumer: SlowConsumer::Latest, ..whole("latest") },
    ];
    Namespaces::new(Namespace::default(), all).expect("they are good")
}
