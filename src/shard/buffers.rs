//! Receive buffers of hot connections: four sizes, pooled, and the rule by which a connection changes its size.
//!
//! A large message wants large reads, a small one must not hold a large buffer.

/// A receive buffer and how well it fits what comes.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Reads in a row that would have fitted the next smaller size.
    small_reads: u8,
}

/// Buffers that are not in use, by size.
#[derive(Default)]
pub(super) struct BufferPool {
    free: [Vec<Vec<u8>>; SIZES.len()],
    /// Of all buffers, in use or not.
    heap_bytes: usize,
}

/// Whether a buffer still fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Good,
    /// It was filled to the brim: the next size up would have taken more.
    TooSmall,
    /// Many reads would have fitted the next size down.
    TooLarge,
}

impl Buffer {
    /// All of it, to be received into.
    pub(super) fn into_bytes(self) -> (Vec<u8>, u8) {
        (self.bytes, self.small_reads)
    }

    /// Puts together what [`Buffer::into_bytes`] took apart.
    pub(super) fn from_bytes(bytes: Vec<u8>, small_reads: u8) -> Self {
        Self { bytes, small_reads }
    }

    /// What was received.
    pub(super) fn received(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[..len]
    }

    /// Judges the size by one more read.
    pub(super) fn judge(&mut self, len: usize) -> Fit {
        let class = class_of(self.bytes.len());
        if len == self.bytes.len() && class + 1 < SIZES.len() {
            return Fit::TooSmall;
        }
        let fits_smaller = class > 0 && len < SIZES[class - 1];
        self.small_reads = if fits_smaller { self.small_reads.saturating_add(1) } else { 0 };
        if self.small_reads >= SMALL_READS_MAX { Fit::TooLarge } else { Fit::Good }
    }
}

impl BufferPool {
    /// A buffer that would have taken `len` bytes with room to spare.
    pub(super) fn take(&mut self, len: usize) -> Buffer {
        let class = SIZES.iter().position(|&size| len < size).unwrap_or(SIZES.len() - 1);
        self.take_class(class)
    }

    /// Exchanges a buffer for one of a better size.
    pub(super) fn exchange(&mut self, buffer: Buffer, fit: Fit) -> Buffer {
        let class = class_of(buffer.bytes.len());
        let better = match fit {
            Fit::Good => return buffer,
            Fit::TooSmall => (class + 1).min(SIZES.len() - 1),
            Fit::TooLarge => class.saturating_sub(1),
        };
        self.give(buffer);
        self.take_class(better)
    }

    /// Takes a buffer back.
    pub(super) fn give(&mut self, buffer: Buffer) {
        self.free[class_of(buffer.bytes.len())].push(buffer.bytes);
    }

    /// Frees a part of what nobody uses, so that the pool follows the load down.
    pub(super) fn shrink(&mut self) {
        for (free, size) in self.free.iter_mut().zip(SIZES) {
            let freed = free.len().div_ceil(2);
            free.truncate(free.len() - freed);
            self.heap_bytes -= freed * size;
        }
    }

    /// Frees all that nobody uses.
    pub(super) fn clear(&mut self) {
        self.heap_bytes -= self.idle_bytes();
        self.free = Default::default();
    }

    /// Whether none lies unused.
    pub(super) fn is_empty(&self) -> bool {
        self.free.iter().all(Vec::is_empty)
    }

    /// Bytes of all buffers, in use or not.
    pub(super) fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// Bytes that lie unused.
    fn idle_bytes(&self) -> usize {
        self.free.iter().zip(SIZES).map(|(free, size)| free.len() * size).sum()
    }

    fn take_class(&mut self, class: usize) -> Buffer {
        let bytes = self.free[class].pop().unwrap_or_else(|| {
            self.heap_bytes += SIZES[class];
            vec![0; SIZES[class]]
        });
        Buffer { bytes, small_reads: 0 }
    }
}

fn class_of(len: usize) -> usize {
    SIZES.iter().position(|&size| size == len).expect("buffers have the sizes of the table")
}

/// What one receive may bring.
const SIZES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];

/// Reads in a row that must have fitted the next smaller size before a buffer is exchanged for it.
const SMALL_READS_MAX: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_follows_the_traffic_up_and_down() {
        let mut pool = BufferPool::default();
        let mut buffer = pool.take(100);
        let mut sizes = vec![buffer.bytes.len()];
        let full = |buffer: &Buffer| buffer.bytes.len();
        for _ in 0..4 {
            let len = full(&buffer);
            let fit = buffer.judge(len);
            buffer = pool.exchange(buffer, fit);
            sizes.push(buffer.bytes.len());
        }
        assert_eq!(sizes, [4 << 10, 16 << 10, 64 << 10, 256 << 10, 256 << 10]);
        let mut reads = 0;
        while buffer.bytes.len() > 4 << 10 {
            let fit = buffer.judge(50);
            buffer = pool.exchange(buffer, fit);
            reads += 1;
        }
        assert_eq!(reads, 3 * usize::from(SMALL_READS_MAX));
    }

    #[test]
    fn one_large_read_in_between_keeps_the_size() {
        let mut pool = BufferPool::default();
        let mut buffer = pool.take(20_000);
        for n in 0..1000 {
            let len = if n % 50 == 0 { 20_000 } else { 10 };
            assert_eq!(buffer.judge(len), Fit::Good);
        }
    }

    #[test]
    fn what_nobody_uses_is_freed_in_a_few_steps() {
        let mut pool = BufferPool::default();
        let taken: Vec<_> = (0..100).map(|_| pool.take(10)).collect();
        taken.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!((pool.idle_bytes(), pool.heap_bytes()), (100 * SIZES[0], 100 * SIZES[0]));
        for _ in 0..8 {
            pool.shrink();
        }
        assert!(pool.is_empty());
        assert_eq!((pool.idle_bytes(), pool.heap_bytes()), (0, 0));
    }

    #[test]
    fn clearing_leaves_those_that_are_in_use() {
        let mut pool = BufferPool::default();
        let in_use = pool.take(20_000);
        let unused = pool.take(10);
        pool.give(unused);
        pool.clear();
        assert_eq!((pool.is_empty(), pool.heap_bytes()), (true, SIZES[2]));
        pool.give(in_use);
        pool.clear();
        assert_eq!(pool.heap_bytes(), 0);
    }
}
