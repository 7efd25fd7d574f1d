//! Everything that is counted, at one moment, in JSON: what the page makes its rates and plots of.

use std::time::SystemTime;

use serde::Serialize;

use super::super::ControlSource;
use super::super::process::ProcessFigures;
use crate::metrics::Sample;

/// The body of `GET /dashboard/figures`. The figures are those of `GET /metrics`, under the same names without prefix.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    version: &'static str,
    /// In seconds.
    uptime: f64,
    draining: bool,
    has_topics: bool,
    process: Process,
    cores: Vec<Core>,
    figures: Vec<Figure>,
}

#[derive(Debug, Serialize)]
struct Process {
    resident_bytes: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Core {
    core: usize,
    /// CPU time of its thread, in seconds.
    cpu: Option<f64>,
}

/// Family, member (the value of its label), and a value for each of `cores`.
#[derive(Debug, Serialize)]
struct Figure(&'static str, Option<&'static str>, Vec<u64>);

impl Figures {
    /// As they are now.
    pub(super) fn read(source: &dyn ControlSource, has_topics: bool) -> Self {
        Self::of(source, has_topics, &ProcessFigures::read(), SystemTime::now())
    }

    fn of(source: &dyn ControlSource, has_topics: bool, process: &ProcessFigures, now: SystemTime) -> Self {
        let shards = source.shards();
        let cpu =
            |core: usize| process.core_times.iter().find(|(of, _)| *of == core).map(|(_, time)| time.as_secs_f64());
        let columns: Vec<Vec<Sample>> = shards.iter().map(|shard| shard.metrics.samples().collect()).collect();
        let rows = columns.first().map_or(&[][..], Vec::as_slice).iter().enumerate();
        let figures = rows.map(|(index, row)| {
            let values = columns.iter().map(|samples| samples[index].value).collect();
            Figure(row.name, row.label.map(|(_, member)| member), values)
        });
        Self {
            version: source.build_info().version,
            uptime: now.duration_since(source.started_at()).unwrap_or_default().as_secs_f64(),
            draining: source.is_draining(),
            has_topics,
            process: Process {
                resident_bytes: process.resident_bytes,
                open_fds: process.open_fds,
                max_fds: process.max_fds,
            },
            cores: shards.iter().map(|shard| Core { core: shard.core, cpu: cpu(shard.core) }).collect(),
            figures: figures.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::control::{BuildInfo, CoreMetrics};
    use crate::metrics::ShardMetrics;

    struct Server(Vec<CoreMetrics>);

    const STARTED_AT: SystemTime = SystemTime::UNIX_EPOCH;

    impl ControlSource for Server {
        fn shards(&self) -> &[CoreMetrics] {
            &self.0
        }

        fn is_draining(&self) -> bool {
            true
        }

        fn started_at(&self) -> SystemTime {
            STARTED_AT
        }

        fn build_info(&self) -> BuildInfo {
            BuildInfo { version: "1.2.3" }
        }
    }

    fn figures(shards: Vec<CoreMetrics>, process: &ProcessFigures) -> Value {
        let figures = Figures::of(&Server(shards), true, process, STARTED_AT + Duration::from_millis(2500));
        serde_json::to_value(figures).expect("it is plain data")
    }

    fn shard(core: usize) -> CoreMetrics {
        CoreMetrics { core, metrics: Arc::new(ShardMetrics::default()) }
    }

    #[test]
    fn each_figure_has_a_value_for_each_core_in_the_order_of_cores() {
        let shards = vec![shard(2), shard(5)];
        shards[0].metrics.connections_hot.set(3);
        shards[1].metrics.connections_hot.set(4);
        shards[1].metrics.accepts.set(9);
        let process = ProcessFigures {
            resident_bytes: Some(77),
            core_times: vec![(5, Duration::from_millis(1500)), (9, Duration::from_secs(1))],
            ..ProcessFigures::default()
        };
        let got = figures(shards, &process);
        assert_eq!(got["cores"], json!([{"core": 2, "cpu": null}, {"core": 5, "cpu": 1.5}]));
        assert_eq!(got["process"], json!({"resident_bytes": 77, "open_fds": null, "max_fds": null}));
        assert_eq!((&got["version"], &got["uptime"], &got["draining"]), (&json!("1.2.3"), &json!(2.5), &json!(true)));
        let all = got["figures"].as_array().expect("a list");
        assert!(all.contains(&json!(["connections_by_temperature", "hot", [3, 4]])), "{all:?}");
        assert!(all.contains(&json!(["accepts_total", null, [0, 9]])), "{all:?}");
        assert_eq!(all.len(), ShardMetrics::default().samples().count());
    }

    #[test]
    fn a_server_without_shards_is_no_failure() {
        let got = figures(Vec::new(), &ProcessFigures::default());
        assert_eq!((&got["cores"], &got["figures"]), (&json!([]), &json!([])));
    }
}
