//! The table itself. Nothing here but options and the constants that they share.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Accepts, Fallback, Group, Input, OptionSpec, SWITCH, Shown, back_end, tokens};
use crate::config::{DriverChoice, ListenAddr, LogFormat, LogLevel, OriginSetting, listen, parse};
use crate::connection::{DeflateMode, Limits};

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
        set: |draft, input| input.each(str::parse::<ListenAddr>).map(|addrs| draft.config.listen = addrs),
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
        set: |draft, input| parse::cores(input.one()?).map(|cores| draft.config.cores = Some(cores)),
        get: |config| config.cores.as_deref().map_or(Shown::Unset, |cores| Shown::Text(parse::show_cores(cores))),
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
        set: |draft, input| input.word(&DRIVERS).map(|driver| draft.config.driver = driver),
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
        name: "demo",
        value_name: "on|off",
        group: Group::Admission,
        repeatable: false,
        accepts: Accepts::Word(SWITCH),
        default: Fallback::Value("off"),
        help: "Lets every client publish in the default namespace, to try things out",
        more: "For serve only. Anyone who can connect can then write to everybody; without it, clients only listen.",
        set: |draft, input| input.word(&[false, true]).map(|demo| draft.config.demo = demo),
        get: |config| Shown::word("demo", Some(usize::from(config.demo))),
    },
    OptionSpec {
        name: "strict-namespaces",
        value_name: "on|off",
        group: Group::Admission,
        repeatable: false,
        accepts: Accepts::Word(SWITCH),
        default: Fallback::Value("off"),
        help: "Refuses topics with a colon whose namespace the configuration file does not have",
        more: "For serve only. Clients get the error unknown_namespace, URLs status 404, and the HTTP API 400; a topic \
               without a colon is in the default namespace. Without it, so is every topic that is in no other.",
        set: |draft, input| input.word(&[false, true]).map(|strict| draft.config.strict_namespaces = strict),
        get: |config| Shown::word("strict-namespaces", Some(usize::from(config.strict_namespaces))),
    },
    OptionSpec {
        name: "trusted-proxy",
        value_name: "CIDR",
        group: Group::Admission,
        repeatable: true,
        accepts: Accepts::Form("a network or an address, such as 10.0.0.0/8, 127.0.0.1 or fd00::/8"),
        default: Fallback::Unset("none"),
        help: "Networks of proxies whose forwarded client addresses are believed",
        more: "Example: --trusted-proxy 10.0.0.0/8. What other peers say about forwarded addresses is ignored.",
        set: |draft, input| input.each(parse::network).map(|nets| draft.config.trusted_proxies = nets),
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
        more: "Example: --max-connections 10k (10,000). Over TLS, and when very many come at once, they are closed without \
               an answer. The process's limit of open files (ulimit -n) holds besides.",
        set: |draft, input| {
            let count = usize::try_from(input.count()?).map_err(|_| "it is too large".to_owned())?;
            draft.config.max_connections = (count > 0).then_some(count);
            Ok(())
        },
        get: |config| Shown::Number(config.max_connections.unwrap_or(0) as u64),
    },
    OptionSpec {
        name: "max-connections-per-address",
        value_name: "N",
        group: Group::Admission,
        repeatable: false,
        accepts: Accepts::Count(1..=1_000_000_000, Some("no limit")),
        default: Fallback::Value("0"),
        help: "Most connections of serve from one address, over all cores",
        more: "IPv6 addresses count as one that share their first 64 bits. Behind a proxy the address is what a \
               --trusted-proxy says. Those beyond are closed with 4004, or get status 429 where a URL says everything.",
        set: |draft, input| input.limit().map(|limit| draft.config.max_connections_per_address = limit),
        get: |config| Shown::limit(config.max_connections_per_address),
    },
    OptionSpec {
        name: "message-rate",
        value_name: "RATE",
        group: Group::Admission,
        repeatable: false,
        accepts: Accepts::Form(RATE),
        default: Fallback::Value("0"),
        help: "How fast one connection may send messages to serve; 0 is as fast as it can",
        more: "Example: --message-rate 20/s, and 20 at once. What is too much is refused as rate_limited; who goes on and \
               on is closed with 4005. A raw client is closed at once: there is no other way to tell it.",
        set: |draft, input| input.rate().map(|rate| draft.config.message_rate = rate),
        get: |config| Shown::rate(config.message_rate.as_ref()),
    },
    tokens::TOKEN_SECRET,
    tokens::TOKEN_KEY,
    tokens::TOKEN_JWKS,
    tokens::TOKEN_AUDIENCE,
    tokens::TOKEN_ISSUER,
    tokens::TOKEN_LEEWAY,
    tokens::ANONYMOUS,
    tokens::MAX_CONNECTIONS_PER_USER,
    OptionSpec {
        name: "deflate",
        value_name: "MODE",
        group: Group::Limits,
        repeatable: false,
        accepts: Accepts::Word(&["off", "shared", "dedicated"]),
        default: Fallback::Value("shared"),
        help: "Compression with permessage-deflate: off, shared or dedicated",
        more: "shared compresses each message alone and takes no memory per connection. dedicated keeps the window \
               between messages where the peer allows it: a better ratio, up to 418 KiB per connection.",
        set: |draft, input| input.word(&DEFLATES).map(|mode| draft.config.limits.deflate = mode),
        get: |config| Shown::word("deflate", DEFLATES.iter().position(|d| *d == config.limits.deflate)),
    },
    OptionSpec {
        name: "max-message-bytes",
        value_name: "SIZE",
        group: Group::Limits,
        repeatable: false,
        accepts: Accepts::Size(MESSAGE_RANGE),
        default: Fallback::Value("16MiB"),
        help: "Largest message, after reassembly, both as it is sent and decompressed; larger ones close with 1009",
        more: "Example: --max-message-bytes 64k. What cannot be compressed, such as images, grows a little where a client \
               compresses it all the same.",
        set: |draft, input| input.size().map(|bytes| draft.config.limits.message_bytes_max = bytes),
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
        set: |draft, input| input.size().map(|bytes| draft.config.limits.frame_bytes_max = bytes),
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
            limits.queued_bytes_pause = Limits::default().queued_bytes_pause.min(limits.queued_bytes_max / 2);
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
        set: |draft, input| input.size().map(|bytes| draft.config.limits.header_bytes_max = bytes),
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
        set: |draft, input| input.span().map(|span| draft.config.limits.handshake_timeout = span),
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
        set: |draft, input| input.span().map(|span| draft.config.limits.idle_timeout = span),
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
        set: |draft, input| input.span().map(|span| draft.config.limits.ping_interval = span),
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
        set: |draft, input| input.span().map(|span| draft.config.limits.close_timeout = span),
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
    back_end::WEBHOOK_URL,
    back_end::WEBHOOK_SECRET_FILE,
    back_end::WEBHOOK_EVENTS,
    back_end::WEBHOOK_BATCH_EVENTS,
    back_end::WEBHOOK_BATCH_WAIT,
    back_end::WEBHOOK_QUEUE_EVENTS,
    back_end::WEBHOOK_QUEUE_BYTES,
    back_end::WEBHOOK_TIMEOUT,
    back_end::WEBHOOK_RETRY_MIN,
    back_end::WEBHOOK_RETRY_MAX,
    back_end::WEBHOOK_DRAIN_TIME,
    back_end::CONNECT_PROXY,
    back_end::CONNECT_PROXY_TIMEOUT,
    back_end::CONNECT_PROXY_REQUESTS,
    OptionSpec {
        name: "admin",
        value_name: "ADDR|off",
        group: Group::Admin,
        repeatable: false,
        accepts: Accepts::Form("host:port such as 127.0.0.1:9090, or off"),
        default: Fallback::Unset("127.0.0.1:9090 for serve, off for echo and broadcast"),
        help: "Where metrics, health and the HTTP API are served: /metrics, /healthz, /readyz, /api/v1",
        more: "Whoever reaches this address may read the first three: they have no password, so keep it on loopback or on \
               a network of your own.",
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
        name: "api-key",
        value_name: "KEY",
        group: Group::Admin,
        repeatable: false,
        accepts: Accepts::Form(
            "at least 16 letters, digits and signs without white space; openssl rand -hex 24 makes one",
        ),
        default: Fallback::Unset("none: the HTTP API answers this machine only"),
        help: "Key that back ends show to the HTTP API, in X-API-Key or Authorization: Bearer",
        more: "Others on the machine can read it in the list of processes: better use the variable or --api-key-file.",
        set: |draft, input| {
            draft.api_key = Some(input.one()?.to_owned());
            draft.config.has_own_api_key = true;
            Ok(())
        },
        get: |config| if config.has_own_api_key { Shown::Hidden } else { Shown::Unset },
    },
    OptionSpec {
        name: "api-key-file",
        value_name: "FILE",
        group: Group::Admin,
        repeatable: false,
        accepts: Accepts::Form("a file with an API key per line; lines that begin with # do not count"),
        default: Fallback::Unset("none"),
        help: "File with keys for the HTTP API, one per line; they hold beside --api-key",
        more: "With several, back ends can change from one to the next.",
        set: |draft, input| input.path().map(|path| draft.config.api_key_file = Some(path)),
        get: |config| config.api_key_file.as_deref().map_or(Shown::Unset, |path| Shown::text(path.display())),
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
        set: |draft, input| input.word(&LOG_FORMATS).map(|format| draft.config.log = format),
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
        set: |draft, input| input.word(&LOG_LEVELS).map(|level| draft.config.log_level = level),
        get: |config| Shown::word("log-level", LOG_LEVELS.iter().position(|l| *l == config.log_level)),
    },
];

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

/// What a rate looks like.
pub(super) const RATE: &str =
    "a number per second such as 20, or per minute or hour such as 30/m or 100/h; 0 is no limit";

const OFF: &str = "off";
const SAME_HOST: &str = "same-host";

pub(super) const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The year of `humantime`, so that it is shown as `1year`.
const YEAR: Duration = Duration::from_secs(31_557_600);

/// A control frame has up to 125 bytes and comes in one piece (RFC 6455 §5.5), so no limit may be lower.
const MESSAGE_RANGE: RangeInclusive<u64> = 125..=4 * GIB;

const DRIVERS: [DriverChoice; 3] = [DriverChoice::Auto, DriverChoice::IoUring, DriverChoice::Epoll];
const DEFLATES: [DeflateMode; 3] = [DeflateMode::Off, DeflateMode::Shared, DeflateMode::Dedicated];
const LOG_FORMATS: [LogFormat; 2] = [LogFormat::Text, LogFormat::Json];
const LOG_LEVELS: [LogLevel; 5] = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
