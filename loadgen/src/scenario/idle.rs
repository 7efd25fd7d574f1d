//! `idle`: connections that say nothing, or only a ping now and then. What they cost is read from outside.
//!
//! In between they may be made to talk: one message each now and then, or as fast as it goes. Whoever holds them says
//! when, through [`Talk`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use corewire::protocol::MessageKind;
use corewire::wire::{ClientMessage, ServerMessage};

use super::Scenario;
use super::topics::{say, say_hello, topic_name};
use crate::link::{Desk, Reading};
use crate::payload::{Content, Expected, Pattern};

/// What the idle do.
#[derive(Clone, Debug)]
pub(crate) struct IdlePlan {
    /// Pings per second of all connections together; `None` is silence.
    pub(crate) pings_per_second: Option<f64>,
    /// Messages per second of all connections together, while the mood is [`Mood::Sparse`].
    pub(crate) sparse_per_second: Option<f64>,
    /// Whether a receive is posted for each connection: it costs kernel memory, on our side.
    pub(crate) reads: bool,
    pub(crate) talk: Arc<Talk>,
    /// Each subscribes to a topic.
    pub(crate) topics: Option<IdleTopics>,
}

/// What the idle have subscribed to.
#[derive(Clone, Debug)]
pub(crate) struct IdleTopics {
    /// `corewire.v1`; otherwise the topic stands in the URL.
    pub(crate) is_v1: bool,
    /// Connections subscribe to them in turn.
    pub(crate) topics: u64,
    /// Connections of other processes in front of this one's.
    pub(crate) first_link: u64,
    /// How long nothing may happen while all subscribe.
    pub(crate) timeout_ns: u64,
    /// What every connection shows.
    pub(crate) token: Option<Arc<str>>,
}

impl IdleTopics {
    /// The topic of a connection of this process.
    pub(crate) fn topic_of(&self, link: u64) -> String {
        topic_name((self.first_link + link) % self.topics)
    }
}

/// What the connections are to do now, and what they have done. Written and read by several threads.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    mood: AtomicU8,
    answered: AtomicU64,
    out: AtomicI64,
}

/// What the connections are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Nothing, but for pings.
    Silent,
    /// A small message each now and then, at a rate.
    Sparse,
    /// The next small message as soon as the last is answered.
    Hot,
}

impl Talk {
    pub(crate) fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::Release);
    }

    fn mood(&self) -> Mood {
        const SPARSE: u8 = Mood::Sparse as u8;
        const HOT: u8 = Mood::Hot as u8;
        match self.mood.load(Ordering::Acquire) {
            SPARSE => Mood::Sparse,
            HOT => Mood::Hot,
            _ => Mood::Silent,
        }
    }

    /// Messages that have been answered since the beginning.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    /// Whether no message is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.out.load(Ordering::Acquire) <= 0
    }
}

/// One worker's part.
pub(crate) struct Idle {
    plan: IdlePlan,
    pattern: Arc<Pattern>,
    /// The number that this worker's first link has among all.
    first_origin: u32,
    lanes: Vec<Lane>,
    /// Pings that are out: by slot and number, the moment they were meant for and the moment they left.
    out: BTreeMap<(usize, u64), (u64, u64)>,
    /// Messages that are out.
    talking: usize,
    /// What the connections do.
    mood: Mood,
    stopped_ns: Option<u64>,
    /// Subscriptions over `corewire.v1`.
    subscribing: Subscribing,
    /// Whether those that the server let go had time to be noticed.
    looked: bool,
}

/// How far the subscriptions are.
#[derive(Default)]
struct Subscribing {
    asked: u64,
    acknowledged: u64,
    last_step_ns: u64,
    failure: Option<String>,
}

/// What a link says.
#[derive(Clone, Copy, Default)]
struct Lane {
    sequence: u64,
    /// The message that is out: the moment it was meant for and the moment it left.
    out: Option<(u64, u64)>,
}

impl Idle {
    pub(crate) fn new(plan: IdlePlan, pattern: Arc<Pattern>, first_origin: u32, link_count: usize) -> Self {
        Self {
            plan,
            pattern,
            first_origin,
            lanes: vec![Lane::default(); link_count],
            out: BTreeMap::new(),
            talking: 0,
            mood: Mood::Silent,
            subscribing: Subscribing::default(),
            stopped_ns: None,
            looked: false,
        }
    }

    fn say(&mut self, slot: usize, intended_ns: u64, desk: &mut Desk) {
        if !desk.is_open(slot) {
            return;
        }
        let lane = &mut self.lanes[slot];
        if lane.out.is_some() {
            desk.tally.error("still_unanswered", || {
                "a connection was to say something while its last message had not been answered".to_owned()
            });
            return;
        }
        let (origin, sequence) = (self.first_origin + slot as u32, lane.sequence);
        lane.out = Some((intended_ns, desk.now_ns));
        self.talking += 1;
        self.plan.talk.out.fetch_add(1, Ordering::AcqRel);
        let pattern = &self.pattern;
        desk.send(slot, pattern.kind(), TALK_BYTES, |out| pattern.write(origin, sequence, TALK_BYTES, out));
        desk.tally.sent(intended_ns, desk.now_ns);
    }

    /// The server says something of a subscription.
    fn hear_answer(&mut self, slot: usize, payload: &[u8], desk: &mut Desk) {
        match std::str::from_utf8(payload).ok().map(ServerMessage::decode) {
            Some(Ok(ServerMessage::Ack(ack))) if ack.id == 1 => {
                self.subscribing.acknowledged += 1;
                self.subscribing.last_step_ns = desk.now_ns;
                if !self.plan.reads {
                    desk.links[slot].read(Reading::Stopped);
                }
            }
            Some(Ok(ServerMessage::Error { code, message, .. })) => {
                let sentence = format!("the server answered {code}: {message}");
                self.subscribing.failure.get_or_insert(sentence);
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => {
                desk.tally.error("no_message", || "the server said what is no message of corewire.v1".to_owned());
            }
        }
    }

    /// A message that was out is not any more.
    fn take_out(&mut self, slot: usize) -> Option<(u64, u64)> {
        let out = self.lanes[slot].out.take()?;
        self.talking -= 1;
        self.plan.talk.out.fetch_sub(1, Ordering::AcqRel);
        Some(out)
    }

    /// Follows what whoever holds us wants.
    fn follow(&mut self, desk: &mut Desk) {
        let mood = self.plan.talk.mood();
        if mood == self.mood || self.stopped_ns.is_some() {
            return;
        }
        self.mood = mood;
        if mood != Mood::Silent {
            for link in &mut desk.links {
                link.read(Reading::Flowing);
            }
        }
        if mood == Mood::Hot {
            for slot in 0..self.lanes.len() {
                if self.lanes[slot].out.is_none() {
                    self.say(slot, desk.now_ns, desk);
                }
            }
        }
    }
}

impl Scenario for Idle {
    fn rate_per_second(&self) -> Option<f64> {
        self.plan.pings_per_second.or(self.plan.sparse_per_second)
    }

    fn needs_every_link(&self) -> bool {
        // How far it goes is a result.
        false
    }

    fn on_open(&mut self, slot: usize, desk: &mut Desk) {
        if let Some(topics) = self.plan.topics.as_ref().filter(|topics| topics.is_v1) {
            let topic = topics.topic_of(u64::from(self.first_origin) + slot as u64);
            self.subscribing.asked += 1;
            say_hello(slot, topics.token.as_deref(), desk);
            let (id, topic) = (1, topic.into());
            say(slot, &ClientMessage::Subscribe { id, topic, recover: None, token: None, presence: false }, desk);
        } else if !self.plan.reads {
            desk.links[slot].read(Reading::Stopped);
        }
    }

    fn is_ready(&mut self, desk: &mut Desk) -> Result<bool, String> {
        let Some(topics) = &self.plan.topics else { return Ok(true) };
        let Subscribing { asked, acknowledged, last_step_ns, failure } = &mut self.subscribing;
        if let Some(failure) = failure.take() {
            return Err(failure);
        }
        if *last_step_ns == 0 {
            *last_step_ns = desk.now_ns;
        }
        if acknowledged < asked && desk.now_ns > *last_step_ns + topics.timeout_ns {
            return Err(format!("{} of {asked} subscriptions were not acknowledged", *asked - *acknowledged));
        }
        Ok(acknowledged >= asked)
    }

    fn on_start(&mut self, _desk: &mut Desk) {}

    fn on_due(&mut self, number: u64, intended_ns: u64, desk: &mut Desk) {
        let slot = (number % self.lanes.len() as u64) as usize;
        if self.plan.pings_per_second.is_none() {
            if self.mood == Mood::Sparse && self.plan.talk.mood() == Mood::Sparse {
                self.say(slot, intended_ns, desk);
            }
            return;
        }
        if !desk.is_open(slot) {
            return;
        }
        desk.ping(slot, &number.to_be_bytes());
        desk.tally.sent(intended_ns, desk.now_ns);
        self.out.insert((slot, number), (intended_ns, desk.now_ns));
    }

    fn on_message(&mut self, slot: usize, kind: MessageKind, payload: &[u8], desk: &mut Desk) {
        desk.tally.arrived(payload.len(), desk.now_ns);
        if self.plan.topics.as_ref().is_some_and(|topics| topics.is_v1) {
            return self.hear_answer(slot, payload, desk);
        }
        // If nothing is out, nobody asked for it, and nobody minds: servers greet.
        let Some((intended_ns, sent_ns)) = self.take_out(slot) else { return };
        let (origin, sequence) = (self.first_origin + slot as u32, self.lanes[slot].sequence);
        self.lanes[slot].sequence += 1;
        let expected = Expected { origin, sequence, len: Some(TALK_BYTES) };
        if self.pattern.read(payload, expected) != (Content::Good { origin, sequence }) || kind != self.pattern.kind() {
            desk.tally.counts.corrupt += 1;
        }
        desk.tally.answered(intended_ns, sent_ns, desk.now_ns);
        self.plan.talk.answered.fetch_add(1, Ordering::AcqRel);
        if self.plan.talk.mood() == Mood::Hot && self.stopped_ns.is_none() {
            self.say(slot, desk.now_ns, desk);
        }
    }

    fn on_pong(&mut self, slot: usize, payload: &[u8], desk: &mut Desk) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        desk.tally.arrived(payload.len(), desk.now_ns);
        match self.out.remove(&(slot, number)) {
            Some((intended_ns, sent_ns)) => desk.tally.answered(intended_ns, sent_ns, desk.now_ns),
            None => desk.tally.counts.duplicate += 1,
        }
    }

    fn on_gone(&mut self, slot: usize, desk: &mut Desk) {
        let lost: Vec<_> = self.out.range((slot, 0)..=(slot, u64::MAX)).map(|(&key, _)| key).collect();
        desk.tally.counts.lost += lost.len() as u64 + u64::from(self.take_out(slot).is_some());
        for key in lost {
            self.out.remove(&key);
        }
    }

    fn on_stop(&mut self, desk: &mut Desk) {
        self.stopped_ns = Some(desk.now_ns);
        for link in &mut desk.links {
            // Whoever was let go by the server meanwhile is found now.
            link.read(Reading::Flowing);
        }
    }

    fn on_tick(&mut self, desk: &mut Desk) {
        self.follow(desk);
        self.looked = self.stopped_ns.is_some_and(|stopped_ns| desk.now_ns > stopped_ns + LOOK_NS);
    }

    fn is_drained(&self) -> bool {
        self.out.is_empty() && self.talking == 0 && self.looked
    }

    fn on_finish(&mut self, desk: &mut Desk) {
        desk.tally.counts.lost += (self.out.len() + self.talking) as u64;
        self.out.clear();
    }
}

/// Payload of what is said.
pub(crate) const TALK_BYTES: usize = 64;
/// Time for the ends of connections to be read.
const LOOK_NS: u64 = 100_000_000;
