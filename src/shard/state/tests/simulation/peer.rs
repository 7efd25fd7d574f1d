//! The client's end of a connection: real bytes of WebSocket, and the socket's life around them.

use super::link::{End, Link};
use crate::connection::{Body, Closed, Connection, Event, Input, Limits, NextStep, Tick, Workspace};
use crate::protocol::close::CloseCode;
use crate::protocol::deflate::Agreement;
use crate::protocol::{MessageKind, Role};

/// One connection, from the request to the end of its socket.
pub(super) struct Peer {
    pub(super) link: usize,
    connection: Connection,
    workspace: Workspace,
    /// What came of the answer to the request, until it is whole.
    head: Option<Vec<u8>>,
    has_heard_eof: bool,
    /// What comes behind the head are the bytes of a stream, and nothing is said.
    pub(super) is_stream: bool,
    /// Nothing more will come of it.
    is_over: bool,
}

/// What a client hears.
#[derive(Debug)]
pub(super) enum Heard {
    Open,
    /// The request was not answered with 101, but with this head.
    Refused(String),
    Text(String),
    /// Of a stream.
    Bytes(Vec<u8>),
    Closed(Closed),
}

impl Peer {
    /// A socket that is connected, with its request on the way. `target` is path and query.
    pub(super) fn new(
        id: usize,
        link: &mut Link,
        target: &str,
        subprotocol: Option<&str>,
        is_compressed: bool,
        now: Tick,
    ) -> Self {
        let limits = Limits { ping_interval: std::time::Duration::ZERO, ..Limits::default() };
        let mut workspace = Workspace::new(limits, id as u64);
        // The server agrees to that whenever it is offered.
        let agreement = is_compressed.then_some(AGREEMENT);
        let connection = Connection::established(Role::Client, agreement, &mut workspace, now);
        let mut offer = subprotocol.map_or_else(String::new, |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        if is_compressed {
            offer.push_str(OFFER);
        }
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        );
        link.arrive(request.as_bytes());
        Self::of(id, connection, workspace, false)
    }

    /// One that asks for a stream. `headers` end with CR LF each.
    pub(super) fn streaming(id: usize, link: &mut Link, target: &str, headers: &str, now: Tick) -> Self {
        let mut workspace = Workspace::new(Limits::default(), id as u64);
        let connection = Connection::established(Role::Client, None, &mut workspace, now);
        link.arrive(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{headers}\r\n").as_bytes());
        Self::of(id, connection, workspace, true)
    }

    fn of(link: usize, connection: Connection, workspace: Workspace, is_stream: bool) -> Self {
        let head = Some(Vec::new());
        Self { link, connection, workspace, head, has_heard_eof: false, is_stream, is_over: false }
    }

    /// Whether something can be said.
    pub(super) fn is_open(&self) -> bool {
        self.head.is_none() && self.connection.is_open()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn say(&mut self, text: &str, link: &mut Link) {
        assert!(self.is_open(), "only who is open says something");
        let body = Body::Borrowed(text.as_bytes());
        self.connection.send(MessageKind::Text, body, &mut self.workspace).expect("it is open");
        self.write(link);
    }

    /// Begins the closing handshake.
    pub(super) fn close(&mut self, link: &mut Link, now: Tick) {
        self.connection.close(CloseCode::NORMAL, "", &mut self.workspace, now);
        self.write(link);
    }

    /// At most so many bytes arrive, and what follows behind the last.
    pub(super) fn read(&mut self, bytes_max: usize, link: &mut Link, now: Tick) -> Vec<Heard> {
        let mut heard = Vec::new();
        let bytes = link.take(bytes_max);
        if !bytes.is_empty() {
            self.feed(bytes, now, &mut heard);
        } else if link.down_end != End::Open && !self.has_heard_eof {
            self.has_heard_eof = true;
            let event = match link.down_end {
                End::Reset => self.connection.handle_reset(&mut self.workspace, now),
                End::Fin | End::Open => self.connection.handle_eof(&self.workspace, now),
            };
            if self.head.is_some() {
                let head = String::from_utf8_lossy(self.head.as_deref().unwrap_or_default()).into_owned();
                heard.push(Heard::Refused(head));
                self.is_over = true;
            } else if self.is_stream {
                // It ends without a word.
                link.close_by_client(End::Fin);
                self.is_over = true;
                return heard;
            } else if let Some(Event::Closed(closed)) = event {
                heard.push(Heard::Closed(closed));
            }
        }
        self.write(link);
        heard
    }

    /// Who does not answer our Close is given up.
    pub(super) fn time_out(&mut self, link: &mut Link, now: Tick) {
        if !self.is_stream && self.connection.deadline(&self.workspace) <= now {
            self.connection.handle_timeout(&mut self.workspace, now);
            self.write(link);
        }
    }

    fn feed(&mut self, mut bytes: Vec<u8>, now: Tick, heard: &mut Vec<Heard>) {
        if let Some(head) = &mut self.head {
            head.append(&mut bytes);
            let Some(end) = head.windows(4).position(|end| end == b"\r\n\r\n") else { return };
            let wanted: &[u8] = if self.is_stream { b"HTTP/1.1 200" } else { b"HTTP/1.1 101" };
            if !head.starts_with(wanted) {
                return; // Its text and the FIN are still to come.
            }
            bytes = head.split_off(end + 4);
            self.head = None;
            heard.push(Heard::Open);
        }
        if self.is_stream {
            return heard.push(Heard::Bytes(bytes));
        }
        let mut input = Input::new(&mut bytes);
        while let Some(event) = self.connection.poll_event(&mut input, &mut self.workspace, now) {
            match event {
                Event::Message(message) => heard.push(Heard::Text(message.text().expect("all is text").to_owned())),
                Event::Closed(closed) => heard.push(Heard::Closed(closed)),
                Event::Ping(_) | Event::Pong(_) => {}
                Event::Head(_) | Event::BadHead(_) | Event::Abandoned(_) => panic!("it was open from the beginning"),
            }
        }
        self.connection.end_input(&mut input, &mut self.workspace);
    }

    /// The client's socket takes everything at once.
    fn write(&mut self, link: &mut Link) {
        loop {
            match self.connection.next_step() {
                NextStep::Write => {
                    let outbox = self.connection.poll_transmit().expect("it has something to write");
                    if !link.server_is_gone {
                        link.arrive(outbox.front());
                    }
                    let len = outbox.front().len();
                    outbox.advance(len);
                    self.connection.transmitted(&mut self.workspace);
                }
                NextStep::Fin => {
                    link.finish();
                    self.connection.fin_sent();
                }
                NextStep::Close => {
                    link.close_by_client(End::Fin);
                    self.is_over = true;
                    return;
                }
                NextStep::Wait => return,
            }
        }
    }
}

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                     client_no_context_takeover\r\n";
const AGREEMENT: Agreement = Agreement {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
    server_window_was_offered: false,
};
