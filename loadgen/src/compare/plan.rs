//! The plan of a comparison, as TOML says it.
//!
//! A case has the names of the command line, as a phase of `run` has, and a few of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::{Table, Value};

use super::figures::Kind;
use super::roster::{Mode, ServerPlan};
use crate::args::Command;
use crate::commands;
use crate::mix;
use crate::units::parse_span;

/// Who is compared, in what, and how often.
#[derive(Debug)]
pub(super) struct ComparePlan {
    pub(super) spin: bool,
    pub(super) server_core: Option<usize>,
    pub(super) generator_cores: Vec<usize>,
    /// Whether servers may have them: they hide or multiply small figures of memory.
    pub(super) huge_pages: bool,
    /// Certificate and key in PEM; made for the run if there are none.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    pub(super) servers: Vec<ServerPlan>,
    pub(super) cases: Vec<CasePlan>,
}

/// One load, and who gets it.
#[derive(Clone, Debug)]
pub(super) struct CasePlan {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// What the server must do with messages.
    pub(super) mode: Mode,
    pub(super) tls: Option<Tls>,
    /// Names of those that get it.
    pub(super) servers: Vec<String>,
    /// Ratios are to this one.
    pub(super) reference: String,
    pub(super) rounds: usize,
    pub(super) measured: Duration,
    pub(super) warm_up: Duration,
    /// Set by what the slowest saturates at, or as it stands in the options.
    pub(super) rate: Option<RelativeRate>,
    pub(super) connections: u64,
    /// As on the command line.
    options: Table,
}

/// What of a plan is wanted; all of it where nothing is named.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// Counted from 1.
    pub(crate) cases: Vec<usize>,
    pub(crate) servers: Vec<String>,
}

/// What a file of servers holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServersText {
    server: Vec<ServerPlan>,
}

/// Whether sessions are resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    Full,
    Resumed,
}

/// A share of the messages per second that the slowest server reaches in the closed loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelativeRate {
    ThirdOfSlowest,
    HalfOfSlowest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanText {
    reference: Option<String>,
    #[serde(default = "default_rounds")]
    rounds: usize,
    #[serde(default = "default_slice")]
    slice: String,
    #[serde(default = "default_warm_up")]
    warm_up: String,
    #[serde(default)]
    spin: bool,
    server_core: Option<usize>,
    #[serde(default)]
    generator_cores: Vec<usize>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    #[serde(default = "default_huge_pages")]
    huge_pages: bool,
    /// A file beside the plan with more servers.
    servers_from: Option<PathBuf>,
    #[serde(default)]
    server: Vec<ServerPlan>,
    case: Vec<Table>,
}

impl ComparePlan {
    /// Reads a plan; files that it names lie in `folder`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub(super) fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let mut plan: PlanText = toml::from_str(text).map_err(|error| error.to_string())?;
        if let Some(file) = &plan.servers_from {
            let path = folder.join(file);
            let text = commands::read_file(&path)?;
            let more: ServersText = toml::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            plan.server.extend(more.server);
        }
        for server in &plan.server {
            server.check()?;
        }
        let names: Vec<&str> = plan.server.iter().map(|server| server.name.as_str()).collect();
        if let Some(reference) = &plan.reference
            && !names.contains(&reference.as_str())
        {
            return Err(format!("the reference `{reference}` is none of the servers {names:?}"));
        }
        if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return Err(format!("there are two servers `{}`", twice.1));
        }
        let certificate = match (plan.tls_cert.clone(), plan.tls_key.clone()) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("tls_cert and tls_key belong together".to_owned()),
        };
        let cases = plan.case.iter().enumerate().map(|(at, case)| {
            CasePlan::parse(case.clone(), &plan).map_err(|error| format!("case {}: {error}", at + 1))
        });
        let cases = cases.collect::<Result<Vec<_>, _>>()?;
        if let Some(twice) =
            cases.iter().enumerate().find(|(at, case)| cases[..*at].iter().any(|other| other.name == case.name))
        {
            return Err(format!("there are two cases `{}`: give one another name", twice.1.name));
        }
        Ok(Self {
            spin: plan.spin,
            server_core: plan.server_core,
            generator_cores: plan.generator_cores,
            huge_pages: plan.huge_pages,
            certificate,
            servers: plan.server,
            cases,
        })
    }

    /// Leaves what is not wanted.
    ///
    /// # Errors
    ///
    /// If what is wanted is not there.
    pub(super) fn choose(&mut self, choice: &Choice) -> Result<(), String> {
        if let Some(at) = choice.cases.iter().find(|&&at| at == 0 || at > self.cases.len()) {
            return Err(format!("there is no case {at}: the plan has {}", self.cases.len()));
        }
        if let Some(name) = choice.servers.iter().find(|&name| !self.servers.iter().any(|server| server.name == *name))
        {
            let names: Vec<&str> = self.servers.iter().map(|server| server.name.as_str()).collect();
            return Err(format!("there is no server `{name}`: the plan has {names:?}"));
        }
        if !choice.cases.is_empty() {
            let mut at = 0;
            self.cases.retain(|_| {
                at += 1;
                choice.cases.contains(&at)
            });
        }
        if !choice.servers.is_empty() {
            self.servers.retain(|server| choice.servers.contains(&server.name));
            for case in &mut self.cases {
                case.servers.retain(|name| choice.servers.contains(name));
                if let Some(first) = case.servers.first().filter(|_| !case.servers.contains(&case.reference)) {
                    case.reference.clone_from(first);
                }
            }
            self.cases.retain(|case| !case.servers.is_empty());
        }
        if self.cases.is_empty() { Err("no case is left".to_owned()) } else { Ok(()) }
    }

    /// How long all of it takes, as far as that can be known before.
    pub(super) fn estimate(&self) -> Duration {
        let starts = self.servers.len() as u32 * START_SPAN;
        self.cases.iter().map(CasePlan::estimate).sum::<Duration>() + starts
    }
}

impl CasePlan {
    fn parse(mut options: Table, plan: &PlanText) -> Result<Self, String> {
        for name in NOT_FOR_CASES {
            if options.contains_key(name) {
                return Err(format!("`{name}` has no place in a case"));
            }
        }
        let scenario = take_text(&mut options, "scenario")?.unwrap_or_else(|| "echo".to_owned());
        let kind = Kind::of(&scenario)
            .ok_or_else(|| format!("`{scenario}` is no scenario: echo, fanout, idle, storm or slow"))?;
        let tls = match take_text(&mut options, "tls")?.as_deref() {
            None => None,
            Some("full") => Some(Tls::Full),
            Some("resumed") => Some(Tls::Resumed),
            Some(other) => return Err(format!("tls is `full` or `resumed`, not `{other}`")),
        };
        let rate = take_relative_rate(&mut options)?;
        if rate.is_some() && kind != Kind::Echo {
            return Err("a rate that depends on the slowest is for echo only".to_owned());
        }
        let mode = if kind == Kind::Fanout { Mode::Broadcast } else { Mode::Echo };
        let servers = take_servers(&mut options, plan, |server| server.can(kind, mode, tls.is_some()))?;
        let reference = match take_text(&mut options, "reference")? {
            Some(name) if servers.contains(&name) => name,
            Some(name) => return Err(format!("the reference `{name}` is none of its servers {servers:?}")),
            None => {
                let of_plan = plan.reference.clone().filter(|name| servers.contains(name));
                of_plan.or_else(|| servers.first().cloned()).ok_or("no server can do it")?
            }
        };
        let rounds = match options.remove("rounds") {
            None if kind == Kind::Idle => plan.rounds.min(IDLE_ROUNDS),
            None => plan.rounds,
            Some(Value::Integer(rounds)) => usize::try_from(rounds).unwrap_or(0),
            Some(_) => return Err("rounds must be a number".to_owned()),
        };
        if rounds == 0 {
            return Err("rounds must be 1 at least".to_owned());
        }
        let measured = match take_text(&mut options, "for")? {
            Some(span) => parse_span(&span)?,
            None if kind == Kind::Idle => IDLE_SPAN,
            None => parse_span(&plan.slice)?,
        };
        let warm_up = match take_text(&mut options, "warm_up")? {
            Some(span) => parse_span(&span)?,
            None => parse_span(&plan.warm_up)?,
        };
        let name = take_text(&mut options, "name")?;
        let connections = CONNECTIONS_UNLESS_TOLD;
        let mut case = Self {
            name: String::new(),
            kind,
            mode,
            tls,
            servers,
            reference,
            rounds,
            measured,
            warm_up,
            rate,
            connections,
            options,
        };
        let spin = plan.spin;
        let command = case.command(NOWHERE, spin, &plan.generator_cores, None)?;
        case.connections = commands::common_of(&command).map_or(connections, |common| common.connections);
        case.name = name.unwrap_or_else(|| case.describe());
        Ok(case)
    }

    /// The case on the command line, against `url`; `rate` instead of what stands in the plan.
    ///
    /// # Errors
    ///
    /// What is wrong with the options.
    pub(super) fn command(&self, url: &str, spin: bool, cores: &[usize], rate: Option<f64>) -> Result<Command, String> {
        let mut options = self.options.clone();
        let mut set = |name: &str, value: Value| {
            options.insert(name.to_owned(), value);
        };
        let span = |span: Duration| Value::String(format!("{}us", span.as_micros()));
        set("scenario", Value::String(self.kind.scenario().to_owned()));
        set("url", Value::String(url.to_owned()));
        set("for", span(self.measured));
        set("warm_up", span(self.warm_up));
        set("spin", Value::Boolean(spin));
        set("tls_full", Value::Boolean(self.tls == Some(Tls::Full)));
        set("cores", Value::Array(cores.iter().map(|&core| Value::Integer(core as i64)).collect()));
        if let Some(rate) = rate {
            set("rate", Value::Float(rate));
        }
        mix::command_of(options)
    }

    fn describe(&self) -> String {
        let option = |name: &str| self.options.get(name).map(|value| mix::plain(value).unwrap_or_default());
        let size = match (self.kind, option("size")) {
            (Kind::Echo | Kind::Slow | Kind::Fanout, size) => {
                let default = if self.kind == Kind::Fanout { "128" } else { "64" };
                format!(" × {} B", size.unwrap_or_else(|| default.to_owned()))
            }
            (Kind::Storm | Kind::Idle, _) => String::new(),
        };
        let scenario = if self.kind == Kind::Echo { String::new() } else { format!("{}: ", self.kind.scenario()) };
        let mut name = format!("{scenario}{}{size}", self.connections);
        match (self.tls, self.kind) {
            (None, _) => {}
            (Some(Tls::Full), _) => name.push_str(", TLS, full handshakes"),
            (Some(Tls::Resumed), _) => name.push_str(", TLS, resumed"),
        }
        for (key, value) in &self.options {
            if !["size", "connections"].contains(&key.as_str()) {
                let value = mix::plain(value).map_or_else(|_| String::new(), |value| format!(" {value}"));
                name.push_str(&format!(", {}{value}", key.replace('_', " ")));
            }
        }
        match self.rate {
            None => {}
            Some(RelativeRate::ThirdOfSlowest) => name.push_str(", open loop at a third of the slowest"),
            Some(RelativeRate::HalfOfSlowest) => name.push_str(", open loop at half of the slowest"),
        }
        name
    }

    /// For one server in one round.
    fn slice_estimate(&self) -> Duration {
        let opening = Duration::from_secs_f64(self.connections as f64 / OPENED_PER_SECOND);
        let option = |name: &str| self.options.get(name).and_then(|value| parse_span(&mix::plain(value).ok()?).ok());
        if self.kind != Kind::Idle {
            return opening + self.warm_up + self.measured + SLICE_EXTRA;
        }
        let settle = option("settle").unwrap_or(Duration::from_secs(3));
        let hot = option("hot_for").map_or(Duration::ZERO, |hot| hot + settle);
        let sparse = option("sparse_every").map_or(Duration::ZERO, |_| settle);
        let waves = self.options.get("waves").and_then(|waves| mix::plain(waves).ok()?.parse().ok()).unwrap_or(1_u32);
        let later = if hot.is_zero() { self.measured } else { hot } + opening + settle;
        START_SPAN
            + IDLE_EXTRA
            + opening
            + self.measured
            + sparse
            + hot
            + later * (waves - 1)
            + if waves > 1 { settle } else { Duration::ZERO }
    }

    fn estimate(&self) -> Duration {
        // A round that is thrown away, and those that find the rate.
        let thrown_away = usize::from(self.kind != Kind::Idle);
        let rounds = self.rounds + thrown_away + if self.rate.is_some() { RATE_ROUNDS } else { 0 };
        self.slice_estimate() * (rounds * self.servers.len()) as u32
    }
}

impl RelativeRate {
    /// Two digits, rounded down, of what the slowest reaches.
    pub(super) fn of(self, slowest_per_second: f64) -> f64 {
        let exact = match self {
            Self::ThirdOfSlowest => slowest_per_second / 3.0,
            Self::HalfOfSlowest => slowest_per_second / 2.0,
        };
        let unit = 10_f64.powf(exact.max(1e-3).log10().floor() - 1.0);
        (exact / unit).floor() * unit
    }
}

fn take_text(options: &mut Table, name: &str) -> Result<Option<String>, String> {
    match options.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} must be a text")),
    }
}

fn take_relative_rate(options: &mut Table) -> Result<Option<RelativeRate>, String> {
    let rate = match options.get("rate") {
        Some(Value::String(text)) if text == "third-of-slowest" => RelativeRate::ThirdOfSlowest,
        Some(Value::String(text)) if text == "half-of-slowest" => RelativeRate::HalfOfSlowest,
        Some(Value::String(text)) if text.contains("slowest") => {
            return Err(format!("`{text}` is no rate: third-of-slowest or half-of-slowest"));
        }
        _ => return Ok(None),
    };
    options.remove("rate");
    Ok(Some(rate))
}

/// Those that are named, all of which must be able to; or all that are.
fn take_servers(
    options: &mut Table,
    plan: &PlanText,
    can: impl Fn(&ServerPlan) -> bool,
) -> Result<Vec<String>, String> {
    let Some(named) = options.remove("servers") else {
        let able: Vec<String> =
            plan.server.iter().filter(|server| can(server)).map(|server| server.name.clone()).collect();
        return if able.is_empty() { Err("none of the servers can do it".to_owned()) } else { Ok(able) };
    };
    let Value::Array(named) = named else { return Err("servers must be a list of names".to_owned()) };
    let known = |name: &Value| {
        let name = name.as_str().ok_or("servers must be a list of names")?;
        let server = plan.server.iter().find(|server| server.name == name);
        match server {
            None => Err(format!("there is no server `{name}`")),
            Some(server) if !can(server) => Err(format!("`{name}` cannot do it: it lacks the mode, or TLS")),
            Some(_) => Ok(name.to_owned()),
        }
    };
    let named = named.iter().map(known).collect::<Result<Vec<_>, _>>()?;
    if named.is_empty() { Err("servers is empty".to_owned()) } else { Ok(named) }
}

fn default_huge_pages() -> bool {
    true
}

fn default_rounds() -> usize {
    7
}

fn default_slice() -> String {
    "500ms".to_owned()
}

fn default_warm_up() -> String {
    "200ms".to_owned()
}

/// What the plan as a whole decides, or what makes no sense here.
const NOT_FOR_CASES: [&str; 14] = [
    "url",
    "pid",
    "spawn",
    "server_core",
    "cores",
    "spin",
    "json",
    "html",
    "hdr",
    "quiet",
    "tls_full",
    "tls_roots",
    "i_may_load_this_host",
    "child",
];
/// Stands for a server while a plan is checked.
const NOWHERE: &str = "ws://127.0.0.1:1/";
/// As the command line has it.
const CONNECTIONS_UNLESS_TOLD: u64 = 50;
/// Memory varies less than time, and a round of it takes longer.
const IDLE_ROUNDS: usize = 3;
/// Silence of idle connections, unless told.
const IDLE_SPAN: Duration = Duration::from_secs(3);
/// Rounds in the closed loop that find a rate.
pub(super) const RATE_ROUNDS: usize = 3;
/// What estimates assume: connections opened per second,
const OPENED_PER_SECOND: f64 = 8000.0;
/// a server's start,
const START_SPAN: Duration = Duration::from_millis(500);
/// the beginning and the end of a slice,
const SLICE_EXTRA: Duration = Duration::from_millis(150);
/// and those of a crowd: its first wave, and rests.
const IDLE_EXTRA: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        spin = true
        server_core = 0
        [[server]]
        name = "a"
        command = "a --port {port} --mode {mode}"
        tls = "--cert {cert} --key {key}"
        [[server]]
        name = "b"
        command = "b --port {port}"
        [[server]]
        name = "floor"
        command = "floor --port {port}"
        url = "tcp://127.0.0.1:{port}"
        [[case]]
        connections = 200
        size = "1k"
        [[case]]
        scenario = "fanout"
        connections = "5k"
        rate = 20
        publishers = 2
        for = "2s"
        [[case]]
        scenario = "storm"
        tls = "resumed"
        [[case]]
        scenario = "idle"
        connections = 100
        hot_for = "1s"
        waves = 3
        rounds = 1
        [[case]]
        connections = 32
        rate = "third-of-slowest"
        servers = ["b", "a"]
        reference = "a"
    "#;

    #[test]
    fn a_good_plan_with_its_defaults() {
        let plan = ComparePlan::parse(GOOD, Path::new(".")).unwrap();
        let [echo, fanout, storm, idle, third] = plan.cases.as_slice() else { panic!("{plan:#?}") };
        assert_eq!((echo.rounds, echo.measured), (7, Duration::from_millis(500)));
        assert_eq!(echo.servers, ["a", "b", "floor"]);
        assert_eq!(echo.reference, "a", "the first");
        assert_eq!(fanout.servers, ["a"], "who has no broadcast is left out");
        assert_eq!((fanout.connections, fanout.measured), (5000, Duration::from_secs(2)));
        assert_eq!((storm.servers.as_slice(), storm.tls), (["a".to_owned()].as_slice(), Some(Tls::Resumed)));
        assert_eq!(idle.servers, ["a", "b"], "a floor speaks no WebSocket");
        assert_eq!(idle.rounds, 1);
        assert_eq!((third.reference.as_str(), third.rate), ("a", Some(RelativeRate::ThirdOfSlowest)));
        let Command::Fanout(args) = fanout.command("ws://127.0.0.1:7/", true, &[1], None).unwrap() else { panic!() };
        assert_eq!((args.publishers, args.rate, args.common.url.as_str()), (2, Some(20.0), "ws://127.0.0.1:7/"));
        let Command::Echo(args) = third.command(NOWHERE, false, &[], Some(3100.0)).unwrap() else { panic!() };
        assert_eq!((args.rate, args.common.connections), (Some(3100.0), 32));
    }

    #[test]
    fn a_part_of_a_plan_may_be_chosen() {
        let choose = |cases: &[usize], servers: &[&str]| {
            let mut plan = ComparePlan::parse(GOOD, Path::new(".")).unwrap();
            let servers = servers.iter().map(|&name| name.to_owned()).collect();
            plan.choose(&Choice { cases: cases.to_vec(), servers }).map(|()| plan)
        };
        let plan = choose(&[1, 5], &["b", "floor"]).unwrap();
        assert_eq!(plan.servers.len(), 2);
        let left: Vec<_> = plan.cases.iter().map(|case| (case.servers.as_slice(), case.reference.as_str())).collect();
        let (both, one) = (["b".to_owned(), "floor".to_owned()], ["b".to_owned()]);
        assert_eq!(left, [(both.as_slice(), "b"), (one.as_slice(), "b")]);
        assert!(choose(&[9], &[]).unwrap_err().contains("no case 9"));
        assert!(choose(&[], &["z"]).unwrap_err().contains("no server `z`"));
        assert!(choose(&[3], &["floor"]).unwrap_err().contains("no case is left"));
        assert_eq!(choose(&[], &[]).unwrap().cases.len(), 5);
    }

    #[test]
    fn plans_that_are_refused_and_why() {
        let cases = [
            (GOOD.replace("spin", "spn"), "unknown field `spn`"),
            (GOOD.replace("tls = \"--cert", "tsl = \"--cert"), "unknown field `tsl`"),
            (GOOD.replace("reference = \"a\"", "reference = \"c\""), "none of its servers"),
            (format!("reference = \"c\"\n{GOOD}"), "none of the servers"),
            (GOOD.replace("b --port {port}", "b"), "no {port}"),
            (GOOD.replace("1k", "1x"), "case 1: invalid value '1x'"),
            (GOOD.replace("connections = 200", "connections = 0"), "1 at least"),
            (GOOD.replace("publishers", "publisher"), "case 2: unexpected argument '--publisher'"),
            (GOOD.replace("\"resumed\"", "\"half\""), "case 3: tls is"),
            (GOOD.replace("third-of", "fifth-of"), "`fifth-of-slowest` is no rate"),
            (GOOD.replace("[\"b\", \"a\"]", "[\"z\", \"a\"]"), "no server `z`"),
            (GOOD.replace("rounds = 1", "rounds = 0"), "1 at least"),
            (GOOD.replace("waves = 3", "pid = 3"), "`pid` has no place"),
            (GOOD.replace("\"storm\"", "\"stork\""), "`stork` is no scenario"),
            (GOOD.replace("name = \"b\"", "name = \"a\""), "two servers `a`"),
            (GOOD.replace("tls = \"resumed\"", "servers = [\"floor\"]"), "cannot do it"),
            (format!("servers_from = \"none.toml\"\n{GOOD}"), "none.toml cannot be read"),
            (format!("tls_cert = \"x\"\n{GOOD}"), "belong together"),
        ];
        for (text, want) in cases {
            let error = ComparePlan::parse(&text, Path::new(".")).unwrap_err();
            assert!(error.contains(want), "{want}: {error}");
        }
    }

    #[test]
    fn a_relative_rate_has_two_digits_and_never_more_than_its_share() {
        let third = RelativeRate::ThirdOfSlowest;
        for (slowest, want) in [(100_000.0, 33_000.0), (30.0, 10.0), (9_999.0, 3_300.0), (2.0, 0.66)] {
            let rate = third.of(slowest);
            assert!((rate - want).abs() < 1e-9 * want, "{slowest}: {rate}");
        }
        assert_eq!(RelativeRate::HalfOfSlowest.of(87_462.0), 43_000.0);
    }

    #[test]
    fn the_plan_that_the_readme_shows_is_good() {
        let readme = include_str!("../../README.md");
        let plan = readme.split("```toml\n").find(|block| block.contains("servers_from")).unwrap();
        let plan = plan.split("```").next().unwrap();
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/plans"));
        let plan = ComparePlan::parse(plan, folder).unwrap();
        assert_eq!(plan.cases.len(), 4);
        assert!(plan.servers.len() > 3, "with those of the file");
    }

    /// The plans that come with this tool, and the minutes that they say.
    #[test]
    fn published_plans_are_good_and_say_how_long_they_take() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/plans"));
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            // One is for all others, and one for `run`.
            if path.ends_with("servers.toml") || path.ends_with("many-topics.toml") {
                continue;
            }
            let plan = ComparePlan::parse(&text, folder).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let minutes = plan.estimate().as_secs_f64() / 60.0;
            let said = text.lines().find_map(|line| line.strip_prefix("# Takes about ")?.strip_suffix(" minutes."));
            let said: f64 = said.unwrap_or_else(|| panic!("{} says no minutes", path.display())).parse().unwrap();
            assert!((minutes - said).abs() <= 0.5, "{} takes {minutes:.1} minutes", path.display());
            count += 1;
        }
        assert!(count >= 9, "{count} plans");
    }
}
