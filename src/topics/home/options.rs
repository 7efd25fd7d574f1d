//! What a home may use.

use std::time::Duration;

/// Bounds of one core's home. All of them are per core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeOptions {
    /// Which core this is.
    pub core: usize,
    /// How many there are.
    pub core_count: usize,
    /// From the operating system: epochs of this process must not be those of the one before.
    pub seed: u64,
    /// Most topics that are known at a time.
    pub topics_max: usize,
    /// How long a topic is known that nobody hears and that keeps nothing.
    pub idle_ttl: Duration,
    /// Most publications at a time whose counts are waited for.
    pub receipts_max: usize,
    /// How long a core may take to say what became of a publication.
    pub receipt_wait: Duration,
    /// Most idempotency keys that are remembered at a time.
    pub idempotency_keys_max: usize,
    /// How long each is remembered.
    pub idempotency_ttl: Duration,
}

impl HomeOptions {
    /// The usual bounds.
    pub fn new(core: usize, core_count: usize, seed: u64) -> Self {
        Self {
            core,
            core_count,
            seed,
            topics_max: 1_000_000,
            idle_ttl: Duration::from_secs(60),
            receipts_max: 4096,
            receipt_wait: Duration::from_secs(1),
            idempotency_keys_max: 65_536,
            idempotency_ttl: Duration::from_secs(5 * 60),
        }
    }
}

/// How long after a loss a core is told where a topic stands.
pub(super) const BEHIND_DELAY: Duration = Duration::from_millis(20);
