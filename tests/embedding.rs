//! The interface that applications are written against: everything a handler may do, and what it is told.

#![cfg(feature = "cli")]

mod common;

use std::any::Any;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::{
    BINARY, Client, Journal, PATIENCE, PING, PONG, TEXT, TestServer, VARIANTS, Variant, at_once, frame, request, serve,
    until,
};
use corewire::connection::Limits;
use corewire::handler::{
    Accept, Closed, Conn, ConnHandle, ConnId, Core, Deferred, Handler, Overflow, Request, Upgrade,
};
use corewire::http::Response;
use corewire::protocol::close::CloseCode;
use corewire::protocol::{Message, MessageKind};
use corewire::server::{Builder, DriverChoice, ListenAddr};

/// Does what the path and the messages of its clients say, and notes what it is told.
struct Probe {
    journal: Arc<Journal>,
    out: Sender<Out>,
    tick_every: Option<Duration>,
    overflow: Overflow,
}

/// What the handler hands to the test's thread.
enum Out {
    Deferred(Deferred),
    Handle(ConnHandle),
}

/// How the test's thread answers a deferred request.
enum Answer {
    Accept,
    Refuse,
    DeferAgain,
    Panic,
}

struct Session {
    path: String,
    journal: Arc<Journal>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.journal.note(format!("dropped {}", self.path));
    }
}

impl Probe {
    fn session(&self, request: &Request<'_>) -> Session {
        Session { path: request.path().to_owned(), journal: self.journal.clone() }
    }
}

impl Handler for Probe {
    type Session = Session;

    fn upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Upgrade<Session> {
        let core = conn.core_index().to_string();
        let accept = || Accept::new(self.session(request)).header("X-Core", core);
        match request.path() {
            "/first-offered" => {
                let chosen = request.subprotocols().next().expect("an offer").to_owned();
                Upgrade::Accept(accept().subprotocol(chosen).header("X-Answer", "forty two"))
            }
            "/not-offered" => Upgrade::Accept(accept().subprotocol("mine")),
            "/refuse" => {
                let response = Response::text(402, "Pay first.\n").header("X-Price", "7").expect("a header");
                Upgrade::Refuse(response)
            }
            "/defer" => {
                self.out.send(Out::Deferred(conn.defer())).expect("the test waits");
                Upgrade::Defer
            }
            "/panic-upgrade" => panic!("as the test wants"),
            _ => Upgrade::Accept(accept()),
        }
    }

    fn upgrade_deferred(
        &mut self,
        _: &mut Conn<'_>,
        request: &Request<'_>,
        answer: Box<dyn Any + Send>,
    ) -> Upgrade<Session> {
        match *answer.downcast::<Answer>().expect("our own") {
            Answer::Accept => Upgrade::Accept(Accept::new(self.session(request)).header("X-Late", "yes")),
            Answer::Refuse => Upgrade::Refuse(Response::text(403, "No.\n")),
            Answer::DeferAgain => Upgrade::Defer,
            Answer::Panic => panic!("as the test wants"),
        }
    }

    fn open(&mut self, conn: &mut Conn<'_>, session: &mut Session) {
        self.journal.note(format!("open {}", session.path));
        match session.path.as_str() {
            "/greet" => conn.send_text("welcome").expect("there is room"),
            "/panic-open" => panic!("as the test wants"),
            _ => {}
        }
    }

    fn message(&mut self, conn: &mut Conn<'_>, session: &mut Session, message: Message<'_>) {
        let text = message.text().unwrap_or("").to_owned();
        let (command, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let payload = Bytes::copy_from_slice(rest.as_bytes());
        match command {
            "note" => self.journal.note(rest),
            "pause" => conn.pause(),
            "pause-and-hand-out" => {
                conn.pause();
                self.out.send(Out::Handle(conn.handle())).expect("the test waits");
            }
            "hand-out" => self.out.send(Out::Handle(conn.handle())).expect("the test waits"),
            "close" => conn.close(CloseCode(rest.parse().expect("a code")), "as you wish"),
            "broadcast" => {
                conn.broadcast(MessageKind::Text, payload);
            }
            "broadcast-all" => conn.broadcast_all(MessageKind::Text, payload).expect("there is room"),
            "cast" => conn.cast(Arc::new(rest.to_owned())).expect("there is room"),
            "flood" => {
                let len: usize = rest.parse().expect("a number");
                while conn.send_binary(&vec![0; len]).is_ok() {}
            }
            "panic" => panic!("as the test wants, on {}", session.path),
            "close-and-panic" => {
                conn.close(CloseCode::NORMAL, "");
                panic!("as the test wants")
            }
            _ => conn.reply(message).expect("there is room"),
        }
    }

    fn ping(&mut self, _: &mut Conn<'_>, _: &mut Session, payload: &[u8]) {
        self.journal.note(format!("ping {}", String::from_utf8_lossy(payload)));
        assert_ne!(payload, b"panic", "as the test wants");
    }

    fn pong(&mut self, _: &mut Conn<'_>, _: &mut Session, payload: &[u8]) {
        self.journal.note(format!("pong {}", String::from_utf8_lossy(payload)));
        assert_ne!(payload, b"panic", "as the test wants");
    }

    fn writable(&mut self, _: &mut Conn<'_>, session: &mut Session) {
        self.journal.note(format!("writable {}", session.path));
        assert_ne!(session.path, "/panic-writable", "as the test wants");
    }

    fn close(&mut self, core: &mut Core<'_>, id: ConnId, session: Session, closed: &Closed) {
        let Closed { code, reason, cause } = closed;
        self.journal.note(format!("close {} {code} {reason:?} {cause:?}", session.path));
        assert!(core.send_to(id, MessageKind::Text, corewire::handler::Body::Borrowed(b"late")).is_err());
        assert_ne!(session.path, "/panic-close", "as the test wants");
    }

    fn request(&mut self, core: &mut Core<'_>, request: &Request<'_>) -> Response {
        assert_ne!(request.path(), "/panic-request", "as the test wants");
        Response::text(200, format!("{} open\n", core.connection_count()))
    }

    fn told(&mut self, conn: &mut Conn<'_>, session: &mut Session, message: &(dyn Any + Send + Sync)) {
        let text = message.downcast_ref::<String>().expect("our own");
        assert_ne!(text, "panic", "as the test wants, on {}", session.path);
        if text == "close" {
            conn.close(CloseCode(4001), "as told");
        }
        let said = format!("{} was told {text}", session.path);
        self.journal.note(said.clone());
        // Nobody hears it on a connection that is closing.
        let _ = conn.send_text(&said);
    }

    fn cast(&mut self, core: &mut Core<'_>, message: &(dyn Any + Send + Sync)) {
        let text = message.downcast_ref::<String>().expect("our own");
        assert_ne!(text, "panic", "as the test wants");
        core.broadcast(MessageKind::Text, Bytes::from(format!("cast {text}")));
    }

    fn tick_interval(&self) -> Option<Duration> {
        self.tick_every
    }

    fn tick(&mut self, core: &mut Core<'_>) {
        self.journal.note("tick");
        core.broadcast(MessageKind::Text, Bytes::from_static(b"tick"));
        let nth = self.journal.count("tick");
        assert_ne!(nth, 2, "as the test wants");
    }

    fn overflow(&self) -> Overflow {
        self.overflow
    }
}

/// A server of probes, what they noted, and what they handed out.
struct Stage {
    server: TestServer,
    journal: Arc<Journal>,
    out: Receiver<Out>,
}

fn stage(variant: Variant, configure: impl FnOnce(Builder) -> Builder) -> Stage {
    stage_with(variant, configure, None, Overflow::Disconnect(CloseCode::POLICY))
}

fn stage_with(
    variant: Variant,
    configure: impl FnOnce(Builder) -> Builder,
    tick_every: Option<Duration>,
    overflow: Overflow,
) -> Stage {
    let journal = Arc::new(Journal::default());
    let (sender, out) = mpsc::channel();
    let sender = Mutex::new(sender);
    let noted = journal.clone();
    let server = serve(variant, configure, move |_| Probe {
        journal: noted.clone(),
        out: sender.lock().expect("no panic while it was held").clone(),
        tick_every,
        overflow,
    });
    Stage { server, journal, out }
}

impl Stage {
    fn open(&self, path: &str) -> Client {
        let mut client = Client::tcp(self.server.addr);
        let reply = client.ask(path, "");
        assert_eq!(reply.status, 101, "{reply:?}");
        client
    }

    /// One client on each core, at least.
    fn open_on_both_cores(&self, path: &str) -> Vec<(usize, Client)> {
        let mut clients = Vec::new();
        while (0..2).any(|core| clients.iter().all(|(on, _)| *on != core)) {
            assert!(clients.len() < 200, "the kernel gives one core everything");
            let mut client = Client::tcp(self.server.addr);
            let reply = client.ask(path, "");
            let core = reply.header("x-core").expect("the probe says so").parse().expect("a number");
            clients.push((core, client));
        }
        clients
    }

    fn deferred(&self) -> Deferred {
        match self.out.recv_timeout(PATIENCE).expect("the handler hands it out") {
            Out::Deferred(deferred) => deferred,
            Out::Handle(_) => panic!("a handle instead"),
        }
    }

    fn handle(&self) -> ConnHandle {
        match self.out.recv_timeout(PATIENCE).expect("the handler hands it out") {
            Out::Handle(handle) => handle,
            Out::Deferred(_) => panic!("a deferred request instead"),
        }
    }
}

#[test]
fn accepting_with_a_subprotocol_and_headers() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder);
        let mut client = Client::tcp(stage.server.addr);
        let reply = client.ask("/first-offered", "Sec-WebSocket-Protocol: v2.chat, v1.chat\r\n");
        assert_eq!(reply.status, 101);
        assert_eq!(reply.header("sec-websocket-protocol"), Some("v2.chat"));
        assert_eq!(reply.header("x-answer"), Some("forty two"));
        client.close();

        let mut client = Client::tcp(stage.server.addr);
        let reply = client.ask("/not-offered", "Sec-WebSocket-Protocol: v2.chat, v1.chat\r\n");
        assert_eq!(reply.status, 500, "a client would have to fail that handshake (RFC 6455 §4.1)");
        client.end();
        let mut client = stage.open("/greet");
        assert_eq!(client.text(), "welcome");
    }
}

#[test]
fn refusing_with_a_status_a_header_and_a_body() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder);
        let mut client = Client::tcp(stage.server.addr);
        let reply = client.ask("/refuse", "");
        assert_eq!((reply.status, reply.body.as_str()), (402, "Pay first.\n"));
        assert_eq!(reply.header("x-price"), Some("7"));
        client.end();
        assert_eq!(stage.server.sum(|metrics| &metrics.refused_handler), 1);
    }
}

#[test]
fn a_deferred_request_is_answered_from_another_thread_and_what_came_meanwhile_is_kept() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder);
        let mut client = Client::tcp(stage.server.addr);
        let mut wire = request("/defer", "").into_bytes();
        wire.extend(frame(TEXT, b"with the request"));
        client.send_raw(&wire);
        let deferred = stage.deferred();
        for n in 0..100 {
            client.send_text(&format!("meanwhile {n}"));
        }
        client.send(BINARY, &vec![8; 300_000]);
        thread::spawn(move || deferred.answer(Answer::Accept)).join().expect("no panic").expect("there is room");
        let reply = client.reply();
        assert_eq!((reply.status, reply.header("x-late")), (101, Some("yes")));
        assert_eq!(client.text(), "with the request");
        for n in 0..100 {
            assert_eq!(client.text(), format!("meanwhile {n}"));
        }
        assert!(client.message() == (BINARY, vec![8; 300_000]));
        client.close();
    }
}

#[test]
fn a_deferred_request_that_is_not_accepted_gets_a_status() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder);
        type Act = fn(Deferred);
        let cases: [(&str, Act, u16); 5] = [
            ("refused", |deferred| deferred.answer(Answer::Refuse).expect("there is room"), 403),
            ("dropped", drop, 503),
            ("deferred again", |deferred| deferred.answer(Answer::DeferAgain).expect("there is room"), 500),
            ("panicked", |deferred| deferred.answer(Answer::Panic).expect("there is room"), 500),
            ("dropped by a panic", |deferred| drop(thread::spawn(move || panic!("{}", any(deferred))).join()), 503),
        ];
        for (name, act, want) in cases {
            let mut client = Client::tcp(stage.server.addr);
            client.send_raw(request("/defer", "").as_bytes());
            act(stage.deferred());
            assert_eq!(client.reply().status, want, "{name}");
            client.end();
        }
        stage.server.wait_until_empty();
    }
}

fn any<T>(_: T) -> &'static str {
    "as the test wants"
}

#[test]
fn a_deferred_request_that_gets_no_answer_in_time_is_refused() {
    // Time enough for whoever says half of something and then nothing to say that half.
    let limits = Limits { handshake_timeout: Duration::from_millis(1500), ..Limits::default() };
    at_once(|variant| {
        let stage = stage(variant, |builder| builder.limits(limits.clone()));
        for extra in [&b""[..], &frame(TEXT, b"impatient")] {
            let mut client = Client::tcp(stage.server.addr);
            client.send_raw(&[request("/defer", "").as_bytes(), extra].concat());
            let deferred = stage.deferred();
            let reply = client.reply();
            assert_eq!(reply.status, 503, "{reply:?}");
            client.end();
            // Its connection may be another's by now; that one must not get the answer.
            drop(client);
            stage.server.wait_until_empty();
            let mut other = Client::tcp(stage.server.addr);
            other.send_raw(b"GET /");
            deferred.answer(Answer::Accept).expect("there is room");
            assert_eq!(other.reply().status, 408);
        }
        assert_eq!(stage.journal.all(), [""; 0]);
    });
}

#[test]
fn a_deferred_request_whose_peer_reset_is_forgotten() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder);
        let mut client = Client::tcp(stage.server.addr);
        client.send_raw(request("/defer", "").as_bytes());
        let deferred = stage.deferred();
        client.reset();
        stage.server.wait_until_empty();
        deferred.answer(Answer::Accept).expect("there is room");
        stage.open("/").close();
        assert_eq!(stage.journal.count("open /defer"), 0);
    }
}

#[test]
fn a_paused_connection_keeps_what_comes_in_order_until_it_is_resumed_from_another_thread() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder);
        let mut client = stage.open("/");
        // Some of it comes with the pause in one read, most of it later.
        let mut wire = frame(TEXT, b"pause-and-hand-out");
        (0..50).for_each(|n| wire.extend(frame(TEXT, format!("{n}").as_bytes())));
        client.send_raw(&wire);
        let handle = stage.handle();
        for n in 50..100 {
            client.send_text(&format!("{n}"));
        }
        client.send_text("pause-and-hand-out");
        for n in 100..150 {
            client.send_text(&format!("{n}"));
        }
        client.set_read_timeout(Duration::from_millis(100));
        let early = client.try_frame();
        assert!(early.as_ref().is_err_and(common::is_timeout), "{early:?} although it is paused");
        client.set_read_timeout(PATIENCE);
        thread::spawn(move || handle.resume()).join().expect("no panic").expect("there is room");
        for n in 0..100 {
            assert_eq!(client.text(), format!("{n}"));
        }
        stage.handle().resume().expect("there is room");
        for n in 100..150 {
            assert_eq!(client.text(), format!("{n}"));
        }
        client.close();
    }
}

/// A core reads 64 KiB at a time, and the kernel reports what arrives once.
#[test]
fn what_one_read_leaves_behind_is_read_though_nothing_more_comes() {
    const READ_BYTES: usize = 64 << 10;
    const FRAME_BYTES: usize = 64;
    // Two bytes and a mask.
    let payload = |n: usize| format!("note {n:>0$}", FRAME_BYTES - 6 - "note ".len());
    for variant in VARIANTS {
        let folder = common::Folder::new();
        let unix = folder.path("corewire.sock");
        let listen = ListenAddr::Unix { path: unix.clone(), mode: 0o600 };
        let stage = stage(variant, |builder| builder.listen_on(listen));
        for (over_unix, leaves, count) in [
            (false, false, 2 * READ_BYTES / FRAME_BYTES),
            (false, true, 2 * READ_BYTES / FRAME_BYTES),
            (false, false, 2 * READ_BYTES / FRAME_BYTES + 1),
            (true, false, 2 * READ_BYTES / FRAME_BYTES),
            (true, true, 2 * READ_BYTES / FRAME_BYTES),
        ] {
            let mut client = if over_unix { Client::unix(&unix) } else { Client::tcp(stage.server.addr) };
            assert_eq!(client.ask("/sender", "").status, 101);
            client.send_text("pause-and-hand-out");
            let handle = stage.handle();
            let wire: Vec<_> = (0..count).flat_map(|n| frame(TEXT, payload(n).as_bytes())).collect();
            assert_eq!(wire.len(), count * FRAME_BYTES);
            // What the socket does not hold is sent while the server reads.
            let sender = thread::spawn(move || {
                client.send_raw(&wire);
                (!leaves).then_some(client)
            });
            thread::sleep(Duration::from_millis(20));
            handle.resume().expect("there is room");
            let client = sender.join().expect("no panic");
            until("all was heard", || stage.journal.all().len() > count);
            let heard = stage.journal.all();
            assert!((0..count).all(|n| heard[n + 1].ends_with(&format!(" {n}"))), "in order");
            drop(client);
            stage.server.wait_until_empty();
            stage.journal.wait_for("dropped /sender");
            stage.journal.take();
        }
    }
}

/// Over TCP as over a Unix socket, where the kernel reports the end of the peer before its last words are read.
#[test]
fn what_a_peer_said_before_it_left_is_heard_after_a_pause() {
    for variant in VARIANTS {
        let folder = common::Folder::new();
        let unix = folder.path("corewire.sock");
        let listen = ListenAddr::Unix { path: unix.clone(), mode: 0o600 };
        let stage = stage(variant, |builder| builder.listen_on(listen));
        for over_unix in [false, true] {
            let mut client = if over_unix { Client::unix(&unix) } else { Client::tcp(stage.server.addr) };
            assert_eq!(client.ask("/leaver", "").status, 101);
            client.send_text("pause-and-hand-out");
            let handle = stage.handle();
            for n in 0..20 {
                client.send_text(&format!("note {n}"));
            }
            drop(client);
            // Nothing tells a test that the server has not noticed; it had the chance.
            thread::sleep(Duration::from_millis(50));
            assert_eq!(stage.journal.all(), ["open /leaver"]);
            handle.resume().expect("there is room");
            stage.server.wait_until_empty();
            stage.journal.wait_for("dropped /leaver");
            let notes: Vec<_> = (0..20).map(|n| n.to_string()).collect();
            assert_eq!(stage.journal.take()[1..21], notes);
        }
    }
}

/// A pause holds back the peer, not memory: what does not fit stays with it.
#[test]
fn a_paused_connection_is_not_read() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder);
        let mut client = Client::tcp_narrow(stage.server.addr).upgraded("");
        client.send_text("pause-and-hand-out");
        let handle = stage.handle();
        let mut writer = client.writer();
        let message = frame(BINARY, &[3; 100_000]);
        let writing = thread::spawn(move || {
            (0..300).for_each(|_| std::io::Write::write_all(&mut writer, &message).expect("it is read at last"));
        });
        let read = || stage.server.sum(|metrics| &metrics.bytes_in);
        until("the peer is stuck", || {
            let before = read();
            thread::sleep(Duration::from_millis(50));
            read() == before
        });
        assert!(read() < 1 << 20, "{} bytes were read", read());
        assert!(!writing.is_finished());
        handle.resume().expect("there is room");
        for _ in 0..300 {
            assert!(client.message() == (BINARY, vec![3; 100_000]));
        }
        writing.join().expect("all was written");
    }
}

#[test]
fn other_threads_send_and_close() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder);
        let mut client = stage.open("/");
        client.send_text("hand-out");
        let handle = stage.handle();
        let again = handle.clone();
        thread::spawn(move || {
            for n in 0..100 {
                again.send(MessageKind::Text, Bytes::from(format!("{n}"))).expect("there is room");
            }
            again.close(CloseCode(4000), "from afar").expect("there is room");
            again.send(MessageKind::Text, Bytes::from_static(b"too late")).expect("there is room");
        });
        for n in 0..100 {
            assert_eq!(client.text(), format!("{n}"));
        }
        assert_eq!(client.close_frame(), (4000, "from afar".to_owned()));
        client.send_close(4000, "");
        client.end();
        drop(client);
        stage.server.wait_until_empty();
        // The place may be another's by now.
        let mut other = stage.open("/");
        handle.send(MessageKind::Text, Bytes::from_static(b"not for you")).expect("there is room");
        handle.close(CloseCode::NORMAL, "").expect("there is room");
        handle.resume().expect("there is room");
        other.send_text("mine");
        assert_eq!(other.text(), "mine");
    }
}

/// Between what other threads send it stands in order, its session is at hand, and who is gone or leaving is not told.
#[test]
fn other_threads_tell_the_handler_about_a_connection() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder.cores(vec![0, 1]));
        let value = |text: &str| -> Arc<dyn Any + Send + Sync> { Arc::new(text.to_owned()) };
        let mut clients = stage.open_on_both_cores("/a");
        let handles: Vec<_> = clients
            .iter_mut()
            .map(|(_, client)| {
                client.send_text("hand-out");
                stage.handle()
            })
            .collect();
        let senders = handles.clone();
        thread::spawn(move || {
            for n in 0..50 {
                for handle in &senders {
                    handle.tell(value(&n.to_string())).expect("there is room");
                    handle.send(MessageKind::Text, Bytes::from(format!("sent {n}"))).expect("there is room");
                }
            }
        });
        for (_, client) in &mut clients {
            for n in 0..50 {
                assert_eq!((client.text(), client.text()), (format!("/a was told {n}"), format!("sent {n}")));
            }
        }
        // A paused connection is told all the same: its messages wait, not what others say of it.
        let (_, first) = &mut clients[0];
        first.send_text("pause-and-hand-out");
        let handle = stage.handle();
        handle.tell(value("in a pause")).expect("there is room");
        assert_eq!(first.text(), "/a was told in a pause");
        handle.resume().expect("there is room");
        // A panic is the end of its own connection and of no other.
        handle.tell(value("panic")).expect("there is room");
        assert_eq!(first.close_frame().0, 1011);
        let ((_, second), other) = (&mut clients[1], &handles[1]);
        other.tell(value("close")).expect("there is room");
        other.tell(value("too late")).expect("there is room");
        assert_eq!(second.close_frame(), (4001, "as told".to_owned()));
        second.send_close(4001, "");
        drop(clients);
        stage.server.wait_until_empty();
        // Nor is whoever has its place by now.
        let mut others = stage.open_on_both_cores("/b");
        for handle in &handles {
            handle.tell(value("gone")).expect("there is room");
        }
        for (_, client) in &mut others {
            client.send_text("mine");
            assert_eq!(client.text(), "mine");
        }
        let told = |what: &str| stage.journal.count(&format!("/a was told {what}"));
        assert_eq!([told("close"), told("too late"), told("gone")], [1, 0, 0]);
        assert_eq!(stage.journal.count("/b was told gone"), 0);
    }
}

#[test]
fn broadcasts_and_casts_reach_their_cores() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder.cores(vec![0, 1]));
        let mut clients = stage.open_on_both_cores("/");
        let here = clients[0].0;

        clients[0].1.send_text("broadcast-all to everybody");
        clients.iter_mut().for_each(|(_, client)| assert_eq!(client.text(), "to everybody"));

        clients[0].1.send_text("broadcast nearby");
        clients.iter_mut().filter(|(core, _)| *core == here).for_each(|(_, c)| assert_eq!(c.text(), "nearby"));

        clients[0].1.send_text("cast it");
        clients.iter_mut().filter(|(core, _)| *core != here).for_each(|(_, c)| assert_eq!(c.text(), "cast it"));

        stage.server.handle.broadcast(MessageKind::Binary, Bytes::from_static(b"outside"));
        for (_, client) in &mut clients {
            assert_eq!(client.message(), (BINARY, b"outside".to_vec()));
        }
        clients.into_iter().for_each(|(_, client)| client.close());
    }
}

/// Both cores publish to each other as fast as they can; nobody loses anything, and the order is one per sender.
#[test]
fn cores_that_broadcast_to_each_other_lose_nothing() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder.cores(vec![0, 1]));
        let clients = stage.open_on_both_cores("/");
        let senders = clients.len();
        const EACH: usize = 3000;
        let wait: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(sender, (_, mut client))| {
                let mut writer = client.writer();
                thread::spawn(move || {
                    for n in 0..EACH / senders {
                        let text = format!("broadcast-all {sender} {n}");
                        std::io::Write::write_all(&mut writer, &frame(TEXT, text.as_bytes())).expect("it is read");
                    }
                });
                thread::spawn(move || {
                    let mut next = vec![0; senders];
                    for _ in 0..senders * (EACH / senders) {
                        let text = client.text();
                        let (from, n) = text.split_once(' ').expect("two numbers");
                        let from: usize = from.parse().expect("a number");
                        assert_eq!(n, next[from].to_string());
                        next[from] += 1;
                    }
                    client.close();
                })
            })
            .collect();
        wait.into_iter().for_each(|thread| thread.join().expect("nothing is lost"));
        assert_eq!(stage.server.sum(|metrics| &metrics.mesh_refused), 0);
    }
}

#[test]
fn the_tick_comes_again_and_again_even_after_a_panic() {
    for variant in VARIANTS {
        let every = Some(Duration::from_millis(64));
        let stage = stage_with(variant, |b| b.cores(vec![0]), every, Overflow::DropMessage);
        let mut client = stage.open("/");
        for _ in 0..5 {
            assert_eq!(client.text(), "tick");
        }
        assert_eq!(stage.server.sum(|metrics| &metrics.handler_panics), 1);
        client.send_text("alive");
        while client.text() != "alive" {}
    }
}

#[test]
fn a_panic_closes_its_own_connection_with_1011_and_no_other() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder.cores(vec![0]));
        let mut bystander = stage.open("/bystander");
        type Act = fn(&mut Client);
        let cases: [(&str, Act, u16); 5] = [
            ("/panic-open", |_| {}, 1011),
            ("/message", |client| client.send_text("panic"), 1011),
            ("/ping", |client| client.send(PING, b"panic"), 1011),
            ("/pong", |client| client.send(PONG, b"panic"), 1011),
            ("/closed-already", |client| client.send_text("close-and-panic"), 1000),
        ];
        let panics = || stage.server.sum(|metrics| &metrics.handler_panics);
        for (panics_before, (path, act, want)) in cases.into_iter().enumerate() {
            let mut client = stage.open(path);
            act(&mut client);
            let last = loop {
                let frame = client.frame();
                if frame.opcode != PONG {
                    break frame;
                }
            };
            assert_eq!(common::close_parts(&last.payload).0, want, "{path}");
            assert_eq!(panics(), panics_before as u64 + 1);
            client.send_close(want, "");
            client.end();
            stage.journal.wait_for(&format!("dropped {path}"));
            let cause = format!("close {path} {want} \"\" Local");
            assert_eq!(stage.journal.count(&cause), 1, "{:?}", stage.journal.all());
            bystander.send_text("still here");
            assert_eq!(bystander.text(), "still here");
        }

        for path in ["/panic-upgrade", "/panic-request"] {
            let mut client = Client::tcp(stage.server.addr);
            match path {
                "/panic-upgrade" => client.send_raw(request(path, "").as_bytes()),
                _ => client.send_raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()),
            }
            assert_eq!(client.reply().status, 500, "{path}");
            client.end();
        }
        stage.open("/panic-close").close();
        stage.journal.wait_for("dropped /panic-close");
        assert_eq!(panics(), 8);
        bystander.send_text("still here");
        assert_eq!(bystander.text(), "still here");
        bystander.close();
        stage.server.wait_until_empty();
    }
}

#[test]
fn a_panic_in_cast_harms_nobody() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder.cores(vec![0, 1]));
        let mut clients = stage.open_on_both_cores("/");
        clients[0].1.send_text("cast panic");
        until("it panicked", || stage.server.sum(|metrics| &metrics.handler_panics) == 1);
        clients[0].1.send_text("broadcast-all fine");
        clients.iter_mut().for_each(|(_, client)| assert_eq!(client.text(), "fine"));
    }
}

#[test]
fn close_is_told_once_with_the_cause_and_the_session_is_dropped_once_however_it_ends() {
    let limits = Limits {
        ping_interval: Duration::ZERO,
        close_timeout: Duration::from_millis(200),
        message_bytes_max: 1000,
        queued_bytes_max: 2 << 20,
        queued_bytes_pause: 1 << 20,
        ..Limits::default()
    };
    type Act = fn(&mut Client, &Stage);
    let cases: [(&str, Act, &str); 14] = [
        ("/peer", |client, _| client.send_close(1000, "done"), "1000 \"done\" Peer"),
        ("/peer-empty", |client, _| client.send(common::CLOSE, b""), "1005 \"\" Peer"),
        ("/peer-twice", |client, _| (0..2).for_each(|_| client.send_close(1001, "")), "1001 \"\" Peer"),
        ("/local", |client, _| client.send_text("close 4001"), "4001 \"\" Local"),
        (
            "/local-and-peer",
            |client, _| {
                client.send_text("close 4001");
                client.send_close(1000, "me too");
            },
            "4001 \"\" Local",
        ),
        (
            "/local-and-fin",
            |client, _| {
                client.send_text("close 4001");
                client.close_frame();
                client.fin();
            },
            "4001 \"\" Local",
        ),
        (
            "/handle",
            |client, stage| {
                client.send_text("hand-out");
                stage.handle().close(CloseCode(4002), "").expect("there is room");
            },
            "4002 \"\" Local",
        ),
        ("/unmasked", |client, _| client.send_raw(&[0x81, 0x00]), "1002 \"\" Violation(UnmaskedFrame)"),
        ("/too-big", |client, _| client.send(TEXT, &[b'x'; 1001]), "1009 \"\" Violation(FrameTooBig)"),
        ("/not-utf8", |client, _| client.send(TEXT, b"\xFF"), "1007 \"\" Violation(InvalidUtf8)"),
        ("/idle", |_, _| {}, "1001 \"\" Idle"),
        ("/fin", |client, _| client.fin(), "1006 \"\" Transport"),
        ("/reset", |client, _| linger_zero(client), "1006 \"\" Transport"),
        ("/slow", |client, _| client.send_text("flood 70000"), "1008 \"\" Local"),
    ];
    for variant in VARIANTS {
        let limits = Limits { frame_bytes_max: 1000, ..limits.clone() };
        // Only who is meant to be idle is soon taken for it: a busy machine may keep others from acting.
        let hasty = Limits { idle_timeout: Duration::from_millis(300), ..limits.clone() };
        let patient = stage(variant, |builder| builder.limits(limits));
        let hasty = stage(variant, |builder| builder.limits(hasty));
        for (path, act, want) in cases {
            let stage = if path == "/idle" { &hasty } else { &patient };
            let mut client = Client::tcp_narrow(stage.server.addr);
            assert_eq!(client.ask(path, "").status, 101);
            act(&mut client, stage);
            if path == "/reset" {
                drop(client);
            }
            let told = format!("close {path} {want}");
            stage.journal.wait_for(&told);
            stage.server.wait_until_empty();
            let about: Vec<_> = stage.journal.all().into_iter().filter(|line| about(line, path)).collect();
            assert_eq!(about, [format!("open {path}"), told, format!("dropped {path}")]);
        }
    }
}

fn about(line: &str, path: &str) -> bool {
    line.split(' ').nth(1) == Some(path) && !line.starts_with("writable")
}

fn linger_zero(client: &mut Client) {
    rustix::net::sockopt::set_socket_linger(&client.socket, Some(Duration::ZERO)).expect("an option");
}

/// Refused, abandoned and plain connections were never open: nobody is told anything.
#[test]
fn what_was_never_open_is_never_closed() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder);
        Client::tcp(stage.server.addr).ask("/refuse", "");
        Client::tcp(stage.server.addr).send_raw(b"GET / HT");
        Client::tcp(stage.server.addr).send_raw(b"\x00\x01\x02 garbage \r\n\r\n");
        Client::tcp(stage.server.addr).reset();
        let mut plain = Client::tcp(stage.server.addr);
        plain.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(plain.reply().body, "0 open\n");
        drop(plain);
        stage.server.wait_until_empty();
        assert_eq!(stage.journal.all(), [""; 0]);
    }
}

#[test]
fn stopping_at_once_drops_every_session_and_socket() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder);
        let mut clients: Vec<_> = (0..20).map(|n| stage.open(&format!("/{n}"))).collect();
        // Some of them hot: a large message under way.
        for client in &mut clients[..10] {
            client.send_raw(&frame(BINARY, &vec![0; 200_000])[..150_000]);
        }
        until("it was read", || stage.server.sum(|metrics| &metrics.bytes_in) > 1_500_000);
        let (addr, journal) = (stage.server.addr, stage.journal.clone());
        stage.server.stop().expect("no core broke");
        for (n, client) in clients.iter_mut().enumerate() {
            client.gone();
            assert_eq!(journal.count(&format!("dropped /{n}")), 1);
        }
        std::net::TcpListener::bind(addr).expect("the port is free again");
    }
}

/// Twenty clients who read nothing, with a write under way to each that has no room.
fn stuck_clients(stage: &Stage, variant: Variant) -> Vec<Client> {
    let clients: Vec<_> = (0..20)
        .map(|n| {
            let mut client = Client::tcp_narrow(stage.server.addr);
            assert_eq!(client.ask(&format!("/{n}"), "").status, 101);
            client
        })
        .collect();
    let payload = Bytes::from(vec![7; 10_000]);
    let went = || stage.server.sum(|metrics| &metrics.bytes_out);
    let sent = || stage.server.sum(|metrics| &metrics.messages_out);
    let mut stuck = 0;
    until("nobody takes any more", || {
        // One at a time: small writes to many at once are those that go through a ring.
        let (went_before, sent_before) = (went(), sent());
        stage.server.handle.broadcast(MessageKind::Binary, payload.clone());
        until("it is queued for all", || sent() == sent_before + 20);
        thread::sleep(Duration::from_millis(1));
        stuck = if went() == went_before { stuck + 1 } else { 0 };
        stuck == 20
    });
    if variant.driver == DriverChoice::IoUring {
        assert!(stage.server.sum(|metrics| &metrics.writes_ring) > 0);
    }
    clients
}

#[test]
fn stopping_at_once_does_not_wait_for_peers_that_do_not_read() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder.cores(vec![0]));
        let mut clients = stuck_clients(&stage, variant);
        let (addr, journal) = (stage.server.addr, stage.journal.clone());
        stage.server.stop().expect("no core broke");
        for (n, client) in clients.iter_mut().enumerate() {
            client.gone();
            assert_eq!(journal.count(&format!("dropped /{n}")), 1);
        }
        std::net::TcpListener::bind(addr).expect("the port is free again");
    }
}

#[test]
fn draining_gives_peers_that_do_not_read_the_close_timeout_and_no_more() {
    let limits = Limits { close_timeout: Duration::from_millis(3000), ..Limits::default() };
    at_once(|variant| {
        let configure = |builder: Builder| builder.cores(vec![0]).limits(limits.clone()).drain_time(Duration::ZERO);
        let mut stage = stage(variant, configure);
        let mut clients = stuck_clients(&stage, variant);
        // One of them thinks better of it and gets everything: most of it before, for the way is narrow and the time short.
        const REST: u64 = 20;
        let messages = stage.server.sum(|metrics| &metrics.messages_out) / 20;
        let mut late = clients.pop().expect("there are twenty");
        (0..messages - REST).for_each(|_| assert_eq!(late.frame().opcode, BINARY));
        let reading = thread::spawn(move || {
            let count = (0..).take_while(|_| late.frame().opcode == BINARY).count();
            late.send_close(1001, "");
            late.end();
            count
        });
        let running = stage.server.running.take().expect("it runs");
        common::bounded("the drain ends", move || running.drain()).expect("no core broke");
        assert_eq!(reading.join().expect("it got its Close") as u64, REST);
        for (n, client) in clients.iter_mut().enumerate() {
            client.gone();
            assert_eq!(stage.journal.count(&format!("close /{n} 1001 \"\" Local")), 1);
            assert_eq!(stage.journal.count(&format!("dropped /{n}")), 1);
        }
    });
}

/// Who reads again after a while has missed nothing, whatever way the writes took.
#[test]
fn peers_that_read_again_get_every_broadcast_in_order() {
    for variant in VARIANTS {
        let stage = stage(variant, |builder| builder.cores(vec![0]));
        let clients = stuck_clients(&stage, variant);
        let messages = stage.server.sum(|metrics| &metrics.messages_out) / 20;
        stage.server.handle.broadcast(MessageKind::Text, Bytes::from_static(b"the last one"));
        let reading: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                thread::spawn(move || {
                    for index in 0..messages {
                        assert!(client.message() == (BINARY, vec![7; 10_000]), "message {index}");
                    }
                    assert_eq!(client.text(), "the last one");
                    client.close();
                })
            })
            .collect();
        reading.into_iter().for_each(|reader| reader.join().expect("nothing is lost"));
        (0..20).for_each(|n| stage.journal.wait_for(&format!("writable /{n}")));
        stage.server.wait_until_empty();
    }
}

#[test]
fn a_slow_reader_gets_everything_once_it_reads_and_the_handler_hears_of_it() {
    for variant in VARIANTS {
        let stage = stage_with(variant, |builder| builder, None, Overflow::DropMessage);
        let mut client = Client::tcp_narrow(stage.server.addr).upgraded("");
        let mut writer = client.writer();
        const COUNT: usize = 200;
        let writing = thread::spawn(move || {
            for n in 0..COUNT {
                let wire = frame(BINARY, &vec![n as u8; 100_000]);
                std::io::Write::write_all(&mut writer, &wire).expect("it is read at last");
            }
        });
        let figures = || {
            let server = &stage.server;
            (server.sum(|metrics| &metrics.bytes_in), server.sum(|metrics| &metrics.bytes_out))
        };
        until("reading stops", || {
            let before = figures();
            thread::sleep(Duration::from_millis(50));
            before.0 > 1 << 20 && figures() == before
        });
        let (came, went) = figures();
        // What may wait is the mark, one read that passed it, and the message that was cut.
        assert!(came - went < (1 << 20) + 400_000, "{came} bytes came, {went} went");
        assert!(!writing.is_finished());
        assert_eq!(stage.journal.count("writable /"), 0);
        for n in 0..COUNT {
            assert!(client.message() == (BINARY, vec![n as u8; 100_000]), "message {n}");
        }
        writing.join().expect("all was written");
        stage.journal.wait_for("writable /");
        client.close();
        assert_eq!(stage.server.sum(|metrics| &metrics.queue_drops), 0);
    }
}

#[test]
fn a_panic_in_writable_closes_the_connection() {
    // On a busy machine the narrow way takes long enough for a ping.
    let limits = Limits { queued_bytes_max: 8 << 20, ping_interval: Duration::ZERO, ..Limits::default() };
    for variant in VARIANTS {
        let stage = stage_with(variant, |builder| builder.limits(limits.clone()), None, Overflow::DropMessage);
        let mut client = Client::tcp_narrow(stage.server.addr);
        assert_eq!(client.ask("/panic-writable", "").status, 101);
        client.send_text("flood 100000");
        until("the queue is full", || stage.server.sum(|metrics| &metrics.queue_drops) == 1);
        // Who reads before it has written all that fits may never let it be full.
        until("the socket is full", || stage.server.handle.metrics().iter().any(|core| core.queued_bytes.get() > 0));
        for _ in 0..stage.server.sum(|metrics| &metrics.messages_out) {
            assert!(client.message() == (BINARY, vec![0; 100_000]));
        }
        assert_eq!(client.close_frame().0, 1011);
        client.send_close(1011, "");
        client.end();
    }
}

#[test]
fn a_queue_that_is_full_drops_the_message_or_the_connection() {
    let limits = Limits { queued_bytes_max: 1 << 20, queued_bytes_pause: 512 << 10, ..Limits::default() };
    for variant in VARIANTS {
        for overflow in [Overflow::DropMessage, Overflow::Disconnect(CloseCode(4008))] {
            let stage = stage_with(variant, |builder| builder.limits(limits.clone()), None, overflow);
            let mut client = Client::tcp_narrow(stage.server.addr).upgraded("");
            client.send_text("flood 1000");
            until("one was dropped", || stage.server.sum(|metrics| &metrics.queue_drops) == 1);
            let sent = stage.server.sum(|metrics| &metrics.messages_out);
            assert!((1040..1050).contains(&sent), "{sent} messages of 1000 bytes fit a mebibyte");
            for _ in 0..sent {
                assert!(client.message() == (BINARY, vec![0; 1000]));
            }
            match overflow {
                Overflow::DropMessage => {
                    client.send_text("go on");
                    assert_eq!(client.text(), "go on");
                    client.close();
                }
                Overflow::Disconnect(code) => {
                    assert_eq!(client.close_frame(), (code.0, "slow consumer".to_owned()));
                }
            }
        }
    }
}
