//! One subscriber's view of one topic: every message once, and in order.

use std::collections::BTreeSet;

/// What has been heard of a numbered stream.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    /// The number that should come next.
    next: u64,
    /// Numbers below `next` that have not come; never more than [`MISSING_MAX`].
    missing: BTreeSet<u64>,
    /// Missing numbers that there was no room to remember.
    missing_forgotten: u64,
}

/// What one more message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The next one, or one behind a gap.
    New,
    /// One that was missing: others overtook it.
    OutOfOrder,
    /// Was here before.
    Duplicate,
}

impl Sequence {
    /// The number that should come next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Message `number` has come.
    pub(crate) fn hear(&mut self, number: u64) -> Heard {
        if number >= self.next {
            for missing in self.next..number {
                if self.missing.len() < MISSING_MAX {
                    self.missing.insert(missing);
                } else {
                    self.missing_forgotten += number - missing;
                    break;
                }
            }
            self.next = number + 1;
            return Heard::New;
        }
        if self.missing.remove(&number) { Heard::OutOfOrder } else { Heard::Duplicate }
    }

    /// How many of the messages below `end` have not come.
    pub(crate) fn missing_below(&self, end: u64) -> u64 {
        self.missing.range(..end).count() as u64 + self.missing_forgotten + end.saturating_sub(self.next)
    }
}

/// Gaps that are remembered one by one.
const MISSING_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_duplicates_and_reorderings_are_told_apart() {
        let mut sequence = Sequence::default();
        let heard: Vec<Heard> = [0, 1, 4, 2, 2, 4, 5].map(|number| sequence.hear(number)).into();
        use Heard::{Duplicate, New, OutOfOrder};
        assert_eq!(heard, [New, New, New, OutOfOrder, Duplicate, Duplicate, New]);
        assert_eq!(sequence.missing_below(6), 1, "number 3");
        assert_eq!(sequence.missing_below(3), 0);
        assert_eq!(sequence.missing_below(10), 5, "3, and 6 to 9");
    }

    #[test]
    fn a_huge_gap_costs_bounded_memory() {
        let mut sequence = Sequence::default();
        sequence.hear(1 << 40);
        assert_eq!(sequence.missing.len(), MISSING_MAX);
        assert_eq!(sequence.missing_below(1 << 40), 1 << 40);
    }
}
