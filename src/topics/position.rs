//! Where a reader of a topic stands, and what can still be told to one that comes back.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// One life of a topic: offsets of different epochs cannot be compared.
///
/// A topic begins another when its home has forgotten it, or after a restart of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(NonZeroU64);

/// The last publication that somebody has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The life of the topic.
    pub epoch: Epoch,
    /// Publications are counted from one; zero is before the first.
    pub offset: u64,
}

/// What a topic can tell: its newest publication, and how far back its history reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// The newest publication.
    pub position: Position,
    /// The oldest offset that is kept; one more than the newest if none is.
    pub oldest: u64,
}

/// Why somebody who came back cannot be told what it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecovered {
    /// The topic has begun another life since.
    #[error("the topic has another epoch")]
    EpochChanged,
    /// Something of what was missed is not in the history any more, or no history is kept.
    #[error("the history does not reach back so far")]
    NotKept,
    /// There is no such offset yet.
    #[error("the offset is ahead of the topic")]
    Ahead,
}

/// Text that is no [`Epoch`] or [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is an epoch of 16 hexadecimal digits, \"-\" and an offset")]
pub struct BadPosition;

impl Epoch {
    /// From a random number; zero counts as one.
    pub fn new(random: u64) -> Self {
        Self(NonZeroU64::new(random).unwrap_or(NonZeroU64::MIN))
    }

    /// The number that [`Epoch::new`] makes the same epoch of.
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

impl Horizon {
    /// Whether everything after `since` can still be told.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn recovers(&self, since: Position) -> Result<(), NotRecovered> {
        if since.epoch != self.position.epoch {
            Err(NotRecovered::EpochChanged)
        } else if since.offset > self.position.offset {
            Err(NotRecovered::Ahead)
        } else if since.offset + 1 < self.oldest {
            Err(NotRecovered::NotKept)
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.offset)
    }
}

impl FromStr for Epoch {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let is_epoch = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_epoch);
        number.and_then(NonZeroU64::new).map(Self).ok_or(BadPosition)
    }
}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let (epoch, offset) = text.split_once('-').ok_or(BadPosition)?;
        let is_offset = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
        let offset = offset.parse().ok().filter(|_| is_offset).ok_or(BadPosition)?;
        Ok(Self { epoch: epoch.parse()?, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_recovered() {
        let epoch = Epoch::new(7);
        let at = |offset| Position { epoch, offset };
        let horizon = Horizon { position: at(10), oldest: 5 };
        let cases = [(0, Err(NotRecovered::NotKept)), (3, Err(NotRecovered::NotKept)), (4, Ok(())), (10, Ok(()))];
        for (offset, want) in
            cases.into_iter().chain([(11, Err(NotRecovered::Ahead)), (u64::MAX, Err(NotRecovered::Ahead))])
        {
            assert_eq!(horizon.recovers(at(offset)), want, "{offset}");
        }
        let other = Position { epoch: Epoch::new(8), offset: 7 };
        assert_eq!(horizon.recovers(other), Err(NotRecovered::EpochChanged));
        let empty = Horizon { position: at(10), oldest: 11 };
        assert_eq!((empty.recovers(at(10)), empty.recovers(at(9))), (Ok(()), Err(NotRecovered::NotKept)));
    }

    #[test]
    fn positions_are_text_and_back() {
        for (epoch, offset) in [(1, 0), (u64::MAX, u64::MAX), (0xabc, 17)] {
            let position = Position { epoch: Epoch::new(epoch), offset };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for text in [
            "",
            "-",
            "1-1",
            "0000000000000000-1",
            "000000000000000a",
            "000000000000000a-",
            "000000000000000a-+1",
            "+00000000000000a-1",
            "000000000000000a-1-1",
            "000000000000000a-18446744073709551616",
        ] {
            assert_eq!(text.parse::<Position>(), Err(BadPosition), "{text:?}");
        }
    }
}
