//! The table of options: the one place where an option is defined.
//!
//! The command line, the variables, the keys of the file, the help, `--check-config` and the reference in
//! `docs/CONFIGURATION.md` are all made from it, so an option cannot exist in one and be missing in another.

mod back_end;
mod namespaces;
mod table;
mod tokens;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{BackEnd, Command, Config, DriverChoice, LogFormat, LogLevel, OriginSetting, TlsFiles, parse};
use crate::auth::{KeyFile, KeyFormat, Policy};
use crate::connection::Limits;
use crate::rate::Rate;
use crate::topics::Namespace;

pub(super) use namespaces::find as namespace_key;
pub use namespaces::{NAMESPACE_KEYS, NamespaceKey};
pub use table::OPTIONS;

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
    /// Whether its name alone turns it on.
    pub fn is_switch(&self) -> bool {
        matches!(self.accepts, Accepts::Word(words) if words == SWITCH)
    }

    /// Name of the variable: `COREWIRE_MAX_MESSAGE_BYTES`.
    pub fn variable(&self) -> String {
        format!("COREWIRE_{}", self.name.replace('-', "_").to_ascii_uppercase())
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
    /// Who somebody is.
    Tokens,
    /// Sizes.
    Limits,
    /// Timeouts.
    Times,
    /// Webhooks and the connect proxy.
    BackEnd,
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
            Self::Tokens => "Tokens, for serve",
            Self::Limits => "Messages and memory, per connection",
            Self::Times => "Time, per connection",
            Self::BackEnd => "Back end: webhooks and connect proxy",
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
            Self::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            Self::Form(form) => (*form).to_owned(),
        }
    }

    fn range(&self) -> String {
        let (low, high, zero) = match self {
            Self::Size(range) => (parse::show_size(*range.start()), parse::show_size(*range.end()), None),
            Self::Count(range, zero) => (range.start().to_string(), range.end().to_string(), *zero),
            Self::Span(range, zero) => {
                (parse::show_duration(*range.start()), parse::show_duration(*range.end()), *zero)
            }
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
            let texts = super::load::split(spec, text);
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
    pub(super) api_key: Option<String>,
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
            demo: false,
            token_keys: Vec::new(),
            token_policy: Policy::default(),
            anonymous: true,
            max_connections_per_user: None,
            max_connections_per_address: None,
            message_rate: None,
            namespaces: vec![Namespace::default()],
            strict_namespaces: false,
            trusted_proxies: Vec::new(),
            back_end: BackEnd::default(),
            admin,
            api_keys: None,
            has_own_api_key: false,
            api_key_file: None,
            drain_delay: Duration::ZERO,
            drain_time: Duration::ZERO,
            log: LogFormat::Text,
            log_level: LogLevel::Info,
        };
        Self { config, tls_cert: None, tls_key: None, tls_client_ca: None, api_key: None }
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
        Self::of(&spec.accepts, texts)
    }

    pub(super) fn of(accepts: &'static Accepts, texts: &'a [String]) -> Self {
        Self { accepts, texts }
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
        let Accepts::Size(range) = self.accepts else { unreachable!("the table says that it is a size") };
        parse::size(self.one()?, range)
    }

    fn count(&self) -> Result<u64, String> {
        let Accepts::Count(range, zero) = self.accepts else { unreachable!("the table says that it is a count") };
        match self.one()? {
            "0" if zero.is_some() => Ok(0),
            text => parse::count(text, range),
        }
    }

    fn span(&self) -> Result<Duration, String> {
        let Accepts::Span(range, zero) = self.accepts else { unreachable!("the table says that it is a duration") };
        parse::duration(self.one()?, range, zero.is_some())
    }

    /// As a limit, where zero is none.
    fn limit(&self) -> Result<Option<NonZeroU32>, String> {
        let count = u32::try_from(self.count()?).map_err(|_| "it is too large".to_owned())?;
        Ok(NonZeroU32::new(count))
    }

    fn rate(&self) -> Result<Option<Rate>, String> {
        parse::rate(self.one()?)
    }

    fn names(&self) -> Result<Vec<String>, String> {
        self.each(|name| if name.is_empty() { Err("the name is empty".to_owned()) } else { Ok(name.to_owned()) })
    }

    fn key_files(&self, format: KeyFormat) -> Result<Vec<KeyFile>, String> {
        self.each(|path| match path {
            "" => Err("the path is empty".to_owned()),
            path => Ok(KeyFile { path: path.into(), format }),
        })
    }

    /// The value at the place of the word in the table.
    fn word<T: Copy>(&self, values: &[T]) -> Result<T, String> {
        let Accepts::Word(words) = self.accepts else { unreachable!("the table says that it is a word") };
        let text = self.one()?;
        let place = words.iter().position(|word| *word == text);
        place.and_then(|place| values.get(place).copied()).ok_or_else(|| {
            match parse::nearest(text, words.iter().copied()) {
                Some(near) => format!("`{text}` is not known; perhaps {near}"),
                None => format!("`{text}` is not known"),
            }
        })
    }
}

/// An effective value, in the form that the file takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Unset,
    /// It has a value, which is a secret.
    Hidden,
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

    fn limit(limit: Option<NonZeroU32>) -> Self {
        Self::Number(limit.map_or(0, NonZeroU32::get).into())
    }

    fn rate(rate: Option<&Rate>) -> Self {
        Self::Text(parse::show_rate(rate))
    }

    fn key_files(config: &Config, format: KeyFormat) -> Self {
        let of_format = config.token_keys.iter().filter(|file| file.format == format);
        Self::List(of_format.map(|file| file.path.display().to_string()).collect())
    }

    fn word(spec_name: &str, place: Option<usize>) -> Self {
        let words = match find(spec_name).map(|spec| &spec.accepts) {
            Some(Accepts::Word(words)) => *words,
            _ => &[],
        };
        place.and_then(|place| words.get(place)).map_or(Self::Unset, Self::text)
    }
}

/// What a switch may be.
const SWITCH: &[&str] = &["off", "on"];

const ADMIN_PORT: u16 = 9090;

#[cfg(test)]
mod tests;
