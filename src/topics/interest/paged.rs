//! Values by index, in pages that never move: growing copies nothing and leaves at most one page unused.

/// A list of values that are there as soon as they are asked for.
#[derive(Debug)]
pub(super) struct Paged<T> {
    pages: Vec<Box<[T]>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T: Default> Paged<T> {
    /// The value at `index`, if its page was made.
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.pages.get(index as usize / PAGE_LEN)?.get(index as usize % PAGE_LEN)
    }

    /// The value at `index`, if its page was made.
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.pages.get_mut(index as usize / PAGE_LEN)?.get_mut(index as usize % PAGE_LEN)
    }

    /// The value at `index`, whose page and all before it are made if need be.
    pub(super) fn make(&mut self, index: u32) -> &mut T {
        while self.pages.len() <= index as usize / PAGE_LEN {
            self.pages.push(std::iter::repeat_with(T::default).take(PAGE_LEN).collect());
        }
        &mut self.pages[index as usize / PAGE_LEN][index as usize % PAGE_LEN]
    }
}

const PAGE_LEN: usize = 128;

/// Makes room for one more: an eighth more than there is, not twice as much, as most of the memory lies in such lists.
pub(super) fn grow_for_one<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 8).max(2));
    }
}

/// Gives memory back when three quarters of it are unused.
pub(super) fn shrink<T>(list: &mut Vec<T>) {
    if list.len() * 4 < list.capacity() {
        list.shrink_to(list.len() * 2);
    }
}
