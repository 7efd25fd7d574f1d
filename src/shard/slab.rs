//! Where a shard's connections lie: pages of records that never move, so that growing copies nothing.

use super::paged::Paged;
use super::temperature::Heat;
use super::wheel::{Node, Nodes};
use crate::connection::Connection;
use crate::handler::Wire;

/// Everything a shard knows of one connection: one cache line.
pub(super) struct Record {
    pub(super) connection: Connection,
    pub(super) timer: Node,
    pub(super) generation: u32,
    pub(super) heat: Heat,
    /// Whether it is on the list of what to look at when the turn ends.
    pub(super) touched: bool,
    /// Whether it came when the server was full: it only gets told so, and does not count.
    pub(super) surplus: bool,
    /// What it is sent for a publication.
    pub(super) wire: Wire,
}

const _: () = {
    // The aim is 80 bytes of user memory per idle connection, all told; the record may have most of it.
    assert!(size_of::<Record>() <= 72);
};

/// Records by index. An index is used again, a pair of index and generation is not.
#[derive(Default)]
pub(super) struct Slab {
    slots: Paged<Slot>,
    /// First free slot, as a list through the free ones.
    free: Option<u32>,
    /// Slots handed out at least once.
    touched: u32,
    len: usize,
}

enum Slot {
    Free { next: Option<u32>, generation: u32 },
    Taken(Record),
}

impl Slab {
    /// How many records there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory in pages, whether their slots are taken or not.
    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.heap_bytes()
    }

    /// Puts a connection in and answers its index.
    pub(super) fn insert(&mut self, connection: Connection) -> u32 {
        let index = self.free.unwrap_or(self.touched);
        if index == self.touched {
            self.touched += 1;
            if index as usize == self.slots.capacity() {
                self.slots.grow(|| Slot::Free { next: None, generation: 0 });
            }
        }
        let slot = &mut self.slots[index];
        let Slot::Free { next, generation } = *slot else {
            unreachable!("the free list holds only free slots");
        };
        *slot = Slot::Taken(Record {
            connection,
            timer: Node::default(),
            generation,
            heat: Heat::default(),
            touched: false,
            surplus: false,
            wire: Wire::default(),
        });
        self.free = next;
        self.len += 1;
        index
    }

    /// Takes the connection at `index` out. Its generation is over.
    pub(super) fn remove(&mut self, index: u32) -> Option<Connection> {
        let next = self.free;
        let slot = self.slots.get_mut(index)?;
        let Slot::Taken(record) = slot else { return None };
        let generation = record.generation.wrapping_add(1);
        let Slot::Taken(record) = std::mem::replace(slot, Slot::Free { next, generation }) else {
            unreachable!("it was taken a line above");
        };
        self.free = Some(index);
        self.len -= 1;
        Some(record.connection)
    }

    /// The record at `index`.
    pub(super) fn get(&self, index: u32) -> Option<&Record> {
        match self.slots.get(index)? {
            Slot::Taken(record) => Some(record),
            Slot::Free { .. } => None,
        }
    }

    /// The record at `index`.
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Record> {
        match self.slots.get_mut(index)? {
            Slot::Taken(record) => Some(record),
            Slot::Free { .. } => None,
        }
    }

    /// One more than the largest index that was ever used.
    pub(super) fn end(&self) -> u32 {
        self.touched
    }
}

impl Nodes for Slab {
    fn node(&mut self, index: u32) -> &mut Node {
        &mut self.get_mut(index).expect("only taken records are in the wheel").timer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Limits, Tick, Workspace};

    #[test]
    fn an_index_comes_back_with_another_generation() {
        let workspace = Workspace::new(Limits::default(), 1);
        let mut slab = Slab::default();
        let fresh = || Connection::accepted(&workspace, Tick(0));
        let indexes: Vec<_> = (0..1000).map(|_| slab.insert(fresh())).collect();
        assert!(indexes.iter().copied().eq(0..1000));
        let before = slab.get(500).expect("it is there").generation;
        assert!(slab.remove(500).is_some() && slab.remove(500).is_none() && slab.get(500).is_none());
        assert_eq!(slab.insert(fresh()), 500);
        assert_ne!(slab.get(500).expect("it is there").generation, before);
        assert_eq!((slab.len(), slab.end()), (1000, 1000));
    }
}
