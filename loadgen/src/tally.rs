//! What one worker counts. Workers' tallies are added up at the end.

use std::collections::BTreeMap;

use crate::latency::{self, Latencies};

/// What is counted while a scenario runs.
pub(crate) struct Tally {
    /// Whose messages count, by the moment that they were meant for.
    pub(crate) window: Window,
    pub(crate) counts: Counts,
    pub(crate) wire: Wire,
    /// From the intended moment to the answer.
    pub(crate) response: Latencies,
    /// From the actual sending to the answer.
    pub(crate) service: Latencies,
    /// From the intended moment to the actual sending: how late the generator itself was.
    pub(crate) lateness: Latencies,
    /// From the first packet to the open WebSocket.
    pub(crate) opening: Latencies,
    /// From the intended moment to the answer, while something else was going on (the recovery of a storm).
    pub(crate) meanwhile: Latencies,
    pub(crate) is_meanwhile: bool,
    /// Mean latencies of subscribers, one each.
    pub(crate) subscriber_means: Latencies,
    /// From the cut to the last connection that was back.
    pub(crate) recovery_ns: Option<u64>,
    /// From the cut to the moment at which a subscriber had heard all that it missed.
    pub(crate) client_recovery: Latencies,
    /// Slow clients that the server let go.
    pub(crate) slow_dropped: u64,
    /// How many of each error, over the whole run.
    pub(crate) errors: BTreeMap<String, u64>,
    /// One sentence of the first error of each kind.
    pub(crate) error_words: BTreeMap<String, String>,
    /// Since the last look.
    pub(crate) interval: Interval,
}

/// The part of a run that is measured, in nanoseconds since its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from_ns: u64,
    pub(crate) until_ns: u64,
}

impl Window {
    /// A window that nothing falls into.
    pub(crate) const NEVER: Self = Self { from_ns: u64::MAX, until_ns: u64::MAX };

    pub(crate) fn contains(self, at_ns: u64) -> bool {
        self.from_ns <= at_ns && at_ns < self.until_ns
    }
}

/// Messages and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Meant to be sent within the window.
    pub(crate) planned: u64,
    /// Sent, of those meant for the window.
    pub(crate) sent: u64,
    /// Answered, of those meant for the window, whenever that was.
    pub(crate) answered: u64,
    /// Arrived within the window, whatever was meant.
    pub(crate) arrived: u64,
    /// Payload that arrived within the window.
    pub(crate) arrived_bytes: u64,
    /// Never answered, of those meant for the window.
    pub(crate) lost: u64,
    pub(crate) duplicate: u64,
    pub(crate) out_of_order: u64,
    pub(crate) corrupt: u64,
    /// Answered after they were given up.
    pub(crate) late: u64,
    /// Numbers that nobody sent.
    pub(crate) unsent: u64,
    /// Connections that were opened.
    pub(crate) opened: u64,
    /// Those of them that resumed a TLS session.
    pub(crate) resumed: u64,
    /// Connections that could not be opened.
    pub(crate) failed: u64,
}

impl Counts {
    /// Adds another worker's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.planned += other.planned;
        self.sent += other.sent;
        self.answered += other.answered;
        self.arrived += other.arrived;
        self.arrived_bytes += other.arrived_bytes;
        self.lost += other.lost;
        self.duplicate += other.duplicate;
        self.out_of_order += other.out_of_order;
        self.corrupt += other.corrupt;
        self.late += other.late;
        self.unsent += other.unsent;
        self.opened += other.opened;
        self.resumed += other.resumed;
        self.failed += other.failed;
    }
}

/// Bytes within the window, as messages say and as sockets say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wire {
    /// Connections that agreed on permessage-deflate, over the whole run.
    pub(crate) compressed_connections: u64,
    /// Payload of messages that were handed to connections.
    pub(crate) sent_payload_bytes: u64,
    /// What was handed to sockets: frames, and TLS records around them.
    pub(crate) sent_bytes: u64,
    /// What was read from sockets.
    pub(crate) arrived_bytes: u64,
}

impl Wire {
    /// Adds another worker's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.compressed_connections += other.compressed_connections;
        self.sent_payload_bytes += other.sent_payload_bytes;
        self.sent_bytes += other.sent_bytes;
        self.arrived_bytes += other.arrived_bytes;
    }
}

/// What happened in about a second.
#[derive(Clone, Debug)]
pub(crate) struct Interval {
    /// Workers whose part is in it.
    pub(crate) workers: usize,
    pub(crate) sent: u64,
    pub(crate) arrived: u64,
    pub(crate) errors: u64,
    pub(crate) open: u64,
    pub(crate) response: Latencies,
}

impl Interval {
    pub(crate) fn new() -> Self {
        Self { workers: 0, sent: 0, arrived: 0, errors: 0, open: 0, response: latency::empty() }
    }

    /// Adds another worker's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.workers += other.workers;
        self.sent += other.sent;
        self.arrived += other.arrived;
        self.errors += other.errors;
        self.open += other.open;
        add_latencies(&mut self.response, &other.response);
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            window: Window::NEVER,
            counts: Counts::default(),
            wire: Wire::default(),
            response: latency::empty(),
            service: latency::empty(),
            lateness: latency::empty(),
            opening: latency::empty(),
            meanwhile: latency::empty(),
            is_meanwhile: false,
            subscriber_means: latency::empty(),
            recovery_ns: None,
            client_recovery: latency::empty(),
            slow_dropped: 0,
            errors: BTreeMap::new(),
            error_words: BTreeMap::new(),
            interval: Interval::new(),
        }
    }

    /// A message left.
    pub(crate) fn sent(&mut self, intended_ns: u64, sent_ns: u64) {
        self.interval.sent += 1;
        if self.window.contains(intended_ns) {
            self.counts.sent += 1;
            self.lateness.saturating_record(sent_ns.saturating_sub(intended_ns));
        }
    }

    /// Something arrived, right or wrong.
    pub(crate) fn arrived(&mut self, len: usize, now_ns: u64) {
        self.interval.arrived += 1;
        if self.window.contains(now_ns) {
            self.counts.arrived += 1;
            self.counts.arrived_bytes += len as u64;
        }
    }

    /// A message was answered.
    pub(crate) fn answered(&mut self, intended_ns: u64, sent_ns: u64, now_ns: u64) {
        let response_ns = now_ns.saturating_sub(intended_ns);
        self.interval.response.saturating_record(response_ns);
        if self.is_meanwhile {
            self.meanwhile.saturating_record(response_ns);
        }
        if self.window.contains(intended_ns) {
            self.counts.answered += 1;
            self.response.saturating_record(response_ns);
            self.service.saturating_record(now_ns.saturating_sub(sent_ns));
        }
    }

    /// A message was answered to somebody who was away when it was: late, and no latency of the server's.
    pub(crate) fn answered_after_all(&mut self, intended_ns: u64) {
        if self.window.contains(intended_ns) {
            self.counts.answered += 1;
        }
    }

    /// Something went wrong.
    pub(crate) fn error(&mut self, kind: &str, words: impl FnOnce() -> String) {
        self.interval.errors += 1;
        match self.errors.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                self.errors.insert(kind.to_owned(), 1);
                self.error_words.insert(kind.to_owned(), words());
            }
        }
    }

    /// Adds another worker's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.wire.add(&other.wire);
        add_latencies(&mut self.response, &other.response);
        add_latencies(&mut self.service, &other.service);
        add_latencies(&mut self.lateness, &other.lateness);
        add_latencies(&mut self.opening, &other.opening);
        add_latencies(&mut self.meanwhile, &other.meanwhile);
        add_latencies(&mut self.subscriber_means, &other.subscriber_means);
        add_latencies(&mut self.client_recovery, &other.client_recovery);
        // They were cut at the same moment; the last to recover counts.
        self.recovery_ns = self.recovery_ns.max(other.recovery_ns);
        self.slow_dropped += other.slow_dropped;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        for (kind, words) in &other.error_words {
            self.error_words.entry(kind.clone()).or_insert_with(|| words.clone());
        }
    }
}

fn add_latencies(sum: &mut Latencies, other: &Latencies) {
    sum.add(other).expect("all histograms have the same bounds");
}
