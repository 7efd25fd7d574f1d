//! TLS inside the connection: two ends with real sessions, in memory. What TLS itself does is tested in `tls`.

use std::sync::OnceLock;

use super::*;
use crate::tls::{ClientTls, ServerTls, Session, Trust};

const HEAD: &[u8] = b"GET /chat HTTP/1.1\r\nHost: localhost\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// A server as it is, and a client that asks for an upgrade as soon as its session can.
struct Pair {
    server: End,
    client: End,
    /// Plaintext that the client has read and that belongs to the answer.
    answer: Vec<u8>,
    to_server_len: usize,
    to_client_len: usize,
}

/// Where one of the two streams of ciphertext is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Nowhere,
    Everywhere,
    ToServer(usize),
    ToClient(usize),
}

impl Pair {
    fn new() -> Self {
        let (server, client) = sessions();
        let mut workspace = Workspace::new(Limits::default(), SEED);
        let connection = Connection::accepted_secure(server, &mut workspace, START);
        let server = End { connection, workspace, role: Role::Server, now: START, heard: Vec::new(), streams: false };
        let mut client_end = End::open(Role::Client, Limits::default(), None);
        let extra = extra::ensure(&mut client_end.connection.extra, &mut client_end.workspace);
        extra.secure = Some(Box::new(Secure::new(client)));
        client_end.connection.decrypt(&mut [], &mut Vec::new()).expect("a ClientHello");
        Self { server, client: client_end, answer: Vec::new(), to_server_len: 0, to_client_len: 0 }
    }

    /// A pair whose handshakes are done.
    fn open() -> Self {
        let mut pair = Self::new();
        pair.client.connection.outbox_mut(&mut pair.client.workspace).push_copy(HEAD);
        pair.run(Cut::Nowhere);
        assert_eq!(pair.server.told(), format!("head of {} bytes", HEAD.len()));
        pair
    }

    /// Moves ciphertext both ways until nobody has anything to say.
    fn run(&mut self, cut: Cut) {
        loop {
            let to_server = self.client.output();
            let to_client = self.server.output();
            if to_server.is_empty() && to_client.is_empty() {
                return;
            }
            for piece in cut.pieces(true, self.to_server_len, &to_server) {
                self.server_reads(piece);
            }
            for piece in cut.pieces(false, self.to_client_len, &to_client) {
                self.client_reads(piece);
            }
            self.to_server_len += to_server.len();
            self.to_client_len += to_client.len();
        }
    }

    fn server_reads(&mut self, ciphertext: &[u8]) {
        let mut plaintext = Vec::new();
        let opened = self.server.connection.decrypt(&mut ciphertext.to_vec(), &mut plaintext);
        let mut input = Input::new(&mut plaintext);
        let end = &mut self.server;
        while let Some(event) = end.connection.poll_event(&mut input, &mut end.workspace, end.now) {
            end.heard.push(in_words(&event));
            if let Event::Head(_) = event {
                let response = |out: &mut Vec<u8>| out.extend_from_slice(ANSWER);
                end.connection.accept(None, response, &mut end.workspace, end.now);
            }
        }
        end.connection.end_input(&mut input, &mut end.workspace);
        if opened.is_err() || opened.is_ok_and(|opened| opened.peer_closed) {
            end.eof();
        }
    }

    fn client_reads(&mut self, ciphertext: &[u8]) {
        let mut plaintext = Vec::new();
        let opened = self.client.connection.decrypt(&mut ciphertext.to_vec(), &mut plaintext).expect("good records");
        let answer_len = (ANSWER.len() - self.answer.len()).min(plaintext.len());
        self.answer.extend(plaintext.drain(..answer_len));
        self.client.read(&plaintext);
        if opened.peer_closed {
            self.client.eof();
        }
    }

    fn assert_talks(&mut self, cut: Cut) {
        self.client.send("from the client").expect("room");
        self.server.send("from the server").expect("room");
        self.run(cut);
        assert_eq!(self.server.told(), "text 'from the client'", "{cut:?}");
        assert_eq!(self.client.told(), "text 'from the server'", "{cut:?}");
        assert_eq!(self.answer, ANSWER, "{cut:?}");
    }
}

impl Cut {
    /// What was said behind the first `passed` bytes, cut where this says.
    fn pieces(self, is_to_server: bool, passed: usize, bytes: &[u8]) -> Vec<&[u8]> {
        let at = match self {
            Self::Everywhere => return bytes.chunks(1).collect(),
            Self::ToServer(at) if is_to_server => at,
            Self::ToClient(at) if !is_to_server => at,
            Self::Nowhere | Self::ToServer(_) | Self::ToClient(_) => 0,
        };
        let (head, tail) = bytes.split_at(at.saturating_sub(passed).min(bytes.len()));
        [head, tail].into_iter().filter(|piece| !piece.is_empty()).collect()
    }
}

#[test]
fn a_handshake_and_first_messages_at_every_cut() {
    let mut whole = Pair::open();
    whole.assert_talks(Cut::Nowhere);
    let to_server = (0..=whole.to_server_len).map(Cut::ToServer);
    // The server's flight is a few large records: every cut near their borders, and samples inside.
    let to_client = (0..=whole.to_client_len).filter(|at| at % 11 == 0 || *at < 200).map(Cut::ToClient);
    for cut in to_server.chain(to_client).chain([Cut::Everywhere]) {
        let mut pair = Pair::new();
        pair.client.connection.outbox_mut(&mut pair.client.workspace).push_copy(HEAD);
        pair.run(cut);
        assert_eq!(pair.server.told(), format!("head of {} bytes", HEAD.len()), "{cut:?}");
        pair.assert_talks(cut);
    }
}

#[test]
fn the_end_of_the_handshake_the_request_and_a_message_in_one_read() {
    let mut pair = Pair::new();
    pair.client.connection.outbox_mut(&mut pair.client.workspace).push_copy(HEAD);
    pair.client.send("early").expect("room");
    let hello = pair.client.output();
    pair.server_reads(&hello);
    let flight = pair.server.output();
    pair.client_reads(&flight);
    let rest = pair.client.output();
    pair.server_reads(&rest);
    assert_eq!(pair.server.told(), format!("head of {} bytes, text 'early'", HEAD.len()));
}

#[test]
fn messages_around_the_borders_of_records() {
    let mut pair = Pair::open();
    for len in [0, 1, 125, 126, 16_379, 16_380, 16_381, 16_384, 16_385, 65_536, 131_072, 300_000] {
        let text = "x".repeat(len);
        let want = format!("text {}", quoted(text.as_bytes()));
        pair.server.send(&text).expect("room");
        pair.client.send(&text).expect("room");
        pair.run(Cut::Nowhere);
        assert_eq!((pair.server.told(), pair.client.told()), (want.clone(), want), "{len}");
    }
}

#[test]
fn many_small_messages_in_one_record() {
    let mut pair = Pair::open();
    for _ in 0..100 {
        pair.server.send("small").expect("room");
    }
    assert_eq!(pair.server.connection.queued_bytes(), 700);
    let wire = pair.server.output();
    assert!(wire.len() < 800, "{} bytes for 700", wire.len());
    pair.client_reads(&wire);
    assert_eq!(pair.client.heard.len(), 100);
}

#[test]
fn the_queue_counts_plaintext_and_ciphertext() {
    let mut pair = Pair::open();
    let large = "x".repeat(300_000);
    pair.server.send(&large).expect("room");
    let plain = pair.server.connection.queued_bytes();
    let outbox = pair.server.connection.poll_transmit().expect("records");
    let sealed = outbox.queued_bytes();
    assert!((128 << 10..1 << 20).contains(&sealed), "sealed a bounded amount ahead: {sealed}");
    outbox.advance(1000);
    let left = pair.server.connection.queued_bytes();
    assert!(left + 1000 >= plain && left < plain + 10_000, "{left} of {plain}");
}

#[test]
fn an_ending_says_close_notify_behind_the_close() {
    let mut pair = Pair::open();
    pair.client.close(1000, "");
    pair.run(Cut::Nowhere);
    assert_eq!(pair.server.told(), "closed 1000 '' by peer");
    // The server's Close, then its close_notify, which the client takes for the end of input.
    assert_eq!(pair.client.told(), "closed 1000 '' by local");
    for end in [&mut pair.server, &mut pair.client] {
        assert_eq!(end.connection.next_step(), NextStep::Fin);
        end.connection.fin_sent();
        assert_eq!(end.connection.next_step(), NextStep::Close, "both have said that they send no more");
    }
}

#[test]
fn close_notify_without_a_close_is_the_end_of_the_transport() {
    let mut pair = Pair::open();
    pair.client.send("last words").expect("room");
    let words = pair.client.output();
    let secure = pair.client.connection.extra.as_mut().and_then(|extra| extra.secure.as_mut()).expect("TLS");
    secure.close();
    let notify = pair.client.output();
    // Both in one read, while the application takes one message at a time.
    pair.server.connection.pause();
    pair.server_reads(&[words, notify].concat());
    assert_eq!(pair.server.told(), "");
    pair.server.connection.resume(pair.server.now);
    pair.server.read(b"");
    assert_eq!(pair.server.told(), "text 'last words', closed 1006 '' by transport");
}

#[test]
fn garbage_is_answered_with_an_alert() {
    let cases: &[(&str, &[u8], Option<u8>)] = &[
        ("noise", b"\x00\x01\x02\x03\x04\x05\x06\x07", Some(21)),
        ("a record of nonsense", &[22, 3, 1, 0, 4, 99, 0, 0, 0], Some(21)),
        ("plain HTTP", b"GET / HTTP/1.1\r\n\r\n", None),
    ];
    for (name, wire, want) in cases {
        for piece_len in [1, wire.len()] {
            let mut pair = Pair::new();
            for piece in wire.chunks(piece_len) {
                pair.server_reads(piece);
            }
            assert_eq!(pair.server.told(), "abandoned: Left", "{name}");
            assert_eq!(pair.server.output().first().copied(), *want, "{name}");
            assert_eq!(pair.server.connection.next_step(), NextStep::Fin, "{name}");
        }
    }
}

#[test]
fn a_broken_record_ends_an_open_one() {
    let mut pair = Pair::open();
    pair.client.send("hello").expect("room");
    let mut wire = pair.client.output();
    *wire.last_mut().expect("a record") ^= 1;
    pair.server.send("queued before").expect("room");
    pair.server_reads(&wire);
    assert_eq!(pair.server.told(), "closed 1006 '' by transport");
    assert!(!pair.server.output().is_empty(), "the alert");
    assert_eq!(pair.server.connection.next_step(), NextStep::Fin);
}

#[test]
fn an_opening_that_ends_within_the_tls_handshake_says_nothing() {
    let mut pair = Pair::new();
    let hello = pair.client.output();
    pair.server_reads(&hello[..50]);
    assert!(pair.server.connection.is_mid_message());
    let due = pair.server.due_at().expect("the handshake's");
    pair.server.at(due);
    assert_eq!(pair.server.told(), "abandoned: TimedOut");
    assert_eq!(pair.server.output(), b"");
    assert_eq!(pair.server.connection.next_step(), NextStep::Fin);
}

#[test]
fn an_idle_session_keeps_no_bytes_of_either_stream() {
    let mut pair = Pair::open();
    let idle = pair.server.connection.heap_bytes();
    let boxes = size_of::<Extra>() + size_of::<Secure>();
    assert_eq!(idle, boxes + Session::IDLE_BYTES, "the boxes that hold the session, and what is known to be in it");
    assert_eq!(pair.server.connection.memory(), Memory { tls: idle, ..Memory::default() });
    let text = "x".repeat(10_000);
    pair.server.send(&text).expect("room");
    pair.client.send(&text).expect("room");
    pair.run(Cut::Everywhere);
    assert_eq!(pair.server.connection.heap_bytes(), idle);
}

#[test]
fn facts_are_there_when_the_head_is() {
    let pair = Pair::open();
    let facts = pair.server.connection.tls_facts().expect("TLS");
    assert_eq!((facts.sni.as_deref(), facts.alpn.as_deref()), (Some("localhost"), Some("http/1.1")));
    assert!(End::server().connection.tls_facts().is_none());
}

/// A server's session and a client's, from one certificate for all tests.
fn sessions() -> (Session, Session) {
    static MAKERS: OnceLock<(ServerTls, ClientTls)> = OnceLock::new();
    let (server, client) = MAKERS.get_or_init(|| {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (cert, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let server = ServerTls::from_pem(cert.as_bytes(), key.as_bytes(), None).expect("a server");
        (server, ClientTls::new(Trust::Roots(cert.as_bytes())).expect("a client"))
    });
    (server.session().expect("a session"), client.session("localhost").expect("a session"))
}
