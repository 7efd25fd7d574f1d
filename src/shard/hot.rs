//! Hot connections: a task each, with a receive posted in the ring into a pooled buffer.
//!
//! A hot connection that falls silent, is paused or is closed has its receive cancelled. What the cancelled
//! receive had already got is processed like any other: a cancellation may come too late, and then it brings data.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use monoio::buf::IoBufMut;
use monoio::io::{CancelableAsyncReadRent, Canceller};
use rustix::io::Errno;

use super::buffers::BufferPool;
use super::driver::Shard;
use super::view::View;
use crate::connection::Tick;
use crate::handler::Handler;

/// All hot connections of a shard.
pub(super) struct HotTable {
    slots: Vec<Option<Slot>>,
    free: Vec<HotSlot>,
    starts: Vec<Start>,
    buffers: BufferPool,
    next_sweep: Tick,
    swept_at: Tick,
    /// For tests: a connection leaves after each receive.
    restless: bool,
}

/// The place of a hot connection in the table, counted from one so that "none" costs no byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HotSlot(NonZeroU32);

impl HotSlot {
    fn at(place: usize) -> Self {
        let number = u32::try_from(place + 1).expect("fewer hot connections than descriptors");
        Self(NonZeroU32::new(number).expect("one more than a place is not zero"))
    }

    fn place(self) -> usize {
        self.0.get() as usize - 1
    }
}

struct Slot {
    canceller: Option<Canceller>,
    /// When its last receive brought something, or it became hot.
    last_read: Tick,
    /// The receive is to come back: nothing more is posted.
    leaving: bool,
    /// For writes through the ring, while none is under way.
    writer: Option<View>,
}

/// A task to be spawned.
pub(super) struct Start {
    slot: HotSlot,
    index: u32,
    generation: u32,
    view: View,
    buffer: Vec<u8>,
}

impl HotTable {
    pub(super) fn new(restless: bool) -> Self {
        Self {
            restless,
            slots: Vec::new(),
            free: Vec::new(),
            starts: Vec::new(),
            buffers: BufferPool::default(),
            next_sweep: Tick::NEVER,
            swept_at: Tick::default(),
        }
    }

    /// A connection becomes hot; its task starts at the end of the turn.
    pub(super) fn insert(&mut self, index: u32, generation: u32, socket: BorrowedFd<'_>, now: Tick) -> HotSlot {
        let slot =
            Slot { canceller: Some(Canceller::new()), last_read: now, leaving: false, writer: Some(View::new(socket)) };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place.place()] = Some(slot);
                place
            }
            None => {
                self.slots.push(Some(slot));
                HotSlot::at(self.slots.len() - 1)
            }
        };
        let buffer = self.buffers.take();
        self.starts.push(Start { slot: place, index, generation, view: View::new(socket), buffer });
        if self.next_sweep == Tick::NEVER {
            self.next_sweep = now.after(SWEEP_INTERVAL);
        }
        place
    }

    pub(super) fn pop_start(&mut self) -> Option<Start> {
        self.starts.pop()
    }

    /// The view to write through; it must be given back.
    pub(super) fn take_writer(&mut self, slot: HotSlot) -> Option<View> {
        self.slots.get_mut(slot.place())?.as_mut()?.writer.take()
    }

    /// A view of a connection that is hot still is kept for its next write.
    pub(super) fn give_writer(&mut self, slot: HotSlot, view: View) {
        match self.slots.get_mut(slot.place()).and_then(Option::as_mut) {
            Some(slot) if slot.writer.is_none() => slot.writer = Some(view),
            Some(_) | None => view.release(),
        }
    }

    /// Makes the receive of `slot` come back.
    pub(super) fn cancel(&mut self, slot: HotSlot) {
        let Some(slot) = self.slots.get_mut(slot.place()).and_then(Option::as_mut) else { return };
        if !slot.leaving {
            slot.leaving = true;
            slot.canceller = slot.canceller.take().map(Canceller::cancel);
        }
    }

    /// Makes every receive come back.
    pub(super) fn cancel_all(&mut self) {
        (0..self.slots.len()).for_each(|place| self.cancel(HotSlot::at(place)));
    }

    /// Whether no task is left.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    /// When [`HotTable::sweep_if_due`] is worth calling.
    pub(super) fn next_sweep(&self) -> Option<Tick> {
        (self.next_sweep != Tick::NEVER).then_some(self.next_sweep)
    }

    /// Cancels what was silent since the last sweep, after one to two intervals of silence; if `all`, also what was not.
    /// Answers whether buffers were freed.
    pub(super) fn sweep_if_due(&mut self, now: Tick, all: bool) -> bool {
        if now < self.next_sweep {
            return false;
        }
        let mut cancelled = 0;
        for place in 0..self.slots.len() {
            let Some(slot) = self.slots[place].as_mut() else { continue };
            let silent = slot.last_read < self.swept_at;
            if (silent || all) && !slot.leaving && cancelled < CANCELS_PER_SWEEP {
                self.cancel(HotSlot::at(place));
                cancelled += 1;
            }
        }
        self.swept_at = now;
        let freed = self.buffers.shrink();
        let is_over = self.is_empty() && self.buffers.is_empty();
        self.next_sweep = if is_over { Tick::NEVER } else { now.after(SWEEP_INTERVAL) };
        freed
    }

    /// Frees what nobody uses: all pooled buffers, and the places behind the last that is taken.
    pub(super) fn shrink(&mut self) {
        self.buffers.clear();
        while let Some(None) = self.slots.last() {
            self.slots.pop();
        }
        self.free.retain(|slot| slot.place() < self.slots.len());
        self.slots.shrink_to_fit();
        self.free.shrink_to_fit();
        self.starts.shrink_to_fit();
    }

    /// Bytes of memory in buffers, in use or not, and in the table.
    pub(super) fn heap_bytes(&self) -> usize {
        self.buffers.heap_bytes() + self.slots.capacity() * size_of::<Option<Slot>>()
    }

    fn handle(&mut self, slot: HotSlot) -> Option<monoio::io::CancelHandle> {
        let slot = self.slots[slot.place()].as_ref()?;
        slot.canceller.as_ref().filter(|_| !slot.leaving).map(Canceller::handle)
    }

    /// A receive has brought something. Answers when the one before did.
    fn note_read(&mut self, slot: HotSlot, now: Tick) -> Tick {
        let Some(slot) = &mut self.slots[slot.place()] else { return now };
        slot.leaving |= self.restless;
        std::mem::replace(&mut slot.last_read, now)
    }

    fn remove(&mut self, slot: HotSlot, buffer: Vec<u8>) {
        if let Some(writer) = self.slots[slot.place()].take().and_then(|slot| slot.writer) {
            writer.release();
        }
        self.free.push(slot);
        self.buffers.give(buffer);
    }
}

/// What a receive says about the future of the task.
enum Then {
    Receive(monoio::io::CancelHandle),
    Leave,
}

/// The life of a hot connection: receive, hand over, receive.
pub(super) async fn run<H: Handler>(shard: Rc<RefCell<Shard<H>>>, start: Start) {
    let Start { slot, index, generation, mut view, mut buffer } = start;
    let mut then = first(&shard, slot);
    while let Then::Receive(handle) = then {
        let (result, returned) = view.stream().cancelable_read(Whole(buffer), handle).await;
        buffer = returned.0;
        then = received(&shard, slot, index, &mut buffer, result);
    }
    view.release();
    let mut this = shard.borrow_mut();
    this.hot.remove(slot, buffer);
    if this.state.core().generation(index) == generation {
        this.demote(index);
    }
}

fn first<H: Handler>(shard: &Rc<RefCell<Shard<H>>>, slot: HotSlot) -> Then {
    shard.borrow_mut().hot.handle(slot).map_or(Then::Leave, Then::Receive)
}

fn received<H: Handler>(
    shard: &Rc<RefCell<Shard<H>>>,
    slot: HotSlot,
    index: u32,
    buffer: &mut [u8],
    result: std::io::Result<usize>,
) -> Then {
    let mut this = shard.borrow_mut();
    this.begin_turn();
    let filled = result.as_ref().is_ok_and(|&len| len == buffer.len());
    match result {
        Ok(0) => this.state.handle_eof(index),
        Ok(len) => {
            let now = this.state.core_ref().now();
            let last = this.hot.note_read(slot, now);
            this.load.note_speaker(last, now);
            this.reads += 1;
            this.state.handle_input(index, &mut buffer[..len]);
        }
        Err(error) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => {}
        Err(_) => this.state.handle_reset(index),
    }
    this.wake();
    // Who sends more than that at a time is better cold.
    let reads = !filled && this.state.core().wants_input(index);
    // A slot that is leaving has no handle: the receive came back with data after all, or another was never posted.
    this.hot.handle(slot).filter(|_| reads).map_or(Then::Leave, Then::Receive)
}

/// A whole buffer, initialised, to be received into.
struct Whole(Vec<u8>);

// SAFETY: the pointer and length are those of a heap allocation that does not move while the value does, and that
// lives until the value is dropped; all of it is initialised.
unsafe impl IoBufMut for Whole {
    fn write_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.0.len()
    }

    unsafe fn set_init(&mut self, _len: usize) {
        // All of it is initialised already; how much was received, the result tells.
    }
}

/// Silence between one and two of these makes a connection cold.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// A wave of demotions is spread over several sweeps.
const CANCELS_PER_SWEEP: usize = 1024;
