//! From a configuration to a running server, and from a signal to its end.

mod back_end;

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use back_end::{BackEnd, Reach};
use corewire::builtin::{Broadcast, Echo, Serve};
use corewire::config::{self, Command, Config, OriginSetting};
use corewire::control::{
    self, Answers, ApiOptions, ApiSettings, BuildInfo, ControlHandle, ControlOptions, ControlSource, CoreMetrics,
    Reload,
};
use corewire::handler::Outside;
use corewire::metrics::Sample;
use corewire::protocol::handshake::OriginPolicy;
use corewire::server::{Builder, ListenAddr, Running, Server, StartError};
use corewire::topics::{Access, Answer, HomeEvent, Ticket, Topic};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::reload::{self, Load, Reached, Setup, SetupError};

/// Why the command ends without having served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file is no good.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The server itself.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The admin listener.
    #[error("admin listener: {0}")]
    Control(#[from] control::ControlError),
    /// The back end that is told and asked.
    #[error("back end: {0}")]
    BackEnd(#[from] corewire::webhooks::SetupError),
    /// Signals cannot be waited for.
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
}

/// Serves until a signal ends it. `load` is for reloads.
pub(crate) fn serve(config: &Config, cores: &[usize], load: Load) -> Result<(), Failure> {
    // Before any thread starts, so that no signal finds the process without a handler.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(Failure::Signals)?;
    raise_open_files();
    let setup = Setup::new(config)?;
    let builder = builder(config, cores, &setup);
    let back_end = BackEnd::prepare(config)?;
    let reach = back_end.reach();
    let (answers, inbox) = control::answers();
    let namespaces = config.namespaces();
    let running = match config.command {
        Command::Serve => {
            let demo_topic = Topic::parse(DEMO_TOPIC).expect("a good name");
            let may_publish = namespaces.of(&demo_topic).publish == Access::Public;
            let admission = setup.admission.clone();
            let ears = Ears { answers, back_end: reach.clone() };
            let (builder, reach) = (builder.namespaces(namespaces.clone()).outside(Arc::new(ears)), reach.clone());
            builder.start(move |_| reach.equip(Serve::new(may_publish).admission(admission.clone())))
        }
        Command::Echo => builder.start(|_| Echo),
        Command::Broadcast => builder.start(|_| Broadcast),
    }?;
    let settings = ApiSettings::new(config.api_keys.clone(), Arc::new(namespaces));
    let reached = Reached { handle: running.handle(), api: settings.clone(), back_end: back_end.settings() };
    let reload = reload::reload(config.clone(), setup, reached, load);
    let source = Arc::new(Source::new(&running, cores, reach));
    let api = (config.command == Command::Serve).then(|| ApiOptions {
        handle: running.handle(),
        answers: inbox,
        settings,
        reload: reload.clone(),
        body_bytes_max: config.limits.message_bytes_max,
    });
    let started = back_end.start(&config.back_end).map_err(Failure::from).and_then(|hooks| {
        let control = config.admin.map(|addr| start_control(addr, api, &source)).transpose()?;
        Ok((hooks, control))
    });
    let (hooks, control) = match started {
        Ok(started) => started,
        Err(error) => {
            running.stop()?;
            return Err(error);
        }
    };
    announce(config, &running, cores, control.as_ref());
    let signal = wait_for_the_end(&mut signals, &reload);
    tracing::info!(signal, connections = running.handle().connection_count(), "draining");
    // It is set once, here.
    let _ = source.draining.set(());
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().find(|&signal| signal != SIGHUP) {
            tracing::warn!(signal, "a second signal: ending at once");
            std::process::exit(EXIT_SIGNALLED + signal);
        }
    });
    let drained = running.drain();
    if let Some(hooks) = hooks {
        back_end::stop(hooks, &config.back_end);
    }
    if let Some(control) = control {
        control.stop();
    }
    tracing::info!("stopped");
    Ok(drained?)
}

/// Reloads at each SIGHUP. Answers with the signal that ends the server.
fn wait_for_the_end(signals: &mut Signals, reload: &Reload) -> Option<i32> {
    for signal in signals.forever() {
        if signal != SIGHUP {
            return Some(signal);
        }
        match reload() {
            Ok(notes) => {
                notes.iter().for_each(|note| tracing::warn!("{note}"));
                tracing::info!("reloaded");
            }
            Err(error) => tracing::error!("not reloaded, the old configuration stays: {error}"),
        }
    }
    None
}

fn builder(config: &Config, cores: &[usize], setup: &Setup) -> Builder {
    let mut builder = Server::builder()
        .cores(cores.to_vec())
        .driver(config.driver)
        .limits(config.limits.clone())
        .origin(match &config.origin {
            OriginSetting::SameHost => OriginPolicy::SameHost,
            OriginSetting::Any => OriginPolicy::Any,
            OriginSetting::List(origins) => OriginPolicy::List(origins.clone()),
        })
        .trusted_proxies(config.trusted_proxies.clone())
        .connections_max(config.max_connections.unwrap_or(usize::MAX))
        .drain_delay(config.drain_delay)
        .drain_time(config.drain_time)
        .on_calm(crate::collect)
        .restless(std::env::var_os(RESTLESS).is_some());
    for addr in &config.listen {
        builder = builder.listen_on(match addr {
            config::ListenAddr::Tcp(addr) => ListenAddr::Tcp(*addr),
            config::ListenAddr::Unix { path } => ListenAddr::Unix { path: path.clone(), mode: config.unix_mode },
        });
    }
    if let Some(tls) = &setup.tls {
        builder = builder.tls(tls.clone());
    }
    builder
}

/// Raises the soft limit of open files to the hard one.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the lower limit is what is announced.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// How many connections the limit of open files allows, now that the server has what it needs itself.
fn announce_limits(config: &Config) {
    let Some(open_files) = getrlimit(Resource::Nofile).current else {
        return tracing::info!(max_connections = config.max_connections, "limits; open files are not limited");
    };
    // Reading the folder opens it.
    let own = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1)) as u64;
    let connections_allowed = open_files.saturating_sub(own + DESCRIPTORS_SPARE);
    tracing::info!(open_files, connections_allowed, max_connections = config.max_connections, "limits");
    if let Some(wanted) = config.max_connections
        && connections_allowed < wanted as u64
    {
        tracing::warn!(
            open_files,
            connections_allowed,
            max_connections = wanted,
            "the limit of open files is too low for that many connections; raise it (ulimit -Hn, or LimitNOFILE= of \
             the service) to {} or more",
            wanted as u64 + own + DESCRIPTORS_SPARE
        );
    }
}

/// One line on stdout per address, for scripts; the log has the same for people.
fn announce(config: &Config, running: &Running, cores: &[usize], control: Option<&ControlHandle>) {
    let rung = running.rungs().first().map_or_else(String::new, ToString::to_string);
    match running.refusal() {
        Some(refusal) => tracing::warn!(driver = rung, "{refusal}; serving through epoll"),
        None => tracing::info!(driver = rung, "asks the kernel through"),
    }
    tracing::info!(?cores, command = ?config.command, "runs on");
    announce_limits(config);
    if let Some(control) = control {
        tracing::info!("admin on http://{}", control.local_addr());
        match config.command {
            Command::Serve if config.api_keys.is_some() => tracing::info!("the HTTP API answers who has an API key"),
            Command::Serve => tracing::info!(
                "the HTTP API has no key: it answers this machine only, on localhost; --api-key-file FILE opens it to others"
            ),
            Command::Echo | Command::Broadcast => {}
        }
    }
    let mut stdout = io::stdout().lock();
    for addr in running.addrs() {
        let line = match addr {
            ListenAddr::Tcp(addr) if config.tls.is_some() => format!("wss://{addr}"),
            ListenAddr::Tcp(addr) => format!("ws://{addr}"),
            ListenAddr::Unix { .. } => addr.to_string(),
        };
        tracing::info!("listening on {line}");
        // Nobody may be reading; the log says it too.
        let _ = writeln!(stdout, "listening on {line}");
    }
    let _ = stdout.flush();
}

fn start_control(
    addr: std::net::SocketAddr,
    api: Option<ApiOptions>,
    source: &Arc<Source>,
) -> Result<ControlHandle, control::ControlError> {
    let source: Arc<dyn ControlSource> = Arc::<Source>::clone(source);
    control::start(ControlOptions { addr, api }, source)
}

/// What topics say to threads that are no cores: answers to the HTTP API, events to the back end.
struct Ears {
    answers: Answers,
    back_end: Reach,
}

impl Outside for Ears {
    fn answered(&self, ticket: Ticket, answer: Answer) {
        self.answers.answered(ticket, answer);
    }

    fn topic_event(&self, event: HomeEvent) {
        self.back_end.topic_event(event);
    }
}

/// What the admin listener may know.
struct Source {
    cores: Vec<CoreMetrics>,
    /// Set when the end has begun.
    draining: OnceLock<()>,
    started_at: SystemTime,
    back_end: Reach,
}

impl Source {
    fn new(running: &Running, cores: &[usize], back_end: Reach) -> Self {
        let handle = running.handle();
        let cores = cores.iter().zip(handle.metrics().iter());
        Self {
            cores: cores.map(|(&core, metrics)| CoreMetrics { core, metrics: metrics.clone() }).collect(),
            draining: OnceLock::new(),
            started_at: SystemTime::now(),
            back_end,
        }
    }
}

impl ControlSource for Source {
    fn shards(&self) -> &[CoreMetrics] {
        &self.cores
    }

    fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    fn started_at(&self) -> SystemTime {
        self.started_at
    }

    fn figures(&self) -> Vec<Sample> {
        self.back_end.samples()
    }

    fn build_info(&self) -> BuildInfo {
        BuildInfo { version: env!("CARGO_PKG_VERSION") }
    }
}

/// What the page of `serve` subscribes to.
const DEMO_TOPIC: &str = "demo";
/// Makes connections change between cold and hot as often as they can; for tests.
const RESTLESS: &str = "COREWIRE_TEST_RESTLESS";
/// Descriptors for requests to the admin listener, and for what else may come.
const DESCRIPTORS_SPARE: u64 = 16;
/// To this a shell adds the number of the signal that ended a process: 143 for SIGTERM.
const EXIT_SIGNALLED: i32 = 128;
