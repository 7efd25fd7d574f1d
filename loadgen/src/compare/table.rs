//! A comparison as text.

use std::fmt::Write as _;

use super::Comparison;
use super::figures::{Figure, Slice, Spread, ratios, values};
use super::plan::CasePlan;

/// All of it.
pub(super) fn table(comparison: &Comparison) -> String {
    let mut out = format!(
        "{}\nmedian [lowest to highest]; ratios, and what stands in brackets behind a figure, are to the reference's of \
         the same round\n",
        comparison.how
    );
    for note in &comparison.notes {
        let _ = writeln!(out, "note: {note}");
    }
    for case in &comparison.cases {
        of_case(&mut out, comparison, case);
    }
    complaints(&mut out, comparison);
    out
}

fn of_case(out: &mut String, comparison: &Comparison, case: &CasePlan) {
    let figures: Vec<&Figure> = told(comparison, case);
    let Some((main, others)) = figures.split_first() else { return };
    let width = |figure: &Figure| if figure.is_compared { 20 } else { figure.title.len().max(9) + 3 };
    let _ = write!(
        out,
        "\n{}\n  {:<20}{:>26}{:>14}",
        comparison.title(case),
        format!("reference: {}", case.reference),
        format!("{}, ratio", main.title),
        main.title
    );
    for figure in others {
        let _ = write!(out, "{:>width$}", figure.title, width = width(figure));
    }
    out.push('\n');
    for server in &case.servers {
        let Some(value) = Spread::of(values(&comparison.slices, &case.name, server, main.key)) else { continue };
        let ratio = Spread::of(ratios(&comparison.slices, &case.name, server, &case.reference, main.key));
        let ratio = ratio.map_or_else(
            || "-".to_owned(),
            |ratio| format!("{:.2} [{:.2} to {:.2}]", ratio.median, ratio.low, ratio.high),
        );
        let _ = write!(out, "  {server:<20}{ratio:>26}{:>14}", main.show(value.median));
        for figure in others {
            let cell = cell(comparison, case, server, figure);
            let _ = write!(out, "{cell:>width$}", width = width(figure));
        }
        out.push('\n');
    }
}

/// The figures of a case that were measured at all.
pub(super) fn told(comparison: &Comparison, case: &CasePlan) -> Vec<&'static Figure> {
    let was_measured = |figure: &&Figure| {
        comparison.slices.iter().any(|slice| slice.case == case.name && slice.figures.contains_key(figure.key))
    };
    case.kind.figures().iter().filter(was_measured).collect()
}

/// The median, and behind it the median of the ratios.
pub(super) fn cell(comparison: &Comparison, case: &CasePlan, server: &str, figure: &Figure) -> String {
    let Some(value) = Spread::of(values(&comparison.slices, &case.name, server, figure.key)) else {
        return "-".to_owned();
    };
    let shown = figure.show(value.median);
    if !figure.is_compared {
        return shown;
    }
    match Spread::of(ratios(&comparison.slices, &case.name, server, &case.reference, figure.key)) {
        Some(ratio) => format!("{shown} ({:.2})", ratio.median),
        None => shown,
    }
}

/// How many slices something speaks against, in a sentence.
pub(super) fn doubt(comparison: &Comparison) -> String {
    let doubtful = comparison.slices.iter().filter(|slice| !slice.reasons.is_empty()).count();
    match doubtful {
        0 => "no slice is in doubt".to_owned(),
        count => format!("{count} of {} slices are in doubt", comparison.slices.len()),
    }
}

/// What speaks against some of the slices.
fn complaints(out: &mut String, comparison: &Comparison) {
    let _ = writeln!(out, "\n{}", doubt(comparison));
    let doubtful = comparison.slices.iter().filter(|slice| !slice.reasons.is_empty());
    for slice in doubtful.take(COMPLAINTS_MAX) {
        let Slice { server, case, round, reasons, .. } = slice;
        let _ = writeln!(out, "  for example {server} × {case}, round {round}: {}", reasons.join("; "));
    }
}

/// Doubtful slices that are told one by one.
const COMPLAINTS_MAX: usize = 5;
