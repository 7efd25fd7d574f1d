//! `idle` over several processes: one has not enough descriptors for a crowd. This one counts and reads the memory.
//!
//! Each child opens its part, says `ready`, holds it until its standard input ends, and then says what happened.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

use crate::conduct::{self, Load, Outcome, Progress};
use crate::latency::Latencies;
use crate::observe::{Memory, Observer};
use crate::report::{MemoryReport, Report};
use crate::tally::{Tally, Window};
use crate::worker::Mark;

/// What a child says at its end.
#[derive(Debug, Serialize, Deserialize)]
struct ChildResult {
    opened: u64,
    resumed: u64,
    compressed: u64,
    sent: u64,
    answered: u64,
    arrived: u64,
    lost: u64,
    errors: BTreeMap<String, u64>,
    error_words: BTreeMap<String, String>,
    /// Serialised histograms.
    response: Vec<u8>,
    opening: Vec<u8>,
    lateness: Vec<u8>,
}

/// A child's part of the crowd.
pub(crate) struct Part {
    pub(crate) connections: usize,
    pub(crate) sources: Vec<IpAddr>,
}

/// Runs a child: opens, holds, tells.
///
/// # Errors
///
/// A sentence.
pub(crate) fn child(load: &Load) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = Arc::clone(&stop);
    std::thread::spawn(move || {
        // Whatever comes, the end of it is the sign.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stopper.store(true, Ordering::Relaxed);
    });
    let outcome = conduct::conduct(load, None, &stop, |progress| {
        if matches!(progress, Progress::Ready) {
            let _ = crate::commands::print("ready\n");
        }
    })?;
    let Tally { counts, wire, response, opening, lateness, errors, error_words, .. } = outcome.tally;
    let result = ChildResult {
        opened: counts.opened,
        resumed: counts.resumed,
        compressed: wire.compressed_connections,
        sent: counts.sent,
        answered: counts.answered,
        arrived: counts.arrived,
        lost: counts.lost,
        errors,
        error_words,
        response: serialise(&response)?,
        opening: serialise(&opening)?,
        lateness: serialise(&lateness)?,
    };
    let json = serde_json::to_string(&result).map_err(|error| format!("no JSON: {error}"))?;
    crate::commands::print(&format!("{json}\n"))
}

/// How `connections` are divided among processes of at most `each_max`, with addresses that have enough ports.
pub(crate) fn divide(connections: usize, processes: Option<usize>, each_max: usize, server: IpAddr) -> Vec<Part> {
    let count = processes.unwrap_or_else(|| connections.div_ceil(each_max)).clamp(1, connections.max(1));
    let mut next_source = 0_u16;
    (0..count)
        .map(|index| {
            let part = connections / count + usize::from(index < connections % count);
            let addresses = if server.is_ipv4() && server.is_loopback() && connections > PORTS_PER_ADDRESS {
                part.div_ceil(PORTS_PER_ADDRESS)
            } else {
                0
            };
            let sources = (0..addresses)
                .map(|_| {
                    next_source += 1;
                    let [high, low] = next_source.to_be_bytes();
                    IpAddr::from(Ipv4Addr::new(127, 1, high, low))
                })
                .collect();
            Part { connections: part, sources }
        })
        .collect()
}

/// Runs the crowd and reads the memory before and after.
///
/// `arguments` start a child: how many connections and from where is added to them.
///
/// # Errors
///
/// A sentence.
pub(crate) fn run(
    load: &Load,
    parts: &[Part],
    arguments: &[String],
    observer: Option<&Observer>,
    stop: &AtomicBool,
) -> Result<Report, String> {
    // What the first connections cost is the server's preparation, not theirs.
    let wave = Part { connections: load.connections.min(WARM_UP_CONNECTIONS), sources: Vec::new() };
    ChildProcess::start(&wave, arguments)?.wait_until_ready()?.finish()?;
    std::thread::sleep(REST);
    let before =
        observer.map(Observer::memory).transpose().map_err(|error| format!("no memory to be read: {error}"))?;
    let began = Instant::now();
    let started = parts.iter().map(|part| ChildProcess::start(part, arguments)).collect::<Result<Vec<_>, _>>()?;
    let ready = started.into_iter().map(ChildProcess::wait_until_ready).collect::<Result<Vec<_>, _>>()?;
    let opening_s = began.elapsed().as_secs_f64();
    crate::commands::note(&format!("all are open after {opening_s:.1} s; holding them"));
    let first = mark(began, observer);
    hold(load.measured, stop);
    let last = mark(began, observer);
    let after = observer.map(Observer::memory).transpose().map_err(|error| format!("no memory to be read: {error}"))?;
    let results = ready.into_iter().map(ChildProcess::finish).collect::<Result<Vec<_>, _>>()?;
    let tally = add_up(&results)?;
    let opened = tally.counts.opened;
    let outcome = Outcome {
        window: Window { from_ns: first.at_ns, until_ns: last.at_ns },
        tally,
        marks: vec![vec![first, last]],
        seconds: Vec::new(),
        memory: after.map(|memory| (opening_s, memory)).into_iter().collect(),
        allowed_cpus: observer.and_then(Observer::allowed_cpus),
        interrupted: stop.load(Ordering::Relaxed),
    };
    let mut report = Report::of(load, &outcome);
    report.memory = before.zip(after).map(|(before, after)| memory(before, after, opened, parts.len(), opening_s));
    Ok(report)
}

fn mark(began: Instant, observer: Option<&Observer>) -> Mark {
    Mark {
        at_ns: began.elapsed().as_nanos() as u64,
        worker_cpu_ns: 0,
        worker_busy_ns: 0,
        observed: observer.and_then(|observer| observer.observe().ok()),
    }
}

fn hold(span: Duration, stop: &AtomicBool) {
    let began = Instant::now();
    while began.elapsed() < span && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20).min(span));
    }
}

fn memory(before: Memory, after: Memory, opened: u64, processes: usize, opening_s: f64) -> MemoryReport {
    let each = |before: u64, after: u64| (after as f64 - before as f64) / opened.max(1) as f64;
    MemoryReport {
        connections: opened,
        processes,
        user_bytes_per_connection: each(before.pss_bytes, after.pss_bytes),
        kernel_slab_bytes_per_connection: each(before.slab_bytes, after.slab_bytes),
        kernel_socket_bytes_per_connection: each(before.tcp_memory_bytes, after.tcp_memory_bytes),
        before_pss_bytes: before.pss_bytes,
        after_pss_bytes: after.pss_bytes,
        opening_s,
    }
}

fn add_up(results: &[ChildResult]) -> Result<Tally, String> {
    let mut sum = Tally::new();
    for result in results {
        let mut tally = Tally::new();
        tally.counts.opened = result.opened;
        tally.counts.resumed = result.resumed;
        tally.wire.compressed_connections = result.compressed;
        tally.counts.sent = result.sent;
        tally.counts.planned = result.sent;
        tally.counts.answered = result.answered;
        tally.counts.arrived = result.arrived;
        tally.counts.lost = result.lost;
        tally.errors = result.errors.clone();
        tally.error_words = result.error_words.clone();
        tally.response = deserialise(&result.response)?;
        tally.opening = deserialise(&result.opening)?;
        tally.lateness = deserialise(&result.lateness)?;
        sum.add(&tally);
    }
    Ok(sum)
}

fn serialise(latencies: &Latencies) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    V2Serializer::new()
        .serialize(latencies, &mut bytes)
        .map_err(|error| format!("a histogram cannot be handed over: {error:?}"))?;
    Ok(bytes)
}

fn deserialise(bytes: &[u8]) -> Result<Latencies, String> {
    let mut reader = bytes;
    Deserializer::new().deserialize(&mut reader).map_err(|error| format!("a child's histogram is broken: {error:?}"))
}

/// A child that has been started.
struct ChildProcess {
    child: Child,
    /// Its end is the sign to end.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl ChildProcess {
    fn start(part: &Part, arguments: &[String]) -> Result<Self, String> {
        let failed = |error| format!("another process of this tool cannot be started: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(arguments).arg("--child").args(["--connections", &part.connections.to_string()]);
        for source in &part.sources {
            command.args(["--source", &source.to_string()]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("a child has no output")?;
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    fn wait_until_ready(mut self) -> Result<Self, String> {
        if self.line()?.trim() == "ready" { Ok(self) } else { Err("a part of the crowd could not begin".to_owned()) }
    }

    fn finish(mut self) -> Result<ChildResult, String> {
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.flush();
        }
        let line = self.line()?;
        let _ = self.child.wait();
        serde_json::from_str(&line).map_err(|error| format!("a part of the crowd ended without a result: {error}"))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(|error| format!("a part of the crowd fell silent: {error}"))?;
        Ok(line)
    }
}

/// Connections from one source address to one server: the usual range of ephemeral ports has 28,232.
const PORTS_PER_ADDRESS: usize = 25_000;
/// Connections of the wave before the first look.
const WARM_UP_CONNECTIONS: usize = 200;
/// For memory to be given back after it.
const REST: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_divided_by_descriptors_and_ports() {
        let server = IpAddr::from(Ipv4Addr::LOCALHOST);
        let parts = divide(50_000, None, 19_936, server);
        let sizes: Vec<usize> = parts.iter().map(|part| part.connections).collect();
        assert_eq!(sizes, [16_667, 16_667, 16_666]);
        let mut sources: Vec<IpAddr> = parts.iter().flat_map(|part| part.sources.clone()).collect();
        sources.dedup();
        assert_eq!(sources.len(), 3, "an address each");
        let one = divide(60_000, Some(1), 100_000, server);
        assert_eq!((one.len(), one[0].sources.len()), (1, 3));
        assert!(divide(1000, None, 19_936, server)[0].sources.is_empty(), "no need to choose");
        assert!(
            divide(60_000, None, 100_000, IpAddr::from([192, 0, 2, 1]))[0].sources.is_empty(),
            "not ours to choose"
        );
    }

    #[test]
    fn a_histogram_survives_the_pipe() {
        let mut latencies = crate::latency::empty();
        latencies.saturating_record_n(12_345, 7);
        assert_eq!(deserialise(&serialise(&latencies).unwrap()).unwrap(), latencies);
    }
}
