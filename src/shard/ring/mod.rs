//! The core's ring: receives that stay posted, and writes that leave together.
//!
//! A posted receive is multishot (Linux 6.0): it is posted once, completes at every arrival, and takes a buffer only then.
//! A posted write never waits: it completes within the call that submits it, with what the socket took. So a write is to
//! the core what a plain `send` is, but many cost one system call, and none of its own where the core waits in the ring.
//!
//! Receives are run by the call that waits, and by nothing else (`DEFER_TASKRUN`, Linux 6.1); since Linux 6.13 a few at a
//! time. So a turn's connections are still in the processor's cache when they are answered, few buffers do, and what has
//! completed can be looked at without a race.
//!
//! It is not the runtime's ring, which can post neither. Server CPU per message, 64 B, saturated, of a bare echo that does
//! both, against the same through the runtime: 0.87 at 32 connections, 0.87 at 200, 0.65 at 2,000. Of the whole server
//! against uWebSockets: 0.95, 0.88 and 0.86, and with all cold 1.02, 1.07 and 1.08. docs/BENCHMARKS.md has the ranges.

mod buffers;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use crate::connection::Outbox;
pub(super) use buffers::BUFFER_BYTES;
pub(super) use buffers::Filled;
use buffers::{Buffers, COUNT_MAX};

/// A ring of its own for one thread.
pub(super) struct Ring {
    /// Before `buffers`, so that it is closed before they are unmapped.
    io: IoUring,
    buffers: Buffers,
    /// Receives whose last completion has not come.
    posted_count: usize,
    /// Writes that were not taken out yet, and how many of them have no result.
    writes: Vec<Write>,
    unanswered_count: usize,
    /// What has completed beside writes.
    events: Vec<Event>,
}

/// Something has completed.
#[derive(Debug)]
pub(super) enum Event {
    /// The receive of a slot has brought something. `more`: it stays posted.
    Received { slot: u32, received: Received, more: bool },
    /// The receive of a slot was not found where it was to be cancelled: it has ended, or was just being run.
    NotCancelled { slot: u32 },
    /// What is watched is readable; it is not watched any more.
    Readable,
}

/// What a receive has brought.
#[derive(Debug)]
pub(super) enum Received {
    /// Bytes, which must be read and given back.
    Bytes(Filled),
    /// The peer sends no more.
    Eof,
    /// There was no buffer. What has arrived is still in the socket.
    NoBuffer,
    /// It was cancelled before anything arrived.
    Cancelled,
    /// The socket is broken.
    Broken,
}

/// A write, and what became of it.
pub(super) struct Write {
    /// The connection's.
    pub(super) index: u32,
    /// What was lent; nothing of it is forgotten yet.
    pub(super) outbox: Box<Outbox>,
    /// Bytes of its front that the socket took. [`Errno::AGAIN`]: it is full.
    pub(super) result: Result<usize, Errno>,
}

impl Ring {
    /// Makes a ring, and tries on a pair of sockets whether the kernel can do what is asked of it here.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the ring, or a multishot receive.
    pub(super) fn new() -> io::Result<Self> {
        let mut flags = IoUring::builder();
        flags.setup_cqsize(COMPLETION_ENTRIES).setup_single_issuer().setup_defer_taskrun();
        let io = flags.build(SUBMISSION_ENTRIES)?;
        let mut buffers = Buffers::map()?;
        // SAFETY: the queue lies in the mapping of `buffers`, which is unmapped only after the ring is closed.
        unsafe { io.submitter().register_buf_ring(buffers.queue_address(), COUNT_MAX, BUFFER_GROUP)? };
        buffers.grow();
        let mut ring =
            Self { io, buffers, posted_count: 0, writes: Vec::new(), unanswered_count: 0, events: Vec::new() };
        ring.try_receive()?;
        Ok(ring)
    }

    /// Posts a receive, which stays until it has completed without `more`. The socket must be a blocking one, and must
    /// stay open until then. `slot` is free to choose among the receives that are posted.
    pub(super) fn post_receive(&mut self, slot: u32, socket: BorrowedFd<'_>) {
        self.posted_count += 1;
        self.push(
            opcode::RecvMulti::new(types::Fd(socket.as_raw_fd()), BUFFER_GROUP).build(),
            RECEIVE | u64::from(slot),
        );
    }

    /// Makes the receive of `slot` come back.
    pub(super) fn cancel_receive(&mut self, slot: u32) {
        self.push(opcode::AsyncCancel::new(RECEIVE | u64::from(slot)).build(), CANCEL | u64::from(slot));
    }

    /// Watches until `fd` is readable, once.
    pub(super) fn watch(&mut self, fd: BorrowedFd<'_>) {
        let events = u32::from(PollFlags::IN.bits());
        self.push(opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), events).build(), WATCH);
    }

    /// Posts a write of the front of `outbox`. [`Ring::finish_writes`] must follow before the socket is closed.
    pub(super) fn post_write(&mut self, index: u32, socket: BorrowedFd<'_>, outbox: Box<Outbox>) {
        let (front, position) = (outbox.front(), self.writes.len() as u64);
        let len = u32::try_from(front.len()).unwrap_or(u32::MAX);
        let write = opcode::Send::new(types::Fd(socket.as_raw_fd()), front.as_ptr(), len).flags(WRITE_FLAGS).build();
        self.writes.push(Write { index, outbox, result: Err(Errno::INPROGRESS) });
        self.unanswered_count += 1;
        self.push(write, WRITE | position);
    }

    /// Writes that were posted.
    pub(super) fn write_count(&self) -> usize {
        self.writes.len()
    }

    /// Submits all writes that were posted, and hands them over in `done`, an empty list, whose memory it keeps.
    pub(super) fn finish_writes(&mut self, done: &mut Vec<Write>) {
        let mut want = 0;
        while self.unanswered_count > 0 {
            self.enter(want);
            self.reap();
            // The first time would do. Should the kernel think otherwise, nothing is taken for written that was not.
            want = 1;
        }
        debug_assert!(done.is_empty(), "what was done before was looked at");
        std::mem::swap(done, &mut self.writes);
    }

    /// Submits what is posted, and waits until something has completed, unless it has already. Hands over what was received
    /// in `events` and all writes in `done`: empty lists, whose memory it keeps. Writes alone end the wait too.
    pub(super) fn wait(&mut self, events: &mut Vec<Event>, done: &mut Vec<Write>) {
        self.reap();
        if self.events.is_empty() {
            self.enter(1);
        }
        self.take(events, done);
    }

    /// As [`Ring::wait`], but does not wait.
    pub(super) fn poll(&mut self, events: &mut Vec<Event>, done: &mut Vec<Write>) {
        let now = types::Timespec::new();
        // With nothing to wait for the kernel would not run the receives.
        let entered = self.io.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&now));
        check(entered);
        self.take(events, done);
    }

    fn take(&mut self, events: &mut Vec<Event>, done: &mut Vec<Write>) {
        self.reap();
        debug_assert!(events.is_empty(), "what came before was looked at");
        std::mem::swap(events, &mut self.events);
        self.finish_writes(done);
    }

    /// What was received.
    pub(super) fn bytes(&mut self, filled: &Filled) -> &mut [u8] {
        self.buffers.bytes(filled)
    }

    /// Lets what was received be overwritten.
    pub(super) fn give(&mut self, filled: Filled) {
        self.buffers.give(filled);
    }

    /// Offers the kernel more buffers, as many as there are, if there are fewer than `receive_count`. What a flood on a few
    /// receives uses up is not enlarged by it.
    pub(super) fn grow_for(&mut self, receive_count: usize) {
        if self.buffers.count() < receive_count {
            self.buffers.grow();
        }
    }

    /// Gives back memory that nothing needs at present.
    pub(super) fn shrink(&mut self) {
        // What has completed may still have to be read; and nothing completes behind our back.
        self.reap();
        if self.events.is_empty() {
            self.buffers.free_memory();
            self.events = Vec::new();
        }
        self.writes.shrink_to_fit();
    }

    /// Bytes of memory that it may hold.
    pub(super) fn heap_bytes(&self) -> usize {
        self.buffers.heap_bytes() + self.writes.capacity() * size_of::<Write>()
    }

    fn push(&mut self, entry: squeue::Entry, user_data: u64) {
        let entry = entry.user_data(user_data);
        // SAFETY: what the kernel is to read or write lives until the operation has completed: an outbox is in `writes`
        // until its result is there, and moves only as a box; buffers are mapped until no receive is posted; the other
        // operations name no memory.
        while unsafe { self.io.submission().push(&entry) }.is_err() {
            self.enter(0);
            self.reap();
        }
    }

    fn enter(&mut self, want: usize) {
        check(self.io.submit_and_wait(want));
    }

    /// Takes out what has completed.
    fn reap(&mut self) {
        for completion in self.io.completion() {
            let slot = completion.user_data() as u32;
            match completion.user_data() & KINDS {
                WRITE => {
                    self.writes[slot as usize].result = result(&completion);
                    self.unanswered_count -= 1;
                }
                RECEIVE => {
                    let more = cqueue::more(completion.flags());
                    self.posted_count -= usize::from(!more);
                    self.events.push(Event::Received {
                        slot,
                        received: received(&mut self.buffers, &completion),
                        more,
                    });
                }
                CANCEL if completion.result() < 0 => self.events.push(Event::NotCancelled { slot }),
                WATCH => self.events.push(Event::Readable),
                _ => {}
            }
        }
    }

    /// # Errors
    ///
    /// If a receive does not stay posted: the kernel is older than 6.0, or forbids it. Before 6.1 the ring itself is refused.
    fn try_receive(&mut self) -> io::Result<()> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        self.post_receive(0, ours.as_fd());
        send(&theirs, b"corewire", SendFlags::NOSIGNAL)?;
        let mut theirs = Some(theirs);
        let mut events = Vec::new();
        let mut heard = false;
        while self.posted_count > 0 {
            self.wait(&mut events, &mut Vec::new());
            for event in events.drain(..) {
                if let Event::Received { received: Received::Bytes(filled), more, .. } = event {
                    heard = more && self.bytes(&filled) == b"corewire";
                    self.give(filled);
                }
                // Its end ends the receive.
                theirs = None;
            }
        }
        drop(theirs);
        self.shrink();
        if heard { Ok(()) } else { Err(Errno::OPNOTSUPP.into()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Both happen only where the thread panics: what the kernel may still touch is never used for anything else.
        if self.unanswered_count > 0 {
            std::mem::forget(std::mem::take(&mut self.writes));
        }
        if self.posted_count > 0 {
            self.buffers.leak();
        }
    }
}

/// # Panics
///
/// If the kernel refused what cannot be refused: the descriptor is open and the arguments are valid.
fn check(entered: io::Result<usize>) {
    if let Err(error) = entered {
        // Nothing was there, a signal came, too many completions wait, or there is no memory for a request now: all callers
        // look at what has completed, and ask again.
        let passes = [Errno::TIME, Errno::INTR, Errno::BUSY, Errno::AGAIN].map(Errno::raw_os_error);
        assert!(error.raw_os_error().is_some_and(|errno| passes.contains(&errno)), "io_uring_enter: {error}");
    }
}

fn result(completion: &cqueue::Entry) -> Result<usize, Errno> {
    usize::try_from(completion.result()).map_err(|_| Errno::from_raw_os_error(-completion.result()))
}

fn received(buffers: &mut Buffers, completion: &cqueue::Entry) -> Received {
    match (result(completion), cqueue::buffer_select(completion.flags())) {
        (Ok(len), Some(id)) if len > 0 => Received::Bytes(buffers.take(id, len)),
        (Ok(_), _) => Received::Eof,
        (Err(Errno::CANCELED), _) => Received::Cancelled,
        (Err(Errno::NOBUFS), _) => Received::NoBuffer,
        (Err(_), _) => Received::Broken,
    }
}

/// A peer that is gone must be an error here, not a signal to the process; and nobody waits for room.
const WRITE_FLAGS: i32 = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL).bits() as i32;

/// What an operation is, in the upper half of its user data; in the lower half is the slot or the position.
const KINDS: u64 = !0 << 32;
const RECEIVE: u64 = 0;
const CANCEL: u64 = 1 << 32;
const WRITE: u64 = 2 << 32;
const WATCH: u64 = 3 << 32;

/// The only group of buffers.
const BUFFER_GROUP: u16 = 0;
/// Operations that can be submitted at once; more go in several calls.
const SUBMISSION_ENTRIES: u32 = 1024;
/// Completions that can wait to be seen: one for each buffer and for each operation of one call, and room to spare.
const COMPLETION_ENTRIES: u32 = 4096;
