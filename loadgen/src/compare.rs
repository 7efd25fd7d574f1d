//! `compare`: several servers in turn, in many short rounds, and ratios with their spread.
//!
//! Machines are noisy, so only what was measured within one round is divided by each other: each server's figure by
//! the reference's of the same case and round. Every other round goes backwards.

mod plan;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::conduct::{self, Load, ScenarioPlan};
use crate::latency::{self, Latencies};
use crate::observe::Observer;
use crate::report::{Curve, Report, html};
use crate::spawn::{self, Server};
use crate::target::Target;
use crate::units::{show_count, show_ns};

use plan::{CasePlan, ComparePlan};

/// What one server did in one case and one round.
#[derive(Clone, Debug, Serialize)]
struct Slice {
    round: usize,
    case: String,
    server: String,
    messages_per_second: f64,
    cpu_per_message_ns: f64,
    server_busiest_thread_share: f64,
    saturated: bool,
    generator_per_message_ns: f64,
    generator_busy_share: f64,
    response_p50_ns: Option<u64>,
    response_p99_ns: Option<u64>,
    lateness_p99_ns: Option<u64>,
    others_cores: Option<f64>,
    /// Empty if nothing speaks against it.
    reasons: Vec<String>,
}

/// A server that has been started, and how it is reached.
struct Contestant {
    name: String,
    target: Target,
    address: std::net::SocketAddr,
    observer: Observer,
    /// Ends with this value.
    _server: Server,
}

/// Runs the plan in `path` and prints what came of it.
///
/// # Errors
///
/// A sentence.
pub(crate) fn run(path: &Path, json: Option<&Path>, page: Option<&Path>) -> Result<(), String> {
    let text =
        String::from_utf8(crate::commands::read_file(path)?).map_err(|_| format!("{} is no text", path.display()))?;
    let plan = ComparePlan::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let cores = crate::commands::choose_cores(&plan.generator_cores)?;
    for case in &plan.cases {
        crate::commands::check_connections(case.connections)?;
    }
    let contestants = plan.servers.iter().map(|server| start(server, &plan)).collect::<Result<Vec<_>, String>>()?;
    let stop = crate::commands::stop_on_interrupt()?;
    let mut slices = Vec::new();
    // Of all rounds, by case and server.
    let mut responses: BTreeMap<(String, String), Latencies> = BTreeMap::new();
    // The first round warms caches and allocators up, and is thrown away.
    for round in 0..=plan.rounds {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        crate::commands::note(&format!(
            "round {round} of {}{}",
            plan.rounds,
            if round == 0 { " (thrown away)" } else { "" }
        ));
        for case in &plan.cases {
            for contestant in in_order(&contestants, round) {
                if stop.load(Ordering::Relaxed) {
                    continue;
                }
                let (slice, response) = measure(contestant, case, round, &plan, &cores, &stop)?;
                if round > 0 && !stop.load(Ordering::Relaxed) {
                    let key = (case.name.clone(), contestant.name.clone());
                    let sum = responses.entry(key).or_insert_with(latency::empty);
                    sum.add(&response).map_err(|error| format!("histograms do not fit: {error:?}"))?;
                    slices.push(slice);
                }
            }
        }
    }
    drop(contestants);
    crate::commands::print(&table(&plan, &slices))?;
    if let Some(path) = page {
        crate::commands::write_file(path, &html::comparison(&cases_for_page(&plan, &slices, &responses)))?;
    }
    if let Some(path) = json {
        let json = serde_json::to_string_pretty(&slices).map_err(|error| format!("no JSON: {error}"))?;
        crate::commands::write_file(path, &json)?;
    }
    Ok(())
}

fn start(server: &plan::ServerPlan, plan: &ComparePlan) -> Result<Contestant, String> {
    let port = spawn::free_port()?.to_string();
    let url = server.url.replace("{port}", &port);
    let target = Target::parse(&url).map_err(|error| error.to_string())?;
    let address = target.resolve(false).map_err(|error| error.to_string())?;
    let mut started = Server::start(&server.command.replace("{port}", &port), plan.server_core)?;
    started.wait_until_it_listens(address, START_LIMIT)?;
    let observer = Observer::new(started.pid())?;
    Ok(Contestant { name: server.name.clone(), target, address, observer, _server: started })
}

/// Every other round goes backwards, so that nobody always follows the same neighbour.
fn in_order(contestants: &[Contestant], round: usize) -> Box<dyn Iterator<Item = &Contestant> + '_> {
    if round.is_multiple_of(2) { Box::new(contestants.iter()) } else { Box::new(contestants.iter().rev()) }
}

fn measure(
    contestant: &Contestant,
    case: &CasePlan,
    round: usize,
    plan: &ComparePlan,
    cores: &[usize],
    stop: &AtomicBool,
) -> Result<(Slice, Latencies), String> {
    let load = Load {
        target: contestant.target.clone(),
        address: contestant.address,
        headers: Vec::new(),
        subprotocols: Vec::new(),
        compress: false,
        tls: conduct::tls_dial(&contestant.target, None, false)?,
        sources: Vec::new(),
        connections: case.connections,
        kind: case.kind,
        cores: cores.to_vec(),
        spin: plan.spin,
        warm_up: plan.warm_up,
        measured: plan.slice,
        cool_down: Duration::ZERO,
        ramp_per_second: None,
        timeout: SLICE_TIMEOUT,
        plan: ScenarioPlan::Echo(case.echo(SLICE_TIMEOUT)),
    };
    let outcome = conduct::conduct(&load, Some(&contestant.observer), stop, |_| {})
        .map_err(|reason| format!("{}, {}: {reason}", contestant.name, case.name))?;
    let report = Report::of(&load, &outcome);
    let server = report.server.as_ref().ok_or_else(|| format!("{} could not be observed", contestant.name))?;
    if report.achieved.arrived_messages == 0 && !stop.load(Ordering::Relaxed) {
        return Err(format!("{} answered nothing in case {}", contestant.name, case.name));
    }
    let slice = Slice {
        round,
        case: case.name.clone(),
        server: contestant.name.clone(),
        messages_per_second: report.achieved.arrived_per_second,
        cpu_per_message_ns: server.cpu_per_message_ns.unwrap_or(f64::NAN),
        server_busiest_thread_share: server.busiest_thread_share,
        saturated: server.saturated,
        generator_per_message_ns: report.generator.cpu_per_message_ns.unwrap_or(f64::NAN),
        generator_busy_share: report.generator.busiest_worker_share,
        response_p50_ns: report.response.get("p50"),
        response_p99_ns: report.response.get("p99"),
        lateness_p99_ns: report.generator.lateness.get("p99"),
        others_cores: report.generator.others_cores,
        reasons: report.verdict.reasons,
    };
    Ok((slice, outcome.tally.response))
}

// ---- what is said ------------------------------------------------------------------------------------------------

fn table(plan: &ComparePlan, slices: &[Slice]) -> String {
    let mut out = String::new();
    let rounds = slices.iter().map(|slice| slice.round).max().unwrap_or(0);
    let _ = writeln!(
        out,
        "{rounds} rounds of {:?} per server and case after {:?} of warm-up; the generator {} on core(s) {:?}; \
         reference: {}\nmedian [lowest to highest]; ratios are of the same round",
        plan.slice,
        plan.warm_up,
        if plan.spin { "spins" } else { "sleeps" },
        plan.generator_cores,
        plan.reference,
    );
    for case in &plan.cases {
        let _ = writeln!(
            out,
            "\n{}\n  {:<20}{:>28}{:>14}{:>13}{:>12}{:>12}{:>10}{:>11}",
            case.name, "server", "CPU/message, ratio", "CPU/message", "messages/s", "p50", "p99", "busy", "generator"
        );
        for server in &plan.servers {
            row(&mut out, case, &server.name, &plan.reference, slices);
        }
    }
    complaints(&mut out, slices);
    out
}

fn row(out: &mut String, case: &CasePlan, server: &str, reference: &str, slices: &[Slice]) {
    let mine: Vec<&Slice> = slices.iter().filter(|slice| slice.case == case.name && slice.server == server).collect();
    let ratios = ratios(slices, &case.name, server, reference);
    let Some(ratio) = Spread::of(ratios) else { return };
    let median = |value: fn(&Slice) -> f64| {
        Spread::of(mine.iter().map(|slice| value(slice)).collect()).map_or(f64::NAN, |spread| spread.median)
    };
    let percentile = |value: fn(&Slice) -> Option<u64>| {
        let values: Vec<f64> = mine.iter().filter_map(|slice| value(slice)).map(|ns| ns as f64).collect();
        Spread::of(values).map_or_else(|| "-".to_owned(), |spread| show_ns(spread.median as u64))
    };
    let _ = writeln!(
        out,
        "  {server:<20}{:>28}{:>14}{:>13}{:>12}{:>12}{:>9.0}%{:>11}",
        format!("{:.2} [{:.2} to {:.2}]", ratio.median, ratio.low, ratio.high),
        show_ns(median(|slice| slice.cpu_per_message_ns) as u64),
        show_count(median(|slice| slice.messages_per_second) as u64),
        percentile(|slice| slice.response_p50_ns),
        percentile(|slice| slice.response_p99_ns),
        median(|slice| slice.server_busiest_thread_share) * 100.0,
        show_ns(median(|slice| slice.generator_per_message_ns) as u64),
    );
}

fn ratios(slices: &[Slice], case: &str, server: &str, reference: &str) -> Vec<f64> {
    let of = |name: &str, round: usize| {
        slices.iter().find(|slice| slice.case == case && slice.server == name && slice.round == round)
    };
    let mine = slices.iter().filter(|slice| slice.case == case && slice.server == server);
    mine.filter_map(|slice| Some(slice.cpu_per_message_ns / of(reference, slice.round)?.cpu_per_message_ns)).collect()
}

fn cases_for_page(
    plan: &ComparePlan,
    slices: &[Slice],
    responses: &BTreeMap<(String, String), Latencies>,
) -> Vec<html::ComparedCase> {
    let of_case = |case: &CasePlan| {
        let of_server = |server: &plan::ServerPlan| {
            let ratio = Spread::of(ratios(slices, &case.name, &server.name, &plan.reference))?;
            let response = responses.get(&(case.name.clone(), server.name.clone()))?;
            Some(html::ComparedServer {
                name: server.name.clone(),
                ratio: [ratio.low, ratio.median, ratio.high],
                response: Curve::of(&server.name, response),
            })
        };
        html::ComparedCase {
            name: case.name.clone(),
            reference: plan.reference.clone(),
            servers: plan.servers.iter().filter_map(of_server).collect(),
        }
    };
    plan.cases.iter().map(of_case).collect()
}

/// What speaks against some of the slices, each kind once.
fn complaints(out: &mut String, slices: &[Slice]) {
    let doubtful: Vec<&Slice> = slices.iter().filter(|slice| !slice.reasons.is_empty()).collect();
    if doubtful.is_empty() {
        let _ = writeln!(out, "\nno slice is in doubt");
        return;
    }
    let _ = writeln!(out, "\n{} of {} slices are in doubt, for example:", doubtful.len(), slices.len());
    for slice in doubtful.iter().take(COMPLAINTS_MAX) {
        let _ =
            writeln!(out, "  {} × {}, round {}: {}", slice.server, slice.case, slice.round, slice.reasons.join("; "));
    }
}

/// Median and range.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    /// `None` of nothing.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&low, &high) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] };
        Some(Self { median, low, high })
    }
}

/// For a server to come up.
const START_LIMIT: Duration = Duration::from_secs(10);
/// For a connection or an answer within a slice.
const SLICE_TIMEOUT: Duration = Duration::from_secs(5);
/// Doubtful slices that are told one by one.
const COMPLAINTS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_range() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0]), Some(Spread { median: 2.5, low: 1.0, high: 4.0 }));
    }
}
