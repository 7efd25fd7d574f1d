//! Thousands of connections over half an hour of simulated time: each deadline fires once and at its tick.
//!
//! The same simulation with a million of them is `benches/deadlines.rs`.
#![cfg(feature = "engine")]

#[path = "../benches/support/simulation.rs"]
mod simulation;

use std::time::Duration;

use simulation::{Plan, run};

#[test]
fn every_deadline_fires_once_and_at_its_tick() {
    for seed in 0..3 {
        let outcome = run(Plan { connections: 1000, span: Duration::from_secs(1800), seed });
        // What had to happen has happened, so what was asserted on the way was not empty.
        let rates = [outcome.pings, outcome.heard, outcome.idle, outcome.retired, outcome.abandoned, outcome.put_off];
        assert!(rates.iter().all(|&count| count > 50), "seed {seed}: {outcome:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let plan = Plan { connections: 300, span: Duration::from_secs(600), seed: 9 };
    let [one, two] = [run(plan), run(plan)]
        .map(|outcome| (outcome.expired, outcome.put_off, outcome.pings, outcome.heard, outcome.idle, outcome.retired));
    assert_eq!(one, two);
}
