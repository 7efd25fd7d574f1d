//! What is counted, for whoever watches the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::gate::Gate;
use crate::metrics::{Kind, Sample};

/// A number that any thread may add to.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Deliveries.
#[derive(Debug)]
pub(super) struct WebhookFigures {
    pub(super) gate: Gate,
    pub(super) delivered: Count,
    pub(super) attempts_delivered: Count,
    pub(super) attempts_refused: Count,
    pub(super) attempts_failed: Count,
}

/// Questions.
#[derive(Debug, Default)]
pub(super) struct ProxyFigures {
    pub(super) asked: Count,
    pub(super) allowed: Count,
    pub(super) denied: Count,
    pub(super) failed: Count,
    pub(super) overloaded: Count,
}

/// The figures of all that is configured.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub(super) webhook: Option<Arc<WebhookFigures>>,
    pub(super) proxy: Option<Arc<ProxyFigures>>,
}

impl WebhookFigures {
    pub(super) fn new(gate: Gate) -> Self {
        Self {
            gate,
            delivered: Count::default(),
            attempts_delivered: Count::default(),
            attempts_refused: Count::default(),
            attempts_failed: Count::default(),
        }
    }
}

impl Figures {
    /// Members of a family stand next to each other.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        if let Some(webhook) = &self.webhook {
            samples.extend(webhook_samples(webhook));
        }
        if let Some(proxy) = &self.proxy {
            samples.extend(proxy_samples(proxy));
        }
        samples
    }
}

fn webhook_samples(figures: &WebhookFigures) -> [Sample; 8] {
    let gate = &figures.gate;
    let attempts = |outcome, count: &Count| {
        let help = "Requests to the webhook by what became of them: delivered, refused (another status than 2xx) or \
                    failed (no answer).";
        counter("webhook_attempts_total", Some(("outcome", outcome)), help, count.get())
    };
    [
        counter("webhook_events_total", None, "Events taken in to be delivered.", gate.entered()),
        counter(
            "webhook_events_delivered_total",
            None,
            "Events that the webhook has accepted.",
            figures.delivered.get(),
        ),
        counter(
            "webhook_events_lost_total",
            None,
            "Events that found no room in the queue; each is a gap in the sequence.",
            gate.lost(),
        ),
        gauge("webhook_waiting_events", "Events that are not delivered yet.", gate.waiting_events() as u64),
        gauge("webhook_waiting_bytes", "Memory of events that are not delivered yet.", gate.waiting_bytes() as u64),
        attempts("delivered", &figures.attempts_delivered),
        attempts("refused", &figures.attempts_refused),
        attempts("failed", &figures.attempts_failed),
    ]
}

fn proxy_samples(figures: &ProxyFigures) -> [Sample; 5] {
    let verdict = |verdict, count: &Count| {
        let help = "Questions to the connect proxy by its verdict; failed: no answer that could be read, overloaded: \
                    not even asked.";
        counter("connect_proxy_verdicts_total", Some(("verdict", verdict)), help, count.get())
    };
    let answered = figures.allowed.get() + figures.denied.get() + figures.failed.get();
    let waiting = figures.asked.get().saturating_sub(answered);
    [
        verdict("allowed", &figures.allowed),
        verdict("denied", &figures.denied),
        verdict("failed", &figures.failed),
        verdict("overloaded", &figures.overloaded),
        gauge("connect_proxy_waiting", "Questions to the connect proxy that are not answered yet.", waiting),
    ]
}

fn counter(name: &'static str, label: Option<(&'static str, &'static str)>, help: &'static str, value: u64) -> Sample {
    Sample { name, label, help, kind: Kind::Counter, value }
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample { name, label: None, help, kind: Kind::Gauge, value }
}
