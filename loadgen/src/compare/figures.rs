//! What is said of a server in a case: which figures there are, and how several rounds of them become one.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::Report;
use crate::units::{show_bytes, show_count, show_ns};

/// What kind of load a case is: which figures a slice of it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Echo,
    Slow,
    Fanout,
    Storm,
    Idle,
}

/// One figure of a kind of load.
pub(super) struct Figure {
    /// In JSON, with its unit.
    pub(super) key: &'static str,
    /// In tables.
    pub(super) title: &'static str,
    show: Show,
    /// Whether it is divided by the reference's.
    pub(super) is_compared: bool,
}

#[derive(Clone, Copy)]
enum Show {
    Ns,
    Count,
    Bytes,
    Percent,
    Ratio,
}

/// What one server did in one case and one round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Slice {
    pub(super) round: usize,
    pub(super) case: String,
    pub(super) server: String,
    /// By the keys of [`Kind::figures`]; what was not measured is not there.
    pub(super) figures: BTreeMap<&'static str, f64>,
    pub(super) server_saturated: bool,
    /// Empty if nothing speaks against it.
    pub(super) reasons: Vec<String>,
}

/// Median and range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Kind {
    pub(super) fn of(scenario: &str) -> Option<Self> {
        Some(match scenario {
            "echo" => Self::Echo,
            "slow" => Self::Slow,
            "fanout" => Self::Fanout,
            "storm" => Self::Storm,
            "idle" => Self::Idle,
            _ => return None,
        })
    }

    /// As the command line calls it.
    pub(super) fn scenario(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Slow => "slow",
            Self::Fanout => "fanout",
            Self::Storm => "storm",
            Self::Idle => "idle",
        }
    }

    /// What the first figure is, in words.
    pub(super) fn question(self) -> &'static str {
        match self {
            Self::Echo | Self::Slow => "Server CPU per message",
            Self::Fanout => "Server CPU per delivery",
            Self::Storm => "Server CPU per handshake",
            Self::Idle => "User memory (PSS) per connection",
        }
    }

    /// The first is the one that a case is about.
    pub(super) fn figures(self) -> &'static [Figure] {
        match self {
            Self::Echo | Self::Slow => ECHO,
            Self::Fanout => FANOUT,
            Self::Storm => STORM,
            Self::Idle => IDLE,
        }
    }

    /// The figures of one slice.
    fn read(self, report: &Report) -> Vec<(&'static str, Option<f64>)> {
        let server = report.server.as_ref();
        let cpu_ns = server.and_then(|server| server.cpu_per_message_ns);
        let percentile = |key: &str| report.response.get(key).map(|ns| ns as f64);
        let per_second = Some(report.achieved.arrived_per_second);
        let about_the_run = [
            ("server_busiest_thread_share", server.map(|server| server.busiest_thread_share)),
            ("generator_busy_share", Some(report.generator.busiest_worker_share)),
            ("generator_per_message_ns", report.generator.cpu_per_message_ns),
            ("lateness_p99_ns", report.generator.lateness.get("p99").map(|ns| ns as f64)),
            ("others_cores", report.generator.others_cores),
        ];
        let latencies = [
            ("response_p50_ns", percentile("p50")),
            ("response_p99_ns", percentile("p99")),
            ("response_p99_9_ns", percentile("p99_9")),
        ];
        let own: Vec<(&'static str, Option<f64>)> = match self {
            Self::Echo | Self::Slow => {
                vec![("server_cpu_per_message_ns", cpu_ns), ("messages_per_second", per_second)]
            }
            Self::Fanout => {
                let (heard, lost) = (report.achieved.answered_messages as f64, report.problems.lost_messages as f64);
                vec![
                    ("server_cpu_per_delivery_ns", cpu_ns),
                    ("deliveries_per_second", per_second),
                    ("complete_share", (heard + lost > 0.0).then(|| heard / (heard + lost))),
                    ("slowest_subscriber_mean_ns", Some(report.subscriber.max_ns as f64)),
                ]
            }
            Self::Storm => {
                let Counted { begun, opened, resumed } = Counted::of(report);
                vec![
                    ("server_cpu_per_handshake_ns", cpu_ns),
                    ("handshakes_per_core_second", cpu_ns.map(|ns| 1e9 / ns)),
                    ("handshakes_per_second", per_second),
                    ("failed_share", (begun > 0.0).then(|| 1.0 - opened / begun)),
                    ("resumed_share", resumed),
                ]
            }
            Self::Idle => return idle(report),
        };
        own.into_iter().chain(latencies).chain(about_the_run).collect()
    }
}

/// Handshakes of a storm.
struct Counted {
    begun: f64,
    opened: f64,
    /// Share of all TLS sessions of the run.
    resumed: Option<f64>,
}

impl Counted {
    fn of(report: &Report) -> Self {
        let achieved = &report.achieved;
        let all = achieved.opened_connections as f64;
        Self {
            begun: achieved.sent_messages as f64,
            opened: achieved.answered_messages as f64,
            resumed: (all > 0.0 && report.url.starts_with("wss:")).then(|| achieved.resumed_tls_sessions as f64 / all),
        }
    }
}

fn idle(report: &Report) -> Vec<(&'static str, Option<f64>)> {
    let Some(memory) = &report.memory else { return Vec::new() };
    let (sparse, heat) = (memory.sparse.as_ref(), memory.after_heat.as_ref());
    vec![
        ("user_bytes_per_connection", Some(memory.user_bytes_per_connection)),
        ("kernel_slab_bytes_per_connection", Some(memory.kernel_slab_bytes_per_connection)),
        ("kernel_beyond_sockets_bytes_per_connection", memory.kernel_beyond_sockets_bytes_per_connection),
        ("sparse_cpu_per_message_ns", sparse.and_then(|sparse| sparse.cpu_per_message_ns)),
        ("sparse_user_bytes_per_connection", sparse.map(|sparse| sparse.user_bytes_per_connection)),
        ("after_heat_user_bytes_per_connection", heat.map(|heat| heat.user_bytes_per_connection)),
        ("waves_growth_ratio", memory.growth()),
        ("connections", Some(memory.connections as f64)),
    ]
}

impl Slice {
    pub(super) fn of(kind: Kind, round: usize, case: &str, server: &str, report: &Report) -> Self {
        let figures = kind.read(report).into_iter().filter_map(|(key, value)| Some((key, value?)));
        Self {
            round,
            case: case.to_owned(),
            server: server.to_owned(),
            figures: figures.filter(|(_, value)| value.is_finite()).collect(),
            server_saturated: report.server.as_ref().is_some_and(|server| server.saturated),
            reasons: report.verdict.reasons.clone(),
        }
    }
}

impl Figure {
    const fn new(key: &'static str, title: &'static str, show: Show, is_compared: bool) -> Self {
        Self { key, title, show, is_compared }
    }

    pub(super) fn show(&self, value: f64) -> String {
        match self.show {
            Show::Ns => show_ns(value.max(0.0).round() as u64),
            Show::Count => show_count(value.max(0.0).round() as u64),
            Show::Bytes if value.abs() < 10_000.0 => format!("{value:.0} B"),
            Show::Bytes => show_bytes(value.max(0.0) as u64),
            Show::Percent => format!("{:.0} %", value * 100.0),
            // A share of which the last thousandth matters.
            Show::Ratio => format!("{value:.4}"),
        }
    }
}

impl Spread {
    /// `None` of nothing.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&low, &high) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] };
        Some(Self { median, low, high })
    }
}

/// A server's figure in all rounds of a case; nothing if a round lacks it: a percentile that only the slices with many
/// messages have is not that of all.
pub(super) fn values(slices: &[Slice], case: &str, server: &str, key: &str) -> Vec<f64> {
    let mine = slices.iter().filter(|slice| slice.case == case && slice.server == server);
    mine.map(|slice| slice.figures.get(key).copied()).collect::<Option<_>>().unwrap_or_default()
}

/// A server's figure by the reference's of the same round, in all rounds of a case.
pub(super) fn ratios(slices: &[Slice], case: &str, server: &str, reference: &str, key: &str) -> Vec<f64> {
    let of_round = |name: &str, round: usize| {
        let found = slices.iter().find(|slice| slice.case == case && slice.server == name && slice.round == round)?;
        found.figures.get(key).copied()
    };
    let rounds = slices.iter().filter(|slice| slice.case == case && slice.server == server).map(|slice| slice.round);
    let ratio = |round: usize| Some(of_round(server, round)? / of_round(reference, round)?);
    rounds.filter_map(ratio).filter(|ratio| ratio.is_finite()).collect()
}

const P50: Figure = Figure::new("response_p50_ns", "p50", Show::Ns, true);
const P99: Figure = Figure::new("response_p99_ns", "p99", Show::Ns, true);
const P99_9: Figure = Figure::new("response_p99_9_ns", "p99.9", Show::Ns, true);
const BUSY: Figure = Figure::new("server_busiest_thread_share", "busy", Show::Percent, false);
const GENERATOR: Figure = Figure::new("generator_per_message_ns", "generator", Show::Ns, false);

const ECHO: &[Figure] = &[
    Figure::new("server_cpu_per_message_ns", "CPU/message", Show::Ns, true),
    Figure::new("messages_per_second", "messages/s", Show::Count, false),
    P50,
    P99,
    P99_9,
    BUSY,
    GENERATOR,
];
const FANOUT: &[Figure] = &[
    Figure::new("server_cpu_per_delivery_ns", "CPU/delivery", Show::Ns, true),
    Figure::new("deliveries_per_second", "deliveries/s", Show::Count, false),
    P50,
    P99,
    P99_9,
    Figure::new("complete_share", "complete", Show::Ratio, false),
    BUSY,
    GENERATOR,
];
const STORM: &[Figure] = &[
    Figure::new("server_cpu_per_handshake_ns", "CPU/handshake", Show::Ns, true),
    Figure::new("handshakes_per_core_second", "per core & s", Show::Count, true),
    P50,
    P99,
    P99_9,
    Figure::new("failed_share", "failed", Show::Percent, false),
    Figure::new("resumed_share", "resumed", Show::Percent, false),
    BUSY,
];
const IDLE: &[Figure] = &[
    Figure::new("user_bytes_per_connection", "user", Show::Bytes, true),
    Figure::new("kernel_slab_bytes_per_connection", "kernel", Show::Bytes, true),
    Figure::new("kernel_beyond_sockets_bytes_per_connection", "beyond sockets", Show::Bytes, false),
    Figure::new("sparse_cpu_per_message_ns", "CPU/sparse", Show::Ns, true),
    Figure::new("sparse_user_bytes_per_connection", "user, sparse", Show::Bytes, false),
    Figure::new("after_heat_user_bytes_per_connection", "after heat", Show::Bytes, true),
    Figure::new("waves_growth_ratio", "last wave/first", Show::Ratio, false),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(round: usize, server: &str, value: f64) -> Slice {
        Slice {
            round,
            case: "x".to_owned(),
            server: server.to_owned(),
            figures: BTreeMap::from([("k", value)]),
            server_saturated: true,
            reasons: Vec::new(),
        }
    }

    #[test]
    fn median_and_range() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0]), Some(Spread { median: 2.5, low: 1.0, high: 4.0 }));
    }

    #[test]
    fn a_ratio_is_of_the_same_round() {
        let slices = [
            slice(1, "a", 10.0),
            slice(1, "b", 5.0),
            slice(2, "b", 30.0),
            slice(2, "a", 20.0),
            // The reference has no third round.
            slice(3, "b", 1.0),
        ];
        assert_eq!(ratios(&slices, "x", "b", "a", "k"), [0.5, 1.5]);
        assert_eq!(ratios(&slices, "x", "a", "a", "k"), [1.0, 1.0]);
        assert!(ratios(&slices, "x", "b", "a", "unknown").is_empty());
        assert_eq!(values(&slices, "x", "b", "k"), [5.0, 30.0, 1.0]);
        let mut slices = slices.to_vec();
        slices[1].figures.clear();
        assert!(values(&slices, "x", "b", "k").is_empty(), "one round lacks it");
    }

    #[test]
    fn keys_carry_their_unit_and_every_kind_has_its_own_first() {
        const UNITS: [&str; 4] = ["_ns", "_share", "_ratio", "_connection"];
        let kinds = [Kind::Echo, Kind::Slow, Kind::Fanout, Kind::Storm, Kind::Idle];
        for kind in kinds {
            assert_eq!(Kind::of(kind.scenario()), Some(kind));
            assert!(kind.figures()[0].is_compared, "{kind:?}");
            for figure in kind.figures() {
                let has_unit = UNITS.iter().any(|unit| figure.key.ends_with(unit)) || figure.key.contains("second");
                assert!(has_unit, "{}", figure.key);
            }
        }
        assert_eq!(Kind::of("run"), None);
    }
}
