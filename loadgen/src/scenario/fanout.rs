//! `fanout`: some publish, everybody else must get every message, once and in order.
//!
//! The first links of each worker publish; all others subscribe, to one topic each. Open loop: what is published when
//! follows from the schedule, so every worker knows what it should hear without being told. Closed loop: whoever hears
//! the last delivery of a publication sends the next one.

use std::collections::VecDeque;
use std::sync::Arc;

use corewire::protocol::MessageKind;

use super::Scenario;
use super::numbering::{Numbering, Publication};
use super::publications::{self, Publications};
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
    pub(crate) pace: Pace,
    /// A delivery that takes longer is not waited for.
    pub(crate) timeout_ns: u64,
    /// How to subscribe; `None` if the server sends everything to everybody.
    pub(crate) subscribe: Option<Template>,
    /// How to publish; `None` if a message is published as it is.
    pub(crate) publish: Option<Template>,
}

/// When publications leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Whatever the server does.
    Open {
        /// Publications per second, all publishers and topics together.
        rate_per_second: f64,
        /// How many leave at once.
        burst: u64,
    },
    /// The next when one has been delivered to all.
    Closed {
        /// Publications under way.
        inflight: usize,
    },
}

/// Which part of all links a worker has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) worker_index: usize,
    pub(crate) worker_count: usize,
    /// Links of the workers before this one.
    pub(crate) first_link: usize,
    pub(crate) link_count: usize,
}

/// One worker's part.
pub(crate) struct Fanout {
    plan: FanoutPlan,
    numbering: Numbering,
    place: Place,
    pattern: Arc<Pattern>,
    publications: Arc<Publications>,
    /// Links before this publish.
    own_publishers: usize,
    subscribers: Vec<Subscriber>,
    /// What each subscriber has heard of each publisher.
    sequences: Vec<Sequence>,
    /// This worker's subscribers, by topic.
    hearers: Vec<u32>,
    /// Moments of bursts, for all workers; `None` in the closed loop.
    schedule: Option<Schedule>,
    /// Publications that all workers together were to send so far, in the open loop.
    due: u64,
    /// Deliveries to this worker's subscribers.
    delivered: u64,
    closed: Closed,
    stopped: bool,
}

struct Subscriber {
    topic: u32,
    latency_sum_ns: u64,
    latencies: u64,
    /// Messages that came and could not be read: each stands for one that seems missing.
    corrupt: u64,
}

/// What the closed loop remembers.
#[derive(Default)]
struct Closed {
    /// Deliveries that this worker's subscribers wait for, with the tag of their publication. Empty in the open loop.
    awaited: Vec<(u64, u32)>,
    /// What this worker published and when, the oldest first.
    sent: VecDeque<(Publication, u64)>,
    /// Publications of this worker.
    turns: u64,
}

impl Fanout {
    pub(crate) fn new(plan: FanoutPlan, place: Place, pattern: Arc<Pattern>, publications: Arc<Publications>) -> Self {
        let Place { worker_index, worker_count, first_link, link_count } = place;
        let share = |index: usize| plan.publishers / worker_count + usize::from(index < plan.publishers % worker_count);
        let own_publishers = share(worker_index);
        let subscribers_before = first_link - (0..worker_index).map(share).sum::<usize>();
        let topic = |at: usize| ((subscribers_before + at) % plan.topics) as u32;
        let subscribers: Vec<_> = (0..link_count - own_publishers)
            .map(|at| Subscriber { topic: topic(at), latency_sum_ns: 0, latencies: 0, corrupt: 0 })
            .collect();
        let mut hearers = vec![0; plan.topics];
        for subscriber in &subscribers {
            hearers[subscriber.topic as usize] += 1;
        }
        for (topic, _) in hearers.iter().enumerate().filter(|&(_, &count)| count > 0) {
            publications.hears(topic as u64);
        }
        let awaited = match plan.pace {
            Pace::Open { .. } => Vec::new(),
            Pace::Closed { .. } => vec![(0, 0); publications.slot_count()],
        };
        Self {
            numbering: Numbering { publishers: plan.publishers as u64, topics: plan.topics as u64 },
            sequences: std::iter::repeat_with(Sequence::default).take(subscribers.len() * plan.publishers).collect(),
            plan,
            place,
            pattern,
            publications,
            own_publishers,
            subscribers,
            hearers,
            schedule: None,
            due: 0,
            delivered: 0,
            closed: Closed { awaited, ..Closed::default() },
            stopped: false,
        }
    }

    fn topic_name(topic: u64) -> String {
        format!("load-{topic}")
    }

    // ---- publishing ------------------------------------------------------------------------------------------------

    /// The link of a publisher, if it is one of this worker's.
    fn own_slot(&self, publisher: u64) -> Option<usize> {
        let worker_count = self.place.worker_count as u64;
        (publisher % worker_count == self.place.worker_index as u64).then_some((publisher / worker_count) as usize)
    }

    /// Sends a publication; without `intended_ns`, now is the moment that was meant.
    fn publish(&mut self, publication: Publication, slot: usize, intended_ns: Option<u64>, desk: &mut Desk) {
        if !desk.is_open(slot) {
            return;
        }
        let topic = self.numbering.topic(publication);
        let (origin, sequence) = self.numbering.stamp(publication);
        // Read anew for each: in a burst, the last leaves later than the first.
        let sent_ns = desk.clock.now_ns();
        self.publications.begin(publication, topic, sent_ns);
        let (pattern, len) = (&self.pattern, self.plan.len);
        match &self.plan.publish {
            None => desk.send(slot, pattern.kind(), len, |out| pattern.write(origin, sequence, len, out)),
            Some(template) => {
                let mut payload = MARK.to_vec();
                pattern.write(origin, sequence, len, &mut payload);
                let message = template.fill(&Self::topic_name(topic), &payload);
                desk.send(slot, pattern.kind(), message.len(), |out| out.extend_from_slice(&message));
            }
        }
        desk.tally.sent(intended_ns.unwrap_or(sent_ns), sent_ns);
        if let Pace::Closed { .. } = self.plan.pace {
            self.closed.sent.push_back((publication, sent_ns));
        }
    }

    /// Sends the next publication of the closed loop, from the next of this worker's publishers that is still there.
    fn publish_next(&mut self, desk: &mut Desk) {
        let own = self.own_publishers as u64;
        for _ in 0..own {
            let slot = (self.closed.turns % own) as usize;
            self.closed.turns += 1;
            if desk.is_open(slot) {
                let publisher = (slot * self.place.worker_count + self.place.worker_index) as u64;
                let number = self.publications.count(publisher);
                return self.publish(Publication { publisher, number }, slot, None, desk);
            }
        }
    }

    /// Does not wait for ever for what was lost.
    fn give_up_overdue(&mut self, desk: &mut Desk) {
        while let Some(&(publication, sent_ns)) = self.closed.sent.front() {
            if self.publications.is_waited_for(publication) {
                if sent_ns + self.plan.timeout_ns > desk.now_ns {
                    return;
                }
                if self.publications.give_up(publication) && !self.stopped {
                    self.publish_next(desk);
                }
            }
            self.closed.sent.pop_front();
        }
    }

    // ---- hearing -------------------------------------------------------------------------------------------------

    /// The part of a delivered message that was published.
    fn find<'a>(&self, delivered: &'a [u8]) -> Option<&'a [u8]> {
        if self.plan.publish.is_none() {
            return Some(delivered);
        }
        let at = delivered.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
        delivered.get(at..at + self.plan.len)
    }

    fn deliver(&mut self, at: usize, payload: &[u8], desk: &mut Desk) {
        let Some(found) = self.find(payload) else { return };
        let Some(publication) = self.read(at, found) else {
            self.subscribers[at].corrupt += 1;
            self.delivered += 1;
            desk.tally.counts.corrupt += 1;
            return;
        };
        if publication.number >= self.publications.count(publication.publisher) {
            desk.tally.counts.unsent += 1;
            return;
        }
        let (_, sequence) = self.numbering.stamp(publication);
        match self.sequences[at * self.plan.publishers + publication.publisher as usize].hear(sequence) {
            Heard::New => {}
            Heard::OutOfOrder => desk.tally.counts.out_of_order += 1,
            Heard::Duplicate => {
                desk.tally.counts.duplicate += 1;
                return;
            }
        }
        self.delivered += 1;
        self.count_latency(at, publication, desk);
        if let Pace::Closed { .. } = self.plan.pace
            && self.completes(publication)
            && !self.stopped
        {
            self.publish_next(desk);
        }
    }

    /// Which publication a subscriber has got; `None` if it is none, or none for this subscriber.
    fn read(&self, at: usize, found: &[u8]) -> Option<Publication> {
        let topic = self.subscribers[at].topic;
        // Where there is one publisher, even a stamp that was cut short is enough.
        let sequence = self.sequences[at * self.plan.publishers].next();
        let expected = Expected { origin: topic, sequence, len: Some(self.plan.len) };
        let Content::Good { origin, sequence } = self.pattern.read(found, expected) else { return None };
        let publication = self.numbering.of_stamp(origin, sequence)?;
        (self.numbering.topic(publication) == u64::from(topic)).then_some(publication)
    }

    fn count_latency(&mut self, at: usize, publication: Publication, desk: &mut Desk) {
        let sent_ns = self.publications.sent_ns(publication);
        let intended_ns = match (&self.schedule, self.plan.pace) {
            (Some(schedule), Pace::Open { burst, .. }) => {
                schedule.intended_ns(self.numbering.place(publication) / burst)
            }
            (None, _) | (_, Pace::Closed { .. }) => {
                let Some(sent_ns) = sent_ns else { return };
                sent_ns
            }
        };
        desk.tally.answered(intended_ns, sent_ns.unwrap_or(intended_ns), desk.now_ns);
        if desk.tally.window.contains(intended_ns) {
            let subscriber = &mut self.subscribers[at];
            subscriber.latency_sum_ns += desk.now_ns.saturating_sub(intended_ns);
            subscriber.latencies += 1;
        }
    }

    /// Whether this delivery was the last of all that `publication` makes.
    fn completes(&mut self, publication: Publication) -> bool {
        let topic = self.numbering.topic(publication) as usize;
        let awaited = &mut self.closed.awaited[self.publications.index(publication)];
        if awaited.0 != publications::tag(publication) {
            *awaited = (publications::tag(publication), self.hearers[topic]);
        }
        awaited.1 = awaited.1.saturating_sub(1);
        awaited.1 == 0 && self.publications.worker_heard(publication)
    }

    // ---- counting ------------------------------------------------------------------------------------------------

    /// Publications of `publisher` that this worker knows of.
    fn published(&self, publisher: u64) -> u64 {
        match self.plan.pace {
            Pace::Open { .. } => self.numbering.turns(publisher, self.due),
            Pace::Closed { .. } => self.publications.count(publisher),
        }
    }

    fn publishers(&self) -> std::ops::Range<u64> {
        0..self.plan.publishers as u64
    }

    /// Deliveries that all of this worker's subscribers should have got.
    fn deliverable(&self) -> u64 {
        let hearers = || self.hearers.iter().zip(0_u64..);
        let of = |publisher| {
            let count = self.published(publisher);
            hearers()
                .map(|(&hearers, topic)| u64::from(hearers) * self.numbering.count_to(publisher, topic, count))
                .sum::<u64>()
        };
        self.publishers().map(of).sum()
    }

    /// Deliveries that one subscriber has missed.
    fn missing(&self, at: usize) -> u64 {
        let subscriber = &self.subscribers[at];
        let of = |publisher: u64| {
            let end = self.numbering.count_to(publisher, u64::from(subscriber.topic), self.published(publisher));
            self.sequences[at * self.plan.publishers + publisher as usize].missing_below(end)
        };
        self.publishers().map(of).sum::<u64>().saturating_sub(subscriber.corrupt)
    }

    /// Mean latencies of the subscribers, for their slowest.
    fn means(&self) -> Latencies {
        let mut means = latency::empty();
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.latencies > 0) {
            means.saturating_record(subscriber.latency_sum_ns / subscriber.latencies);
        }
        means
    }
}

impl Scenario for Fanout {
    fn schedule(&self, start_ns: u64, _worker_index: usize, _worker_count: usize) -> Option<Schedule> {
        match self.plan.pace {
            // Every worker follows the whole of it, and sends what is its own.
            Pace::Open { rate_per_second, burst } => {
                Some(Schedule::new(start_ns, rate_per_second / burst as f64, 0, 1))
            }
            Pace::Closed { .. } => None,
        }
    }

    fn planned_before(&self, schedule: &Schedule, end_ns: u64) -> u64 {
        let Pace::Open { burst, .. } = self.plan.pace else { return 0 };
        let count = schedule.count_before(end_ns) * burst;
        let own = self.publishers().filter(|&publisher| self.own_slot(publisher).is_some());
        own.map(|publisher| self.numbering.turns(publisher, count)).sum()
    }

    fn on_open(&mut self, slot: usize, desk: &mut Desk) {
        if let (Some(template), Some(at)) = (&self.plan.subscribe, slot.checked_sub(self.own_publishers)) {
            let message = template.fill(&Self::topic_name(u64::from(self.subscribers[at].topic)), b"");
            desk.send(slot, MessageKind::Text, message.len(), |out| out.extend_from_slice(&message));
        }
    }

    fn on_start(&mut self, desk: &mut Desk) {
        self.schedule = desk.schedule;
        if let Pace::Closed { inflight } = self.plan.pace {
            let Place { worker_index, worker_count, .. } = self.place;
            for _ in (worker_index..inflight).step_by(worker_count) {
                self.publish_next(desk);
            }
        }
    }

    fn on_due(&mut self, number: u64, intended_ns: u64, desk: &mut Desk) {
        let Pace::Open { burst, .. } = self.plan.pace else { return };
        self.due = (number + 1) * burst;
        for n in number * burst..self.due {
            let publication = self.numbering.nth(n);
            if let Some(slot) = self.own_slot(publication.publisher) {
                self.publish(publication, slot, Some(intended_ns), desk);
            }
        }
    }

    fn on_message(&mut self, slot: usize, _kind: MessageKind, payload: &[u8], desk: &mut Desk) {
        desk.tally.arrived(payload.len(), desk.now_ns);
        if let Some(at) = slot.checked_sub(self.own_publishers) {
            self.deliver(at, payload, desk);
        }
    }

    fn on_gone(&mut self, slot: usize, _desk: &mut Desk) {
        // Nobody waits for those who have left; what they missed is counted all the same.
        if let (Some(at), Pace::Closed { .. }) = (slot.checked_sub(self.own_publishers), self.plan.pace) {
            let hearers = &mut self.hearers[self.subscribers[at].topic as usize];
            *hearers = hearers.saturating_sub(1);
        }
    }

    fn on_tick(&mut self, desk: &mut Desk) {
        self.give_up_overdue(desk);
    }

    fn on_stop(&mut self, _desk: &mut Desk) {
        self.stopped = true;
    }

    fn is_drained(&self) -> bool {
        self.delivered >= self.deliverable()
    }

    fn on_finish(&mut self, desk: &mut Desk) {
        desk.tally.counts.lost += (0..self.subscribers.len()).map(|at| self.missing(at)).sum::<u64>();
        desk.tally.subscriber_means = self.means();
    }
}

/// Stands in front of what is published within a template, so that it is found in what is delivered.
const MARK: &[u8] = b"cwload~";
