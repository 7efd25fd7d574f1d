//! What is said about a run: one value, shown as text, as JSON and as a page.

pub(crate) mod hdr;
pub(crate) mod html;
pub(crate) mod memory;
mod text;
mod verdict;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::conduct::{Load, Outcome, ScenarioPlan};
use crate::latency::{Latencies, Summary};
use crate::observe::Observed;
use crate::scenario::idle::IdlePlan;
use crate::tally::Counts;
use crate::target::Scheme;

use memory::MemoryReport;
pub(crate) use verdict::Verdict;

/// The result of one run. Every quantity carries its unit in its name.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) tool: String,
    pub(crate) scenario: &'static str,
    pub(crate) url: String,
    pub(crate) plan: Plan,
    pub(crate) achieved: Achieved,
    #[serde(flatten)]
    pub(crate) response: Summary,
    #[serde(flatten)]
    pub(crate) service: Summary,
    #[serde(flatten)]
    pub(crate) opening: Summary,
    /// Response latency while a storm's dropped connections came back.
    #[serde(flatten)]
    pub(crate) meanwhile: Summary,
    /// Mean latency of each subscriber; the slowest is the maximum.
    #[serde(flatten)]
    pub(crate) subscriber: Summary,
    /// From the cut to the moment at which a subscriber had heard all that it missed.
    #[serde(flatten)]
    pub(crate) client_recovery: Summary,
    pub(crate) recovery_ns: Option<u64>,
    pub(crate) slow_dropped_connections: u64,
    pub(crate) wire: WireReport,
    pub(crate) memory: Option<MemoryReport>,
    pub(crate) problems: Problems,
    pub(crate) server: Option<ServerReport>,
    pub(crate) generator: GeneratorReport,
    pub(crate) verdict: Verdict,
    pub(crate) seconds: Vec<SecondReport>,
    /// For the plots.
    #[serde(skip)]
    pub(crate) curves: Vec<Curve>,
}

/// Latency by percentile, in as many points as a plot needs.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    /// One over the share of samples beyond, and the latency in nanoseconds.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Curve {
    /// Of what was recorded; empty of nothing.
    pub(crate) fn of(name: &str, latencies: &Latencies) -> Self {
        let count = latencies.len() as f64;
        let mut points = Vec::new();
        let mut inverse = 1.0;
        while count > 0.0 && inverse <= count {
            points.push((inverse, latencies.value_at_quantile(1.0 - 1.0 / inverse) as f64));
            inverse *= 1.25;
        }
        if count > 0.0 {
            points.push((count, latencies.max() as f64));
        }
        Self { name: name.to_owned(), points }
    }
}

/// What was asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    pub(crate) payload_bytes: String,
    pub(crate) payload_kind: &'static str,
    /// `null`: the scenario knows none.
    pub(crate) topics: Option<TopicsReport>,
    /// `null`: no limit.
    pub(crate) inflight_messages: Option<usize>,
    /// `null`: closed loop.
    pub(crate) rate_per_second: Option<f64>,
    pub(crate) spin: bool,
    pub(crate) worker_cores: Vec<usize>,
    pub(crate) warm_up_s: f64,
    pub(crate) measured_s: f64,
    pub(crate) cool_down_s: f64,
}

/// Who was to hear what.
#[derive(Debug, Serialize)]
pub(crate) struct TopicsReport {
    pub(crate) wire: &'static str,
    pub(crate) topics: u64,
    /// Of all topics together.
    pub(crate) subscriptions: u64,
    /// Over HTTP instead of over WebSocket.
    pub(crate) published_over_http: bool,
    /// Subscribers that were cut off.
    pub(crate) drop_share: Option<f64>,
}

impl TopicsReport {
    fn of(load: &Load) -> Option<Self> {
        match &load.plan {
            ScenarioPlan::Topics(plan) => Some(Self {
                wire: corewire::wire::SUBPROTOCOL,
                topics: plan.hall.topics,
                subscriptions: plan.hall.subscriptions,
                published_over_http: plan.http.is_some(),
                drop_share: plan.drop,
            }),
            ScenarioPlan::Idle(IdlePlan { topics: Some(idle), .. }) => Some(Self {
                wire: if idle.is_v1 { corewire::wire::SUBPROTOCOL } else { "raw" },
                topics: idle.topics,
                subscriptions: load.connections as u64,
                published_over_http: false,
                drop_share: None,
            }),
            ScenarioPlan::Echo(_)
            | ScenarioPlan::Idle(_)
            | ScenarioPlan::Fanout(_)
            | ScenarioPlan::Storm(_)
            | ScenarioPlan::Slow(_) => None,
        }
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Achieved {
    pub(crate) measured_s: f64,
    pub(crate) planned_messages: Option<u64>,
    pub(crate) sent_messages: u64,
    pub(crate) answered_messages: u64,
    pub(crate) arrived_messages: u64,
    pub(crate) sent_per_second: f64,
    pub(crate) arrived_per_second: f64,
    pub(crate) arrived_bytes_per_second: f64,
    pub(crate) opened_connections: u64,
    pub(crate) resumed_tls_sessions: u64,
    pub(crate) failed_connections: u64,
    /// Of all that were tried, over the whole run.
    pub(crate) failed_connection_share: f64,
    pub(crate) interrupted: bool,
}

/// Bytes within the measured window, as messages say and as sockets say.
#[derive(Debug, Serialize)]
pub(crate) struct WireReport {
    /// permessage-deflate.
    pub(crate) compression_offered: bool,
    /// Connections whose server took it, over the whole run.
    pub(crate) compressed_connections: u64,
    pub(crate) sent_payload_bytes: u64,
    /// Frames, and TLS records around them.
    pub(crate) sent_wire_bytes: u64,
    pub(crate) arrived_payload_bytes: u64,
    pub(crate) arrived_wire_bytes: u64,
}

impl WireReport {
    fn of(load: &Load, outcome: &Outcome) -> Self {
        let wire = outcome.tally.wire;
        Self {
            compression_offered: load.compress,
            compressed_connections: wire.compressed_connections,
            sent_payload_bytes: wire.sent_payload_bytes,
            sent_wire_bytes: wire.sent_bytes,
            arrived_payload_bytes: outcome.tally.counts.arrived_bytes,
            arrived_wire_bytes: wire.arrived_bytes,
        }
    }
}

/// What went wrong, over the whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Problems {
    pub(crate) lost_messages: u64,
    pub(crate) duplicate_messages: u64,
    pub(crate) out_of_order_messages: u64,
    pub(crate) corrupt_messages: u64,
    pub(crate) late_messages: u64,
    pub(crate) unsent_messages: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) error_examples: BTreeMap<String, String>,
}

/// The server, as `/proc` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct ServerReport {
    pub(crate) cpu_ns: u64,
    pub(crate) cpu_per_message_ns: Option<f64>,
    /// Of the cores that it may use.
    pub(crate) cpu_share: f64,
    pub(crate) busiest_thread_share: f64,
    pub(crate) user_share: Option<f64>,
    pub(crate) allowed_cpus: usize,
    pub(crate) saturated: bool,
    pub(crate) pss_bytes: Option<u64>,
    pub(crate) rss_bytes: Option<u64>,
}

/// About this tool itself.
#[derive(Debug, Serialize)]
pub(crate) struct GeneratorReport {
    #[serde(flatten)]
    pub(crate) lateness: Summary,
    /// Of the busiest worker: CPU, or, while spinning, time in turns that had something to do.
    pub(crate) busiest_worker_share: f64,
    pub(crate) cpu_per_message_ns: Option<f64>,
    /// This tool's CPU per message by the server's. `null` while it spins, and where no server was observed.
    pub(crate) cpu_by_server_cpu: Option<f64>,
    /// CPU that neither the server nor this tool used, in cores. `null` if no server was observed.
    pub(crate) others_cores: Option<f64>,
    pub(crate) stolen_cores: Option<f64>,
}

/// One second of the run.
#[derive(Debug, Serialize)]
pub(crate) struct SecondReport {
    pub(crate) sent_messages: u64,
    pub(crate) arrived_messages: u64,
    pub(crate) errors: u64,
    pub(crate) open_connections: u64,
    #[serde(flatten)]
    pub(crate) response: Summary,
    pub(crate) pss_bytes: Option<u64>,
}

impl Report {
    /// Says what `outcome` means.
    pub(crate) fn of(load: &Load, outcome: &Outcome) -> Self {
        let counts = outcome.tally.counts;
        let measured_s = measured_s(outcome);
        let mut report = Self {
            tool: concat!("corewire-load ", env!("CARGO_PKG_VERSION")).to_owned(),
            scenario: load.plan.name(),
            url: load.target.to_string(),
            plan: Plan::of(load),
            achieved: Achieved::of(load, outcome, measured_s),
            response: Summary::of("response", &outcome.tally.response),
            service: Summary::of("service", &outcome.tally.service),
            opening: Summary::of("opening", &outcome.tally.opening),
            meanwhile: Summary::of("recovery_response", &outcome.tally.meanwhile),
            subscriber: Summary::of("subscriber_mean", &outcome.tally.subscriber_means),
            client_recovery: Summary::of("client_recovery", &outcome.tally.client_recovery),
            recovery_ns: outcome.tally.recovery_ns,
            slow_dropped_connections: outcome.tally.slow_dropped,
            wire: WireReport::of(load, outcome),
            memory: None,
            problems: Problems::of(&counts, outcome),
            server: ServerReport::of(outcome),
            generator: GeneratorReport::of(load, outcome),
            verdict: Verdict::default(),
            seconds: seconds(outcome),
            curves: vec![
                Curve::of("response (corrected)", &outcome.tally.response),
                Curve::of("service (uncorrected)", &outcome.tally.service),
            ],
        };
        report.verdict = Verdict::on(&report, load.target.scheme == Scheme::Tcp);
        report
    }
}

impl Plan {
    fn of(load: &Load) -> Self {
        Self {
            connections: load.connections,
            payload_bytes: load.plan.sizes(),
            payload_kind: match load.kind {
                corewire::protocol::MessageKind::Text => "text",
                corewire::protocol::MessageKind::Binary => "binary",
            },
            topics: TopicsReport::of(load),
            inflight_messages: load.plan.inflight(),
            rate_per_second: load.plan.rate_per_second(),
            spin: load.spin,
            worker_cores: load.cores.clone(),
            warm_up_s: load.warm_up.as_secs_f64(),
            measured_s: load.measured.as_secs_f64(),
            cool_down_s: load.cool_down.as_secs_f64(),
        }
    }
}

impl Achieved {
    fn of(load: &Load, outcome: &Outcome, measured_s: f64) -> Self {
        let counts = &outcome.tally.counts;
        Self {
            measured_s,
            planned_messages: load.plan.rate_per_second().map(|_| counts.planned),
            sent_messages: counts.sent,
            answered_messages: counts.answered,
            arrived_messages: counts.arrived,
            sent_per_second: counts.sent as f64 / measured_s,
            arrived_per_second: counts.arrived as f64 / measured_s,
            arrived_bytes_per_second: counts.arrived_bytes as f64 / measured_s,
            opened_connections: counts.opened,
            resumed_tls_sessions: counts.resumed,
            failed_connections: counts.failed,
            failed_connection_share: counts.failed as f64 / (counts.opened + counts.failed).max(1) as f64,
            interrupted: outcome.interrupted,
        }
    }
}

impl Problems {
    fn of(counts: &Counts, outcome: &Outcome) -> Self {
        Self {
            lost_messages: counts.lost,
            duplicate_messages: counts.duplicate,
            out_of_order_messages: counts.out_of_order,
            corrupt_messages: counts.corrupt,
            late_messages: counts.late,
            unsent_messages: counts.unsent,
            errors: outcome.tally.errors.clone(),
            error_examples: outcome.tally.error_words.clone(),
        }
    }
}

impl ServerReport {
    fn of(outcome: &Outcome) -> Option<Self> {
        let (before, after, span_ns) = observed(outcome)?;
        let cpu_ns = after.cpu_ns_since(before);
        let allowed_cpus = outcome.allowed_cpus.unwrap_or(1);
        let cpu_share = cpu_ns as f64 / span_ns as f64 / allowed_cpus as f64;
        let busiest_thread_share = after.busiest_ns_since(before) as f64 / span_ns as f64;
        let user = after.user_ticks.saturating_sub(before.user_ticks);
        let system = after.system_ticks.saturating_sub(before.system_ticks);
        let arrived = outcome.tally.counts.arrived;
        let last_memory = outcome.memory.last().map(|&(_, memory)| memory);
        Some(Self {
            cpu_ns,
            cpu_per_message_ns: (arrived > 0).then(|| cpu_ns as f64 / arrived as f64),
            cpu_share,
            busiest_thread_share,
            user_share: (user + system >= TICKS_MIN).then(|| user as f64 / (user + system) as f64),
            allowed_cpus,
            saturated: cpu_share >= SATURATED_SHARE || busiest_thread_share >= SATURATED_SHARE,
            pss_bytes: last_memory.map(|memory| memory.pss_bytes),
            rss_bytes: last_memory.map(|memory| memory.rss_bytes),
        })
    }
}

impl GeneratorReport {
    fn of(load: &Load, outcome: &Outcome) -> Self {
        let mut busiest_worker_share: f64 = 0.0;
        let (mut cpu_sum_ns, mut thread_sum_ns) = (0, 0);
        for marks in &outcome.marks {
            let [first, .., last] = marks.as_slice() else { continue };
            let span_ns = (last.at_ns - first.at_ns).max(1);
            let cpu_ns = last.worker_cpu_ns - first.worker_cpu_ns;
            let busy_ns = if load.spin { last.worker_busy_ns - first.worker_busy_ns } else { cpu_ns };
            busiest_worker_share = busiest_worker_share.max(busy_ns as f64 / span_ns as f64);
            cpu_sum_ns += busy_ns;
            thread_sum_ns += cpu_ns;
        }
        let arrived = outcome.tally.counts.arrived;
        let ticks = observed(outcome).map(|(before, after, span_ns)| {
            let span_s = span_ns as f64 / 1e9;
            let busy_s = after.machine_busy_ticks.saturating_sub(before.machine_busy_ticks) as f64 / TICKS_PER_SECOND;
            let ours_s = (after.cpu_ns_since(before) + thread_sum_ns) as f64 / 1e9;
            let stolen_s =
                after.machine_steal_ticks.saturating_sub(before.machine_steal_ticks) as f64 / TICKS_PER_SECOND;
            (((busy_s - ours_s) / span_s).max(0.0), stolen_s / span_s)
        });
        let server_cpu_ns = observed(outcome).map(|(before, after, _)| after.cpu_ns_since(before));
        let comparable = |&server_ns: &u64| server_ns > 0 && arrived > 0 && !load.spin && thread_sum_ns > 0;
        Self {
            lateness: Summary::of("lateness", &outcome.tally.lateness),
            busiest_worker_share,
            cpu_by_server_cpu: server_cpu_ns.filter(comparable).map(|ns| thread_sum_ns as f64 / ns as f64),
            cpu_per_message_ns: (arrived > 0).then(|| cpu_sum_ns as f64 / arrived as f64),
            others_cores: ticks.map(|(others, _)| others),
            stolen_cores: ticks.map(|(_, stolen)| stolen),
        }
    }
}

/// The two looks at the server, and what lies between them in nanoseconds.
fn observed(outcome: &Outcome) -> Option<(&Observed, &Observed, u64)> {
    let [first, .., last] = outcome.marks.first()?.as_slice() else { return None };
    Some((first.observed.as_ref()?, last.observed.as_ref()?, (last.at_ns - first.at_ns).max(1)))
}

fn measured_s(outcome: &Outcome) -> f64 {
    let span_ns = outcome.window.until_ns.saturating_sub(outcome.window.from_ns);
    (span_ns as f64 / 1e9).max(1e-9)
}

fn seconds(outcome: &Outcome) -> Vec<SecondReport> {
    let of_second = |number: usize| {
        let at = outcome.memory.iter().find(|(at_s, _)| at_s.floor() as usize == number);
        at.map(|&(_, memory)| memory.pss_bytes)
    };
    outcome
        .seconds
        .iter()
        .enumerate()
        .map(|(number, interval)| SecondReport {
            sent_messages: interval.sent,
            arrived_messages: interval.arrived,
            errors: interval.errors,
            open_connections: interval.open,
            response: Summary::of("response", &interval.response),
            pss_bytes: of_second(number),
        })
        .collect()
}

/// The server used this much of its core at least, or it was not saturated.
pub(crate) const SATURATED_SHARE: f64 = 0.97;
/// Ticks of `/proc/PID/stat`, below which the split between user and system says nothing.
const TICKS_MIN: u64 = 20;
/// `USER_HZ`: 100 on every architecture that Linux is built for today.
const TICKS_PER_SECOND: f64 = 100.0;
