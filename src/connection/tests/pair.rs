//! Two connections that talk, on a random schedule, against the simplest model of what must come of it.
//!
//! `CONNECTION_SEED=n` repeats one schedule, `CONNECTION_SEEDS=n` runs so many.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;

#[test]
fn random_schedules() {
    if let Some(seed) = number_in("CONNECTION_SEED") {
        return run(seed);
    }
    for seed in 0..number_in("CONNECTION_SEEDS").unwrap_or(SEEDS) {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "CONNECTION_SEED={seed} repeats it");
    }
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..world.random.below(STEPS_MAX) {
        world.step();
    }
    world.finish();
}

/// Both ends, the two byte streams between them, one clock.
struct World {
    random: Random,
    now: Tick,
    sides: [Side; 2],
    /// The transport broke: what was under way may be lost.
    is_broken: bool,
}

/// One end, and what the model knows of it.
struct Side {
    connection: Connection,
    workspace: Workspace,
    is_compressed: bool,
    /// Bytes on their way to this end, and whether a FIN is behind them.
    wire: VecDeque<u8>,
    fin_on_wire: bool,
    fin_read: bool,
    /// What the other end has sent and this one has not heard yet.
    awaited: VecDeque<(MessageKind, Vec<u8>)>,
    /// What this end must have queued: frames in, written bytes out. Unknown while compression is on.
    queued_bytes: usize,
    closed: Option<Closed>,
    last_heard: Tick,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let deflate = (random.below(2) == 0).then(|| Agreement {
            server_no_context_takeover: random.below(2) == 0,
            client_no_context_takeover: random.below(2) == 0,
            server_max_window_bits: 9 + random.below(7) as u8,
            client_max_window_bits: 9 + random.below(7) as u8,
            server_window_was_offered: false,
        });
        let sides = ROLES.map(|role| Side::new(role, deflate, &limits(&mut random), random.next_u64()));
        Self { random, now: START, sides, is_broken: false }
    }

    fn step(&mut self) {
        let side = self.random.below(2) as usize;
        match self.random.below(100) {
            0..25 => self.send(side),
            25..50 => self.write(side),
            50..75 => self.deliver(side),
            75..80 => self.sides[side].toggle(&mut self.random, self.now),
            80..84 => self.control(side),
            84..94 => self.pass(20),
            94..96 => self.pass(400),
            96 => self.close(side),
            97 if self.random.below(10) == 0 => self.reset(side),
            _ => {
                // Whatever is asked too early changes nothing.
                self.timeout(side);
            }
        }
        self.check();
    }

    fn send(&mut self, side: usize) {
        let kind = if self.random.below(2) == 0 { MessageKind::Text } else { MessageKind::Binary };
        let payload = message(&mut self.random, kind);
        let (way, now_open) = (self.random.below(3), self.sides[side].connection.is_open());
        let sender = &mut self.sides[side];
        let (connection, workspace) = (&mut sender.connection, &mut sender.workspace);
        let before = connection.queued_bytes();
        let sent = match way {
            0 => connection.send(kind, Body::Borrowed(&payload), workspace),
            1 => connection.send(kind, Body::Shared(payload.clone().into()), workspace),
            _ => connection.send_broadcast(&mut Broadcast::new(kind, payload.clone().into()), workspace),
        };
        match sent {
            Ok(()) => {
                assert!(now_open);
                sender.queued_bytes += frame_len(connection_role(&sender.connection), payload.len());
                if sender.is_compressed {
                    sender.queued_bytes = sender.connection.queued_bytes();
                }
                self.sides[1 - side].awaited.push_back((kind, payload));
            }
            Err(SendError::NotOpen) => assert!(!now_open),
            Err(SendError::QueueFull) => assert!(before + payload.len() > workspace.limits.queued_bytes_max),
        }
    }

    /// A ping; its pong is a message of its own to the model.
    fn control(&mut self, side: usize) {
        let payload = pattern(self.random.below(126) as usize);
        let side = &mut self.sides[side];
        if side.connection.ping(&payload, &mut side.workspace).is_ok() {
            side.queued_bytes += frame_len(connection_role(&side.connection), payload.len());
        }
    }

    /// Small and large ones alike.
    fn piece_len(&mut self) -> usize {
        let most = [30, 100_000][self.random.below(2) as usize];
        1 + self.random.below(most) as usize
    }

    /// The socket takes some bytes, or a FIN.
    fn write(&mut self, side: usize) {
        let most = self.piece_len();
        let [near, far] = self.two(side);
        match near.connection.next_step() {
            NextStep::Write => {
                let outbox = near.connection.poll_transmit().expect("something to write");
                let front = outbox.front();
                let len = front.len().min(most);
                far.wire.extend(&front[..len]);
                outbox.advance(len);
                near.queued_bytes -= len;
                near.connection.transmitted(&mut near.workspace);
            }
            NextStep::Fin => {
                near.connection.fin_sent();
                far.fin_on_wire = true;
            }
            // Whoever is given up is not waited for, but hears of it.
            NextStep::Close => far.fin_on_wire = true,
            NextStep::Wait => {}
        }
    }

    /// One read, cut anywhere.
    fn deliver(&mut self, side: usize) {
        let now = self.now;
        // Now and then a read was under way when reading stopped.
        let was_under_way = self.random.below(10) == 0;
        let most = self.piece_len();
        let pauses = self.random.below(8) == 0;
        let side = &mut self.sides[side];
        if !side.connection.wants_input(&side.workspace) && !was_under_way {
            return;
        }
        if side.wire.is_empty() {
            if side.fin_on_wire && !side.fin_read {
                side.fin_read = true;
                let event = side.connection.handle_eof(&side.workspace, now);
                event.into_iter().for_each(|event| side.hear(event));
            }
            return;
        }
        let len = side.wire.len().min(most);
        let mut bytes: Vec<u8> = side.wire.drain(..len).collect();
        side.read(&mut bytes, now, pauses);
    }

    fn pass(&mut self, ticks_max: u64) {
        self.now = Tick(self.now.0 + 1 + self.random.below(ticks_max) as u32);
        self.timeout(0);
        self.timeout(1);
    }

    fn timeout(&mut self, side: usize) {
        let now = self.now;
        let side = &mut self.sides[side];
        let due = side.connection.deadline(&side.workspace);
        let queued = side.connection.queued_bytes();
        let event = side.connection.handle_timeout(&mut side.workspace, now);
        if now < due {
            assert!(event.is_none() && side.connection.queued_bytes() == queued, "nothing was due");
        } else {
            assert!(side.connection.deadline(&side.workspace) > now, "what was handled is due no more");
        }
        side.queued_bytes = side.connection.queued_bytes();
        let Some(event) = event else { return };
        if let Event::Closed(Closed { cause: Cause::Idle, .. }) = &event {
            assert!(now >= side.last_heard.after(side.workspace.limits.idle_timeout));
        }
        side.hear(event);
    }

    fn close(&mut self, side: usize) {
        let code = CloseCode([1000, 1001, 3000, 4999, 1005][self.random.below(5) as usize]);
        let now = self.now;
        let side = &mut self.sides[side];
        side.connection.close(code, "a reason", &mut side.workspace, now);
        side.queued_bytes = side.connection.queued_bytes();
    }

    fn reset(&mut self, side: usize) {
        let now = self.now;
        self.is_broken = true;
        let [near, far] = self.two(side);
        for side in [near, far] {
            let event = side.connection.handle_reset(&mut side.workspace, now);
            event.into_iter().for_each(|event| side.hear(event));
            side.queued_bytes = 0;
            side.wire.clear();
            assert_eq!(side.connection.next_step(), NextStep::Close);
        }
    }

    /// What must hold at any time.
    fn check(&mut self) {
        for side in &self.sides {
            assert_eq!(side.connection.queued_bytes(), counted(&side.connection), "the queue is what lies in it");
            assert_eq!(side.connection.queued_bytes(), side.queued_bytes, "the queue is what was put in");
            assert_eq!(side.connection.is_ending(), side.closed.is_some(), "Closed is told when it ends");
        }
    }

    /// Lets everything flow, closes, and looks at what came of it.
    fn finish(&mut self) {
        let closer = self.random.below(2) as usize;
        let closes_at = self.random.below(5) as usize * 100;
        for round in 0..2000 {
            for side in 0..2 {
                self.sides[side].connection.resume(self.now);
                self.sides[side].connection.hold(false, self.now);
                self.sides[side].read(&mut [], self.now, false);
                self.write(side);
                self.deliver(side);
            }
            if round == closes_at {
                self.close(closer);
            }
            if round % 100 == 99 {
                self.pass(20);
            }
            self.check();
            if self.sides.iter_mut().all(|side| side.connection.next_step() == NextStep::Close) {
                return self.check_end();
            }
        }
        panic!("they never came to an end: {:?}", self.sides.each_ref().map(|side| &side.connection.stage));
    }

    fn check_end(&self) {
        for (index, side) in self.sides.iter().enumerate() {
            let other = &self.sides[1 - index];
            let closed = side.closed.as_ref().expect("told");
            match closed.cause {
                // The peer's Close comes behind everything that it sent.
                Cause::Peer => {
                    assert!(side.awaited.is_empty(), "{} messages were lost", side.awaited.len());
                    let theirs = other.closed.as_ref().expect("told");
                    assert!(matches!(theirs.cause, Cause::Local | Cause::Idle), "{theirs:?}");
                }
                Cause::Transport => {
                    assert!(self.is_broken || other.closed.as_ref().expect("told").cause != Cause::Peer);
                }
                Cause::Local | Cause::Idle => {}
                Cause::Violation(violation) => panic!("nobody broke a rule: {violation}"),
            }
        }
    }

    fn two(&mut self, near: usize) -> [&mut Side; 2] {
        let [server, client] = &mut self.sides;
        if near == 0 { [server, client] } else { [client, server] }
    }
}

impl Side {
    fn new(role: Role, deflate: Option<Agreement>, limits: &Limits, seed: u64) -> Self {
        let mut workspace = Workspace::new(limits.clone(), seed);
        let connection = Connection::established(role, deflate, &mut workspace, START);
        Self {
            connection,
            workspace,
            is_compressed: deflate.is_some(),
            wire: VecDeque::new(),
            fin_on_wire: false,
            fin_read: false,
            awaited: VecDeque::new(),
            queued_bytes: 0,
            closed: None,
            last_heard: START,
        }
    }

    fn read(&mut self, bytes: &mut [u8], now: Tick, pauses: bool) {
        if !bytes.is_empty() {
            self.last_heard = now;
        }
        self.feed(bytes, now, pauses);
        while let Some(mut waiting) = self.connection.take_waiting() {
            self.feed(&mut waiting, now, pauses);
        }
    }

    fn feed(&mut self, bytes: &mut [u8], now: Tick, pauses: bool) {
        let mut input = Input::new(bytes);
        while let Some(event) = self.connection.poll_event(&mut input, &mut self.workspace, now) {
            self.hear(event);
            if pauses {
                self.connection.pause();
            }
        }
        self.connection.end_input(&mut input, &mut self.workspace);
        // Pongs and the answer to Close were queued meanwhile.
        self.queued_bytes = counted(&self.connection);
    }

    fn hear(&mut self, event: Event<'_>) {
        assert_eq!(self.closed, None, "nothing is told after Closed: {event:?}");
        match event {
            Event::Message(message) => {
                let (kind, payload) = self.awaited.pop_front().expect("somebody sent it");
                assert_eq!(message.kind(), kind);
                assert!(message.bytes() == payload, "{} bytes came as {}", payload.len(), message.bytes().len());
            }
            Event::Closed(closed) => self.closed = Some(closed),
            Event::Ping(_) | Event::Pong(_) => {}
            Event::Head(_) | Event::BadHead(_) | Event::Abandoned(_) => panic!("it was open from the beginning"),
        }
    }

    fn toggle(&mut self, random: &mut Random, now: Tick) {
        match random.below(4) {
            0 => self.connection.pause(),
            1 => self.connection.resume(now),
            2 => self.connection.hold(true, now),
            _ => self.connection.hold(false, now),
        }
        self.read(&mut [], now, false);
    }
}

fn limits(random: &mut Random) -> Limits {
    let queued_bytes_max = [1000, 100_000, 64 << 20][random.below(3) as usize];
    Limits {
        queued_bytes_max,
        queued_bytes_pause: queued_bytes_max / 2,
        idle_timeout: Duration::from_secs([0, 10, 120][random.below(3) as usize]),
        ping_interval: Duration::from_secs([0, 3, 30][random.below(3) as usize]),
        lifetime_max: (random.below(10) == 0).then_some(Duration::from_secs(20)),
        ..Limits::default()
    }
}

/// Sizes lie around the borders of headers, shared segments, compression and buffers.
fn message(random: &mut Random, kind: MessageKind) -> Vec<u8> {
    let border = [0, 1, 2, 64, 125, 126, 127, 255, 256, 257, 1023, 1024, 1025, 5000][random.below(14) as usize];
    let len = if random.below(200) == 0 { 65_534 + random.below(4) as usize } else { border };
    let first = random.next_u64();
    match (kind, random.below(3)) {
        (MessageKind::Text, _) => (0..len).map(|at| b'a' + ((at as u64 ^ first) % 23) as u8).collect(),
        (MessageKind::Binary, 0) => (0..len).map(|_| random.next_u64() as u8).collect(),
        (MessageKind::Binary, _) => (0..len).map(|at| (at as u64 + first) as u8).collect(),
    }
}

/// RFC 6455 §5.2: two bytes, two or eight more of length, four of key.
fn frame_len(sender: Role, payload_len: usize) -> usize {
    let length = match payload_len {
        0..=125 => 0,
        126..=65_535 => 2,
        _ => 8,
    };
    2 + length + if sender == Role::Client { 4 } else { 0 } + payload_len
}

fn connection_role(connection: &Connection) -> Role {
    match &connection.stage {
        Stage::Open(websocket) => websocket.terms.role,
        Stage::Opening(_) | Stage::Streaming(_) | Stage::Ending(_) => panic!("only an open WebSocket sends"),
    }
}

const SEEDS: u64 = 2000;
const STEPS_MAX: u64 = 150;
