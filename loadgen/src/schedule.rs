//! When messages are meant to be sent: the plan exists before the run (so a slow server cannot delay it).
//!
//! Knows no clock: moments are nanoseconds since an epoch that the caller chose.

/// Intended moments at a fixed rate, as far as one of several workers has to keep them.
///
/// The workers take turns, so that together they keep one even rhythm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    start_ns: u64,
    /// In thousandths per second, all workers together: whole numbers make no rounding error that grows.
    rate_milli: u64,
    worker_index: u64,
    worker_count: u64,
    taken: u64,
}

impl Schedule {
    /// The share of worker `worker_index` in `rate_per_second`; its first moment is in the first round of all.
    ///
    /// # Panics
    ///
    /// If the rate is below a thousandth per second, or the worker is none of `worker_count`.
    pub(crate) fn new(start_ns: u64, rate_per_second: f64, worker_index: usize, worker_count: usize) -> Self {
        let rate_milli = (rate_per_second * 1e3).round() as u64;
        assert!(rate_milli > 0, "a rate of {rate_per_second} per second never comes to a message");
        assert!(worker_index < worker_count, "worker {worker_index} of {worker_count}");
        Self { start_ns, rate_milli, worker_index: worker_index as u64, worker_count: worker_count as u64, taken: 0 }
    }

    /// The moment of this worker's `n`th message.
    pub(crate) fn intended_ns(&self, n: u64) -> u64 {
        let of_all = u128::from(n) * u128::from(self.worker_count) + u128::from(self.worker_index);
        let since_start_ns = of_all * NS_PER_SECOND_MILLI / u128::from(self.rate_milli);
        self.start_ns.saturating_add(u64::try_from(since_start_ns).unwrap_or(u64::MAX))
    }

    /// The next moment, which nobody has taken yet.
    pub(crate) fn next_ns(&self) -> u64 {
        self.intended_ns(self.taken)
    }

    /// Takes the next message if its moment has come: its number and the moment.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        let intended_ns = self.next_ns();
        (intended_ns <= now_ns).then(|| {
            self.taken += 1;
            (self.taken - 1, intended_ns)
        })
    }

    /// How many of this worker's moments lie before `end_ns`.
    pub(crate) fn count_before(&self, end_ns: u64) -> u64 {
        if end_ns <= self.start_ns {
            return 0;
        }
        let span_ns = u128::from(end_ns - self.start_ns);
        // Moments of all workers before the end: those n with floor(n * 1e12 / rate) < span.
        let of_all = (span_ns * u128::from(self.rate_milli)).div_ceil(NS_PER_SECOND_MILLI);
        let mine = of_all.saturating_sub(u128::from(self.worker_index)).div_ceil(u128::from(self.worker_count));
        u64::try_from(mine).unwrap_or(u64::MAX)
    }
}

/// Nanoseconds per second, in thousandths, as the rate is.
const NS_PER_SECOND_MILLI: u128 = 1_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_thousand_per_second_for_ten_seconds_is_ten_thousand_evenly() {
        let mut schedule = Schedule::new(5, 1000.0, 0, 1);
        let end = 5 + 10 * SECOND;
        assert_eq!(schedule.count_before(end), 10_000);
        let mut moments = Vec::new();
        while let Some((_, at)) = schedule.take_due(end - 1) {
            moments.push(at);
        }
        assert_eq!(moments.len(), 10_000);
        assert!(moments.windows(2).all(|pair| pair[1] - pair[0] == SECOND / 1000));
    }

    #[test]
    fn an_odd_rate_does_not_drift() {
        for rate in [3.0, 7.0, 333.333, 12_345.678, 999_999.999, 0.001] {
            let schedule = Schedule::new(0, rate, 0, 1);
            for n in [1, 2, 1000, 1_000_000] {
                let want = n as f64 / rate * 1e9;
                let got = schedule.intended_ns(n) as f64;
                assert!((got - want).abs() <= 1.0 + want * 1e-12, "{rate}/s, message {n}: {got} instead of {want}");
            }
        }
    }

    #[test]
    fn workers_together_keep_the_rhythm_of_one() {
        let alone = Schedule::new(100, 977.0, 0, 1);
        for worker_count in 1..=5 {
            for n in 0..100 {
                let worker = Schedule::new(100, 977.0, n % worker_count, worker_count);
                assert_eq!(worker.intended_ns((n / worker_count) as u64), alone.intended_ns(n as u64));
            }
        }
    }

    #[test]
    fn the_count_before_an_end_is_what_is_taken() {
        for (rate, worker_count, span) in [(7.0, 3, SECOND), (1000.0, 1, 1), (333.3, 4, 2 * SECOND + 17), (1.0, 2, 0)] {
            for worker_index in 0..worker_count {
                let mut schedule = Schedule::new(9, rate, worker_index, worker_count);
                let want = schedule.count_before(9 + span);
                let mut got = 0;
                while schedule.next_ns() < 9 + span && schedule.take_due(9 + span).is_some() {
                    got += 1;
                }
                assert_eq!(got, want, "{rate}/s, worker {worker_index} of {worker_count}, {span} ns");
            }
        }
    }

    #[test]
    fn what_was_missed_is_made_up_and_keeps_its_moment() {
        let mut schedule = Schedule::new(0, 10.0, 0, 1);
        assert_eq!(schedule.take_due(0), Some((0, 0)));
        assert_eq!(schedule.take_due(99_999_999), None);
        // A second late: all that was meant to go out meanwhile is due, each at its own moment.
        for n in 1..=10 {
            assert_eq!(schedule.take_due(SECOND), Some((n, n * SECOND / 10)));
        }
        assert_eq!(schedule.take_due(SECOND), None);
    }
}
