//! A report as a table for the terminal.

use std::fmt::{self, Display, Formatter};

use super::Report;
use crate::latency::{PERCENTILES, Summary};
use crate::units::{show_bytes, show_count, show_ns};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.plan_lines(f)?;
        self.achieved_lines(f)?;
        self.latency_lines(f)?;
        self.scenario_lines(f)?;
        self.server_lines(f)?;
        self.generator_lines(f)?;
        self.verdict_lines(f)
    }
}

impl Report {
    fn plan_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        let loop_kind = match (plan.rate_per_second, plan.inflight_messages) {
            (None, Some(inflight)) if self.scenario == "fanout" => {
                format!("closed loop, {inflight} publications under way")
            }
            (Some(rate), None) => format!("open loop, {rate} messages/s"),
            (Some(rate), Some(inflight)) => format!("open loop, {rate} messages/s, at most {inflight} under way each"),
            (None, Some(inflight)) => format!("closed loop, {inflight} under way each"),
            (None, None) if self.scenario == "idle" => "silent".to_owned(),
            (None, None) => "as fast as it goes".to_owned(),
        };
        writeln!(f, "{} {}", self.scenario, self.url)?;
        writeln!(
            f,
            "plan       {} connections × {} B {}, {loop_kind}, {} s after {} s of warm-up{}",
            show_count(plan.connections as u64),
            plan.payload_bytes,
            plan.payload_kind,
            plan.measured_s,
            plan.warm_up_s,
            if plan.cool_down_s > 0.0 { format!(", {} s of cool-down", plan.cool_down_s) } else { String::new() },
        )?;
        let Some(topics) = &plan.topics else { return Ok(()) };
        writeln!(
            f,
            "topics     {} with {} subscriptions over {}{}",
            show_count(topics.topics),
            show_count(topics.subscriptions),
            topics.wire,
            if topics.published_over_http { ", published over HTTP" } else { "" },
        )
    }

    fn achieved_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let achieved = &self.achieved;
        // A steady storm counts connections where all others count messages.
        let (begun, done, things) = match self.scenario {
            "storm" if self.plan.payload_bytes == "0" => ("begun", "opened", "connections"),
            "fanout" | "recovery" => ("published", "delivered", "messages"),
            _ => ("sent", "answered", "messages"),
        };
        write!(f, "achieved   {} {begun}", show_count(achieved.sent_messages))?;
        if let Some(planned) = achieved.planned_messages {
            write!(f, " of {} planned", show_count(planned))?;
        }
        writeln!(
            f,
            ", {} {}: {} {}/s, {}/s",
            show_count(achieved.answered_messages),
            done,
            show_count(achieved.arrived_per_second.round() as u64),
            things,
            show_bytes(achieved.arrived_bytes_per_second as u64),
        )?;
        if achieved.failed_connections > 0 || self.scenario == "storm" {
            let (failed, opened) = (achieved.failed_connections, achieved.opened_connections);
            let percent = achieved.failed_connection_share * 100.0;
            let tried = show_count(failed + opened);
            writeln!(
                f,
                "failed     {} of {tried} connections over the whole run ({percent:.2} %)",
                show_count(failed)
            )?;
        }
        self.wire_line(f)?;
        let problems = &self.problems;
        writeln!(
            f,
            "answers    {} lost, {} duplicate, {} out of order, {} corrupt",
            problems.lost_messages,
            problems.duplicate_messages,
            problems.out_of_order_messages,
            problems.corrupt_messages,
        )?;
        for (kind, count) in &problems.errors {
            writeln!(f, "error      {count} × {kind}: {}", problems.error_examples[kind])?;
        }
        Ok(())
    }

    /// What compression came to, if it was offered.
    fn wire_line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let wire = &self.wire;
        if !wire.compression_offered {
            return Ok(());
        }
        let (taken, opened) = (wire.compressed_connections, self.achieved.opened_connections);
        write!(f, "deflate    taken by the server on {taken} of {opened} connections")?;
        for (what, wire_bytes, payload_bytes) in [
            ("sent", wire.sent_wire_bytes, wire.sent_payload_bytes),
            ("arrived", wire.arrived_wire_bytes, wire.arrived_payload_bytes),
        ] {
            let percent = wire_bytes as f64 / payload_bytes.max(1) as f64 * 100.0;
            write!(f, "; {what} {} for {} ({percent:.0} %)", show_bytes(wire_bytes), show_bytes(payload_bytes))?;
        }
        writeln!(f)
    }

    fn latency_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:<24}", "latency")?;
        for (_, title, _) in PERCENTILES {
            write!(f, "{title:>10}")?;
        }
        writeln!(f, "{:>10}", "max")?;
        summary_line(f, "response (corrected)", &self.response)?;
        summary_line(f, "service (uncorrected)", &self.service)?;
        summary_line(f, "opening a connection", &self.opening)?;
        summary_line(f, "response in recovery", &self.meanwhile)?;
        summary_line(f, "recovery of a client", &self.client_recovery)?;
        summary_line(f, "means of subscribers", &self.subscriber)?;
        summary_line(f, "our own lateness", &self.generator.lateness)
    }

    fn scenario_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(recovery_ns) = self.recovery_ns {
            let what = if self.scenario == "recovery" { "subscribers had caught up" } else { "connections were back" };
            writeln!(f, "\nrecovery   all {what} after {}", show_ns(recovery_ns))?;
        }
        if self.slow_dropped_connections > 0 {
            writeln!(f, "\nslow       the server let {} slow clients go", self.slow_dropped_connections)?;
        }
        if self.achieved.resumed_tls_sessions > 0 {
            let (resumed, opened) = (self.achieved.resumed_tls_sessions, self.achieved.opened_connections);
            writeln!(f, "\ntls        {resumed} of {opened} sessions were resumed")?;
        }
        match &self.memory {
            Some(memory) => write!(f, "\n{memory}"),
            None => Ok(()),
        }
    }

    fn server_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(server) = &self.server else {
            return writeln!(f, "\nserver     not observed (--pid or --spawn)");
        };
        write!(f, "\nserver     ")?;
        if let Some(cpu_ns) = server.cpu_per_message_ns {
            write!(f, "{cpu_ns:.0} ns CPU per message, ")?;
        }
        write!(f, "{:.1} % of {} core(s)", server.cpu_share * 100.0, server.allowed_cpus)?;
        if let Some(user) = server.user_share {
            write!(f, ", {:.0} % of it user", user * 100.0)?;
        }
        if let Some(pss) = server.pss_bytes {
            write!(f, ", {} PSS", show_bytes(pss))?;
        }
        writeln!(f)
    }

    fn generator_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let generator = &self.generator;
        write!(f, "generator  ")?;
        if let Some(cpu_ns) = generator.cpu_per_message_ns {
            write!(f, "{cpu_ns:.0} ns per message, ")?;
        }
        if let Some(ratio) = generator.cpu_by_server_cpu {
            write!(f, "{ratio:.2} of the server's, ")?;
        }
        write!(f, "busiest worker {:.1} % busy", generator.busiest_worker_share * 100.0)?;
        if let Some(others) = generator.others_cores {
            write!(f, "; other processes used {others:.2} cores")?;
        }
        writeln!(f)
    }

    fn verdict_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        if self.verdict.trustworthy {
            writeln!(f, "verdict    trustworthy")?;
        } else {
            writeln!(f, "verdict    NOT trustworthy")?;
        }
        for reason in &self.verdict.reasons {
            writeln!(f, "  because  {reason}")?;
        }
        for remark in &self.verdict.remarks {
            writeln!(f, "  note     {remark}")?;
        }
        Ok(())
    }
}

fn summary_line(f: &mut Formatter<'_>, title: &str, summary: &Summary) -> fmt::Result {
    if summary.count == 0 {
        return Ok(());
    }
    write!(f, "{title:<24}")?;
    for value_ns in summary.percentiles_ns {
        write!(f, "{:>10}", value_ns.map_or_else(|| "-".to_owned(), show_ns))?;
    }
    writeln!(f, "{:>10}", show_ns(summary.max_ns))
}
