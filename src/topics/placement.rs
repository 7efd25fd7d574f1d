//! Which core is a topic's home, and sets of cores.

use super::name::Topic;

/// Most cores that sets of cores can hold.
pub const CORE_COUNT_MAX: usize = 256;

/// The core that is the topic's home: FNV-1a (64 bits) of the name's bytes, mixed by the end of SplitMix64, modulo the
/// number of cores.
///
/// The same on every core and in every process: nothing but the name and the number of cores counts.
///
/// # Panics
///
/// If there are no cores.
pub fn home_of(topic: &Topic, core_count: usize) -> usize {
    (name_hash(topic.as_str()) % core_count as u64) as usize
}

/// FNV-1a, mixed.
pub(super) fn name_hash(name: &str) -> u64 {
    let fnv = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(fnv)
}

/// The end of SplitMix64: a permutation, after which all bits depend on all bits.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Some of the cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreSet([u64; CORE_COUNT_MAX / 64]);

impl CoreSet {
    /// The cores `0..core_count`.
    pub fn first(core_count: usize) -> Self {
        let mut set = Self::default();
        (0..core_count).for_each(|core| {
            set.insert(core);
        });
        set
    }

    /// Answers whether it was not there yet.
    ///
    /// # Panics
    ///
    /// If there is no room for so many cores.
    pub fn insert(&mut self, core: usize) -> bool {
        let is_new = !self.contains(core);
        self.0[core / 64] |= 1 << (core % 64);
        is_new
    }

    /// Answers whether it was there.
    pub fn remove(&mut self, core: usize) -> bool {
        let was_there = self.contains(core);
        self.0[core / 64] &= !(1 << (core % 64));
        was_there
    }

    /// Whether the core is one of them.
    pub fn contains(&self, core: usize) -> bool {
        self.0[core / 64] & 1 << (core % 64) != 0
    }

    /// Whether it is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Those that are in this or the other, or both.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
        self
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(index, mut word)| {
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(index * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_do_not_move_between_releases() {
        let home = |name: &str, cores| home_of(&Topic::parse(name).expect(name), cores);
        assert_eq!(["a", "prices:EUR", "größe"].map(|name| home(name, 256)), HOMES_OF_256);
        assert_eq!(["a", "b", "c"].map(|name| home(name, 1)), [0; 3]);
    }

    /// Computed by another program.
    const HOMES_OF_256: [usize; 3] = [248, 162, 232];

    #[test]
    fn homes_are_spread_evenly() {
        for cores in [2, 3, 4, 7, 64] {
            let mut topics = vec![0usize; cores];
            for number in 0..cores * 1000 {
                topics[home_of(&Topic::parse(&format!("prices:{number}")).expect("good"), cores)] += 1;
            }
            assert!(topics.iter().all(|count| (850..1150).contains(count)), "{cores} cores: {topics:?}");
        }
    }

    #[test]
    fn a_set_of_cores() {
        let mut set = CoreSet::default();
        assert!(set.is_empty() && set.insert(3) && set.insert(255) && set.insert(64) && !set.insert(3));
        assert!(set.iter().eq([3, 64, 255]));
        assert!(set.remove(64) && !set.remove(64) && set.contains(255) && !set.contains(64));
        assert_eq!((set.len(), set.union(&CoreSet::first(2)).iter().collect::<Vec<_>>()), (2, vec![0, 1, 3, 255]));
    }
}
