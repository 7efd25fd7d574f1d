//! Receive buffers of hot connections, pooled.

use super::temperature::HOT_BUFFER_BYTES;

/// Buffers that are not in use.
#[derive(Default)]
pub(super) struct BufferPool {
    free: Vec<Vec<u8>>,
    /// Of those that are handed out.
    in_use: usize,
}

impl BufferPool {
    /// A buffer, initialised, with whatever it held before.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.in_use += 1;
        self.free.pop().unwrap_or_else(|| vec![0; HOT_BUFFER_BYTES])
    }

    /// Takes a buffer back.
    pub(super) fn give(&mut self, buffer: Vec<u8>) {
        self.in_use -= 1;
        self.free.push(buffer);
    }

    /// Frees a part of what nobody uses, so that the pool follows the load down. Answers whether there was any.
    pub(super) fn shrink(&mut self) -> bool {
        let before = self.free.len();
        self.free.truncate(before / 2);
        before > 0
    }

    /// Frees all that nobody uses.
    pub(super) fn clear(&mut self) {
        self.free = Vec::new();
    }

    /// Whether none lies unused.
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// Bytes of all buffers, in use or not.
    pub(super) fn heap_bytes(&self) -> usize {
        (self.in_use + self.free.len()) * HOT_BUFFER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_is_freed_in_a_few_steps() {
        let mut pool = BufferPool::default();
        let taken: Vec<_> = (0..100).map(|_| pool.take()).collect();
        taken.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!(pool.heap_bytes(), 100 * HOT_BUFFER_BYTES);
        let freed: Vec<_> = (0..8).map(|_| pool.shrink()).collect();
        assert_eq!(freed, [true, true, true, true, true, true, true, false]);
        assert!(pool.is_empty());
        assert_eq!(pool.heap_bytes(), 0);
    }

    #[test]
    fn clearing_leaves_those_that_are_in_use() {
        let mut pool = BufferPool::default();
        let in_use = pool.take();
        let unused = pool.take();
        pool.give(unused);
        pool.clear();
        assert_eq!((pool.is_empty(), pool.heap_bytes()), (true, HOT_BUFFER_BYTES));
        pool.give(in_use);
        pool.clear();
        assert_eq!(pool.heap_bytes(), 0);
    }
}
