//! `corewire serve` as its clients meet it: bare data from a URL, and `corewire.v1`.

#![cfg(feature = "cli")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use common::binary::Binary;
use common::{BINARY, Client, PATIENCE, TestServer, VARIANTS, Variant, serve, until};
use corewire::builtin::Serve;
use corewire::topics::{Access, DataKind, Draft, Namespace, Namespaces, SlowConsumer, Topic};

fn stage(variant: Variant, demo: bool) -> TestServer {
    stage_with(variant, demo, Serve::namespaces(demo))
}

fn stage_with(variant: Variant, demo: bool, namespaces: Namespaces) -> TestServer {
    serve(variant, |builder| builder.cores(vec![0, 1]).namespaces(namespaces), move |_| Serve::new(demo))
}

/// Some that differ: nobody subscribes to `secret`, `members` wants a token, `last` keeps a value, `small` is small.
fn several() -> Namespaces {
    let named = |name: &str| Namespace { name: name.into(), publish: Access::Public, ..Namespace::default() };
    let all = [
        Namespace { subscribe: Access::Nobody, ..named("secret") },
        Namespace { subscribe: Access::Token, publish: Access::Token, presence: true, ..named("members") },
        Namespace { history_messages: 1, presence: true, ..named("last") },
        Namespace { message_bytes_max: 10, history_messages: 3, ..named("small") },
        Namespace { slow_consumer: SlowConsumer::DropOldest, ..named("lossy") },
    ];
    Namespaces::new(Namespace { publish: Access::Public, ..Namespace::default() }, all).expect("they are good")
}

fn publish(server: &TestServer, topic: &str, kind: DataKind, data: &str) {
    let draft = Draft { kind, data: Bytes::copy_from_slice(data.as_bytes()), key: None, publisher: None };
    server.handle.publish(&Topic::parse(topic).expect(topic), draft).expect("there is room");
}

/// Until so many subscriptions have been made: what is published from now on comes to their homes later.
fn wait_for_subscriptions(server: &TestServer, count: u64) {
    until("all have subscribed", || server.sum(|metrics| &metrics.subscriptions) == count);
}

/// A pattern is heard from when all cores know it: publishes until it is, and takes what came of that.
fn wait_for_pattern(server: &TestServer, client: &mut Client, topic: &str) {
    client.set_read_timeout(Duration::from_millis(50));
    until("it is heard", || {
        publish(server, topic, DataKind::Text, "?");
        client.peek()
    });
    client.set_read_timeout(PATIENCE);
    publish(server, topic, DataKind::Text, "!");
    while client.text() != "!" {}
}

/// A whole answer to a plain request.
fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

// ---- raw mode ------------------------------------------------------------------------------------------------

#[test]
fn a_url_is_enough_to_subscribe_and_to_publish() {
    for variant in VARIANTS {
        let server = stage(variant, true);
        let mut one = Client::open_at(server.addr, "/ws?topic=a");
        let mut two = Client::open_at(server.addr, "/ws?topic=a&topic=b%3Ac&topic=a&token=ignored");
        let mut wild = Client::open_at(server.addr, "/ws?topic=b:*");
        wait_for_subscriptions(&server, 4);
        wait_for_pattern(&server, &mut wild, "b:probe");
        // The same connection subscribed before it says this, so it hears itself.
        one.send_text("{\"not\": \"looked into\"}");
        assert_eq!(one.text(), "{\"not\": \"looked into\"}");
        assert_eq!(two.text(), "{\"not\": \"looked into\"}");
        let forms = [
            (DataKind::Text, "a text", "a text"),
            (DataKind::Json, "\"a \\\"string\\\"\\n\"", "a \"string\"\n"),
            (DataKind::Json, "{\"a\": [1, 2]}", "{\"a\": [1, 2]}"),
            (DataKind::Json, "17", "17"),
        ];
        for (kind, data, want) in forms {
            publish(&server, "b:c", kind, data);
            assert_eq!(two.text(), want);
            assert_eq!(wild.text(), want);
        }
        two.send_text("to which of them?");
        assert_eq!(two.close_frame(), (1008, "publishing needs exactly one topic".into()));
        wild.send_text("to all of them?");
        assert_eq!(wild.close_frame(), (1008, "publishing needs exactly one topic".into()));
        one.send(BINARY, b"bytes");
        assert_eq!(one.close_frame(), (1003, "only text is understood".into()));
    }
}

#[test]
fn without_the_demo_clients_listen() {
    for variant in VARIANTS {
        let server = stage(variant, false);
        let mut speaker = Client::open_at(server.addr, "/ws?topic=news");
        let mut listener = Client::open_at(server.addr, "/ws?topic=news");
        wait_for_subscriptions(&server, 2);
        speaker.send_text("me");
        assert_eq!(speaker.close_frame(), (1008, "clients may not publish here".into()));
        publish(&server, "news", DataKind::Text, "from the back end");
        assert_eq!(listener.text(), "from the back end");
    }
}

#[test]
fn what_cannot_be_subscribed_to_is_answered_with_a_status() {
    for variant in VARIANTS {
        let server = stage_with(variant, true, several());
        let many: String = (0..33).map(|n| format!("&topic={n}")).collect();
        let cases = [
            ("/", 404, "connect to /ws"),
            ("/wss?topic=a", 404, "connect to /ws"),
            ("/ws", 400, "no topic"),
            ("/ws?topic=", 400, "must have a name"),
            ("/ws?topic=a::b", 400, "empty"),
            ("/ws?topic=a*", 400, "must be the whole of it"),
            (&format!("/ws?{many}"), 400, "more than 32"),
            ("/ws?topic=a&topic=secret:x", 403, "may not subscribe"),
            ("/ws?topic=secret:*", 403, "may not subscribe"),
            ("/ws?topic=members", 401, "needs a token"),
        ];
        for (path, status, says) in cases {
            let reply = Client::tcp(server.addr).ask(path, "");
            assert_eq!(reply.status, status, "{path}");
            assert!(reply.body.contains(says), "{path}: {}", reply.body);
        }
        assert!(get(server.addr, "/ws?topic=a").starts_with("HTTP/1.1 426 "));
        assert!(get(server.addr, "/elsewhere").starts_with("HTTP/1.1 404 "));
        // A wildcard hears its own namespace and no other.
        let mut wild = Client::open_at(server.addr, "/ws?topic=**");
        let mut last = Client::open_at(server.addr, "/ws?topic=last:*");
        wait_for_subscriptions(&server, 2);
        wait_for_pattern(&server, &mut wild, "probe");
        wait_for_pattern(&server, &mut last, "last:probe");
        publish(&server, "secret:x", DataKind::Text, "secret");
        publish(&server, "last:x", DataKind::Text, "other");
        assert_eq!(last.text(), "other");
        publish(&server, "public", DataKind::Text, "heard");
        assert_eq!(wild.text(), "heard");
    }
}

/// 0, 1 and 2, of which a namespace that keeps one value keeps the last.
fn publish_three(server: &TestServer, topic: &str) {
    for n in 0..3 {
        publish(server, topic, DataKind::Json, &n.to_string());
    }
    until("all are published", || server.sum(|metrics| &metrics.publications) == 3);
}

#[test]
fn newcomers_get_the_last_value_where_one_is_kept() {
    for variant in VARIANTS {
        let server = stage_with(variant, true, several());
        publish_three(&server, "last:eur");
        let mut client = Client::open_at(server.addr, "/ws?topic=last:eur");
        assert_eq!(client.text(), "2");
        let mut small = Client::open_at(server.addr, "/ws?topic=small");
        small.send_text("0123456789");
        assert_eq!(small.text(), "0123456789");
        small.send_text("0123456789+");
        assert_eq!(small.close_frame().0, 1009);
    }
}

#[test]
fn who_cannot_recover_gets_the_last_value_where_one_is_kept() {
    for variant in VARIANTS {
        let server = stage_with(variant, true, several());
        publish_three(&server, "last:eur");
        let mut client = connected(&server);
        let subscribe = |id, epoch: &str, offset| {
            let recover = format!(r#"{{"epoch":"{epoch}","offset":{offset}}}"#);
            format!(r#"{{"type":"subscribe","id":{id},"topic":"last:eur","recover":{recover}}}"#)
        };
        // From another life of the topic, and then from too far back in this one.
        let ack = ask(&mut client, &subscribe(2, "00000000000000aa", 7));
        let epoch = field(&ack, "epoch");
        let want = format!(r#""epoch":"{epoch}","offset":3,"recovered":false,"replay":1}}"#);
        assert!(ack.ends_with(&want), "{ack}");
        assert_eq!(client.text(), r#"{"type":"message","topic":"last:eur","offset":3,"data":2}"#);
        ask(&mut client, r#"{"type":"unsubscribe","id":3,"topic":"last:eur"}"#);
        let ack = ask(&mut client, &subscribe(4, &epoch, 1));
        assert!(ack.ends_with(&want), "{ack}");
        assert_eq!(client.text(), r#"{"type":"message","topic":"last:eur","offset":3,"data":2}"#);
        ask(&mut client, r#"{"type":"unsubscribe","id":5,"topic":"last:eur"}"#);
        let ack = ask(&mut client, &subscribe(6, &epoch, 2));
        assert!(ack.contains(r#""recovered":true,"replay":1"#), "{ack}");
    }
}

#[test]
fn strict_namespaces_refuse_what_is_in_none_of_them() {
    for variant in VARIANTS {
        let server = stage_with(variant, true, several().strict(true));
        let mut client = connected(&server);
        for (n, topic) in ["elsewhere:a", "lastly:eur", "*:eur", "elsewhere:**"].iter().enumerate() {
            let answer = ask(&mut client, &format!(r#"{{"type":"subscribe","id":{n},"topic":"{topic}"}}"#));
            assert_eq!(field(&answer, "code"), "unknown_namespace", "{topic}");
            for path in ["/ws", "/sse"] {
                let path = format!("{path}?topic=plain&topic={topic}");
                let answer = if path.starts_with("/ws") {
                    let reply = Client::tcp(server.addr).ask(&path, "");
                    format!("{} {}", reply.status, reply.body)
                } else {
                    get(server.addr, &path).split_off("HTTP/1.1 ".len())
                };
                assert!(answer.starts_with("404") && answer.contains("is not configured"), "{topic}: {answer}");
            }
        }
        for message in [
            r#"{"type":"publish","id":7,"topic":"elsewhere:a","data":1}"#,
            r#"{"type":"presence","id":8,"topic":"elsewhere:a"}"#,
        ] {
            assert_eq!(field(&ask(&mut client, message), "code"), "unknown_namespace", "{message}");
        }
        for (n, topic) in ["plain", "last:eur", "last:*", "**"].iter().enumerate() {
            let answer = ask(&mut client, &format!(r#"{{"type":"subscribe","id":{n},"topic":"{topic}"}}"#));
            assert!(answer.starts_with(&format!(r#"{{"type":"ack","id":{n}"#)), "{topic}: {answer}");
        }
        Client::open_at(server.addr, "/ws?topic=plain&topic=last:*").close();
    }
}

#[test]
fn the_page_says_whether_clients_may_publish() {
    for (args, want) in [(&[][..], "const mayPublish = false;"), (&["--demo"], "const mayPublish = true;")] {
        let all = [&["serve", "--admin", "off"], args].concat();
        let mut binary = Binary::on_any_port(VARIANTS[0], &all);
        let page = get(binary.addr(), "/");
        assert!(page.starts_with("HTTP/1.1 200 ") && page.contains(want), "{page}");
        let mut client = Client::open_at(binary.addr(), "/ws?topic=demo");
        client.send_text("hello");
        match args {
            [] => assert_eq!(client.close_frame().0, 1008),
            _ => assert_eq!(client.text(), "hello"),
        }
        drop(client);
        binary.signal(rustix::process::Signal::TERM);
        assert_eq!(binary.wait().code(), Some(0));
    }
}

// ---- corewire.v1 ---------------------------------------------------------------------------------------------

const V1: &str = "Sec-WebSocket-Protocol: chat, corewire.v1\r\n";

fn open_v1(server: &TestServer) -> Client {
    let mut client = Client::tcp(server.addr);
    let reply = client.ask("/ws", V1);
    assert_eq!((reply.status, reply.header("sec-websocket-protocol")), (101, Some("corewire.v1")));
    client
}

fn connected(server: &TestServer) -> Client {
    let mut client = open_v1(server);
    let ack = ask(&mut client, r#"{"type":"connect","id":1}"#);
    assert!(ack.starts_with(r#"{"type":"ack","id":1,"connection":""#), "{ack}");
    client
}

/// Says something, and gets the next message.
#[track_caller]
fn ask(client: &mut Client, text: &str) -> String {
    client.send_text(text);
    client.text()
}

/// The value of a field whose value is a string without escapes.
fn field(message: &str, name: &str) -> String {
    let start = format!("\"{name}\":\"");
    let rest = message.split_once(&start).unwrap_or_else(|| panic!("no {name} in {message}")).1;
    rest.split_once('"').expect("its end").0.to_owned()
}

#[test]
fn a_client_subscribes_publishes_recovers_and_unsubscribes() {
    for variant in VARIANTS {
        let server = stage(variant, true);
        // Topics with their homes on either core.
        for topic in ["chat:1", "chat:2", "chat:3", "chat:4"] {
            let (mut ada, mut bob) = (connected(&server), connected(&server));
            let subscribe = format!(r#"{{"type":"subscribe","id":2,"topic":"{topic}"}}"#);
            let ack = ask(&mut ada, &subscribe);
            let epoch = field(&ack, "epoch");
            assert_eq!(ack, format!(r#"{{"type":"ack","id":2,"epoch":"{epoch}","offset":0,"replay":0}}"#));
            assert_eq!(field(&ask(&mut ada, &subscribe), "code"), "already_subscribed");
            for n in 1..=5 {
                let publish =
                    format!(r#"{{"type":"publish","id":{n},"topic":"{topic}","data":{{"n": {n}}},"key":"k"}}"#);
                let ack = format!(r#"{{"type":"ack","id":{n},"epoch":"{epoch}","offset":{n}}}"#);
                assert_eq!(ask(&mut bob, &publish), ack);
                let message =
                    format!(r#"{{"type":"message","topic":"{topic}","offset":{n},"key":"k","data":{{"n": {n}}}}}"#);
                assert_eq!(ada.text(), message);
            }
            bob.send_text(&format!(r#"{{"type":"publish","topic":"{topic}","data":"no answer"}}"#));
            assert_eq!(ask(&mut bob, r#"{"type":"ping","id":9}"#), r#"{"type":"ack","id":9}"#);
            let quiet = format!(r#"{{"type":"message","topic":"{topic}","offset":6,"data":"no answer"}}"#);
            assert_eq!(ada.text(), quiet);
            ada.reset();

            let mut back = connected(&server);
            let recover = format!(r#"{{"epoch":"{epoch}","offset":4}}"#);
            let ack =
                ask(&mut back, &format!(r#"{{"type":"subscribe","id":3,"topic":"{topic}","recover":{recover}}}"#));
            let want = format!(r#"{{"type":"ack","id":3,"epoch":"{epoch}","offset":6,"recovered":true,"replay":2}}"#);
            assert_eq!(ack, want);
            assert!(back.text().contains(r#""offset":5"#));
            assert_eq!(back.text(), quiet);
            let unsubscribe = format!(r#"{{"type":"unsubscribe","id":4,"topic":"{topic}"}}"#);
            assert_eq!(ask(&mut back, &unsubscribe), r#"{"type":"ack","id":4}"#);
            assert_eq!(field(&ask(&mut back, &unsubscribe), "code"), "not_subscribed");
            let publish = format!(r#"{{"type":"publish","id":7,"topic":"{topic}","data":null}}"#);
            assert!(ask(&mut bob, &publish).contains(r#""offset":7"#));
            assert_eq!(ask(&mut back, r#"{"type":"ping","id":5}"#), r#"{"type":"ack","id":5}"#);

            let stale = r#"{"epoch":"00000000000000ff","offset":4}"#;
            let ack = ask(&mut back, &format!(r#"{{"type":"subscribe","id":6,"topic":"{topic}","recover":{stale}}}"#));
            assert!(ack.ends_with(r#""offset":7,"recovered":false,"replay":0}"#), "{ack}");
        }
    }
}

#[test]
fn raw_and_v1_meet_in_a_topic() {
    for variant in VARIANTS {
        let server = stage(variant, true);
        let mut raw = Client::open_at(server.addr, "/ws?topic=prices:eur");
        wait_for_subscriptions(&server, 1);
        let mut client = connected(&server);
        let pattern = r#"{"type":"subscribe","id":2,"topic":"prices:*"}"#;
        assert_eq!(ask(&mut client, pattern), r#"{"type":"ack","id":2}"#);
        raw.send_text("1.\"08");
        assert_eq!(raw.text(), "1.\"08");
        assert_eq!(client.text(), r#"{"type":"message","topic":"prices:eur","offset":1,"data":"1.\"08"}"#);
        client.send_text(r#"{"type":"publish","topic":"prices:eur","data":"a \"string\""}"#);
        assert_eq!(raw.text(), "a \"string\"");
    }
}

#[test]
fn what_is_not_done_says_why() {
    for variant in VARIANTS {
        let server = stage_with(variant, true, several());
        let mut early = open_v1(&server);
        assert_eq!(field(&ask(&mut early, r#"{"type":"ping","id":1}"#), "code"), "not_connected");
        let refused = ask(&mut early, r#"{"type":"connect","id":2,"token":"a.b.c"}"#);
        assert_eq!(field(&refused, "code"), "token_invalid");
        assert_eq!(early.close_frame(), (4001, "token refused".into()));

        let mut client = connected(&server);
        let long = format!(r#"{{"type":"subscribe","id":2,"topic":"{}"}}"#, "x".repeat(256));
        let cases = [
            (r#"{"type":"subscribe","id":2,"#, "bad_json"),
            (r#"{"type":"shout","id":2}"#, "unknown_type"),
            (r#"{"type":"subscribe","id":2}"#, "bad_field"),
            (r#"{"type":"subscribe","id":2,"topic":"a::b"}"#, "bad_topic"),
            (r#"{"type":"publish","id":2,"topic":"a:*","data":1}"#, "bad_topic"),
            (&long, "bad_topic"),
            (r#"{"type":"subscribe","id":2,"topic":"secret:x"}"#, "forbidden"),
            (r#"{"type":"subscribe","id":2,"topic":"members:x"}"#, "token_required"),
            (r#"{"type":"publish","id":2,"topic":"members:x","data":1}"#, "token_required"),
            (
                r#"{"type":"subscribe","id":2,"topic":"a:*","recover":{"epoch":"00000000000000ff","offset":4}}"#,
                "not_recoverable",
            ),
            (r#"{"type":"subscribe","id":2,"topic":"a","presence":true}"#, "presence_disabled"),
            (r#"{"type":"presence","id":2,"topic":"a"}"#, "presence_disabled"),
            (r#"{"type":"unsubscribe","id":2,"topic":"a"}"#, "not_subscribed"),
            (r#"{"type":"publish","id":2,"topic":"small","data":"0123456789"}"#, "data_too_big"),
            (r#"{"type":"publish","topic":"small","data":"0123456789"}"#, "data_too_big"),
            (r#"{"type":"connect","id":2,"token":"a.b.c"}"#, "token_invalid"),
        ];
        for (says, code) in cases {
            let answer = ask(&mut client, says);
            assert_eq!((field(&answer, "type"), field(&answer, "code")), ("error".into(), code.into()), "{says}");
        }
        let nobody = r#"{"type":"presence","id":3,"topic":"last:x","members":[]}"#;
        assert_eq!(ask(&mut client, r#"{"type":"presence","id":3,"topic":"last:x"}"#), nobody);
        for n in 0..1024 {
            let ack = ask(&mut client, &format!(r#"{{"type":"subscribe","id":{n},"topic":"t:{n}"}}"#));
            assert_eq!(field(&ack, "type"), "ack", "{ack}");
        }
        let one_more = ask(&mut client, r#"{"type":"subscribe","id":1,"topic":"more"}"#);
        assert_eq!(field(&one_more, "code"), "too_many_subscriptions");
        client.send(BINARY, b"bytes");
        assert_eq!(client.close_frame().0, 1003);

        let mut nonsense = connected(&server);
        for _ in 0..100 {
            assert_eq!(field(&ask(&mut nonsense, "nonsense"), "code"), "bad_json");
        }
        assert_eq!(nonsense.close_frame(), (4005, "too many messages".into()));
    }
}

/// The time is counted by the server's own clock, so this one waits.
#[test]
fn who_does_not_connect_is_closed_with_4000() {
    let server = stage(VARIANTS[0], true);
    let mut silent = open_v1(&server);
    let mut other = connected(&server);
    assert_eq!(silent.close_frame(), (4000, "no connect in time".into()));
    assert_eq!(ask(&mut other, r#"{"type":"ping","id":5}"#), r#"{"type":"ack","id":5}"#);
}

/// Ten thousand publications that may be dropped, for one that reads nothing meanwhile: what it gets is in order,
/// whole, and ends with the newest.
#[test]
fn a_slow_client_loses_the_oldest_where_that_is_allowed() {
    const COUNT: u64 = 10_000;
    for variant in VARIANTS {
        let limits = corewire::connection::Limits { queued_bytes_max: 1 << 20, ..Default::default() };
        let server = serve(
            variant,
            |builder| builder.cores(vec![0, 1]).namespaces(several()).limits(limits),
            |_| Serve::new(true),
        );
        let mut slow = Client::tcp_narrow(server.addr);
        assert_eq!(slow.ask("/ws", V1).status, 101);
        ask(&mut slow, r#"{"type":"connect","id":1}"#);
        assert!(ask(&mut slow, r#"{"type":"subscribe","id":2,"topic":"lossy:x"}"#).contains("ack"));
        let filler = "x".repeat(2000);
        let mut publisher = connected(&server);
        for n in 0..COUNT {
            publisher.send_text(&format!(r#"{{"type":"publish","topic":"lossy:x","data":"{n} {filler}"}}"#));
        }
        let accepted = || server.sum(|metrics| &metrics.publications);
        let refused = || server.sum(|metrics| &metrics.publications_refused);
        until("all were looked at", || accepted() + refused() == COUNT);
        let newest = accepted();
        let mut offsets = Vec::new();
        while offsets.last() != Some(&newest) {
            let message = slow.text();
            let rest = message.split_once("\"offset\":").expect("an offset").1;
            offsets.push(rest.split(',').next().and_then(|digits| digits.parse::<u64>().ok()).expect("a number"));
        }
        assert!(offsets.is_sorted_by(|a, b| a < b));
        let lost = newest - offsets.len() as u64;
        assert!(lost > 0, "it was slow");
        assert_eq!(server.sum(|metrics| &metrics.queue_drops), lost);
    }
}
