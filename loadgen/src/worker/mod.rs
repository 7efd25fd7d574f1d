//! One worker: a pinned thread, a monoio runtime, and the one loop that all scenarios run in.
//!
//! - `phases`: where a worker is, from the first connection to the last Close, and what is due when.
//! - `heard`: what links tell: opened, bytes, gone.
//! - `tasks`: the tasks of a link, which move bytes.
//! - `pacer`: keeps time: sleeps until the next moment, or spins.

mod heard;
mod pacer;
mod phases;
mod tasks;

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::board::Board;
use crate::clock::Clock;
use crate::observe::Observer;
use crate::scenario::Scenario;
use crate::tally::{Tally, Window};
use crate::transport::Dial;

use phases::Worker;

/// Of a link of this worker, without the question mark.
pub(crate) type QueryOf = Box<dyn Fn(usize) -> String + Send>;

/// What a worker is told.
pub(crate) struct Assignment {
    pub(crate) index: usize,
    pub(crate) worker_count: usize,
    /// The core to stay on.
    pub(crate) core: Option<usize>,
    /// Never sleep: the server pays nothing for waking us.
    pub(crate) spin: bool,
    /// No WebSocket: the server gives back our own frames.
    pub(crate) raw: bool,
    pub(crate) link_count: usize,
    /// Links opened before the start, from the first on.
    pub(crate) open_first: usize,
    /// Connections opened per second, all workers together; `None` as fast as they come.
    pub(crate) ramp_per_second: Option<f64>,
    /// Bytes asked for by one read, at first.
    pub(crate) read_bytes: usize,
    pub(crate) message_bytes_max: usize,
    /// Source addresses, link by link in turn; empty for the kernel's choice.
    pub(crate) sources: Vec<IpAddr>,
    /// What stands in the query of each link's URL, if that is not the same for all.
    pub(crate) query_of: Option<QueryOf>,
    pub(crate) seed: u64,
}

/// What a worker brings back.
pub(crate) struct Harvest {
    pub(crate) tally: Tally,
    pub(crate) window: Window,
    /// At the beginning and at the end of the window, as far as it came.
    pub(crate) marks: Vec<Mark>,
}

/// What was read at the edge of the window, between two messages.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) at_ns: u64,
    /// CPU that the worker's thread has used.
    pub(crate) worker_cpu_ns: u64,
    /// Time in turns that had something to do.
    pub(crate) worker_busy_ns: u64,
    pub(crate) observed: Option<crate::observe::Observed>,
}

/// Runs a worker to its end on this thread.
///
/// # Errors
///
/// If the thread cannot be pinned or has no runtime.
pub(crate) fn run(
    assignment: Assignment,
    dial: Dial,
    scenario: Box<dyn Scenario>,
    observer: Option<Observer>,
    clock: Clock,
    board: Arc<Board>,
) -> io::Result<Harvest> {
    if let Some(core) = assignment.core
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
    {
        return Err(io::Error::other(format!("cannot run on core {core}: it does not exist or is not allowed")));
    }
    let mut runtime = build_runtime()?;
    let dial = Dial { ring: matches!(runtime, FusionRuntime::Uring(_)), ..dial };
    Ok(runtime.block_on(async move {
        let worker = Rc::new(RefCell::new(Worker::new(assignment, dial, scenario, observer, clock, board)));
        // In a task of its own: a main future that wakes itself would keep the runtime from everything else.
        monoio::spawn(pacer::pace(Rc::clone(&worker))).await;
        worker.borrow_mut().harvest()
    }))
}

/// io_uring if the kernel allows it, else epoll.
fn build_runtime() -> io::Result<FusionRuntime<IoUringDriver, LegacyDriver>> {
    let mut flags = io_uring::IoUring::builder();
    flags.setup_cqsize(COMPLETION_ENTRIES).setup_coop_taskrun().setup_single_issuer();
    let ring = |flags| RuntimeBuilder::<IoUringDriver>::new().with_entries(SUBMISSION_ENTRIES).uring_builder(flags);
    let plain = io_uring::IoUring::builder();
    match ring(flags).build().or_else(|_| ring(plain).build()) {
        Ok(runtime) => Ok(FusionRuntime::Uring(runtime)),
        Err(_) => Ok(FusionRuntime::Legacy(RuntimeBuilder::<LegacyDriver>::new().build()?)),
    }
}

/// Operations that can be submitted at once; more go in several enters.
const SUBMISSION_ENTRIES: u32 = 4096;
/// Completions that can wait to be seen.
const COMPLETION_ENTRIES: u32 = 32 << 10;
