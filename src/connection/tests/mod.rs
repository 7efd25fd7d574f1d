//! The connection without sockets and clocks: bytes and time go in, events and bytes are compared.

mod deadlines;
mod deflate;
mod frames;
mod heap;
mod large;
mod limits;
mod opening;
mod pair;
mod pauses;
#[cfg(feature = "tls")]
mod secure;
mod states;
mod streaming;
mod violations;

use std::io::IoSlice;

use super::websocket::Reading;
use super::*;
use crate::protocol::close::{self, CloseCode};
use crate::protocol::frame::{FrameHeader, FrameRules, HEADER_LEN_MAX, decode_header, encode_header};
use crate::protocol::{MessageKind, Violation, mask};

/// One end with its workspace and a clock that the test sets. What it hears is kept in words.
struct End {
    connection: Connection,
    workspace: Workspace,
    role: Role,
    now: Tick,
    heard: Vec<String>,
    /// What it says is no frames.
    streams: bool,
}

impl End {
    /// An open WebSocket.
    fn open(role: Role, limits: Limits, deflate: Option<Agreement>) -> Self {
        let mut workspace = Workspace::new(limits, SEED);
        let connection = Connection::established(role, deflate, &mut workspace, START);
        Self { connection, workspace, role, now: START, heard: Vec::new(), streams: false }
    }

    fn server() -> Self {
        Self::open(Role::Server, Limits::default(), None)
    }

    /// A socket just accepted.
    fn accepted(limits: Limits) -> Self {
        let workspace = Workspace::new(limits, SEED);
        let connection = Connection::accepted(&workspace, START);
        Self { connection, workspace, role: Role::Server, now: START, heard: Vec::new(), streams: false }
    }

    /// A stream whose beginning is written.
    fn streaming(limits: Limits) -> Self {
        let mut end = Self::accepted(limits);
        end.read(streaming::HEAD);
        end.stream();
        end.output();
        end.told();
        end
    }

    fn stream(&mut self) {
        self.connection.stream(|out| out.extend_from_slice(streaming::ANSWER), &mut self.workspace, self.now);
        self.streams = true;
    }

    /// One read, as a driver handles it.
    fn read(&mut self, bytes: &[u8]) {
        self.read_and(bytes, |_, _| {});
    }

    /// One read; `act` is called behind each event.
    fn read_and(&mut self, bytes: &[u8], mut act: impl FnMut(&mut Connection, &str)) {
        let mut bytes = bytes.to_vec();
        self.feed(&mut bytes, &mut act);
        while let Some(mut waiting) = self.connection.take_waiting() {
            self.feed(&mut waiting, &mut act);
        }
    }

    fn feed(&mut self, bytes: &mut [u8], act: &mut impl FnMut(&mut Connection, &str)) {
        let mut input = Input::new(bytes);
        while let Some(event) = self.connection.poll_event(&mut input, &mut self.workspace, self.now) {
            let words = in_words(&event);
            act(&mut self.connection, &words);
            self.heard.push(words);
        }
        self.connection.end_input(&mut input, &mut self.workspace);
    }

    fn eof(&mut self) {
        let event = self.connection.handle_eof(&self.workspace, self.now);
        self.heard.extend(event.as_ref().map(in_words));
    }

    fn reset(&mut self) {
        let event = self.connection.handle_reset(&mut self.workspace, self.now);
        self.heard.extend(event.as_ref().map(in_words));
    }

    /// Moves the clock to `ticks` after the beginning and handles what is due.
    fn at(&mut self, ticks: u32) {
        self.now = Tick(START.0 + ticks);
        let event = self.connection.handle_timeout(&mut self.workspace, self.now);
        self.heard.extend(event.as_ref().map(in_words));
    }

    /// Ticks from the beginning to the deadline; `None` if there is none.
    fn due_at(&self) -> Option<u32> {
        let due = self.connection.deadline(&self.workspace);
        (due != Tick::NEVER).then(|| due.0 - START.0)
    }

    fn send(&mut self, text: &str) -> Result<(), SendError> {
        self.connection.send(MessageKind::Text, Body::Borrowed(text.as_bytes()), &mut self.workspace)
    }

    fn close(&mut self, code: u16, reason: &str) {
        self.connection.close(CloseCode(code), reason, &mut self.workspace, self.now);
    }

    /// What was heard since this was asked last.
    fn told(&mut self) -> String {
        std::mem::take(&mut self.heard).join(", ")
    }

    /// Writes all that is queued, as a driver does.
    fn output(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while let Some(outbox) = self.connection.poll_transmit() {
            wire.extend_from_slice(outbox.front());
            let len = outbox.front().len();
            outbox.advance(len);
            self.connection.transmitted(&mut self.workspace);
        }
        self.connection.transmitted(&mut self.workspace);
        wire
    }

    /// What is queued, as the peer would read it.
    fn said(&mut self) -> String {
        let wire = self.output();
        if self.streams {
            return if wire.is_empty() { String::new() } else { quoted(&wire) };
        }
        wire_in_words(&wire, opposite(self.role))
    }

    /// A frame from this one's peer: masked or not, as it must be.
    fn peers(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        frame(opposite(self.role), first, payload)
    }
}

fn opposite(role: Role) -> Role {
    match role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
    }
}

/// A frame as `sender` sends it. `first` is its first byte: FIN, RSV and opcode (RFC 6455 §5.2).
fn frame(sender: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let header = FrameHeader {
        fin: first & 0x80 != 0,
        rsv1: first & 0x40 != 0,
        opcode: Opcode::from_nibble(first & 0x0f).expect("an opcode"),
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

/// The frames of `wire`, unmasked, as `reader` reads them. Whatever we send must read without a fault.
fn frames_of(mut wire: &[u8], reader: Role) -> Vec<(FrameHeader, Vec<u8>)> {
    let rules = FrameRules { role: reader, rsv1_allowed: true, frame_bytes_max: u64::MAX };
    let mut frames = Vec::new();
    while !wire.is_empty() {
        let (header, len) = decode_header(wire, &rules).expect("a good header").expect("a whole one");
        let end = len + header.payload_len as usize;
        let mut payload = wire[len..end].to_vec();
        mask::apply(&mut payload, header.mask.unwrap_or_default());
        frames.push((header, payload));
        wire = &wire[end..];
    }
    frames
}

fn wire_in_words(wire: &[u8], reader: Role) -> String {
    if wire.starts_with(b"HTTP/") {
        return answer_in_words(wire, reader);
    }
    let words = frames_of(wire, reader).into_iter().map(|(header, payload)| {
        let more = if header.fin { "" } else { "+" };
        let compressed = if header.rsv1 { "~" } else { "" };
        match header.opcode {
            Opcode::Text => format!("text{compressed}{more} {}", quoted(&payload)),
            Opcode::Binary => format!("binary{compressed}{more} {}", quoted(&payload)),
            Opcode::Continuation => format!("continuation{more} {}", quoted(&payload)),
            Opcode::Ping => format!("ping {}", quoted(&payload)),
            Opcode::Pong => format!("pong {}", quoted(&payload)),
            Opcode::Close => {
                let close = close::parse_close(&payload).expect("our own Close reads");
                format!("close {} {}", close.code, quoted(close.reason.as_bytes()))
            }
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

/// An HTTP answer and what follows it.
fn answer_in_words(wire: &[u8], reader: Role) -> String {
    let head_len = wire.windows(4).position(|end| end == b"\r\n\r\n").expect("a whole head") + 4;
    let head = std::str::from_utf8(&wire[..head_len]).expect("a head is ASCII");
    let status = head.lines().next().unwrap_or_default();
    if status.contains(" 101 ") {
        return format!("{status}, {}", wire_in_words(&wire[head_len..], reader)).trim_end_matches(", ").to_owned();
    }
    format!("{status} {}", quoted(wire[head_len..].trim_ascii()))
}

fn in_words(event: &Event<'_>) -> String {
    match event {
        Event::Head(head) => format!("head of {} bytes", head.bytes().len()),
        Event::BadHead(error) => format!("bad head: {}", error.status()),
        Event::Message(message) => match message.text() {
            Some(text) => format!("text {}", quoted(text.as_bytes())),
            None => format!("binary {}", quoted(message.bytes())),
        },
        Event::Ping(payload) => format!("ping {}", quoted(payload.bytes())),
        Event::Pong(payload) => format!("pong {}", quoted(payload.bytes())),
        Event::Closed(Closed { code, reason, cause }) => {
            let cause = match cause {
                Cause::Violation(violation) => format!("{violation:?}"),
                cause => format!("{cause:?}").to_lowercase(),
            };
            format!("closed {code} {} by {cause}", quoted(reason.as_bytes()))
        }
        Event::Abandoned(abandoned) => format!("abandoned: {abandoned:?}"),
    }
}

/// Short ones as they are, long ones by length and sum.
fn quoted(bytes: &[u8]) -> String {
    if bytes.len() <= 130 {
        return match std::str::from_utf8(bytes) {
            Ok(text) => format!("'{}'", text.escape_debug()),
            Err(_) => format!("'{}'", bytes.escape_ascii()),
        };
    }
    let sum = bytes.iter().fold(0u32, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("({} bytes, {sum:08x})", bytes.len())
}

/// Bytes that differ from their neighbours and repeat with no power of two.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

/// The naive count of what is queued in plain: every byte of every segment.
fn counted(connection: &Connection) -> usize {
    let Some(outbox) = &connection.outbox else { return 0 };
    let mut slices = vec![IoSlice::new(&[]); outbox.segment_count()];
    let used = outbox.gather(&mut slices);
    slices[..used].iter().map(|slice| slice.len()).sum()
}

/// The server takes nothing that it need not.
fn agreement(server_takeover: bool, client_takeover: bool, window_bits: u8) -> Agreement {
    Agreement {
        server_no_context_takeover: !server_takeover,
        client_no_context_takeover: !client_takeover,
        server_max_window_bits: window_bits,
        client_max_window_bits: window_bits,
        server_window_was_offered: false,
    }
}

/// The clock does not begin at zero, so that a forgotten `now` shows.
const START: Tick = Tick(1000);
const SEED: u64 = 7;
const ROLES: [Role; 2] = [Role::Server, Role::Client];
