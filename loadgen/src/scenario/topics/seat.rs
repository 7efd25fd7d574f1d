//! One subscription: from where it began to what it has heard. Knows no connection.

use crate::sequence::{Heard, Sequence};

/// What a subscriber has heard of one topic, over all of its connections.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Where the topic stood when the subscription first began: what comes later must come.
    base: Option<u64>,
    sequence: Sequence,
    /// Behind by a drop, until it has heard as much as this.
    catching_up_to: Option<u64>,
}

impl Seat {
    /// The subscription has begun, for the first time or again. Answers whether it was the first time.
    pub(super) fn begin(&mut self, offset: u64) -> bool {
        if self.base.is_some() {
            self.catching_up_to = Some(offset);
            return false;
        }
        self.base = Some(offset);
        true
    }

    /// The offset of the newest publication that it has heard; `None` before it first began.
    pub(super) fn offset(&self) -> Option<u64> {
        self.base.map(|base| base + self.sequence.next())
    }

    /// The publication with this offset has come.
    pub(super) fn hear(&mut self, offset: u64) -> Heard {
        match self.base {
            Some(base) if offset > base => self.sequence.hear(offset - base - 1),
            // It was there before, and nobody asked for it.
            Some(_) | None => Heard::Duplicate,
        }
    }

    /// Whether it has just heard all that it missed.
    pub(super) fn catches_up(&mut self) -> bool {
        let offset = self.offset();
        self.catching_up_to.take_if(|target| offset >= Some(*target)).is_some()
    }

    /// How many of the publications up to `newest` have not come.
    pub(super) fn missing(&self, newest: u64) -> u64 {
        self.base.map_or(0, |base| self.sequence.missing_below(newest.saturating_sub(base)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_hears_everything_after_its_beginning_once() {
        let mut seat = Seat::default();
        assert_eq!((seat.offset(), seat.hear(1)), (None, Heard::Duplicate));
        assert!(seat.begin(40));
        assert_eq!((seat.hear(40), seat.hear(41), seat.hear(41)), (Heard::Duplicate, Heard::New, Heard::Duplicate));
        assert_eq!((seat.hear(44), seat.hear(42)), (Heard::New, Heard::OutOfOrder));
        assert_eq!((seat.offset(), seat.missing(44), seat.missing(46)), (Some(44), 1, 3));
    }

    #[test]
    fn it_has_caught_up_once_it_has_heard_what_it_was_promised() {
        let mut seat = Seat::default();
        assert!(seat.begin(10) && !seat.catches_up());
        seat.hear(11);
        assert!(!seat.begin(13));
        assert!(!seat.catches_up());
        seat.hear(12);
        assert!(!seat.catches_up());
        seat.hear(13);
        assert!(seat.catches_up() && !seat.catches_up());
        assert!(!seat.begin(13) && seat.catches_up(), "nothing was missed");
        assert_eq!(seat.missing(13), 0);
    }
}
