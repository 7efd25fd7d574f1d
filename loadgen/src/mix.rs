//! `run`: several scenarios against one server, one after another, from a plan in TOML.
//!
//! A phase is what the command line accepts, under the same names; `[common]` holds for all phases.

use std::path::Path;

use clap::Parser;
use toml::{Table, Value};

use crate::args::{Command, CommandLine};
use crate::commands;
use crate::report::Report;

/// Runs the plan in `path`.
///
/// # Errors
///
/// A sentence.
pub(crate) fn run(path: &Path, json: Option<&Path>, page: Option<&Path>) -> Result<(), String> {
    let text = String::from_utf8(commands::read_file(path)?).map_err(|_| format!("{} is no text", path.display()))?;
    let phases = phases_of(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let stop = commands::stop_on_interrupt()?;
    let first = commands::common_of(&phases[0]).ok_or("a phase is no scenario")?;
    // The server is that of the first phase, and stays.
    let (server, observer) = commands::server_of(first)?;
    let mut reports: Vec<Report> = Vec::new();
    for (number, phase) in phases.iter().enumerate() {
        commands::note(&format!("phase {} of {}", number + 1, phases.len()));
        let report = commands::run_scenario(phase, observer.as_ref(), &stop)?;
        commands::print(&format!("{report}\n"))?;
        reports.push(report);
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            break;
        }
    }
    drop(server);
    commands::write_reports(&reports.iter().collect::<Vec<_>>(), json, page)
}

/// What the phases come to on the command line.
fn phases_of(text: &str) -> Result<Vec<Command>, String> {
    let mut plan: Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let common = match plan.remove("common") {
        Some(Value::Table(common)) => common,
        Some(_) => return Err("common must be a table: [common]".to_owned()),
        None => Table::new(),
    };
    let Some(Value::Array(phases)) = plan.remove("phase") else {
        return Err("there is no phase: [[phase]]".to_owned());
    };
    if let Some(unknown) = plan.keys().next() {
        return Err(format!("`{unknown}` is unknown; a plan has [common] and [[phase]]"));
    }
    if phases.is_empty() {
        return Err("there is no phase: [[phase]]".to_owned());
    }
    let numbered = phases.into_iter().enumerate();
    numbered.map(|(at, phase)| phase_of(phase, &common).map_err(|error| format!("phase {}: {error}", at + 1))).collect()
}

fn phase_of(phase: Value, common: &Table) -> Result<Command, String> {
    let Value::Table(mut options) = phase else { return Err("it must be a table: [[phase]]".to_owned()) };
    for (name, value) in common {
        options.entry(name.clone()).or_insert_with(|| value.clone());
    }
    command_of(options)
}

/// What a scenario, its URL and its options come to on the command line.
///
/// # Errors
///
/// What is wrong with them.
pub(crate) fn command_of(mut options: Table) -> Result<Command, String> {
    let mut take = |name: &str| match options.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("{name} must be a text")),
        None => Err(format!("{name} is missing")),
    };
    let (scenario, url) = (take("scenario")?, take("url")?);
    if !["echo", "idle", "fanout", "recovery", "storm", "slow"].contains(&scenario.as_str()) {
        return Err(format!("`{scenario}` is no scenario: echo, idle, fanout, recovery, storm or slow"));
    }
    let mut arguments = vec!["corewire-load".to_owned(), scenario, url];
    for (name, value) in options {
        let name = format!("--{}", name.replace('_', "-"));
        match value {
            Value::Boolean(true) => arguments.push(name),
            Value::Boolean(false) => {}
            Value::Array(values) => {
                for value in values {
                    arguments.push(format!("{name}={}", plain(&value)?));
                }
            }
            value => arguments.push(format!("{name}={}", plain(&value)?)),
        }
    }
    let line = CommandLine::try_parse_from(arguments).map_err(|error| {
        let text = error.to_string();
        let sentence = text.split("\n\n").next().unwrap_or_default();
        sentence.strip_prefix("error: ").unwrap_or(sentence).trim_end().to_owned()
    })?;
    Ok(line.command)
}

/// A value as it would be written on the command line.
///
/// # Errors
///
/// If it is neither text nor number.
pub(crate) fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        other => Err(format!("a {} is neither text nor number", other.type_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [common]
        url = "ws://127.0.0.1:9/"
        cores = [0]
        spin = true
        [[phase]]
        scenario = "echo"
        connections = 10
        size = "1k"
        rate = 100
        for = "2s"
        [[phase]]
        scenario = "storm"
        drop = "20%"
        spin = false
    "#;

    #[test]
    fn a_phase_is_a_command_line() {
        let phases = phases_of(GOOD).unwrap();
        let [Command::Echo(echo), Command::Storm(storm)] = phases.as_slice() else { panic!("{phases:?}") };
        assert_eq!((echo.common.connections, echo.rate, echo.common.spin), (10, Some(100.0), true));
        assert_eq!((storm.drop, storm.common.spin), (Some(0.2), false));
    }

    #[test]
    fn the_published_plan_is_good() {
        let phases = phases_of(include_str!("../plans/many-topics.toml")).unwrap();
        let loads = phases.iter().map(|phase| commands::load_for(phase).unwrap());
        let connections: Vec<usize> = loads.map(|load| load.connections).collect();
        assert_eq!(connections, [101, 1001].repeat(5), "and one that publishes");
    }

    #[test]
    fn plans_that_are_refused_and_why() {
        let cases = [
            (GOOD.replace("rate =", "rates ="), "phase 1: unexpected argument '--rates'"),
            (GOOD.replace("\"storm\"", "\"stork\""), "phase 2: `stork` is no scenario"),
            (GOOD.replace("\"20%\"", "\"200%\""), "is no share"),
            (GOOD.replace("[common]", "[comon]"), "`comon` is unknown"),
            (GOOD.replace("url =", "#"), "url is missing"),
            (format!("x = 1\n{GOOD}"), "`x` is unknown"),
            ("[common]".to_owned(), "there is no phase"),
            ("[[phase]]\nscenario = 1".to_owned(), "scenario must be a text"),
        ];
        for (text, want) in cases {
            let error = phases_of(&text).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
