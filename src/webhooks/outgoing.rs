//! What is still to be delivered: events in their order, one batch under way at a time, and when to try again.
//!
//! Knows no sockets and no clock. A batch is taken with [`Outgoing::poll_batch`]; whoever has sent it says
//! [`Outgoing::delivered`] or [`Outgoing::failed`]. A batch that failed is the next one again, with the same bytes, so
//! that nothing overtakes it and the receiver knows by its sequence numbers what it has already.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::backoff::Backoff;
use super::encode::{self, UnixMillis};
use crate::backend::Event;

/// How events become batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchOptions {
    /// Events in a batch, at most.
    pub(super) events_max: usize,
    /// How long the first event of a batch waits for others, at most.
    pub(super) wait: Duration,
    pub(super) backoff: Backoff,
}

/// The queue and the batch under way.
#[derive(Debug)]
pub(super) struct Outgoing {
    options: BatchOptions,
    stream: String,
    waiting: VecDeque<Waiting>,
    last_seq: u64,
    under_way: UnderWay,
    /// Nothing more comes: no batch waits to be fuller.
    is_draining: bool,
}

#[derive(Debug)]
struct Waiting {
    seq: u64,
    at: UnixMillis,
    since: Instant,
    bytes: usize,
    event: Event,
}

#[derive(Debug)]
enum UnderWay {
    Nothing,
    /// Somebody sends it.
    Sent(Batch),
    /// Nobody does, until then.
    Failed {
        batch: Batch,
        retry_at: Instant,
    },
}

#[derive(Debug)]
struct Batch {
    body: Bytes,
    left: Left,
    failures: u32,
}

/// Events that need no more room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) events: usize,
    /// As they were counted when they came.
    pub(super) bytes: usize,
}

impl Outgoing {
    /// Nothing is waiting. `stream` names the sequence that begins here.
    pub(super) fn new(options: BatchOptions, stream: String) -> Self {
        Self {
            options,
            stream,
            waiting: VecDeque::new(),
            last_seq: 0,
            under_way: UnderWay::Nothing,
            is_draining: false,
        }
    }

    /// From now on these options hold. What failed is tried again at once: the way there may be another now.
    pub(super) fn configure(&mut self, options: BatchOptions, now: Instant) {
        self.options = options;
        self.retry_at_once(now);
    }

    /// An event has come, and so many before it were lost: the sequence skips theirs.
    pub(super) fn push(&mut self, lost_before: u64, bytes: usize, event: Event, at: UnixMillis, now: Instant) {
        self.last_seq += lost_before + 1;
        self.waiting.push_back(Waiting { seq: self.last_seq, at, since: now, bytes, event });
    }

    /// The body to send now, if it is time.
    pub(super) fn poll_batch(&mut self, now: Instant) -> Option<Bytes> {
        match &self.under_way {
            UnderWay::Sent(_) => None,
            UnderWay::Failed { retry_at, .. } if now < *retry_at => None,
            UnderWay::Nothing if self.due_at().is_none_or(|due_at| now < due_at) => None,
            UnderWay::Nothing | UnderWay::Failed { .. } => {
                let batch = match std::mem::replace(&mut self.under_way, UnderWay::Nothing) {
                    UnderWay::Failed { batch, .. } | UnderWay::Sent(batch) => batch,
                    UnderWay::Nothing => self.make_batch(),
                };
                let body = batch.body.clone();
                self.under_way = UnderWay::Sent(batch);
                Some(body)
            }
        }
    }

    /// The batch under way has arrived. Answers what left with it, and how many attempts had failed.
    pub(super) fn delivered(&mut self) -> (Left, u32) {
        match std::mem::replace(&mut self.under_way, UnderWay::Nothing) {
            UnderWay::Sent(batch) => (batch.left, batch.failures),
            other @ (UnderWay::Nothing | UnderWay::Failed { .. }) => {
                debug_assert!(false, "nobody was sending");
                self.under_way = other;
                (Left::default(), 0)
            }
        }
    }

    /// The batch under way has not arrived, or nobody knows. Answers how long it waits for the next attempt.
    pub(super) fn failed(&mut self, now: Instant, random: u64) -> Duration {
        match std::mem::replace(&mut self.under_way, UnderWay::Nothing) {
            UnderWay::Sent(batch) => {
                let failures = batch.failures.saturating_add(1);
                let delay = self.options.backoff.delay(failures, random);
                let batch = Batch { failures, ..batch };
                self.under_way = UnderWay::Failed { batch, retry_at: now + delay };
                delay
            }
            other @ (UnderWay::Nothing | UnderWay::Failed { .. }) => {
                debug_assert!(false, "nobody was sending");
                self.under_way = other;
                Duration::ZERO
            }
        }
    }

    /// When [`Outgoing::poll_batch`] must next be called, if nothing comes before and nobody is sending.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.under_way {
            UnderWay::Sent(_) => None,
            UnderWay::Failed { retry_at, .. } => Some(*retry_at),
            UnderWay::Nothing => self.due_at(),
        }
    }

    /// Nothing more comes: what waits goes at once, also what waits for another attempt.
    pub(super) fn drain(&mut self, now: Instant) {
        self.is_draining = true;
        self.retry_at_once(now);
    }

    /// Whether nothing is waiting or under way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && matches!(self.under_way, UnderWay::Nothing)
    }

    /// Events that are not delivered.
    pub(super) fn event_count(&self) -> usize {
        let under_way = match &self.under_way {
            UnderWay::Nothing => 0,
            UnderWay::Sent(batch) | UnderWay::Failed { batch, .. } => batch.left.events,
        };
        self.waiting.len() + under_way
    }

    fn retry_at_once(&mut self, now: Instant) {
        if let UnderWay::Failed { retry_at, .. } = &mut self.under_way {
            *retry_at = now;
        }
    }

    /// When the next batch is full, or its first event has waited long enough.
    fn due_at(&self) -> Option<Instant> {
        let first = self.waiting.front()?;
        let is_full = self.is_draining || self.waiting.len() >= self.options.events_max;
        Some(if is_full { first.since } else { first.since + self.options.wait })
    }

    fn make_batch(&mut self) -> Batch {
        let mut elements = Vec::new();
        let mut left = Left::default();
        while left.events < self.options.events_max && elements.len() < BATCH_BYTES_AIM {
            let Some(waiting) = self.waiting.pop_front() else { break };
            encode::push_event(&mut elements, waiting.seq, waiting.at, &waiting.event);
            left = Left { events: left.events + 1, bytes: left.bytes + waiting.bytes };
        }
        Batch { body: encode::body(&self.stream, &elements).into(), left, failures: 0 }
    }
}

/// A batch that has reached this takes no more events, so it is larger by at most one of them.
const BATCH_BYTES_AIM: usize = 1 << 20;

#[cfg(test)]
mod tests;
