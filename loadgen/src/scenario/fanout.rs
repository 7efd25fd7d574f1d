//! `fanout`: some publish, everybody else must get every message, once and in order.
//!
//! The first links of the first worker publish; all others subscribe, to one topic each. When a message was meant to
//! be published follows from its number, so every worker knows it without being told.

use std::sync::Arc;

use corewire::protocol::MessageKind;

use super::Scenario;
use crate::latency::{self, Latencies};
use crate::link::Desk;
use crate::payload::{Content, Expected, Pattern};
use crate::schedule::Schedule;
use crate::sequence::{Heard, Sequence};
use crate::template::Template;

/// Who publishes what to whom.
#[derive(Clone, Debug)]
pub(crate) struct FanoutPlan {
    pub(crate) len: usize,
    pub(crate) publishers: usize,
    pub(crate) topics: usize,
    /// Publications per second, all publishers and topics together.
    pub(crate) rate_per_second: f64,
    /// How to subscribe; `None` if the server sends everything to everybody.
    pub(crate) subscribe: Option<Template>,
    /// How to publish; `None` if a message is published as it is.
    pub(crate) publish: Option<Template>,
}

/// One worker's part.
pub(crate) struct Fanout {
    plan: FanoutPlan,
    pattern: Arc<Pattern>,
    /// The place that this worker's first link has among all.
    first_link: usize,
    subscribers: Vec<Option<Subscriber>>,
    /// When which publication was meant to be sent, for all workers.
    schedule: Option<Schedule>,
    published: u64,
    /// Deliveries to this worker's subscribers that have not come.
    outstanding: i64,
    stop_ns: u64,
}

struct Subscriber {
    topic: usize,
    sequence: Sequence,
    latency_sum_ns: u64,
    latencies: u64,
}

impl Fanout {
    pub(crate) fn new(plan: FanoutPlan, pattern: Arc<Pattern>, first_link: usize, link_count: usize) -> Self {
        let subscriber = |slot: usize| {
            let place = first_link + slot;
            (place >= plan.publishers).then(|| Subscriber {
                topic: (place - plan.publishers) % plan.topics,
                sequence: Sequence::default(),
                latency_sum_ns: 0,
                latencies: 0,
            })
        };
        let subscribers = (0..link_count).map(subscriber).collect();
        Self { plan, pattern, first_link, subscribers, schedule: None, published: 0, outstanding: 0, stop_ns: u64::MAX }
    }

    fn topic_name(topic: usize) -> String {
        format!("load-{topic}")
    }

    fn publish(&mut self, number: u64, intended_ns: u64, desk: &mut Desk) {
        let topic = (number % self.plan.topics as u64) as usize;
        let mut payload = Vec::with_capacity(MARK.len() + self.plan.len);
        if self.plan.publish.is_some() {
            payload.extend_from_slice(MARK);
        }
        self.pattern.write(topic as u32, number / self.plan.topics as u64, self.plan.len, &mut payload);
        if let Some(template) = &self.plan.publish {
            payload = template.fill(&Self::topic_name(topic), &payload);
        }
        let publisher = (number % self.plan.publishers as u64) as usize;
        let sent_ns = desk.clock.now_ns();
        desk.send(publisher, self.pattern.kind(), payload.len(), |out| out.extend_from_slice(&payload));
        desk.tally.sent(intended_ns, sent_ns);
    }

    /// The part of a delivered message that was published.
    fn find<'a>(&self, delivered: &'a [u8]) -> Option<&'a [u8]> {
        if self.plan.publish.is_none() {
            return Some(delivered);
        }
        let at = delivered.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
        delivered.get(at..at + self.plan.len)
    }

    /// How many publications to `topic` there have been.
    fn published_to(&self, topic: usize) -> u64 {
        let topics = self.plan.topics as u64;
        self.published.saturating_sub(topic as u64).div_ceil(topics)
    }

    fn deliver(&mut self, slot: usize, payload: &[u8], desk: &mut Desk) {
        let plan_len = self.plan.len;
        let Some(found) = self.find(payload) else { return };
        let Some(subscriber) = &mut self.subscribers[slot] else { return };
        let origin = subscriber.topic as u32;
        let expected = Expected { origin, sequence: subscriber.sequence.next(), len: Some(plan_len) };
        let sequence = match self.pattern.read(found, expected) {
            Content::Good { origin: topic, sequence } if topic == origin => sequence,
            Content::Good { .. } | Content::Corrupt => {
                desk.tally.counts.corrupt += 1;
                expected.sequence
            }
        };
        match subscriber.sequence.hear(sequence) {
            Heard::New => {}
            Heard::OutOfOrder => desk.tally.counts.out_of_order += 1,
            Heard::Duplicate => {
                desk.tally.counts.duplicate += 1;
                return;
            }
        }
        self.outstanding -= 1;
        let Some(schedule) = &self.schedule else { return };
        let intended_ns = schedule.intended_ns(sequence * self.plan.topics as u64 + u64::from(origin));
        desk.tally.answered(intended_ns, intended_ns, desk.now_ns);
        if desk.tally.window.contains(intended_ns) {
            subscriber.latency_sum_ns += desk.now_ns.saturating_sub(intended_ns);
            subscriber.latencies += 1;
        }
    }

    /// Mean latencies of the subscribers, for their slowest.
    fn means(&self) -> Latencies {
        let mut means = latency::empty();
        for subscriber in self.subscribers.iter().flatten().filter(|subscriber| subscriber.latencies > 0) {
            means.saturating_record(subscriber.latency_sum_ns / subscriber.latencies);
        }
        means
    }
}

impl Scenario for Fanout {
    fn schedule(&self, start_ns: u64, _worker_index: usize, _worker_count: usize) -> Option<Schedule> {
        // Every worker follows the whole of it; only the first sends.
        Some(Schedule::new(start_ns, self.plan.rate_per_second, 0, 1))
    }

    fn sends(&self) -> bool {
        self.first_link == 0
    }

    fn on_open(&mut self, slot: usize, desk: &mut Desk) {
        if let (Some(template), Some(subscriber)) = (&self.plan.subscribe, &self.subscribers[slot]) {
            let message = template.fill(&Self::topic_name(subscriber.topic), b"");
            desk.send(slot, MessageKind::Text, message.len(), |out| out.extend_from_slice(&message));
        }
    }

    fn on_start(&mut self, desk: &mut Desk) {
        self.schedule = desk.schedule;
    }

    fn on_due(&mut self, number: u64, intended_ns: u64, desk: &mut Desk) {
        self.published = number + 1;
        let topic = (number % self.plan.topics as u64) as usize;
        let hearers = self.subscribers.iter().flatten().filter(|subscriber| subscriber.topic == topic).count();
        self.outstanding += hearers as i64;
        if self.first_link == 0 {
            self.publish(number, intended_ns, desk);
        }
    }

    fn on_message(&mut self, slot: usize, _kind: MessageKind, payload: &[u8], desk: &mut Desk) {
        desk.tally.arrived(payload.len(), desk.now_ns);
        self.deliver(slot, payload, desk);
    }

    fn on_stop(&mut self, desk: &mut Desk) {
        self.stop_ns = desk.now_ns;
    }

    fn is_drained(&self) -> bool {
        self.outstanding <= 0
    }

    fn on_finish(&mut self, desk: &mut Desk) {
        for subscriber in self.subscribers.iter().flatten() {
            let published = self.published_to(subscriber.topic);
            desk.tally.counts.lost += subscriber.sequence.missing_below(published);
        }
        desk.tally.subscriber_means = self.means();
    }
}

/// Stands in front of what is published within a template, so that it is found in what is delivered.
const MARK: &[u8] = b"cwload~";
