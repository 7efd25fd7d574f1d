//! The way in, for all cores: bounds what waits to be delivered, and counts what finds no room.
//!
//! A core never waits here. What is lost is told to the next event that gets in, which carries how many are missing
//! before it, so that the receiver sees the gap in the sequence where it is.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Bounds and counters. Any thread may use it; the numbers order nothing but themselves, the channel behind it does.
#[derive(Debug)]
pub(super) struct Gate {
    events_max: usize,
    bytes_max: usize,
    events: AtomicUsize,
    bytes: AtomicUsize,
    /// Since the last that got in.
    lost_lately: AtomicU64,
    lost: AtomicU64,
    entered: AtomicU64,
}

impl Gate {
    pub(super) fn new(events_max: usize, bytes_max: usize) -> Self {
        Self {
            events_max,
            bytes_max,
            events: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            lost_lately: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            entered: AtomicU64::new(0),
        }
    }

    /// One event of this size wants in. Answers how many were lost before it, or `None` if it is lost itself.
    ///
    /// While it is nearly full, one that would fit may be refused because another core tries at the same moment.
    pub(super) fn enter(&self, bytes: usize) -> Option<u64> {
        let events_before = self.events.fetch_add(1, Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Relaxed);
        if events_before >= self.events_max || bytes_before.saturating_add(bytes) > self.bytes_max {
            self.leave(1, bytes);
            self.lost.fetch_add(1, Relaxed);
            self.lost_lately.fetch_add(1, Relaxed);
            return None;
        }
        self.entered.fetch_add(1, Relaxed);
        Some(self.lost_lately.swap(0, Relaxed))
    }

    /// So many are delivered, or given up.
    pub(super) fn leave(&self, events: usize, bytes: usize) {
        self.events.fetch_sub(events, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    /// That are inside now.
    pub(super) fn waiting_events(&self) -> usize {
        self.events.load(Relaxed)
    }

    /// Of those that are inside now.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// That got in, ever.
    pub(super) fn entered(&self) -> u64 {
        self.entered.load(Relaxed)
    }

    /// That found no room, ever.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn events_and_bytes_are_bounded_apart() {
        let gate = Gate::new(3, 100);
        assert_eq!([gate.enter(10), gate.enter(10), gate.enter(10), gate.enter(10)], [Some(0), Some(0), Some(0), None]);
        gate.leave(1, 10);
        assert_eq!((gate.enter(81), gate.enter(80)), (None, Some(2)), "two were lost before it");
        assert_eq!((gate.waiting_events(), gate.waiting_bytes()), (3, 100));
        assert_eq!((gate.entered(), gate.lost()), (4, 2));
        gate.leave(3, 100);
        assert_eq!(gate.enter(101), None, "larger than all there is");
        assert_eq!(gate.enter(100), Some(1));
    }

    /// Whatever cores do at the same time: each event got in or was lost, the bounds held, and those that got in were
    /// told of all losses but the last ones.
    #[test]
    fn many_threads_lose_no_count() {
        let gate = Gate::new(50, 5_000);
        let told: u64 = thread::scope(|scope| {
            let enter = |_| {
                let mut told = 0;
                for turn in 0..2_000 {
                    if let Some(lost_before) = gate.enter(100) {
                        told += lost_before;
                        assert!(gate.waiting_events() <= 50 + 4, "others may be trying");
                        // Some stay inside for ever, so that it fills.
                        if turn % 40 != 0 {
                            gate.leave(1, 100);
                        }
                    }
                }
                told
            };
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || enter(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(gate.entered() + gate.lost(), 8_000);
        assert_eq!(gate.waiting_bytes(), gate.waiting_events() * 100);
        assert!(told <= gate.lost());
        gate.leave(gate.waiting_events(), gate.waiting_bytes());
        assert_eq!(gate.enter(1), Some(gate.lost() - told));
    }
}
