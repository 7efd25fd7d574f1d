//! Moves events from the cores to the webhook: the thin part around [`Outgoing`] that waits, sends and reads the clock.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;

use super::encode::{self, UnixMillis};
use super::figures::WebhookFigures;
use super::http::{PostError, Poster};
use super::outgoing::Outgoing;
use super::renewal::Way;
use crate::backend::{Event, EventKinds, Observer};

/// The cores' end.
pub(super) struct Intake {
    kinds: EventKinds,
    figures: Arc<WebhookFigures>,
    /// It has no bound of its own: the gate is before it.
    inbox: UnboundedSender<Arrival>,
}

/// An event that the gate has let in.
pub(super) struct Arrival {
    lost_before: u64,
    bytes: usize,
    event: Event,
}

/// The other end.
pub(super) struct Delivery {
    outgoing: Outgoing,
    poster: Poster,
    /// Where others are told how to go on.
    way: watch::Receiver<Way>,
    figures: Arc<WebhookFigures>,
    inbox: UnboundedReceiver<Arrival>,
    random: u64,
    lost: LostLog,
}

/// A request under way.
type Attempt = Pin<Box<dyn Future<Output = Result<Bytes, PostError>> + Send>>;

impl Observer for Intake {
    fn kinds(&self) -> EventKinds {
        self.kinds
    }

    fn observe(&self, event: Event) {
        if !self.kinds.contains(event.kind()) {
            return;
        }
        let bytes = encode::size(&event);
        if let Some(lost_before) = self.figures.gate.enter(bytes) {
            // Nobody listens only when the thread has ended, and then nothing can be delivered.
            let _ = self.inbox.send(Arrival { lost_before, bytes, event });
        }
    }
}

impl Delivery {
    /// Both ends. `random` seeds the random part of waits, and names the sequence of events.
    pub(super) fn new(
        kinds: EventKinds,
        way: watch::Receiver<Way>,
        figures: Arc<WebhookFigures>,
        random: u64,
    ) -> (Intake, Self) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let intake = Intake { kinds, figures: figures.clone(), inbox: sender };
        let Way { poster, batches } = way.borrow().clone();
        let outgoing = Outgoing::new(batches, format!("{random:016x}"));
        (intake, Self { outgoing, poster, way, figures, inbox, random: random | 1, lost: LostLog::default() })
    }

    /// Delivers until it is told to stop, and then what is left within the time it is told. Answers how many events
    /// were not delivered.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<Option<Duration>>) -> usize {
        let mut attempt: Option<Attempt> = None;
        let mut give_up_at = None;
        let mut arrived = Vec::new();
        loop {
            if attempt.is_none() {
                attempt = self.outgoing.poll_batch(Instant::now()).map(|body| self.begin(body));
            }
            if give_up_at.is_some() && self.outgoing.is_empty() {
                break;
            }
            let deadline = self.outgoing.deadline();
            tokio::select! {
                _ = self.inbox.recv_many(&mut arrived, TAKEN_AT_ONCE), if !self.inbox.is_closed() => {
                    self.take(&mut arrived);
                }
                outcome = async { attempt.as_mut().expect("checked").await }, if attempt.is_some() => {
                    attempt = None;
                    self.settle(outcome);
                }
                () = until(deadline), if deadline.is_some() => {}
                // An error says that nobody is left who could tell of another way.
                Ok(()) = self.way.changed() => self.change_way(),
                within = told_to_stop(&mut stop), if give_up_at.is_none() => {
                    self.inbox.close();
                    while self.inbox.recv_many(&mut arrived, TAKEN_AT_ONCE).await > 0 {
                        self.take(&mut arrived);
                    }
                    let now = Instant::now();
                    self.outgoing.drain(now);
                    give_up_at = Some(now + within);
                }
                () = until(give_up_at), if give_up_at.is_some() => break,
            }
        }
        self.outgoing.event_count()
    }

    fn begin(&self, body: Bytes) -> Attempt {
        let poster = self.poster.clone();
        Box::pin(async move { poster.post(body).await })
    }

    /// A request that is under way ends as it began.
    fn change_way(&mut self) {
        let Way { poster, batches } = self.way.borrow_and_update().clone();
        self.poster = poster;
        self.outgoing.configure(batches, Instant::now());
    }

    fn take(&mut self, arrived: &mut Vec<Arrival>) {
        let (now, at) = (Instant::now(), UnixMillis::at(SystemTime::now()));
        for Arrival { lost_before, bytes, event } in arrived.drain(..) {
            self.lost.add(lost_before, now);
            self.outgoing.push(lost_before, bytes, event, at, now);
        }
    }

    fn settle(&mut self, outcome: Result<Bytes, PostError>) {
        let figures = &self.figures;
        let error = match outcome {
            // A 2xx says that it has arrived, whatever stands in the answer.
            Ok(_) | Err(PostError::AnswerTooLarge) => {
                let (left, failures) = self.outgoing.delivered();
                figures.gate.leave(left.events, left.bytes);
                figures.attempts_delivered.add(1);
                figures.delivered.add(left.events as u64);
                if failures > 0 {
                    tracing::info!(failures, events = left.events, "the webhook accepts events again");
                }
                return;
            }
            Err(error) => error,
        };
        match error {
            PostError::Status(_) => figures.attempts_refused.add(1),
            PostError::TimedOut(_) | PostError::Transport(_) | PostError::AnswerTooLarge => {
                figures.attempts_failed.add(1);
            }
        }
        let random = self.next_random();
        let delay = self.outgoing.failed(Instant::now(), random);
        let waiting = self.outgoing.event_count();
        let url = self.poster.endpoint().without_query();
        tracing::warn!(url, %error, next_attempt_in = ?delay, waiting, "events could not be delivered to the webhook");
    }

    /// Xorshift: good enough to keep several servers out of step.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Tells of losses, but not of each.
#[derive(Default)]
struct LostLog {
    untold: u64,
    told_at: Option<Instant>,
}

impl LostLog {
    fn add(&mut self, lost: u64, now: Instant) {
        self.untold += lost;
        if self.untold > 0 && self.told_at.is_none_or(|told_at| now - told_at >= LOG_PAUSE) {
            tracing::warn!(
                lost = self.untold,
                "the queue of events is full, and some are lost; they are gaps in the sequence"
            );
            *self = Self { untold: 0, told_at: Some(now) };
        }
    }
}

/// Never, if there is no moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// How long it may take then; no time at all if nobody is there to say so.
async fn told_to_stop(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    match stop.wait_for(Option::is_some).await {
        Ok(within) => within.unwrap_or_default(),
        Err(_) => Duration::ZERO,
    }
}

const TAKEN_AT_ONCE: usize = 1024;
const LOG_PAUSE: Duration = Duration::from_secs(10);
