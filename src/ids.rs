//! Names of things that cross folders.

use std::fmt;
use std::str::FromStr;

/// One connection of one process, never used again for another.
///
/// Opaque: it says on which core the connection lives, and stale ones are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) core: u16,
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// The core that the connection lives on, counted from zero.
    pub fn core(self) -> usize {
        usize::from(self.core)
    }

    /// Its place on that core, which another connection has after it.
    pub fn slot(self) -> u32 {
        self.index
    }
}

/// Text that is no [`ConnId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection is called by three numbers with \"-\" between them, such as 0-17-3")]
pub struct BadConnId;

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.core, self.index, self.generation)
    }
}

impl FromStr for ConnId {
    type Err = BadConnId;

    fn from_str(text: &str) -> Result<Self, BadConnId> {
        let mut parts = text.split('-');
        let mut next = || {
            let digits = parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse::<u32>().ok()).ok_or(BadConnId)
        };
        let core = u16::try_from(next()?).map_err(|_| BadConnId)?;
        let id = Self { core, index: next()?, generation: next()? };
        if parts.next().is_some() { Err(BadConnId) } else { Ok(id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_and_back() {
        for (core, index, generation) in [(0, 0, 0), (1, 17, 3), (u16::MAX, u32::MAX, u32::MAX)] {
            let id = ConnId { core, index, generation };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in ["", "-", "1", "1-2", "1-2-3-4", "1-2-", "-1-2-3", "65536-0-0", "0-4294967296-0", "0-+1-0", "a-b-c"]
        {
            assert_eq!(bad.parse::<ConnId>(), Err(BadConnId), "{bad:?}");
        }
    }
}
