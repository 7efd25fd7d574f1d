//! How many connections all cores have together, for the one limit that is not per core.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts connections over all cores. Touched once when one comes and once when it goes, never per message.
#[derive(Debug)]
pub struct Census {
    present: AtomicUsize,
    max: usize,
}

impl Census {
    /// Admits up to `max` at a time.
    pub fn new(max: usize) -> Self {
        Self { present: AtomicUsize::new(0), max }
    }

    /// One more, if there is room.
    pub fn enter(&self) -> bool {
        // The count publishes nothing but itself, so relaxed is enough.
        if self.present.fetch_add(1, Relaxed) < self.max {
            return true;
        }
        self.present.fetch_sub(1, Relaxed);
        false
    }

    /// One less. Only after an [`Census::enter`] that answered `true`.
    pub fn leave(&self) {
        self.present.fetch_sub(1, Relaxed);
    }

    /// How many there are.
    pub fn present(&self) -> usize {
        self.present.load(Relaxed)
    }
}
