//! `corewire-load`: a benchmark for any WebSocket server.
//!
//! From the inside out, and each knows only what stands above it:
//!
//! - `units`, `sizes`, `payload`, `schedule`, `ledger`, `latency`, `target`: values and arithmetic. No clock, no socket.
//! - `clock`, `tally`, `link`: what a worker holds. No runtime.
//! - `scenario`: what is done with the connections, a file each. Decides, never awaits.
//! - `transport`, `worker`: bytes and time. The only ones that know monoio.
//! - `observe`, `spawn`: the server as `/proc` shows it, and its life.
//! - `board`, `conduct`: one run of several workers.
//! - `report`: what is said about a run.
//! - `compare`: many short runs, and ratios.
//! - `args`, `main`: the command line.

mod args;
mod board;
mod clock;
mod compare;
mod conduct;
mod latency;
mod ledger;
mod link;
mod observe;
mod payload;
mod report;
mod scenario;
mod schedule;
mod sizes;
mod spawn;
mod tally;
mod target;
mod transport;
mod units;
mod worker;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use corewire::protocol::MessageKind;

use args::{Command, CommandLine, Common, EchoArgs};
use conduct::{Load, Progress, ScenarioPlan};
use observe::Observer;
use report::Report;
use scenario::echo::EchoPlan;
use spawn::Server;
use target::Target;
use units::{show_count, show_ns};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Echo(args) => echo(&args),
        Command::Compare { plan, json } => compare::run(&plan, json.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Where nothing can be done about a failure.
            let _ = writeln!(io::stderr(), "error: {reason}");
            ExitCode::from(EXIT_BAD_INPUT)
        }
    }
}

fn echo(args: &EchoArgs) -> Result<(), String> {
    let kind = if args.text { MessageKind::Text } else { MessageKind::Binary };
    let inflight = match (args.inflight, args.rate) {
        (Some(inflight), _) => usize::try_from(inflight).unwrap_or(usize::MAX),
        (None, None) => 1,
        (None, Some(_)) => usize::MAX,
    };
    let plan = EchoPlan {
        sizes: args.size.clone(),
        rate_per_second: args.rate,
        inflight,
        timeout_ns: args.common.timeout.as_nanos() as u64,
    };
    run(&args.common, kind, ScenarioPlan::Echo(plan))
}

/// One scenario, with everything around it.
fn run(common: &Common, kind: MessageKind, plan: ScenarioPlan) -> Result<(), String> {
    let load = load_of(common, kind, plan)?;
    let mut server = match &common.spawn {
        Some(command) => Some(Server::start(command, common.server_core)?),
        None => None,
    };
    if let Some(server) = &mut server {
        server.wait_until_it_listens(load.address, common.timeout)?;
    }
    let pid = common.pid.or(server.as_ref().map(Server::pid));
    let observer = pid.map(Observer::new).transpose()?;
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))
        .map_err(|error| format!("Ctrl-C cannot be caught: {error}"))?;
    let outcome = conduct::conduct(&load, observer.as_ref(), &stop, |progress| {
        if !common.quiet {
            show_progress(&progress);
        }
    })?;
    let report = Report::of(&load, &outcome);
    print(&report.to_string())?;
    if let Some(path) = &common.json {
        let json = serde_json::to_string_pretty(&report).map_err(|error| format!("no JSON: {error}"))?;
        write_file(path, &json)?;
    }
    Ok(())
}

fn load_of(common: &Common, kind: MessageKind, plan: ScenarioPlan) -> Result<Load, String> {
    let target = Target::parse(&common.url).map_err(|error| error.to_string())?;
    let address = target.resolve(common.i_may_load_this_host).map_err(|error| error.to_string())?;
    let roots = common.tls_roots.as_deref().map(read_file).transpose()?;
    let connections = usize::try_from(common.connections).unwrap_or(usize::MAX);
    check_connections(connections)?;
    Ok(Load {
        tls: conduct::tls_client(&target, roots.as_deref())?,
        target,
        address,
        headers: common.headers.iter().map(|field| header(field)).collect::<Result<_, _>>()?,
        subprotocols: common.subprotocols.clone(),
        connections,
        kind,
        cores: choose_cores(&common.cores)?,
        spin: common.spin,
        warm_up: common.warm_up,
        measured: check_span(common.measured)?,
        ramp_per_second: common.ramp.map(|ramp| ramp as f64),
        timeout: common.timeout,
        plan,
    })
}

/// Refuses what cannot be opened, before anything is opened.
fn check_connections(connections: usize) -> Result<(), String> {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    // What is not needed by default may be had: the hard limit is what counts.
    let raised = rustix::process::Rlimit { current: limits.maximum, maximum: limits.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(DESCRIPTORS_KEPT);
    if connections > most || connections > payload::ORIGIN_MAX as usize {
        return Err(format!(
            "{connections} connections are more than this process may open: {most}, by its limit of {limit} file \
             descriptors (`ulimit -Hn`)"
        ));
    }
    Ok(())
}

fn check_span(span: std::time::Duration) -> Result<std::time::Duration, String> {
    if span.is_zero() { Err("--for must be longer than nothing".to_owned()) } else { Ok(span) }
}

/// The cores asked for, or the last one that is allowed.
fn choose_cores(asked: &[usize]) -> Result<Vec<usize>, String> {
    let allowed: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if let Some(core) = asked.iter().find(|core| !allowed.contains(core)) {
        return Err(format!("core {core} does not exist or is not allowed; there are {allowed:?}"));
    }
    if asked.is_empty() { Ok(allowed.last().copied().into_iter().collect()) } else { Ok(asked.to_vec()) }
}

fn header(field: &str) -> Result<(String, String), String> {
    let (name, value) =
        field.split_once(':').ok_or_else(|| format!("`{field}` is no header field: try Name: value"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn show_progress(progress: &Progress<'_>) {
    let mut stderr = io::stderr().lock();
    let terminal = stderr.is_terminal();
    let text = match progress {
        Progress::Opening => "opening connections".to_owned(),
        Progress::Second { number, of, interval } => {
            let (p50_ns, p99_ns) =
                (interval.response.value_at_quantile(0.5), interval.response.value_at_quantile(0.99));
            format!(
                "{number:>4}/{of} s  {:>11} sent/s  {:>11} arrived/s  {} open  {} errors  p50 {}  p99 {}",
                show_count(interval.sent),
                show_count(interval.arrived),
                show_count(interval.open),
                interval.errors,
                show_ns(p50_ns),
                show_ns(p99_ns),
            )
        }
    };
    // Nothing depends on it.
    let _ = if terminal { write!(stderr, "\r\x1b[K{text}") } else { writeln!(stderr, "{text}") };
}

/// Tells what goes on.
pub(crate) fn note(text: &str) {
    // Nothing depends on it.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes to stdout. A reader that has left is no failure.
pub(crate) fn print(text: &str) -> Result<(), String> {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("the report cannot be shown: {error}")),
        _ => Ok(()),
    }
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

/// Something was asked for that cannot be had.
const EXIT_BAD_INPUT: u8 = 2;
/// Descriptors that are not connections: the ring, timers, files of `/proc`, standard streams.
const DESCRIPTORS_KEPT: usize = 64;
