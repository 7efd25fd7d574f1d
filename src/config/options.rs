//! The table of options: the one place where an option is defined.
//!
//! The command line, the variables, the keys of the file, the help, `--check-config` and the reference in
//! `docs/CONFIGURATION.md` are all made from it, so an option cannot exist in one and be missing in another.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    Command, Config, DriverChoice, ListenAddr, LogFormat, LogLevel, OriginSetting, TlsFiles,
    listen, parse,
};
use crate::connection::{DeflateMode, Limits};

/// One option.
#[derive(Debug)]
pub struct OptionSpec {
    /// Name without dashes; also the key in the file.
    pub name: &'static str,
    /// What stands for the value in the help.
    pub value_name: &'static str,
    /// Heading under which the help lists it.
    pub group: Group,
    /// Whether it may be given more than once.
    pub repeatable: bool,
    /// Which values it takes.
    pub accepts: Accepts,
    /// What holds when nobody says anything.
    pub default: Fallback,
    /// One sentence, without the full stop.
    pub help: &'static str,
    /// Whole sentences that only the long help shows; may be empty.
    pub more: &'static str,
    pub(super) set: fn(&mut Draft, &Input<'_>) -> Result<(), String>,
    pub(super) get: fn(&Config) -> Shown,
}

impl OptionSpec {
    /// Name of the variable: `COREWIRE_MAX_MESSAGE_BYTES`.
    pub fn variable(&self) -> String {
        format!(
            "COREWIRE_{}",
            self.name.replace('-', "_").to_ascii_uppercase()
        )
    }
}

/// Headings of the help, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Where clients connect.
    Listening,
    /// Which cores, and how the kernel is asked.
    Cores,
    /// Encryption.
    Tls,
    /// Who may connect.
    Admission,
    /// Sizes.
    Limits,
    /// Timeouts.
    Times,
    /// The admin listener.
    Admin,
    /// The end of the process.
    Draining,
    /// The log.
    Logging,
}

impl Group {
    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Listening => "Listening",
            Self::Cores => "Cores",
            Self::Tls => "TLS",
            Self::Admission => "Who may connect",
            Self::Limits => "Messages and memory, per connection",
            Self::Times => "Time, per connection",
            Self::Admin => "Admin",
            Self::Draining => "Stopping (SIGTERM, SIGINT)",
            Self::Logging => "Logging",
        }
    }
}

/// Which values an option takes.
#[derive(Debug)]
pub enum Accepts {
    /// Bytes, in this range.
    Size(RangeInclusive<u64>),
    /// A number of things, in this range; zero means what is said here, where it is allowed.
    Count(RangeInclusive<u64>, Option<&'static str>),
    /// A span of time, in this range; zero means what is said here, where it is allowed.
    Span(RangeInclusive<Duration>, Option<&'static str>),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Anything else, described in words.
    Form(&'static str),
}

impl Accepts {
    /// What would be right, for an error message.
    pub fn describe(&self) -> String {
        match self {
            Self::Size(_) => format!("a size such as 65536, 64k or 16MiB, {}", self.range()),
            Self::Count(..) => format!("a number such as 500 or 10k (10,000), {}", self.range()),
            Self::Span(..) => format!("a duration such as 500ms, 10s or 5m, {}", self.range()),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Form(form) => (*form).to_owned(),
        }
    }

    /// The unit of a plain number and the range, for the reference.
    pub fn unit_and_range(&self) -> String {
        match self {
            Self::Size(_) => format!("bytes, {}", self.range()),
            Self::Count(..) => self.range(),
            Self::Span(..) => format!("duration, {}", self.range()),
            Self::Word(words) => words
                .iter()
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(", "),
            Self::Form(form) => (*form).to_owned(),
        }
    }

    fn range(&self) -> String {
        let (low, high, zero) = match self {
            Self::Size(range) => (
                parse::show_size(*range.start()),
                parse::show_size(*range.end()),
                None,
            ),
            Self::Count(range, zero) => (range.start().to_string(), range.end().to_string(), *zero),
            Self::Span(range, zero) => (
                parse::show_duration(*range.start()),
                parse::show_duration(*range.end()),
                *zero,
            ),
            Self::Word(_) | Self::Form(_) => return String::new(),
        };
        match zero {
            Some(meaning) => format!("{low} to {high}; 0 = {meaning}"),
            None => format!("{low} to {high}"),
        }
    }
}

/// What holds when nobody says anything.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// This value.
    Value(&'static str),
    /// This value, or another one that follows from other options as described.
    Following(&'static str, &'static str),
    /// No value, which means what is said here.
    Unset(&'static str),
}

impl Fallback {
    /// As the help shows it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Value(text) => text,
            Self::Following(_, description) | Self::Unset(description) => description,
        }
    }
}

/// The option of that name.
pub fn find(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.name == name)
}

/// What holds for a command when no source says anything.
pub(super) fn defaults(command: Command) -> Config {
    let mut draft = Draft::new(command);
    for spec in OPTIONS {
        if let Fallback::Value(text) | Fallback::Following(text, _) = spec.default {
            let texts = [text.to_owned()];
            let outcome = (spec.set)(&mut draft, &Input::new(spec, &texts));
            debug_assert_eq!(outcome, Ok(()), "the default of {}", spec.name);
        }
    }
    draft.config
}

/// A configuration that is being filled: what spans several options waits beside it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) tls_client_ca: Option<PathBuf>,
}

impl Draft {
    pub(super) fn new(command: Command) -> Self {
        let admin = match command {
            Command::Serve => Some(SocketAddr::from(([127, 0, 0, 1], ADMIN_PORT))),
            Command::Echo | Command::Broadcast => None,
        };
        let config = Config {
            command,
            listen: Vec::new(),
            unix_mode: 0,
            cores: None,
            driver: DriverChoice::Auto,
            tls: None,
            limits: Limits::default(),
            max_connections: None,
            origin: OriginSetting::SameHost,
            trusted_proxies: Vec::new(),
            admin,
            drain_delay: Duration::ZERO,
            drain_time: Duration::ZERO,
            log: LogFormat::Text,
            log_level: LogLevel::Info,
        };
        Self {
            config,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
        }
    }
}

/// What a source gave for one option.
pub(super) struct Input<'a> {
    accepts: &'static Accepts,
    /// At least one.
    texts: &'a [String],
}

impl<'a> Input<'a> {
    pub(super) fn new(spec: &'static OptionSpec, texts: &'a [String]) -> Self {
        Self {
            accepts: &spec.accepts,
            texts,
        }
    }

    fn one(&self) -> Result<&'a str, String> {
        match self.texts {
            [one] => Ok(one),
            several => Err(format!("it takes one value, not {}", several.len())),
        }
    }

    fn each<T>(&self, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
        self.texts.iter().map(|text| parse(text)).collect()
    }

    fn path(&self) -> Result<PathBuf, String> {
        match self.one()? {
            "" => Err("the path is empty".to_owned()),
            path => Ok(PathBuf::from(path)),
        }
    }

    fn size(&self) -> Result<usize, String> {
        let Accepts::Size(range) = self.accepts else {
            unreachable!("the table says that it is a size")
        };
        parse::size(self.one()?, range)
    }

    fn count(&self) -> Result<u64, String> {
        let Accepts::Count(range, zero) = self.accepts else {
            unreachable!("the table says that it is a count")
        };
        match self.one()? {
            "0" if zero.is_some() => Ok(0),
            text => parse::count(text, range),
        }
    }

    fn span(&self) -> Result<Duration, String> {
        let Accepts::Span(range, zero) = self.accepts else {
            unreachable!("the table says that it is a duration")
        };
        parse::duration(self.one()?, range, zero.is_some())
    }

    /// The value at the place of the word in the table.
    fn word<T: Copy>(&self, values: &[T]) -> Result<T, String> {
        let Accepts::Word(words) = self.accepts else {
            unreachable!("the table says that it is a word")
        };
        let text = self.one()?;
        let place = words.iter().position(|word| *word == text);
        place
            .and_then(|place| values.get(place).copied())
            .ok_or_else(|| match parse::nearest(text, words.iter().copied()) {
                Some(near) => format!("`{text}` is not known; perhaps {near}"),
                None => format!("`{text}` is not known"),
            })
    }
}

/// An effective value, in the form that the file takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Unset,
    Text(String),
    Number(u64),
    List(Vec<String>),
}

impl Shown {
    fn text(value: impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    fn size(bytes: usize) -> Self {
        Self::Text(parse::show_size(bytes as u64))
    }

    fn span(span: Duration) -> Self {
        Self::Text(parse::show_duration(span))
    }

    fn list<T: ToString>(values: &[T]) -> Self {
        Self::List(values.iter().map(ToString::to_string).collect())
    }

    fn path(config: &Config, pick: impl Fn(&TlsFiles) -> Option<&PathBuf>) -> Self {
        match config.tls.as_ref().and_then(pick) {
            Some(path) => Self::text(path.display()),
            None => Self::Unset,
        }
    }

    fn word(spec_name: &str, place: Option<usize>) -> Self {
        let words = match find(spec_name).map(|spec| &spec.accepts) {
            Some(Accepts::Word(words)) => *words,
            _ => &[],
        };
        place
            .and_then(|place| words.get(place))
            .map_or(Self::Unset, Self::text)
    }
}

const ADMIN_PORT: u16 = 9090;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The year of `humantime`, so that it is shown as `1year`.
const YEAR: Duration = Duration::from_secs(31_557_600);

/// A control frame has up to 125 bytes and comes in one piece (RFC 6455 §5.5), so no limit may be lower.
const MESSAGE_RANGE: RangeInclusive<u64> = 125..=4 * GIB;

const DRIVERS: [DriverChoice; 3] = [
    DriverChoice::Auto,
    DriverChoice::IoUring,
    DriverChoice::Epoll,
];
const DEFLATES: [DeflateMode; 3] = [
    DeflateMode::Off,
    DeflateMode::Shared,
    DeflateMode::Dedicated,
];
const LOG_FORMATS: [LogFormat; 2] = [LogFormat::Text, LogFormat::Json];
const LOG_LEVELS: [LogLevel; 5] = [
    LogLevel::Error,
    LogLevel::Warn,
    LogLevel::Info,
    LogLevel::Debug,
    LogLevel::Trace,
];

/// Every option, in the order of the help.
pub static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "listen",
        value_name: "ADDR",
        group: Group::Listening,
        repeatable: true,
        accepts: Accepts::Form(
            "host:port, [ipv6]:port or unix:path, such as 127.0.0.1:8080, [::1]:8080 or unix:/run/corewire.sock",
        ),
        default: Fallback::Value("127.0.0.1:8080"),
        help: "Where clients connect",
        more: "0.0.0.0:8080 is every IPv4 address of the machine, [::]:8080 every address, port 0 lets the kernel \
               choose, unix:/run/corewire.sock is a Unix socket. A name such as localhost:8080 is resolved once, at \
               the start, and to one address, an IPv4 address if it has one.",
        set: |draft, input| {
            input
                .each(str::parse::<ListenAddr>)
                .map(|addrs| draft.config.listen = addrs)
        },
        get: |config| Shown::list(&config.listen),
    },
    OptionSpec {
        name: "unix-mode",
        value_name: "OCTAL",
        group: Group::Listening,
        repeatable: false,
        accepts: Accepts::Form("permission bits in octal, 0 to 777, such as 660 or 600"),
        default: Fallback::Value("660"),
        help: "Permissions of the Unix sockets among the listeners",
        more: "A process needs write permission on the socket to connect to it.",
        set: |draft, input| parse::mode(input.one()?).map(|mode| draft.config.unix_mode = mode),
        get: |config| Shown::Text(format!("{:03o}", config.unix_mode)),
    },
    OptionSpec {
        name: "cores",
        value_name: "LIST",
        group: Group::Cores,
        repeatable: false,
        accepts: Accepts::Form("core numbers and ranges, such as 0-3,6, each core once"),
        default: Fallback::Unset("all that the process may use"),
        help: "Cores to run on, one thread each",
        more: "Example: --cores 0-3,6. The numbers are the kernel's, as in taskset(1); a core outside the process's \
               affinity mask is refused.",
        set: |draft, input| {
            parse::cores(input.one()?).map(|cores| draft.config.cores = Some(cores))
        },
        get: |config| {
            config
                .cores
                .as_deref()
                .map_or(Shown::Unset, |cores| Shown::Text(parse::show_cores(cores)))
        },
    },
    OptionSpec {
        name: "driver",
        value_name: "DRIVER",
        group: Group::Cores,
        repeatable: false,
        accepts: Accepts::Word(&["auto", "io-uring", "epoll"]),
        default: Fallback::Value("auto"),
        help: "How the kernel is asked for I/O: auto, io-uring or epoll",
        more: "auto takes io_uring where the kernel allows it, else epoll, and says so in the log; io-uring refuses \
               to start without it.",
        set: |draft, input| {
            input
                .word(&DRIVERS)
                .map(|driver| draft.config.driver = driver)
        },
        get: |config| Shown::word("driver", DRIVERS.iter().position(|d| *d == config.driver)),
    },
    OptionSpec {
        name: "tls-cert",
        value_name: "FILE",
        group: Group::Tls,
        repeatable: false,
        accepts: Accepts::Form("a PEM file of certificates"),
        default: Fallback::Unset("no TLS"),
        help: "Certificate chain, the server's own first; with --tls-key it turns TLS on for the TCP listeners",
        more: "Example: --tls-cert /etc/corewire/fullchain.pem --tls-key /etc/corewire/privkey.pem. Unix sockets stay \
               plain.",
        set: |draft, input| input.path().map(|path| draft.tls_cert = Some(path)),
        get: |config| Shown::path(config, |tls| Some(&tls.cert)),
    },
    OptionSpec {
        name: "tls-key",
        value_name: "FILE",
        group: Group::Tls,
        repeatable: false,
        accepts: Accepts::Form("a PEM file with a private key"),
        default: Fallback::Unset("no TLS"),
        help: "Private key of the first certificate of --tls-cert",
        more: "",
        set: |draft, input| input.path().map(|path| draft.tls_key = Some(path)),
        get: |config| Shown::path(config, |tls| Some(&tls.key)),
    },
    OptionSpec {
        name: "tls-client-ca",
        value_name: "FILE",
        group: Group::Tls,
        repeatable: false,
        accepts: Accepts::Form("a PEM file of certificates"),
        default: Fallback::Unset("clients need no certificate"),
        help: "Authorities one of which must have signed the client's certificate",
        more: "A client without such a certificate is refused. Needs --tls-cert and --tls-key.",
        set: |draft, input| input.path().map(|path| draft.tls_client_ca = Some(path)),
        get: |config| Shown::path(config, |tls| tls.client_ca.as_ref()),
    },
    OptionSpec {
        name: "origin",
        value_name: "ORIGIN",
        group: Group::Admission,
        repeatable: true,
        accepts: Accepts::Form("origins such as https://example.com, or '*' for any, or same-host"),
        default: Fallback::Value("same-host"),
        help: "Web pages that may connect, by their Origin header: https://example.com, '*' or same-host",
        more: "same-host admits pages of the host that the request itself names in its Host header. '*' admits \
               everybody. Clients that send no Origin header are not browsers and are always admitted. Origins are \
               compared whole; https://example.com is not https://www.example.com.",
        set: |draft, input| origins(input).map(|origin| draft.config.origin = origin),
        get: |config| match &config.origin {
            OriginSetting::SameHost => Shown::List(vec![SAME_HOST.to_owned()]),
            OriginSetting::Any => Shown::List(vec!["*".to_owned()]),
            OriginSetting::List(origins) => Shown::list(origins),
        },
    },
    OptionSpec {
        name: "trusted-proxy",
        value_name: "CIDR",
        group: Group::Admission,
        repeatable: true,
        accepts: Accepts::Form(
            "a network or an address, such as 10.0.0.0/8, 127.0.0.1 or fd00::/8",
        ),
        default: Fallback::Unset("none"),
        help: "Networks of proxies whose forwarded client addresses are believed",
        more: "Example: --trusted-proxy 10.0.0.0/8. What other peers say about forwarded addresses is ignored.",
        set: |draft, input| {
            input
                .each(parse::network)
                .map(|nets| draft.config.trusted_proxies = nets)
        },
        get: |config| Shown::list(&config.trusted_proxies),
    },
    OptionSpec {
        name: "max-connections",
        value_name: "N",
        group: Group::Admission,
        repeatable: false,
        accepts: Accepts::Count(1..=1_000_000_000, Some("no limit")),
        default: Fallback::Value("0"),
        help: "Most connections at a time, over all cores; those beyond get status 503",
        more: "Example: --max-connections 10k (10,000). The process's limit of open files (ulimit -n) holds besides.",
        set: |draft, input| {
            let count =
                usize::try_from(input.count()?).map_err(|_| "it is too large".to_owned())?;
            draft.config.max_connections = (count > 0).then_some(count);
            Ok(())
        },
        get: |config| Shown::Number(config.max_connections.unwrap_or(0) as u64),
    },
    OptionSpec {
        name: "deflate",
        value_name: "MODE",
        group: Group::Limits,
        repeatable: false,
        accepts: Accepts::Word(&["off", "shared", "dedicated"]),
        default: Fallback::Value("shared"),
        help: "Compression with permessage-deflate: off, shared or dedicated",
        more: "shared compresses each message alone and takes no memory per connection. dedicated keeps the window \
               between messages where the peer allows it: a better ratio, up to 300 KiB per connection.",
        set: |draft, input| {
            input
                .word(&DEFLATES)
                .map(|mode| draft.config.limits.deflate = mode)
        },
        get: |config| {
            Shown::word(
                "deflate",
                DEFLATES.iter().position(|d| *d == config.limits.deflate),
            )
        },
    },
    OptionSpec {
        name: "max-message-bytes",
        value_name: "SIZE",
        group: Group::Limits,
        repeatable: false,
        accepts: Accepts::Size(MESSAGE_RANGE),
        default: Fallback::Value("16MiB"),
        help: "Largest message, after reassembly and decompression; larger ones close with 1009",
        more: "Example: --max-message-bytes 64k.",
        set: |draft, input| {
            input
                .size()
                .map(|bytes| draft.config.limits.message_bytes_max = bytes)
        },
        get: |config| Shown::size(config.limits.message_bytes_max),
    },
    OptionSpec {
        name: "max-frame-bytes",
        value_name: "SIZE",
        group: Group::Limits,
        repeatable: false,
        accepts: Accepts::Size(MESSAGE_RANGE),
        default: Fallback::Following("16MiB", "the same as --max-message-bytes"),
        help: "Largest payload of one frame, as its header announces it; larger ones close with 1009",
        more: "Not above --max-message-bytes.",
        set: |draft, input| {
            input
                .size()
                .map(|bytes| draft.config.limits.frame_bytes_max = bytes)
        },
        get: |config| Shown::size(config.limits.frame_bytes_max),
    },
    OptionSpec {
        name: "max-fragments",
        value_name: "N",
        group: Group::Limits,
        repeatable: false,
        accepts: Accepts::Count(1..=u32::MAX as u64, None),
        default: Fallback::Value("131072"),
        help: "Most fragments that one message may come in; more close with 1008",
        more: "",
        set: |draft, input| {
            let count = u32::try_from(input.count()?).map_err(|_| "it is too large".to_owned())?;
            draft.config.limits.fragments_max = count;
            Ok(())
        },
        get: |config| Shown::Number(config.limits.fragments_max.into()),
    },
    OptionSpec {
        name: "max-queued-bytes",
        value_name: "SIZE",
        group: Group::Limits,
        repeatable: false,
        accepts: Accepts::Size(4 * KIB..=1024 * GIB),
        default: Fallback::Value("64MiB"),
        help: "Most bytes that may wait to be sent to one slow peer before it is disconnected",
        more: "Above 1 MiB, or half of this if that is less, nothing more is read from that peer.",
        set: |draft, input| {
            let limits = &mut draft.config.limits;
            limits.queued_bytes_max = input.size()?;
            limits.queued_bytes_pause = Limits::default()
                .queued_bytes_pause
                .min(limits.queued_bytes_max / 2);
            Ok(())
        },
        get: |config| Shown::size(config.limits.queued_bytes_max),
    },
    OptionSpec {
        name: "max-header-bytes",
        value_name: "SIZE",
        group: Group::Limits,
        repeatable: false,
        accepts: Accepts::Size(KIB..=MIB),
        default: Fallback::Value("16KiB"),
        help: "Largest request head of the opening handshake; larger ones get status 431",
        more: "",
        set: |draft, input| {
            input
                .size()
                .map(|bytes| draft.config.limits.header_bytes_max = bytes)
        },
        get: |config| Shown::size(config.limits.header_bytes_max),
    },
    OptionSpec {
        name: "handshake-timeout",
        value_name: "DURATION",
        group: Group::Times,
        repeatable: false,
        accepts: Accepts::Span(MILLISECOND..=HOUR, None),
        default: Fallback::Value("10s"),
        help: "From accept to the finished opening handshake, TLS included",
        more: "",
        set: |draft, input| {
            input
                .span()
                .map(|span| draft.config.limits.handshake_timeout = span)
        },
        get: |config| Shown::span(config.limits.handshake_timeout),
    },
    OptionSpec {
        name: "idle-timeout",
        value_name: "DURATION",
        group: Group::Times,
        repeatable: false,
        accepts: Accepts::Span(MILLISECOND..=YEAR, Some("never")),
        default: Fallback::Value("2m"),
        help: "Silence after which a peer is given up; its pongs count as a sign of life",
        more: "",
        set: |draft, input| {
            input
                .span()
                .map(|span| draft.config.limits.idle_timeout = span)
        },
        get: |config| Shown::span(config.limits.idle_timeout),
    },
    OptionSpec {
        name: "ping-interval",
        value_name: "DURATION",
        group: Group::Times,
        repeatable: false,
        accepts: Accepts::Span(MILLISECOND..=YEAR, Some("never")),
        default: Fallback::Following("30s", "30s, or a quarter of --idle-timeout if that is less"),
        help: "Silence after which the peer is sent a ping",
        more: "Less than --idle-timeout, or no ping could keep a silent connection. Proxies often end connections that \
               are silent for a minute.",
        set: |draft, input| {
            input
                .span()
                .map(|span| draft.config.limits.ping_interval = span)
        },
        get: |config| Shown::span(config.limits.ping_interval),
    },
    OptionSpec {
        name: "close-timeout",
        value_name: "DURATION",
        group: Group::Times,
        repeatable: false,
        accepts: Accepts::Span(MILLISECOND..=HOUR, None),
        default: Fallback::Value("5s"),
        help: "How long a peer has to answer our Close before its connection is cut",
        more: "",
        set: |draft, input| {
            input
                .span()
                .map(|span| draft.config.limits.close_timeout = span)
        },
        get: |config| Shown::span(config.limits.close_timeout),
    },
    OptionSpec {
        name: "max-lifetime",
        value_name: "DURATION",
        group: Group::Times,
        repeatable: false,
        accepts: Accepts::Span(MILLISECOND..=YEAR, Some("no limit")),
        default: Fallback::Value("0"),
        help: "Longest life of a connection; it ends with 1001, up to a tenth earlier, so that not all end together",
        more: "Example: --max-lifetime 1h, so that clients spread over new machines behind a balancer.",
        set: |draft, input| {
            let span = input.span()?;
            draft.config.limits.lifetime_max = (!span.is_zero()).then_some(span);
            Ok(())
        },
        get: |config| Shown::span(config.limits.lifetime_max.unwrap_or(Duration::ZERO)),
    },
    OptionSpec {
        name: "admin",
        value_name: "ADDR|off",
        group: Group::Admin,
        repeatable: false,
        accepts: Accepts::Form("host:port such as 127.0.0.1:9090, or off"),
        default: Fallback::Unset("127.0.0.1:9090 for serve, off for echo and broadcast"),
        help: "Where metrics and health are served: /metrics, /healthz, /readyz",
        more: "Whoever reaches this address may read them: there is no password, so keep it on loopback or on a network \
               of your own.",
        set: |draft, input| {
            draft.config.admin = match input.one()? {
                OFF => None,
                addr => Some(listen::tcp_addr(addr)?),
            };
            Ok(())
        },
        get: |config| Shown::Text(config.admin.map_or(OFF.to_owned(), |addr| addr.to_string())),
    },
    OptionSpec {
        name: "drain-delay",
        value_name: "DURATION",
        group: Group::Draining,
        repeatable: false,
        accepts: Accepts::Span(MILLISECOND..=HOUR, Some("none")),
        default: Fallback::Value("0"),
        help: "From the signal, when /readyz turns to 503, to the moment when connections are asked to leave",
        more: "Give a balancer the time it needs to see that this server leaves: its interval of checks, twice.",
        set: |draft, input| input.span().map(|span| draft.config.drain_delay = span),
        get: |config| Shown::span(config.drain_delay),
    },
    OptionSpec {
        name: "drain-time",
        value_name: "DURATION",
        group: Group::Draining,
        repeatable: false,
        accepts: Accepts::Span(MILLISECOND..=DAY, Some("cut at once")),
        default: Fallback::Value("5s"),
        help: "How long connections then have to leave; they are closed with 1001, spread over this time",
        more: "",
        set: |draft, input| input.span().map(|span| draft.config.drain_time = span),
        get: |config| Shown::span(config.drain_time),
    },
    OptionSpec {
        name: "log",
        value_name: "FORMAT",
        group: Group::Logging,
        repeatable: false,
        accepts: Accepts::Word(&["text", "json"]),
        default: Fallback::Value("text"),
        help: "Form of the log on stderr: text or json",
        more: "Text is coloured when stderr is a terminal.",
        set: |draft, input| {
            input
                .word(&LOG_FORMATS)
                .map(|format| draft.config.log = format)
        },
        get: |config| Shown::word("log", LOG_FORMATS.iter().position(|f| *f == config.log)),
    },
    OptionSpec {
        name: "log-level",
        value_name: "LEVEL",
        group: Group::Logging,
        repeatable: false,
        accepts: Accepts::Word(&["error", "warn", "info", "debug", "trace"]),
        default: Fallback::Value("info"),
        help: "How much is logged: error, warn, info, debug or trace",
        more: "",
        set: |draft, input| {
            input
                .word(&LOG_LEVELS)
                .map(|level| draft.config.log_level = level)
        },
        get: |config| {
            Shown::word(
                "log-level",
                LOG_LEVELS.iter().position(|l| *l == config.log_level),
            )
        },
    },
];

const OFF: &str = "off";
const SAME_HOST: &str = "same-host";

fn origins(input: &Input<'_>) -> Result<OriginSetting, String> {
    let alone = |setting| match input.texts {
        [_] => Ok(setting),
        _ => Err("'*' and same-host stand alone".to_owned()),
    };
    if input.texts.iter().any(|text| text == "*") {
        alone(OriginSetting::Any)
    } else if input.texts.iter().any(|text| text == SAME_HOST) {
        alone(OriginSetting::SameHost)
    } else {
        input.each(parse::origin).map(OriginSetting::List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_that_each_layer_documents() {
        let config = defaults(Command::Serve);
        assert_eq!(
            format!("{:?}", config.limits),
            format!("{:?}", Limits::default())
        );
        assert_eq!(config.unix_mode, 0o660);
        assert_eq!(config.drain_time, Duration::from_secs(5));
        assert_eq!(config.driver, DriverChoice::default());
        assert_eq!(config.origin, OriginSetting::default());
        assert_eq!(
            (config.log, config.log_level),
            (LogFormat::default(), LogLevel::default())
        );
        assert_eq!(config.admin, Some(SocketAddr::from(([127, 0, 0, 1], 9090))));
        assert_eq!(defaults(Command::Echo).admin, None);
        assert_eq!(defaults(Command::Broadcast).admin, None);
    }

    #[test]
    fn every_word_is_taken_and_shown_as_itself() {
        for spec in OPTIONS {
            let Accepts::Word(words) = &spec.accepts else {
                continue;
            };
            for word in *words {
                let mut draft = Draft::new(Command::Serve);
                (spec.set)(&mut draft, &Input::new(spec, &[(*word).to_owned()])).expect(word);
                assert_eq!(
                    (spec.get)(&draft.config),
                    Shown::Text((*word).to_owned()),
                    "{}",
                    spec.name
                );
            }
        }
    }

    #[test]
    fn the_ends_of_every_range_are_inside_and_their_neighbours_outside() {
        let take = |spec: &'static OptionSpec, text: String| {
            (spec.set)(&mut Draft::new(Command::Serve), &Input::new(spec, &[text]))
        };
        for spec in OPTIONS {
            let (inside, outside) = match &spec.accepts {
                Accepts::Size(range) | Accepts::Count(range, None) => (
                    vec![range.start().to_string(), range.end().to_string()],
                    vec![
                        (range.start() - 1).to_string(),
                        (range.end() + 1).to_string(),
                    ],
                ),
                Accepts::Count(range, Some(_)) => (
                    vec!["0".to_owned(), range.end().to_string()],
                    vec![(range.end() + 1).to_string()],
                ),
                Accepts::Span(range, zero) => {
                    let mut ends = (
                        vec![
                            parse::show_duration(*range.start()),
                            parse::show_duration(*range.end()),
                        ],
                        vec![
                            "1us".to_owned(),
                            parse::show_duration(*range.end() + Duration::from_secs(1)),
                        ],
                    );
                    if zero.is_some() {
                        ends.0.push("0".to_owned())
                    } else {
                        ends.1.push("0".to_owned())
                    }
                    ends
                }
                Accepts::Word(_) | Accepts::Form(_) => (vec![], vec!["]".to_owned()]),
            };
            for text in inside {
                assert_eq!(take(spec, text.clone()), Ok(()), "{} {text}", spec.name);
            }
            for text in outside {
                let free_form = spec.value_name == "FILE";
                assert!(
                    free_form || take(spec, text.clone()).is_err(),
                    "{} {text}",
                    spec.name
                );
            }
        }
    }

    #[test]
    fn groups_stand_together_and_names_are_distinct() {
        let mut groups: Vec<Group> = OPTIONS.iter().map(|spec| spec.group).collect();
        groups.dedup();
        for (index, group) in groups.iter().enumerate() {
            assert!(
                !groups[..index].contains(group),
                "{group:?} is in two places"
            );
        }
        for (index, spec) in OPTIONS.iter().enumerate() {
            assert!(
                OPTIONS[..index].iter().all(|other| other.name != spec.name),
                "{}",
                spec.name
            );
            assert!(
                !spec.help.is_empty() && !spec.help.ends_with('.'),
                "{}",
                spec.name
            );
        }
    }

    /// Kubernetes gives every container variables for every service; those of a service named `corewire` must not be
    /// taken for options.
    #[test]
    fn no_variable_is_one_that_kubernetes_sets_for_a_service() {
        for spec in OPTIONS {
            assert!(!spec.variable().starts_with("COREWIRE_PORT"));
            assert!(!spec.variable().starts_with("COREWIRE_SERVICE"));
        }
    }
}
