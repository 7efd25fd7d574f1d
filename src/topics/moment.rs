//! When something happened, as far as topics care.

use std::time::Duration;

/// A moment, in milliseconds since its core began. Only moments of one core can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment at which `elapsed` has passed since the core began.
    pub fn at(elapsed: Duration) -> Self {
        Self(millis(elapsed))
    }

    /// The moment `span` after this one.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }
}

/// Rounded up, so that no deadline is early.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early() {
        assert_eq!(Moment(5).after(Duration::from_micros(1)), Moment(6));
        assert_eq!(Moment(5).after(Duration::from_millis(2)), Moment(7));
        assert_eq!(Moment(5).after(Duration::MAX), Moment(u64::MAX));
    }
}
