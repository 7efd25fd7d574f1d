//! The Prometheus text format, version 0.0.4, as a pure function.
//!
//! There are no sums over cores: they would hide an uneven spread, and a query can make them.

use std::fmt::{Display, Write as _};
use std::time::{Duration, SystemTime};

use super::process::ProcessFigures;
use super::{BuildInfo, CoreMetrics};
use crate::metrics::{Kind, Sample};

/// The media type of what [`render`] returns.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is exposed, at one moment.
pub(super) struct Exposed<'a> {
    pub(super) shards: &'a [CoreMetrics],
    /// Of no core in particular.
    pub(super) figures: &'a [Sample],
    pub(super) build: BuildInfo,
    pub(super) started_at: SystemTime,
    pub(super) now: SystemTime,
    pub(super) is_draining: bool,
    pub(super) process: ProcessFigures,
}

/// The text of `GET /metrics`.
pub(super) fn render(exposed: &Exposed<'_>) -> String {
    let mut text = Text(String::with_capacity(INITIAL_CAPACITY));
    render_server(&mut text, exposed);
    render_shards(&mut text, exposed.shards);
    render_figures(&mut text, exposed.figures);
    render_core_times(&mut text, exposed);
    render_process(&mut text, &exposed.process);
    text.0
}

fn render_server(text: &mut Text, exposed: &Exposed<'_>) {
    text.family("corewire_build_info", Kind::Gauge, "What was built; always 1.");
    text.series("corewire_build_info", &[("version", &exposed.build.version)], &1);

    let uptime = exposed.now.duration_since(exposed.started_at).unwrap_or_default();
    text.single("corewire_uptime_seconds", Kind::Gauge, "Time since the server started.", &uptime.as_secs_f64());

    let draining = u8::from(exposed.is_draining);
    text.single(
        "corewire_draining",
        Kind::Gauge,
        "1 while the server is about to stop and wants no new clients.",
        &draining,
    );
}

/// Turns shards × figures into families × (members × cores): the format wants a family's lines in one piece.
fn render_shards(text: &mut Text, shards: &[CoreMetrics]) {
    let columns: Vec<(usize, Vec<Sample>)> =
        shards.iter().map(|shard| (shard.core, shard.metrics.samples().collect())).collect();
    let Some((_, rows)) = columns.first() else {
        return;
    };
    let mut family = "";
    for (index, row) in rows.iter().enumerate() {
        let name = format!("corewire_{}", row.name);
        if family != row.name {
            family = row.name;
            text.family(&name, row.kind, row.help);
        }
        for (core, samples) in &columns {
            let value = &samples[index].value;
            match &row.label {
                Some((label, member)) => text.series(&name, &[("core", core), (*label, member)], value),
                None => text.series(&name, &[("core", core)], value),
            }
        }
    }
}

fn render_figures(text: &mut Text, figures: &[Sample]) {
    let mut family = "";
    for sample in figures {
        let name = format!("corewire_{}", sample.name);
        if family != sample.name {
            family = sample.name;
            text.family(&name, sample.kind, sample.help);
        }
        match &sample.label {
            Some((label, member)) => text.series(&name, &[(label, member)], &sample.value),
            None => text.series(&name, &[], &sample.value),
        }
    }
}

/// From the kernel, not from the shards. A core whose time is not known has no series.
fn render_core_times(text: &mut Text, exposed: &Exposed<'_>) {
    let of_shards = |core: usize| exposed.shards.iter().any(|shard| shard.core == core);
    let mut times = exposed.process.core_times.iter().filter(|(core, _)| of_shards(*core)).peekable();
    if times.peek().is_some() {
        let help = "CPU time of the core's thread in seconds; its rate is the core's load.";
        text.family("corewire_core_cpu_seconds_total", Kind::Counter, help);
    }
    for (core, time) in times {
        text.series("corewire_core_cpu_seconds_total", &[("core", core)], &time.as_secs_f64());
    }
}

fn render_process(text: &mut Text, process: &ProcessFigures) {
    let seconds = |span: Duration| span.as_secs_f64();
    if let Some(count) = process.open_fds {
        text.single("process_open_fds", Kind::Gauge, "Open file descriptors.", &count);
    }
    if let Some(count) = process.max_fds {
        text.single("process_max_fds", Kind::Gauge, "Most file descriptors that may be open.", &count);
    }
    if let Some(bytes) = process.resident_bytes {
        text.single("process_resident_memory_bytes", Kind::Gauge, "Resident memory in bytes.", &bytes);
    }
    if let Some(span) = process.cpu_time.map(seconds) {
        text.single("process_cpu_seconds_total", Kind::Counter, "User and system CPU time in seconds.", &span);
    }
    if let Some(moment) = process.started_at.map(seconds) {
        let help = "Start of the process in seconds since the Unix epoch.";
        text.single("process_start_time_seconds", Kind::Gauge, help, &moment);
    }
}

/// A text that grows by lines. Writing to a string cannot fail, so the outcome of `write!` is not looked at.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn series(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: &dyn Display) {
        self.0.push_str(name);
        for (index, (label, content)) in labels.iter().enumerate() {
            let separator = if index == 0 { '{' } else { ',' };
            let content = escape_label(&content.to_string());
            let _ = write!(self.0, "{separator}{label}=\"{content}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A family of one series without labels.
    fn single(&mut self, name: &str, kind: Kind, help: &str, value: &dyn Display) {
        self.family(name, kind, help);
        self.series(name, &[], value);
    }
}

fn escape_label(content: &str) -> String {
    content.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// About what four cores take.
const INITIAL_CAPACITY: usize = 32 << 10;

#[cfg(test)]
mod tests;
