//! Options from the command line, the environment and a TOML file, with one precedence.
//!
//! Command line over environment over file over default. Every option stands once, in the table of
//! [`options`]; the three sources, the help, `--check-config` and `docs/CONFIGURATION.md` are read from it.
//! Knows nothing that runs: it fills the option structs that each layer defines for itself.

mod back_end;
mod check;
mod command_line;
mod error;
mod file;
mod listen;
mod load;
pub mod logging;
mod namespaces;
pub mod options;
mod parse;
#[cfg(test)]
mod reference;
mod reload;
mod show;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::{ApiKeys, KeyFile, Policy};
use crate::connection::Limits;
use crate::http::Cidr;
use crate::rate::Rate;
use crate::topics::{Namespace, Namespaces};

pub use crate::server::DriverChoice;
pub use back_end::BackEnd;
pub use error::{ConfigError, Problem, Source};
pub use listen::ListenAddr;
pub use load::{Invocation, Loaded};

/// What the `corewire` command was asked to do, after all sources are merged and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which server to run. Default `serve`.
    pub command: Command,
    /// Where clients connect; at least one, no two the same. Default `127.0.0.1:8080`.
    pub listen: Vec<ListenAddr>,
    /// Permission bits of the Unix sockets among `listen`, 0 to 0o777. Default 0o660.
    pub unix_mode: u32,
    /// CPUs to run a shard on, ascending and distinct. Default `None`: all that the process may use.
    ///
    /// Not yet compared with what the process may use: see [`Loaded::choose_cores`].
    pub cores: Option<Vec<usize>>,
    /// How the kernel is asked for I/O. Default [`DriverChoice::Auto`].
    pub driver: DriverChoice,
    /// Certificate and key of the TCP listeners. Default `None`: plain TCP.
    pub tls: Option<TlsFiles>,
    /// What one peer may use, and how long it may take.
    pub limits: Limits,
    /// Most connections at a time, over all cores; never zero. Default `None`: no limit.
    pub max_connections: Option<usize>,
    /// Which web pages may connect. Default [`OriginSetting::SameHost`].
    pub origin: OriginSetting,
    /// Whether clients of `serve` may publish in the default namespace. Default no.
    pub demo: bool,
    /// Files with the keys that tokens are checked with. Default none: nobody has a token.
    pub token_keys: Vec<KeyFile>,
    /// What tokens must claim. Default: no audience, any issuer, 30 s of leeway.
    pub token_policy: Policy,
    /// Whether clients may connect without a token. Default yes.
    pub anonymous: bool,
    /// Most connections of one user, over all cores. Default `None`: no limit.
    pub max_connections_per_user: Option<NonZeroU32>,
    /// Most connections from one address, over all cores. Default `None`: no limit.
    pub max_connections_per_address: Option<NonZeroU32>,
    /// How fast one connection may send messages to `serve`. Default `None`: as fast as it can.
    pub message_rate: Option<Rate>,
    /// How topics behave: the default namespace first, then the others in their order in the file.
    pub namespaces: Vec<Namespace>,
    /// Whether topics of several segments must be in one of those with a name. Default no.
    pub strict_namespaces: bool,
    /// Networks of proxies whose forwarded addresses are believed. Default none.
    pub trusted_proxies: Vec<Cidr>,
    /// Who is told what happens, and asked who may do what. Default nobody.
    pub back_end: BackEnd,
    /// Where the admin listener stands; `None` is off. Default `127.0.0.1:9090` for `serve`, else off.
    pub admin: Option<SocketAddr>,
    /// Who may use the HTTP API, those of the file included. Default `None`: this machine only.
    pub api_keys: Option<ApiKeys>,
    /// Whether one of these keys came from no file.
    pub has_own_api_key: bool,
    /// Where the others came from, to be read again.
    pub api_key_file: Option<PathBuf>,
    /// From "not ready" to the moment when listeners close and connections are asked to leave. Default 0.
    pub drain_delay: Duration,
    /// How long connections then have to leave. Default 5 s.
    pub drain_time: Duration,
    /// Form of the log on stderr. Default [`LogFormat::Text`].
    pub log: LogFormat,
    /// Least important lines that are still logged. Default [`LogLevel::Info`].
    pub log_level: LogLevel,
}

impl Default for Config {
    /// What `corewire` does when no source says anything.
    fn default() -> Self {
        options::defaults(Command::Serve)
    }
}

impl Config {
    /// How topics behave.
    pub fn namespaces(&self) -> Namespaces {
        let (default, named) = self.namespaces.split_first().expect("the default namespace is always there");
        let all =
            Namespaces::new(default.clone(), named.iter().cloned()).expect("they were good when they were checked");
        all.strict(self.strict_namespaces)
    }
}

/// Which server to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// The real-time server.
    #[default]
    Serve,
    /// Every message goes back to its sender.
    Echo,
    /// Every message goes to every connection on every core, its sender included.
    Broadcast,
}

/// PEM files that make the listeners speak TLS. They were readable when the configuration was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, the server's own first.
    pub cert: PathBuf,
    /// Private key of the first certificate.
    pub key: PathBuf,
    /// Authorities that must have signed a client's certificate. `None` asks clients for none.
    pub client_ca: Option<PathBuf>,
}

/// Which web pages may connect, judged by the `Origin` header (RFC 6455 §10.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginSetting {
    /// Pages of the host that the request itself names in `Host`, and clients that send no `Origin`.
    #[default]
    SameHost,
    /// Any page and any client.
    Any,
    /// Exactly these origins, in lower case and without default ports, and clients that send no `Origin`.
    List(Vec<String>),
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line per event, for people.
    #[default]
    Text,
    /// One JSON object per line, for machines.
    Json,
}

/// How much is logged; each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What needs somebody's attention.
    Error,
    /// What will need somebody's attention.
    Warn,
    /// What an operator wants to see once.
    #[default]
    Info,
    /// What explains one connection.
    Debug,
    /// Everything.
    Trace,
}
