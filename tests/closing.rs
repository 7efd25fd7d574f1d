//! Closing is whole: what was queued arrives, then Close, then FIN, and no reset destroys any of it (RFC 6455 §7).

#![cfg(feature = "cli")]

mod common;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    BINARY, CLOSE, Client, PATIENCE, PING, TEXT, VARIANTS, at_once, close_payload, frame, request, serve, until,
};
use corewire::builtin::Echo;
use corewire::connection::Limits;
use corewire::handler::{Accept, Conn, Handler, Request, Upgrade};
use corewire::protocol::Message;
use corewire::protocol::close::CloseCode;

#[test]
fn a_close_is_answered_with_its_own_code_and_words_and_ends_with_fin() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            let mut client = Client::open(server.addr);
            client.send_close(code, "as I say");
            assert_eq!(client.close_frame(), (code, "as I say".to_owned()));
            client.end();
        }
        let mut client = Client::open(server.addr);
        client.send(CLOSE, b"");
        assert_eq!(client.close_frame(), (1005, String::new()), "an empty Close is answered with an empty one");
        client.end();
        drop(client);
        server.wait_until_empty();
    }
}

#[test]
fn a_close_that_breaks_a_rule_is_a_violation() {
    let cases: &[(&str, Vec<u8>, u16)] = &[
        ("one byte", vec![3], 1002),
        ("code 0", close_payload(0, ""), 1002),
        ("code 999", close_payload(999, ""), 1002),
        ("code 1004", close_payload(1004, ""), 1002),
        ("code 1005", close_payload(1005, ""), 1002),
        ("code 1006", close_payload(1006, ""), 1002),
        ("code 1015", close_payload(1015, ""), 1002),
        ("code 1016", close_payload(1016, ""), 1002),
        ("code 2999", close_payload(2999, ""), 1002),
        ("code 5000", close_payload(5000, ""), 1002),
        ("code 65535", close_payload(65535, ""), 1002),
        ("a reason that is not UTF-8", vec![3, 0xE8, 0xFF, 0xFE], 1007),
    ];
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        for (name, payload, want) in cases {
            let mut client = Client::open(server.addr);
            client.send(CLOSE, payload);
            assert_eq!(client.close_frame().0, *want, "{name}");
            client.end();
        }
    }
}

#[test]
fn what_follows_a_close_is_dropped_and_harms_nothing() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let mut client = Client::open(server.addr);
        let mut wire = frame(TEXT, b"before");
        wire.extend(frame(CLOSE, &close_payload(1000, "")));
        wire.extend(frame(TEXT, b"after"));
        wire.extend(frame(CLOSE, &close_payload(1001, "")));
        wire.extend([0xFF; 100]);
        client.send_raw(&wire);
        // And goes on sending, for as long as there is somebody.
        let mut writer = client.writer();
        let sending = thread::spawn(move || (0..200).all(|_| writer.write_all(&frame(BINARY, &[7; 50_000])).is_ok()));
        assert_eq!(client.text(), "before");
        assert_eq!(client.close_frame(), (1000, String::new()));
        client.end();
        assert!(sending.join().expect("no panic"), "ten megabytes are read and dropped");
    }
}

/// On `go`, queues eight megabytes and a Close. Counts nothing else.
struct Farewell;

const PARTING_MESSAGES: usize = 128;
const PARTING_LEN: usize = 64 << 10;

impl Handler for Farewell {
    type Session = ();

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), message: Message<'_>) {
        if message.text() == Some("go") {
            for index in 0..PARTING_MESSAGES {
                conn.send_binary(&[index as u8; PARTING_LEN]).expect("there is room");
            }
            conn.close(CloseCode(4321), "that was all");
            assert!(conn.send_text("too late").is_err());
        }
    }
}

/// The hardest ending: the peer writes megabytes before it reads a byte, and must still get everything.
#[test]
fn a_peer_that_sends_while_the_server_closes_gets_every_byte_and_the_close() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Farewell);
        let mut client = Client::open(server.addr);
        client.send_text("go");
        for _ in 0..256 {
            client.send(BINARY, &[1; 64 << 10]);
        }
        for index in 0..PARTING_MESSAGES {
            assert!(client.message() == (BINARY, vec![index as u8; PARTING_LEN]), "message {index}");
        }
        assert_eq!(client.close_frame(), (4321, "that was all".to_owned()));
        client.send_close(4321, "");
        client.end();
        drop(client);
        server.wait_until_empty();
    }
}

/// As before, but the peer breaks a rule: there is no handshake of closing, only our Close and FIN.
#[test]
fn a_violation_amid_a_flood_still_delivers_what_was_queued() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let mut client = Client::open(server.addr);
        let mut wire: Vec<u8> = (0..100).flat_map(|_| frame(BINARY, &[5; 5000])).collect();
        wire.extend([0x82, 0x01, 0x00]);
        client.send_raw(&wire);
        for _ in 0..256 {
            client.send_raw(&[0; 64 << 10]);
        }
        for _ in 0..100 {
            assert!(client.message() == (BINARY, vec![5; 5000]));
        }
        assert_eq!(client.close_frame().0, 1002);
        client.end();
        drop(client);
        server.wait_until_empty();
    }
}

#[test]
fn fin_after_a_message_is_no_reason_not_to_answer_it() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let mut client = Client::open(server.addr);
        for n in 0..50 {
            client.send_text(&format!("{n}"));
        }
        client.send(BINARY, &vec![9; 3 << 20]);
        client.fin();
        for n in 0..50 {
            assert_eq!(client.text(), format!("{n}"));
        }
        assert!(client.message() == (BINARY, vec![9; 3 << 20]));
        client.end();
        server.wait_until_empty();
    }
}

#[test]
fn fin_right_after_the_request_and_a_message_is_no_reason_not_to_answer_both() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder, |_| Echo);
        let mut client = Client::tcp(server.addr);
        let mut wire = request("/", "").into_bytes();
        wire.extend(frame(TEXT, b"all in one"));
        client.send_raw(&wire);
        client.fin();
        assert_eq!(client.reply().status, 101);
        assert_eq!(client.text(), "all in one");
        client.end();

        let mut client = Client::tcp(server.addr);
        client.send_raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        client.fin();
        let reply = client.reply();
        assert_eq!((reply.status, reply.body.as_str()), (200, "ok\n"));
        client.end();
        server.wait_until_empty();
    }
}

fn short_close() -> Limits {
    Limits { close_timeout: CLOSE_TIMEOUT, ..Limits::default() }
}

const CLOSE_TIMEOUT: Duration = Duration::from_millis(600);

/// Closes as soon as it is told anything, with nothing else queued.
struct Leaver;

impl Handler for Leaver {
    type Session = ();

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), _: Message<'_>) {
        conn.close(CloseCode::NORMAL, "bye");
    }
}

#[test]
fn who_does_not_answer_our_close_is_cut_after_the_close_timeout() {
    // So long that a machine which stands still for two seconds is not taken for a timeout that begins anew.
    const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
    at_once(|variant| {
        let limits = Limits { close_timeout: CLOSE_TIMEOUT, ..Limits::default() };
        let server = serve(variant, |builder| builder.limits(limits), |_| Leaver);
        let mut client = Client::open(server.addr);
        let told = Instant::now();
        client.send_text("leave");
        assert_eq!(client.close_frame(), (1000, "bye".to_owned()));
        // The peer keeps talking, but of other things.
        let mut writer = client.writer();
        let talking = thread::spawn(move || {
            while writer.write_all(&frame(PING, b"la la la")).is_ok() && told.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(20));
            }
        });
        client.gone();
        server.wait_until_empty();
        let took = told.elapsed();
        assert!(took >= CLOSE_TIMEOUT - Duration::from_millis(50), "cut after {took:?} already");
        assert!(took < 2 * CLOSE_TIMEOUT - Duration::from_millis(100), "cut after {took:?} only");
        talking.join().expect("no panic");
    });
}

#[test]
fn who_answers_our_close_but_keeps_the_connection_is_cut_too() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder.limits(short_close()), |_| Leaver);
        let mut client = Client::open(server.addr);
        client.send_text("leave");
        client.close_frame();
        client.send_close(1000, "");
        client.end();
        let start = Instant::now();
        server.wait_until_empty();
        let took = start.elapsed();
        // Not as late as by the timeout that is usual.
        assert!(took < Limits::default().close_timeout, "cut after {took:?} only");
    }
}

#[test]
fn who_reads_nothing_of_its_farewell_is_cut_after_the_close_timeout() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder.limits(short_close()), |_| Farewell);
        let mut client = Client::tcp_narrow(server.addr).upgraded("");
        client.send_text("go");
        until("the server gives up", || server.handle.connection_count() == 0);
    }
}
