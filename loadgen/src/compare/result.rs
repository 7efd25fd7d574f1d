//! A comparison as JSON and as a page.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Comparison;
use super::figures::{Slice, Spread, ratios, values};
use super::plan::CasePlan;
use super::table::{cell, doubt, told};
use crate::report::{Curve, html};

#[derive(Serialize)]
struct ComparisonText<'a> {
    tool: &'static str,
    how: &'a str,
    notes: &'a [String],
    cases: Vec<CaseText<'a>>,
    slices: &'a [Slice],
}

#[derive(Serialize)]
struct CaseText<'a> {
    case: &'a str,
    scenario: &'static str,
    reference: &'a str,
    rounds: usize,
    warm_up_s: f64,
    measured_s: f64,
    /// Where it depends on the slowest server.
    rate_per_second: Option<f64>,
    servers: Vec<ServerText<'a>>,
}

#[derive(Serialize)]
struct ServerText<'a> {
    server: &'a str,
    doubtful_slices: usize,
    figures: BTreeMap<&'static str, Spread>,
    /// To the reference's of the same round.
    ratios: BTreeMap<&'static str, Spread>,
}

/// As JSON: every slice, and what they come to.
///
/// # Errors
///
/// A sentence.
pub(super) fn json(comparison: &Comparison) -> Result<String, String> {
    let text = ComparisonText {
        tool: concat!("corewire-load ", env!("CARGO_PKG_VERSION")),
        how: &comparison.how,
        notes: &comparison.notes,
        cases: comparison.cases.iter().map(|case| case_text(comparison, case)).collect(),
        slices: &comparison.slices,
    };
    serde_json::to_string_pretty(&text).map_err(|error| format!("no JSON: {error}"))
}

fn case_text<'a>(comparison: &Comparison, case: &'a CasePlan) -> CaseText<'a> {
    let slices = &comparison.slices;
    let of_server = |server: &'a String| {
        let figures = told(comparison, case);
        let all = figures
            .iter()
            .filter_map(|figure| Some((figure.key, Spread::of(values(slices, &case.name, server, figure.key))?)));
        let compared = figures.iter().filter(|figure| figure.is_compared).filter_map(|figure| {
            Some((figure.key, Spread::of(ratios(slices, &case.name, server, &case.reference, figure.key))?))
        });
        let is_doubtful =
            |slice: &&Slice| slice.case == case.name && slice.server == *server && !slice.reasons.is_empty();
        ServerText {
            server,
            doubtful_slices: slices.iter().filter(is_doubtful).count(),
            figures: all.collect(),
            ratios: compared.collect(),
        }
    };
    CaseText {
        case: &case.name,
        scenario: case.kind.scenario(),
        reference: &case.reference,
        rounds: case.rounds,
        warm_up_s: case.warm_up.as_secs_f64(),
        measured_s: case.measured.as_secs_f64(),
        rate_per_second: comparison.rates.get(&case.name).copied(),
        servers: case.servers.iter().map(of_server).collect(),
    }
}

/// As a page.
pub(super) fn page(comparison: &Comparison) -> String {
    let cases: Vec<_> = comparison.cases.iter().map(|case| case_for_page(comparison, case)).collect();
    let notes: Vec<String> = comparison.notes.iter().cloned().chain([doubt(comparison)]).collect();
    html::comparison(&comparison.how, &notes, &cases)
}

fn case_for_page(comparison: &Comparison, case: &CasePlan) -> html::ComparedCase {
    let figures = told(comparison, case);
    let of_server = |name: &String| {
        let main = figures.first()?;
        let ratio = Spread::of(ratios(&comparison.slices, &case.name, name, &case.reference, main.key))?;
        let response = comparison.responses.get(&(case.name.clone(), name.clone()))?;
        Some(html::ComparedServer {
            name: name.clone(),
            ratio: [ratio.low, ratio.median, ratio.high],
            cells: figures.iter().map(|figure| cell(comparison, case, name, figure)).collect(),
            response: Curve::of(name, response),
        })
    };
    html::ComparedCase {
        name: comparison.title(case),
        question: case.kind.question(),
        reference: case.reference.clone(),
        columns: figures.iter().map(|figure| figure.title).collect(),
        servers: case.servers.iter().filter_map(of_server).collect(),
    }
}
