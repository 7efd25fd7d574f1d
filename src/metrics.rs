//! Plain counters, one writer each: a shard adds with a relaxed load and store, anybody may read.
//!
//! Knows nobody who reads it. A reader sees each value at some recent moment, never torn, and may see two of
//! them at slightly different moments.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number with one writing thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call it: there is no read-modify-write, so two writers would lose counts.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` away, for gauges. Same rule as [`Counter::add`].
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// Replaces the value, for gauges. Same rule as [`Counter::add`].
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value at some recent moment.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Whether a figure only grows (`Counter`) or goes up and down (`Gauge`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One figure as a reader sees it.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Name without prefix, as in Prometheus: `messages_in_total`.
    pub name: &'static str,
    /// Label of one member of a family, such as `("reason", "origin")`.
    pub label: Option<(&'static str, &'static str)>,
    /// One sentence for people.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// The value.
    pub value: u64,
}

macro_rules! shard_metrics {
    ($($field:ident: $kind:ident $name:literal $(($label:literal = $value:literal))? $help:literal;)*) => {
        /// Everything one shard counts. Members of a family stand next to each other.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardMetrics {
            $(#[doc = $help] pub $field: Counter,)*
        }

        impl ShardMetrics {
            /// Every figure, in the order of their declaration.
            pub fn samples(&self) -> impl Iterator<Item = Sample> + '_ {
                [$(Sample {
                    name: $name,
                    label: shard_metrics!(@label $($label $value)?),
                    help: $help,
                    kind: Kind::$kind,
                    value: self.$field.get(),
                },)*].into_iter()
            }
        }
    };
    (@label) => { None };
    (@label $label:literal $value:literal) => { Some(($label, $value)) };
}

shard_metrics! {
    connections_open: Gauge "connections" ("state" = "open") "Connections by state.";
    connections_handshaking: Gauge "connections" ("state" = "handshaking") "Connections by state.";
    connections_closing: Gauge "connections" ("state" = "closing") "Connections by state.";
    connections_cold: Gauge "connections_by_temperature" ("temperature" = "cold") "Connections by temperature: a hot one has a receive posted in the ring.";
    connections_hot: Gauge "connections_by_temperature" ("temperature" = "hot") "Connections by temperature: a hot one has a receive posted in the ring.";
    promotions: Counter "promotions_total" "Connections that went from cold to hot.";
    demotions: Counter "demotions_total" "Connections that went from hot to cold.";

    accepts: Counter "accepts_total" "Sockets accepted.";
    accept_errors: Counter "accept_errors_total" "Calls to accept that failed, by other causes than a peer that left.";
    accept_pauses: Counter "accept_pauses_total" "Times that accepting paused because descriptors ran out.";

    refused_origin: Counter "refusals_total" ("reason" = "origin") "Connections refused before they were open.";
    refused_capacity: Counter "refusals_total" ("reason" = "capacity") "Connections refused before they were open.";
    refused_handshake: Counter "refusals_total" ("reason" = "handshake") "Connections refused before they were open.";
    refused_timeout: Counter "refusals_total" ("reason" = "timeout") "Connections refused before they were open.";
    refused_tls: Counter "refusals_total" ("reason" = "tls") "Connections refused before they were open.";
    refused_handler: Counter "refusals_total" ("reason" = "handler") "Connections refused before they were open.";
    refused_draining: Counter "refusals_total" ("reason" = "draining") "Connections refused before they were open.";
    refused_descriptors: Counter "refusals_total" ("reason" = "descriptors") "Connections refused before they were open.";
    http_requests: Counter "http_requests_total" "Plain HTTP requests answered on the WebSocket port.";

    messages_in_text: Counter "messages_in_total" ("type" = "text") "Messages received.";
    messages_in_binary: Counter "messages_in_total" ("type" = "binary") "Messages received.";
    messages_out: Counter "messages_out_total" "Messages queued to be sent.";
    pings_in: Counter "pings_in_total" "Ping frames received.";
    pongs_in: Counter "pongs_in_total" "Pong frames received.";
    bytes_in: Counter "bytes_in_total" "Bytes received from sockets.";
    bytes_out: Counter "bytes_out_total" "Bytes written to sockets.";
    writes_direct: Counter "writes_total" ("gear" = "direct") "Writes, by the way they left.";
    writes_ring: Counter "writes_total" ("gear" = "ring") "Writes, by the way they left.";
    queued_bytes: Gauge "queued_bytes" "Bytes that wait to be sent.";
    queue_drops: Counter "queue_drops_total" "Messages not queued because a peer's queue was full.";

    memory_record: Gauge "memory_bytes" ("cause" = "record") "User memory of connections by what it is there for.";
    memory_buffers: Gauge "memory_bytes" ("cause" = "buffers") "User memory of connections by what it is there for.";
    memory_queue: Gauge "memory_bytes" ("cause" = "queue") "User memory of connections by what it is there for.";
    memory_tls: Gauge "memory_bytes" ("cause" = "tls") "User memory of connections by what it is there for.";
    memory_deflate: Gauge "memory_bytes" ("cause" = "deflate") "User memory of connections by what it is there for.";
    memory_returns: Counter "memory_returns_total" "Times that memory was given back after a wave of connections.";

    closes_normal: Counter "closes_total" ("code" = "1000") "Ended connections by the close code that ended them.";
    closes_going_away: Counter "closes_total" ("code" = "1001") "Ended connections by the close code that ended them.";
    closes_protocol: Counter "closes_total" ("code" = "1002") "Ended connections by the close code that ended them.";
    closes_unsupported: Counter "closes_total" ("code" = "1003") "Ended connections by the close code that ended them.";
    closes_no_status: Counter "closes_total" ("code" = "1005") "Ended connections by the close code that ended them.";
    closes_abnormal: Counter "closes_total" ("code" = "1006") "Ended connections by the close code that ended them.";
    closes_invalid_payload: Counter "closes_total" ("code" = "1007") "Ended connections by the close code that ended them.";
    closes_policy: Counter "closes_total" ("code" = "1008") "Ended connections by the close code that ended them.";
    closes_too_big: Counter "closes_total" ("code" = "1009") "Ended connections by the close code that ended them.";
    closes_internal: Counter "closes_total" ("code" = "1011") "Ended connections by the close code that ended them.";
    closes_try_later: Counter "closes_total" ("code" = "1013") "Ended connections by the close code that ended them.";
    closes_other: Counter "closes_total" ("code" = "other") "Ended connections by the close code that ended them.";

    topics: Gauge "topics" "Topics that are known at this core, their home.";
    subscriptions: Gauge "subscriptions" "Subscriptions to topics and patterns.";
    publications: Counter "publications_total" "Publications that topics have accepted.";
    publications_refused: Counter "publications_refused_total" "Publications that topics have refused: too many topics, or no room on the way.";
    publications_conflated: Counter "publications_conflated_total" "Publications replaced by newer ones while they waited for a slow subscriber.";

    handler_panics: Counter "handler_panics_total" "Calls into the application that panicked.";
    mesh_sent: Counter "mesh_sent_total" "Envelopes sent to other cores.";
    mesh_received: Counter "mesh_received_total" "Envelopes received from other cores.";
    mesh_refused: Counter "mesh_refused_total" "Envelopes refused because the other core's ring and the backlog were full.";
    turns: Counter "turns_total" "Turns of the event loop that had something to do.";
    driver_rung: Gauge "driver_rung" "How the kernel is asked: 3 io_uring with all flags, 2 with fewer, 1 plain, 0 epoll.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_family_stand_together_and_agree() {
        let metrics = ShardMetrics::default();
        let samples: Vec<_> = metrics.samples().collect();
        let mut seen: Vec<&str> = Vec::new();
        for sample in &samples {
            if seen.last() != Some(&sample.name) {
                assert!(!seen.contains(&sample.name), "{} is declared in two places", sample.name);
                seen.push(sample.name);
            }
            let first = samples.iter().find(|s| s.name == sample.name).expect("it is in the list");
            assert_eq!((first.help, first.kind), (sample.help, sample.kind), "{}", sample.name);
        }
    }

    #[test]
    fn a_gauge_goes_down_again() {
        let gauge = Counter::default();
        gauge.add(3);
        gauge.sub(2);
        assert_eq!(gauge.get(), 1);
    }
}
