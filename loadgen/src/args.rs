//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::sizes::Sizes;
use crate::units::{parse_positive, parse_share, parse_size, parse_span};

/// A benchmark for any WebSocket server: open loop, no coordinated omission, and honest about itself.
#[derive(Debug, Parser)]
#[command(name = "corewire-load", version, max_term_width = 100)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[allow(clippy::large_enum_variant, reason = "there is one, once")]
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Every message comes back to its sender, and every byte of it is compared.
    Echo(EchoArgs),
    /// Connections that say nothing: what does one cost the server, in user and in kernel memory?
    Idle(IdleArgs),
    /// Some publish, all others must get every message once and in order.
    Fanout(FanoutArgs),
    /// Subscribers of topics drop and come back, and must have missed nothing. For servers that speak corewire.v1.
    Recovery(RecoveryArgs),
    /// Connections come and go; or a share of them drops at once and comes back.
    Storm(StormArgs),
    /// Some do not read, or slowly, while the others are measured.
    Slow(SlowArgs),
    /// Several scenarios, one after another, from a plan in TOML.
    Run {
        /// The plan.
        plan: PathBuf,
        /// Write all reports to this file, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Write all reports to this file, as a page.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Several servers in turn, in many short rounds: prints ratios with their spread.
    Compare {
        /// The plan, in TOML.
        plan: PathBuf,
        /// Only these cases of the plan, counted from 1.
        #[arg(long = "case", value_delimiter = ',', value_name = "N")]
        cases: Vec<usize>,
        /// Only these servers of the plan.
        #[arg(long = "server", value_delimiter = ',', value_name = "NAME")]
        servers: Vec<String>,
        /// Write all rounds to this file, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Write the comparison to this file, as a page.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

/// What every scenario accepts.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// ws://…, wss://…, or tcp://HOST:PORT for a server that echoes bytes without WebSocket.
    pub(crate) url: String,
    /// Connections (10k, 1M).
    #[arg(long, short, default_value = "50", value_parser = parse_positive, value_name = "N")]
    pub(crate) connections: u64,
    /// How long to measure.
    #[arg(long = "for", default_value = "10s", value_parser = parse_span, value_name = "SPAN")]
    pub(crate) measured: Duration,
    /// How long to run before measuring.
    #[arg(long, default_value = "2s", value_parser = parse_span, value_name = "SPAN")]
    pub(crate) warm_up: Duration,
    /// How long to go on after measuring: connections do not leave while others are still measured.
    #[arg(long, default_value = "0s", value_parser = parse_span, value_name = "SPAN")]
    pub(crate) cool_down: Duration,
    /// Longest wait for a connection, and for an answer before it counts as lost.
    #[arg(long, default_value = "5s", value_parser = parse_span, value_name = "SPAN")]
    pub(crate) timeout: Duration,
    /// Connections opened per second; as fast as the server takes them if not given.
    #[arg(long, value_parser = parse_positive, value_name = "PER_SECOND")]
    pub(crate) ramp: Option<u64>,
    /// Cores to run on, a worker on each. The last core of the machine if not given.
    #[arg(long, value_delimiter = ',', value_name = "CORES")]
    pub(crate) cores: Vec<usize>,
    /// Never sleep: the server pays nothing for waking this tool.
    #[arg(long)]
    pub(crate) spin: bool,
    /// Observe this process as the server.
    #[arg(long, conflicts_with = "spawn", value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// Start the server with this command, observe it, and end it afterwards.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) spawn: Option<String>,
    /// Core to pin the server started with --spawn to.
    #[arg(long, requires = "spawn", value_name = "CORE")]
    pub(crate) server_core: Option<usize>,
    /// Header field to send in the handshake: "Name: value". May be repeated.
    #[arg(long = "header", value_name = "FIELD")]
    pub(crate) headers: Vec<String>,
    /// Subprotocol to offer. May be repeated.
    #[arg(long = "subprotocol", value_name = "NAME")]
    pub(crate) subprotocols: Vec<String>,
    /// Offer permessage-deflate. Messages are then made of words, which shrink, instead of random bytes.
    #[arg(long)]
    pub(crate) compress: bool,
    /// Authorities to trust for wss://, in PEM. Without it, any certificate is accepted.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_roots: Option<PathBuf>,
    /// Never resume a TLS session: every handshake is a full one.
    #[arg(long)]
    pub(crate) tls_full: bool,
    /// Load a host that is not this machine. Only do that to one that is yours.
    #[arg(long)]
    pub(crate) i_may_load_this_host: bool,
    /// Write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report to this file, as a page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the latencies of each second to this file, as an HdrHistogram log.
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,
    /// Say nothing while it runs.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// `echo`.
#[derive(Clone, Debug, Args)]
pub(crate) struct EchoArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Bytes per message: 64, a range 64-1k, a choice 64,1k, or with weights 64:90,16k:10.
    #[arg(long, short, default_value = "64", value_name = "BYTES")]
    pub(crate) size: Sizes,
    /// Text messages instead of binary ones.
    #[arg(long)]
    pub(crate) text: bool,
    /// Messages under way per connection. Default: 1, and no limit with --rate.
    #[arg(long, short, value_parser = parse_positive, value_name = "K")]
    pub(crate) inflight: Option<u64>,
    /// Messages per second, all connections together: open loop. Without it: closed loop.
    #[arg(long, short, value_parser = parse_rate, value_name = "PER_SECOND")]
    pub(crate) rate: Option<f64>,
}

/// A rate above a thousandth per second: `1000`, `10k`, `0.5`.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = match text.parse::<f64>() {
        Ok(rate) => rate,
        Err(_) => crate::units::parse_count(text)? as f64,
    };
    if (0.001..=1e9).contains(&rate) { Ok(rate) } else { Err(format!("`{text}` is no rate: try 1000, 10k or 0.5")) }
}

/// `idle`.
#[derive(Clone, Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Ping each connection this often.
    #[arg(long, value_parser = parse_span, value_name = "SPAN")]
    pub(crate) heartbeat: Option<Duration>,
    /// While they are held, each says something this often: what such a message costs the server.
    #[arg(long, value_parser = parse_span, conflicts_with = "heartbeat", value_name = "SPAN")]
    pub(crate) sparse_every: Option<Duration>,
    /// Then all talk for so long, as fast as it goes, and fall silent: what heat leaves behind.
    #[arg(long, value_parser = parse_span, value_name = "SPAN")]
    pub(crate) hot_for: Option<Duration>,
    /// Come and leave so often: what each wave leaves behind.
    #[arg(long, default_value = "1", value_parser = parse_positive, value_name = "N")]
    pub(crate) waves: u64,
    /// Silence before memory is read: after heat, after a wave, and in front of sparse messages.
    #[arg(long, default_value = "3s", value_parser = parse_span, value_name = "SPAN")]
    pub(crate) settle: Duration,
    /// Each subscribes to a topic, over this wire.
    #[arg(long, value_name = "WIRE", conflicts_with_all = ["sparse_every", "hot_for"])]
    pub(crate) wire: Option<IdleWire>,
    /// Topics that the connections subscribe to, in turn.
    #[arg(long, default_value = "1", requires = "wire", value_parser = parse_positive, value_name = "T")]
    pub(crate) topics: u64,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
    /// Connections of other processes that come before this one's.
    #[arg(long, hide = true, default_value = "0")]
    pub(crate) first: u64,
    /// Processes to hold the connections. As many as the limit of file descriptors asks for, if not given.
    #[arg(long, value_parser = parse_positive, value_name = "N")]
    pub(crate) processes: Option<u64>,
    /// This is one of several.
    #[arg(long, hide = true)]
    pub(crate) child: bool,
    /// Source address.
    #[arg(long = "source", hide = true)]
    pub(crate) sources: Vec<std::net::IpAddr>,
}

/// `fanout`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Bytes per message.
    #[arg(long, short, default_value = "128", value_parser = parse_size, value_name = "BYTES")]
    pub(crate) size: usize,
    /// Text messages instead of binary ones.
    #[arg(long)]
    pub(crate) text: bool,
    /// Connections that publish, beside the --connections that subscribe.
    #[arg(long, default_value = "1", value_parser = parse_positive, value_name = "P")]
    pub(crate) publishers: u64,
    /// Topics; each connection subscribes to one. More than one needs --wire, or --subscribe and --publish.
    #[arg(long, default_value = "1", value_parser = parse_positive, value_name = "T")]
    pub(crate) topics: u64,
    /// Publications per second, all publishers together: open loop. Default: 10.
    #[arg(long, short, value_parser = parse_rate, value_name = "PER_SECOND")]
    pub(crate) rate: Option<f64>,
    /// Publications that leave at once, at the same --rate.
    #[arg(long, default_value = "1", value_parser = parse_positive, value_name = "B")]
    pub(crate) burst: u64,
    /// Publications under way: each is followed by another when all subscribers have it. Closed loop.
    #[arg(long, short, value_parser = parse_positive, value_name = "K", conflicts_with_all = ["rate", "burst"])]
    pub(crate) inflight: Option<u64>,
    /// Message that subscribes, with {topic} in it. Without it, the server must send everything to everybody.
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) subscribe: Option<String>,
    /// Message that publishes, with {topic} and {payload} in it.
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) publish: Option<String>,
    /// What the server's topics speak. Everything must come once and in order, by its offset.
    #[arg(long, value_name = "WIRE", conflicts_with_all = ["subscribe", "publish", "inflight"])]
    pub(crate) wire: Option<FanoutWire>,
    /// Subscribers of each topic, shared among the connections. Default: one subscription for each connection.
    #[arg(long, requires = "wire", value_parser = parse_positive, value_name = "S")]
    pub(crate) subscribers: Option<u64>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
}

/// What a server with topics speaks to those who hear many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FanoutWire {
    /// The subprotocol of that name.
    #[value(name = "corewire.v1")]
    V1,
}

/// What a server with topics speaks to those who hear one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IdleWire {
    /// Bare data, and the topic in the URL.
    Raw,
    /// The subprotocol of that name.
    #[value(name = "corewire.v1")]
    V1,
}

/// Publishing as a back end does.
#[derive(Clone, Debug, Args)]
pub(crate) struct ApiArgs {
    /// Publish over HTTP instead of over WebSocket: http://127.0.0.1:9000/api/v1/publish. Each publisher has a connection.
    #[arg(long, value_name = "URL")]
    pub(crate) publish_url: Option<String>,
    /// Key for the HTTP API.
    #[arg(long, requires = "publish_url", value_name = "KEY")]
    pub(crate) api_key: Option<String>,
}

/// Who the connections say they are.
#[derive(Clone, Debug, Args)]
pub(crate) struct TokenArgs {
    /// Token that every connection shows, where topics are spoken of: a JSON Web Token. Others can read it in a list of
    /// processes.
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// File with that token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl TokenArgs {
    /// # Errors
    ///
    /// If there is one, and no wire that would know what to do with it.
    pub(crate) fn refuse_without_wire(&self) -> Result<(), String> {
        match (&self.token, &self.token_file) {
            (None, None) => Ok(()),
            _ => Err("a token needs --wire: without it, say it in the URL, or with --header".to_owned()),
        }
    }
}

/// `recovery`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RecoveryArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Bytes of data in each publication.
    #[arg(long, short, default_value = "128", value_parser = parse_size, value_name = "BYTES")]
    pub(crate) size: usize,
    /// Share of the subscribers that is cut off at once, in the middle of the measured time, and comes back.
    #[arg(long, default_value = "100%", value_parser = parse_share, value_name = "SHARE")]
    pub(crate) drop: f64,
    /// Publications per second.
    #[arg(long, short, default_value = "10", value_parser = parse_rate, value_name = "PER_SECOND")]
    pub(crate) rate: f64,
    /// Connections that publish, beside the --connections that subscribe.
    #[arg(long, default_value = "1", value_parser = parse_positive, value_name = "P")]
    pub(crate) publishers: u64,
    /// Topics.
    #[arg(long, default_value = "1", value_parser = parse_positive, value_name = "T")]
    pub(crate) topics: u64,
    /// Subscribers of each topic, shared among the connections. Default: one subscription for each connection.
    #[arg(long, value_parser = parse_positive, value_name = "S")]
    pub(crate) subscribers: Option<u64>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
}

/// `storm`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StormArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections opened per second. Without it: as fast as the server takes them, --connections at once.
    #[arg(long, short, value_parser = parse_rate, value_name = "PER_SECOND")]
    pub(crate) rate: Option<f64>,
    /// How long each connection is kept.
    #[arg(long, default_value = "0s", value_parser = parse_span, value_name = "SPAN")]
    pub(crate) hold: Duration,
    /// Instead of a steady churn: cut this share off at once, in the middle, and let it come back.
    #[arg(long, value_parser = parse_share, value_name = "SHARE", conflicts_with_all = ["rate", "hold"])]
    pub(crate) drop: Option<f64>,
    /// With --drop: messages per second on the connections that stay; without it, one under way on each.
    #[arg(long, value_parser = parse_rate, requires = "drop", value_name = "PER_SECOND")]
    pub(crate) message_rate: Option<f64>,
}

/// `slow`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SlowArgs {
    #[command(flatten)]
    pub(crate) echo: EchoArgs,
    /// Share of the connections that are slow.
    #[arg(long, default_value = "10%", value_parser = parse_share, value_name = "SHARE")]
    pub(crate) slow: f64,
    /// Bytes that each of the slow reads per second. 0: none at all.
    #[arg(long, default_value = "0", value_parser = parse_size, value_name = "BYTES")]
    pub(crate) slow_read: usize,
    /// Bytes per message of the slow ones, who send whenever the server takes it.
    #[arg(long, default_value = "4k", value_parser = parse_size, value_name = "BYTES")]
    pub(crate) slow_size: usize,
}
