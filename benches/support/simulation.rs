//! Many connections and their peers under a clock that is told: every deadline and keepalive through the wheel.
//!
//! No sockets and no randomness but the seed's. Beside the wheel stands a ledger that counts how many deadlines each
//! tick has, kept at every change: when a tick is over its count must be zero, whatever the wheel did. So a deadline
//! that fires early, late, twice or never ends the run.

#![allow(dead_code, unreachable_pub, reason = "a test and a benchmark have it as a module")]

use std::time::{Duration, Instant};

use corewire::connection::{Closed, Connection, Event, Input, Limits, NextStep, Random, Tick, Workspace};
use corewire::protocol::Role;
use corewire::shard::{Node, Nodes, Wheel};

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// At any time; who leaves is replaced.
    pub connections: u32,
    /// Simulated.
    pub span: Duration,
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub ticks: u32,
    /// Entries that the wheel handed out.
    pub expired: u64,
    /// Of those, entries whose connection was heard meanwhile, so that nothing was due.
    pub put_off: u64,
    pub pings: u64,
    /// Frames of peers: pongs, messages, Closes.
    pub heard: u64,
    /// Connections that ended by silence, by age, and by age with a peer that does not answer.
    pub idle: u64,
    pub retired: u64,
    pub abandoned: u64,
    /// Real time spent on deadlines: expiring, asking connections what is due, arming again.
    pub deadlines_took: Duration,
    /// Real time spent on what peers sent.
    pub traffic_took: Duration,
}

/// How a peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Temper {
    /// Answers pings, and says nothing else.
    Polite,
    /// Says something every few seconds, so it is seldom asked.
    Talkative,
    /// Never says anything.
    Mute,
}

struct Peer {
    connection: Connection,
    timer: Node,
    born_at: Tick,
    /// What the ledger has for it.
    promised: Tick,
    /// What the wheel has for it, at `promised` or earlier.
    armed: Tick,
    temper: Temper,
    /// Another for each life of the place.
    life: u32,
}

struct Peers(Vec<Peer>);

impl Nodes for Peers {
    fn node(&mut self, index: u32) -> &mut Node {
        &mut self.0[index as usize].timer
    }
}

/// A frame on its way from a peer.
#[derive(Clone, Copy)]
struct Arrival {
    index: u32,
    life: u32,
    frame: &'static [u8],
}

struct World {
    now: Tick,
    peers: Peers,
    wheel: Wheel,
    /// With pings and idle timeout, and with nothing but an age that is several turns of the wheel away.
    workspaces: [Workspace; 2],
    random: Random,
    /// Connections by the tick of their deadline.
    ledger: Vec<u32>,
    /// By tick, in a circle.
    arrivals: Vec<Vec<Arrival>>,
    outcome: Outcome,
}

/// Runs a plan to its end.
///
/// # Panics
///
/// If any deadline fires at another tick than its own, more than once, or never.
pub fn run(plan: Plan) -> Outcome {
    let mut world = World::new(plan);
    let end = Tick::at(plan.span);
    let (mut due, mut born) = (Vec::new(), 0);
    while world.now < end {
        world.now = Tick(world.now.0 + 1);
        let born_until = plan.connections.min(world.now.0.saturating_mul(plan.connections / RAMP_TICKS + 1));
        (born..born_until).for_each(|index| world.be_born(index));
        born = born.max(born_until);
        world.hear();
        world.expire(&mut due);
        assert_eq!(world.ledger[world.now.0 as usize], 0, "deadlines of {:?} did not fire", world.now);
    }
    world.check_end(born);
    world.outcome.ticks = end.0;
    world.outcome
}

impl World {
    fn new(plan: Plan) -> Self {
        let alive = Limits { lifetime_max: Some(LIFETIME), ..Limits::default() };
        let ageing = Limits { ping_interval: Duration::ZERO, idle_timeout: Duration::ZERO, ..alive.clone() };
        let ledger_len = Tick::at(plan.span).after(LIFETIME).0 as usize + 1;
        Self {
            now: Tick(0),
            peers: Peers(Vec::with_capacity(plan.connections as usize)),
            wheel: Wheel::new(Tick(0)),
            workspaces: [Workspace::new(alive, plan.seed), Workspace::new(ageing, plan.seed + 1)],
            random: Random::new(plan.seed),
            ledger: vec![0; ledger_len],
            arrivals: (0..ARRIVAL_SLOTS).map(|_| Vec::new()).collect(),
            outcome: Outcome::default(),
        }
    }

    fn be_born(&mut self, index: u32) {
        let now = self.now;
        let connection = Connection::established(Role::Server, None, workspace_of(&mut self.workspaces, index), now);
        let temper = match self.random.below(10) {
            0 => Temper::Mute,
            1..3 => Temper::Talkative,
            _ => Temper::Polite,
        };
        let life = self.peers.0.get(index as usize).map_or(0, |peer| peer.life + 1);
        let peer = Peer {
            connection,
            timer: Node::default(),
            born_at: now,
            promised: Tick::NEVER,
            armed: Tick::NEVER,
            temper,
            life,
        };
        match self.peers.0.get_mut(index as usize) {
            Some(place) => *place = peer,
            None => self.peers.0.push(peer),
        }
        self.promise(index);
        if temper == Temper::Talkative {
            self.send_later(index, TALK_TICKS, MESSAGE);
        }
    }

    /// Notes in ledger and wheel when the connection must be looked at next, as a core does at the end of a turn.
    fn promise(&mut self, index: u32) {
        let peer = &mut self.peers.0[index as usize];
        let deadline = peer.connection.deadline(workspace_of(&mut self.workspaces, index));
        let old = std::mem::replace(&mut peer.promised, deadline);
        if deadline < peer.timer.due() {
            peer.armed = deadline;
            self.wheel.arm(&mut self.peers, index, deadline);
        }
        if let Some(count) = self.ledger.get_mut(old.0 as usize) {
            *count -= 1;
        }
        if let Some(count) = self.ledger.get_mut(deadline.0 as usize) {
            *count += 1;
        }
    }

    fn send_later(&mut self, index: u32, ticks_max: u64, frame: &'static [u8]) {
        let at = self.now.0 as usize + 1 + self.random.below(ticks_max) as usize;
        let life = self.peers.0[index as usize].life;
        self.arrivals[at % ARRIVAL_SLOTS].push(Arrival { index, life, frame });
    }

    /// What peers sent arrives.
    fn hear(&mut self) {
        let slot = self.now.0 as usize % ARRIVAL_SLOTS;
        let mut arrivals = std::mem::take(&mut self.arrivals[slot]);
        let begin = Instant::now();
        for Arrival { index, life, frame } in arrivals.drain(..) {
            if self.peers.0[index as usize].life == life {
                self.deliver(index, frame);
            }
        }
        self.outcome.traffic_took += begin.elapsed();
        self.arrivals[slot] = arrivals;
    }

    fn deliver(&mut self, index: u32, frame: &'static [u8]) {
        self.outcome.heard += 1;
        let mut bytes = [0; 8];
        bytes[..frame.len()].copy_from_slice(frame);
        let mut input = Input::new(&mut bytes[..frame.len()]);
        let (peer, now) = (&mut self.peers.0[index as usize], self.now);
        let workspace = workspace_of(&mut self.workspaces, index);
        let mut closed = false;
        while let Some(event) = peer.connection.poll_event(&mut input, workspace, now) {
            closed |= matches!(event, Event::Closed(_));
        }
        peer.connection.end_input(&mut input, workspace);
        if closed {
            self.outcome.retired += 1;
            let eof =
                self.peers.0[index as usize].connection.handle_eof(workspace_of(&mut self.workspaces, index), now);
            assert!(eof.is_none(), "it was told once that it is closed");
        } else if frame == MESSAGE && self.peers.0[index as usize].connection.is_open() {
            self.send_later(index, TALK_TICKS, MESSAGE);
        }
        self.settle(index);
    }

    /// What is due at this tick.
    fn expire(&mut self, due: &mut Vec<u32>) {
        // A core sleeps until then, so nothing may be due earlier.
        if self.wheel.next_due().is_none_or(|next| next > self.now) {
            return;
        }
        let begin = Instant::now();
        self.wheel.expire(&mut self.peers, self.now, due);
        for index in due.drain(..) {
            self.time_out(index);
        }
        self.outcome.deadlines_took += begin.elapsed();
    }

    fn time_out(&mut self, index: u32) {
        self.outcome.expired += 1;
        let (peer, now) = (&mut self.peers.0[index as usize], self.now);
        let workspace = workspace_of(&mut self.workspaces, index);
        assert_eq!(peer.armed, now, "the wheel is early, late or says it twice");
        peer.armed = Tick::NEVER;
        if peer.promised > now {
            self.outcome.put_off += 1;
            assert!(peer.connection.handle_timeout(workspace, now).is_none(), "before its time");
            return self.settle(index);
        }
        let was_open = peer.connection.is_open();
        match peer.connection.handle_timeout(workspace, now) {
            Some(Event::Closed(closed)) => self.note_end(index, &closed, was_open),
            Some(_) => panic!("only an end is told of at a deadline"),
            None if was_open && self.peers.0[index as usize].connection.is_open() => self.note_ping(index),
            // Its age is over, and our Close is on its way.
            None if was_open && self.peers.0[index as usize].temper != Temper::Mute => {
                self.send_later(index, PONG_TICKS, CLOSE);
            }
            None => {}
        }
        self.settle(index);
    }

    fn note_ping(&mut self, index: u32) {
        self.outcome.pings += 1;
        let peer = &self.peers.0[index as usize];
        match peer.temper {
            Temper::Mute => assert_eq!(self.now, peer.born_at.after(Limits::default().ping_interval)),
            Temper::Polite | Temper::Talkative => self.send_later(index, PONG_TICKS, PONG),
        }
    }

    fn note_end(&mut self, index: u32, closed: &Closed, was_open: bool) {
        let peer = &self.peers.0[index as usize];
        assert_eq!(peer.temper, Temper::Mute, "{closed:?}: only who is mute is given up");
        if was_open {
            self.outcome.idle += 1;
            assert_eq!(self.now, peer.born_at.after(Limits::default().idle_timeout));
        } else {
            self.outcome.abandoned += 1;
        }
    }

    /// The end of a turn, with a socket that takes everything.
    fn settle(&mut self, index: u32) {
        let peer = &mut self.peers.0[index as usize];
        loop {
            match peer.connection.next_step() {
                NextStep::Wait => break,
                NextStep::Write => {
                    let outbox = peer.connection.poll_transmit().expect("it has something to write");
                    let len = outbox.queued_bytes();
                    outbox.advance(len);
                    peer.connection.transmitted(workspace_of(&mut self.workspaces, index));
                }
                NextStep::Fin => peer.connection.fin_sent(),
                NextStep::Close => return self.replace(index),
            }
        }
        self.promise(index);
    }

    fn replace(&mut self, index: u32) {
        self.wheel.disarm(&mut self.peers, index);
        if let Some(count) = self.ledger.get_mut(self.peers.0[index as usize].promised.0 as usize) {
            *count -= 1;
        }
        self.be_born(index);
    }

    /// Nobody was lost: everybody is armed, for the tick that the ledger has or an earlier one.
    fn check_end(&mut self, born: u32) {
        assert_eq!(self.wheel.armed_count(), born as usize);
        assert_eq!(self.ledger.iter().map(|&count| u64::from(count)).sum::<u64>(), u64::from(born));
        for peer in &self.peers.0 {
            assert_eq!(peer.timer.due(), peer.armed);
            assert!(peer.armed <= peer.promised && peer.armed > self.now);
        }
    }
}

/// Every fourth only ages.
fn workspace_of(workspaces: &mut [Workspace; 2], index: u32) -> &mut Workspace {
    &mut workspaces[usize::from(index.is_multiple_of(4))]
}

/// Three turns of the wheel.
const LIFETIME: Duration = Duration::from_secs(400);
/// Connections come within so many ticks: half a minute.
const RAMP_TICKS: u32 = 938;
/// A peer answers within 2 s.
const PONG_TICKS: u64 = 62;
/// A talkative peer says something every 0 to 28 s.
const TALK_TICKS: u64 = 875;
const ARRIVAL_SLOTS: usize = 1024;

/// Masked with zeros.
const PONG: &[u8] = &[0x8a, 0x80, 0, 0, 0, 0];
const MESSAGE: &[u8] = &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
const CLOSE: &[u8] = &[0x88, 0x80, 0, 0, 0, 0];
