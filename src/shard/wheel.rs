//! One coarse timing wheel per shard: every deadline of every connection, in lists threaded through the records.
//!
//! Arming and disarming cost the same whether there are ten entries or a million, and an entry owns no memory but
//! its [`Node`]. Deadlines beyond one turn of the wheel wait in their slot and are put back when it comes round.

use crate::connection::Tick;

/// The part of a record that the wheel owns.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    previous: u32,
    next: u32,
    /// `Tick::NEVER` while not armed.
    due: Tick,
}

/// Where the wheel finds its nodes.
pub trait Nodes {
    /// The node of the record at `index`.
    fn node(&mut self, index: u32) -> &mut Node;
}

/// Lists of nodes by the tick at which they are due.
pub struct Wheel {
    /// First node of each slot.
    heads: Box<[u32]>,
    /// One bit per slot that is not empty.
    occupied: [u64; SLOT_COUNT / 64],
    /// Everything due up to here has been handed out.
    now: Tick,
    armed_count: usize,
}

impl Default for Node {
    fn default() -> Self {
        Self { previous: NONE, next: NONE, due: Tick::NEVER }
    }
}

impl Node {
    /// When it is due; [`Tick::NEVER`] while not armed.
    pub fn due(&self) -> Tick {
        self.due
    }
}

impl Wheel {
    /// An empty wheel that stands at `now`.
    pub fn new(now: Tick) -> Self {
        Self { heads: vec![NONE; SLOT_COUNT].into_boxed_slice(), occupied: [0; SLOT_COUNT / 64], now, armed_count: 0 }
    }

    /// How many nodes are armed.
    pub fn armed_count(&self) -> usize {
        self.armed_count
    }

    /// Sets the deadline of `index`, whether or not it had one. What is due already comes at the next tick.
    pub fn arm(&mut self, nodes: &mut impl Nodes, index: u32, due: Tick) {
        self.disarm(nodes, index);
        if due == Tick::NEVER {
            return;
        }
        self.link(nodes, index, due);
    }

    /// Takes the deadline of `index` away, if it has one.
    pub fn disarm(&mut self, nodes: &mut impl Nodes, index: u32) {
        let Node { previous, next, due } = *nodes.node(index);
        if due == Tick::NEVER {
            return;
        }
        *nodes.node(index) = Node::default();
        self.armed_count -= 1;
        if next != NONE {
            nodes.node(next).previous = previous;
        }
        if previous != NONE {
            nodes.node(previous).next = next;
            return;
        }
        // It may be the first of a slot, or of a list that `expire` is taking apart, which no slot points to.
        let slot = self.slot_of(due);
        if self.heads[slot] == index {
            self.heads[slot] = next;
            if next == NONE {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        }
    }

    /// Disarms what is due and appends it to `due`.
    pub fn expire(&mut self, nodes: &mut impl Nodes, now: Tick, due: &mut Vec<u32>) {
        // After a long sleep each slot is looked at once, not once per missed turn of the wheel.
        let first = self.now.0.saturating_add(1).max(now.0.saturating_sub(SLOT_COUNT as u32 - 1));
        for tick in first..=now.0 {
            self.now = Tick(tick);
            self.expire_slot(nodes, now, due);
        }
        self.now = self.now.max(now);
    }

    fn expire_slot(&mut self, nodes: &mut impl Nodes, now: Tick, due: &mut Vec<u32>) {
        let slot = self.now.0 as usize % SLOT_COUNT;
        let mut index = self.heads[slot];
        while index != NONE {
            let Node { next, due: due_at, .. } = *nodes.node(index);
            if due_at <= now {
                self.disarm(nodes, index);
                due.push(index);
            }
            index = next;
        }
    }

    /// A tick at which [`Wheel::expire`] is worth calling; `None` if nothing is armed.
    ///
    /// Never later than the next deadline; earlier only when that is more than one turn of the wheel away.
    pub fn next_due(&self) -> Option<Tick> {
        if self.armed_count == 0 {
            return None;
        }
        let start = self.now.0 as usize + 1;
        let offset = (0..SLOT_COUNT).step_by(64).find_map(|skip| {
            let word = self.word_from((start + skip) % SLOT_COUNT);
            (word != 0).then(|| skip + word.trailing_zeros() as usize)
        })?;
        Some(Tick((start + offset) as u32))
    }

    /// Sixty-four occupancy bits that begin at `slot`, across the border of two words and the end of the wheel.
    fn word_from(&self, slot: usize) -> u64 {
        let (word, bit) = (slot / 64, slot % 64);
        let low = self.occupied[word] >> bit;
        if bit == 0 {
            return low;
        }
        low | self.occupied[(word + 1) % self.occupied.len()] << (64 - bit)
    }

    fn link(&mut self, nodes: &mut impl Nodes, index: u32, due: Tick) {
        let due = due.max(Tick(self.now.0.saturating_add(1)));
        let slot = self.slot_of(due);
        let head = self.heads[slot];
        if head != NONE {
            nodes.node(head).previous = index;
        }
        *nodes.node(index) = Node { previous: NONE, next: head, due };
        self.heads[slot] = index;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.armed_count += 1;
    }

    fn slot_of(&self, due: Tick) -> usize {
        due.0 as usize % SLOT_COUNT
    }
}

const NONE: u32 = u32::MAX;

/// With ticks of 32 ms one turn takes 131 s: longer than the usual idle timeout, so entries are seldom put back.
const SLOT_COUNT: usize = 4096;

const _: () = {
    // `slot_of` and the occupancy words rely on it.
    assert!(SLOT_COUNT.is_power_of_two() && SLOT_COUNT >= 64);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Random;

    impl Nodes for Vec<Node> {
        fn node(&mut self, index: u32) -> &mut Node {
            &mut self[index as usize]
        }
    }

    #[test]
    fn against_a_list_that_is_searched() {
        let seed = 0x5eed_0001;
        let mut random = Random::new(seed);
        let mut nodes = vec![Node::default(); 200];
        let mut model = vec![None::<u32>; 200];
        let mut wheel = Wheel::new(Tick(0));
        let mut now = 0u32;
        for step in 0..20_000 {
            match random.below(10) {
                0..5 => {
                    let index = random.below(200) as u32;
                    let due = now + random.below(3 * SLOT_COUNT as u64) as u32;
                    wheel.arm(&mut nodes, index, Tick(due));
                    model[index as usize] = Some(due.max(now + 1));
                }
                5..7 => {
                    let index = random.below(200) as u32;
                    wheel.disarm(&mut nodes, index);
                    model[index as usize] = None;
                }
                _ => {
                    let long_sleep = random.below(50) == 0;
                    now += random.below(if long_sleep { 10_000 } else { 40 }) as u32;
                    let mut got = Vec::new();
                    wheel.expire(&mut nodes, Tick(now), &mut got);
                    got.sort_unstable();
                    let want: Vec<u32> =
                        (0..200).filter(|&i| model[i as usize].is_some_and(|due| due <= now)).collect();
                    assert_eq!(got, want, "step {step} at {now}, seed {seed:#x}");
                    for index in got {
                        model[index as usize] = None;
                    }
                }
            }
            let armed = model.iter().flatten().count();
            assert_eq!(wheel.armed_count(), armed, "step {step}, seed {seed:#x}");
            let next = model.iter().flatten().min().copied();
            match (wheel.next_due(), next) {
                (None, None) => {}
                (Some(Tick(wake)), Some(due)) => assert!(wake > now && wake <= due, "{now} {wake} {due}"),
                (wake, due) => panic!("wheel wakes at {wake:?}, first deadline {due:?}"),
            }
        }
    }
}
