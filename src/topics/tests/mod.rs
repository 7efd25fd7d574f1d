//! Several parts together, and what all tests of this folder use.
//!
//! Random schedules run from seeds that are printed when they fail. `COREWIRE_SEED=n` repeats one,
//! `COREWIRE_SEEDS=n` runs so many fresh ones.

mod client;
pub(super) mod random;
mod simulation;
mod world;

use std::time::{SystemTime, UNIX_EPOCH};

/// Runs a schedule with fresh seeds, or with the one that is to be repeated.
pub(super) fn seeds(run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    if let Some(seed) = number_in("COREWIRE_SEED") {
        return run(seed);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_nanos() as u64;
    let mut fresh = random::Random::new(now);
    for _ in 0..number_in("COREWIRE_SEEDS").unwrap_or(SEEDS) {
        let seed = fresh.next_u64();
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "COREWIRE_SEED={seed} repeats it");
    }
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

const SEEDS: u64 = 100;
