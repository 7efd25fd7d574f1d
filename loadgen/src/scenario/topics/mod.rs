//! `fanout --wire corewire.v1` and `recovery`: subscribers of topics must hear every publication once and in order,
//! by its offset, whatever becomes of their connections.
//!
//! The first links of each worker publish, unless publications go over HTTP; all others subscribe. What is published
//! when follows from the schedule. Each subscriber begins where its topic stood when it subscribed; what it must have
//! heard in the end is what topics have accepted, as those who published were told.

mod accepted;
mod hall;
pub(crate) mod http;
mod recovering;
mod seat;
mod speaking;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use corewire::protocol::MessageKind;
use corewire::wire::{Ack, ClientMessage, Data, Message, Position, ServerMessage, Token};

use super::Scenario;
use super::fanout::Place;
use super::numbering::{Numbering, Publication};
use super::publications::Publications;
use crate::link::Desk;
use crate::payload::{Content, Expected, Pattern};
use crate::schedule::Schedule;
use crate::sequence::Heard;
use crate::transport::OpenError;

pub(crate) use accepted::Accepted;
pub(crate) use hall::Hall;
use http::HttpPublisher;
use seat::Seat;

/// Who publishes what to whom.
#[derive(Clone, Debug)]
pub(crate) struct TopicsPlan {
    /// Of a publication's data, which is a string.
    pub(crate) len: usize,
    pub(crate) publishers: usize,
    pub(crate) hall: Hall,
    /// Publications per second, all publishers and topics together.
    pub(crate) rate_per_second: f64,
    /// How many leave at once.
    pub(crate) burst: u64,
    /// Publications go over HTTP, and the first links subscribe like all others.
    pub(crate) http: Option<http::HttpTarget>,
    /// What every connection shows.
    pub(crate) token: Option<Arc<str>>,
    /// This share of the subscribers is cut off in the middle of the measured time, and recovers.
    pub(crate) drop: Option<f64>,
    /// How long nothing may happen while all subscribe.
    pub(crate) timeout_ns: u64,
}

/// What the workers share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) pattern: Arc<Pattern>,
    pub(crate) publications: Arc<Publications>,
    pub(crate) accepted: Arc<Accepted>,
}

/// One worker's part.
pub(crate) struct Topics {
    plan: TopicsPlan,
    numbering: Numbering,
    place: Place,
    common: Common,
    speakers: Vec<Speaker>,
    hearers: Vec<Hearer>,
    /// Those of all hearers, one after another.
    seats: Vec<Seat>,
    http: Option<HttpPublisher>,
    opening: Opening,
    phase: Phase,
    /// Links that are to be opened again.
    returning: VecDeque<usize>,
    /// Those that are being opened again.
    returning_now: usize,
    /// Moments of bursts, for all workers.
    schedule: Option<Schedule>,
    /// Publications that subscribers have heard, each once.
    heard: u64,
    /// What all bases of seats add up to.
    base_sum: u64,
    is_finished: bool,
}

/// A link that publishes.
#[derive(Default)]
struct Speaker {
    is_connected: bool,
    /// Numbers of publications that are not answered yet.
    asked: BTreeSet<u64>,
}

/// A link that subscribes.
struct Hearer {
    /// Its subscriptions among all.
    numbers: std::ops::Range<u64>,
    /// Of the first of them in `seats`.
    first_seat: usize,
    /// Subscriptions that were asked for on this connection.
    asked: u64,
    /// Those that have not caught up since it was cut off.
    behind: u64,
    /// It was among those that were cut off on purpose.
    is_dropped: bool,
    /// It was, and has caught up since.
    is_back: bool,
}

/// How far the beginning is.
struct Opening {
    /// Speakers that are not connected and subscriptions that have not begun.
    missing: u64,
    last_step_ns: u64,
    /// Something was refused: there is no use in waiting.
    failure: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Before,
    /// A share was cut off at this moment, and so many of them have not caught up.
    Recovering {
        cut_ns: u64,
        left: u64,
    },
    After,
}

impl Topics {
    pub(crate) fn new(plan: TopicsPlan, place: Place, common: Common) -> Self {
        let Place { worker_index, worker_count, first_link, link_count } = place;
        let on_links = if plan.http.is_some() { 0 } else { plan.publishers };
        let share = |index: usize| on_links / worker_count + usize::from(index < on_links % worker_count);
        let hearers_before = (first_link - (0..worker_index).map(share).sum::<usize>()) as u64;
        let own_speakers = share(worker_index);
        let mut first_seat = 0;
        let hearers: Vec<Hearer> = (0..(link_count - own_speakers) as u64)
            .map(|at| {
                let numbers = plan.hall.seats_of(hearers_before + at);
                let hearer = Hearer { numbers, first_seat, asked: 0, behind: 0, is_dropped: false, is_back: false };
                first_seat += hearer.count() as usize;
                hearer
            })
            .collect();
        let http = plan.http.as_ref().map(|target| {
            let own = (0..plan.publishers).filter(|publisher| publisher % worker_count == worker_index).count();
            HttpPublisher::start(target, own, &common.accepted)
        });
        let missing = (own_speakers + first_seat) as u64;
        Self {
            numbering: Numbering { publishers: plan.publishers as u64, topics: plan.hall.topics },
            plan,
            place,
            common,
            speakers: std::iter::repeat_with(Speaker::default).take(own_speakers).collect(),
            hearers,
            seats: std::iter::repeat_with(Seat::default).take(first_seat).collect(),
            http,
            opening: Opening { missing, last_step_ns: 0, failure: None },
            phase: Phase::Before,
            returning: VecDeque::new(),
            returning_now: 0,
            schedule: None,
            heard: 0,
            base_sum: 0,
            is_finished: false,
        }
    }

    // ---- subscribing -------------------------------------------------------------------------------------------

    /// Asks for the next of a link's subscriptions, with what it has heard already.
    fn subscribe_next(&mut self, at: usize, desk: &mut Desk) {
        let hearer = &mut self.hearers[at];
        if hearer.asked == hearer.count() {
            return;
        }
        let which = hearer.asked;
        hearer.asked += 1;
        self.subscribe(at, which, desk);
    }

    fn subscribe(&self, at: usize, which: u64, desk: &mut Desk) {
        let hearer = &self.hearers[at];
        let topic = self.plan.hall.topic(hearer.numbers.start + which);
        let Position { epoch, .. } = self.common.accepted.newest(topic);
        let recover = self.seats[hearer.seat(which)].offset().map(|offset| Position { epoch, offset });
        let id = which as u32 + 1;
        let message =
            ClientMessage::Subscribe { id, topic: topic_name(topic).into(), recover, token: None, presence: false };
        say(self.speakers.len() + at, &message, desk);
    }

    /// A subscription has begun.
    fn subscribed(&mut self, at: usize, ack: &Ack<'_>, desk: &mut Desk) {
        let (slot, which) = (self.speakers.len() + at, u64::from(ack.id) - 1);
        let hearer = &self.hearers[at];
        let Some(position) = ack.position.filter(|_| which < hearer.count()) else {
            return desk.tally.error("unknown_ack", || format!("the server's {ack:?} answers no subscription"));
        };
        let topic = self.plan.hall.topic(hearer.numbers.start + which);
        if !self.common.accepted.hear(topic, position) {
            epoch_changed(desk);
        }
        if ack.recovered == Some(false) {
            desk.tally.error("not_recovered", || {
                "the server did not recover what a subscriber had missed: its history may be too short for the \
                 --rate and the time that all take to come back"
                    .to_owned()
            });
        }
        let seat = &mut self.seats[hearer.seat(which)];
        if seat.begin(position.offset) {
            self.base_sum += position.offset;
            self.step(desk);
        } else if seat.catches_up() {
            self.caught_up(at, desk);
        }
        if desk.is_open(slot) {
            self.subscribe_next(at, desk);
        }
    }

    /// One more of all that must be there before the start.
    fn step(&mut self, desk: &Desk) {
        self.opening.missing = self.opening.missing.saturating_sub(1);
        self.opening.last_step_ns = desk.now_ns;
    }

    // ---- hearing -----------------------------------------------------------------------------------------------

    fn hear(&mut self, slot: usize, message: &Message<'_>, desk: &mut Desk) {
        let Some(at) = slot.checked_sub(self.speakers.len()) else { return };
        let text = match message.data {
            // A string without anything to escape.
            Data::Json(text) => text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default(),
            Data::Text(text) => text,
        };
        desk.tally.arrived(text.len(), desk.now_ns);
        let hearer = &self.hearers[at];
        let topic = number_of(&message.topic);
        let found = topic.and_then(|topic| Some((topic, self.plan.hall.find(&hearer.numbers, topic)?)));
        let Some((topic, which)) = found else {
            return desk.tally.error("not_subscribed", || {
                format!("a publication of {:?} came to a connection that had not subscribed to it", message.topic)
            });
        };
        let (is_behind, is_dropped) = (hearer.behind > 0, hearer.is_dropped);
        let seat = &mut self.seats[hearer.seat(which)];
        match seat.hear(message.offset) {
            Heard::New => {}
            Heard::OutOfOrder => desk.tally.counts.out_of_order += 1,
            Heard::Duplicate => {
                desk.tally.counts.duplicate += 1;
                return;
            }
        }
        let catches_up = seat.catches_up();
        self.heard += 1;
        match self.read(topic, text) {
            None => desk.tally.counts.corrupt += 1,
            Some(publication) if publication.number >= self.common.publications.count(publication.publisher) => {
                desk.tally.counts.unsent += 1;
            }
            Some(publication) => {
                // One order for everybody: at this offset, all have heard this one.
                if !self.common.publications.stands_at(publication, message.offset) {
                    desk.tally.counts.out_of_order += 1;
                }
                self.count_latency(publication, is_behind, is_dropped, desk);
            }
        }
        if catches_up {
            self.caught_up(at, desk);
        }
    }

    /// Which publication it is; `None` if it is none, or none of this topic.
    fn read(&self, topic: u64, text: &str) -> Option<Publication> {
        let expected = Expected { origin: 0, sequence: 0, len: Some(self.plan.len) };
        let Content::Good { origin, sequence } = self.common.pattern.read(text.as_bytes(), expected) else {
            return None;
        };
        let publication = self.numbering.of_stamp(origin, sequence)?;
        (self.numbering.topic(publication) == topic).then_some(publication)
    }

    fn count_latency(&self, publication: Publication, is_behind: bool, is_dropped: bool, desk: &mut Desk) {
        let Some(schedule) = &self.schedule else { return };
        let intended_ns = schedule.intended_ns(self.numbering.place(publication) / self.plan.burst);
        if is_behind {
            // How long it was away is not the latency of a delivery.
            return desk.tally.answered_after_all(intended_ns);
        }
        desk.tally.is_meanwhile = !is_dropped && matches!(self.phase, Phase::Recovering { .. });
        let sent_ns = self.common.publications.sent_ns(publication).unwrap_or(intended_ns);
        desk.tally.answered(intended_ns, sent_ns, desk.now_ns);
    }

    // ---- the end -----------------------------------------------------------------------------------------------

    /// How often this worker's subscribers must have heard something by now.
    fn deliverable(&self) -> u64 {
        let numbers = self.hearers.iter().flat_map(|hearer| hearer.numbers.clone());
        numbers.map(|seat| self.common.accepted.newest(self.plan.hall.topic(seat)).offset).sum::<u64>() - self.base_sum
    }

    fn missing(&self) -> u64 {
        let numbers = self.hearers.iter().flat_map(|hearer| hearer.numbers.clone());
        let newest = |number| self.common.accepted.newest(self.plan.hall.topic(number)).offset;
        self.seats.iter().zip(numbers).map(|(seat, number)| seat.missing(newest(number))).sum()
    }

    /// Something was not done.
    fn refused(&mut self, slot: usize, id: Option<u32>, code: &str, words: &str, desk: &mut Desk) {
        if let Some(speaker) = self.speakers.get_mut(slot)
            && let Some(id) = id
            && speaker.asked.remove(&u64::from(id).wrapping_sub(1))
        {
            self.common.accepted.refuse(1);
        }
        let sentence = format!("the server answered {code}: {words}");
        if self.opening.missing > 0 && self.schedule.is_none() {
            self.opening.failure.get_or_insert(sentence.clone());
        }
        desk.tally.error(&format!("refused_{code}"), || sentence);
    }
}

impl Scenario for Topics {
    fn schedule(&self, start_ns: u64, _worker_index: usize, _worker_count: usize) -> Option<Schedule> {
        // Every worker follows the whole of it, and sends what is its own.
        Some(Schedule::new(start_ns, self.plan.rate_per_second / self.plan.burst as f64, 0, 1))
    }

    fn planned_before(&self, schedule: &Schedule, end_ns: u64) -> u64 {
        let count = schedule.count_before(end_ns) * self.plan.burst;
        let own = (0..self.plan.publishers as u64).filter(|&publisher| self.own_publisher(publisher).is_some());
        own.map(|publisher| self.numbering.turns(publisher, count)).sum()
    }

    fn on_open(&mut self, slot: usize, desk: &mut Desk) {
        say_hello(slot, self.plan.token.as_deref(), desk);
        self.returned(desk);
    }

    fn on_open_failed(&mut self, slot: usize, _error: &OpenError, desk: &mut Desk) {
        self.returned(desk);
        self.come_back(slot, desk);
    }

    fn is_ready(&mut self, desk: &mut Desk) -> Result<bool, String> {
        if let Some(failure) = self.opening.failure.take() {
            return Err(failure);
        }
        if self.opening.last_step_ns == 0 {
            self.opening.last_step_ns = desk.now_ns;
        }
        let Opening { missing, last_step_ns, .. } = self.opening;
        if missing > 0 && desk.now_ns > last_step_ns + self.plan.timeout_ns {
            return Err(format!(
                "{missing} subscriptions or connections were not acknowledged: does it speak corewire.v1?"
            ));
        }
        Ok(missing == 0)
    }

    fn on_start(&mut self, desk: &mut Desk) {
        self.schedule = desk.schedule;
    }

    fn on_due(&mut self, number: u64, intended_ns: u64, desk: &mut Desk) {
        for n in number * self.plan.burst..(number + 1) * self.plan.burst {
            let publication = self.numbering.nth(n);
            if let Some(own) = self.own_publisher(publication.publisher) {
                self.publish(publication, own, intended_ns, desk);
            }
        }
    }

    fn on_message(&mut self, slot: usize, _kind: MessageKind, payload: &[u8], desk: &mut Desk) {
        let text = std::str::from_utf8(payload).unwrap_or_default();
        let message = match ServerMessage::decode(text) {
            Ok(message) => message,
            Err(refusal) => {
                return desk.tally.error("no_message", || {
                    format!("the server said what is no message of corewire.v1: {:?}", refusal.fault)
                });
            }
        };
        match message {
            ServerMessage::Message(message) => self.hear(slot, &message, desk),
            ServerMessage::Ack(Ack { id: 0, .. }) => match slot.checked_sub(self.speakers.len()) {
                None => {
                    self.speakers[slot].is_connected = true;
                    self.step(desk);
                }
                Some(at) => {
                    self.hearers[at].asked = 0;
                    for _ in 0..SUBSCRIBING_MAX {
                        self.subscribe_next(at, desk);
                    }
                }
            },
            ServerMessage::Ack(ack) => match slot.checked_sub(self.speakers.len()) {
                None => self.published(slot, ack.id, ack.position, desk),
                Some(at) => self.subscribed(at, &ack, desk),
            },
            ServerMessage::Error { id, code, message, .. } => self.refused(slot, id, &code, &message, desk),
            ServerMessage::Unsubscribe { topic, code, reason } => {
                desk.tally.error(&format!("unsubscribed_{code}"), || {
                    format!("the server ended a subscription to {topic}: {reason}")
                });
                let again = slot.checked_sub(self.speakers.len()).zip(number_of(&topic));
                let again =
                    again.and_then(|(at, topic)| Some((at, self.plan.hall.find(&self.hearers[at].numbers, topic)?)));
                if let Some((at, which)) = again {
                    self.subscribe(at, which, desk);
                }
            }
            ServerMessage::Presence(_) | ServerMessage::PresenceEvent(_) => {}
        }
    }

    fn on_gone(&mut self, slot: usize, desk: &mut Desk) {
        if let Some(speaker) = self.speakers.get_mut(slot) {
            self.common.accepted.refuse(speaker.asked.len() as u64);
            speaker.asked.clear();
            return;
        }
        if self.schedule.is_none() {
            let words = "the server ended a connection before all had subscribed";
            self.opening.failure.get_or_insert_with(|| words.to_owned());
        }
        let hearer = &mut self.hearers[slot - self.speakers.len()];
        hearer.behind = hearer.count();
        self.come_back(slot, desk);
    }

    fn on_tick(&mut self, desk: &mut Desk) {
        if let Some(http) = &self.http {
            for words in http.take_failures() {
                desk.tally.error("http", || words);
            }
        }
        let window = desk.tally.window;
        let middle_ns = window.from_ns + (window.until_ns - window.from_ns) / 2;
        if let Some(share) = self.plan.drop
            && self.phase == Phase::Before
            && desk.now_ns >= middle_ns
            && desk.now_ns < window.until_ns
            && !self.hearers.is_empty()
        {
            self.drop_share(share, desk);
        }
    }

    fn on_stop(&mut self, _desk: &mut Desk) {}

    fn is_drained(&self) -> bool {
        let is_back = !matches!(self.phase, Phase::Recovering { .. });
        is_back && self.common.accepted.is_settled() && self.heard >= self.deliverable()
    }

    fn on_finish(&mut self, desk: &mut Desk) {
        self.is_finished = true;
        if let Phase::Recovering { left, .. } = self.phase {
            desk.tally.error("not_back", || format!("{left} subscribers had not caught up when the run ended"));
        }
        // Over HTTP nobody knows whose they were: the first worker tells of them.
        let over_http =
            if self.http.is_some() && self.place.worker_index == 0 { self.common.accepted.unanswered() } else { 0 };
        let unanswered = over_http + self.speakers.iter().map(|speaker| speaker.asked.len() as u64).sum::<u64>();
        if unanswered > 0 {
            desk.tally.error("unanswered", || format!("{unanswered} publications were never answered"));
        }
        desk.tally.counts.lost += self.missing();
    }
}

impl Hearer {
    fn count(&self) -> u64 {
        self.numbers.end - self.numbers.start
    }

    /// The place in `seats` of one of its subscriptions.
    fn seat(&self, which: u64) -> usize {
        self.first_seat + which as usize
    }
}

/// The name of a topic.
pub(crate) fn topic_name(topic: u64) -> String {
    format!("{NAME}{topic}")
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(NAME)?.parse().ok()
}

/// Begins corewire.v1 on a connection.
pub(crate) fn say_hello(slot: usize, token: Option<&str>, desk: &mut Desk) {
    let token = token.map(|token| Token(token.into()));
    say(slot, &ClientMessage::Connect { id: 0, token }, desk);
}

/// Sends a message of corewire.v1.
pub(crate) fn say(slot: usize, message: &ClientMessage<'_>, desk: &mut Desk) {
    let text = message.encode();
    desk.send(slot, MessageKind::Text, text.len(), |out| out.extend_from_slice(&text));
}

fn epoch_changed(desk: &mut Desk) {
    desk.tally.error("epoch_changed", || "a topic began anew while it had subscribers: its epoch changed".to_owned());
}

const NAME: &str = "load-";
/// Subscriptions of one connection that wait for their answers.
const SUBSCRIBING_MAX: usize = 64;
