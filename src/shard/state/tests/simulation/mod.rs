//! The whole server in one thread: several cores with rings of a few envelopes between them, `corewire serve` on each,
//! and clients that speak real WebSocket over sockets made of memory. Bytes are cut and late, clients vanish, come back
//! and recover, read slowly or not at all, cores stand still, and a clock is told. One seed decides everything.
//!
//! What each client checks at everything that it hears is in [`reader`], [`reading`], [`raw_reader`] and
//! [`stream_reader`], against
//! [`truth`]; what a core's driver would do is in [`core`]. At the end the weather clears, everybody comes back and
//! reads, and all must know everything; then everybody leaves, and nothing must be left.
//!
//! `COREWIRE_SIMULATION_SEED=n` repeats one run, `COREWIRE_SIMULATION_SEEDS=n` runs so many fresh ones.

mod client;
mod core;
mod ending;
mod faults;
mod handler;
mod link;
mod peer;
mod plan;
mod raw_reader;
mod reader;
mod reading;
mod scripts;
mod steps;
mod stream_reader;
mod truth;
mod watching;
mod world;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::connection::Random;
use faults::Faults;
use steps::Simulation;

#[test]
#[expect(clippy::print_stdout, reason = "how often each fault has happened is worth a look")]
fn the_whole_server_keeps_its_promises() {
    if let Some(seed) = number_in("COREWIRE_SIMULATION_SEED") {
        return println!("{:#?}", Simulation::new(seed).run());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_nanos() as u64;
    let (mut fresh, mut faults, begin) = (Random::new(now), Faults::default(), Instant::now());
    let asked_for = number_in("COREWIRE_SIMULATION_SEEDS");
    let mut count = 0;
    // By default some more, if need be, until everything has happened.
    while count < asked_for.unwrap_or(SEEDS) || (asked_for.is_none() && count < SEEDS_MAX && faults.has_missing()) {
        let seed = fresh.next_u64();
        let outcome = std::panic::catch_unwind(|| Simulation::new(seed).run());
        let Ok(of_one) = outcome else { panic!("COREWIRE_SIMULATION_SEED={seed} repeats it") };
        faults.add(&of_one);
        count += 1;
    }
    println!("{count} seeds in {:?}: {faults:#?}", begin.elapsed());
    assert!(count < SEEDS || !faults.has_missing(), "in {count} runs not everything happened: {faults:#?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(Simulation::new(7).run(), Simulation::new(7).run());
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Some 4 s without optimization.
const SEEDS: u64 = 100;
const SEEDS_MAX: u64 = 1000;

/// Time that is enough for everything that is tried again.
const SETTLE_SPAN: Duration = Duration::from_secs(50);
/// Time in which whoever has vanished is noticed, and its presence ends even if that is not told.
const DEPART_SPAN: Duration = Duration::from_secs(80);
