//! `compare`: several servers in turn, in many short rounds, and ratios with their spread.
//!
//! Machines are noisy, so only what was measured within one round is divided by each other: each server's figure by
//! the reference's of the same case and round. Every other round goes backwards.

mod figures;
mod plan;
mod result;
mod roster;
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::args::Command;
use crate::commands;
use crate::conduct;
use crate::latency::{self, Latencies};
use crate::report::Report;
use crate::units::show_count;

use figures::{Kind, Slice, Spread};
pub(crate) use plan::Choice;

use plan::{CasePlan, ComparePlan, RATE_ROUNDS, RelativeRate};
use roster::{Absent, Certificate, Contestant};

/// What came of a plan.
pub(crate) struct Comparison {
    /// How it was measured, in a sentence.
    how: String,
    /// What the reader must know: who was left out, which rates were chosen.
    notes: Vec<String>,
    /// As they were run, with those servers that were there.
    cases: Vec<CasePlan>,
    /// Of cases whose rate depends on the slowest, messages per second.
    rates: BTreeMap<String, f64>,
    slices: Vec<Slice>,
    /// Response latencies of all rounds, by case and server.
    responses: BTreeMap<(String, String), Latencies>,
}

/// Runs the plan in `path` and prints what came of it.
///
/// # Errors
///
/// A sentence.
pub(crate) fn run(path: &Path, choice: &Choice, json: Option<&Path>, page: Option<&Path>) -> Result<(), String> {
    let text = String::from_utf8(commands::read_file(path)?).map_err(|_| format!("{} is no text", path.display()))?;
    let mut plan = ComparePlan::parse(&text, path.parent().unwrap_or(Path::new(".")))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    plan.choose(choice)?;
    let cores = commands::choose_cores(&plan.generator_cores)?;
    commands::raise_open_files_max();
    if !plan.huge_pages {
        // What this process starts inherits it.
        rustix::thread::disable_transparent_huge_pages(true)
            .map_err(|error| format!("huge pages cannot be switched off: {error}"))?;
    }
    let stop = commands::stop_on_interrupt()?;
    commands::note(&announce(&plan));
    let mut referee = Referee::prepare(plan, cores, &stop)?;
    referee.find_rates()?;
    referee.rounds()?;
    let comparison = referee.comparison;
    commands::print(&table::table(&comparison))?;
    if let Some(path) = page {
        commands::write_file(path, &result::page(&comparison))?;
    }
    match json {
        Some(path) => commands::write_file(path, &result::json(&comparison)?),
        None => Ok(()),
    }
}

/// What is about to happen, and how long it takes.
fn announce(plan: &ComparePlan) -> String {
    let minutes = plan.estimate().as_secs_f64() / 60.0;
    let slices: usize = plan.cases.iter().map(|case| case.rounds * case.servers.len()).sum();
    format!(
        "{} servers, {} cases, {slices} slices that count: about {minutes:.1} minutes if all servers are there",
        plan.servers.len(),
        plan.cases.len(),
    )
}

impl Comparison {
    fn title(&self, case: &CasePlan) -> String {
        match self.rates.get(&case.name) {
            Some(rate) => format!("{} ({}/s for all)", case.name, show_count(*rate as u64)),
            None => case.name.clone(),
        }
    }
}

/// Has everybody measured.
struct Referee<'a> {
    plan: ComparePlan,
    cores: Vec<usize>,
    certificate: Option<Certificate>,
    /// Those that stay for the whole run.
    contestants: Vec<Contestant>,
    stop: &'a AtomicBool,
    comparison: Comparison,
}

impl<'a> Referee<'a> {
    /// Starts all servers, and leaves out those that are not to be had and may be missed.
    fn prepare(plan: ComparePlan, cores: Vec<usize>, stop: &'a AtomicBool) -> Result<Self, String> {
        let with_tls = plan.cases.iter().any(|case| case.tls.is_some());
        let certificate = if with_tls { Some(Certificate::get(plan.certificate.as_ref())?) } else { None };
        let how = format!(
            "server {}; the generator {} on core(s) {cores:?}{}",
            plan.server_core.map_or_else(|| "not pinned".to_owned(), |core| format!("on core {core}")),
            if plan.spin { "spins" } else { "sleeps" },
            if plan.huge_pages { "" } else { "; huge pages off" },
        );
        let comparison = Comparison {
            how,
            notes: Vec::new(),
            cases: plan.cases.clone(),
            rates: BTreeMap::new(),
            slices: Vec::new(),
            responses: BTreeMap::new(),
        };
        let mut referee = Self { plan, cores, certificate, contestants: Vec::new(), stop, comparison };
        referee.start_all()?;
        Ok(referee)
    }

    fn start_all(&mut self) -> Result<(), String> {
        let mut absent: Vec<String> = Vec::new();
        for case in self.plan.cases.clone() {
            for name in &case.servers {
                if absent.contains(name) || self.contestant(name, &case).is_some() {
                    continue;
                }
                match self.start(name, &case) {
                    // It is started anew for each slice; now it was only seen that it can be.
                    Ok(contestant) if case.kind == Kind::Idle => drop(contestant),
                    Ok(contestant) => self.contestants.push(contestant),
                    Err(Absent::LeftOut(why)) => {
                        commands::note(&format!("left out: {why}"));
                        self.comparison.notes.push(format!("left out: {why}"));
                        absent.push(name.clone());
                    }
                    Err(Absent::Failed(reason)) => return Err(reason),
                }
            }
        }
        self.leave_out(&absent);
        if self.comparison.cases.is_empty() { Err("there is no server left to compare".to_owned()) } else { Ok(()) }
    }

    fn leave_out(&mut self, absent: &[String]) {
        let Comparison { cases, notes, .. } = &mut self.comparison;
        for case in &mut *cases {
            case.servers.retain(|name| !absent.contains(name));
            if !case.servers.contains(&case.reference)
                && let Some(first) = case.servers.first()
            {
                notes.push(format!("{}: the reference is {first}, as {} is left out", case.name, case.reference));
                case.reference.clone_from(first);
            }
        }
        cases.retain(|case| !case.servers.is_empty());
    }

    fn start(&self, name: &str, case: &CasePlan) -> Result<Contestant, Absent> {
        let server = self.plan.servers.iter().find(|server| server.name == name);
        let server = server.ok_or_else(|| Absent::Failed(format!("there is no server `{name}`")))?;
        let certificate = self.certificate.as_ref().filter(|_| case.tls.is_some());
        server.start(case.mode, certificate, self.plan.server_core)
    }

    fn contestant(&self, name: &str, case: &CasePlan) -> Option<&Contestant> {
        let fits = |contestant: &&Contestant| {
            contestant.name == name && contestant.mode == case.mode && contestant.tls == case.tls.is_some()
        };
        self.contestants.iter().find(fits)
    }

    /// In a closed loop, for the cases whose rate depends on the slowest.
    fn find_rates(&mut self) -> Result<(), String> {
        for case in self.comparison.cases.clone() {
            let Some(relative) = case.rate else { continue };
            let mut slices = Vec::new();
            for round in 1..=RATE_ROUNDS {
                for name in in_order(&case.servers, round) {
                    if self.is_stopped() {
                        return Err("interrupted before anything was measured".to_owned());
                    }
                    slices.push(self.measure(name, &case, round, None)?.0);
                }
            }
            let (note, rate) = choose_rate(&case, relative, &slices)?;
            commands::note(&note);
            self.comparison.notes.push(note);
            self.comparison.rates.insert(case.name.clone(), rate);
        }
        Ok(())
    }

    fn rounds(&mut self) -> Result<(), String> {
        let last = self.comparison.cases.iter().map(|case| case.rounds).max().unwrap_or(0);
        // The first round warms caches and allocators up, and is thrown away.
        for round in 0..=last {
            let thrown_away = if round == 0 { " (thrown away)" } else { "" };
            commands::note(&format!("round {round} of {last}{thrown_away}"));
            for case in self.comparison.cases.clone() {
                if round > case.rounds || (round == 0 && case.kind == Kind::Idle) {
                    continue;
                }
                for name in in_order(&case.servers, round) {
                    let rate = self.comparison.rates.get(&case.name).copied();
                    if self.is_stopped() {
                        return Ok(());
                    }
                    let (slice, response) = self.measure(name, &case, round, rate)?;
                    if round > 0 && !self.is_stopped() {
                        let key = (case.name.clone(), name.clone());
                        let sum = self.comparison.responses.entry(key).or_insert_with(latency::empty);
                        sum.add(&response).map_err(|error| format!("histograms do not fit: {error:?}"))?;
                        self.comparison.slices.push(slice);
                    }
                }
            }
        }
        Ok(())
    }

    fn measure(
        &self,
        name: &str,
        case: &CasePlan,
        round: usize,
        rate: Option<f64>,
    ) -> Result<(Slice, Latencies), String> {
        let fresh = match case.kind {
            Kind::Idle => Some(self.start(name, case).map_err(|absent| match absent {
                Absent::LeftOut(reason) | Absent::Failed(reason) => reason,
            })?),
            Kind::Echo | Kind::Slow | Kind::Fanout | Kind::Storm => None,
        };
        let contestant = fresh.as_ref().or_else(|| self.contestant(name, case));
        let contestant = contestant.ok_or_else(|| format!("{name} has not been started"))?;
        let command = case.command(&contestant.url, self.plan.spin, &self.cores, rate)?;
        let (report, response) = match case.kind {
            Kind::Idle => {
                let report = commands::run_scenario(&command, Some(&contestant.observer), self.stop);
                report.map(|report| (report, latency::empty()))
            }
            Kind::Echo | Kind::Slow | Kind::Fanout | Kind::Storm => self.conduct(&command, contestant),
        }
        .map_err(|reason| format!("{name}, {}: {reason}", case.name))?;
        let mut slice = Slice::of(case.kind, round, &case.name, name, &report);
        if report.achieved.arrived_messages == 0 && case.kind != Kind::Idle {
            // The others go on; a figure that a round does not have is not told for the case.
            slice.figures.clear();
            slice.reasons.push("it answered nothing".to_owned());
        }
        Ok((slice, response))
    }

    fn conduct(&self, command: &Command, contestant: &Contestant) -> Result<(Report, Latencies), String> {
        let mut load = commands::load_for(command)?;
        commands::check_connections(load.connections)?;
        if matches!(command, Command::Storm(_)) {
            // Ports rest for a minute after each connection: more addresses have more of them.
            load.sources = (1..=STORM_SOURCES).map(|last| [127, 2, 0, last].into()).collect();
        }
        let outcome = conduct::conduct(&load, Some(&contestant.observer), self.stop, |_| {})?;
        Ok((Report::of(&load, &outcome), outcome.tally.response))
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Every other round goes backwards, so that nobody always follows the same neighbour.
fn in_order(names: &[String], round: usize) -> Box<dyn Iterator<Item = &String> + '_> {
    if round.is_multiple_of(2) { Box::new(names.iter()) } else { Box::new(names.iter().rev()) }
}

/// The rate for everybody, and a sentence about it.
fn choose_rate(case: &CasePlan, relative: RelativeRate, slices: &[Slice]) -> Result<(String, f64), String> {
    let median = |name: &String, key: &str| {
        Spread::of(figures::values(slices, &case.name, name, key)).map(|spread| spread.median)
    };
    let slowest = case
        .servers
        .iter()
        .filter_map(|name| Some((name, median(name, "messages_per_second")?)))
        .min_by(|(_, one), (_, other)| one.total_cmp(other));
    let (name, per_second) = slowest.ok_or_else(|| format!("{}: nobody answered", case.name))?;
    let rate = relative.of(per_second);
    if rate < RATE_MIN {
        return Err(format!("{}: {name} answers {per_second:.1} messages/s: too few for a share of it", case.name));
    }
    let busy = median(name, "server_busiest_thread_share").unwrap_or(0.0);
    let doubt = if busy < crate::report::SATURATED_SHARE {
        format!(" with {:.0} % of its core, so it was not saturated", busy * 100.0)
    } else {
        String::new()
    };
    let note = format!(
        "{}: the slowest is {name}, {} messages/s in the closed loop{doubt}; so {} messages/s for all",
        case.name,
        show_count(per_second as u64),
        show_count(rate as u64),
    );
    Ok((note, rate))
}

/// Source addresses of a storm.
const STORM_SOURCES: u8 = 16;
/// A rate that can be measured within a slice.
const RATE_MIN: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> CasePlan {
        let text = "[[server]]\nname = 'a'\ncommand = '{port}'\n[[server]]\nname = 'b'\ncommand = '{port}'\n\
                    [[case]]\nname = 'x'\nrate = 'third-of-slowest'";
        ComparePlan::parse(text, Path::new(".")).unwrap().cases.remove(0)
    }

    fn slice(server: &str, per_second: f64, busy: f64) -> Slice {
        Slice {
            round: 1,
            case: "x".to_owned(),
            server: server.to_owned(),
            figures: BTreeMap::from([("messages_per_second", per_second), ("server_busiest_thread_share", busy)]),
            server_saturated: false,
            reasons: Vec::new(),
        }
    }

    #[test]
    fn the_rate_for_all_is_a_share_of_the_slowest() {
        let slices = [slice("a", 200_000.0, 0.99), slice("b", 9_321.0, 0.99), slice("b", 9_500.0, 0.98)];
        let (note, rate) = choose_rate(&case(), RelativeRate::ThirdOfSlowest, &slices).unwrap();
        assert_eq!(rate, 3100.0);
        assert!(note.contains("slowest is b, 9,410") && note.contains("3,100 messages/s for all"), "{note}");
        let slices = [slice("a", 100.0, 0.5), slice("b", 200.0, 1.0)];
        let (note, _) = choose_rate(&case(), RelativeRate::HalfOfSlowest, &slices).unwrap();
        assert!(note.contains("50 % of its core, so it was not saturated"), "{note}");
        assert!(choose_rate(&case(), RelativeRate::ThirdOfSlowest, &[slice("a", 1.0, 1.0)]).is_err());
        assert!(choose_rate(&case(), RelativeRate::ThirdOfSlowest, &[]).is_err());
    }

    #[test]
    fn every_other_round_goes_backwards() {
        let names = ["a".to_owned(), "b".to_owned()];
        assert!(in_order(&names, 2).eq(["a", "b"]));
        assert!(in_order(&names, 3).eq(["b", "a"]));
    }
}
