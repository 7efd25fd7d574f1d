//! What is seen while a run goes on: a few lines that are drawn anew each second on a terminal, and else a line a second.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};

use crate::conduct::Progress;
use crate::tally::Interval;
use crate::units::{show_count, show_ns};

/// Shows progress on standard error, and leaves a terminal as it found it.
pub(crate) struct View {
    title: String,
    surface: Surface,
    /// Arrived per second, the newest last.
    recent: VecDeque<u64>,
    error_count: u64,
}

enum Surface {
    Quiet,
    /// Not a terminal, or none that can be drawn on.
    Lines,
    /// Lines that are drawn and will be drawn over.
    Terminal {
        drawn: usize,
    },
}

impl View {
    /// A view of what `title` says.
    pub(crate) fn new(title: String, quiet: bool) -> Self {
        let surface = match quiet {
            true => Surface::Quiet,
            false if is_drawable() => Surface::Terminal { drawn: 0 },
            false => Surface::Lines,
        };
        Self { title, surface, recent: VecDeque::new(), error_count: 0 }
    }

    /// Shows how far it is.
    pub(crate) fn show(&mut self, progress: &Progress<'_>) {
        if let Progress::Second { interval, .. } = progress {
            self.recent.push_back(interval.arrived);
            if self.recent.len() > SPARKS {
                self.recent.pop_front();
            }
            self.error_count += interval.errors;
        }
        match self.surface {
            Surface::Quiet => {}
            // Nothing depends on what is shown, here and below.
            Surface::Lines => drop(writeln!(io::stderr(), "{}", line(progress))),
            Surface::Terminal { drawn } => {
                let lines = self.lines(progress);
                let _ = draw(&mut io::stderr().lock(), drawn, &lines, width());
                self.surface = Surface::Terminal { drawn: lines.len() };
            }
        }
    }

    fn lines(&self, progress: &Progress<'_>) -> Vec<String> {
        let Progress::Second { number, of, planned_per_second, interval } = progress else {
            return vec![format!("{}    {}", self.title, line(progress))];
        };
        let (p50_ns, p99_ns) = percentiles(interval);
        vec![
            format!("{}    {number}/{of} s", self.title),
            format!(
                "rate         {}{} sent/s, {} arrived/s",
                show_count(interval.sent),
                of_planned(*planned_per_second),
                show_count(interval.arrived)
            ),
            format!("connections  {} open, {} errors", show_count(interval.open), show_count(self.error_count)),
            format!("last second  p50 {}, p99 {}", show_ns(p50_ns), show_ns(p99_ns)),
            format!("arrived/s    {}", sparkline(&self.recent)),
        ]
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Surface::Terminal { drawn } = self.surface {
            let _ = draw(&mut io::stderr().lock(), drawn, &[], width());
        }
    }
}

/// Whether the cursor can be moved about on standard error.
fn is_drawable() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Columns of the terminal.
fn width() -> usize {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        Ok(_) | Err(_) => WIDTH,
    }
}

/// Draws `lines` over the `drawn` lines above the cursor, in one write, so that no terminal shows half of them. A line that
/// wrapped would be counted wrong, so it is cut.
fn draw(out: &mut impl Write, drawn: usize, lines: &[String], width: usize) -> io::Result<()> {
    let mut text = match drawn {
        0 => String::new(),
        _ => format!("\x1b[{drawn}A"),
    };
    text.push_str("\r\x1b[J");
    for line in lines {
        text.extend(line.chars().take(width.saturating_sub(1)));
        text.push('\n');
    }
    out.write_all(text.as_bytes())
}

fn line(progress: &Progress<'_>) -> String {
    match progress {
        Progress::Opening => "opening connections".to_owned(),
        Progress::Ready => "all connections are open".to_owned(),
        Progress::Second { number, of, planned_per_second, interval } => {
            let (p50_ns, p99_ns) = percentiles(interval);
            format!(
                "{number:>4}/{of} s  {:>11}{} sent/s  {:>11} arrived/s  {} open  {} errors  p50 {}  p99 {}",
                show_count(interval.sent),
                of_planned(*planned_per_second),
                show_count(interval.arrived),
                show_count(interval.open),
                interval.errors,
                show_ns(p50_ns),
                show_ns(p99_ns),
            )
        }
    }
}

fn of_planned(planned_per_second: Option<f64>) -> String {
    planned_per_second.map_or_else(String::new, |rate| format!(" of {rate}"))
}

fn percentiles(interval: &Interval) -> (u64, u64) {
    (interval.response.value_at_quantile(0.5), interval.response.value_at_quantile(0.99))
}

/// A bar per value, the highest as high as can be; none for nothing.
fn sparkline(values: &VecDeque<u64>) -> String {
    let highest = values.iter().copied().max().unwrap_or(0).max(1);
    let bar = |&value: &u64| match value {
        0 => ' ',
        _ => BARS[(u128::from(value) * (BARS.len() as u128 - 1)).div_ceil(u128::from(highest)) as usize],
    };
    values.iter().map(bar).collect()
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Seconds that the sparkline shows.
const SPARKS: usize = 60;
/// Columns, where the terminal does not tell.
const WIDTH: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_values() {
        assert_eq!(sparkline(&[0, 1, 50, 100].into()), " ▂▅█");
        assert_eq!(sparkline(&VecDeque::new()), "");
        assert_eq!(sparkline(&[0, 0].into()), "  ");
        assert_eq!(sparkline(&[u64::MAX].into()), "█");
    }

    #[test]
    fn a_drawing_goes_over_the_one_before_and_never_wraps() {
        let mut out = Vec::new();
        draw(&mut out, 0, &["12345".to_owned(), "µµµµµ".to_owned()], 4).unwrap();
        draw(&mut out, 2, &[], 4).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\r\x1b[J123\nµµµ\n\x1b[2A\r\x1b[J");
    }

    #[test]
    fn a_second_says_what_was_planned_and_what_came_of_it() {
        let mut view =
            View { title: "echo x".to_owned(), surface: Surface::Quiet, recent: VecDeque::new(), error_count: 3 };
        let mut interval = Interval::new();
        (interval.sent, interval.arrived, interval.errors, interval.open) = (990, 980, 2, 50);
        interval.response.saturating_record(1000);
        let progress = Progress::Second { number: 2, of: 5, planned_per_second: Some(1000.0), interval: &interval };
        view.show(&progress);
        let text = view.lines(&progress).join("\n");
        for want in ["echo x    2/5 s", "990 of 1000 sent/s, 980 arrived/s", "50 open, 5 errors", "p50 1.00 µs", "█"]
        {
            assert!(text.contains(want), "{want}: {text}");
        }
    }
}
