//! The server over TLS, with rustls's own connections as clients.

#![cfg(all(feature = "cli", feature = "tls"))]

mod common;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use common::pki::{Pki, connect};
use common::{
    BINARY, Client, Folder, Socket, TEXT, TestServer, VARIANTS, any_len, at_once, builder, frame, noise, random,
    request, serve, until,
};
use corewire::builtin::Echo;
use corewire::connection::Limits;
use corewire::handler::{Accept, Conn, ConnHandle, Handler, Request, Upgrade};
use corewire::metrics::ShardMetrics;
use corewire::protocol::Message;
use corewire::protocol::close::CloseCode;
use corewire::server::ListenAddr;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};

const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&TLS13], &[&TLS12]];

fn open(server: &TestServer, config: &Arc<ClientConfig>) -> Client {
    connect(server.addr, config).upgraded("")
}

#[test]
fn echoes_of_all_sizes_in_both_versions() {
    for variant in VARIANTS {
        let pki = Pki::new();
        let server = serve(variant, |builder| builder.tls(pki.server(false)), |_| Echo);
        let mut random = random();
        for version in VERSIONS {
            let mut client = open(&server, &pki.client(version, false));
            for len in [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_535, 65_536, 1 << 20, 5 << 20] {
                let payload = noise(len, &mut random);
                client.send(BINARY, &payload);
                assert!(client.message() == (BINARY, payload), "{len} bytes");
            }
            let payloads: Vec<_> = (0..300).map(|_| noise(any_len(12, &mut random.clone()), &mut random)).collect();
            client.send_raw(&payloads.iter().flat_map(|payload| frame(BINARY, payload)).collect::<Vec<_>>());
            for (index, payload) in payloads.into_iter().enumerate() {
                assert!(client.message() == (BINARY, payload), "message {index}");
            }
            client.close();
        }
        server.wait_until_empty();
    }
}

/// Records cut by reads anywhere, down to single bytes, from the first byte of the handshake on.
#[test]
fn ciphertext_may_be_cut_anywhere() {
    for variant in VARIANTS {
        let pki = Pki::new();
        let server = serve(variant, |builder| builder.tls(pki.server(false)), |_| Echo);
        let mut random = random();
        for version in VERSIONS {
            let mut client = connect(server.addr, &pki.client(version, false));
            let Socket::Tls(stream) = &mut client.socket else { panic!("it is TLS") };
            let (tls, socket) = (&mut stream.conn, &mut stream.sock);
            tls.writer().write_all(request("/", "").as_bytes()).expect("a buffer");
            let mut expected = Vec::new();
            for n in 0..30 {
                // All of it is written before anything is read: it must fit into the buffers on the way.
                let payload = noise(any_len(13, &mut random.clone()), &mut random);
                tls.writer().write_all(&frame(BINARY, &payload)).expect("a buffer");
                expected.push((n, payload));
            }
            while tls.is_handshaking() || tls.wants_write() {
                let mut wire = Vec::new();
                while tls.wants_write() {
                    tls.write_tls(&mut wire).expect("a vector never fails");
                }
                let mut rest = &wire[..];
                while !rest.is_empty() {
                    let len = (1 + any_len(11, &mut random)).min(rest.len());
                    socket.write_all(&rest[..len]).expect("the server reads");
                    rest = &rest[len..];
                }
                if tls.is_handshaking() {
                    tls.read_tls(socket).expect("an answer");
                    tls.process_new_packets().expect("a good one");
                }
            }
            assert_eq!(client.reply().status, 101);
            for (n, payload) in expected {
                assert!(client.message() == (BINARY, payload), "message {n}");
            }
            client.close();
        }
    }
}

/// Tells what it knows of the TLS session.
struct Facts;

impl Handler for Facts {
    type Session = String;

    fn upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Upgrade<String> {
        let core = conn.core_index();
        let facts = request.tls().map_or("plain".to_owned(), |tls| {
            let (version, sni) = (tls.version.expect("it is known"), tls.sni.as_deref().unwrap_or("nobody"));
            format!("{version:?} for {sni}, {} certificates, resumed: {}", tls.peer_chain.len(), tls.resumed)
        });
        Upgrade::Accept(Accept::new(facts.clone()).header("X-Core", core.to_string()).header("X-Facts", facts))
    }

    fn message(&mut self, conn: &mut Conn<'_>, facts: &mut String, message: Message<'_>) {
        if message.text() == Some("farewell") {
            for index in 0..64u8 {
                conn.send_binary(&[index; 64 << 10]).expect("there is room");
            }
            conn.close(CloseCode(4321), "that was all");
        } else {
            conn.send_text(facts).expect("there is room");
        }
    }
}

#[test]
fn a_session_is_resumed_on_another_core() {
    for variant in VARIANTS {
        let pki = Pki::new();
        let server = serve(variant, |builder| builder.cores(vec![0, 1]).tls(pki.server(false)), |_| Facts);
        for (version, name) in VERSIONS.into_iter().zip(["Tls13", "Tls12"]) {
            let config = pki.client(version, false);
            let mut first_core = None;
            for attempt in 0.. {
                assert!(attempt < 100, "the kernel gives one core everything");
                let mut client = connect(server.addr, &config);
                let reply = client.ask("/", "");
                let core = reply.header("x-core").expect("the handler says so").to_owned();
                let resumed = attempt > 0;
                let want = format!("{name} for localhost, 0 certificates, resumed: {resumed}");
                assert_eq!(reply.header("x-facts"), Some(&*want));
                let Socket::Tls(stream) = &client.socket else { panic!("it is TLS") };
                assert_eq!(stream.conn.handshake_kind() == Some(HandshakeKind::Resumed), resumed);
                // The ticket of TLS 1.3 comes with the first read after the handshake at the latest.
                client.close();
                if *first_core.get_or_insert(core.clone()) != core {
                    break;
                }
            }
        }
    }
}

#[test]
fn clients_show_their_certificate_or_stay_outside() {
    for variant in VARIANTS {
        let pki = Pki::new();
        let server = serve(variant, |builder| builder.tls(pki.server(true)), |_| Facts);
        for version in VERSIONS {
            let mut client = connect(server.addr, &pki.client(version, true));
            let reply = client.ask("/", "");
            assert!(reply.header("x-facts").expect("facts").contains("1 certificates"), "{reply:?}");
            client.close();

            let before = server.sum(|metrics| &metrics.refused_tls);
            let mut client = connect(server.addr, &pki.client(version, false));
            let written = client.socket.write_all(request("/", "").as_bytes());
            let mut answer = Vec::new();
            let outcome = written.and_then(|()| client.socket.read_to_end(&mut answer));
            let error = outcome.expect_err("no answer").to_string();
            assert!(error.contains("alert") || error.contains("CertificateRequired"), "{error}");
            assert_eq!(answer, b"");
            until("it is counted", || server.sum(|metrics| &metrics.refused_tls) == before + 1);
        }
        server.wait_until_empty();
    }
}

/// The test's client fails on an end without close_notify, so every `end` of these tests checks one half; here is
/// the other: the client's close_notify is the end of its input, though its socket stays open.
#[test]
fn close_notify_ends_a_connection_and_is_answered() {
    for variant in VARIANTS {
        let pki = Pki::new();
        let server = serve(variant, |builder| builder.tls(pki.server(false)), |_| Echo);
        for version in VERSIONS {
            let mut client = open(&server, &pki.client(version, false));
            client.send_text("the last word");
            let Socket::Tls(stream) = &mut client.socket else { panic!("it is TLS") };
            stream.conn.send_close_notify();
            stream.flush().expect("it is written");
            assert_eq!(client.text(), "the last word");
            client.end();
        }
        until("both are over", || server.sum(|metrics| &metrics.closes_abnormal) == 2);
        server.wait_until_empty();
    }
}

/// Pauses at each message until the test has resumed it.
struct Stepwise(std::sync::mpsc::Sender<ConnHandle>);

impl Handler for Stepwise {
    type Session = ();

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), message: Message<'_>) {
        conn.pause();
        conn.reply(message).expect("there is room");
        self.0.send(conn.handle()).expect("the test waits");
    }
}

/// What was sent before the end is answered, however long the application takes over each message.
#[test]
fn an_end_waits_behind_the_messages_that_a_pause_holds_back() {
    for variant in VARIANTS {
        for secure in [false, true] {
            let pki = Pki::new();
            let (sender, paused) = std::sync::mpsc::channel();
            let sender = std::sync::Mutex::new(sender);
            let server = serve(
                variant,
                |builder| if secure { builder.tls(pki.server(false)) } else { builder },
                move |_| Stepwise(sender.lock().expect("no panic while it was held").clone()),
            );
            let mut client =
                if secure { open(&server, &pki.client(&[&TLS13], false)) } else { Client::open(server.addr) };
            let wire: Vec<u8> = (0..5).flat_map(|n| frame(TEXT, format!("{n}").as_bytes())).collect();
            client.send_raw(&wire);
            if let Socket::Tls(stream) = &mut client.socket {
                stream.conn.send_close_notify();
                stream.flush().expect("it is written");
            }
            client.fin();
            for n in 0..5 {
                let told = paused.recv_timeout(common::PATIENCE);
                let handle = told.unwrap_or_else(|_| panic!("message {n}, secure: {secure}"));
                assert_eq!(client.text(), format!("{n}"), "secure: {secure}");
                handle.resume().expect("there is room");
            }
            client.end();
            drop(client);
            server.wait_until_empty();
        }
    }
}

#[test]
fn fin_without_close_notify_is_an_end_too() {
    for variant in VARIANTS {
        let pki = Pki::new();
        let server = serve(variant, |builder| builder.tls(pki.server(false)), |_| Echo);
        for version in VERSIONS {
            let mut client = open(&server, &pki.client(version, false));
            client.send_text("the last word");
            client.fin();
            assert_eq!(client.text(), "the last word");
            client.end();
        }
        server.wait_until_empty();
    }
}

/// All of it arrives although the peer writes megabytes before it reads.
#[test]
fn closing_is_whole() {
    for variant in VARIANTS {
        let pki = Pki::new();
        let server = serve(variant, |builder| builder.tls(pki.server(false)), |_| Facts);
        for version in VERSIONS {
            let mut client = open(&server, &pki.client(version, false));
            client.send_text("farewell");
            for _ in 0..64 {
                client.send(BINARY, &[1; 64 << 10]);
            }
            for index in 0..64u8 {
                assert!(client.message() == (BINARY, vec![index; 64 << 10]), "message {index}");
            }
            assert_eq!(client.close_frame(), (4321, "that was all".to_owned()));
            client.send_close(4321, "");
            client.end();
        }
        server.wait_until_empty();
    }
}

#[test]
fn who_speaks_no_tls_is_turned_away_and_counted() {
    let limits = Limits { close_timeout: Duration::from_millis(200), ..Limits::default() };
    for variant in VARIANTS {
        let pki = Pki::new();
        let server = serve(variant, |builder| builder.tls(pki.server(false)).limits(limits.clone()), |_| Echo);
        let mut random = random();
        let garbage = noise(3000, &mut random);
        let truncated = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01];
        for (name, bytes) in [
            ("garbage", &garbage[..]),
            ("a ClientHello of nothing", &[0x16, 0x03, 0x01, 0x00, 0x04, 0x01, 0x00, 0x00, 0x00]),
        ] {
            let before = server.sum(|metrics| &metrics.refused_tls);
            let mut client = Client::tcp(server.addr);
            client.send_raw(bytes);
            client.gone();
            assert_eq!(server.sum(|metrics| &metrics.refused_tls), before + 1, "{name}");
        }
        let before = server.sum(|metrics| &metrics.refused_tls);
        let mut client = Client::tcp(server.addr);
        let reply = client.ask("/", "");
        assert_eq!((reply.status, reply.body.as_str()), (400, "This port speaks TLS: use https:// or wss://.\n"));
        client.end();
        assert_eq!(server.sum(|metrics| &metrics.refused_tls), before + 1);
        let mut client = Client::tcp(server.addr);
        client.send_raw(&truncated);
        client.fin();
        client.gone();
        let client = Client::tcp(server.addr);
        client.reset();
        open(&server, &pki.client(&[&TLS13], false)).close();
        server.wait_until_empty();
    }
}

#[test]
fn a_tls_handshake_that_does_not_end_is_cut_at_its_deadline() {
    // Enough for a whole handshake, however busy the machine.
    let limits = Limits { handshake_timeout: Duration::from_secs(3), ..Limits::default() };
    at_once(|variant| {
        let pki = Pki::new();
        let server = serve(variant, |builder| builder.tls(pki.server(false)).limits(limits.clone()), |_| Echo);
        // Nothing at all; half a ClientHello; a whole handshake but no request; half a request.
        let mut mute = Client::tcp(server.addr);
        let mut cut = Client::tcp(server.addr);
        cut.send_raw(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]);
        let mut silent = connect(server.addr, &pki.client(&[&TLS13], false));
        silent.socket.flush().expect("a handshake");
        let mut slow = connect(server.addr, &pki.client(&[&TLS13], false));
        slow.send_raw(b"GET / HTTP/1.1\r\n");
        mute.gone();
        cut.gone();
        silent.end();
        assert_eq!(slow.reply().status, 408);
        slow.end();
        drop((mute, cut, silent, slow));
        server.wait_until_empty();
    });
}

/// Its connection has stopped opening once, and must not do so again.
#[test]
fn http_that_comes_after_the_deadline_is_counted_once() {
    at_once(|variant| {
        let pki = Pki::new();
        let limits = Limits { handshake_timeout: Duration::from_millis(100), ..Limits::default() };
        let server = serve(variant, |builder| builder.limits(limits).tls(pki.server(false)), |_| Echo);
        let mut client = Client::tcp(server.addr);
        until("its time is up", || server.sum(|metrics| &metrics.refused_timeout) == 1);
        client.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.end();
        server.wait_until_empty();
        until("it is gone", || server.sum(|metrics| &metrics.connections_cold) == 0);
        let of_core =
            |metrics: &ShardMetrics| (metrics.connections_handshaking.get(), metrics.connections_closing.get());
        assert!(server.handle.metrics().iter().all(|metrics| of_core(metrics) == (0, 0)));
    });
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    for variant in VARIANTS {
        let pki = Pki::new();
        let server = serve(variant, |builder| builder.tls(pki.server(false)).connections_max(1), |_| Echo);
        let mut inside = open(&server, &pki.client(&[&TLS13], false));
        Client::tcp(server.addr).gone();
        assert_eq!(server.sum(|metrics| &metrics.refused_capacity), 1);
        inside.send_text("fine");
        assert_eq!(inside.text(), "fine");
        inside.close();
    }
}

#[test]
fn unix_sockets_stay_plain() {
    for variant in VARIANTS {
        let pki = Pki::new();
        let folder = Folder::new();
        let path = folder.path("plain.sock");
        let server = builder(variant)
            .tls(pki.server(false))
            .listen("127.0.0.1:0".parse().unwrap())
            .listen_on(ListenAddr::Unix { path: path.clone(), mode: 0o600 });
        let server = TestServer::new(server.start(|_| Facts).expect("it starts"));
        let mut plain = Client::unix(&path).upgraded("");
        plain.send_text("who am I");
        assert_eq!(plain.text(), "plain");
        plain.close();
        let mut secure = open(&server, &pki.client(&[&TLS13], false));
        secure.send_text("who am I");
        assert_eq!(secure.text(), "Tls13 for localhost, 0 certificates, resumed: false");
        secure.close();
    }
}

#[test]
fn a_slow_reader_gets_everything_once_it_reads() {
    for variant in VARIANTS {
        let pki = Pki::new();
        let server = serve(variant, |builder| builder.tls(pki.server(false)), |_| Echo);
        let mut client = open(&server, &pki.client(&[&TLS13], false));
        // Four at a time: more than the kernel's buffers hold, less than what deadlocks a client of one thread.
        for round in 0..20u8 {
            for part in 0..4 {
                client.send(BINARY, &vec![round ^ part; 200_000]);
            }
            for part in 0..4 {
                assert!(client.message() == (BINARY, vec![round ^ part; 200_000]), "round {round}, part {part}");
            }
        }
        client.send(TEXT, b"done");
        assert_eq!(client.text(), "done");
        client.close();
    }
}

#[test]
fn the_log_says_who_broke_tls_and_that_http_came_to_its_port() {
    let pki = Pki::new();
    let folder = Folder::new();
    let (cert, key) = (folder.path("cert.pem"), folder.path("key.pem"));
    std::fs::write(&cert, &pki.cert).expect("a file");
    std::fs::write(&key, &pki.key).expect("a file");
    let (cert, key) = (cert.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
    for variant in VARIANTS {
        let mut binary = common::binary::Binary::on_any_port(variant, &["echo", "--tls-cert", cert, "--tls-key", key]);
        assert!(binary.lines[0].starts_with("listening on wss://127.0.0.1:"), "{:?}", binary.lines);
        let mut client = Client::tcp(binary.addr());
        assert_eq!(client.ask("/", "").status, 400);
        client.end();
        drop(client);
        binary.wait_for_log("TLS failed");
        let log = binary.log();
        let line = log.lines().find(|line| line.contains("TLS failed")).expect("it is there");
        assert!(line.contains("HTTP") && line.contains("127.0.0.1:"), "{line}");
        assert!(!log.contains("panic"), "{log}");
        let mut client = connect(binary.addr(), &pki.client(&[&TLS13], false)).upgraded("");
        client.send_text("fine");
        assert_eq!(client.text(), "fine");
        client.close();
        let mut client = connect(binary.addr(), &pki.client(&[&TLS13], false)).upgraded("");
        let Socket::Tls(stream) = &mut client.socket else { panic!("it is TLS") };
        stream.sock.write_all(b"no record").expect("the server reads");
        binary.wait_for_log("broke the TLS protocol");
        let log = binary.log();
        let line = log.lines().find(|line| line.contains("broke the TLS protocol")).expect("it is there");
        assert!(line.contains("connection=") && !line.contains("peer="), "{line}");
        binary.signal(rustix::process::Signal::TERM);
        assert!(binary.wait().success());
    }
}
