//! What do the deadlines and keepalives of a million connections cost per second?
//!
//! A deterministic simulation without sockets, so not one of criterion's: real connections, the real wheel, peers that
//! answer pings, talk, or are mute, and a clock that is told. It ends with a panic if one deadline is lost or fires at
//! another tick than its own.
//! `cargo bench -p corewire --bench deadlines`; without `--bench`, as `cargo test --bench deadlines` runs it, it is a small one.
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

#[path = "support/simulation.rs"]
mod simulation;

use std::time::Duration;

use simulation::{Outcome, Plan, run};

fn main() {
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let connections = if is_bench { 1_000_000 } else { 2_000 };
    let plan = Plan { connections, span: Duration::from_secs(600), seed: 0x5eed };
    let outcome = run(plan);
    let Outcome { ticks, expired, put_off, pings, heard, idle, retired, abandoned, .. } = outcome;
    let seconds = plan.span.as_secs_f64();
    let per_second = |count: u64| count as f64 / seconds;
    println!("{connections} connections, {seconds} s in {ticks} ticks of 32 ms, seed {:#x}", plan.seed);
    println!(
        "per second: {:.0} entries expired, {:.0} of them put off; {:.0} pings, {:.0} frames heard",
        per_second(expired),
        per_second(put_off),
        per_second(pings),
        per_second(heard)
    );
    println!(
        "ended: {idle} idle, {retired} by age, {abandoned} by age without an answer; none lost, none off its tick"
    );
    let cost = |took: Duration, count: u64| {
        (took.as_secs_f64() * 1e3 / seconds, took.as_secs_f64() * 1e9 / count.max(1) as f64)
    };
    let (deadlines_ms, deadline_ns) = cost(outcome.deadlines_took, expired);
    let (traffic_ms, frame_ns) = cost(outcome.traffic_took, heard);
    println!("deadlines: {deadlines_ms:.2} ms per second, {deadline_ns:.0} ns per entry expired");
    println!("traffic:   {traffic_ms:.2} ms per second, {frame_ns:.0} ns per frame heard");
}
