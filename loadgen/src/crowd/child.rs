//! One process of a crowd, and how it is spoken with.
//!
//! It opens its part, says `ready`, and then obeys lines: `sparse`, `hot`, `silent` and `count`, each of which it
//! answers with the number of messages that have been answered so far. When its standard input ends, it lets its
//! connections go and says what happened, as a line of JSON.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

use super::Part;
use crate::commands::print;
use crate::conduct::{self, Load, Progress, ScenarioPlan};
use crate::latency::Latencies;
use crate::scenario::idle::{Mood, Talk};
use crate::tally::Tally;

/// What a child says at its end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChildResult {
    opened: u64,
    resumed: u64,
    failed: u64,
    compressed: u64,
    sent: u64,
    answered: u64,
    arrived: u64,
    lost: u64,
    corrupt: u64,
    errors: BTreeMap<String, u64>,
    error_words: BTreeMap<String, String>,
    /// Serialised histograms.
    response: Vec<u8>,
    opening: Vec<u8>,
    lateness: Vec<u8>,
}

/// Runs a child: opens, holds, obeys, tells.
///
/// # Errors
///
/// A sentence.
pub(crate) fn child(load: &Load) -> Result<(), String> {
    let ScenarioPlan::Idle(plan) = &load.plan else { return Err("a crowd is idle".to_owned()) };
    let (stop, talk) = (Arc::new(AtomicBool::new(false)), Arc::clone(&plan.talk));
    let stopper = Arc::clone(&stop);
    std::thread::spawn(move || {
        obey(&talk);
        stopper.store(true, Ordering::Relaxed);
    });
    let outcome = conduct::conduct(load, None, &stop, |progress| {
        if matches!(progress, Progress::Ready) {
            let _ = print("ready\n");
        }
    })?;
    let json = serde_json::to_string(&ChildResult::of(&outcome.tally)?).map_err(|error| format!("no JSON: {error}"))?;
    print(&format!("{json}\n"))
}

/// Does what the lines of standard input say, until they end.
fn obey(talk: &Talk) {
    for line in std::io::stdin().lines() {
        match line.as_deref() {
            Ok("sparse") => talk.set(Mood::Sparse),
            Ok("hot") => talk.set(Mood::Hot),
            Ok("silent") => {
                talk.set(Mood::Silent);
                let began = Instant::now();
                while !talk.is_quiet() && began.elapsed() < QUIET_LIMIT {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
        let _ = print(&format!("{}\n", talk.answered()));
    }
}

impl ChildResult {
    fn of(tally: &Tally) -> Result<Self, String> {
        let counts = tally.counts;
        Ok(Self {
            opened: counts.opened,
            resumed: counts.resumed,
            failed: counts.failed,
            compressed: tally.wire.compressed_connections,
            sent: counts.sent,
            answered: counts.answered,
            arrived: counts.arrived,
            lost: counts.lost,
            corrupt: counts.corrupt,
            errors: tally.errors.clone(),
            error_words: tally.error_words.clone(),
            response: serialise(&tally.response)?,
            opening: serialise(&tally.opening)?,
            lateness: serialise(&tally.lateness)?,
        })
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    pub(super) fn into_tally(self) -> Result<Tally, String> {
        let mut tally = Tally::new();
        tally.counts.opened = self.opened;
        tally.counts.resumed = self.resumed;
        tally.counts.failed = self.failed;
        tally.wire.compressed_connections = self.compressed;
        tally.counts.sent = self.sent;
        tally.counts.planned = self.sent;
        tally.counts.answered = self.answered;
        tally.counts.arrived = self.arrived;
        tally.counts.lost = self.lost;
        tally.counts.corrupt = self.corrupt;
        tally.response = deserialise(&self.response)?;
        tally.opening = deserialise(&self.opening)?;
        tally.lateness = deserialise(&self.lateness)?;
        tally.errors = self.errors;
        tally.error_words = self.error_words;
        Ok(tally)
    }
}

fn serialise(latencies: &Latencies) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    V2Serializer::new()
        .serialize(latencies, &mut bytes)
        .map_err(|error| format!("a histogram cannot be handed over: {error:?}"))?;
    Ok(bytes)
}

fn deserialise(bytes: &[u8]) -> Result<Latencies, String> {
    let mut reader = bytes;
    Deserializer::new().deserialize(&mut reader).map_err(|error| format!("a child's histogram is broken: {error:?}"))
}

/// A child that has been started.
pub(super) struct ChildProcess {
    child: Child,
    /// Its end is the sign to end.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl ChildProcess {
    pub(super) fn start(part: &Part, arguments: &[String]) -> Result<Self, String> {
        let failed = |error| format!("another process of this tool cannot be started: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(arguments).arg("--child").args(["--connections", &part.connections.to_string()]);
        command.args(["--first", &part.first.to_string()]);
        for source in &part.sources {
            command.args(["--source", &source.to_string()]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("a child has no output")?;
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    pub(super) fn wait_until_ready(mut self) -> Result<Self, String> {
        if self.line()?.trim() == "ready" { Ok(self) } else { Err("a part of the crowd could not begin".to_owned()) }
    }

    /// Tells it to do something; [`ChildProcess::answer`] waits until it is done.
    pub(super) fn order(&mut self, word: &str) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("a part of the crowd has been let go")?;
        writeln!(stdin, "{word}")
            .and_then(|()| stdin.flush())
            .map_err(|error| format!("a part of the crowd does not listen: {error}"))
    }

    /// How many messages had been answered when the order was carried out.
    pub(super) fn answer(&mut self) -> Result<u64, String> {
        let line = self.line()?;
        line.trim().parse().map_err(|_| "a part of the crowd ended too early".to_owned())
    }

    pub(super) fn finish(mut self) -> Result<ChildResult, String> {
        drop(self.stdin.take());
        let line = self.line()?;
        let _ = self.child.wait();
        serde_json::from_str(&line).map_err(|error| format!("a part of the crowd ended without a result: {error}"))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(|error| format!("a part of the crowd fell silent: {error}"))?;
        Ok(line)
    }
}

/// For the last answers, once nothing is sent any more.
const QUIET_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_has_counted_survives_the_pipe() {
        let mut tally = Tally::new();
        tally.counts.answered = 7;
        tally.response.saturating_record_n(12_345, 7);
        let json = serde_json::to_string(&ChildResult::of(&tally).unwrap()).unwrap();
        let back = serde_json::from_str::<ChildResult>(&json).unwrap().into_tally().unwrap();
        assert_eq!((back.counts.answered, back.response), (7, tally.response));
    }
}
