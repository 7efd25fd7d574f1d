//! The plan of a comparison, as TOML says it.

use std::time::Duration;

use corewire::protocol::MessageKind;
use serde::Deserialize;

use crate::scenario::echo::EchoPlan;
use crate::sizes::Sizes;
use crate::units::parse_span;

/// Who is compared, in what, and how often.
#[derive(Debug)]
pub(super) struct ComparePlan {
    /// Ratios are to this server.
    pub(super) reference: String,
    pub(super) rounds: usize,
    pub(super) slice: Duration,
    pub(super) warm_up: Duration,
    pub(super) spin: bool,
    pub(super) server_core: Option<usize>,
    pub(super) generator_cores: Vec<usize>,
    pub(super) servers: Vec<ServerPlan>,
    pub(super) cases: Vec<CasePlan>,
}

/// A server, how it is started and how it is reached. `{port}` stands for a free port.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerPlan {
    pub(super) name: String,
    pub(super) command: String,
    #[serde(default = "default_url")]
    pub(super) url: String,
}

/// One load that every server gets.
#[derive(Debug)]
pub(super) struct CasePlan {
    pub(super) name: String,
    pub(super) connections: usize,
    pub(super) kind: MessageKind,
    sizes: Sizes,
    inflight: usize,
    rate_per_second: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanText {
    reference: String,
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
    server: Vec<ServerPlan>,
    case: Vec<CaseText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseText {
    connections: usize,
    size: String,
    #[serde(default)]
    text: bool,
    inflight: Option<usize>,
    rate: Option<f64>,
}

impl ComparePlan {
    /// Reads a plan.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let plan: PlanText = toml::from_str(text).map_err(|error| error.to_string())?;
        if !plan.server.iter().any(|server| server.name == plan.reference) {
            let names: Vec<&str> = plan.server.iter().map(|server| server.name.as_str()).collect();
            return Err(format!("the reference `{}` is none of the servers {names:?}", plan.reference));
        }
        if plan.rounds == 0 {
            return Err("rounds must be 1 at least".to_owned());
        }
        if let Some(server) = plan.server.iter().find(|server| !server.command.contains("{port}")) {
            return Err(format!("the command of `{}` has no {{port}} to be told where to listen", server.name));
        }
        Ok(Self {
            reference: plan.reference,
            rounds: plan.rounds,
            slice: parse_span(&plan.slice)?,
            warm_up: parse_span(&plan.warm_up)?,
            spin: plan.spin,
            server_core: plan.server_core,
            generator_cores: plan.generator_cores,
            servers: plan.server,
            cases: plan.case.into_iter().map(CaseText::check).collect::<Result<_, _>>()?,
        })
    }
}

impl CaseText {
    fn check(self) -> Result<CasePlan, String> {
        let sizes: Sizes = self.size.parse()?;
        if self.connections == 0 || self.inflight == Some(0) {
            return Err("connections and inflight must be 1 at least".to_owned());
        }
        if self.rate.is_some_and(|rate| !(0.001..=1e9).contains(&rate)) {
            return Err("rate must be between 0.001 and 1e9 per second".to_owned());
        }
        let how = match (self.rate, self.inflight) {
            (Some(rate), _) => format!(", open loop at {rate}/s"),
            (None, Some(inflight)) if inflight > 1 => format!(", {inflight} under way each"),
            (None, _) => String::new(),
        };
        Ok(CasePlan {
            name: format!("{} × {} B{how}", self.connections, sizes),
            connections: self.connections,
            kind: if self.text { MessageKind::Text } else { MessageKind::Binary },
            sizes,
            inflight: self.inflight.unwrap_or(if self.rate.is_some() { usize::MAX } else { 1 }),
            rate_per_second: self.rate,
        })
    }
}

impl CasePlan {
    pub(super) fn echo(&self, timeout: Duration) -> EchoPlan {
        EchoPlan {
            sizes: self.sizes.clone(),
            rate_per_second: self.rate_per_second,
            inflight: self.inflight,
            timeout_ns: timeout.as_nanos() as u64,
        }
    }
}

fn default_url() -> String {
    "ws://127.0.0.1:{port}/".to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        reference = "a"
        spin = true
        server_core = 0
        [[server]]
        name = "a"
        command = "a --port {port}"
        [[case]]
        connections = 200
        size = "1k"
    "#;

    #[test]
    fn a_good_plan_with_its_defaults() {
        let plan = ComparePlan::parse(GOOD).unwrap();
        assert_eq!((plan.rounds, plan.slice), (7, Duration::from_millis(500)));
        assert_eq!(plan.servers[0].url, "ws://127.0.0.1:{port}/");
        assert_eq!((plan.cases[0].inflight, plan.cases[0].sizes.max()), (1, 1024));
    }

    #[test]
    fn plans_that_are_refused_and_why() {
        let cases = [
            (GOOD.replace("spin", "spn"), "unknown field `spn`"),
            (GOOD.replace("reference = \"a\"", "reference = \"b\""), "none of the servers"),
            (GOOD.replace("{port}", "80"), "no {port}"),
            (GOOD.replace("1k", "1x"), "is no size"),
            (GOOD.replace("200", "0"), "at least"),
            (GOOD.replace("200", "\"x\""), "invalid type"),
        ];
        for (text, want) in cases {
            let error = ComparePlan::parse(&text).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
