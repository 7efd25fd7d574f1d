//! The tasks of a link: one opens it and then reads, another writes.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use corewire::connection::{Limits, Random, Workspace};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt, OwnedReadHalf, OwnedWriteHalf};
use monoio::net::TcpStream;

use super::phases::Worker;
use crate::link::{Desk, LinkState, Reading};
use crate::transport::{self, Dial, OpenError};

/// A link's tasks, to be started.
pub(super) struct Tasks {
    pub(super) slot: usize,
    pub(super) generation: u32,
    pub(super) read_half: OwnedReadHalf<TcpStream>,
    pub(super) write_half: OwnedWriteHalf<TcpStream>,
    pub(super) leftover: Vec<u8>,
}

/// Starts what scenarios have asked for meanwhile.
pub(super) fn start_opening(worker: &Rc<RefCell<Worker>>) {
    if worker.borrow().desk.wanted.is_empty() {
        return;
    }
    let dial = Rc::clone(&worker.borrow().dial);
    let wanted = std::mem::take(&mut worker.borrow_mut().desk.wanted);
    for &slot in &wanted {
        worker.borrow_mut().opening += 1;
        monoio::spawn(open(Rc::clone(worker), Rc::clone(&dial), slot as usize));
    }
    // The list keeps its room.
    let kept = &mut worker.borrow_mut().desk.wanted;
    if kept.is_empty() {
        *kept = wanted;
        kept.clear();
    }
}

/// Opens a link and starts its tasks.
async fn open(worker: Rc<RefCell<Worker>>, dial: Rc<Dial>, slot: usize) {
    let (source, path, mut random, seed) = {
        let mut worker = worker.borrow_mut();
        let sources = &worker.assignment.sources;
        let source = (!sources.is_empty()).then(|| sources[slot % sources.len()]);
        let path = match &worker.assignment.query_of {
            None => dial.target.path.clone(),
            Some(query_of) => dial.target.path_with(&query_of(slot)),
        };
        let (key_seed, seed) = (worker.random.next_u64(), worker.random.next_u64());
        (source, path, Random::new(key_seed), seed)
    };
    // A workspace of its own for the one value that it makes: the worker's cannot be held across an await.
    let mut workspace = Workspace::new(Limits { ping_interval: Duration::ZERO, ..Limits::default() }, seed);
    let opening = transport::open(&dial, path, source, &mut random, &mut workspace);
    let result = within(&worker, slot, dial.timeout, opening).await.unwrap_or(Err(OpenError::TimedOut(dial.timeout)));
    let tasks = worker.borrow_mut().handle_opened(slot, result);
    start_opening(&worker);
    if let Some(Tasks { slot, generation, read_half, write_half, leftover }) = tasks {
        monoio::spawn(write(Rc::clone(&worker), slot, generation, write_half));
        read(worker, slot, generation, read_half, leftover).await;
    }
}

/// Hands over what arrives, until the end.
async fn read(
    worker: Rc<RefCell<Worker>>,
    slot: usize,
    generation: u32,
    mut half: OwnedReadHalf<TcpStream>,
    mut leftover: Vec<u8>,
) {
    let mut buffer = Vec::with_capacity(worker.borrow().assignment.read_bytes);
    if !leftover.is_empty() {
        worker.borrow_mut().handle_input(slot, &mut leftover);
    }
    drop(leftover);
    let result = loop {
        if worker.borrow().desk.links[slot].reading != Reading::Flowing {
            poll_fn(|cx| may_read(&worker, slot, cx)).await;
        }
        let (result, returned) = half.read(buffer).await;
        buffer = returned;
        match result {
            Ok(0) => break Ok(()),
            Ok(len) => worker.borrow_mut().handle_input(slot, &mut buffer[..len]),
            Err(error) => break Err(error),
        }
        // A read that fills its buffer was too small for the traffic.
        if buffer.len() == buffer.capacity() && buffer.len() < READ_BYTES_MAX {
            buffer = Vec::with_capacity(READ_BYTES_MAX);
        }
    };
    debug_assert_eq!(worker.borrow().desk.links[slot].generation, generation, "the place is ours until we leave it");
    worker.borrow_mut().handle_gone(slot, result);
    start_opening(&worker);
}

/// Ready when the link may be read.
fn may_read(worker: &Rc<RefCell<Worker>>, slot: usize, cx: &mut Context<'_>) -> Poll<()> {
    let mut worker = worker.borrow_mut();
    let link = &mut worker.desk.links[slot];
    match link.reading {
        Reading::Flowing => Poll::Ready(()),
        Reading::Stopped => {
            link.reader = Some(cx.waker().clone());
            Poll::Pending
        }
    }
}

/// Writes what is queued, until the link has finished.
async fn write(worker: Rc<RefCell<Worker>>, slot: usize, generation: u32, mut half: OwnedWriteHalf<TcpStream>) {
    let mut spare = Vec::new();
    while let Some(bytes) = poll_fn(|cx| take_outgoing(&worker, slot, generation, &mut spare, cx)).await {
        let (result, returned) = half.write_all(bytes).await;
        spare = returned;
        spare.clear();
        if result.is_err() {
            // The reader learns of it too, and tells.
            break;
        }
    }
}

fn take_outgoing(
    worker: &Rc<RefCell<Worker>>,
    slot: usize,
    generation: u32,
    spare: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<Option<Vec<u8>>> {
    let mut worker = worker.borrow_mut();
    let Desk { links, tally, now_ns, .. } = &mut worker.desk;
    let link = &mut links[slot];
    if link.generation != generation || link.state == LinkState::Vacant {
        return Poll::Ready(None);
    }
    if let Some(tls) = &mut link.tls
        && !link.outgoing.is_empty()
    {
        // A session that cannot write any more has failed, and the reader knows.
        let _ = tls.seal(&link.outgoing, &mut link.sealed);
        link.outgoing.clear();
    }
    let ready = if link.tls.is_some() { &mut link.sealed } else { &mut link.outgoing };
    if !ready.is_empty() {
        if tally.window.contains(*now_ns) {
            tally.wire.sent_bytes += ready.len() as u64;
        }
        return Poll::Ready(Some(std::mem::replace(ready, std::mem::take(spare))));
    }
    if link.state == LinkState::Finished {
        return Poll::Ready(None);
    }
    link.writer = Some(cx.waker().clone());
    Poll::Pending
}

/// The future's output, or `None` if it takes longer than `limit`; [`Worker::tick`] wakes it then.
async fn within<F: Future>(worker: &Rc<RefCell<Worker>>, slot: usize, limit: Duration, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let clock = worker.borrow().desk.clock;
    let give_up_ns = clock.now_ns() + limit.as_nanos() as u64;
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        let opener = &mut worker.borrow_mut().desk.links[slot].opener;
        *opener = None;
        match polled {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if clock.now_ns() >= give_up_ns => Poll::Ready(None),
            Poll::Pending => {
                *opener = Some((cx.waker().clone(), give_up_ns));
                Poll::Pending
            }
        }
    })
    .await
}

/// What a read may grow to.
const READ_BYTES_MAX: usize = 256 << 10;
