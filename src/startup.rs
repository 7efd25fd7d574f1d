//! From a configuration to a running server, and from a signal to its end.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use corewire::auth::{KeyError, Verifier};
use corewire::builtin::{Admission, Broadcast, Echo, Seats, Serve};
use corewire::config::{self, Command, Config, OriginSetting};
use corewire::control::{
    self, ApiOptions, ApiSettings, BuildInfo, ControlHandle, ControlOptions, ControlSource, CoreMetrics,
};
use corewire::protocol::handshake::OriginPolicy;
use corewire::server::{Builder, ListenAddr, Running, Server, StartError};
use corewire::tls::{ServerTls, TlsOptions, TlsSetupError};
use corewire::topics::{Access, Topic};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Why the command ends without having served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The certificate, the key or the clients' authorities are no good.
    #[error("TLS: {0}")]
    Tls(#[from] TlsSetupError),
    /// The keys for tokens are no good.
    #[error("tokens: {0}")]
    Tokens(#[from] KeyError),
    /// The server itself.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The admin listener.
    #[error("admin listener: {0}")]
    Control(#[from] control::ControlError),
    /// Signals cannot be waited for.
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
}

/// Serves until a signal ends it.
pub(crate) fn serve(config: &Config, cores: &[usize]) -> Result<(), Failure> {
    // Before any thread starts, so that no signal finds the process without a handler.
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(Failure::Signals)?;
    raise_open_files();
    let builder = builder(config, cores)?;
    let (answers, inbox) = control::answers();
    let namespaces = config.namespaces();
    let running = match config.command {
        Command::Serve => {
            let demo_topic = Topic::parse(DEMO_TOPIC).expect("a good name");
            let may_publish = namespaces.of(&demo_topic).publish == Access::Public;
            let admission = Arc::new(admission(config)?);
            let builder = builder.namespaces(namespaces.clone()).outside(Arc::new(answers));
            builder.start(move |_| Serve::new(may_publish).admission(admission.clone()))
        }
        Command::Echo => builder.start(|_| Echo),
        Command::Broadcast => builder.start(|_| Broadcast),
    }?;
    let source = Arc::new(Source::new(&running, cores));
    let api = (config.command == Command::Serve).then(|| ApiOptions {
        handle: running.handle(),
        answers: inbox,
        settings: ApiSettings::new(config.api_keys.clone(), Arc::new(namespaces)),
        body_bytes_max: config.limits.message_bytes_max,
    });
    let control = match config.admin.map(|addr| start_control(addr, api, &source)).transpose() {
        Ok(control) => control,
        Err(error) => {
            running.stop()?;
            return Err(error.into());
        }
    };
    announce(config, &running, cores, control.as_ref());
    let signal = signals.forever().next();
    tracing::info!(signal, connections = running.handle().connection_count(), "draining");
    // It is set once, here.
    let _ = source.draining.set(());
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            tracing::warn!(signal, "a second signal: ending at once");
            std::process::exit(EXIT_SIGNALLED + signal);
        }
    });
    let drained = running.drain();
    if let Some(control) = control {
        control.stop();
    }
    tracing::info!("stopped");
    Ok(drained?)
}

fn builder(config: &Config, cores: &[usize]) -> Result<Builder, Failure> {
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
    if let Some(files) = &config.tls {
        builder = builder.tls(ServerTls::from_pem_files(&TlsOptions {
            cert_chain: files.cert.clone(),
            key: files.key.clone(),
            client_ca: files.client_ca.clone(),
        })?);
    }
    Ok(builder)
}

/// What `serve` demands of its clients.
fn admission(config: &Config) -> Result<Admission, KeyError> {
    let verifier = match config.token_keys.as_slice() {
        [] => None,
        files => Some(Verifier::from_files(files.to_vec(), config.token_policy.clone())?),
    };
    for (key_id, algorithm) in verifier.iter().flat_map(|verifier| verifier.keys().describe()) {
        tracing::info!(key_id, %algorithm, "tokens are checked with");
    }
    Ok(Admission {
        verifier,
        anonymous: config.anonymous,
        message_rate: config.message_rate,
        connections_per_user_max: config.max_connections_per_user,
        connections_per_address_max: config.max_connections_per_address,
        seats: Seats::default(),
    })
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

/// What the admin listener may know.
struct Source {
    cores: Vec<CoreMetrics>,
    /// Set when the end has begun.
    draining: OnceLock<()>,
    started_at: SystemTime,
}

impl Source {
    fn new(running: &Running, cores: &[usize]) -> Self {
        let handle = running.handle();
        let cores = cores.iter().zip(handle.metrics().iter());
        Self {
            cores: cores.map(|(&core, metrics)| CoreMetrics { core, metrics: metrics.clone() }).collect(),
            draining: OnceLock::new(),
            started_at: SystemTime::now(),
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
