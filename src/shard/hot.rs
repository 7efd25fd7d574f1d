//! Hot connections: a receive each, posted in the ring.
//!
//! A hot connection that falls silent, is paused or is closed has its receive cancelled. What the receive had already got is
//! processed like anything else: a cancellation may come too late, and then there is data before the end.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::connection::Tick;

/// All hot connections of a shard.
#[derive(Default)]
pub(super) struct HotTable {
    slots: Vec<Option<Slot>>,
    free: Vec<HotSlot>,
    /// `None` while nobody is hot.
    next_sweep: Option<Tick>,
    swept_at: Tick,
}

/// The place of a hot connection in the table, counted from one so that "none" costs no byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HotSlot(NonZeroU32);

impl HotSlot {
    fn at(place: usize) -> Self {
        Self::from_number(u32::try_from(place + 1).expect("fewer hot connections than descriptors"))
    }

    /// The slot with this number, as [`HotSlot::number`] told it.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub(super) fn from_number(number: u32) -> Self {
        Self(NonZeroU32::new(number).expect("slots count from one"))
    }

    /// What it is called in the ring.
    pub(super) fn number(self) -> u32 {
        self.0.get()
    }

    fn place(self) -> usize {
        self.0.get() as usize - 1
    }
}

struct Slot {
    /// The connection's.
    index: u32,
    /// When its receive last brought something, or it became hot.
    last_read: Tick,
    /// The receive is to come back: it is not posted again.
    leaving: bool,
}

impl HotTable {
    /// A connection becomes hot.
    pub(super) fn insert(&mut self, index: u32, now: Tick) -> HotSlot {
        self.next_sweep.get_or_insert_with(|| now.after(SWEEP_INTERVAL));
        let slot = Some(Slot { index, last_read: now, leaving: false });
        match self.free.pop() {
            Some(place) => {
                self.slots[place.place()] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                HotSlot::at(self.slots.len() - 1)
            }
        }
    }

    /// A connection has become cold. Answers which.
    pub(super) fn remove(&mut self, slot: HotSlot) -> Option<u32> {
        let removed = self.slots.get_mut(slot.place())?.take()?;
        self.free.push(slot);
        Some(removed.index)
    }

    /// The connection in `slot`.
    pub(super) fn index(&self, slot: HotSlot) -> Option<u32> {
        self.get(slot).map(|slot| slot.index)
    }

    /// Whether the receive of `slot` is to come back.
    pub(super) fn is_leaving(&self, slot: HotSlot) -> bool {
        self.get(slot).is_some_and(|slot| slot.leaving)
    }

    /// The receive of `slot` is to come back. Answers whether that is new, so that it must be cancelled.
    pub(super) fn leave(&mut self, slot: HotSlot) -> bool {
        self.get_mut(slot).is_some_and(|slot| !std::mem::replace(&mut slot.leaving, true))
    }

    /// A receive has brought something.
    pub(super) fn note_read(&mut self, slot: HotSlot, now: Tick) {
        if let Some(slot) = self.get_mut(slot) {
            slot.last_read = now;
        }
    }

    /// How many are hot.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether nobody is hot.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everybody who is hot.
    pub(super) fn all(&self) -> impl Iterator<Item = HotSlot> + use<> {
        (0..self.slots.len()).map(HotSlot::at)
    }

    /// When [`HotTable::sweep_if_due`] is worth calling.
    pub(super) fn next_sweep(&self) -> Option<Tick> {
        self.next_sweep
    }

    /// If a sweep is due: lets those leave who were silent since the last, which is after one to two intervals of silence,
    /// and if `all`, also those who were not; and answers them. The last sweep finds nobody.
    pub(super) fn sweep_if_due(&mut self, now: Tick, all: bool) -> Option<Vec<HotSlot>> {
        self.next_sweep.filter(|&due| now >= due)?;
        let swept_at = std::mem::replace(&mut self.swept_at, now);
        let leaves = |slot: &Slot| (all || slot.last_read < swept_at) && !slot.leaving;
        let silent = self.all().filter(|&slot| self.get(slot).is_some_and(leaves));
        let leaving: Vec<_> = silent.take(LEAVES_PER_SWEEP).collect();
        for &slot in &leaving {
            self.leave(slot);
        }
        self.next_sweep = (!self.is_empty()).then(|| now.after(SWEEP_INTERVAL));
        Some(leaving)
    }

    /// Frees the places behind the last that is taken.
    pub(super) fn shrink(&mut self) {
        while let Some(None) = self.slots.last() {
            self.slots.pop();
        }
        self.free.retain(|slot| slot.place() < self.slots.len());
        self.slots.shrink_to_fit();
        self.free.shrink_to_fit();
    }

    /// Bytes of memory in the table.
    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Slot>>() + self.free.capacity() * size_of::<HotSlot>()
    }

    fn get(&self, slot: HotSlot) -> Option<&Slot> {
        self.slots.get(slot.place())?.as_ref()
    }

    fn get_mut(&mut self, slot: HotSlot) -> Option<&mut Slot> {
        self.slots.get_mut(slot.place())?.as_mut()
    }
}

/// Silence between one and two of these makes a connection cold.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// A wave of demotions is spread over several sweeps.
const LEAVES_PER_SWEEP: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_for_a_whole_interval_leaves_once() {
        let mut table = HotTable::default();
        let start = Tick(1000);
        let (speaks, silent) = (table.insert(7, start), table.insert(9, start));
        let first = table.next_sweep().unwrap();
        assert_eq!(first, start.after(SWEEP_INTERVAL));
        assert_eq!(table.sweep_if_due(Tick(first.0 - 1), true), None, "not yet");
        assert_eq!(table.sweep_if_due(first, false), Some(Vec::new()), "it became hot after the sweep before");
        table.note_read(speaks, Tick(first.0 + 1));
        let second = table.next_sweep().unwrap();
        assert_eq!(table.sweep_if_due(second, false), Some(vec![silent]));
        assert!(table.is_leaving(silent) && !table.leave(silent) && !table.is_leaving(speaks));
        assert_eq!(table.remove(silent), Some(9));
        assert_eq!(table.sweep_if_due(table.next_sweep().unwrap(), true), Some(vec![speaks]), "all");
        assert_eq!((table.remove(speaks), table.remove(speaks)), (Some(7), None));
        assert_eq!(table.sweep_if_due(table.next_sweep().unwrap(), false), Some(Vec::new()));
        assert_eq!(table.next_sweep(), None, "nobody is left to sweep");
    }

    #[test]
    fn places_are_used_again_and_freed() {
        let mut table = HotTable::default();
        let slots: Vec<_> = (0..100).map(|index| table.insert(index, Tick(0))).collect();
        slots[1..].iter().for_each(|&slot| assert!(table.remove(slot).is_some()));
        table.shrink();
        assert_eq!((table.slots.len(), table.free.len(), table.is_empty()), (1, 0, false));
        let slot = table.insert(5, Tick(0));
        assert_eq!(table.index(slot), Some(5));
        assert_eq!(HotSlot::from_number(slots[3].number()), slots[3]);
    }
}
