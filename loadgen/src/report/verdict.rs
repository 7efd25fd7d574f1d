//! Whether a result may be trusted, and if not, why.

use serde::Serialize;

use super::{Report, SATURATED_SHARE};
use crate::units::show_ns;

/// What this tool thinks of its own result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Nothing is known that speaks against the numbers.
    pub(crate) trustworthy: bool,
    /// Why not.
    pub(crate) reasons: Vec<String>,
    /// What the numbers do not mean.
    pub(crate) remarks: Vec<String>,
}

impl Verdict {
    pub(super) fn on(report: &Report, raw: bool) -> Self {
        let mut reasons = Vec::new();
        let mut remarks = Vec::new();
        answers(report, &mut reasons);
        pacing(report, &mut reasons);
        limits(report, &mut reasons, &mut remarks);
        machine(report, &mut reasons, &mut remarks);
        if report.wire.compression_offered && report.wire.compressed_connections < report.achieved.opened_connections {
            let (taken, opened) = (report.wire.compressed_connections, report.achieved.opened_connections);
            remarks.push(format!("permessage-deflate was offered, and taken on {taken} of {opened} connections"));
        }
        if raw {
            remarks.push("tcp:// measures an echo of bytes, not a WebSocket server".to_owned());
        }
        Self { trustworthy: reasons.is_empty(), reasons, remarks }
    }
}

fn answers(report: &Report, reasons: &mut Vec<String>) {
    let problems = &report.problems;
    let wrong = [
        (problems.corrupt_messages, "came back wrong"),
        (problems.lost_messages, "were lost"),
        (problems.duplicate_messages, "came twice"),
        (problems.out_of_order_messages, "came out of order"),
        (problems.late_messages, "came after they had been given up"),
        (problems.unsent_messages, "were never sent by anybody"),
    ];
    for (count, what) in wrong {
        if count > 0 {
            reasons.push(format!("{count} messages {what}"));
        }
    }
    for (kind, count) in &problems.errors {
        let words = problems.error_examples.get(kind).map_or("", String::as_str);
        reasons.push(format!("{count} × {kind}: {words}"));
    }
    if report.achieved.answered_messages == 0 && report.scenario != "idle" {
        reasons.push("no message was answered".to_owned());
    }
    if report.achieved.interrupted {
        reasons.push("it was ended early".to_owned());
    }
}

fn pacing(report: &Report, reasons: &mut Vec<String>) {
    let Some(planned) = report.achieved.planned_messages else { return };
    let sent = report.achieved.sent_messages;
    if (sent as f64) < planned as f64 * (1.0 - SENT_SHARE_MISSING_MAX) {
        reasons.push(format!("only {sent} of {planned} planned messages were sent: the rate was not kept"));
    }
    // With a limit of messages under way, waiting for room is the server's doing.
    let own_doing = report.plan.inflight_messages.is_none();
    let (Some(late_ns), Some(response_ns)) = (report.generator.lateness.get("p99"), report.response.get("p99")) else {
        return;
    };
    if own_doing && late_ns > LATENESS_NS_MAX && late_ns as f64 > response_ns as f64 * LATENESS_SHARE_MAX {
        reasons.push(format!(
            "this tool itself sent late (p99 {}), which is a good part of the latencies shown",
            show_ns(late_ns)
        ));
    }
}

fn limits(report: &Report, reasons: &mut Vec<String>, remarks: &mut Vec<String>) {
    let share = report.generator.busiest_worker_share;
    let percent = (share * 100.0).round();
    let closed = report.achieved.planned_messages.is_none() && report.scenario != "idle";
    match &report.server {
        None if closed => remarks
            .push("whether the server was saturated is unknown: say --pid or --spawn to see what it used".to_owned()),
        None => {}
        Some(server) if server.saturated => remarks.push("the server was saturated".to_owned()),
        Some(server) if closed => {
            let used = (server.cpu_share.max(server.busiest_thread_share) * 100.0).round();
            let limit = if share >= SATURATED_SHARE { "the limit was this tool" } else { "the limit was elsewhere" };
            remarks.push(format!(
                "the server was not saturated ({used} % of its core): the throughput is not its limit; {limit}"
            ));
        }
        Some(_) => {}
    }
    if !closed && share > BUSY_SHARE_MAX {
        reasons.push(format!("this tool's busiest worker was {percent} % busy: use more --cores, or a lower rate"));
    }
}

fn machine(report: &Report, reasons: &mut Vec<String>, remarks: &mut Vec<String>) {
    if let Some(others) = report.generator.others_cores.filter(|&others| others > OTHERS_CORES_MAX) {
        // Memory is counted, not timed; but the kernel's is that of the whole machine.
        let (list, words) = match report.scenario {
            "idle" => (&mut *remarks, "; what they changed of the kernel's memory is counted too"),
            _ => (&mut *reasons, ""),
        };
        list.push(format!("other processes used {others:.2} cores meanwhile{words}"));
    }
    if let Some(stolen) = report.generator.stolen_cores.filter(|&stolen| stolen > STOLEN_CORES_MAX) {
        reasons.push(format!("the hypervisor took {stolen:.2} cores away meanwhile"));
    }
    remarks.push(if report.plan.spin {
        "the generator spins: the server pays nothing for waking it".to_owned()
    } else {
        "the generator sleeps: the server's CPU includes the interrupts that wake it".to_owned()
    });
}

/// Share of the planned messages that may be missing.
const SENT_SHARE_MISSING_MAX: f64 = 0.001;
/// Lateness that is never of interest.
const LATENESS_NS_MAX: u64 = 50_000;
/// Share of the latency that may be the generator's own lateness.
const LATENESS_SHARE_MAX: f64 = 0.1;
/// A worker busier than this lets messages wait by itself.
const BUSY_SHARE_MAX: f64 = 0.9;
/// CPU of other processes, in cores, above which they disturb.
const OTHERS_CORES_MAX: f64 = 0.1;
/// The same for the hypervisor.
const STOLEN_CORES_MAX: f64 = 0.02;
