//! Names of things that cross folders.

use std::fmt;

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
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.core, self.index, self.generation)
    }
}
