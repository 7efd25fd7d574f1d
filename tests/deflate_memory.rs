//! What a connection pays for context takeover: the figures that the documentation states, counted at the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use corewire::protocol::deflate::{Deflater, Inflater};

/// Passes everything on to the system, and counts what this thread holds.
struct Counting;

thread_local! {
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: both methods pass their arguments on unchanged to `System`, which keeps the contract of `GlobalAlloc`; the
// count is a thread-local without destructor or allocation, so it can be touched inside an allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.set(HELD_BYTES.get() + layout.size() as isize);
        // SAFETY: the caller keeps `alloc`'s contract towards us, and we ask for the same layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD_BYTES.set(HELD_BYTES.get() - layout.size() as isize);
        // SAFETY: `at` came from `System.alloc` with this layout, as the caller promises and `alloc` above did.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes held by a value that has been in use, the value itself included.
fn held_by<T>(make: impl FnOnce() -> T) -> usize {
    let before = HELD_BYTES.get();
    let value = make();
    let held = HELD_BYTES.get() - before;
    drop(value);
    assert_eq!(HELD_BYTES.get(), before, "everything is given back");
    held as usize + size_of::<T>()
}

fn used_deflater(window_bits: u8, level: u8) -> Deflater {
    let mut deflater = Deflater::new(window_bits, level);
    deflater.deflate(&[b'x'; 100_000], &mut Vec::new(), true);
    deflater
}

fn used_inflater() -> Inflater {
    let (mut compressed, mut inflater) = (Vec::new(), Inflater::new(15));
    Deflater::new(15, 6).deflate(&[b'x'; 100_000], &mut compressed, false);
    inflater.inflate(&compressed, &mut Vec::new(), usize::MAX, true).unwrap();
    inflater
}

#[test]
fn contexts_hold_what_the_documentation_says() {
    // Window bits and KiB, rounded to the nearest.
    for (window_bits, want) in [(15, 371), (13, 275), (11, 251), (9, 245)] {
        assert_eq!(kib(held_by(|| used_deflater(window_bits, 6))), want, "{window_bits} bits");
        assert_eq!(kib(held_by(|| used_deflater(window_bits, 1))), want, "{window_bits} bits, level 1");
    }
    assert_eq!(kib(held_by(used_inflater)), 47);
}

fn kib(bytes: usize) -> usize {
    (bytes + 512) / 1024
}
