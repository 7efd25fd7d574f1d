//! `idle` over several processes: one has not enough descriptors for a crowd. This one counts and reads the memory.
//!
//! The crowd comes, is silent, talks now and then, talks hot, falls silent, and leaves: the stages that are wanted, in
//! this order, and all of it again with the next wave.

mod child;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::conduct::{Load, Outcome};
use crate::observe::{self, Memory, Observer};
use crate::report::Report;
use crate::report::memory::{CacheReport, HeatReport, MemoryReport, SparseReport, WaveReport};
use crate::tally::{Tally, Window};
use crate::worker::Mark;

pub(crate) use child::child;

use child::ChildProcess;

/// A child's part of the crowd.
pub(crate) struct Part {
    /// Connections of the parts before it.
    pub(crate) first: usize,
    pub(crate) connections: usize,
    pub(crate) sources: Vec<IpAddr>,
}

/// What the crowd does beside being silent.
#[derive(Clone, Debug)]
pub(crate) struct Stages {
    /// Silence before memory is read, where it is not the measured time itself.
    pub(crate) settle: Duration,
    /// Each says something this often, for the measured time.
    pub(crate) sparse_every: Option<Duration>,
    /// Everybody talks as fast as it goes, for so long.
    pub(crate) hot_for: Option<Duration>,
    pub(crate) waves: usize,
}

/// How `connections` are divided among processes of at most `each_max`, with addresses that have enough ports.
pub(crate) fn divide(connections: usize, processes: Option<usize>, each_max: usize, server: IpAddr) -> Vec<Part> {
    let count = processes.unwrap_or_else(|| connections.div_ceil(each_max)).clamp(1, connections.max(1));
    let (mut next_source, mut first) = (1, 0);
    (0..count)
        .map(|index| {
            let part = connections / count + usize::from(index < connections % count);
            let addresses = if has_sources(server) && connections > PORTS_PER_ADDRESS {
                part.div_ceil(PORTS_PER_ADDRESS)
            } else {
                0
            };
            let sources = (next_source..).take(addresses).map(source).collect();
            next_source += addresses as u16;
            first += part;
            Part { first: first - part, connections: part, sources }
        })
        .collect()
}

/// Addresses from which one process may use so many ports; none if the kernel's choice has enough, or there are no others.
pub(crate) fn sources(ports: usize, server: IpAddr) -> Vec<IpAddr> {
    let count = if has_sources(server) && ports > PORTS_PER_ADDRESS { ports.div_ceil(PORTS_PER_ADDRESS) } else { 0 };
    (1..).take(count).map(source).collect()
}

/// Whether there are more addresses from which the server can be reached.
fn has_sources(server: IpAddr) -> bool {
    server.is_ipv4() && server.is_loopback()
}

fn source(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from(Ipv4Addr::new(127, 1, high, low))
}

/// Runs the crowd and reads the memory before, in between and after.
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
    stages: &Stages,
    observer: Option<&Observer>,
    stop: &AtomicBool,
) -> Result<Report, String> {
    if let Some(limit) = observer.and_then(Observer::open_files_max) {
        check_server(load.connections, limit)?;
    }
    // What the first connections cost is the server's preparation, not theirs.
    let wave = Part { first: 0, connections: load.connections.min(WARM_UP_CONNECTIONS), sources: Vec::new() };
    ChildProcess::start(&wave, arguments)?.wait_until_ready()?.finish()?;
    std::thread::sleep(REST);
    let run = Run { load, parts, arguments, stages, observer, stop, began: Instant::now(), before: look(observer)? };
    let mut found = Found { tally: Tally::new(), marks: Vec::new(), held: None, memory: None };
    for wave in 1..=stages.waves {
        if stages.waves > 1 {
            crate::commands::note(&format!("wave {wave} of {}", stages.waves));
        }
        run.wave(&mut found)?;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    let Found { tally, marks, held, memory } = found;
    let (Some(first), Some(last)) = (marks.first(), marks.last()) else { return Err("nobody came".to_owned()) };
    let outcome = Outcome {
        window: Window { from_ns: first.at_ns, until_ns: last.at_ns },
        tally,
        marks: vec![marks],
        seconds: Vec::new(),
        memory: held.into_iter().collect(),
        allowed_cpus: observer.and_then(Observer::allowed_cpus),
        interrupted: stop.load(Ordering::Relaxed),
    };
    let mut report = Report::of(load, &outcome);
    report.memory = memory;
    Ok(report)
}

/// Refuses what the server cannot hold, before anything is opened.
fn check_server(connections: usize, limit: u64) -> Result<(), String> {
    let connections = connections as u64;
    if connections.saturating_add(SERVER_DESCRIPTORS_KEPT) > limit {
        return Err(format!(
            "the server may hold {limit} files open (Max open files in its /proc/PID/limits), too few for \
             {connections} connections: raise `ulimit -n` where it is started"
        ));
    }
    Ok(())
}

/// What does not change while the waves come.
struct Run<'a> {
    load: &'a Load,
    parts: &'a [Part],
    arguments: &'a [String],
    stages: &'a Stages,
    observer: Option<&'a Observer>,
    stop: &'a AtomicBool,
    began: Instant,
    before: Option<Look>,
}

/// What the waves have brought.
struct Found {
    tally: Tally,
    /// When a wave was complete, and when it was told to leave.
    marks: Vec<Mark>,
    /// While the first wave was held, with the seconds since the beginning.
    held: Option<(f64, Memory)>,
    memory: Option<MemoryReport>,
}

/// One look at memory.
struct Look {
    memory: Memory,
    /// The kernel's, by cache; `None` where that may not be read.
    caches: Option<BTreeMap<String, u64>>,
}

impl Run<'_> {
    /// The crowd comes, does what the stages say, and leaves.
    fn wave(&self, found: &mut Found) -> Result<(), String> {
        let began = Instant::now();
        let started =
            self.parts.iter().map(|part| ChildProcess::start(part, self.arguments)).collect::<Result<Vec<_>, _>>()?;
        let mut crowd = started.into_iter().map(ChildProcess::wait_until_ready).collect::<Result<Vec<_>, _>>()?;
        let opening_s = began.elapsed().as_secs_f64();
        crate::commands::note(&format!("all are open after {opening_s:.1} s; holding them"));
        found.marks.push(self.mark());
        let is_first = found.memory.is_none();
        if is_first || self.stages.hot_for.is_none() {
            self.hold(if self.stages.sparse_every.is_some() { self.stages.settle } else { self.load.measured });
        }
        let (mut held, mut sparse, mut heat) = (None, None, None);
        if is_first {
            held = look(self.observer)?;
            found.held = held.as_ref().map(|held| (self.began.elapsed().as_secs_f64(), held.memory));
            sparse = self.sparse(&mut crowd)?;
        }
        let hot_messages = self.heat(&mut crowd)?;
        if hot_messages.is_some() && is_first {
            heat = look(self.observer)?;
        }
        found.marks.push(self.mark());
        let results = crowd.into_iter().map(ChildProcess::finish).collect::<Result<Vec<_>, _>>()?;
        let opened = results.iter().map(child::ChildResult::opened).sum();
        for result in results {
            found.tally.add(&result.into_tally()?);
        }
        if let (Some(before), Some(held)) = (&self.before, &held) {
            let mut memory = self.held_report(before, held, opened, opening_s);
            memory.sparse = sparse.map(|(look, sparse)| SparseReport {
                user_bytes_per_connection: each(before.memory.pss_bytes, look.memory.pss_bytes, opened),
                ..sparse
            });
            memory.after_heat = heat.zip(hot_messages).map(|(look, messages)| HeatReport {
                hot_s: self.stages.hot_for.unwrap_or_default().as_secs_f64(),
                settled_s: self.stages.settle.as_secs_f64(),
                messages,
                user_bytes_per_connection: each(before.memory.pss_bytes, look.memory.pss_bytes, opened),
                kernel_slab_bytes_per_connection: each(before.memory.slab_bytes, look.memory.slab_bytes, opened),
            });
            found.memory = Some(memory);
        }
        if self.stages.waves > 1
            && let Some(memory) = &mut found.memory
        {
            self.hold(self.stages.settle);
            if let Some(left) = look(self.observer)? {
                memory.waves.push(WaveReport {
                    connections: opened,
                    hot_messages: hot_messages.unwrap_or(0),
                    resident_bytes: left.memory.rss_bytes,
                    pss_bytes: left.memory.pss_bytes,
                });
            }
        }
        Ok(())
    }

    /// Everybody says something now and then.
    fn sparse(&self, crowd: &mut [ChildProcess]) -> Result<Option<(Look, SparseReport)>, String> {
        let Some(every) = self.stages.sparse_every else { return Ok(None) };
        crate::commands::note(&format!("each says something every {every:?}"));
        order(crowd, "sparse")?;
        self.hold(REST);
        let (first, count_before) = (self.mark(), order(crowd, "count")?);
        self.hold(self.load.measured);
        let (last, count_after) = (self.mark(), order(crowd, "count")?);
        let look = look(self.observer)?;
        order(crowd, "silent")?;
        let messages = count_after - count_before;
        let cpu_ns = first.observed.as_ref().zip(last.observed.as_ref()).map(|(first, last)| last.cpu_ns_since(first));
        let report = SparseReport {
            every_s: every.as_secs_f64(),
            measured_s: (last.at_ns - first.at_ns) as f64 / 1e9,
            messages,
            cpu_per_message_ns: cpu_ns.filter(|_| messages > 0).map(|cpu_ns| cpu_ns as f64 / messages as f64),
            user_bytes_per_connection: 0.0,
        };
        Ok(look.map(|look| (look, report)))
    }

    /// Everybody talks as fast as it goes, falls silent, and the server gets its time to settle. Messages.
    fn heat(&self, crowd: &mut [ChildProcess]) -> Result<Option<u64>, String> {
        let Some(span) = self.stages.hot_for else { return Ok(None) };
        crate::commands::note(&format!("all talk for {span:?}"));
        let before = order(crowd, "hot")?;
        self.hold(span);
        let after = order(crowd, "silent")?;
        self.hold(self.stages.settle);
        Ok(Some(after - before))
    }

    fn mark(&self) -> Mark {
        Mark {
            at_ns: self.began.elapsed().as_nanos() as u64,
            worker_cpu_ns: 0,
            worker_busy_ns: 0,
            observed: self.observer.and_then(|observer| observer.observe().ok()),
        }
    }

    fn hold(&self, span: Duration) {
        let began = Instant::now();
        while began.elapsed() < span && !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20).min(span));
        }
    }

    fn held_report(&self, before: &Look, held: &Look, opened: u64, opening_s: f64) -> MemoryReport {
        let caches = before.caches.as_ref().zip(held.caches.as_ref());
        let caches = caches.map(|(before, held)| cache_reports(before, held, opened));
        MemoryReport {
            connections: opened,
            processes: self.parts.len(),
            user_bytes_per_connection: each(before.memory.pss_bytes, held.memory.pss_bytes, opened),
            kernel_slab_bytes_per_connection: each(before.memory.slab_bytes, held.memory.slab_bytes, opened),
            kernel_socket_bytes_per_connection: each(
                before.memory.tcp_memory_bytes,
                held.memory.tcp_memory_bytes,
                opened,
            ),
            kernel_beyond_sockets_bytes_per_connection: caches.as_ref().map(|caches| {
                let beyond =
                    caches.iter().filter(|cache| BEYOND_SOCKETS.iter().any(|start| cache.name.starts_with(start)));
                beyond.map(|cache| cache.bytes_per_connection).sum()
            }),
            kernel_caches: caches.map(|caches| {
                let worth_telling = |cache: &CacheReport| cache.bytes_per_connection >= CACHE_BYTES_TOLD_MIN;
                caches.into_iter().filter(worth_telling).collect()
            }),
            before_pss_bytes: before.memory.pss_bytes,
            after_pss_bytes: held.memory.pss_bytes,
            opening_s,
            sparse: None,
            after_heat: None,
            waves: Vec::new(),
        }
    }
}

fn look(observer: Option<&Observer>) -> Result<Option<Look>, String> {
    let Some(observer) = observer else { return Ok(None) };
    let memory = observer.memory().map_err(|error| format!("no memory to be read: {error}"))?;
    Ok(Some(Look { memory, caches: observe::kernel_caches().ok() }))
}

/// Has all do something, and waits until all have. Messages answered so far.
fn order(crowd: &mut [ChildProcess], word: &str) -> Result<u64, String> {
    for child in &mut *crowd {
        child.order(word)?;
    }
    crowd.iter_mut().map(ChildProcess::answer).sum()
}

fn each(before: u64, after: u64, connections: u64) -> f64 {
    (after as f64 - before as f64) / connections.max(1) as f64
}

/// What each cache has grown by, the most first.
fn cache_reports(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, connections: u64) -> Vec<CacheReport> {
    let mut caches: Vec<CacheReport> = after
        .iter()
        .map(|(name, &bytes)| CacheReport {
            name: name.clone(),
            bytes_per_connection: each(before.get(name).copied().unwrap_or(0), bytes, connections),
        })
        .collect();
    caches.sort_by(|a, b| b.bytes_per_connection.total_cmp(&a.bytes_per_connection));
    caches
}

/// Connections from one source address to one server: the usual range of ephemeral ports has 28,232.
const PORTS_PER_ADDRESS: usize = 25_000;
/// Connections of the wave before the first look.
const WARM_UP_CONNECTIONS: usize = 200;
/// For memory to be given back after it, and for what begins to become even.
const REST: Duration = Duration::from_millis(500);
/// What a server holds open beside connections, at least: listener, ring or epoll set, standard streams.
const SERVER_DESCRIPTORS_KEPT: u64 = 8;
/// Beginnings of the names of caches that servers fill beside their sockets: epoll, io_uring, and what has no cache of its
/// own. All others are the sockets', or whoever's else on the machine.
const BEYOND_SOCKETS: [&str; 4] = ["eventpoll_", "ep_head", "io_", "kmalloc-"];
/// Below this, a cache has changed by itself.
const CACHE_BYTES_TOLD_MIN: f64 = 4.0;

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
    fn a_server_with_too_few_descriptors_is_told_before() {
        assert!(check_server(1000, 1024).is_ok());
        assert!(check_server(900_000, u64::MAX).is_ok(), "no limit");
        let error = check_server(15_000, 1024).unwrap_err();
        assert!(error.contains("1024 files") && error.contains("15000 connections"), "{error}");
    }

    #[test]
    fn caches_that_grew_are_told_the_most_first() {
        let caches = |pairs: &[(&str, u64)]| pairs.iter().map(|&(name, bytes)| (name.to_owned(), bytes)).collect();
        let (before, after) = (caches(&[("TCP", 100), ("gone", 5)]), caches(&[("TCP", 1100), ("epi", 3000)]));
        let reports = cache_reports(&before, &after, 10);
        let told: Vec<_> = reports.iter().map(|cache| (cache.name.as_str(), cache.bytes_per_connection)).collect();
        assert_eq!(told, [("epi", 300.0), ("TCP", 100.0)]);
    }
}
