//! The buffers of a ring: the kernel takes one when something has arrived, and nobody pins one while nothing has.

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// What a posted receive brings at once, at most, in bytes.
pub(in crate::shard) const BUFFER_BYTES: usize = 2 << 10;

/// Buffers shared with the kernel, by a queue of those that it may fill.
pub(super) struct Buffers {
    /// The queue and then the buffers, in one mapping.
    mapping: NonNull<c_void>,
    /// The end of the queue, which counts on and on.
    tail: u16,
    /// Buffers that exist so far, and how many of them may have memory.
    count: u16,
    touched: u16,
    leaks: bool,
}

/// A buffer that the kernel has filled and will not touch until it is given back.
#[derive(Debug)]
pub(in crate::shard) struct Filled {
    id: u16,
    len: usize,
}

impl Filled {
    /// Whether there may have been more than fitted.
    pub(in crate::shard) fn is_full(&self) -> bool {
        self.len == BUFFER_BYTES
    }
}

impl Buffers {
    /// Maps memory for all that there may ever be; what nobody writes to takes none.
    ///
    /// # Errors
    ///
    /// If the kernel gives no more address space.
    pub(super) fn map() -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at a place of the kernel's choice overlaps nothing.
        let mapping = unsafe { mmap_anonymous(ptr::null_mut(), MAPPING_BYTES, protection, flags)? };
        let mapping = NonNull::new(mapping).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { mapping, tail: 0, count: 0, touched: 0, leaks: false })
    }

    /// Where the queue lies, for the kernel.
    pub(super) fn queue_address(&self) -> u64 {
        self.mapping.as_ptr() as u64
    }

    /// Offers as many buffers again as there are, up to the limit.
    pub(super) fn grow(&mut self) {
        let more = if self.count == 0 { COUNT_FIRST } else { self.count.min(COUNT_MAX - self.count) };
        (self.count..self.count + more).for_each(|id| self.offer(id));
        self.count += more;
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.into()
    }

    /// Takes a buffer that a completion names, which happens once for each time that it was offered.
    pub(super) fn take(&mut self, id: u16, len: usize) -> Filled {
        assert!(id < COUNT_MAX && len <= BUFFER_BYTES, "the kernel has filled a buffer that it was not given");
        // They are handed out in turn.
        self.touched = (self.touched + 1).min(self.count);
        Filled { id, len }
    }

    /// What is in a buffer.
    pub(super) fn bytes(&mut self, filled: &Filled) -> &mut [u8] {
        let first = self.buffer(filled.id);
        // SAFETY: the buffer lies within the mapping, which lives as long as `self`, and was zeroed or written by the
        // kernel. It is ours: the kernel has handed it out, and nobody else holds a `Filled` of it or borrows `self`.
        unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), filled.len) }
    }

    /// Lets the kernel fill a buffer again.
    pub(super) fn give(&mut self, filled: Filled) {
        self.offer(filled.id);
    }

    /// Frees the memory of all buffers, and none of the buffers: who is written to next takes a page again. Nothing may
    /// be left unread in any of them.
    pub(super) fn free_memory(&mut self) {
        // SAFETY: within the mapping; what was in it, nobody asks for.
        let freed =
            unsafe { madvise(self.buffer(0).as_ptr().cast(), MAPPING_BYTES - QUEUE_BYTES, Advice::LinuxDontNeed) };
        debug_assert!(freed.is_ok(), "the range is mapped");
        self.touched = 0;
    }

    /// They stay mapped for ever.
    pub(super) fn leak(&mut self) {
        self.leaks = true;
    }

    /// Bytes of memory that the buffers take, at most.
    pub(super) fn heap_bytes(&self) -> usize {
        usize::from(self.touched) * BUFFER_BYTES
    }

    fn offer(&mut self, id: u16) {
        let queue = self.mapping.cast::<BufRingEntry>();
        let address = self.buffer(id).as_ptr() as u64;
        // SAFETY: the queue has `COUNT_MAX` entries at the begin of the mapping, all zeroed at first, which is a valid
        // value. The kernel reads an entry only between the store of the tail that offers it and the completion that
        // hands it out, and at most `COUNT_MAX` are offered at a time, so it does not read this one now. The tail lies in
        // the part of the first entry that its setters leave alone.
        let tail = unsafe {
            let entry = queue.add(usize::from(self.tail % COUNT_MAX)).as_mut();
            entry.set_addr(address);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
            AtomicU16::from_ptr(BufRingEntry::tail(queue.as_ptr()).cast_mut())
        };
        self.tail = self.tail.wrapping_add(1);
        tail.store(self.tail, Ordering::Release);
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        debug_assert!(id < COUNT_MAX);
        // SAFETY: within the mapping for every id below `COUNT_MAX`, and no other exists.
        unsafe { self.mapping.cast::<u8>().add(QUEUE_BYTES + usize::from(id) * BUFFER_BYTES) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.leaks {
            return;
        }
        // SAFETY: mapped by `map` with this length, and no borrow of it outlives `self`. That the kernel does not write
        // to it any more is what `Ring` sees to.
        let unmapped = unsafe { munmap(self.mapping.as_ptr(), MAPPING_BYTES) };
        debug_assert!(unmapped.is_ok(), "it was mapped");
    }
}

/// Entries of the queue, a power of two, and so the most buffers that there can be: 2 MiB.
pub(super) const COUNT_MAX: u16 = 1024;
/// Few buffers stay in the cache. All may be filled by one peer before its receive can be told to stop, so they bound what
/// still comes after a pause.
pub(super) const COUNT_FIRST: u16 = 64;
/// More than the entries need, so that the buffers begin at a page of any size.
const QUEUE_BYTES: usize = 64 << 10;
const MAPPING_BYTES: usize = QUEUE_BYTES + COUNT_MAX as usize * BUFFER_BYTES;

const _: () = assert!(COUNT_MAX as usize * size_of::<BufRingEntry>() <= QUEUE_BYTES);
