//! A core's loop: wait, hand out what happened, and at the end of the turn settle every connection it touched.
//!
//! Nothing is written while anything is decided. A connection with something to say goes on the list of the
//! touched, once, however many messages it got; when nothing more has happened the list is gone through, and each
//! connection gets one write, its FIN, its close or another interest.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::clock::Clock;
use super::envelope::Envelope;
use super::hot::{self, HotTable};
use super::kernel::{self, Accepted, BellFd, EpollSet, Interest, Read, Ready, Timer, Token, Written};
use super::listener::{self, Listener};
use super::runtime::{CoreRuntime, DriverChoice, Rung};
use super::state::{Order, ShardOptions, State};
use super::temperature::Thermostat;
use crate::connection::{NextStep, Span, Tick};
use crate::handler::Handler;
use crate::mesh::{Mailbox, Outside, Post};

/// What a core is made of.
pub(crate) struct CoreOptions {
    pub(crate) shard: ShardOptions,
    pub(crate) driver: DriverChoice,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) bell: BellFd,
    pub(crate) post: Post<Envelope>,
    pub(crate) mailbox: Mailbox<Envelope>,
    pub(crate) outside: Outside<Envelope>,
    /// Makes every connection hot at its first read and cold as soon as the sweep comes by, to test the flips.
    pub(crate) restless: bool,
}

/// A core that is ready to run, on the thread it was made on.
pub(crate) struct Core<H: Handler> {
    runtime: CoreRuntime,
    shard: Rc<RefCell<Shard<H>>>,
}

impl<H: Handler> Core<H> {
    /// Makes the runtime and the shard.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the driver that was asked for, or descriptors for the core itself.
    pub(crate) fn new(handler: H, options: CoreOptions) -> io::Result<Self> {
        let runtime = CoreRuntime::build(options.driver)?;
        let metrics = options.shard.metrics.clone();
        metrics.driver_rung.set(runtime.rung.number());
        let mut shard = Shard {
            epoll: EpollSet::new()?,
            timer: Timer::new()?,
            armed_at: Tick::NEVER,
            clock: Clock::start(),
            thermostat: thermostat(runtime.rung, options.restless),
            rung: runtime.rung,
            sockets: Vec::new(),
            listeners: options.listeners,
            accepting: Accepting::Open,
            bell: options.bell,
            mailbox: options.mailbox,
            buffer: vec![0; COLD_BUFFER_BYTES].into_boxed_slice(),
            ready: Vec::new(),
            hot: HotTable::new(),
            waker: None,
            stopping: false,
            state: State::new(handler, options.shard, options.post, options.outside, Tick::default()),
        };
        shard.watch()?;
        Ok(Self { runtime, shard: Rc::new(RefCell::new(shard)) })
    }

    /// Which rung of the ladder it stands on, and what refused the better ones.
    pub(crate) fn rung(&self) -> (Rung, Option<&io::Error>) {
        (self.runtime.rung, self.runtime.refusal.as_ref())
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    ///
    /// If the runtime cannot wait on the core's epoll set.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let set = self.shard.borrow().epoll.try_clone()?;
        let shard = self.shard;
        self.runtime.block_on(async move {
            let set = monoio::net::TcpStream::from_std(listener::as_stream(set))?;
            while !shard.borrow().is_done() {
                turn(&shard, &set).await?;
            }
            Ok(())
        })
    }
}

/// Waits until something is ready in the set, settling meanwhile what hot connections touch.
async fn turn<H: Handler>(shard: &Rc<RefCell<Shard<H>>>, set: &monoio::net::TcpStream) -> io::Result<()> {
    // `readable(true)` would hang on the epoll driver, where relaxed readiness is never cleared.
    let mut readable = pin!(set.readable(false));
    let outcome = poll_fn(|cx| {
        // The runtime polls this after all tasks that were woken have run: the end of a turn.
        settle_all(shard);
        let mut this = shard.borrow_mut();
        if this.is_done() {
            return Poll::Ready(Ok(()));
        }
        this.waker = Some(cx.waker().clone());
        drop(this);
        readable.as_mut().poll(cx)
    })
    .await;
    shard.borrow_mut().take_ready();
    outcome
}

/// Gives every connection that was touched what it needs, and starts the tasks of those that became hot.
fn settle_all<H: Handler>(shard: &Rc<RefCell<Shard<H>>>) {
    let mut this = shard.borrow_mut();
    this.settle_touched();
    while let Some(start) = this.hot.pop_start() {
        monoio::spawn(hot::run(shard.clone(), start));
    }
}

/// Everything of one core. Borrowed only between two awaits.
pub(super) struct Shard<H: Handler> {
    pub(super) state: State<H>,
    pub(super) hot: HotTable,
    pub(super) clock: Clock,
    sockets: Vec<Socket>,
    epoll: EpollSet,
    timer: Timer,
    armed_at: Tick,
    listeners: Vec<Listener>,
    accepting: Accepting,
    bell: BellFd,
    mailbox: Mailbox<Envelope>,
    /// What every cold connection is read into.
    buffer: Box<[u8]>,
    ready: Vec<Ready>,
    thermostat: Thermostat,
    rung: Rung,
    /// Wakes the core's loop when a hot connection touched something.
    waker: Option<Waker>,
    stopping: bool,
}

/// The socket of a connection.
#[derive(Default)]
pub(super) struct Socket {
    fd: Option<OwnedFd>,
    temperature: Temperature,
    watched: Watched,
    /// The kernel's buffer was full; nothing is written until the set says that there is room.
    blocked: bool,
}

/// Whether a connection has a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Temperature {
    #[default]
    Cold,
    /// Its slot in the table of hot connections.
    Hot(u32),
}

/// What the epoll set watches a socket for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Watched {
    /// It is not in the set.
    #[default]
    Nothing,
    For(Interest),
}

/// Whether listeners are in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Open,
    /// Descriptors ran out; tried again at this tick, or as soon as a connection ends.
    Paused {
        until: Tick,
    },
    Closed,
}

impl<H: Handler> Shard<H> {
    fn watch(&mut self) -> io::Result<()> {
        let input = Interest { input: true, output: false };
        self.epoll.add(&self.bell, Token::Bell, input)?;
        self.epoll.add(&self.timer, Token::Timer, input)?;
        self.watch_listeners()?;
        Ok(())
    }

    fn watch_listeners(&mut self) -> rustix::io::Result<()> {
        for (place, listener) in self.listeners.iter().enumerate() {
            let token = Token::Listener(place as u32);
            if listener.shared {
                self.epoll.add_exclusive(listener, token)?;
            } else {
                self.epoll.add(listener, token, Interest { input: true, output: false })?;
            }
        }
        Ok(())
    }

    /// A task that is left holds the shard, and its receive the socket: neither would ever be let go.
    fn is_done(&self) -> bool {
        let drained = self.accepting == Accepting::Closed && self.state.core_ref().is_drained();
        (self.stopping || drained) && self.hot.is_empty()
    }

    // ---- what happened -------------------------------------------------------------------------------------

    /// Hands out everything that is ready.
    fn take_ready(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        self.epoll.poll(&mut ready);
        self.begin_turn();
        for event in ready.drain(..) {
            match event.token {
                Token::Connection { index, generation } => {
                    if self.state.core().generation(index) == generation {
                        self.handle_socket(index, event);
                    }
                }
                Token::Listener(place) => self.accept(place),
                Token::Bell => self.handle_bell(),
                Token::Timer => self.handle_timer(),
            }
        }
        self.ready = ready;
    }

    /// Reads the clock, once for everything that happens in this turn.
    pub(super) fn begin_turn(&mut self) {
        self.state.set_now(self.clock.now());
        self.state.core().metrics().turns.add(1);
    }

    fn handle_socket(&mut self, index: u32, ready: Ready) {
        if ready.output {
            self.handle_room(index);
        }
        let cold = self.sockets[index as usize].temperature == Temperature::Cold;
        if ready.input && cold {
            self.read_cold(index);
        } else if ready.broken && cold {
            self.state.handle_reset(index);
        } else if ready.ended {
            // If it is hot, the receive that is posted tells the same. If it is cold and not read at present, its
            // last words wait until it is, and are watched for again then; until then it would be ready for ever.
            self.unwatch(index);
        }
    }

    fn read_cold(&mut self, index: u32) {
        let Some(fd) = &self.sockets[index as usize].fd else { return };
        match kernel::read(fd.as_fd(), &mut self.buffer) {
            Read::Bytes(len) => {
                self.state.handle_input(index, &mut self.buffer[..len]);
                let filled = len == self.buffer.len();
                if self.state.note_cold_read(index, filled, &self.thermostat) {
                    self.promote(index, len);
                }
            }
            Read::Nothing => {}
            Read::Eof => self.state.handle_eof(index),
            Read::Broken => self.state.handle_reset(index),
        }
    }

    /// The socket has room again.
    fn handle_room(&mut self, index: u32) {
        let socket = &mut self.sockets[index as usize];
        if std::mem::take(&mut socket.blocked) {
            self.state.core().progress(index);
            self.settle(index);
            if !self.sockets[index as usize].blocked {
                self.state.handle_writable(index);
            }
        }
    }

    fn handle_bell(&mut self) {
        self.bell.answer();
        for order in self.state.handle_mailbox(&mut self.mailbox) {
            match order {
                Order::CloseListeners => self.close_listeners(),
                Order::Stop => {
                    self.stopping = true;
                    self.hot.cancel_all();
                }
            }
        }
    }

    fn handle_timer(&mut self) {
        self.timer.answer();
        self.armed_at = Tick::NEVER;
        let now = self.clock.now();
        self.state.handle_timers();
        if let Accepting::Paused { until } = self.accepting
            && now >= until
        {
            self.resume_accepting();
        }
        self.hot.sweep_if_due(now);
    }

    // ---- accepting -----------------------------------------------------------------------------------------

    fn accept(&mut self, place: u32) {
        for _ in 0..ACCEPTS_PER_TURN {
            if self.accepting != Accepting::Open || !self.accept_one(place) {
                return;
            }
        }
    }

    /// Answers whether another may be waiting.
    fn accept_one(&mut self, place: u32) -> bool {
        let Some(listener) = self.listeners.get(place as usize) else { return false };
        match kernel::accept(listener.as_fd(), !self.rung.has_ring()) {
            Accepted::Socket(fd, peer) => {
                if let Some(index) = self.state.handle_accept(peer) {
                    self.adopt(index, fd);
                }
                true
            }
            Accepted::Nothing => false,
            Accepted::Left => {
                self.state.core().metrics().accept_errors.add(1);
                true
            }
            Accepted::Exhausted(errno) => {
                self.pause_accepting(errno);
                false
            }
        }
    }

    fn adopt(&mut self, index: u32, fd: OwnedFd) {
        let place = index as usize;
        if self.sockets.len() <= place {
            self.sockets.resize_with(place + 1, Socket::default);
        }
        self.sockets[place] = Socket { fd: Some(fd), ..Socket::default() };
        self.set_interest(index, Interest { input: true, output: false });
    }

    /// Says once what ran out, and stops asking for a while: the listener would be ready again at once, for ever.
    fn pause_accepting(&mut self, errno: rustix::io::Errno) {
        let metrics = self.state.core().metrics();
        metrics.accept_errors.add(1);
        metrics.accept_pauses.add(1);
        let mend = if kernel::is_own_limit(errno) {
            "raise the limit of open files (ulimit -n, or LimitNOFILE= of the service)"
        } else {
            "raise fs.file-max, or give the machine more memory"
        };
        tracing::warn!(error = %errno, mend, "accepting pauses until a connection ends, at most {ACCEPT_PAUSE:?}");
        for listener in &self.listeners {
            let _ = self.epoll.delete(listener);
        }
        self.accepting = Accepting::Paused { until: self.clock.now().after(ACCEPT_PAUSE) };
    }

    fn resume_accepting(&mut self) {
        match self.watch_listeners() {
            Ok(()) => self.accepting = Accepting::Open,
            Err(_) => self.accepting = Accepting::Paused { until: self.clock.now().after(ACCEPT_PAUSE) },
        }
    }

    /// Whoever stands in a queue already is served; then nobody can come any more.
    fn close_listeners(&mut self) {
        self.accepting = Accepting::Open;
        for place in 0..self.listeners.len() as u32 {
            while self.accepting == Accepting::Open && self.accept_one(place) {}
        }
        for listener in self.listeners.drain(..) {
            let _ = self.epoll.delete(&listener);
        }
        self.accepting = Accepting::Closed;
    }

    // ---- the end of the turn -------------------------------------------------------------------------------

    fn settle_touched(&mut self) {
        self.state.core().catch_up();
        while let Some(index) = self.state.pop_touched() {
            self.settle(index);
        }
        self.arm_timer();
    }

    /// Writes, ends or watches one connection, as it needs.
    fn settle(&mut self, index: u32) {
        while let Some(step) = self.state.settle(index) {
            match step {
                NextStep::Wait => break,
                NextStep::Write if self.sockets[index as usize].blocked => break,
                NextStep::Write => self.write(index),
                NextStep::Fin => {
                    if let Some(fd) = &self.sockets[index as usize].fd {
                        kernel::shutdown_write(fd.as_fd());
                    }
                    if let Some(connection) = self.state.core().connection_mut(index) {
                        connection.fin_sent();
                    }
                }
                NextStep::Close => return self.close(index),
            }
        }
        self.update_interest(index);
    }

    fn write(&mut self, index: u32) {
        let socket = &mut self.sockets[index as usize];
        let (Some(fd), Some(connection)) = (&socket.fd, self.state.core().connection_mut(index)) else { return };
        let Some(outbox) = connection.poll_transmit() else { return };
        let written = kernel::write(fd.as_fd(), outbox);
        let metrics = self.state.core().metrics();
        metrics.writes_direct.add(1);
        match written {
            Written::All(len) => metrics.bytes_out.add(len as u64),
            Written::Some(len) => {
                metrics.bytes_out.add(len as u64);
                socket.blocked = true;
            }
            Written::Broken => {
                self.state.handle_reset(index);
            }
        }
    }

    fn update_interest(&mut self, index: u32) {
        let wants_input = self.state.core().wants_input(index);
        let Some(socket) = self.sockets.get(index as usize).filter(|socket| socket.fd.is_some()) else { return };
        let output = socket.blocked;
        match socket.temperature {
            Temperature::Cold => self.set_interest(index, Interest { input: wants_input, output }),
            // Its input comes through the ring.
            Temperature::Hot(_) if output => self.set_interest(index, Interest { input: false, output: true }),
            Temperature::Hot(_) => self.unwatch(index),
        }
    }

    fn set_interest(&mut self, index: u32, interest: Interest) {
        let token = Token::Connection { index, generation: self.state.core().generation(index) };
        let socket = &mut self.sockets[index as usize];
        let Some(fd) = &socket.fd else { return };
        let result = match socket.watched {
            Watched::For(watched) if watched == interest => return,
            Watched::For(_) => self.epoll.modify(fd, token, interest),
            Watched::Nothing => self.epoll.add(fd, token, interest),
        };
        match result {
            Ok(()) => socket.watched = Watched::For(interest),
            Err(error) => {
                // Only memory or the limit of watches can be missing; unwatched, the peer would hang for ever.
                tracing::warn!(%error, "a connection cannot be watched and is dropped");
                self.state.handle_reset(index);
            }
        }
    }

    fn unwatch(&mut self, index: u32) {
        let socket = &mut self.sockets[index as usize];
        if let (Watched::For(_), Some(fd)) = (socket.watched, &socket.fd) {
            let _ = self.epoll.delete(fd);
            socket.watched = Watched::Nothing;
        }
    }

    fn close(&mut self, index: u32) {
        if let Temperature::Hot(slot) = self.sockets[index as usize].temperature {
            // Its task holds a receive on the socket: that must come back first. The task then closes.
            self.hot.cancel(slot);
            return;
        }
        // Closing takes it out of the set as well.
        self.sockets[index as usize] = Socket::default();
        self.state.release(index);
        if let Accepting::Paused { .. } = self.accepting {
            self.resume_accepting();
        }
    }

    /// Sets the timer if something is due earlier than what it is set to.
    fn arm_timer(&mut self) {
        let congested = self.state.core().is_congested();
        let pause = match self.accepting {
            Accepting::Paused { until } => Some(until),
            Accepting::Open | Accepting::Closed => None,
        };
        let next = self.state.next_timer().into_iter().chain(pause).chain(self.hot.next_sweep()).min();
        if congested && self.armed_at != CONGESTED {
            // Another core's ring is full, and it does not tell when it has room.
            self.timer.arm(Duration::from_millis(1));
            self.armed_at = CONGESTED;
        } else if let Some(next) = next.filter(|&next| next < self.armed_at) {
            self.timer.arm(self.clock.until(next));
            self.armed_at = next;
        }
    }

    // ---- temperature ---------------------------------------------------------------------------------------

    /// Takes a cold connection out of the set and gives it a task.
    fn promote(&mut self, index: u32, last_read_len: usize) {
        if self.stopping {
            return;
        }
        // Never post a receive while the set may still report the same bytes.
        self.unwatch(index);
        let socket = &mut self.sockets[index as usize];
        let Some(fd) = &socket.fd else { return };
        let generation = self.state.core().generation(index);
        let slot = self.hot.insert(index, generation, fd.as_fd(), last_read_len, self.clock.now());
        socket.temperature = Temperature::Hot(slot);
        let metrics = self.state.core().metrics();
        metrics.promotions.add(1);
        metrics.connections_hot.add(1);
    }

    /// A hot connection's task has ended and let go of the socket.
    pub(super) fn demote(&mut self, index: u32) {
        self.sockets[index as usize].temperature = Temperature::Cold;
        let metrics = self.state.core().metrics();
        metrics.demotions.add(1);
        metrics.connections_hot.sub(1);
        self.state.note_demotion(index);
        self.settle(index);
        self.wake();
    }

    /// Makes the core's loop take a turn: something was touched.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

fn thermostat(rung: Rung, restless: bool) -> Thermostat {
    let by_ring =
        Thermostat { promote_streak: PROMOTE_STREAK, streak_gap: Span::of(STREAK_GAP), promote_on_more: true };
    match rung {
        // Without a ring there is nothing to post a receive to.
        Rung::Epoll => Thermostat { promote_streak: u8::MAX, promote_on_more: false, ..by_ring },
        Rung::AllFlags | Rung::SomeFlags | Rung::Plain if restless => Thermostat { promote_streak: 0, ..by_ring },
        Rung::AllFlags | Rung::SomeFlags | Rung::Plain => by_ring,
    }
}

/// A read larger than this comes in pieces.
const COLD_BUFFER_BYTES: usize = 64 << 10;
/// Accepts in a row before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Longest pause after descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// A flip costs 4 to 6 µs and a hot message saves about 0.8 µs: it pays from the eighth.
const PROMOTE_STREAK: u8 = 8;
const STREAK_GAP: Duration = Duration::from_millis(50);
/// `armed_at` while the timer is set to the shortest span.
const CONGESTED: Tick = Tick(0);
