//! One core with sockets that are made of memory: its `State`, driven as `shard::driver` drives it.
//!
//! Everything that the driver decides is decided here in the same way, and each method names the one that it mirrors:
//! a turn only happens if something is ready, the mailbox is only emptied when its bell was rung, timers only run when
//! the one timer has gone off that was set at the end of the turn before, and a socket is only looked at when the set
//! tells of it, once for each edge. So a core that forgets to be woken sleeps here as well.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use super::super::super::State;
use super::faults::Faults;
use super::handler::Watched;
use super::link::{End, Link};
use super::watching::{self, Interest, Watch};
use crate::connection::{NextStep, Outbox, Random, Tick};
use crate::handler::{Handler, Peer, TopicNews};
use crate::mesh::{Mailbox, Ringer};
use crate::shard::Envelope;
use crate::topics::Topic;

pub(super) struct Core {
    pub(super) state: State<Watched>,
    mailbox: Mailbox<Envelope>,
    bell: Arc<AtomicBool>,
    /// Links that wait to be accepted.
    pub(super) backlog: VecDeque<usize>,
    sockets: BTreeMap<u32, Socket>,
    armed_at: Tick,
    /// It takes no turn, as if its thread were not scheduled.
    pub(super) is_stalled: bool,
}

/// As in the driver: what it knows of a connection's socket.
struct Socket {
    link: usize,
    watch: Watch,
    blocked: bool,
    lent: Option<Lent>,
    receive: Receive,
    queued_noted: u64,
}

/// A write in the ring.
struct Lent {
    outbox: Box<Outbox>,
    /// It had to wait for room: then it comes back in a task of its own.
    has_waited: bool,
    /// The socket was shut down under it.
    is_cut: bool,
}

/// Whether the connection is hot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    Cold,
    Posted,
    /// The connection is to be closed.
    Cancelled,
}

#[derive(Clone, Copy)]
enum Ready {
    Listener,
    Bell,
    Timer,
    Socket { index: u32, generation: u32, ready: watching::Ready },
    Receive(u32),
    Write(u32),
}

/// What a read brought, as in the driver.
enum Read {
    /// All that was there.
    Bytes(Vec<u8>),
    /// As much as there was room for: there may be more.
    Full(Vec<u8>),
    /// The state was told of an end, or there was nothing.
    Nothing,
}

/// What wakes a core: an eventfd in the driver, a flag here.
pub(super) struct Flag(pub(super) Arc<AtomicBool>);

impl Ringer for Flag {
    fn wake(&self) {
        self.0.store(true, SeqCst);
    }
}

/// What a turn may reach.
pub(super) struct Outdoors<'a> {
    pub(super) links: &'a mut [Link],
    pub(super) random: &'a mut Random,
    pub(super) faults: &'a mut Faults,
    /// No more cuts and delays than are natural.
    pub(super) is_calm: bool,
}

impl Outdoors<'_> {
    fn one_in(&mut self, times: u64) -> bool {
        !self.is_calm && self.random.below(times) == 0
    }
}

impl Core {
    pub(super) fn new(state: State<Watched>, mailbox: Mailbox<Envelope>, bell: Arc<AtomicBool>) -> Self {
        let (backlog, sockets) = (VecDeque::new(), BTreeMap::new());
        let mut core = Self { state, mailbox, bell, backlog, sockets, armed_at: Tick::NEVER, is_stalled: false };
        core.arm_timer();
        core
    }

    /// As if homes had said this about a topic to everybody here.
    pub(super) fn tell_news(&mut self, topic: &Topic, news: TopicNews<'_>, out: &mut Outdoors<'_>) {
        let to: Vec<_> = self.sockets.keys().map(|&index| self.state.core_ref().id(index)).collect();
        self.state.guard(|handler, core| handler.topic_news(core, topic, news, &to));
        self.settle_touched(out);
    }

    /// A turn with nothing but what is in the mailbox; the client resets its connection before it is written to.
    pub(super) fn break_when_told(&mut self, link: usize, out: &mut Outdoors<'_>) {
        self.handle_bell();
        out.links[link].close_by_client(End::Reset);
        self.settle_touched(out);
    }

    /// When its timer goes off.
    pub(super) fn timer(&self) -> Option<Tick> {
        (self.armed_at != Tick::NEVER).then_some(self.armed_at)
    }

    pub(super) fn has_sockets(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// What must hold whenever a core goes to sleep, which it does not while it is behind.
    pub(super) fn check_rest(&self, now: Tick, links: &[Link]) {
        if self.is_behind() {
            return;
        }
        let core = self.state.core_ref();
        let wakes_soon = self.armed_at <= Tick(now.0 + 1);
        assert!(!core.topics_pending || wakes_soon, "something about topics waits, and nothing wakes the core for it");
        assert!(core.held.is_empty() || wakes_soon, "somebody is held back, and nothing wakes the core for it");
        for (&index, Socket { link, watch, blocked, receive, .. }) in &self.sockets {
            let link = &links[*link];
            let is_told = *receive != Receive::Cold || watch.is_ready(link);
            assert!(!core.wants_input(index) || !link.is_readable() || is_told, "{index} is never read");
            // Its close waits for the receive, which comes back by itself.
            let is_closing = *receive == Receive::Cancelled;
            assert!(!blocked || is_closing || link.room() == 0 || watch.is_ready(link), "{index} is never written");
        }
    }

    /// What must hold when everybody has left.
    pub(super) fn check_empty(&self) {
        let core = self.state.core_ref();
        assert!(core.slab.is_empty() && core.peers.is_empty() && core.deferred.is_empty(), "connections");
        assert!(core.held.is_empty() && !core.has_backlogs, "what waited for connections");
        let Watched { opened, closed, .. } = &self.state.handler;
        assert_eq!(opened, closed, "whoever was open is told of once as closed");
        let closes = core.metrics().samples().filter(|sample| sample.name == "closes_total");
        assert_eq!(closes.map(|sample| sample.value).sum::<u64>(), *closed, "each close is counted");
    }

    /// Whether it would be woken now.
    pub(super) fn is_ready(&self, now: Tick, links: &[Link]) -> bool {
        self.is_behind() || !self.ready(now, links).is_empty()
    }

    /// `driver::turn`: waits in the set, hands out what is ready, settles. Answers whether anything was.
    pub(super) fn turn(&mut self, now: Tick, out: &mut Outdoors<'_>) -> bool {
        let mut ready = self.ready(now, out.links);
        if ready.is_empty() && !self.is_behind() {
            return false;
        }
        for place in (1..ready.len()).rev() {
            ready.swap(place, out.random.below(place as u64 + 1) as usize);
        }
        // The set tells of a bounded number at a time.
        if !ready.is_empty() && out.one_in(4) {
            ready.truncate(1 + out.random.below(ready.len() as u64) as usize);
        }
        for event in &mut ready {
            if let Ready::Socket { index, ready, .. } = event {
                let socket = self.sockets.get_mut(index).expect("it is in the set");
                *ready = socket.watch.report(&out.links[socket.link]);
            }
        }
        self.state.set_now(now);
        for event in ready {
            match event {
                Ready::Listener => self.accept(out),
                Ready::Bell => self.handle_bell(),
                Ready::Timer => self.handle_timer(now),
                Ready::Socket { index, generation, ready } => {
                    if self.state.core().generation(index) == generation {
                        self.handle_socket(index, ready, out);
                        self.settle_lone_answer(index, out);
                    }
                }
                Ready::Receive(index) => self.received(index, out),
                Ready::Write(index) => self.write_done(index, out),
            }
        }
        self.settle_touched(out);
        true
    }

    fn ready(&self, now: Tick, links: &[Link]) -> Vec<Ready> {
        let mut ready = Vec::new();
        if !self.backlog.is_empty() {
            ready.push(Ready::Listener);
        }
        if self.bell.load(SeqCst) {
            ready.push(Ready::Bell);
        }
        if self.armed_at != Tick::NEVER && self.armed_at <= now {
            ready.push(Ready::Timer);
        }
        for (&index, socket) in &self.sockets {
            let link = &links[socket.link];
            let is_broken = link.up_end == End::Reset;
            if let Some(lent) = &socket.lent
                && (link.room() > 0 || is_broken || lent.is_cut)
            {
                ready.push(Ready::Write(index));
            }
            match socket.receive {
                Receive::Posted if link.is_readable() => ready.push(Ready::Receive(index)),
                Receive::Cancelled => ready.push(Ready::Receive(index)),
                Receive::Cold | Receive::Posted => {}
            }
            if socket.watch.is_ready(link) {
                let generation = self.state.core_ref().generation(index);
                ready.push(Ready::Socket { index, generation, ready: watching::Ready::default() });
            }
        }
        ready
    }

    // ---- what happened -------------------------------------------------------------------------------------

    /// `Shard::accept_one` and `Shard::adopt`.
    fn accept(&mut self, out: &mut Outdoors<'_>) {
        for link in std::mem::take(&mut self.backlog) {
            let peer = Peer::Tcp(([127, 0, 0, 1], 4000).into());
            match self.state.handle_accept(peer) {
                Some(index) => {
                    let (receive, watch) = (Receive::Cold, Watch::default());
                    let socket = Socket { link, watch, blocked: false, lent: None, receive, queued_noted: 0 };
                    assert!(self.sockets.insert(index, socket).is_none(), "an index has one connection at a time");
                    self.update_interest(index, out.links);
                }
                None => out.links[link].close_by_server(),
            }
        }
    }

    /// `Shard::handle_bell`.
    fn handle_bell(&mut self) {
        self.bell.store(false, SeqCst);
        let orders = self.state.handle_mailbox(&mut self.mailbox);
        assert!(orders.is_empty(), "nobody stops the server");
    }

    /// `Shard::handle_timer`.
    fn handle_timer(&mut self, now: Tick) {
        self.armed_at = Tick::NEVER;
        self.state.set_unix_time(SOME_DAY + now.since_start());
        self.state.handle_timers();
        self.state.has_calmed();
    }

    /// `Shard::handle_socket` and `Shard::handle_room`.
    fn handle_socket(&mut self, index: u32, ready: watching::Ready, out: &mut Outdoors<'_>) {
        if ready.output
            && let Some(socket) = self.sockets.get_mut(&index)
            && std::mem::take(&mut socket.blocked)
        {
            self.settle_freed(index, out);
        }
        let Some(socket) = self.sockets.get_mut(&index) else { return };
        let is_cold = socket.receive == Receive::Cold;
        if ready.input && is_cold {
            self.read_cold(index, ready.finished, out);
        } else if ready.broken && is_cold {
            self.state.handle_reset(index);
        } else if ready.ended {
            socket.watch.unwatch();
        }
    }

    /// `Shard::read_cold`.
    fn read_cold(&mut self, index: u32, finished: bool, out: &mut Outdoors<'_>) {
        let link = self.sockets[&index].link;
        let read = self.take_input(index, link, out);
        let is_full = match read {
            Read::Nothing => return,
            Read::Bytes(bytes) => self.read_bytes(index, bytes, false, out),
            Read::Full(bytes) => self.read_bytes(index, bytes, true, out),
        };
        out.faults.full_reads += u64::from(is_full && out.links[link].is_readable());
        out.faults.late_ends += u64::from(!is_full && finished && out.links[link].up.is_empty());
        if is_full || finished {
            self.watch_anew(index, out.links);
        }
    }

    /// Hands on what was read. Answers whether there may be more.
    fn read_bytes(&mut self, index: u32, mut bytes: Vec<u8>, is_full: bool, out: &mut Outdoors<'_>) -> bool {
        let link = self.sockets[&index].link;
        if let Some(buffer) = self.state.message_buffer(index) {
            let room = buffer.len();
            let len = bytes.len().min(room);
            buffer[..len].copy_from_slice(&bytes[..len]);
            bytes.drain(len..).rev().for_each(|byte| out.links[link].up.push_front(byte));
            self.state.handle_input_in_place(index, len);
            return is_full || len == room;
        }
        self.state.handle_input(index, &mut bytes);
        if out.one_in(3) && self.state.core_ref().wants_input(index) {
            // `Shard::promote`.
            let socket = self.sockets.get_mut(&index).expect("it was read a line above");
            socket.watch.unwatch();
            socket.receive = Receive::Posted;
        }
        is_full
    }

    /// Some of what has arrived, cut anywhere; the end of it is told to the state.
    fn take_input(&mut self, index: u32, link: usize, out: &mut Outdoors<'_>) -> Read {
        let waiting = out.links[link].up.len();
        match out.links[link].up_end {
            End::Reset => self.state.handle_reset(index),
            _ if waiting > 0 => {
                let is_cut = out.one_in(2);
                let len = if is_cut { 1 + out.random.below(waiting as u64) as usize } else { waiting };
                out.faults.cut_reads += u64::from(len < waiting);
                let bytes = out.links[link].up.drain(..len).collect();
                if is_cut && out.one_in(2) {
                    return Read::Full(bytes);
                }
                // What was left had not arrived yet, and does so now.
                out.links[link].arrivals += u64::from(len < waiting);
                return Read::Bytes(bytes);
            }
            End::Fin => self.state.handle_eof(index),
            End::Open => {}
        }
        Read::Nothing
    }

    /// `Shard::handle_received`: what a posted receive brings, also one that was cancelled too late or has been overtaken by a
    /// pause.
    fn received(&mut self, index: u32, out: &mut Outdoors<'_>) {
        let Some(&Socket { link, receive, .. }) = self.sockets.get(&index) else { return };
        let is_late = receive == Receive::Cancelled || !self.state.core_ref().wants_input(index);
        if (receive == Receive::Posted || out.one_in(2))
            && out.links[link].is_readable()
            && let Read::Bytes(mut bytes) | Read::Full(mut bytes) = self.take_input(index, link, out)
        {
            out.faults.late_receives += u64::from(is_late);
            self.state.handle_input(index, &mut bytes);
        }
        let stays = receive == Receive::Posted && self.state.core_ref().wants_input(index) && !out.one_in(4);
        if !stays {
            // `Shard::demote`.
            self.sockets.get_mut(&index).expect("only `close` takes it away").receive = Receive::Cold;
            self.state.note_demotion(index);
            self.settle(index, false, out);
        }
    }

    /// `Shard::write_done`, and later than it ever comes.
    fn write_done(&mut self, index: u32, out: &mut Outdoors<'_>) {
        let Some(socket) = self.sockets.get_mut(&index) else { return };
        let link = &mut out.links[socket.link];
        let Some(Lent { mut outbox, has_waited, is_cut }) = socket.lent.take() else { return };
        out.faults.ring_writes += 1;
        let written = if is_cut { Err(super::link::Broken) } else { link.write(outbox.front()) };
        match written {
            Ok(len) => {
                self.state.core().metrics().bytes_out.add(len as u64);
                outbox.advance(len);
                self.state.core().return_outbox(index, outbox);
                if self.is_at_rest(index) {
                    return;
                }
            }
            Err(_) => self.state.handle_reset(index),
        }
        self.state.core().touch(index);
        if has_waited {
            self.settle_freed(index, out);
        }
    }

    /// `Shard::is_at_rest`.
    fn is_at_rest(&self, index: u32) -> bool {
        let socket = &self.sockets[&index];
        let usual = match socket.receive {
            Receive::Cold => socket.watch.is_for(Interest { input: true, output: false }),
            Receive::Posted | Receive::Cancelled => socket.watch.is_for_nothing(),
        };
        usual && socket.queued_noted == 0 && self.state.core_ref().is_at_rest(index)
    }

    // ---- the end of a turn -----------------------------------------------------------------------------------

    /// `Shard::settle_touched`, with the gear and the end drawn by lot.
    fn settle_touched(&mut self, out: &mut Outdoors<'_>) {
        self.state.catch_up();
        let by_ring = out.one_in(3);
        let left = if out.one_in(3) { out.random.below(4) as usize } else { usize::MAX };
        for _ in 0..left {
            let Some(index) = self.state.pop_touched() else { break };
            self.settle(index, by_ring, out);
        }
        self.arm_timer();
    }

    /// `Shard::is_behind`.
    fn is_behind(&self) -> bool {
        self.state.core_ref().touched_count() > 0
    }

    /// `Shard::settle_lone_answer`.
    fn settle_lone_answer(&mut self, index: u32, out: &mut Outdoors<'_>) {
        if self.state.core().touched_only(index) {
            self.state.pop_touched();
            self.settle(index, false, out);
        }
    }

    /// `Shard::settle_freed`.
    fn settle_freed(&mut self, index: u32, out: &mut Outdoors<'_>) {
        self.state.core().progress(index);
        self.settle(index, false, out);
        if self.sockets.get(&index).is_none_or(|socket| !socket.blocked) {
            self.state.handle_writable(index);
        }
    }

    /// `Shard::settle`.
    fn settle(&mut self, index: u32, by_ring: bool, out: &mut Outdoors<'_>) {
        while let Some(step) = self.state.settle(index) {
            let socket = &self.sockets[&index];
            match step {
                NextStep::Wait => break,
                NextStep::Write | NextStep::Fin if socket.lent.is_some() => break,
                NextStep::Write if socket.blocked => break,
                NextStep::Write if by_ring && self.lend(index, out) => break,
                NextStep::Write => self.write(index, out),
                NextStep::Fin => {
                    let link = &mut out.links[self.sockets[&index].link];
                    if link.down_end == End::Open {
                        link.down_end = End::Fin;
                    }
                    self.state.core().connection_mut(index).expect("it was settled just now").fin_sent();
                }
                NextStep::Close => return self.close(index, out),
            }
        }
        self.note_queue(index);
        self.update_interest(index, out.links);
    }

    /// `Shard::lend`.
    fn lend(&mut self, index: u32, out: &Outdoors<'_>) -> bool {
        let Some(connection) = self.state.core().connection_mut(index) else { return false };
        let Some(outbox) = connection.lend_outbox(RING_WRITE_BYTES_MAX) else { return false };
        let socket = self.sockets.get_mut(&index).expect("a connection has a socket");
        let has_waited = out.links[socket.link].room() == 0;
        socket.lent = Some(Lent { outbox, has_waited, is_cut: false });
        true
    }

    /// `Shard::write` and `kernel::write`.
    fn write(&mut self, index: u32, out: &mut Outdoors<'_>) {
        let socket = self.sockets.get_mut(&index).expect("a connection has a socket");
        let link = &mut out.links[socket.link];
        let Some(connection) = self.state.core().connection_mut(index) else { return };
        let Some(outbox) = connection.poll_transmit() else { return };
        let mut total = 0;
        while !outbox.is_empty() {
            match link.write(outbox.front()) {
                Ok(0) => {
                    socket.blocked = true;
                    out.faults.short_writes += 1;
                    break;
                }
                Ok(len) => {
                    outbox.advance(len);
                    total += len as u64;
                }
                Err(_) => {
                    out.faults.broken_writes += 1;
                    return self.state.handle_reset(index);
                }
            }
        }
        self.state.core().metrics().bytes_out.add(total);
    }

    /// `Shard::note_queue`.
    fn note_queue(&mut self, index: u32) {
        let Some(socket) = self.sockets.get_mut(&index) else { return };
        if socket.blocked || socket.queued_noted > 0 {
            let queued = self.state.core().connection(index).map_or(0, |connection| connection.queued_bytes()) as u64;
            let gauge = &self.state.core().metrics().queued_bytes;
            gauge.add(queued);
            gauge.sub(socket.queued_noted);
            socket.queued_noted = queued;
        }
    }

    /// `Shard::update_interest`: the input of a hot connection comes through the ring.
    fn update_interest(&mut self, index: u32, links: &[Link]) {
        let wants_input = self.state.core().wants_input(index);
        let Some(socket) = self.sockets.get_mut(&index) else { return };
        let output = socket.blocked;
        match socket.receive {
            Receive::Cold => socket.watch.set(Interest { input: wants_input, output }, &links[socket.link]),
            Receive::Posted | Receive::Cancelled if output => {
                socket.watch.set(Interest { input: false, output: true }, &links[socket.link]);
            }
            Receive::Posted | Receive::Cancelled => socket.watch.unwatch(),
        }
    }

    /// `Shard::watch_anew`.
    fn watch_anew(&mut self, index: u32, links: &[Link]) {
        if self.sockets.get_mut(&index).is_some_and(|socket| socket.watch.make_stale()) {
            self.update_interest(index, links);
        }
    }

    /// `Shard::close`.
    fn close(&mut self, index: u32, out: &mut Outdoors<'_>) {
        let socket = self.sockets.get_mut(&index).expect("a connection has a socket");
        if socket.receive != Receive::Cold {
            socket.receive = Receive::Cancelled;
            return;
        }
        if let Some(lent) = &mut socket.lent {
            lent.is_cut = true;
            return;
        }
        let socket = self.sockets.remove(&index).expect("it was there a line above");
        self.state.core().metrics().queued_bytes.sub(socket.queued_noted);
        out.links[socket.link].close_by_server();
        self.state.release(index);
    }

    /// `Shard::arm_timer`.
    fn arm_timer(&mut self) {
        let is_congested = self.state.core().is_congested();
        let next = self.state.next_timer();
        if is_congested && self.armed_at != CONGESTED {
            self.armed_at = CONGESTED;
        } else if let Some(next) = next.filter(|&next| next < self.armed_at) {
            self.armed_at = next;
        }
    }
}

/// In November 2026.
const SOME_DAY: Duration = Duration::from_secs(1_795_000_000);
/// As in the driver: `armed_at` while the timer is set to a millisecond.
const CONGESTED: Tick = Tick(0);
/// As in the driver.
const RING_WRITE_BYTES_MAX: usize = 64 << 10;
