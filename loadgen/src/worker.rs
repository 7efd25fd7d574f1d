//! One worker: a pinned thread, a monoio runtime, and the one loop that all scenarios run in.
//!
//! A reader and a writer task per link move bytes, and the pacer keeps time: it hands out due messages, notices
//! phases, and either sleeps until the next moment or spins.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use corewire::connection::{Event, Input, Limits, Random, Tick, Workspace};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::TcpStream;
use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};
use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::board::{Board, Timetable};
use crate::clock::Clock;
use crate::link::{Desk, LinkState, Reading};
use crate::observe::Observer;
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::tally::{Interval, Tally, Window};
use crate::transport::{self, Dial, OpenError, Opened, io_kind};

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
        monoio::spawn(pace(Rc::clone(&worker))).await;
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

/// Where a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Connections are being opened.
    Opening,
    /// The other workers are not ready yet.
    Waiting,
    Running(Timetable),
    /// Nothing is sent any more; answers still come.
    Draining(Timetable),
    /// Connections are being closed: politely until the first moment, by force until the second.
    Closing {
        cut_ns: u64,
        give_up_ns: u64,
    },
    Done,
}

struct Worker {
    assignment: Assignment,
    dial: Rc<Dial>,
    desk: Desk,
    scenario: Box<dyn Scenario>,
    observer: Option<Observer>,
    board: Arc<Board>,
    phase: Phase,
    /// Links of the first wave that have been asked for.
    asked: usize,
    ramp: Option<Schedule>,
    /// Opening now.
    opening: usize,
    next_tick_ns: u64,
    start_ns: u64,
    seconds_told: usize,
    marks: Vec<Mark>,
    busy_ns: u64,
    random: Random,
}

impl Worker {
    fn new(
        assignment: Assignment,
        dial: Dial,
        scenario: Box<dyn Scenario>,
        observer: Option<Observer>,
        clock: Clock,
        board: Arc<Board>,
    ) -> Self {
        let limits = Limits {
            message_bytes_max: assignment.message_bytes_max,
            frame_bytes_max: assignment.message_bytes_max,
            idle_timeout: Duration::ZERO,
            ping_interval: Duration::ZERO,
            ..Limits::default()
        };
        let workspace = Workspace::new(limits, assignment.seed);
        let ramp = assignment
            .ramp_per_second
            .map(|rate| Schedule::new(clock.now_ns(), rate, assignment.index, assignment.worker_count));
        Self {
            desk: Desk::new(clock, assignment.link_count, workspace),
            random: Random::new(assignment.seed ^ 0x5eed),
            assignment,
            dial: Rc::new(dial),
            scenario,
            observer,
            board,
            phase: Phase::Opening,
            asked: 0,
            ramp,
            opening: 0,
            next_tick_ns: 0,
            start_ns: 0,
            seconds_told: 0,
            marks: Vec::new(),
            busy_ns: 0,
        }
    }

    fn harvest(&mut self) -> Harvest {
        let tally = std::mem::replace(&mut self.desk.tally, Tally::new());
        Harvest { window: tally.window, tally, marks: std::mem::take(&mut self.marks) }
    }

    // ---- time --------------------------------------------------------------------------------------------------

    /// Does what is due at `now_ns`.
    fn advance(&mut self, now_ns: u64) {
        self.desk.now_ns = now_ns;
        match self.phase {
            Phase::Opening => self.advance_opening(),
            Phase::Waiting => self.advance_waiting(),
            Phase::Running(timetable) => self.advance_running(timetable),
            Phase::Draining(timetable) => {
                if self.scenario.is_drained() || now_ns >= timetable.drained_by_ns {
                    self.scenario.on_finish(&mut self.desk);
                    self.begin_closing();
                }
            }
            Phase::Closing { cut_ns, give_up_ns } => self.advance_closing(cut_ns, give_up_ns),
            Phase::Done => {}
        }
        if now_ns >= self.next_tick_ns {
            self.next_tick_ns = now_ns + TICK_NS;
            self.tick();
        }
    }

    fn advance_opening(&mut self) {
        while self.asked < self.assignment.open_first {
            let may_open = match &mut self.ramp {
                Some(ramp) => ramp.take_due(self.desk.now_ns).is_some(),
                None => self.opening + self.desk.wanted.len() < OPENING_MAX,
            };
            if !may_open {
                break;
            }
            self.desk.open(self.asked);
            self.asked += 1;
        }
        if self.asked == self.assignment.open_first && self.opening == 0 && self.desk.wanted.is_empty() {
            self.phase = Phase::Waiting;
            self.board.ready.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn advance_waiting(&mut self) {
        let Some(&timetable) = self.board.timetable.get() else { return };
        if self.desk.now_ns < timetable.start_ns {
            return;
        }
        self.phase = Phase::Running(timetable);
        self.start_ns = timetable.start_ns;
        self.desk.tally.window = timetable.window;
        let Assignment { index, worker_count, .. } = self.assignment;
        self.desk.schedule = self.scenario.schedule(timetable.start_ns, index, worker_count);
        if let Some(schedule) = self.desk.schedule.filter(|_| self.scenario.sends()) {
            let Window { from_ns, until_ns } = timetable.window;
            self.desk.tally.counts.planned = schedule.count_before(until_ns) - schedule.count_before(from_ns);
        }
        self.scenario.on_start(&mut self.desk);
    }

    fn advance_running(&mut self, timetable: Timetable) {
        let Window { from_ns, until_ns } = timetable.window;
        let last_ns = self.desk.now_ns.min(until_ns - 1);
        while let Some((number, intended_ns)) = self.desk.schedule.as_mut().and_then(|s| s.take_due(last_ns)) {
            self.scenario.on_due(number, intended_ns, &mut self.desk);
        }
        if self.marks.is_empty() && self.desk.now_ns >= from_ns {
            self.mark();
        }
        if self.desk.now_ns >= until_ns {
            self.mark();
            self.scenario.on_stop(&mut self.desk);
            self.phase = Phase::Draining(timetable);
        }
    }

    fn advance_closing(&mut self, cut_ns: u64, give_up_ns: u64) {
        let now_ns = self.desk.now_ns;
        if (self.desk.live == 0 && self.opening == 0) || now_ns >= give_up_ns {
            self.phase = Phase::Done;
        } else if now_ns >= cut_ns {
            for slot in 0..self.desk.links.len() {
                self.desk.cut(slot);
            }
        }
    }

    fn begin_closing(&mut self) {
        let now_ns = self.desk.now_ns;
        self.phase = Phase::Closing { cut_ns: now_ns + CLOSE_NS, give_up_ns: now_ns + 2 * CLOSE_NS };
        self.desk.wanted.clear();
        for slot in 0..self.desk.links.len() {
            if self.assignment.raw {
                // Without WebSocket there is no Close that would be answered.
                self.desk.finish(slot);
            } else {
                self.desk.close(slot);
            }
        }
    }

    fn tick(&mut self) {
        if self.board.has_failed() && !matches!(self.phase, Phase::Closing { .. } | Phase::Done) {
            self.begin_closing();
        }
        if let Phase::Running(timetable) = &mut self.phase {
            if self.board.stop.load(Ordering::Relaxed) && self.desk.now_ns < timetable.window.until_ns {
                let left_ns = timetable.window.until_ns - self.desk.now_ns;
                timetable.window.until_ns = self.desk.now_ns.max(timetable.window.from_ns);
                timetable.drained_by_ns -= left_ns;
                self.desk.tally.window = timetable.window;
                if let Some(schedule) = self.desk.schedule.filter(|_| self.scenario.sends()) {
                    let Window { from_ns, until_ns } = timetable.window;
                    self.desk.tally.counts.planned = schedule.count_before(until_ns) - schedule.count_before(from_ns);
                }
            }
            self.scenario.on_tick(&mut self.desk);
        } else if matches!(self.phase, Phase::Draining(_)) {
            self.scenario.on_tick(&mut self.desk);
        }
        self.wake_overdue_openers();
        self.tell_second();
    }

    fn wake_overdue_openers(&mut self) {
        if self.opening == 0 {
            return;
        }
        let now_ns = self.desk.now_ns;
        for link in &mut self.desk.links {
            if let Some((waker, _)) = link.opener.take_if(|(_, give_up_ns)| *give_up_ns <= now_ns) {
                waker.wake();
            }
        }
    }

    /// Hands the last second over, once a second.
    fn tell_second(&mut self) {
        if !matches!(self.phase, Phase::Running(_) | Phase::Draining(_)) {
            return;
        }
        let second = ((self.desk.now_ns - self.start_ns) / 1_000_000_000) as usize;
        if second > self.seconds_told {
            let mut interval = std::mem::replace(&mut self.desk.tally.interval, Interval::new());
            interval.open = self.desk.open_count() as u64;
            self.board.add_second(second - 1, &interval);
            self.seconds_told = second;
        }
    }

    fn mark(&mut self) {
        let cpu = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
        let observed = self.observer.as_mut().and_then(|observer| observer.observe().ok());
        self.marks.push(Mark {
            at_ns: self.desk.clock.now_ns(),
            worker_cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64,
            worker_busy_ns: self.busy_ns,
            observed,
        });
    }

    /// The moment after which something may be due that no message announces.
    fn next_wake_ns(&self) -> u64 {
        let next_ns = match self.phase {
            Phase::Running(Timetable { window, .. }) => {
                let due_ns = self.desk.schedule.map_or(u64::MAX, |schedule| schedule.next_ns());
                let edge_ns = if self.marks.is_empty() { window.from_ns } else { window.until_ns };
                due_ns.min(edge_ns)
            }
            Phase::Opening => self.ramp.map_or(self.desk.now_ns + OPENING_POLL_NS, |ramp| ramp.next_ns()),
            Phase::Waiting | Phase::Draining(_) | Phase::Closing { .. } => self.desk.now_ns + OPENING_POLL_NS,
            Phase::Done => 0,
        };
        next_ns.min(self.next_tick_ns)
    }

    // ---- what links tell ---------------------------------------------------------------------------------------

    fn handle_opened(&mut self, slot: usize, opened: Result<Opened, OpenError>) -> Option<Tasks> {
        self.opening -= 1;
        self.desk.now_ns = self.desk.clock.now_ns();
        match opened {
            Ok(_) if matches!(self.phase, Phase::Closing { .. } | Phase::Done) => {
                self.desk.links[slot].state = LinkState::Vacant;
                None
            }
            Ok(Opened { stream, connection, tls, leftover, facts }) => {
                let link = &mut self.desk.links[slot];
                link.occupy(connection, tls, stream.as_raw_fd());
                let generation = link.generation;
                self.desk.live += 1;
                self.desk.tally.counts.opened += 1;
                self.desk.tally.counts.resumed += u64::from(facts.tls_resumed);
                self.desk.tally.opening.saturating_record(facts.total_ns);
                self.scenario.on_open(slot, &mut self.desk);
                let (read_half, write_half) = stream.into_split();
                Some(Tasks { slot, generation, read_half, write_half, leftover })
            }
            Err(error) => {
                self.desk.links[slot].state = LinkState::Vacant;
                self.desk.tally.error(&error.kind(), || error.to_string());
                if self.scenario.needs_every_link() && matches!(self.phase, Phase::Opening) {
                    let opened = self.desk.tally.counts.opened;
                    let before = if opened > 0 { format!("after {opened} connections: ") } else { String::new() };
                    self.board.fail(format!("{before}{error}"));
                }
                self.scenario.on_open_failed(slot, &error, &mut self.desk);
                None
            }
        }
    }

    /// Bytes have arrived on `slot`.
    fn handle_input(&mut self, slot: usize, bytes: &mut [u8]) {
        let now_ns = self.desk.clock.now_ns();
        if let Phase::Running(timetable) = self.phase
            && (now_ns >= timetable.window.until_ns || (self.marks.is_empty() && now_ns >= timetable.window.from_ns))
        {
            self.advance(now_ns);
        }
        self.desk.now_ns = now_ns;
        self.desk.activity += 1;
        match self.desk.links[slot].tls.take() {
            None => self.handle_plaintext(slot, bytes),
            Some(mut tls) => {
                let mut plaintext = Vec::new();
                let mut reply = std::mem::take(&mut self.desk.links[slot].sealed);
                let result = tls.open(bytes, &mut plaintext, &mut reply);
                let link = &mut self.desk.links[slot];
                link.sealed = reply;
                link.tls = Some(tls);
                link.wake_writer();
                self.handle_plaintext(slot, &mut plaintext);
                if let Err(error) = result {
                    self.desk.tally.error("tls", || error.to_string());
                    self.desk.cut(slot);
                }
            }
        }
    }

    fn handle_plaintext(&mut self, slot: usize, bytes: &mut [u8]) {
        let Self { desk, scenario, .. } = self;
        // Out of its place meanwhile, so that the scenario may use the desk.
        let Some(mut connection) = desk.links[slot].connection.take() else { return };
        let mut input = Input::new(bytes);
        while let Some(event) = connection.poll_event(&mut input, &mut desk.workspace, Tick(0)) {
            match event {
                Event::Message(message) => scenario.on_message(slot, message.kind(), message.bytes(), desk),
                Event::Pong(payload) => scenario.on_pong(slot, payload.bytes(), desk),
                Event::Closed(closed) if desk.links[slot].state == LinkState::Open => {
                    desk.tally.error(&format!("closed_{}", closed.code.0), || {
                        format!(
                            "the server closed a connection: {:?}, {:?} {}",
                            closed.cause, closed.code, closed.reason
                        )
                    });
                }
                Event::Closed(_) | Event::Ping(_) => {}
                Event::Head(_) | Event::BadHead(_) | Event::Abandoned(_) => {
                    unreachable!("the handshake was over before this connection was made")
                }
            }
        }
        connection.end_input(&mut input, &mut desk.workspace);
        let link = &mut desk.links[slot];
        link.restore(connection, &mut desk.workspace);
        if link.wants_fin() {
            desk.finish(slot);
        }
    }

    /// The reader has ended: the peer left, or the transport broke.
    fn handle_gone(&mut self, slot: usize, result: io::Result<()>) {
        self.desk.now_ns = self.desk.clock.now_ns();
        if self.desk.links[slot].state == LinkState::Open {
            match result {
                Ok(()) => self
                    .desk
                    .tally
                    .error("closed_without_close", || "the server ended a connection without a Close frame".to_owned()),
                Err(error) => self.desk.tally.error(&io_kind(&error), || error.to_string()),
            }
        }
        self.desk.links[slot].vacate();
        self.desk.live -= 1;
        self.scenario.on_gone(slot, &mut self.desk);
    }
}

// ---- tasks -------------------------------------------------------------------------------------------------------

/// A link's tasks, to be started.
struct Tasks {
    slot: usize,
    generation: u32,
    read_half: OwnedReadHalf<TcpStream>,
    write_half: OwnedWriteHalf<TcpStream>,
    leftover: Vec<u8>,
}

/// Keeps time, and opens what is wanted, until the worker is done.
async fn pace(worker: Rc<RefCell<Worker>>) {
    let clock = worker.borrow().desk.clock;
    let spin = worker.borrow().assignment.spin;
    let mut timer = Timer::new().expect("a timer needs one descriptor, and room for it was kept");
    // Never set again: waiting for it is waiting for nothing but everybody else's turn.
    let mut past = Timer::new().expect("a timer needs one descriptor, and room for it was kept");
    past.sleep(Duration::ZERO).await;
    let mut turn_ns = clock.now_ns();
    let mut activity = 0;
    loop {
        let now_ns = clock.now_ns();
        let wake_ns = {
            let mut worker = worker.borrow_mut();
            worker.advance(now_ns);
            if worker.phase == Phase::Done {
                break;
            }
            if worker.desk.activity != activity {
                activity = worker.desk.activity;
                worker.busy_ns += now_ns - turn_ns;
            }
            worker.next_wake_ns()
        };
        turn_ns = now_ns;
        start_opening(&worker);
        if spin {
            // A task that woke itself would be run before all others, for ever.
            past.expired().await;
        } else {
            timer.sleep(clock.until(wake_ns)).await;
        }
    }
    // Streams close with an operation of the ring: it must be submitted before the ring ends.
    timer.sleep(Duration::from_millis(2)).await;
}

/// Starts what scenarios have asked for meanwhile.
fn start_opening(worker: &Rc<RefCell<Worker>>) {
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
    let (source, mut random, seed) = {
        let mut worker = worker.borrow_mut();
        let sources = &worker.assignment.sources;
        let source = (!sources.is_empty()).then(|| sources[slot % sources.len()]);
        let (key_seed, seed) = (worker.random.next_u64(), worker.random.next_u64());
        (source, Random::new(key_seed), seed)
    };
    // A workspace of its own for the one value that it makes: the worker's cannot be held across an await.
    let mut workspace = Workspace::new(Limits { ping_interval: Duration::ZERO, ..Limits::default() }, seed);
    let opening = transport::open(&dial, source, &mut random, &mut workspace);
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
    let link = &mut worker.desk.links[slot];
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

/// Sleeps to the microsecond: the runtime's own timers know milliseconds.
struct Timer {
    stream: TcpStream,
    /// The same timer, to be set and read.
    descriptor: OwnedFd,
}

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let stream = TcpStream::from_std(descriptor.try_clone()?.into())?;
        Ok(Self { stream, descriptor })
    }

    async fn sleep(&mut self, span: Duration) {
        // Zero would switch it off.
        let span = span.max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: span.as_secs() as i64, tv_nsec: i64::from(span.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        rustix::time::timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)
            .expect("a positive time is a good time");
        self.expired().await;
    }

    /// Waits for the moment that was set. Setting another takes back an expiry that nobody has read; without that,
    /// it has expired for good and this is one turn of the loop.
    async fn expired(&self) {
        // An error would come again, and then the loop merely spins.
        let _ = self.stream.readable(false).await;
    }
}

/// A hundredth of a second.
const TICK_NS: u64 = 10_000_000;
/// How often it is looked whether the phase is over, where nothing announces it.
const OPENING_POLL_NS: u64 = 500_000;
/// Connections being opened at once, where no ramp says otherwise: fewer than servers' backlogs hold.
const OPENING_MAX: usize = 64;
/// For the closing handshakes at the end, and then for what is cut.
const CLOSE_NS: u64 = 1_000_000_000;
/// What a read may grow to.
const READ_BYTES_MAX: usize = 256 << 10;
/// Operations that can be submitted at once; more go in several enters.
const SUBMISSION_ENTRIES: u32 = 4096;
/// Completions that can wait to be seen.
const COMPLETION_ENTRIES: u32 = 32 << 10;
