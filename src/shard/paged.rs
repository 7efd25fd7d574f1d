//! A list that grows by pages and never moves what it holds: a value per connection, by the connection's index.
//!
//! A `Vec` would copy everything whenever it doubles, and hold up to twice what it needs.

/// Values by index, in pages of [`PAGE_LEN`].
pub(super) struct Paged<T> {
    pages: Vec<Box<[T]>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Paged<T> {
    /// How many values fit before another page is made.
    pub(super) fn capacity(&self) -> usize {
        self.pages.len() * PAGE_LEN
    }

    /// Adds one page, filled by `value`.
    pub(super) fn grow(&mut self, value: impl FnMut() -> T) {
        self.pages.push(std::iter::repeat_with(value).take(PAGE_LEN).collect());
    }

    /// The value at `index`, if its page was made.
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.pages.get(index as usize / PAGE_LEN)?.get(index as usize % PAGE_LEN)
    }

    /// The value at `index`, if its page was made.
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.pages.get_mut(index as usize / PAGE_LEN)?.get_mut(index as usize % PAGE_LEN)
    }

    /// Bytes of memory in pages.
    pub(super) fn heap_bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
}

impl<T> std::ops::Index<u32> for Paged<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.pages[index as usize / PAGE_LEN][index as usize % PAGE_LEN]
    }
}

impl<T> std::ops::IndexMut<u32> for Paged<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.pages[index as usize / PAGE_LEN][index as usize % PAGE_LEN]
    }
}

/// Values per page: with records of 72 bytes a page is 18 KiB, small beside what the first connection costs anyway.
pub(super) const PAGE_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_moves_nothing() {
        let mut paged = Paged::default();
        paged.grow(|| 7u64);
        let before: *const u64 = &paged[3];
        for _ in 0..100 {
            paged.grow(|| 0);
        }
        assert!(std::ptr::eq(before, &paged[3]));
        assert_eq!((paged[3], paged.capacity(), paged.heap_bytes()), (7, 101 * 256, 101 * 256 * 8));
        paged[25_855] = 9;
        assert_eq!((paged.get(25_855), paged.get(25_856)), (Some(&9), None));
    }
}
