//! How long to wait before the next attempt.

use std::time::Duration;

/// Grows with every failure up to a bound, with a random part so that several senders do not keep step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    /// After the first failure.
    pub(super) min: Duration,
    /// At most.
    pub(super) max: Duration,
}

impl Backoff {
    /// The wait after so many failures in a row: between half of `min` doubled `failures - 1` times, and all of it.
    /// `random` is any number.
    pub(super) fn delay(&self, failures: u32, random: u64) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1)).filter(|factor| *factor != 0).unwrap_or(u32::MAX);
        let whole = self.min.saturating_mul(factor).min(self.max);
        let share = random as f64 / u64::MAX as f64;
        whole / 2 + (whole / 2).mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5) };

    #[test]
    fn it_doubles_up_to_the_bound() {
        let most: Vec<_> = (1..=8).map(|failures| BACKOFF.delay(failures, u64::MAX).as_millis()).collect();
        assert_eq!(most, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        let least: Vec<_> = (1..=8).map(|failures| BACKOFF.delay(failures, 0).as_millis()).collect();
        assert_eq!(least, [50, 100, 200, 400, 800, 1600, 2500, 2500]);
    }

    #[test]
    fn it_never_overflows() {
        for failures in [0, 31, 32, 33, 64, u32::MAX] {
            let delay = BACKOFF.delay(failures, u64::MAX);
            assert_eq!(delay, if failures == 0 { BACKOFF.min } else { BACKOFF.max }, "{failures} failures");
        }
        let endless = Backoff { min: Duration::MAX, max: Duration::MAX };
        assert!(endless.delay(3, u64::MAX) > Duration::from_secs(u32::MAX.into()));
    }
}
