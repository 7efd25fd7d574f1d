//! From the command line to a result: what each subcommand makes of its arguments.

mod topics;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::ValueEnum;
use corewire::protocol::MessageKind;

use crate::args::{Command, Common, EchoArgs, FanoutArgs, IdleArgs, IdleWire, SlowArgs, StormArgs};
use crate::compare::{self, Choice};
use crate::conduct::{self, Load, ScenarioPlan};
use crate::crowd::{self, Stages};
use crate::mix;
use crate::observe::Observer;
use crate::payload;
use crate::report::{Report, hdr, html};
use crate::scenario::echo::EchoPlan;
use crate::scenario::fanout::{FanoutPlan, Pace};
use crate::scenario::idle::{IdlePlan, IdleTopics};
use crate::scenario::slow::SlowPlan;
use crate::scenario::storm::StormPlan;
use crate::spawn::Server;
use crate::target::{Scheme, Target};
use crate::template::Template;
use crate::view::View;

/// Does what the command line says.
///
/// # Errors
///
/// A sentence.
pub(crate) fn execute(command: Command) -> Result<(), String> {
    match &command {
        Command::Compare { json, html, .. } | Command::Run { json, html, .. } => check_reports([json, html])?,
        scenario => {
            let common = common_of(scenario).ok_or("this is no scenario")?;
            check_reports([&common.json, &common.html, &common.hdr])?;
        }
    }
    match command {
        Command::Compare { plan, cases, servers, json, html } => {
            compare::run(&plan, &Choice { cases, servers }, json.as_deref(), html.as_deref())
        }
        Command::Run { plan, json, html } => mix::run(&plan, json.as_deref(), html.as_deref()),
        Command::Idle(args) if args.child => crowd::child(&idle_load(&args)?.0),
        scenario => {
            let stop = stop_on_interrupt()?;
            let common = common_of(&scenario).ok_or("this is no scenario")?.clone();
            let (server, observer) = server_of(&common)?;
            let report = run_scenario(&scenario, observer.as_ref(), &stop)?;
            drop(server);
            print(&report.to_string())?;
            write_reports(&[&report], common.json.as_deref(), common.html.as_deref())
        }
    }
}

/// Runs one scenario. Its server is there already.
///
/// # Errors
///
/// A sentence.
pub(crate) fn run_scenario(
    command: &Command,
    observer: Option<&Observer>,
    stop: &AtomicBool,
) -> Result<Report, String> {
    if let Command::Idle(args) = command {
        let (load, arguments) = idle_load(args)?;
        let processes = args.processes.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        let parts = crowd::divide(load.connections, processes, connections_max(), load.address.ip());
        let spin = load.spin && parts.len() == 1;
        let arguments: Vec<String> = arguments.into_iter().chain(spin.then(|| "--spin".to_owned())).collect();
        return crowd::run(&load, &parts, &arguments, &stages(args), observer, stop);
    }
    let common = common_of(command).ok_or("this is no scenario")?;
    let load = load_for(command)?;
    check_connections(load.connections)?;
    let mut view = View::new(format!("{} {}", load.plan.name(), load.target), common.quiet);
    let outcome = conduct::conduct(&load, observer, stop, |progress| view.show(&progress))?;
    drop(view);
    if let Some(path) = &common.hdr {
        hdr::write(path, &outcome)?;
    }
    Ok(Report::of(&load, &outcome))
}

/// What a scenario comes to; `idle` is more than one.
pub(crate) fn load_for(command: &Command) -> Result<Load, String> {
    let common = common_of(command).ok_or("this is no scenario")?;
    Ok(match command {
        Command::Echo(args) => load_of(common, kind_of(args.text), ScenarioPlan::Echo(echo_plan(args)))?,
        Command::Fanout(args) if args.wire.is_some() => topics::fanout_load(args)?,
        Command::Fanout(args) => fanout_load(args)?,
        Command::Recovery(args) => topics::recovery_load(args)?,
        Command::Storm(args) => load_of(common, MessageKind::Binary, ScenarioPlan::Storm(storm_plan(args)))?,
        Command::Slow(args) => load_of(common, kind_of(args.echo.text), ScenarioPlan::Slow(slow_plan(args)))?,
        Command::Idle(_) | Command::Run { .. } | Command::Compare { .. } => {
            return Err("this is no scenario".to_owned());
        }
    })
}

/// What a scenario shares with all others.
pub(crate) fn common_of(command: &Command) -> Option<&Common> {
    match command {
        Command::Echo(args) => Some(&args.common),
        Command::Idle(args) => Some(&args.common),
        Command::Fanout(args) => Some(&args.common),
        Command::Recovery(args) => Some(&args.common),
        Command::Storm(args) => Some(&args.common),
        Command::Slow(args) => Some(&args.echo.common),
        Command::Run { .. } | Command::Compare { .. } => None,
    }
}

/// Starts the server if that is wanted, and the observer of it.
pub(crate) fn server_of(common: &Common) -> Result<(Option<Server>, Option<Observer>), String> {
    let target = Target::parse(&common.url).map_err(|error| error.to_string())?;
    let address = target.resolve(common.i_may_load_this_host).map_err(|error| error.to_string())?;
    raise_open_files_max();
    let mut server = match &common.spawn {
        Some(command) => Some(Server::start(command, common.server_core)?),
        None => None,
    };
    if let Some(server) = &mut server {
        server.wait_until_it_listens(address, common.timeout)?;
    }
    let pid = common.pid.or(server.as_ref().map(Server::pid));
    Ok((server, pid.map(Observer::new).transpose()?))
}

/// Ctrl-C ends the measuring; what was measured is still told.
pub(crate) fn stop_on_interrupt() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| format!("Ctrl-C cannot be caught: {error}"))?;
    }
    Ok(stop)
}

/// A report that cannot be written is better known before the run than after it.
fn check_reports<const COUNT: usize>(paths: [&Option<PathBuf>; COUNT]) -> Result<(), String> {
    for path in paths.into_iter().flatten() {
        let open = std::fs::OpenOptions::new().append(true).create(true).open(path);
        open.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    Ok(())
}

/// Writes what is wanted of JSON and page.
pub(crate) fn write_reports(reports: &[&Report], json: Option<&Path>, page: Option<&Path>) -> Result<(), String> {
    if let Some(path) = json {
        let text = match reports {
            [one] => serde_json::to_string_pretty(one),
            many => serde_json::to_string_pretty(many),
        };
        write_file(path, &text.map_err(|error| format!("no JSON: {error}"))?)?;
    }
    match page {
        Some(path) => write_file(path, &html::page(reports)),
        None => Ok(()),
    }
}

// ---- plans -------------------------------------------------------------------------------------------------------

fn kind_of(text: bool) -> MessageKind {
    if text { MessageKind::Text } else { MessageKind::Binary }
}

fn echo_plan(args: &EchoArgs) -> EchoPlan {
    let inflight = match (args.inflight, args.rate) {
        (Some(inflight), _) => usize::try_from(inflight).unwrap_or(usize::MAX),
        (None, None) => 1,
        (None, Some(_)) => usize::MAX,
    };
    EchoPlan {
        sizes: args.size.clone(),
        rate_per_second: args.rate,
        inflight,
        timeout_ns: args.common.timeout.as_nanos() as u64,
    }
}

fn storm_plan(args: &StormArgs) -> StormPlan {
    match args.drop {
        None => StormPlan::Churn { rate_per_second: args.rate, hold_ns: args.hold.as_nanos() as u64 },
        Some(share) => StormPlan::Drop {
            share,
            echo: EchoPlan {
                sizes: "64".parse().expect("64 is a size"),
                rate_per_second: args.message_rate,
                inflight: if args.message_rate.is_some() { usize::MAX } else { 1 },
                timeout_ns: args.common.timeout.as_nanos() as u64,
            },
        },
    }
}

fn slow_plan(args: &SlowArgs) -> SlowPlan {
    SlowPlan {
        share: args.slow,
        read_bytes_per_second: args.slow_read as u64,
        slow_len: args.slow_size,
        echo: echo_plan(&args.echo),
    }
}

fn fanout_load(args: &FanoutArgs) -> Result<Load, String> {
    let publish = args.publish.as_deref().map(Template::parse);
    let subscribe = args.subscribe.as_deref().map(Template::parse);
    if args.topics > 1 && (publish.is_none() || subscribe.is_none()) {
        return Err(
            "several topics need --wire, or --subscribe and --publish: otherwise everybody hears everything".to_owned()
        );
    }
    if args.api.publish_url.is_some() {
        return Err("--publish-url needs --wire: without it, whoever publishes is a WebSocket client".to_owned());
    }
    args.token.refuse_without_wire()?;
    if publish.as_ref().is_some_and(|publish| !publish.has_payload()) {
        return Err("--publish has no {payload} in it: nothing would be published".to_owned());
    }
    if publish.is_some() && !args.text {
        return Err("a template is text: say --text too".to_owned());
    }
    if args.topics > args.common.connections {
        return Err(format!("{} topics are more than there are subscribers", args.topics));
    }
    if args.publishers > 1 && args.size < payload::STAMP_LEN {
        return Err(format!("several publishers need messages of {} bytes, to be told apart", payload::STAMP_LEN));
    }
    let publishers = usize::try_from(args.publishers).unwrap_or(usize::MAX);
    let pairs = args.publishers.saturating_mul(args.common.connections.max(args.topics));
    if pairs > PAIRS_MAX {
        return Err(format!("{publishers} publishers are too many for so many subscribers: {PAIRS_MAX} pairs at most"));
    }
    let pace = match args.inflight {
        Some(inflight) => Pace::Closed { inflight: usize::try_from(inflight).unwrap_or(usize::MAX) },
        None => Pace::Open { rate_per_second: args.rate.unwrap_or(FANOUT_RATE), burst: args.burst },
    };
    let plan = FanoutPlan {
        len: args.size,
        publishers,
        topics: usize::try_from(args.topics).unwrap_or(usize::MAX),
        pace,
        timeout_ns: args.common.timeout.as_nanos() as u64,
        subscribe,
        publish,
    };
    let mut load = load_of(&args.common, kind_of(args.text), ScenarioPlan::Fanout(plan))?;
    load.connections = load.connections.saturating_add(publishers);
    match pace {
        Pace::Closed { .. } if publishers < load.cores.len() => {
            Err(format!("{} cores need as many --publishers, one each, with --inflight", load.cores.len()))
        }
        Pace::Closed { inflight } if inflight > INFLIGHT_MAX => {
            Err(format!("{inflight} publications under way are too many: {INFLIGHT_MAX} at most"))
        }
        Pace::Open { rate_per_second, burst } if rate_per_second / (burst as f64) < 0.001 => {
            Err(format!("a --burst of {burst} at {rate_per_second} per second leaves hardly ever"))
        }
        Pace::Closed { .. } | Pace::Open { .. } => Ok(load),
    }
}

fn stages(args: &IdleArgs) -> Stages {
    Stages {
        settle: args.settle,
        sparse_every: args.sparse_every,
        hot_for: args.hot_for,
        waves: usize::try_from(args.waves).unwrap_or(usize::MAX),
    }
}

/// The whole crowd, and the arguments that start one of its processes.
fn idle_load(args: &IdleArgs) -> Result<(Load, Vec<String>), String> {
    let common = &args.common;
    let per_second = |every: Duration| common.connections as f64 / every.as_secs_f64().max(1e-3);
    let pings_per_second = args.heartbeat.map(per_second);
    let held_ping_free = common.measured <= UNREAD_SPAN_MAX;
    if args.wire.is_none() {
        args.token.refuse_without_wire()?;
    }
    let token = topics::read_token(&args.token)?;
    let plan = IdlePlan {
        pings_per_second,
        sparse_per_second: args.sparse_every.map(per_second),
        reads: pings_per_second.is_some() || !held_ping_free,
        topics: args.wire.map(|wire| IdleTopics {
            is_v1: wire == IdleWire::V1,
            topics: args.topics,
            first_link: args.first,
            timeout_ns: common.timeout.as_nanos() as u64,
            token,
        }),
        talk: Arc::default(),
    };
    let mut load = load_of(common, MessageKind::Binary, ScenarioPlan::Idle(plan))?;
    if let Some(wire) = args.wire {
        topics::speak(&mut load, wire == IdleWire::V1)?;
    }
    load.warm_up = Duration::ZERO;
    load.sources.clone_from(&args.sources);
    if args.child {
        // It holds until it is told otherwise.
        load.measured = CHILD_SPAN;
        check_connections(load.connections)?;
    }
    let mut arguments = vec!["idle".to_owned(), common.url.clone()];
    let mut add = |name: &str, value: Option<String>| {
        arguments.push(format!("--{name}"));
        arguments.extend(value);
    };
    let milliseconds = |span: Duration| Some(format!("{}ms", span.as_millis()));
    add("timeout", milliseconds(common.timeout));
    add("for", milliseconds(common.measured));
    if let Some(heartbeat) = args.heartbeat {
        add("heartbeat", milliseconds(heartbeat));
    }
    if let Some(every) = args.sparse_every {
        add("sparse-every", milliseconds(every));
    }
    if let Some(wire) = args.wire {
        add("wire", wire.to_possible_value().map(|value| value.get_name().to_owned()));
        add("topics", Some(args.topics.to_string()));
    }
    if let Some(token) = &args.token.token {
        add("token", Some(token.clone()));
    }
    if let Some(file) = &args.token.token_file {
        add("token-file", Some(file.display().to_string()));
    }
    if let Some(ramp) = common.ramp {
        let processes = common.connections.div_ceil(connections_max() as u64).max(args.processes.unwrap_or(1));
        add("ramp", Some((ramp / processes).max(1).to_string()));
    }
    for header in &common.headers {
        add("header", Some(header.clone()));
    }
    for subprotocol in &common.subprotocols {
        add("subprotocol", Some(subprotocol.clone()));
    }
    if let Some(roots) = &common.tls_roots {
        add("tls-roots", Some(roots.display().to_string()));
    }
    for (name, set) in [
        ("tls-full", common.tls_full),
        ("compress", common.compress),
        ("i-may-load-this-host", common.i_may_load_this_host),
    ] {
        if set {
            add(name, None);
        }
    }
    if !common.cores.is_empty() {
        let cores: Vec<String> = common.cores.iter().map(ToString::to_string).collect();
        add("cores", Some(cores.join(",")));
    }
    Ok((load, arguments))
}

fn load_of(common: &Common, kind: MessageKind, plan: ScenarioPlan) -> Result<Load, String> {
    let target = Target::parse(&common.url).map_err(|error| error.to_string())?;
    let address = target.resolve(common.i_may_load_this_host).map_err(|error| error.to_string())?;
    let roots = common.tls_roots.as_deref().map(read_file).transpose()?;
    if common.compress && target.scheme == Scheme::Tcp {
        return Err("--compress is agreed in the handshake, and tcp:// has none".to_owned());
    }
    if common.measured.is_zero() {
        return Err("--for must be longer than nothing".to_owned());
    }
    Ok(Load {
        tls: conduct::tls_dial(&target, roots, common.tls_full)?,
        sources: Vec::new(),
        target,
        address,
        headers: common.headers.iter().map(|field| header(field)).collect::<Result<_, _>>()?,
        subprotocols: common.subprotocols.clone(),
        compress: common.compress,
        connections: usize::try_from(common.connections).unwrap_or(usize::MAX),
        kind,
        cores: choose_cores(&common.cores)?,
        spin: common.spin,
        warm_up: common.warm_up,
        measured: common.measured,
        cool_down: common.cool_down,
        ramp_per_second: common.ramp.map(|ramp| ramp as f64),
        timeout: common.timeout,
        plan,
    })
}

/// Refuses what cannot be opened, before anything is opened.
pub(crate) fn check_connections(connections: usize) -> Result<(), String> {
    let most = connections_max();
    if connections > most {
        return Err(format!(
            "{connections} connections are more than this process may open: {most}, by its limit of file descriptors \
             (`ulimit -Hn`). `idle` divides them among several processes by itself"
        ));
    }
    Ok(())
}

/// How many connections this process may hold, once its limit has been raised.
fn connections_max() -> usize {
    raise_open_files_max();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(DESCRIPTORS_KEPT);
    most.min(payload::ORIGIN_MAX as usize)
}

/// As far as it may be. What this process starts inherits it.
pub(crate) fn raise_open_files_max() {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limits.maximum, maximum: limits.maximum };
    // Where that is forbidden, the limit that is read next is the one that holds.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// The cores asked for, or the last one that is allowed.
pub(crate) fn choose_cores(asked: &[usize]) -> Result<Vec<usize>, String> {
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

// ---- input and output --------------------------------------------------------------------------------------------

/// Tells what goes on.
pub(crate) fn note(text: &str) {
    // Nothing depends on it.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes to stdout. A reader that has left is no failure.
pub(crate) fn print(text: &str) -> Result<(), String> {
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

/// Publications per second, if nothing else is said.
const FANOUT_RATE: f64 = 10.0;
/// Publisher and subscriber: what is remembered of each pair takes 40 bytes.
const PAIRS_MAX: u64 = 20_000_000;
/// Publications that are remembered, of one publisher and of all.
const INFLIGHT_MAX: usize = 1 << 16;
/// Descriptors that are not connections: the ring, timers, files of `/proc`, standard streams.
const DESCRIPTORS_KEPT: usize = 64;
/// A server's first ping may wait this long for its pong: so long, idle connections need not be read.
const UNREAD_SPAN_MAX: Duration = Duration::from_secs(20);
/// Longer than anybody holds a crowd.
const CHILD_SPAN: Duration = Duration::from_secs(7 * 24 * 3600);
