//! A core's loop: wait, hand out what happened, and at the end of the turn settle every connection it touched.
//!
//! Nothing is written while anything is decided. A connection with something to say goes on the list of the
//! touched, once, however many messages it got; when all that has happened is handed out the list is gone through, and each
//! connection gets one write, its FIN, its close or another interest. A long list takes several turns.

mod accepting;
mod calming;
mod receiving;
mod settling;
mod watching;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::clock::{Clock, unix_time};
use super::envelope::Envelope;
use super::hot::{HotSlot, HotTable};
use super::kernel::{self, BellFd, EpollSet, Interest, Read, Ready, Timer, Token};
use super::listener::Listener;
use super::paged::Paged;
use super::ring::{self, Ring};
use super::runtime::{CoreRuntime, DriverChoice, Rung};
use super::state::{Order, ShardOptions, State};
use super::temperature::{Load, Thermostat};
use crate::connection::{Connection, Span, Tick};
use crate::handler::Handler;
use crate::mesh::{Mailbox, Outside, Post};
use accepting::Accepting;
use settling::Gear;
use watching::Watched;

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
    /// Called on the core's thread after a wave of connections, when the core is calm.
    pub(crate) on_calm: Option<fn()>,
}

/// A core that is ready to run, on the thread it was made on.
pub(crate) struct Core<H: Handler> {
    runtime: CoreRuntime,
    shard: Shard<H>,
}

impl<H: Handler> Core<H> {
    /// Makes the runtime and the shard.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the driver that was asked for, or descriptors for the core itself.
    pub(crate) fn new(handler: H, options: CoreOptions) -> io::Result<Self> {
        let mut runtime = CoreRuntime::build(options.driver)?;
        let metrics = options.shard.metrics.clone();
        metrics.driver_rung.set(runtime.rung.number());
        let mut shard = Shard {
            epoll: EpollSet::new()?,
            timer: Timer::new()?,
            armed_at: Tick::NEVER,
            clock: Clock::start(),
            thermostat: thermostat(runtime.ring.is_some(), options.restless),
            ring: runtime.ring.take(),
            set_watched: false,
            events: Vec::new(),
            writes: Vec::new(),
            gear: Gear::Direct,
            sockets: Paged::default(),
            listeners: options.listeners,
            accepting: Accepting::Open,
            next_complaint: Tick::default(),
            bell: options.bell,
            mailbox: options.mailbox,
            buffer: vec![0; COLD_BUFFER_BYTES].into_boxed_slice(),
            ready: Vec::new(),
            hot: HotTable::default(),
            restless: options.restless,
            stopping: false,
            in_turn: false,
            reads: 0,
            load: Load::default(),
            calm: false,
            on_calm: options.on_calm,
            state: State::new(handler, options.shard, options.post, options.outside, Tick::default()),
        };
        shard.state.set_unix_time(unix_time());
        shard.watch()?;
        Ok(Self { runtime, shard })
    }

    /// Which rung of the ladder it stands on, and what refused the better ones.
    pub(crate) fn rung(&self) -> (Rung, Option<&io::Error>) {
        (self.runtime.rung, self.runtime.refusal.as_ref())
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(mut self) {
        self.runtime.block_on(async {
            loop {
                self.shard.end_turn();
                if self.shard.is_done() {
                    break;
                }
                self.shard.wait();
            }
        });
    }
}

/// Everything of one core.
struct Shard<H: Handler> {
    state: State<H>,
    hot: HotTable,
    clock: Clock,
    sockets: Paged<Socket>,
    epoll: EpollSet,
    timer: Timer,
    armed_at: Tick,
    listeners: Vec<Listener>,
    accepting: Accepting,
    /// When running out of descriptors may be logged again.
    next_complaint: Tick,
    bell: BellFd,
    mailbox: Mailbox<Envelope>,
    /// What every cold connection is read into.
    buffer: Box<[u8]>,
    ready: Vec<Ready>,
    thermostat: Thermostat,
    /// For tests: a hot connection becomes cold after each receive.
    restless: bool,
    /// `None` where the kernel has none that could keep a receive posted.
    ring: Option<Ring>,
    /// The ring tells when something is ready in the set.
    set_watched: bool,
    /// Of the ring, kept for their memory.
    events: Vec<ring::Event>,
    writes: Vec<ring::Write>,
    /// How the writes of this turn leave.
    gear: Gear,
    stopping: bool,
    /// Whether something has happened since connections were settled last.
    in_turn: bool,
    /// Reads that brought something in this turn, of cold and hot connections.
    reads: usize,
    load: Load,
    /// Memory is to be given back at the end of this turn.
    calm: bool,
    on_calm: Option<fn()>,
}

/// The socket of a connection.
#[derive(Default)]
struct Socket {
    fd: Option<OwnedFd>,
    temperature: Temperature,
    watched: Watched,
    /// The kernel's buffer was full; nothing is written until the set says that there is room.
    blocked: bool,
    /// A write is posted but not submitted: nothing else may be written, and the socket must stay open.
    writing: bool,
    /// Bytes that waited when it was last settled, as the gauge counts them.
    queued_noted: u32,
}

const _: () = {
    // One per connection, idle or not.
    assert!(size_of::<Socket>() <= 16);
};

/// Whether a receive of the connection is posted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Temperature {
    #[default]
    Cold,
    /// Its slot in the table of hot connections.
    Hot(HotSlot),
}

impl<H: Handler> Shard<H> {
    fn watch(&mut self) -> io::Result<()> {
        let input = Interest { input: true, output: false };
        self.epoll.add(&self.bell, Token::Bell, input)?;
        self.epoll.add(&self.timer, Token::Timer, input)?;
        self.watch_listeners()?;
        Ok(())
    }

    /// A receive that is left would keep its socket open. Who was touched since the list was gone through is not waited
    /// for: where many are sent something again and again, somebody always is.
    fn is_done(&self) -> bool {
        let drained = self.accepting == Accepting::Closed && self.state.core_ref().is_drained();
        (self.stopping || drained) && self.hot.is_empty()
    }

    /// Whether somebody was touched who is not settled yet.
    fn is_behind(&mut self) -> bool {
        self.state.core().touched_count() > 0
    }

    /// What is posted in the ring is made to come back, and nothing more is put there.
    fn begin_stop(&mut self) {
        self.stopping = true;
        self.leave_all();
    }

    // ---- what happened -------------------------------------------------------------------------------------

    /// Waits until something happens, and hands it out: in the ring if a receive is posted there, else in the set itself,
    /// which spares a system call. Only looks if somebody is to be settled yet.
    fn wait(&mut self) {
        if !self.hot.is_empty() {
            return self.wait_in_ring();
        }
        if self.is_behind() {
            return self.take_ready();
        }
        let mut ready = std::mem::take(&mut self.ready);
        self.epoll.wait(&mut ready);
        self.hand_out(ready);
    }

    /// Hands out everything that is ready.
    fn take_ready(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        self.epoll.poll(&mut ready);
        self.hand_out(ready);
    }

    fn hand_out(&mut self, mut ready: Vec<Ready>) {
        // A look that finds nothing says nothing about the load.
        if !ready.is_empty() {
            self.begin_turn();
        }
        for event in ready.drain(..) {
            match event.token {
                Token::Connection { index, generation } => {
                    if self.state.core().generation(index) == generation {
                        self.handle_socket(index, event);
                        self.settle_lone_answer(index);
                    }
                }
                Token::Listener(place) => self.accept(place),
                Token::Bell => self.handle_bell(),
                Token::Timer => self.handle_timer(),
            }
        }
        self.ready = ready;
    }

    /// Something happened. The clock is read once for everything that happens in a turn.
    fn begin_turn(&mut self) {
        if !self.in_turn {
            self.in_turn = true;
            self.state.set_now(self.clock.now());
            self.state.core().metrics().turns.add(1);
        }
    }

    /// Gives every connection that was touched what it needs.
    fn end_turn(&mut self) {
        self.settle_touched();
        if std::mem::take(&mut self.in_turn) {
            self.load.note_turn(std::mem::take(&mut self.reads));
        }
        if std::mem::take(&mut self.calm) {
            self.give_memory_back();
        }
    }

    fn handle_socket(&mut self, index: u32, ready: Ready) {
        if ready.output {
            self.handle_room(index);
        }
        let cold = self.sockets[index].temperature == Temperature::Cold;
        if ready.input && cold {
            self.read_cold(index, ready.finished);
        } else if ready.broken && cold {
            self.state.handle_reset(index);
        } else if ready.ended {
            // If it is hot, the receive that is posted tells the same. If it is cold and not read at present, its
            // last words wait until it is, and are watched for again then.
            self.unwatch(index);
        }
    }

    /// Reads once, or, of a large message, several times. `finished`: the end of input comes after what is there.
    fn read_cold(&mut self, index: u32, finished: bool) {
        let mut read = self.read_once(index);
        for _ in 1..LARGE_READS_MAX {
            if !matches!(read, Read::Full(_)) || !self.receives_large(index) {
                break;
            }
            // If others had their turn now, the cache would have lost the message when its rest comes.
            read = self.read_once(index);
        }
        if matches!(read, Read::Full(_)) || finished && matches!(read, Read::Bytes(_)) {
            self.watch_anew(index);
        }
    }

    fn receives_large(&mut self, index: u32) -> bool {
        let cold = self.sockets[index].temperature == Temperature::Cold;
        cold && self.state.core().connection(index).is_some_and(Connection::receives_large)
    }

    fn read_once(&mut self, index: u32) -> Read {
        let Some(fd) = &self.sockets[index].fd else { return Read::Nothing };
        let large = self.state.message_buffer(index);
        let in_place = large.is_some();
        let read = kernel::read(fd.as_fd(), large.unwrap_or(&mut self.buffer));
        match read {
            Read::Bytes(len) | Read::Full(len) if in_place => self.state.handle_input_in_place(index, len),
            Read::Bytes(len) | Read::Full(len) => {
                self.state.handle_input(index, &mut self.buffer[..len]);
                self.reads += 1;
                if self.state.note_cold_read(index, len, self.load, &self.thermostat) {
                    self.promote(index);
                }
            }
            Read::Nothing => {}
            Read::Eof => self.state.handle_eof(index),
            Read::Broken => self.state.handle_reset(index),
        }
        read
    }

    /// The socket has room again.
    fn handle_room(&mut self, index: u32) {
        let socket = &mut self.sockets[index];
        if std::mem::take(&mut socket.blocked) {
            self.settle_freed(index);
        }
    }

    fn handle_bell(&mut self) {
        self.bell.answer();
        for order in self.state.handle_mailbox(&mut self.mailbox) {
            match order {
                Order::CloseListeners => self.close_listeners(),
                Order::Stop => self.begin_stop(),
            }
        }
    }

    fn handle_timer(&mut self) {
        self.timer.answer();
        self.armed_at = Tick::NEVER;
        let now = self.clock.now();
        self.note_memory();
        self.state.set_unix_time(unix_time());
        self.state.handle_timers();
        self.calm |= self.state.has_calmed();
        if let Accepting::Paused { until } = self.accepting
            && now >= until
        {
            self.resume_accepting();
        }
        self.sweep();
    }

    fn close(&mut self, index: u32) {
        if let Temperature::Hot(slot) = self.sockets[index].temperature {
            // The receive on the socket must come back first, which settles this again.
            return self.leave(slot);
        }
        if self.sockets[index].writing {
            // It is submitted at the end of this turn, which settles this again.
            return;
        }
        // Closing takes it out of the set as well.
        let socket = std::mem::take(&mut self.sockets[index]);
        self.state.core().metrics().queued_bytes.sub(socket.queued_noted.into());
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
}

fn thermostat(has_ring: bool, restless: bool) -> Thermostat {
    let by_ring = Thermostat {
        promote_streak: PROMOTE_STREAK,
        streak_gap: Span::of(STREAK_GAP),
        busy_reads: BUSY_READS,
        quiet_reads: QUIET_READS,
    };
    match (has_ring, restless) {
        (true, false) => by_ring,
        (true, true) => Thermostat { promote_streak: 0, busy_reads: 0, quiet_reads: 0, ..by_ring },
        // There is nothing to post a receive to.
        (false, _) => Thermostat { promote_streak: u8::MAX, ..by_ring },
    }
}

/// A read larger than this comes in pieces.
const COLD_BUFFER_BYTES: usize = 64 << 10;
/// Reads in a row of one large message, of 256 KiB at most, before others get their turn.
const LARGE_READS_MAX: usize = 8;
/// A flip costs 4 to 6 µs and a hot message saves about 0.8 µs: it pays from the eighth.
const PROMOTE_STREAK: u8 = 8;
const STREAK_GAP: Duration = Duration::from_millis(50);
/// 200 connections × 64 B: saturated (170 reads in a turn) hot costs 0.82 of cold; at a quarter of that (one or two) posted
/// receives cost 1.15 of it. In between the two are close, so the exact place matters little; the distance keeps it from
/// swinging.
const BUSY_READS: u16 = 10;
const QUIET_READS: u16 = 5;
/// `armed_at` while the timer is set to the shortest span.
const CONGESTED: Tick = Tick(0);
