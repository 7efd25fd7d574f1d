//! The topics whose home is one core: their order, history and members, and which cores hear them.
//!
//! Only publications pass through here, not their delivery: a home sends one message to each core that has
//! subscribers, and none to the others.
//!
//! Knows neither subscribers nor how messages are carried. Time and randomness are arguments.

mod history;
mod idempotency;
mod options;
mod presence;
mod publishing;
mod receipts;
mod topic;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::message::{Answer, Party, PresenceChange, Read, Refused, Ticket, ToCore, ToHome, Want, Watched};
use super::moment::Moment;
use super::name::Topic;
use super::namespace::Namespaces;
use super::pattern::Pattern;
use super::pattern_tree::PatternTree;
use super::placement::{CoreSet, mix};
use super::position::{Epoch, Position};
pub use idempotency::IDEMPOTENCY_KEY_BYTES_MAX;
use idempotency::Idempotency;
use options::BEHIND_DELAY;
pub use options::HomeOptions;
pub use presence::PRESENCE_LEASE;
use receipts::Receipts;
use topic::TopicState;
use watch::Watchers;

/// One core's home.
#[derive(Debug)]
pub struct Home {
    options: HomeOptions,
    namespaces: Arc<Namespaces>,
    topics: HashMap<Topic, TopicState>,
    /// Topics by when they are to be looked at: each at most once, at its `check_at`.
    agenda: BTreeSet<(Moment, Topic)>,
    patterns: PatternTree<PatternCores>,
    receipts: Receipts,
    idempotency: Idempotency,
    watchers: Watchers,
    /// How many epochs have begun here.
    epoch_count: u64,
    publication_count: u64,
}

/// Which cores hear a pattern.
#[derive(Debug)]
struct PatternCores {
    pattern: Pattern,
    /// Bytes in the name of its namespace.
    scope: usize,
    cores: CoreSet,
}

/// What a home wants done.
#[derive(Debug, Default)]
pub struct Outbound {
    /// To be carried, in this order.
    pub messages: Vec<(Party, ToCore)>,
    /// For whoever watches the server.
    pub events: Vec<HomeEvent>,
}

/// Something that happened to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeEvent {
    /// Somebody has subscribed to it by its own name, and nobody had.
    Occupied(Topic),
    /// The last of them is gone.
    Vacated(Topic),
    /// A member has come or gone.
    Presence(Topic, PresenceChange),
}

impl Home {
    /// A home of no topics yet.
    pub fn new(options: HomeOptions, namespaces: Arc<Namespaces>) -> Self {
        Self {
            namespaces,
            topics: HashMap::new(),
            agenda: BTreeSet::new(),
            patterns: PatternTree::default(),
            receipts: Receipts::new(options.receipts_max, options.receipt_wait),
            idempotency: Idempotency::new(options.idempotency_keys_max, options.idempotency_ttl),
            watchers: Watchers::default(),
            epoch_count: 0,
            publication_count: 0,
            options,
        }
    }

    /// Somebody says something about a topic whose home this is.
    pub fn handle(&mut self, from: Party, message: ToHome, now: Moment, out: &mut Outbound) {
        match (message, from) {
            (ToHome::Publish(publish), _) => self.publish(from, *publish, now, out),
            (ToHome::Read { topic, ticket, what }, _) => self.read(from, topic, ticket, what, now, out),
            (ToHome::Watch { ticket, watch }, _) => {
                let watched = Watched { topic_count: self.topics.len(), ..self.watchers.ask(watch, now) };
                out.messages.push((from, ToCore::Answer { ticket, answer: Answer::Watched(Box::new(watched)) }));
            }
            (message, Party::Core(core)) => self.handle_core(core, message, now, out),
            (_, Party::Outside) => debug_assert!(false, "only cores have subscribers"),
        }
    }

    fn handle_core(&mut self, core: usize, message: ToHome, now: Moment, out: &mut Outbound) {
        match message {
            ToHome::Subscribe { topic, ticket, want } => self.subscribe(core, topic, ticket, want, now, out),
            ToHome::Unsubscribe { topic } => self.unsubscribe(core, &topic, now, out),
            ToHome::Nobody { topic } => self.hear_no_more(core, &topic, now, out),
            ToHome::Pattern { pattern, ticket } => self.hear_pattern(core, pattern, ticket, out),
            ToHome::PatternEnded { pattern } => self.end_pattern(core, &pattern),
            ToHome::Tally { receipt, tally } => {
                let answered = self.receipts.add(receipt, core, tally);
                out.messages.extend(answered.map(to_asker));
            }
            ToHome::Enter { topic, member } => {
                self.presence(topic, now, out, |topic| topic.presence.enter(core, member, now).into_iter().collect());
            }
            // Who is not known cannot leave.
            ToHome::Leave { topic, .. } if !self.topics.contains_key(&topic) => {}
            ToHome::Leave { topic, user } => {
                self.presence(topic, now, out, |topic| topic.presence.leave(core, &user).into_iter().collect());
            }
            ToHome::Recount { topic, user, connections } => {
                if let Some(known) = self.topics.get_mut(&topic) {
                    known.presence.recount(core, &user, connections);
                }
            }
            ToHome::Renew { topic, digest } => {
                let known = self.topics.get_mut(&topic);
                if !known.is_some_and(|known| known.presence.renew(core, digest, now)) {
                    out.messages.push((Party::Core(core), ToCore::Attend { topic }));
                }
            }
            ToHome::Attendance { topic, members } => {
                self.presence(topic, now, out, |topic| topic.presence.replace(core, members, now));
            }
            ToHome::Publish(_) | ToHome::Read { .. } | ToHome::Watch { .. } => unreachable!("handled for all parties"),
        }
    }

    /// Something that was to be carried to this core about this topic could not be: it will be told where the topic
    /// stands.
    pub fn missed(&mut self, core: usize, topic: &Topic, now: Moment) {
        if let Some(state) = self.topics.get_mut(topic) {
            state.behind.insert(core);
            schedule(&mut self.agenda, topic, state, Some(now.after(BEHIND_DELAY)));
        }
    }

    /// To be called at [`Home::deadline`]; changes nothing if called earlier.
    pub fn handle_timeout(&mut self, now: Moment, out: &mut Outbound) {
        while let Some(answered) = self.receipts.expire(now) {
            out.messages.push(to_asker(answered));
        }
        self.watchers.expire(now);
        while self.agenda.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, topic)) = self.agenda.pop_first() else { break };
            self.look_at(topic, now, out);
        }
    }

    /// When [`Home::handle_timeout`] must next be called.
    pub fn deadline(&self) -> Option<Moment> {
        let agenda = self.agenda.first().map(|(at, _)| *at);
        [agenda, self.receipts.deadline(), self.watchers.deadline()].into_iter().flatten().min()
    }

    /// The cores that would hear a publication of the topic: whoever carries can refuse it while one has no room.
    pub fn audience(&self, topic: &Topic) -> CoreSet {
        let named = self.topics.get(topic).map(|state| state.cores).unwrap_or_default();
        if self.patterns.is_empty() {
            return named;
        }
        let scope = self.namespaces.of(topic).name.len();
        let mut audience = named;
        self.patterns.for_each_match(topic, |pattern| {
            if pattern.scope == scope {
                audience = audience.union(&pattern.cores);
            }
        });
        audience
    }

    /// The newest publication of a topic that is known.
    pub fn position(&self, topic: &Topic) -> Option<Position> {
        self.topics.get(topic).map(TopicState::position)
    }

    /// From now on these namespaces count. What topics keep is cut to the new bounds when they are next looked at.
    pub fn configure(&mut self, namespaces: Arc<Namespaces>) {
        for (topic, state) in &mut self.topics {
            state.namespace = namespaces.of(topic).clone();
        }
        self.patterns.retain(|entry| {
            entry.scope = namespaces.of_pattern(&entry.pattern).name.len();
            true
        });
        self.namespaces = namespaces;
    }

    /// How many publications were given a place so far. What is said again under the same key is none.
    pub fn publication_count(&self) -> u64 {
        self.publication_count
    }

    /// How many topics are known.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    fn subscribe(&mut self, core: usize, topic: Topic, ticket: Ticket, want: Want, now: Moment, out: &mut Outbound) {
        let Some(state) = self.make(&topic, now) else {
            let refused = Refused::TooManyTopics;
            return out.messages.push((Party::Core(core), ToCore::NotSubscribed { topic, ticket, refused }));
        };
        if state.cores.is_empty() {
            out.events.push(HomeEvent::Occupied(topic.clone()));
        }
        state.cores.insert(core);
        let (horizon, publications) = state.recall(want, now);
        self.reschedule(&topic);
        out.messages.push((Party::Core(core), ToCore::Subscribed { topic, ticket, horizon, publications }));
    }

    fn unsubscribe(&mut self, core: usize, topic: &Topic, now: Moment, out: &mut Outbound) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        if state.cores.remove(core) && state.cores.is_empty() {
            out.events.push(HomeEvent::Vacated(topic.clone()));
            state.touch(now);
            self.reschedule(topic);
        }
    }

    /// The core hears the topic in no way, whatever was said before.
    fn hear_no_more(&mut self, core: usize, topic: &Topic, now: Moment, out: &mut Outbound) {
        self.unsubscribe(core, topic, now, out);
        let scope = self.namespaces.of(topic).name.len();
        self.patterns.retain(|entry| {
            if entry.scope == scope && entry.pattern.matches(topic) {
                entry.cores.remove(core);
            }
            !entry.cores.is_empty()
        });
    }

    fn hear_pattern(&mut self, core: usize, pattern: Pattern, ticket: Ticket, out: &mut Outbound) {
        let scope = self.namespaces.of_pattern(&pattern).name.len();
        let entry = self.patterns.get_or_insert_with(&pattern, || PatternCores {
            pattern: pattern.clone(),
            scope,
            cores: CoreSet::default(),
        });
        entry.cores.insert(core);
        out.messages.push((Party::Core(core), ToCore::PatternKnown { pattern, ticket }));
    }

    fn end_pattern(&mut self, core: usize, pattern: &Pattern) {
        let Some(mut entry) = self.patterns.remove(pattern) else { return };
        entry.cores.remove(core);
        if !entry.cores.is_empty() {
            self.patterns.get_or_insert_with(pattern, || entry);
        }
    }

    /// Changes the members of a topic, and tells the cores that have subscribers by its own name.
    fn presence(
        &mut self,
        topic: Topic,
        now: Moment,
        out: &mut Outbound,
        change: impl FnOnce(&mut TopicState) -> Vec<PresenceChange>,
    ) {
        let Some(state) = self.make(&topic, now) else { return };
        let changes = change(state);
        state.touch(now);
        tell_presence(&topic, state, changes, out);
        self.reschedule(&topic);
    }

    fn read(&mut self, from: Party, topic: Topic, ticket: Ticket, what: Read, now: Moment, out: &mut Outbound) {
        let state = self.topics.get_mut(&topic);
        let answer = match what {
            Read::History { since, limit } => match state.map(|state| state.newest(since, limit, now)) {
                Some((horizon, publications)) => Answer::History { horizon: Some(horizon), publications },
                None => Answer::History { horizon: None, publications: Vec::new() },
            },
            Read::Members => Answer::Members(state.map_or_else(Vec::new, |state| state.presence.attendees().collect())),
            Read::Info => {
                let info = state.map(|state| state.info(now)).unwrap_or_default();
                return self.count(from, topic, ticket, info, now, out);
            }
        };
        out.messages.push((from, ToCore::Answer { ticket, answer }));
    }

    /// The topic is on the agenda for now.
    fn look_at(&mut self, topic: Topic, now: Moment, out: &mut Outbound) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        state.check_at = None;
        let changes = state.expire(now);
        let behind = std::mem::take(&mut state.behind);
        for core in behind.iter() {
            let (topic, position, members) = (topic.clone(), state.position(), state.members());
            out.messages.push((Party::Core(core), ToCore::Behind { topic, position, members }));
        }
        tell_presence(&topic, state, changes, out);
        if state.is_forgettable(self.options.idle_ttl, now) {
            self.topics.remove(&topic);
        } else {
            self.reschedule(&topic);
        }
    }

    /// The topic, which begins now if it is not known. `None` if there is no room for it.
    fn make(&mut self, topic: &Topic, now: Moment) -> Option<&mut TopicState> {
        if !self.topics.contains_key(topic) {
            if self.topics.len() >= self.options.topics_max {
                return None;
            }
            // A permutation of a counter: no two epochs of this core are the same.
            self.epoch_count += 1;
            let epoch = Epoch::new(mix(self.options.seed.wrapping_add(self.epoch_count)));
            let namespace = self.namespaces.of(topic).clone();
            self.topics.insert(topic.clone(), TopicState::new(epoch, namespace, now));
        }
        self.topics.get_mut(topic)
    }

    fn reschedule(&mut self, topic: &Topic) {
        if let Some(state) = self.topics.get_mut(topic) {
            let at = state.deadline(self.options.idle_ttl);
            schedule(&mut self.agenda, topic, state, at);
        }
    }
}

/// Has the topic looked at no later than `at`. Being looked at too early does no harm.
fn schedule(agenda: &mut BTreeSet<(Moment, Topic)>, topic: &Topic, state: &mut TopicState, at: Option<Moment>) {
    let Some(at) = at else { return };
    if let Some(check_at) = state.check_at {
        if check_at <= at {
            return;
        }
        agenda.remove(&(check_at, topic.clone()));
    }
    state.check_at = Some(at);
    agenda.insert((at, topic.clone()));
}

fn tell_presence(topic: &Topic, state: &TopicState, changes: Vec<PresenceChange>, out: &mut Outbound) {
    for change in changes {
        for core in state.cores.iter() {
            let message = ToCore::Presence { topic: topic.clone(), change: change.clone() };
            out.messages.push((Party::Core(core), message));
        }
        out.events.push(HomeEvent::Presence(topic.clone(), change));
    }
}

fn to_asker((asker, ticket, answer): (Party, Ticket, Answer)) -> (Party, ToCore) {
    (asker, ToCore::Answer { ticket, answer })
}
