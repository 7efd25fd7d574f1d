//! How a handler looks at connections that it is not called for.

use std::ops::Range;

use super::{ConnId, Core};

/// What a handler remembers of its core's connections; see [`Handler::cast_with_sessions`](super::Handler).
pub struct Sessions<'a, S> {
    slots: &'a mut dyn Slots<S>,
}

impl<'a, S> Sessions<'a, S> {
    pub(crate) fn new(slots: &'a mut dyn Slots<S>) -> Self {
        Self { slots }
    }

    /// That of an open WebSocket of this core; `None` if it is gone.
    pub fn get_mut(&mut self, core: &Core<'_>, id: ConnId) -> Option<&mut S> {
        if core.reach.is_open(id) { self.slots.slot_mut(id.slot()) } else { None }
    }
}

impl Core<'_> {
    /// Open WebSockets in these slots, in the order of slots. Each connection has one as long as it lives; then
    /// another connection gets it.
    ///
    /// A core may have a million: look at some thousands, and let others have their turn before the next.
    pub fn connections_in(&self, slots: Range<u32>) -> Vec<ConnId> {
        self.reach.connections_in(slots)
    }

    /// How many slots there are: one more than the highest [`ConnId::slot`] that there ever was on this core.
    pub fn slot_count(&self) -> u32 {
        self.reach.slot_count()
    }

    /// How many subscriptions a connection of this core has.
    pub fn subscription_count_of(&self, id: ConnId) -> usize {
        self.reach.subscription_count(id)
    }
}

/// Sessions by slot.
pub(crate) trait Slots<S> {
    fn slot_mut(&mut self, slot: u32) -> Option<&mut S>;
}
