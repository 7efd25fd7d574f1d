//! Topics over `corewire.v1`: against Corewire, and against a server that gets it wrong on purpose.

mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use corewire::wire::{Ack, ClientMessage, Data, Epoch, Message, Position, ServerMessage};
use serde_json::Value;
use support::{blames, corewire, free_port, report, report_alone, report_with};
use tungstenite::handshake::server::{Request, Response};

fn number(report: &Value, group: &str, name: &str) -> u64 {
    report[group][name].as_u64().unwrap_or_else(|| panic!("{group}.{name}: {report}"))
}

/// Nothing lost, repeated, reordered or wrong.
fn assert_flawless(report: &Value) {
    for what in ["lost", "duplicate", "out_of_order", "corrupt", "late", "unsent"] {
        assert_eq!(number(report, "problems", &format!("{what}_messages")), 0, "{what}: {report}");
    }
    assert_eq!(report["problems"]["errors"], serde_json::json!({}), "{report}");
}

/// A run against `corewire serve`, where clients may publish.
fn report_of_serve(words: &str) -> Value {
    let (words, server) = with_serve(words);
    report_with(&words, &["--spawn", &server])
}

/// The words with a URL, and the command that serves there.
fn with_serve(words: &str) -> (String, String) {
    let port = free_port();
    let server =
        format!("{} serve --demo --admin off --listen 127.0.0.1:{port} --log-level error", corewire().display());
    (words.replacen(' ', &format!(" ws://127.0.0.1:{port}/ "), 1), server)
}

/// Signed with HS256 and [`SECRET`]: user `load`, good until 2100, for subscribing and publishing everywhere.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJsb2FkIiwiZXhwIjo0MTAyNDQ0ODA\
                     wLCJzdWJzY3JpYmUiOlsiKioiXSwicHVibGlzaCI6WyIqKiJdfQ.1Hx3vq4LbYux47aWOg\
                     LtuGcolQI2obKDrhzTQpTMVuk";
const SECRET: &str = "the secret of the tests of the load generator";

/// A run against `corewire serve` with an admin listener, in a folder with these files. `FOLDER`, `PORT` and `ADMIN` are
/// replaced in the words, in the server's arguments and in the files.
fn report_of_place(words: &str, server: &str, files: &[(&str, &str)]) -> Value {
    let folder = std::env::temp_dir().join(format!("corewire-load-place-{}-{}", std::process::id(), free_port()));
    std::fs::create_dir(&folder).unwrap();
    let (port, admin) = (free_port().to_string(), free_port().to_string());
    let fill =
        |text: &str| text.replace("FOLDER", folder.to_str().unwrap()).replace("PORT", &port).replace("ADMIN", &admin);
    for (name, text) in files {
        std::fs::write(folder.join(name), fill(text)).unwrap();
    }
    let server = format!(
        "{} serve --listen 127.0.0.1:PORT --admin 127.0.0.1:ADMIN --log-level error {server}",
        corewire().display()
    );
    let report = report_with(&fill(words), &["--spawn", &fill(&server)]);
    std::fs::remove_dir_all(&folder).unwrap();
    report
}

/// Both cores, where there are two.
fn two_workers() -> &'static str {
    if std::thread::available_parallelism().unwrap().get() > 1 { "--cores 0,1" } else { "" }
}

#[test]
fn every_topic_reaches_its_subscribers_once_and_in_order() {
    let cases = [
        // Options, subscribers of each topic, publications in a second.
        ("-c 20 --rate 60", 20, 60),
        ("-c 40 --topics 10 --rate 200", 4, 200),
        ("-c 20 --topics 300 --subscribers 10 --rate 600 --publishers 3", 10, 600),
        ("-c 10 --topics 7 --subscribers 3 --rate 80 --burst 8 --size 1k", 3, 80),
    ];
    for (options, subscribers, published) in cases {
        let line = format!("fanout --wire corewire.v1 {options} {} --for 1s --warm-up 200ms", two_workers());
        let report = report_of_serve(&line);
        assert_flawless(&report);
        assert_eq!(number(&report, "achieved", "sent_messages"), published, "{options}");
        assert_eq!(number(&report, "achieved", "answered_messages"), published * subscribers, "{options}");
        let topics = report["plan"]["topics"]["topics"].as_u64().unwrap();
        assert_eq!(report["plan"]["topics"]["subscriptions"], topics * subscribers, "{options}");
    }
}

/// Subscribers on one topic, a publisher at a fixed rate, a third of them dropping and coming back.
fn recovers(connections: u64, rate: u64, seconds: u64) {
    let line = format!(
        "recovery -c {connections} --rate {rate} --drop 33.4% {} --for {seconds}s --warm-up 500ms --timeout 30s",
        two_workers()
    );
    let (words, server) = with_serve(&line);
    // So many that the machine is busy.
    let report = report_alone(&words, &["--spawn", &server]);
    assert_flawless(&report);
    let published = rate * seconds;
    assert_eq!(number(&report, "achieved", "sent_messages"), published);
    assert_eq!(number(&report, "achieved", "answered_messages"), published * connections);
    let dropped = number(&report, "achieved", "opened_connections") - connections - 1;
    assert!(dropped.abs_diff(connections * 334 / 1000) <= 2, "a third was cut off: {dropped}");
    assert_eq!(report["client_recovery_count"], dropped);
    assert!(report["recovery_ns"].as_u64().unwrap() > 0);
}

#[test]
fn a_thousand_subscribers_miss_nothing_when_a_third_of_them_drops() {
    recovers(1000, 20, 3);
}

#[test]
#[ignore = "takes half a minute and 10,000 descriptors for each of two processes: cargo test -- --ignored"]
fn ten_thousand_subscribers_miss_nothing_when_a_third_of_them_drops() {
    recovers(10_000, 10, 20);
}

#[test]
fn all_may_come_back_at_once_and_to_several_topics() {
    let report = report_of_serve("recovery -c 60 --topics 20 --subscribers 9 --rate 200 --for 2s --warm-up 200ms");
    assert_flawless(&report);
    assert_eq!(number(&report, "achieved", "answered_messages"), 400 * 9);
    assert_eq!(
        (report["client_recovery_count"].as_u64(), report["recovery_response_count"].as_u64()),
        (Some(60), Some(0))
    );
}

#[test]
fn the_idle_subscribe_over_both_wires() {
    for wire in ["raw", "corewire.v1"] {
        let line = format!("idle --wire {wire} --topics 3 -c 30 --processes 2 --for 500ms");
        let report = report_of_serve(&line);
        assert_flawless(&report);
        assert_eq!(number(&report, "memory", "connections"), 30);
        assert_eq!(report["plan"]["topics"]["wire"], wire);
    }
}

#[test]
fn publications_go_through_the_http_api() {
    let key = "a-key-for-the-load";
    let words = |key: &str| {
        format!(
            "fanout ws://127.0.0.1:PORT/ --wire corewire.v1 -c 20 --topics 5 --rate 20 --publishers 2 --for 1s \
             --warm-up 200ms --timeout 30s --publish-url http://127.0.0.1:ADMIN/api/v1/publish --api-key {key}"
        )
    };
    let run = |given: &str| report_of_place(&words(given), "--api-key-file FOLDER/keys", &[("keys", key)]);
    let good = run(key);
    assert_flawless(&good);
    assert_eq!(number(&good, "achieved", "sent_messages"), 20);
    assert_eq!(number(&good, "achieved", "answered_messages"), 20 * 4);
    assert_eq!(number(&good, "achieved", "opened_connections"), 20, "nobody publishes over WebSocket");
    let bad = run("another-key-than-that");
    assert!(blames(&bad, "the HTTP API answered 401"), "{}", bad["verdict"]);
}

#[test]
fn everybody_shows_a_token_where_one_is_wanted() {
    let config = "anonymous = \"off\"\ntoken-secret = \"FOLDER/secret\"\n[namespace.default]\n\
                  subscribe = \"token\"\npublish = \"token\"\n";
    let files = [("c.toml", config), ("secret", SECRET), ("token", &format!("{TOKEN}\n"))];
    let run = |words: &str| report_of_place(words, "--config FOLDER/c.toml", &files);
    let fanout = "fanout ws://127.0.0.1:PORT/ --wire corewire.v1 -c 10 --rate 50 --for 1s --warm-up 200ms";
    for token in [format!("--token {TOKEN}"), "--token-file FOLDER/token".to_owned()] {
        let report = run(&format!("{fanout} {token}"));
        assert_flawless(&report);
        assert_eq!(number(&report, "achieved", "answered_messages"), 50 * 10);
    }
    let report =
        run("recovery ws://127.0.0.1:PORT/ -c 10 --rate 50 --for 1s --warm-up 200ms --token-file FOLDER/token");
    assert_flawless(&report);
    assert_eq!(report["client_recovery_count"], 10);
    for wire in ["raw", "corewire.v1"] {
        let words = "idle ws://127.0.0.1:PORT/ --topics 3 -c 10 --processes 2 --for 300ms --token-file FOLDER/token";
        let report = run(&format!("{words} --wire {wire}"));
        assert_flawless(&report);
        assert_eq!(number(&report, "memory", "connections"), 10);
        assert!(!report.to_string().contains(&TOKEN[..30]), "a report may be shown to anybody");
    }
}

// ---- a server that gets it wrong -----------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    Nothing,
    /// The fifth publication is not delivered.
    Gap,
    /// It is delivered twice.
    Twice,
    /// It is delivered with the next one's offset, and the next with its.
    Order,
    /// Its data is another's.
    Data,
    /// Whoever comes back is not told what it missed.
    Forgets,
    /// It is told that everything is there, and it is not.
    Lies,
    /// Nobody may subscribe.
    Refuses,
    /// Over HTTP, the fifth publication and all after it are never answered.
    Mute,
}

struct Topic {
    wrong: Wrong,
    kept: Vec<String>,
    hearers: Vec<TcpStream>,
    held: Option<String>,
}

const EPOCH: Epoch = Epoch(7);

/// One topic, over WebSocket and over HTTP. Returns its port.
fn serve(wrong: Wrong) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let topic = Arc::new(Mutex::new(Topic { wrong, kept: Vec::new(), hearers: Vec::new(), held: None }));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let topic = Arc::clone(&topic);
            std::thread::spawn(move || {
                let stream = stream.unwrap();
                let mut method = [0; 4];
                while stream.peek(&mut method).unwrap_or(4) < 4 {}
                // Whoever leaves ends it.
                let _ = if method == *b"POST" { api(stream, &topic) } else { socket(stream, &topic) };
            });
        }
    });
    port
}

type Served = Result<(), Box<dyn std::error::Error>>;

fn api(stream: TcpStream, topic: &Mutex<Topic>) -> Served {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => head.insert(name.to_owned(), value.to_owned()),
                None if line == "\r\n" => break,
                None => None,
            };
        }
        let mut body = vec![0; head["Content-Length"].parse()?];
        reader.read_exact(&mut body)?;
        let body: Value = serde_json::from_slice(&body)?;
        let is_mute = |topic: &Topic| topic.wrong == Wrong::Mute && topic.kept.len() >= 4;
        while is_mute(&topic.lock().unwrap()) {
            std::thread::park();
        }
        let answer = if head.get("X-API-Key").map(String::as_str) == Some("right") {
            let offset = topic.lock().unwrap().publish(&body["data"].to_string());
            format!(r#"{{"offset":{offset},"epoch":"{EPOCH}"}}"#)
        } else {
            "a wrong key".to_owned()
        };
        let status = if answer.starts_with('{') { "200 OK" } else { "401 Unauthorized" };
        write!(reader.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())?;
    }
}

#[allow(clippy::result_large_err, reason = "tungstenite's callback")]
fn socket(stream: TcpStream, topic: &Mutex<Topic>) -> Served {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut websocket = tungstenite::accept_hdr(stream, |_: &Request, mut response: Response| {
        response.headers_mut().insert("Sec-WebSocket-Protocol", "corewire.v1".parse().unwrap());
        Ok(response)
    })?;
    loop {
        let message = websocket.read()?;
        let Ok(text) = message.to_text() else { continue };
        let Ok(message) = ClientMessage::decode(text) else { continue };
        let mut topic = topic.lock().unwrap();
        match message {
            ClientMessage::Subscribe { id, .. } if topic.wrong == Wrong::Refuses => {
                out.write_all(&frame(&ServerMessage::error(Some(id), corewire::wire::ErrorCode::Forbidden, "no")))?;
            }
            ClientMessage::Subscribe { id, recover, .. } => {
                let missed = recover.map_or(0, |position| topic.kept.len() - position.offset as usize);
                let recovered = recover.map(|_| topic.wrong != Wrong::Forgets);
                let replay = if matches!(topic.wrong, Wrong::Forgets | Wrong::Lies) { 0 } else { missed };
                let position = Position { epoch: EPOCH, offset: topic.kept.len() as u64 };
                out.write_all(&frame(&ServerMessage::Ack(Ack::subscribed(id, position, recovered, replay as u32))))?;
                for offset in topic.kept.len() - replay..topic.kept.len() {
                    out.write_all(&told(offset as u64 + 1, &topic.kept[offset]))?;
                }
                topic.hearers.push(out.try_clone()?);
            }
            ClientMessage::Publish { id, data, .. } => {
                let offset = topic.publish(data.get());
                let ack = Ack::published(id.unwrap(), Position { epoch: EPOCH, offset });
                out.write_all(&frame(&ServerMessage::Ack(ack)))?;
            }
            other => out.write_all(&frame(&ServerMessage::Ack(Ack::done(other.id().unwrap()))))?,
        }
    }
}

impl Topic {
    fn publish(&mut self, data: &str) -> u64 {
        self.kept.push(data.to_owned());
        let offset = self.kept.len() as u64;
        match (self.wrong, offset) {
            (Wrong::Gap, 5) => {}
            (Wrong::Twice, 5) => (0..2).for_each(|_| self.deliver(5, data)),
            (Wrong::Order, 5) => self.held = Some(data.to_owned()),
            (Wrong::Order, 6) => {
                self.deliver(5, data);
                let held = self.held.take().unwrap();
                self.deliver(6, &held);
            }
            (Wrong::Data, 5) => {
                let other = self.kept[3].clone();
                self.deliver(5, &other);
            }
            _ => self.deliver(offset, data),
        }
        offset
    }

    fn deliver(&mut self, offset: u64, data: &str) {
        let frame = told(offset, data);
        self.hearers.retain_mut(|hearer| hearer.write_all(&frame).is_ok());
    }
}

fn told(offset: u64, data: &str) -> Vec<u8> {
    let message = Message { topic: "load-0".into(), offset, key: None, user: None, data: Data::Json(data) };
    support::frame(true, &message.encode())
}

fn frame(message: &ServerMessage<'_>) -> Vec<u8> {
    support::frame(true, &message.encode())
}

#[test]
fn each_wrong_of_a_topic_is_found_and_named() {
    let cases: [(_, _, &[u64], _); 4] = [
        (Wrong::Gap, "lost_messages", &[5], "were lost"),
        (Wrong::Twice, "duplicate_messages", &[5], "came twice"),
        // All five subscribers, and whoever published and was told another offset; or, if it heard first, all five
        // of both publications.
        (Wrong::Order, "out_of_order_messages", &[6, 10], "came out of order"),
        (Wrong::Data, "out_of_order_messages", &[5], "came out of order"),
    ];
    for (wrong, what, counts, words) in cases {
        let port = serve(wrong);
        let line = format!("fanout ws://127.0.0.1:{port}/ --wire corewire.v1 -c 5 --rate 60 --for 1s --warm-up 100ms");
        let report = report(&format!("{line} --timeout 2s"));
        let found = number(&report, "problems", what);
        assert!(counts.contains(&found), "{wrong:?}: {}", report["problems"]);
        assert!(blames(&report, words), "{wrong:?}: {}", report["verdict"]);
    }
}

#[test]
fn a_recovery_that_tells_too_little_is_found() {
    for (wrong, words) in [(Wrong::Forgets, "did not recover"), (Wrong::Lies, "were lost")] {
        let port = serve(wrong);
        // A second on either side of the cut: a machine that stands still must not miss it.
        let line = format!("recovery ws://127.0.0.1:{port}/ -c 20 --drop 50% --rate 500 --for 2s --warm-up 100ms");
        let report = report(&format!("{line} --timeout 1s"));
        assert!(blames(&report, words), "{wrong:?}: {}", report["verdict"]);
        assert!(number(&report, "problems", "lost_messages") > 0, "{wrong:?}: {report}");
    }
    let line = format!("recovery ws://127.0.0.1:{}/ -c 20 --drop 50% --rate 500", serve(Wrong::Nothing));
    assert_flawless(&report(&format!("{line} --for 1s --warm-up 100ms")));
}

#[test]
fn back_ends_publish_over_http() {
    let port = serve(Wrong::Nothing);
    let line = format!(
        "fanout ws://127.0.0.1:{port}/ --wire corewire.v1 -c 5 --rate 60 --publishers 2 --for 1s --warm-up 100ms \
         --publish-url http://127.0.0.1:{port}/api/v1/publish"
    );
    let good = report(&format!("{line} --api-key right"));
    assert_flawless(&good);
    assert_eq!(number(&good, "achieved", "answered_messages"), 60 * 5);
    assert_eq!(number(&good, "achieved", "opened_connections"), 5, "nobody publishes over WebSocket");
    assert_eq!(good["plan"]["topics"]["published_over_http"], true);
    // What is never answered is told, though nobody may have missed it.
    let line_to_mute = line.replace(&port.to_string(), &serve(Wrong::Mute).to_string());
    let mute = report(&format!("{line_to_mute} --api-key right --timeout 1s"));
    assert!(blames(&mute, "publications were never answered"), "{}", mute["verdict"]);
    let bad = report(&format!("{line} --api-key wrong"));
    assert!(blames(&bad, "the HTTP API answered 401: a wrong key"), "{}", bad["verdict"]);
}

#[test]
fn a_server_where_nobody_may_subscribe_is_told_at_once() {
    let port = serve(Wrong::Refuses);
    for words in ["fanout {} --wire corewire.v1 -c 2", "recovery {} -c 2", "idle {} --wire corewire.v1 -c 2"] {
        let output = support::load(&words.replace("{}", &format!("ws://127.0.0.1:{port}/")));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {error}");
        assert!(error.contains("the server answered forbidden: no"), "{words}: {error}");
    }
}
