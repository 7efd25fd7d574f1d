//! Any schedule of what can happen to two connections that talk: nothing is lost, doubled or told after the end, the
//! queue is counted exactly, memory follows what arrived, and both come to an end.
#![no_main]

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use corewire::connection::{
    Body, Broadcast, Cause, Closed, Connection, Event, Input, Limits, NextStep, SendError, Tick, Workspace,
};
use corewire::http::Response;
use corewire::protocol::deflate::Agreement;
use corewire::protocol::frame::{HEADER_LEN_MAX, encode_header};
use corewire::protocol::{CloseCode, FrameHeader, MessageKind, Opcode, Role, mask};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Plan {
    deflate: Option<(bool, bool, u8, u8)>,
    limits: u8,
    /// The server begins with the opening handshake.
    opens: bool,
    operations: Vec<Operation>,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Send { by_client: bool, text: bool, way: u8, len: u16, seed: u8 },
    Ping { by_client: bool, len: u8 },
    /// The socket takes this many bytes, or a FIN.
    Write { by_client: bool, len: u16 },
    /// A read brings this many bytes; `pauses` behind each message.
    Read { by_client: bool, len: u16, pauses: bool },
    /// Bytes that the other end never wrote.
    Inject { by_client: bool, bytes: Vec<u8> },
    /// A frame that the other end never wrote.
    Frame { by_client: bool, first: u8, payload: Vec<u8> },
    Pass { ticks: u16 },
    Pause { by_client: bool },
    Resume { by_client: bool },
    Hold { by_client: bool, held: bool },
    Close { by_client: bool, code: u16, reason: String },
    RetireBy { by_client: bool, ticks: u16 },
    Progress { by_client: bool },
    Eof { by_client: bool },
    Reset { by_client: bool },
    FinSent { by_client: bool },
    Answer { response: bool },
    /// The server's answer is a stream.
    Stream,
    /// The server sends something with a preface of its own.
    SendPrefaced { preface: u8, len: u16, seed: u8 },
}

fuzz_target!(|plan: Plan| {
    let mut world = World::new(&plan);
    for operation in plan.operations.iter().take(OPERATIONS_MAX) {
        world.step(operation);
        world.check();
    }
    world.finish();
});

struct World {
    now: Tick,
    server: Side,
    client: Side,
}

/// One end, and what the model knows of it.
struct Side {
    role: Role,
    connection: Connection,
    workspace: Workspace,
    wire: VecDeque<u8>,
    fin_on_wire: bool,
    /// What the other end has sent and this one has not heard; `None` once it heard what nobody sent.
    awaited: Option<VecDeque<(MessageKind, Vec<u8>)>>,
    read_bytes: usize,
    was_open: bool,
    /// What a stream has queued and nobody has taken: it goes out as it is.
    streamed: Option<VecDeque<u8>>,
    closed: Option<Closed>,
    ended: bool,
}

impl World {
    fn new(plan: &Plan) -> Self {
        let deflate = plan.deflate.map(|(server, client, server_bits, client_bits)| Agreement {
            server_no_context_takeover: server,
            client_no_context_takeover: client,
            server_max_window_bits: 9 + server_bits % 7,
            client_max_window_bits: 9 + client_bits % 7,
            server_window_was_offered: false,
        });
        let deflate = deflate.filter(|_| !plan.opens);
        let limits = limits(plan.limits);
        let mut server = Side::new(Role::Server, deflate, &limits);
        if plan.opens {
            server.connection = Connection::accepted(&server.workspace, START);
            server.was_open = false;
            server.awaited = None;
        }
        let mut client = Side::new(Role::Client, deflate, &limits);
        if plan.opens {
            // It will read the answer to a handshake that it never made.
            client.awaited = None;
        }
        Self { now: START, server, client }
    }

    fn step(&mut self, operation: &Operation) {
        let now = self.now;
        match operation {
            Operation::Send { by_client, text, way, len, seed } => self.send(*by_client, *text, *way, *len, *seed),
            Operation::Ping { by_client, len } => {
                let [near, _] = self.two(*by_client);
                let pinged = near.connection.ping(&vec![b'p'; (*len).into()], &mut near.workspace);
                if let (Ok(()), Some(streamed)) = (pinged, &mut near.streamed) {
                    streamed.extend(COMMENT);
                }
            }
            Operation::Write { by_client, len } => self.write(*by_client, (*len).into()),
            Operation::Read { by_client, len, pauses } => self.read(*by_client, (*len).into(), *pauses),
            Operation::Inject { by_client, bytes } => self.inject(*by_client, bytes),
            Operation::Frame { by_client, first, payload } => {
                let frame = frame(if *by_client { Role::Server } else { Role::Client }, *first, payload);
                self.inject(*by_client, &frame);
            }
            Operation::Pass { ticks } => self.pass((*ticks).into()),
            Operation::Pause { by_client } => self.two(*by_client)[0].connection.pause(),
            Operation::Resume { by_client } => {
                self.two(*by_client)[0].connection.resume(now);
                self.read(*by_client, 0, false);
            }
            Operation::Hold { by_client, held } => {
                self.two(*by_client)[0].connection.hold(*held, now);
                self.read(*by_client, 0, false);
            }
            Operation::Close { by_client, code, reason } => {
                let [near, _] = self.two(*by_client);
                near.connection.close(CloseCode(*code), reason, &mut near.workspace, now);
            }
            Operation::RetireBy { by_client, ticks } => {
                self.two(*by_client)[0].connection.retire_by(Tick(now.0 + u32::from(*ticks)));
            }
            Operation::Progress { by_client } => self.two(*by_client)[0].connection.handle_progress(now),
            Operation::Eof { by_client } => {
                let [near, _] = self.two(*by_client);
                near.awaited = None;
                let event = near.connection.handle_eof(&near.workspace, now);
                event.into_iter().for_each(|event| near.hear(&event));
            }
            Operation::Reset { by_client } => {
                let [near, far] = self.two(*by_client);
                (near.awaited, far.awaited) = (None, None);
                let event = near.connection.handle_reset(&mut near.workspace, now);
                event.into_iter().for_each(|event| near.hear(&event));
                near.streamed.iter_mut().for_each(VecDeque::clear);
                assert_eq!((near.connection.next_step(), near.connection.queued_bytes()), (NextStep::Close, 0));
            }
            Operation::FinSent { by_client } => self.two(*by_client)[0].connection.fin_sent(),
            Operation::Answer { response } => self.answer(*response),
            Operation::Stream => self.stream(),
            Operation::SendPrefaced { preface, len, seed } => self.send_prefaced(*preface, *len, *seed),
        }
    }

    fn send(&mut self, by_client: bool, is_text: bool, way: u8, len: u16, seed: u8) {
        let kind = if is_text { MessageKind::Text } else { MessageKind::Binary };
        let payload: Vec<u8> = (0..len).map(|at| b'0' + ((at / 7) as u8 ^ seed) % 64).collect();
        let [near, far] = self.two(by_client);
        let (connection, workspace) = (&mut near.connection, &mut near.workspace);
        let (is_open, before) = (connection.is_open(), connection.queued_bytes());
        let is_stream = connection.is_stream();
        let sent = match way % 3 {
            0 => connection.send(kind, Body::Borrowed(&payload), workspace),
            1 => connection.send(kind, Body::Shared(payload.clone().into()), workspace),
            _ => connection.send_broadcast(&mut Broadcast::new(kind, payload.clone().into()), workspace),
        };
        match sent {
            Ok(()) => {
                assert!(is_open && (connection.queued_bytes() > before || is_stream && payload.is_empty()));
                if let Some(streamed) = &mut near.streamed {
                    // Without a frame: as many bytes as were given.
                    assert_eq!(near.connection.queued_bytes(), before + payload.len());
                    streamed.extend(&payload);
                } else if let Some(awaited) = &mut far.awaited {
                    awaited.push_back((kind, payload));
                }
            }
            Err(SendError::NotOpen) => assert!(!is_open),
            Err(SendError::QueueFull) => assert!(before + payload.len() > workspace.limits().queued_bytes_max),
        }
    }

    /// Only streams have prefaces; either all of it is queued or nothing.
    fn send_prefaced(&mut self, preface: u8, len: u16, seed: u8) {
        let Side { connection, workspace, streamed, .. } = &mut self.server;
        let Some(streamed) = streamed else { return };
        let preface = vec![b'i'; preface.into()];
        let payload: Vec<u8> = (0..len).map(|at| b'0' + (at as u8 ^ seed) % 64).collect();
        let (is_open, before) = (connection.is_open(), connection.queued_bytes());
        match connection.send_prefaced(&preface, payload.clone().into(), workspace) {
            Ok(()) => {
                assert!(is_open);
                assert_eq!(connection.queued_bytes(), before + preface.len() + payload.len());
                streamed.extend(preface.iter().chain(&payload));
            }
            Err(SendError::NotOpen) => assert!(!is_open),
            Err(SendError::QueueFull) => {
                assert!(before + preface.len() + payload.len() > workspace.limits().queued_bytes_max);
            }
        }
    }

    fn stream(&mut self) {
        let server = &mut self.server;
        if server.connection.is_opening() {
            let before = server.connection.queued_bytes();
            let answer = |out: &mut Vec<u8>| out.extend_from_slice(STREAM_HEAD);
            server.connection.stream(answer, &mut server.workspace, self.now);
            assert_eq!(server.connection.queued_bytes(), before + STREAM_HEAD.len());
            server.streamed = Some(STREAM_HEAD.iter().copied().collect());
            server.was_open = true;
        }
        self.read(false, 0, false);
    }

    fn write(&mut self, by_client: bool, len_max: usize) {
        let [near, far] = self.two(by_client);
        match near.connection.next_step() {
            NextStep::Write => {
                let outbox = near.connection.poll_transmit().expect("something to write");
                let front = outbox.front();
                assert!(!front.is_empty());
                let len = front.len().min(len_max);
                far.wire.extend(&front[..len]);
                if let Some(streamed) = &mut near.streamed {
                    let queued: Vec<u8> = streamed.drain(..len.min(streamed.len())).collect();
                    assert_eq!(front[..len], queued, "a stream goes out as it was queued");
                }
                outbox.advance(len);
                near.connection.transmitted(&mut near.workspace);
            }
            NextStep::Fin => {
                near.connection.fin_sent();
                far.fin_on_wire = true;
            }
            NextStep::Close => far.fin_on_wire = true,
            NextStep::Wait => {}
        }
    }

    fn read(&mut self, by_client: bool, len_max: usize, pauses: bool) {
        let now = self.now;
        let [near, _] = self.two(by_client);
        if near.wire.is_empty() && near.fin_on_wire && len_max > 0 {
            let event = near.connection.handle_eof(&near.workspace, now);
            event.into_iter().for_each(|event| near.hear(&event));
            return;
        }
        let len = near.wire.len().min(len_max);
        let mut bytes: Vec<u8> = near.wire.drain(..len).collect();
        near.read(&mut bytes, now, pauses);
    }

    fn inject(&mut self, by_client: bool, bytes: &[u8]) {
        let now = self.now;
        let [near, far] = self.two(by_client);
        // What it answers belongs to nothing that the model knows.
        (near.awaited, far.awaited) = (None, None);
        near.read(&mut bytes.to_vec(), now, false);
    }

    fn answer(&mut self, is_plain: bool) {
        let server = &mut self.server;
        if is_plain {
            server.connection.respond(&Response::text(404, "no"), &mut server.workspace, self.now);
            server.ended |= !server.was_open;
        } else if server.connection.is_opening() {
            let answer = |out: &mut Vec<u8>| out.extend_from_slice(b"HTTP/1.1 101 \r\n\r\n");
            server.connection.accept(None, answer, &mut server.workspace, self.now);
            server.was_open = true;
        }
        self.read(false, 0, false);
    }

    fn pass(&mut self, ticks: u32) {
        self.now = Tick(self.now.0 + ticks);
        let now = self.now;
        for side in [&mut self.server, &mut self.client] {
            let due = side.connection.deadline(&side.workspace);
            let queued = side.connection.queued_bytes();
            let event = side.connection.handle_timeout(&mut side.workspace, now);
            if now < due {
                assert!(event.is_none() && side.connection.queued_bytes() == queued, "nothing was due");
            } else {
                assert!(side.connection.deadline(&side.workspace) > now, "what was handled is due no more");
            }
            event.into_iter().for_each(|event| side.hear(&event));
            if let Some(streamed) = &mut side.streamed
                && side.connection.queued_bytes() > queued
            {
                streamed.extend(COMMENT);
            }
        }
    }

    fn check(&mut self) {
        for side in [&mut self.server, &mut self.client] {
            let queued = side.connection.queued_bytes();
            let mut counted = 0;
            if let Some(outbox) = side.connection.poll_transmit() {
                let mut slices = vec![IoSlice::new(&[]); outbox.segment_count()];
                let used = outbox.gather(&mut slices);
                counted = slices[..used].iter().map(|slice| slice.len()).sum();
            }
            assert_eq!(queued, counted, "the queue is what lies in it");
            // Who gives up waiting drops what is queued.
            let is_over = side.connection.next_step() == NextStep::Close;
            if let Some(streamed) = side.streamed.as_ref().filter(|_| !is_over) {
                assert!(side.connection.is_ending() || side.connection.is_stream());
                assert_eq!(queued, streamed.len(), "a stream has queued what it was given");
            }
            if side.was_open {
                assert_eq!(side.connection.is_ending(), side.closed.is_some(), "Closed is told when it ends");
            }
            let codecs = 1 << 20;
            let allowed = codecs + 4 * (side.read_bytes + queued);
            assert!(side.connection.heap_bytes() <= allowed, "memory follows what arrived");
        }
    }

    fn finish(&mut self) {
        let now = self.now;
        if self.server.connection.is_opening() {
            self.answer(true);
        }
        for round in 0..10_000 {
            for by_client in [false, true] {
                self.write(by_client, usize::MAX);
                let [near, _] = self.two(by_client);
                near.connection.resume(now);
                near.connection.hold(false, now);
                near.connection.close(CloseCode::NORMAL, "", &mut near.workspace, now);
                self.read(by_client, 0, false);
                self.read(by_client, usize::MAX, false);
            }
            if round % 10 == 9 {
                self.pass(100);
            }
            self.check();
            if [&mut self.server, &mut self.client].into_iter().all(|s| s.connection.next_step() == NextStep::Close) {
                return self.check_end();
            }
        }
        panic!("they never came to an end");
    }

    fn check_end(&self) {
        for side in [&self.server, &self.client] {
            assert_eq!(side.closed.is_some(), side.was_open, "each that was open is closed once");
            let Some(awaited) = &side.awaited else { continue };
            match side.closed.as_ref().map(|closed| closed.cause) {
                // The peer's Close comes behind everything that it sent.
                Some(Cause::Peer) => assert!(awaited.is_empty(), "{} messages were lost", awaited.len()),
                Some(Cause::Violation(violation)) => panic!("nobody broke a rule: {violation}"),
                Some(Cause::Local | Cause::Idle | Cause::Transport) | None => {}
            }
        }
    }

    fn two(&mut self, client_first: bool) -> [&mut Side; 2] {
        if client_first { [&mut self.client, &mut self.server] } else { [&mut self.server, &mut self.client] }
    }
}

impl Side {
    fn new(role: Role, deflate: Option<Agreement>, limits: &Limits) -> Self {
        let mut workspace = Workspace::new(limits.clone(), 1);
        let connection = Connection::established(role, deflate, &mut workspace, START);
        Self {
            role,
            connection,
            workspace,
            wire: VecDeque::new(),
            fin_on_wire: false,
            awaited: Some(VecDeque::new()),
            read_bytes: 0,
            was_open: true,
            streamed: None,
            closed: None,
            ended: false,
        }
    }

    fn read(&mut self, bytes: &mut [u8], now: Tick, pauses: bool) {
        self.read_bytes += bytes.len();
        self.feed(bytes, now, pauses);
        while let Some(mut waiting) = self.connection.take_waiting() {
            self.feed(&mut waiting, now, pauses);
        }
    }

    fn feed(&mut self, bytes: &mut [u8], now: Tick, pauses: bool) {
        let mut input = Input::new(bytes);
        while let Some(event) = self.connection.poll_event(&mut input, &mut self.workspace, now) {
            self.hear(&event);
            if let Event::Head(_) = event {
                self.connection.defer();
            }
            if pauses {
                self.connection.pause();
            }
        }
        self.connection.end_input(&mut input, &mut self.workspace);
    }

    fn hear(&mut self, event: &Event<'_>) {
        assert!(self.closed.is_none() && !self.ended, "nothing is told after the end: {event:?}");
        let is_of_stream = matches!(event, Event::Closed(_));
        assert!(self.streamed.is_none() || is_of_stream, "nobody speaks in a stream: {event:?}");
        match event {
            Event::Message(message) => {
                assert!(message.bytes().len() <= self.workspace.limits().message_bytes_max);
                assert_eq!(message.kind() == MessageKind::Text, message.text().is_some());
                if let Some(awaited) = &mut self.awaited {
                    let (kind, payload) = awaited.pop_front().expect("somebody sent it");
                    assert_eq!((message.kind(), message.bytes()), (kind, &payload[..]), "{:?}", self.role);
                }
            }
            Event::Closed(closed) => {
                assert!(self.was_open);
                self.closed = Some(closed.clone());
            }
            Event::Ping(payload) | Event::Pong(payload) => assert!(payload.bytes().len() <= 125),
            Event::Head(_) => assert!(!self.was_open),
            Event::BadHead(_) | Event::Abandoned(_) => {
                assert!(!self.was_open);
                self.ended = true;
            }
        }
    }
}

fn limits(choice: u8) -> Limits {
    let of = |bit: u8, small, large| if choice & bit == 0 { large } else { small };
    Limits {
        // What is sent is at most 65,535 bytes, and arrives: only injected frames pass these.
        message_bytes_max: of(1, 70_000, 16 << 20),
        frame_bytes_max: of(2, 70_000, 16 << 20),
        fragments_max: of(4, 3, 131_072) as u32,
        queued_bytes_max: of(8, 1000, 64 << 20),
        queued_bytes_pause: of(8, 500, 1 << 20),
        idle_timeout: Duration::from_secs(of(16, 0, 120) as u64),
        ping_interval: Duration::from_secs(of(32, 1, 30) as u64),
        lifetime_max: (choice & 64 != 0).then_some(Duration::from_secs(60)),
        ..Limits::default()
    }
}

/// A frame as `sender` sends it, with whatever first byte names an opcode.
fn frame(sender: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [first, 2, 3, 4];
    let header = FrameHeader {
        fin: first & 0x80 != 0,
        rsv1: first & 0x40 != 0,
        opcode: Opcode::from_nibble(first & 0x0f).unwrap_or(Opcode::Continuation),
        mask: (sender == Role::Client).then_some(key),
        payload_len: payload.len() as u64,
    };
    let mut bytes = [0; HEADER_LEN_MAX];
    let header_len = encode_header(&header, &mut bytes);
    let mut wire = bytes[..header_len].to_vec();
    wire.extend_from_slice(payload);
    if sender == Role::Client {
        mask::apply(&mut wire[header_len..], key);
    }
    wire
}

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
/// A stream's sign of life.
const COMMENT: &[u8] = b":\n\n";
const START: Tick = Tick(1000);
const OPERATIONS_MAX: usize = 200;
