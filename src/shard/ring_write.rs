//! Writes that leave through the ring: many created in a row enter the kernel in one call.
//!
//! A write borrows nothing: it owns the outbox whose first segment it sends and a view of the socket, and gives
//! both back. A small send completes within the call that submits it, so the next turn finds nearly all done.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use monoio::buf::IoBuf;
use monoio::io::AsyncWriteRent;

use super::view::View;
use crate::connection::Outbox;

/// A write to be submitted.
pub(super) struct Start {
    pub(super) index: u32,
    pub(super) view: View,
    pub(super) outbox: Box<Outbox>,
}

/// A write that has completed.
pub(super) struct Done {
    pub(super) index: u32,
    pub(super) view: View,
    pub(super) outbox: Box<Outbox>,
    pub(super) result: io::Result<usize>,
}

/// The future of one write.
pub(super) async fn write(start: Start) -> Done {
    let Start { index, mut view, outbox } = start;
    let (result, front) = view.stream().write(Front(outbox)).await;
    Done { index, view, outbox: front.0, result }
}

/// Writes in flight. Their futures lie in boxes that are used again, so a write allocates nothing.
pub(super) struct RingWrites<F: Future<Output = Done>> {
    make: fn(Start) -> F,
    in_flight: Vec<Pin<Box<Option<F>>>>,
    spare: Vec<Pin<Box<Option<F>>>>,
}

impl<F: Future<Output = Done> + 'static> RingWrites<F> {
    pub(super) fn new(make: fn(Start) -> F) -> Self {
        Self { make, in_flight: Vec::new(), spare: Vec::new() }
    }

    /// Creates the write, which puts it in the submission queue.
    pub(super) fn start(&mut self, start: Start, cx: &mut Context<'_>, done: &mut impl FnMut(Done)) {
        let mut slot = self.spare.pop().unwrap_or_else(|| Box::pin(None));
        slot.set(Some((self.make)(start)));
        // The operation is submitted when its future is polled first.
        match poll_slot(&mut slot, cx) {
            Poll::Ready(finished) => {
                done(finished);
                self.keep(slot);
            }
            Poll::Pending => self.in_flight.push(slot),
        }
    }

    /// Hands out what has completed. What has not is a socket that is full: its future leaves for a task of its
    /// own, so that it is not asked again in every turn.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, done: &mut impl FnMut(Done), slow: &mut impl FnMut(Slow<F>)) {
        for mut slot in self.in_flight.drain(..) {
            match poll_slot(&mut slot, cx) {
                Poll::Ready(finished) => {
                    done(finished);
                    if self.spare.len() < SPARE_MAX {
                        self.spare.push(slot);
                    }
                }
                Poll::Pending => slow(Slow(slot)),
            }
        }
    }

    /// Frees the slots that are not in use.
    pub(super) fn shrink(&mut self) {
        self.spare = Vec::new();
        self.in_flight.shrink_to_fit();
    }

    fn keep(&mut self, slot: Pin<Box<Option<F>>>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(slot);
        }
    }
}

/// A write to a socket that is full.
pub(super) struct Slow<F>(Pin<Box<Option<F>>>);

impl<F: Future<Output = Done>> Future for Slow<F> {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        poll_slot(&mut self.0, cx)
    }
}

fn poll_slot<F: Future<Output = Done>>(slot: &mut Pin<Box<Option<F>>>, cx: &mut Context<'_>) -> Poll<Done> {
    let future = slot.as_mut().as_pin_mut().expect("a slot in flight holds a future");
    let polled = future.poll(cx);
    if polled.is_ready() {
        slot.set(None);
    }
    polled
}

/// The first segment of an outbox, as a buffer that the kernel reads.
struct Front(Box<Outbox>);

// SAFETY: the bytes lie on the heap, behind the box and behind the segment; neither is touched before the write has
// completed, because the operation owns this value until then.
unsafe impl IoBuf for Front {
    fn read_ptr(&self) -> *const u8 {
        self.0.front().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.front().len()
    }
}

/// Slots kept for the next turn.
const SPARE_MAX: usize = 4096;
