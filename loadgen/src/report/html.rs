//! Reports as one page that needs no network and no script: tables and plots drawn here, readable on a phone.

use std::fmt::Write as _;

use super::{Curve, Report};
use crate::units::{show_bytes, show_count, show_ns};

/// One load of a comparison, with all servers.
pub(crate) struct ComparedCase {
    pub(crate) name: String,
    /// What the bars show.
    pub(crate) question: &'static str,
    pub(crate) reference: String,
    /// Titles of the figures.
    pub(crate) columns: Vec<&'static str>,
    pub(crate) servers: Vec<ComparedServer>,
}

/// One server in one load.
pub(crate) struct ComparedServer {
    pub(crate) name: String,
    /// What the bars show by the reference's: lowest, median, highest.
    pub(crate) ratio: [f64; 3],
    /// The figures, by column.
    pub(crate) cells: Vec<String>,
    pub(crate) response: Curve,
}

/// The page of one or several runs.
pub(crate) fn page(reports: &[&Report]) -> String {
    let mut body = String::new();
    for report in reports {
        run(&mut body, report);
    }
    document("corewire-load", &body)
}

/// The page of a comparison.
pub(crate) fn comparison(how: &str, notes: &[String], cases: &[ComparedCase]) -> String {
    let mut body = format!("<p>{}.</p><ul>", escape(how));
    for note in notes {
        let _ = writeln!(body, "<li>{}</li>", escape(note));
    }
    body.push_str("</ul>\n");
    for case in cases {
        let _ = writeln!(body, "<section><h1>{}</h1>", escape(&case.name));
        let _ = writeln!(body, "<h2>{}, as a ratio to {}</h2>", case.question, escape(&case.reference));
        body.push_str(&bars(&case.servers));
        figures(&mut body, case);
        let curves: Vec<&Curve> = case.servers.iter().map(|server| &server.response).collect();
        if curves.iter().any(|curve| !curve.points.is_empty()) {
            body.push_str(&percentile_plot("Response latency by percentile, all rounds together", &curves));
        }
        body.push_str("</section>\n");
    }
    document("corewire-load compare", &body)
}

/// Medians of all rounds, and in brackets those of the ratios to the reference.
fn figures(body: &mut String, case: &ComparedCase) {
    body.push_str("<div class=\"wide\"><table><tr><th></th>");
    for column in &case.columns {
        let _ = write!(body, "<th>{}</th>", escape(column));
    }
    body.push_str("</tr>\n");
    for server in &case.servers {
        let _ = write!(body, "<tr><th>{}</th>", escape(&server.name));
        for cell in &server.cells {
            let _ = write!(body, "<td>{}</td>", escape(cell));
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table></div>\n");
}

fn run(body: &mut String, report: &Report) {
    let _ = writeln!(body, "<section><h1>{} <small>{}</small></h1>", report.scenario, escape(&report.url));
    let (class, words) = match report.verdict.trustworthy {
        true => ("good", "trustworthy"),
        false => ("bad", "not trustworthy"),
    };
    let _ = writeln!(body, "<p class=\"verdict {class}\">{words}</p><ul>");
    for reason in &report.verdict.reasons {
        let _ = writeln!(body, "<li class=\"bad\">{}</li>", escape(reason));
    }
    for remark in &report.verdict.remarks {
        let _ = writeln!(body, "<li>{}</li>", escape(remark));
    }
    body.push_str("</ul>\n");
    facts(body, report);
    let curves: Vec<&Curve> = report.curves.iter().filter(|curve| !curve.points.is_empty()).collect();
    if !curves.is_empty() {
        body.push_str(&percentile_plot("Latency by percentile", &curves));
    }
    over_time(body, report);
    let _ = writeln!(body, "<details><summary>As text</summary><pre>{}</pre></details>", escape(&report.to_string()));
    body.push_str("</section>\n");
}

fn facts(body: &mut String, report: &Report) {
    let mut rows = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(rows, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    };
    row("connections", show_count(report.plan.connections as u64));
    row("messages per second", show_count(report.achieved.arrived_per_second.round() as u64));
    for (name, key) in [("response p50", "p50"), ("response p99", "p99"), ("response p99.9", "p99_9")] {
        if let Some(ns) = report.response.get(key) {
            row(name, show_ns(ns));
        }
    }
    if let Some(server) = &report.server {
        if let Some(cpu_ns) = server.cpu_per_message_ns {
            row("server CPU per message", show_ns(cpu_ns as u64));
        }
        row("server busy", format!("{:.0} % of {} core(s)", server.cpu_share * 100.0, server.allowed_cpus));
        if let Some(pss) = server.pss_bytes {
            row("server memory (PSS)", show_bytes(pss));
        }
    }
    if let Some(memory) = &report.memory {
        row("user memory per connection", format!("{:.0} B", memory.user_bytes_per_connection));
        row("kernel memory per connection, both ends", format!("{:.0} B", memory.kernel_slab_bytes_per_connection));
        if let Some(beyond) = memory.kernel_beyond_sockets_bytes_per_connection {
            row("of it beyond the sockets", format!("{beyond:.0} B"));
        }
        if let Some(sparse) = &memory.sparse {
            row("user memory while sparse", format!("{:.0} B", sparse.user_bytes_per_connection));
            if let Some(cpu_ns) = sparse.cpu_per_message_ns {
                row("CPU per sparse message", show_ns(cpu_ns as u64));
            }
        }
        if let Some(heat) = &memory.after_heat {
            row("user memory after heat", format!("{:.0} B", heat.user_bytes_per_connection));
        }
        if let Some(growth) = memory.growth() {
            row("resident after the last wave by the first", format!("{growth:.2}"));
        }
    }
    if let Some(recovery_ns) = report.recovery_ns {
        row("recovery", show_ns(recovery_ns));
    }
    let problems = &report.problems;
    let wrong = problems.lost_messages + problems.duplicate_messages + problems.out_of_order_messages;
    row("lost, duplicate, out of order", show_count(wrong));
    row("corrupt", show_count(problems.corrupt_messages));
    let _ = writeln!(body, "<dl>{rows}</dl>");
}

fn over_time(body: &mut String, report: &Report) {
    if report.seconds.len() < 2 {
        return;
    }
    let series = |value: &dyn Fn(&super::SecondReport) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = report.seconds.iter().enumerate();
        points.filter_map(|(at, second)| Some((at as f64 + 1.0, value(second)?))).collect()
    };
    let arrived = series(&|second| Some(second.arrived_messages as f64));
    let sent = series(&|second| Some(second.sent_messages as f64));
    let plot = Plot {
        title: "Messages per second",
        lines: vec![("sent", sent), ("arrived", arrived)],
        show: &|value| show_count(value as u64),
        logarithmic: false,
    };
    body.push_str(&plot.draw());
    let memory = series(&|second| second.pss_bytes.map(|bytes| bytes as f64));
    if memory.len() >= 2 {
        let lines = vec![("PSS", memory)];
        let show = &|value: f64| show_bytes(value as u64);
        body.push_str(&Plot { title: "Server memory over time", lines, show, logarithmic: false }.draw());
    }
    let p50 = series(&|second| second.response.get("p50").map(|ns| ns as f64));
    let p99 = series(&|second| second.response.get("p99").map(|ns| ns as f64));
    if p50.len() >= 2 {
        let lines = vec![("p50", p50), ("p99", p99)];
        let show = &|value: f64| show_ns(value as u64);
        body.push_str(&Plot { title: "Response latency over time", lines, show, logarithmic: true }.draw());
    }
}

// ---- drawing -----------------------------------------------------------------------------------------------------

/// Lines over seconds.
struct Plot<'a> {
    title: &'a str,
    lines: Vec<(&'a str, Vec<(f64, f64)>)>,
    show: &'a dyn Fn(f64) -> String,
    logarithmic: bool,
}

impl Plot<'_> {
    fn draw(&self) -> String {
        let last = self.lines.iter().flat_map(|(_, points)| points).map(|&(x, _)| x).fold(1.0, f64::max);
        let step = (last / 8.0).ceil().max(1.0);
        let count = (last / step) as usize;
        let ticks = (1..=count).map(|at| (at as f64 * step, format!("{} s", at as f64 * step))).collect();
        let lines = self.lines.iter().map(|(name, points)| (*name, points.clone())).collect();
        frame(
            self.title,
            &Axes { x: (0.0, last), x_ticks: ticks, logarithmic: self.logarithmic, show: self.show },
            lines,
        )
    }
}

fn percentile_plot(title: &str, curves: &[&Curve]) -> String {
    let lines: Vec<(&str, Vec<(f64, f64)>)> = curves
        .iter()
        .map(|curve| {
            let points = curve.points.iter().map(|&(inverse, ns)| (inverse.log10(), ns)).collect();
            (curve.name.as_str(), points)
        })
        .collect();
    let last = lines.iter().flat_map(|(_, points)| points).map(|&(x, _)| x).fold(1.0, f64::max);
    let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
    let ticks = names.iter().enumerate().map(|(at, name)| (at as f64, (*name).to_owned()));
    let ticks = ticks.filter(|(at, _)| *at <= last).collect();
    let show = &|ns: f64| show_ns(ns as u64);
    frame(title, &Axes { x: (0.0, last), x_ticks: ticks, logarithmic: true, show }, lines)
}

struct Axes<'a> {
    x: (f64, f64),
    x_ticks: Vec<(f64, String)>,
    logarithmic: bool,
    show: &'a dyn Fn(f64) -> String,
}

fn frame(title: &str, axes: &Axes<'_>, lines: Vec<(&str, Vec<(f64, f64)>)>) -> String {
    let values = || lines.iter().flat_map(|(_, points)| points).map(|&(_, y)| y);
    let highest = values().fold(1.0, f64::max);
    let scale = |y: f64| if axes.logarithmic { y.max(1.0).log10() } else { y };
    let (low, high) = if axes.logarithmic {
        let lowest = values().fold(highest, f64::min).max(1.0);
        (lowest.log10().floor(), highest.log10().ceil().max(lowest.log10().floor() + 1.0))
    } else {
        (0.0, highest * 1.1)
    };
    let place_x = |x: f64| LEFT + (x - axes.x.0) / (axes.x.1 - axes.x.0).max(1e-9) * (WIDTH - LEFT - RIGHT);
    let place_y = |scaled: f64| HEIGHT - BOTTOM - (scaled - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!("<figure><figcaption>{}</figcaption>", escape(title));
    let _ = write!(out, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(title));
    let steps = if axes.logarithmic { (high - low) as usize } else { 5 };
    for step in 0..=steps {
        let scaled = low + (high - low) * step as f64 / steps as f64;
        let (y, value) = (place_y(scaled), if axes.logarithmic { 10_f64.powf(scaled) } else { scaled });
        let _ =
            write!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", WIDTH - RIGHT);
        let _ = write!(
            out,
            "<text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            y + 5.0,
            (axes.show)(value.round())
        );
    }
    for (at, label) in &axes.x_ticks {
        let _ = write!(out, "<text class=\"x\" x=\"{:.1}\" y=\"{}\">{label}</text>", place_x(*at), HEIGHT - 12.0);
    }
    for (number, (_, points)) in lines.iter().enumerate() {
        let path: Vec<String> =
            points.iter().map(|&(x, y)| format!("{:.1},{:.1}", place_x(x), place_y(scale(y)))).collect();
        let _ = write!(out, "<polyline class=\"line c{}\" points=\"{}\"/>", number % COLOURS, path.join(" "));
    }
    out.push_str("</svg><p class=\"legend\">");
    for (number, (name, _)) in lines.iter().enumerate() {
        let _ = write!(out, "<span class=\"c{}\">{}</span> ", number % COLOURS, escape(name));
    }
    out.push_str("</p></figure>\n");
    out
}

/// A bar to the median, and a line from the lowest to the highest.
fn bars(servers: &[ComparedServer]) -> String {
    let highest = servers.iter().map(|server| server.ratio[2]).fold(1.0, f64::max) * 1.15;
    let height = 44.0 * servers.len() as f64 + 10.0;
    let place = |ratio: f64| BARS_LEFT + ratio / highest * (WIDTH - BARS_LEFT - 120.0);
    let mut out = format!("<figure><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"ratios\">");
    for (number, server) in servers.iter().enumerate() {
        let y = 44.0 * number as f64 + 8.0;
        let [low, median, high] = server.ratio;
        let _ = write!(
            out,
            "<text class=\"y\" x=\"{tx0}\" y=\"{ty}\">{name}</text>\
             <rect class=\"c{colour}\" x=\"{BARS_LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"28\"/>\
             <line class=\"range\" x1=\"{x1:.1}\" x2=\"{x2:.1}\" y1=\"{my}\" y2=\"{my}\"/>\
             <text x=\"{tx:.1}\" y=\"{ty}\">{median:.2}</text>",
            ty = y + 20.0,
            my = y + 14.0,
            name = escape(&server.name),
            colour = number % COLOURS,
            tx0 = BARS_LEFT - 10.0,
            width = place(median) - BARS_LEFT,
            x1 = place(low),
            x2 = place(high),
            tx = place(high) + 10.0,
        );
    }
    out.push_str("</svg></figure>\n");
    out
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head>\n\
         <body>{body}<footer>{title} {}</footer></body></html>\n",
        env!("CARGO_PKG_VERSION"),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 140.0;
const RIGHT: f64 = 40.0;
/// Where bars begin: names stand before it, on a phone in large letters.
const BARS_LEFT: f64 = 270.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 44.0;
/// Colours in the style sheet.
const COLOURS: usize = 10;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6470;--paper:#fff;--card:#f5f6f8;--grid:#dde1e6;
--good:#1a7f37;--bad:#b42318;--c0:#1f6feb;--c1:#d9730d;--c2:#1a7f37;--c3:#8250df;--c4:#bf3989;--c5:#57606a;
--c6:#0e7c86;--c7:#9a6700;--c8:#cf222e;--c9:#3c5a14}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa4b0;--paper:#14171b;--card:#1d2127;--grid:#343b44;
--good:#4ac26b;--bad:#ff7b72;--c0:#58a6ff;--c1:#f0883e;--c2:#56d364;--c3:#bc8cff;--c4:#ff7eb6;--c5:#adb7c2;--c6:#39c5cf;--c7:#d4a72c;--c8:#ff7b72;--c9:#a5d66f}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:960px;padding:1rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:1.5rem 0 .5rem}h1 small{font-weight:400;color:var(--soft);font-size:1rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:1rem 0 .25rem}
.verdict{display:inline-block;margin:.25rem 0;padding:.15rem .75rem;border-radius:1rem;border:2px solid currentColor;font-weight:600}
.good{color:var(--good)}.bad{color:var(--bad)}
ul{padding-left:1.2rem;color:var(--soft)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.5rem;margin:1rem 0}
dl div{background:var(--card);border-radius:.5rem;padding:.5rem .75rem}
dt{color:var(--soft);font-size:.8rem}dd{margin:0;font-size:1.15rem;font-weight:600}
figure{margin:1.5rem 0}figcaption{font-weight:600}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font-size:16px}svg text.y{text-anchor:end}svg text.x{text-anchor:middle}
.grid{stroke:var(--grid)}.line{fill:none;stroke-width:2.5;stroke-linejoin:round}.range{stroke:var(--ink);stroke-width:3}
polyline.c0{stroke:var(--c0)}polyline.c1{stroke:var(--c1)}polyline.c2{stroke:var(--c2)}
polyline.c3{stroke:var(--c3)}polyline.c4{stroke:var(--c4)}polyline.c5{stroke:var(--c5)}
polyline.c6{stroke:var(--c6)}polyline.c7{stroke:var(--c7)}polyline.c8{stroke:var(--c8)}polyline.c9{stroke:var(--c9)}
rect.c0{fill:var(--c0)}rect.c1{fill:var(--c1)}rect.c2{fill:var(--c2)}
rect.c3{fill:var(--c3)}rect.c4{fill:var(--c4)}rect.c5{fill:var(--c5)}
rect.c6{fill:var(--c6)}rect.c7{fill:var(--c7)}rect.c8{fill:var(--c8)}rect.c9{fill:var(--c9)}
.legend{margin:.25rem 0}.legend span{margin-right:1rem}.legend span::before{content:'\\25CF';margin-right:.3rem}
.legend .c0::before{color:var(--c0)}.legend .c1::before{color:var(--c1)}.legend .c2::before{color:var(--c2)}
.legend .c3::before{color:var(--c3)}.legend .c4::before{color:var(--c4)}.legend .c5::before{color:var(--c5)}
.legend .c6::before{color:var(--c6)}.legend .c7::before{color:var(--c7)}.legend .c8::before{color:var(--c8)}
.legend .c9::before{color:var(--c9)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;white-space:nowrap}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--grid)}th:first-child{text-align:left}
pre{overflow-x:auto;background:var(--card);padding:.75rem;border-radius:.5rem;font-size:.8rem}
footer{color:var(--soft);margin:2rem 0 1rem;font-size:.85rem}
@media(max-width:600px){svg text{font-size:24px}}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_else_and_says_nothing_it_should_not() {
        let mut latencies = crate::latency::empty();
        latencies.saturating_record_n(1_000_000, 10_000);
        let server = |name: &str| ComparedServer {
            name: name.to_owned(),
            ratio: [0.9, 1.0, 1.1],
            cells: vec!["5 <".to_owned()],
            response: Curve::of(name, &latencies),
        };
        let servers = vec![server("a<b"), server("c")];
        let case = ComparedCase {
            name: "1 & 2".to_owned(),
            question: "CPU",
            reference: "c".to_owned(),
            columns: vec!["CPU"],
            servers,
        };
        let page = comparison("how", &["left out: <x>".to_owned()], &[case]);
        for foreign in ["http:", "https:", "<script", "a<b", "NaN", "inf"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("a&lt;b") && page.contains("1 &amp; 2"));
        assert!(page.contains("<td>5 &lt;</td>") && page.contains("left out: &lt;x&gt;"));
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
