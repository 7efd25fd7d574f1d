//! What the workers of a run and its conductor tell each other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::tally::{Interval, Window};

/// Written and read by all threads of a run.
pub(crate) struct Board {
    /// Workers that have opened what they must.
    pub(crate) ready: AtomicUsize,
    /// Workers that send nothing any more: until all have said so, none knows what is still to come.
    pub(crate) stopped: AtomicUsize,
    /// Set once, when all are ready.
    pub(crate) timetable: OnceLock<Timetable>,
    /// The user wants an end: sending stops, the rest goes its way.
    pub(crate) stop: AtomicBool,
    /// The run is pointless; the first reason counts.
    failure: Mutex<Option<String>>,
    failed: AtomicBool,
    /// What happened, second by second, all workers together.
    pub(crate) seconds: Mutex<Vec<Interval>>,
}

/// When what happens, in nanoseconds since the run's epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timetable {
    /// The first message.
    pub(crate) start_ns: u64,
    /// What is measured.
    pub(crate) window: Window,
    /// The last message: behind what is measured goes the cool-down.
    pub(crate) stop_ns: u64,
    /// Answers are not waited for any longer, if all stop in time.
    pub(crate) drained_by_ns: u64,
}

impl Timetable {
    /// The next moment at which something ends or begins, once `marks` edges of the window have been marked.
    pub(crate) fn edge_ns(&self, marks: usize) -> u64 {
        [self.window.from_ns, self.window.until_ns].get(marks).copied().unwrap_or(self.stop_ns)
    }

    /// Ends what has not come to its end by `now_ns`.
    pub(crate) fn end_at(&mut self, now_ns: u64) {
        let stop_ns = self.stop_ns.min(now_ns.max(self.window.from_ns));
        self.drained_by_ns -= self.stop_ns - stop_ns;
        self.stop_ns = stop_ns;
        self.window.until_ns = self.window.until_ns.min(stop_ns);
    }
}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            ready: AtomicUsize::new(0),
            stopped: AtomicUsize::new(0),
            timetable: OnceLock::new(),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            seconds: Mutex::new(Vec::new()),
        }
    }

    /// Ends the run with a reason.
    pub(crate) fn fail(&self, reason: String) {
        let mut failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.get_or_insert(reason);
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Adds what a worker saw in second `second` since the start. It told `told` seconds before; where there are some
    /// between them, nothing ran meanwhile, and it has no more to say of those.
    pub(crate) fn add_second(&self, told: usize, second: usize, interval: &Interval) {
        let mut seconds = self.seconds.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while seconds.len() <= second && seconds.len() < SECONDS_MAX {
            seconds.push(Interval::new());
        }
        for missed in seconds.iter_mut().take(second).skip(told) {
            missed.workers += interval.workers;
            missed.open += interval.open;
        }
        if let Some(sum) = seconds.get_mut(second) {
            sum.add(interval);
        }
    }
}

/// Seconds that are remembered one by one: each keeps a histogram.
const SECONDS_MAX: usize = 3600;

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that stood still for a while: who waits for every second must not wait for those for ever.
    #[test]
    fn seconds_in_which_a_worker_did_not_run_are_complete_too() {
        let board = Board::new();
        let of_one = Interval { workers: 1, open: 5, sent: 7, ..Interval::new() };
        (0..3).for_each(|second| board.add_second(second, second, &of_one));
        board.add_second(0, 0, &of_one);
        board.add_second(1, 3, &of_one);
        board.add_second(3, 3, &of_one);
        let seconds = board.seconds.lock().unwrap();
        let told: Vec<_> = seconds.iter().map(|second| (second.workers, second.open, second.sent)).collect();
        assert_eq!(told, [(2, 10, 14), (2, 10, 7), (2, 10, 7), (2, 10, 14)]);
    }
}
