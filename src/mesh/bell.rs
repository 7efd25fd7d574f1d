//! Wakes a core once for any number of envelopes.

use std::sync::atomic::{AtomicBool, Ordering::AcqRel};

/// What really wakes the core's thread: an eventfd in production, a counter in tests.
pub trait Ringer: Send + Sync {
    /// Makes the core take a turn. Must not block.
    fn wake(&self);
}

/// Rings at most once until it is answered.
pub struct Bell {
    rung: AtomicBool,
    ringer: Box<dyn Ringer>,
}

impl Bell {
    /// A silent bell.
    pub fn new(ringer: Box<dyn Ringer>) -> Self {
        Self { rung: AtomicBool::new(false), ringer }
    }

    /// To be called after something was put into the mailbox.
    pub fn ring(&self) {
        // Acquire and release on both sides: if this swap finds the bell rung, the swap in `answer` comes later in
        // the flag's order, reads from this one, and thereby sees what was put into the mailbox before it.
        if !self.rung.swap(true, AcqRel) {
            self.ringer.wake();
        }
    }

    /// To be called before the mailbox is emptied.
    pub fn answer(&self) {
        self.rung.swap(false, AcqRel);
    }
}
