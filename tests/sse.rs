//! Server-Sent Events as `EventSource` and curl meet them: bare data, and what was missed when they come back.

#![cfg(all(feature = "cli", feature = "tls"))]

mod common;

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::commands::{at_home_on, command, hold};
use common::pki::{Pki, connect};
use common::tokens::{now, token, verifier};
use common::{Client, PATIENCE, TestServer, VARIANTS, Variant, at_once, random, serve, until};
use corewire::builtin::{Act, Admission, Serve};
use corewire::connection::Limits;
use corewire::handler::{Accept, Closed, Conn, ConnId, Core, Deferred, Delivery, Handler, Request, Upgrade, Wire};
use corewire::http::Response;
use corewire::metrics::{Counter, ShardMetrics};
use corewire::protocol::close::CloseCode;
use corewire::protocol::handshake::OriginPolicy;
use corewire::protocol::{Message, MessageKind};
use corewire::server::{Builder, Handle};
use corewire::topics::{Access, DataKind, Draft, Namespace, Namespaces, SlowConsumer, Topic, Want};
use rustls::ClientConfig;
use rustls::version::TLS13;
use serde_json::json;

/// A server, plain or over TLS.
struct Place {
    server: TestServer,
    tls: Option<Arc<ClientConfig>>,
}

impl Place {
    fn new(variant: Variant, has_tls: bool, configure: impl FnOnce(Builder) -> Builder) -> Self {
        let pki = has_tls.then(Pki::new);
        let server = serve(
            variant,
            |builder| {
                let builder = configure(builder.cores(vec![0, 1]).namespaces(several()));
                match &pki {
                    Some(pki) => builder.tls(pki.server(false)),
                    None => builder,
                }
            },
            |_| Serve::new(true),
        );
        Self { server, tls: pki.map(|pki| pki.client(&[&TLS13], false)) }
    }

    fn plain(variant: Variant) -> Self {
        Self::new(variant, false, |builder| builder)
    }

    fn connect(&self) -> Client {
        match &self.tls {
            Some(config) => connect(self.server.addr, config),
            None => Client::tcp(self.server.addr),
        }
    }

    /// A new source.
    #[track_caller]
    fn open(&self, query: &str) -> Source {
        self.back(query, "")
    }

    /// One that comes back, if `last_id` is not empty.
    #[track_caller]
    fn back(&self, query: &str, last_id: &str) -> Source {
        Source::new(self.connect(), query, last_id)
    }

    fn publish(&self, topic: &str, data: &str) {
        publish(&self.server.handle, topic, DataKind::Text, data);
    }
}

/// Some that differ: of `kept` the last thousand are kept, of `few` two, of `last` one and of `lost` none; `secret` is
/// for nobody, `members` wants a token, `lossy` loses the oldest.
fn several() -> Namespaces {
    let named = |name: &str| Namespace { name: name.into(), publish: Access::Public, ..Namespace::default() };
    let all = [
        Namespace {
            history_messages: 1000,
            history_bytes: 64 << 20,
            history_ttl: Duration::from_secs(600),
            ..named("kept")
        },
        Namespace { history_messages: 2, ..named("few") },
        Namespace { history_messages: 1, ..named("last") },
        Namespace { history_messages: 0, ..named("lost") },
        Namespace { subscribe: Access::Nobody, ..named("secret") },
        Namespace { subscribe: Access::Token, ..named("members") },
        Namespace { slow_consumer: SlowConsumer::DropOldest, ..named("lossy") },
    ];
    Namespaces::new(Namespace { publish: Access::Public, ..Namespace::default() }, all).expect("they are good")
}

#[track_caller]
fn publish(handle: &Handle, topic: &str, kind: DataKind, data: &str) {
    let draft = Draft { kind, data: Bytes::copy_from_slice(data.as_bytes()), key: None, publisher: None };
    handle.publish(&Topic::parse(topic).expect(topic), draft).expect("there is room");
}

/// Reads a stream as the standard says (HTML Living Standard, §9.2.6).
struct Source {
    client: Client,
    head: common::Reply,
    /// Of the last event that was whole.
    last_id: String,
    id: String,
    kind: String,
    data: Vec<String>,
    retry: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// Its type and data.
    Event(String, String),
    /// A block without data.
    Nothing,
    Comment,
    End,
}

impl Source {
    #[track_caller]
    fn new(mut client: Client, query: &str, last_id: &str) -> Self {
        let again = if last_id.is_empty() { String::new() } else { format!("Last-Event-ID: {last_id}\r\n") };
        let request =
            format!("GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{again}\r\n");
        client.send_raw(request.as_bytes());
        Self::after_request(client, last_id)
    }

    #[track_caller]
    fn after_request(mut client: Client, last_id: &str) -> Self {
        let head = client.reply();
        assert_eq!(head.status, 200, "{head:?}");
        let (last_id, id) = (last_id.to_owned(), last_id.to_owned());
        let mut source = Self { client, head, last_id, id, kind: String::new(), data: Vec::new(), retry: None };
        assert_eq!((source.told(), source.retry.as_deref()), (Told::Nothing, Some("3000")));
        source
    }

    #[track_caller]
    fn told(&mut self) -> Told {
        while let Some(line) = self.client.line() {
            if line.is_empty() {
                self.last_id.clone_from(&self.id);
                let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
                return if data.is_empty() { Told::Nothing } else { Told::Event(kind, data.join("\n")) };
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "" => {
                    assert_eq!(self.client.line().as_deref(), Some(""), "ours end with an empty line");
                    return Told::Comment;
                }
                "event" => self.kind = value,
                "data" => self.data.push(value),
                "id" => self.id = value,
                "retry" => self.retry = Some(value),
                other => panic!("no field {other:?} is ours"),
            }
        }
        Told::End
    }

    /// Until all subscriptions have begun, and nothing has come before that.
    #[track_caller]
    fn begun(mut self) -> Self {
        assert_eq!(self.told(), Told::Nothing);
        assert!(!self.last_id.is_empty());
        self
    }

    /// The next event, which is a publication.
    #[track_caller]
    fn text(&mut self) -> String {
        let (kind, data) = self.event();
        assert_eq!(kind, "", "{data}");
        data
    }

    /// The next event: type and data.
    #[track_caller]
    fn event(&mut self) -> (String, String) {
        loop {
            match self.told() {
                Told::Event(kind, data) => return (kind, data),
                Told::Nothing | Told::Comment => {}
                Told::End => panic!("the end instead of an event"),
            }
        }
    }
}

/// A whole answer to a plain request.
fn ask(mut client: Client, request: &str) -> common::Reply {
    client.send_raw(request.replace('\n', "\r\n").as_bytes());
    let reply = client.reply();
    client.end();
    reply
}

// ---- what comes ----------------------------------------------------------------------------------------------

#[test]
fn a_url_is_enough_to_hear_bare_data() {
    for variant in VARIANTS {
        for has_tls in [false, true] {
            let place = Place::new(variant, has_tls, |builder| builder);
            let mut one = place.open("topic=b:c&topic=b%3Ac").begun();
            let mut two = place.open("topic=a&topic=b:c").begun();
            let wanted = [
                ("content-type", Some("text/event-stream")),
                ("cache-control", Some("no-store")),
                ("x-accel-buffering", Some("no")),
                ("vary", Some("Origin")),
                ("connection", Some("close")),
                ("content-length", None),
                ("transfer-encoding", None),
                ("access-control-allow-origin", None),
            ];
            for (name, value) in wanted {
                assert_eq!(one.head.header(name), value, "{name}");
            }
            let forms = [
                (DataKind::Text, "a text", "a text"),
                (DataKind::Text, "", ""),
                (DataKind::Text, "two\r\nlines\rand a third", "two\nlines\nand a third"),
                (DataKind::Json, "\"a \\\"string\\\"\\n\"", "a \"string\"\n"),
                (DataKind::Json, "{\"a\": [1, 2]}", "{\"a\": [1, 2]}"),
                (DataKind::Json, "17", "17"),
            ];
            for (offset, (kind, data, want)) in (1..).zip(forms) {
                publish(&place.server.handle, "b:c", kind, data);
                assert_eq!(one.text(), want);
                assert_eq!(two.text(), want);
                assert!(one.last_id.ends_with(&format!("-{offset}")), "{}", one.last_id);
                assert!(two.last_id.split(',').any(|entry| entry == one.last_id), "{}", two.last_id);
                assert_eq!(two.last_id.split(',').count(), 2);
            }
            // Bytes have no form here.
            publish(&place.server.handle, "b:c", DataKind::Binary, "bytes");
            place.publish("b:c", "after them");
            assert_eq!((one.text(), two.text()), ("after them".into(), "after them".into()));
            place.publish("a", "of the other topic");
            assert_eq!(two.text(), "of the other topic");
            // What a client says behind its request goes nowhere.
            one.client.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            place.publish("b:c", "the last");
            assert_eq!(one.text(), "the last");
            let metrics =
                |of: fn(&corewire::metrics::ShardMetrics) -> &corewire::metrics::Counter| place.server.sum(of);
            assert_eq!((metrics(|m| &m.connections_open), metrics(|m| &m.subscriptions)), (2, 3));
            drop((one, two));
            place.server.wait_until_empty();
            assert_eq!((metrics(|m| &m.connections_open), metrics(|m| &m.subscriptions)), (0, 0));
        }
    }
}

#[test]
fn newcomers_get_the_last_value_where_one_is_kept() {
    for variant in VARIANTS {
        let place = Place::plain(variant);
        for n in 0..3 {
            place.publish("last:eur", &n.to_string());
        }
        until("all are published", || place.server.sum(|metrics| &metrics.publications) == 3);
        let mut source = place.open("topic=last:eur").begun();
        assert!(source.last_id.ends_with("-2"), "it has not come yet: {}", source.last_id);
        assert_eq!(source.text(), "2");
        assert!(source.last_id.ends_with("-3"), "{}", source.last_id);
    }
}

#[test]
fn who_cannot_recover_gets_the_last_value_where_one_is_kept() {
    for variant in VARIANTS {
        let place = Place::plain(variant);
        place.publish("last:eur", "0");
        let mut source = place.open("topic=last:eur").begun();
        assert_eq!(source.text(), "0");
        let id = source.last_id.clone();
        drop(source);
        for n in 1..3 {
            place.publish("last:eur", &n.to_string());
        }
        until("all are published", || place.server.sum(|metrics| &metrics.publications) == 3);
        let mut back = place.back("topic=last:eur", &id);
        assert_eq!(back.event(), ("gap".into(), "last:eur".into()));
        assert!(back.last_id.ends_with("-2"), "the last value has not come yet: {}", back.last_id);
        assert_eq!(back.text(), "2");
        assert!(back.last_id.ends_with("-3"), "{}", back.last_id);
    }
}

#[test]
fn patterns_hear_without_an_id() {
    for variant in VARIANTS {
        let place = Place::plain(variant);
        let mut wild = place.open("topic=w:*");
        let mut both = place.open("topic=w:a&topic=w:*").begun();
        let id = both.last_id.clone();
        // A pattern is heard from when all cores know it.
        until("both patterns are known", || {
            place.publish("w:probe", "?");
            wild.client.set_read_timeout(Duration::from_millis(50));
            both.client.set_read_timeout(Duration::from_millis(50));
            wild.client.peek() && both.client.peek()
        });
        for source in [&mut wild, &mut both] {
            source.client.set_read_timeout(PATIENCE);
        }
        place.publish("w:b", "by pattern");
        while wild.text() != "by pattern" {}
        while both.text() != "by pattern" {}
        assert_eq!((&*wild.last_id, &*both.last_id), ("", &*id));
        place.publish("w:a", "by name and pattern, once");
        place.publish("w:b", "end");
        for source in [&mut wild, &mut both] {
            let next: Vec<_> = (0..2).map(|_| source.text()).collect();
            let mut sorted = next.clone();
            sorted.sort();
            assert_eq!(sorted, ["by name and pattern, once", "end"], "{next:?}");
        }
        assert!(both.last_id != id && both.last_id.ends_with("-1"), "{}", both.last_id);
    }
}

/// Until something of a pattern comes, which is when all cores know it.
fn wait_for_pattern(place: &Place, source: &mut Source, topic: &str) {
    source.client.set_read_timeout(Duration::from_millis(50));
    until("the pattern is heard", || {
        place.publish(topic, "?");
        source.client.peek()
    });
    source.client.set_read_timeout(PATIENCE);
    place.publish(topic, "!");
    while source.text() != "!" {}
}

#[test]
fn what_is_ended_before_it_begins_keeps_nothing_waiting() {
    for variant in VARIANTS {
        let place = Place::plain(variant);
        let handle = &place.server.handle;
        let (here, there) = (at_home_on(0, "kept:t"), at_home_on(1, "kept:t"));
        // Core 1 is silent: nothing of its topics begins, and who connects there is not answered.
        let silent = hold(handle, 1);
        let open = |query: &str| loop {
            let mut client = place.connect();
            client.send_raw(format!("GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
            client.set_read_timeout(Duration::from_millis(100));
            if client.peek() {
                client.set_read_timeout(PATIENCE);
                return Source::after_request(client, "");
            }
        };
        let both = open(&format!("topic={here}&topic={there}&topic=w:*&topic=x:*"));
        let mut only = open(&format!("topic={there}&topic=w:*"));
        let unsubscribe = |subject: &str| {
            let act = Act::Unsubscribe { subject: subject.into() };
            command(handle, 0, act).done
        };
        assert_eq!(unsubscribe("x:*"), 1, "it waits for topics to begin, and is there all the same");
        assert_eq!((unsubscribe(&there), unsubscribe(&there)), (2, 0));
        drop(silent);
        let mut both = both.begun();
        assert!(both.last_id.ends_with("-0") && !both.last_id.contains(','), "one topic is left: {}", both.last_id);
        wait_for_pattern(&place, &mut both, "w:a");
        wait_for_pattern(&place, &mut only, "w:a");
        for topic in ["x:a", &there, &here] {
            place.publish(topic, topic);
        }
        let probes = ["?", "!"];
        let next = std::iter::repeat_with(|| both.text()).find(|text| !probes.contains(&&**text));
        assert_eq!(next.as_ref(), Some(&here), "and nothing of what was ended");
        // Nothing is left of the one, and it could not subscribe again.
        assert_eq!(unsubscribe("w:*"), 2);
        while only.told() != Told::End {}
    }
}

#[test]
fn as_many_topics_as_a_url_may_have() {
    for variant in VARIANTS {
        let place = Place::plain(variant);
        let query = |count: usize| (0..count).map(|n| format!("topic=kept:{n}")).collect::<Vec<_>>().join("&");
        let mut source = place.open(&query(32)).begun();
        assert_eq!(source.last_id.split(',').count(), 32);
        for n in 0..32 {
            place.publish(&format!("kept:{n}"), &n.to_string());
        }
        let mut got: Vec<u32> = (0..32).map(|_| source.text().parse().expect("a number")).collect();
        got.sort_unstable();
        assert!(got.into_iter().eq(0..32));
        let id = source.last_id.clone();
        drop(source);
        for n in 0..32 {
            place.publish(&format!("kept:{n}"), &format!("{n} again"));
        }
        let mut source = place.back(&query(32), &id);
        let mut got: Vec<_> = (0..32).map(|_| source.text()).collect();
        got.sort();
        let mut want: Vec<_> = (0..32).map(|n| format!("{n} again")).collect();
        want.sort();
        assert_eq!(got, want);
        let refused = ask(place.connect(), &format!("GET /sse?{} HTTP/1.1\nHost: a\n\n", query(33)));
        assert_eq!(refused.status, 400, "{refused:?}");
    }
}

// ---- coming back ---------------------------------------------------------------------------------------------

/// Cut off anywhere, within an event as well, again and again, while others publish: in the end every client has every
/// publication once and in order.
#[test]
fn who_comes_back_gets_exactly_what_it_missed() {
    const COUNT: u64 = 400;
    const TOPICS: [&str; 3] = ["kept:a", "kept:b", "kept:c"];
    for variant in VARIANTS {
        for has_tls in [false, true] {
            let place = Place::new(variant, has_tls, |builder| builder);
            let mut random = random();
            for topics in [&TOPICS[..1], &TOPICS] {
                let query = topics.iter().map(|topic| format!("topic={topic}")).collect::<Vec<_>>().join("&");
                let first = place.open(&query).begun();
                let mut last_id = first.last_id.clone();
                drop(first);
                let handle = place.server.handle.clone();
                let topics: Vec<_> = topics.iter().map(|topic| (*topic).to_owned()).collect();
                let names = topics.clone();
                let publisher = thread::spawn(move || {
                    for n in 1..=COUNT {
                        names.iter().for_each(|topic| publish(&handle, topic, DataKind::Text, &format!("{topic} {n}")));
                        if n % 8 == 0 {
                            thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
                let mut next: BTreeMap<_, _> = topics.iter().map(|topic| (topic.clone(), 1)).collect();
                while next.values().any(|&next| next <= COUNT) {
                    let mut source = place.back(&query, &last_id);
                    for _ in 0..1 + random.below(60) {
                        if next.values().all(|&next| next > COUNT) {
                            break;
                        }
                        let text = source.text();
                        let (topic, number) = text.split_once(' ').expect("a topic and a number");
                        let next = next.get_mut(topic).expect("one of ours");
                        assert_eq!(number, next.to_string(), "of {topic}");
                        *next += 1;
                    }
                    last_id = source.last_id.clone();
                    if random.below(2) == 0 {
                        source.client.reset();
                    }
                }
                publisher.join().expect("it publishes");
            }
            place.server.wait_until_empty();
        }
    }
}

#[test]
fn what_cannot_be_recovered_is_told_as_a_gap_once() {
    for variant in VARIANTS {
        let place = Place::plain(variant);
        let mut few = place.open("topic=few:a").begun();
        let mut lost = place.open("topic=lost:a").begun();
        for n in 1..=5 {
            place.publish("few:a", &n.to_string());
            place.publish("lost:a", &n.to_string());
        }
        // After the second, and the first.
        assert_eq!([few.text(), few.text(), lost.text()], ["1", "2", "1"]);
        let (two, one) = (few.last_id.clone(), lost.last_id.clone());
        (3..=5).for_each(|n| assert_eq!(few.text(), n.to_string()));
        (2..=5).for_each(|n| assert_eq!(lost.text(), n.to_string()));
        let five = few.last_id.clone();
        let hash = two.split_once('-').expect("a hash").0;
        // With the id, what is heard before and the first publication after it. Two are kept, so the third is lost.
        let cases: [(&str, &str, &[&str]); 8] = [
            ("few:a", &five, &[]),
            ("few:a", &two, &["gap few:a"]),
            ("lost:a", &one, &["gap lost:a"]),
            ("few:a", &format!("{hash}-00000000000000ff-5"), &["gap few:a"]),
            ("few:a", &two.replace("-2", "-99"), &["gap few:a"]),
            ("few:a", "not one of ours", &["gap few:a"]),
            ("few:a", &one, &["gap few:a"]),
            ("few:a", &"9".repeat(5000), &["gap few:a"]),
        ];
        for (index, (topic, id, told)) in cases.into_iter().enumerate() {
            let query = format!("topic={topic}");
            let mut source = place.back(&query, id);
            for want in told {
                let (kind, data) = source.event();
                assert_eq!(&format!("{kind} {data}"), want, "{id}");
            }
            if told.is_empty() {
                source = source.begun();
            }
            // Of several topics the id is put together, and only what it does not say is told.
            let mut again = place.back(&query, &source.last_id).begun();
            let new = format!("new {index}");
            place.publish(topic, &new);
            assert_eq!((source.text(), again.text()), (new.clone(), new), "{id}");
        }
        let mut several = place.back("topic=few:a&topic=few:b", &few.last_id);
        // The newest of `few:a` have come meanwhile.
        let mut told: Vec<_> = (0..2).map(|_| several.event()).map(|(kind, data)| format!("{kind} {data}")).collect();
        told.sort();
        assert_eq!(told, ["gap few:a", "gap few:b"]);
        // The last value comes after it where one is kept.
        place.publish("last:x", "state");
        let mut last = place.back("topic=last:x", "00000000-0000000000000001-1");
        assert_eq!(last.event(), ("gap".into(), "last:x".into()));
        assert_eq!(last.text(), "state");
    }
}

// ---- time and room -------------------------------------------------------------------------------------------

#[test]
fn heartbeats_are_comments_and_a_silent_peer_is_alive() {
    for variant in VARIANTS {
        let limits = Limits {
            ping_interval: Duration::from_millis(60),
            idle_timeout: Duration::from_millis(200),
            ..Limits::default()
        };
        let place = Place::new(variant, false, |builder| builder.limits(limits));
        let mut source = place.open("topic=a");
        let mut comments = 0;
        while comments < 10 {
            match source.told() {
                Told::Comment => comments += 1,
                Told::Nothing => {}
                other => panic!("{other:?}"),
            }
        }
        place.publish("a", "still here");
        assert_eq!(source.text(), "still here");
    }
}

#[test]
fn a_slow_client_is_cut_off_and_recovers() {
    const COUNT: usize = 400;
    for variant in VARIANTS {
        let limits = Limits { queued_bytes_max: 1 << 20, ..Limits::default() };
        let place = Place::new(variant, false, |builder| builder.limits(limits));
        for query in ["topic=kept:x", "topic=kept:x&topic=kept:other"] {
            let filler = "x".repeat(20_000);
            let mut slow = Source::new(Client::tcp_narrow(place.server.addr), query, "").begun();
            let published = place.server.sum(|metrics| &metrics.publications);
            for n in 0..COUNT {
                place.publish("kept:x", &format!("{n} {filler}"));
                let before = || place.server.sum(|metrics| &metrics.publications) - published;
                until("it is published", || before() > n as u64);
            }
            let mut numbers: Vec<usize> = Vec::new();
            let mut last_id = String::new();
            while numbers.last() != Some(&(COUNT - 1)) {
                if !last_id.is_empty() {
                    // What is missed may be more than a queue holds: then it comes in several parts.
                    slow = place.back(query, &last_id);
                }
                loop {
                    match slow.told() {
                        Told::Event(kind, data) => {
                            assert_eq!(kind, "");
                            numbers.push(data.split(' ').next().and_then(|n| n.parse().ok()).expect("a number"));
                        }
                        Told::Nothing | Told::Comment => {}
                        Told::End => break,
                    }
                    if numbers.last() == Some(&(COUNT - 1)) {
                        break;
                    }
                }
                last_id.clone_from(&slow.last_id);
            }
            assert!(!last_id.is_empty(), "it was slow");
            assert!(numbers.into_iter().eq(0..COUNT), "each once, in order");
        }
    }
}

#[test]
fn a_slow_client_loses_the_oldest_where_that_is_allowed() {
    const COUNT: u64 = 5_000;
    for variant in VARIANTS {
        let limits = Limits { queued_bytes_max: 1 << 20, ..Limits::default() };
        let place = Place::new(variant, false, |builder| builder.limits(limits));
        for query in ["topic=lossy:x", "topic=lossy:x&topic=lossy:y"] {
            let mut slow = Source::new(Client::tcp_narrow(place.server.addr), query, "").begun();
            let filler = "x".repeat(2000);
            let sum = |of: fn(&ShardMetrics) -> &Counter| place.server.sum(of);
            let accepted = || sum(|metrics| &metrics.publications);
            let looked_at = || accepted() + sum(|metrics| &metrics.publications_refused);
            let (accepted_before, looked_at_before) = (accepted(), looked_at());
            let drops_before = sum(|metrics| &metrics.queue_drops);
            for n in 1..=COUNT {
                place.publish("lossy:x", &format!("{n} {filler}"));
                if n % 50 == 0 {
                    until("all were looked at", || looked_at() - looked_at_before == n);
                }
            }
            let count = accepted() - accepted_before;
            let newest = |id: &str| {
                let offset =
                    id.split(',').map(|entry| entry.rsplit('-').next().and_then(|offset| offset.parse::<u64>().ok()));
                offset.flatten().max().expect("an offset")
            };
            let (first, mut offsets, mut last) = (newest(&slow.last_id), Vec::new(), 0);
            while offsets.last() != Some(&(first + count)) {
                let text = slow.text();
                let n: u64 = text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
                assert!(n > last, "{n} after {last}");
                last = n;
                offsets.push(newest(&slow.last_id));
            }
            assert!(offsets.is_sorted_by(|a, b| a < b));
            let lost = count - offsets.len() as u64;
            assert!(lost > 0, "it was slow");
            assert_eq!(sum(|metrics| &metrics.queue_drops) - drops_before, lost);
        }
    }
}

/// Only who sends much is read through the ring: broadcasts leave a connection cold.
#[test]
fn a_stream_stays_cold() {
    let place = Place::plain(VARIANTS[0]);
    let mut sources: Vec<_> = (0..50).map(|_| place.open("topic=a").begun()).collect();
    for n in 0..100 {
        place.publish("a", &n.to_string());
        sources.iter_mut().for_each(|source| assert_eq!(source.text(), n.to_string()));
    }
    assert_eq!(place.server.sum(|metrics| &metrics.promotions), 0);
    assert_eq!(place.server.sum(|metrics| &metrics.connections_cold), 50);
}

#[test]
fn a_stop_ends_streams_and_so_does_a_drain() {
    for variant in VARIANTS {
        let drain = |builder: Builder| builder.drain_delay(Duration::ZERO).drain_time(Duration::from_millis(200));
        let mut place = Place::new(variant, false, drain);
        let mut sources: Vec<_> = (0..5).map(|_| place.open("topic=a").begun()).collect();
        let running = place.server.running.take().expect("it runs");
        let drained = thread::spawn(move || running.drain());
        for source in &mut sources {
            assert_eq!(source.told(), Told::End);
        }
        // Whose end the server has not seen yet holds up the drain.
        drop(sources);
        drained.join().expect("no panic").expect("no core broke");
    }
}

#[test]
fn streams_count_as_connections() {
    for variant in VARIANTS {
        let place = Place::new(variant, false, |builder| builder.connections_max(2));
        let one = place.open("topic=a").begun();
        let _two = place.open("topic=a").begun();
        let full = place.connect().reply();
        assert_eq!(full.status, 503, "{full:?}");
        drop(one);
        until("there is room again", || place.server.handle.connection_count() == 1);
        place.open("topic=a").begun();
    }
}

// ---- requests ------------------------------------------------------------------------------------------------

#[test]
fn what_cannot_be_streamed_is_answered_with_a_status() {
    for variant in VARIANTS {
        let place = Place::plain(variant);
        let cases = [
            ("GET /sse", 400, "no topic"),
            ("GET /sse?topic=", 400, "must have a name"),
            ("GET /sse?topic=a::b", 400, "empty"),
            ("GET /sse?topic=members", 401, "token"),
            ("GET /sse?topic=a&topic=secret:x", 403, "may not subscribe"),
            ("GET /sse/?topic=a", 404, "/sse?topic=NAME"),
            ("GET /events", 404, "/sse?topic=NAME"),
            ("POST /sse?topic=a", 405, "Only GET and HEAD"),
            ("OPTIONS /sse?topic=a", 405, "Only GET and HEAD"),
        ];
        for (request, status, says) in cases {
            let reply = ask(place.connect(), &format!("{request} HTTP/1.1\nHost: localhost\n\n"));
            assert_eq!(reply.status, status, "{request}");
            assert!(reply.body.contains(says), "{request}: {}", reply.body);
            assert_eq!(reply.header("allow"), (status == 405).then_some("GET, HEAD"), "{request}");
        }
        let upgrade = place.connect().ask("/sse?topic=a", "");
        assert_eq!(upgrade.status, 404, "{upgrade:?}");
    }
}

#[test]
fn the_head_alone_and_an_old_client() {
    for variant in VARIANTS {
        let place = Place::plain(variant);
        let head = ask(place.connect(), "HEAD /sse?topic=a HTTP/1.1\nHost: localhost\n\n");
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(head.header("content-length"), None);
        place.server.wait_until_empty();
        let mut old = place.connect();
        old.send_raw(b"GET /sse?topic=a HTTP/1.0\r\n\r\n");
        let reply = old.reply();
        assert_eq!((reply.status, reply.header("transfer-encoding")), (200, None));
        let lines: Vec<_> = (0..4).map_while(|_| old.line()).collect();
        assert_eq!((&*lines[0], lines[2].starts_with("id: ")), ("retry: 3000", true), "{lines:?}");
        place.publish("a", "to HTTP/1.0");
        let event: Vec<_> = (0..3).map_while(|_| old.line()).collect();
        assert_eq!(event[1..], ["data: to HTTP/1.0", ""]);
        // Who says that nothing more comes has left.
        old.fin();
        old.end();
        place.server.wait_until_empty();
    }
}

#[test]
fn pages_of_admitted_origins_may_read() {
    const LISTED: &str = "https://app.example";
    for variant in VARIANTS {
        let origin = OriginPolicy::List(vec![LISTED.into()]);
        let place = Place::new(variant, false, |builder| builder.origin(origin));
        let from = |method: &str, origin: &str, headers: &str| {
            format!("{method} /sse?topic=members HTTP/1.1\nHost: localhost\nOrigin: {origin}\n{headers}\n")
        };
        let allowed = |reply: &common::Reply| reply.header("access-control-allow-origin").map(str::to_owned);
        // What is wrong can be read as well.
        let refused = ask(place.connect(), &from("GET", LISTED, ""));
        assert_eq!((refused.status, allowed(&refused)), (401, Some(LISTED.into())));
        let other = ask(place.connect(), &from("GET", "https://other.example", ""));
        assert_eq!((other.status, allowed(&other)), (403, None));
        assert!(other.body.contains("--origin"), "{}", other.body);
        let asks = "Access-Control-Request-Method: GET\nAccess-Control-Request-Headers: last-event-id\n";
        let preflight = ask(place.connect(), &from("OPTIONS", LISTED, asks));
        assert_eq!((preflight.status, allowed(&preflight)), (204, Some(LISTED.into())));
        assert_eq!(preflight.header("access-control-allow-headers"), Some("Cache-Control, Last-Event-ID"));
        let preflight = ask(place.connect(), &from("OPTIONS", "https://other.example", asks));
        assert_eq!((preflight.status, allowed(&preflight)), (403, None));
        let mut client = place.connect();
        client.send_raw(format!("GET /sse?topic=a HTTP/1.1\r\nHost: localhost\r\nOrigin: {LISTED}\r\n\r\n").as_bytes());
        let reply = client.reply();
        assert_eq!((reply.status, allowed(&reply)), (200, Some(LISTED.into())));
        assert_eq!(place.server.sum(|metrics| &metrics.refused_origin), 1);
    }
}

/// What a URL of raw mode may say, one of a stream may say too.
#[test]
fn a_token_in_the_url_is_as_good_as_in_raw_mode() {
    at_once(|variant| {
        let namespace = |name: &str, subscribe| Namespace { name: name.into(), subscribe, ..Namespace::default() };
        let all =
            [Namespace { presence: true, ..namespace("members", Access::Token) }, namespace("vip", Access::Signed)];
        let namespaces = Namespaces::new(Namespace::default(), all).expect("they are good");
        let admission = Arc::new(Admission {
            verifier: Some(verifier()),
            connections_per_user_max: NonZeroU32::new(1),
            ..Admission::default()
        });
        let configure = |builder: Builder| builder.cores(vec![0, 1]).namespaces(namespaces);
        let server = serve(variant, configure, move |_| Serve::new(true).admission(admission.clone()));
        let source = |query: &str| Source::new(Client::tcp(server.addr), query, "");
        let ask = |query: &str| ask(Client::tcp(server.addr), &format!("GET /sse?{query} HTTP/1.1\nHost: a\n\n"));

        let ada = token(json!({"sub": "ada", "subscribe": ["members:a"]}));
        let vip = token(json!({"sub": "", "topic": "vip:a"}));
        let refused = [
            ("topic=members:a".to_owned(), 401, "needs a token"),
            ("topic=members:a&token=nonsense".to_owned(), 401, "three parts"),
            (format!("topic=members:b&token={ada}"), 403, "does not allow"),
            (format!("topic=members:a&token={ada}&token={ada}"), 400, "more than one token"),
            (format!("topic=vip:b&token={vip}"), 401, "another topic"),
        ];
        for (query, status, says) in refused {
            let reply = ask(&query);
            assert_eq!(reply.status, status, "{query}: {}", reply.body);
            assert!(reply.body.contains(says), "{query}: {}", reply.body);
        }
        let mut member = source(&format!("topic=members:a&token={ada}")).begun();
        let mut important = source(&format!("topic=vip:a&token={vip}")).begun();
        for (topic, source) in [("members:a", &mut member), ("vip:a", &mut important)] {
            publish(&server.handle, topic, DataKind::Text, topic);
            assert_eq!(source.text(), topic);
        }
        let query = format!("topic=public&token={ada}");
        assert_eq!(ask(&query).status, 429);
        drop(member);
        until("the user has gone", || ask_head(server.addr, &query) == 200);

        // The leeway is 30 seconds: five are left, enough for a busy machine to begin.
        let ends = token(json!({"sub": "bob", "exp": now() - 25}));
        let query = format!("topic=public&token={ends}");
        let mut ends = source(&query).begun();
        assert_eq!(ends.told(), Told::End);
        let again = ask(&query);
        assert_eq!((again.status, again.body.contains("expired")), (401, true), "{}", again.body);
    });
}

/// The status of a stream that never begins.
fn ask_head(addr: SocketAddr, query: &str) -> u16 {
    ask(Client::tcp(addr), &format!("HEAD /sse?{query} HTTP/1.1\nHost: a\n\n")).status
}

// ---- other handlers ------------------------------------------------------------------------------------------

/// Streams that are answered later, counted, pinged, closed, and harmed by panics.
struct Custom;

impl Handler for Custom {
    type Session = String;

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<String> {
        Upgrade::Accept(Accept::new("websocket".into()))
    }

    fn stream(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Option<Upgrade<String>> {
        let accept = |path: &str| Accept::new(path.to_owned()).header("X-Path", path);
        match request.path() {
            "/no" => None,
            "/refuse" => Some(Upgrade::Refuse(Response::text(402, "pay first\n"))),
            "/panic" => panic!("as the test wants, in stream"),
            "/later" | "/never" => {
                let deferred = conn.defer();
                let is_answered = request.path() == "/later";
                thread::spawn(move || answer(deferred, is_answered));
                Some(Upgrade::Defer)
            }
            path => Some(Upgrade::Accept(accept(path).wire(Wire(7)))),
        }
    }

    fn upgrade_deferred(
        &mut self,
        _: &mut Conn<'_>,
        request: &Request<'_>,
        answer: Box<dyn Any + Send>,
    ) -> Upgrade<String> {
        let name = *answer.downcast::<&str>().expect("our own");
        Upgrade::Accept(Accept::new(request.path().to_owned()).header("X-Answer", name))
    }

    fn open(&mut self, conn: &mut Conn<'_>, path: &mut String) {
        conn.subscribe(&Topic::parse("t").expect("a name"), Want::Nothing, None).expect("once");
        if path == "/close" {
            conn.send_text("before\n").expect("room");
            conn.close(CloseCode(4000), "no words for it");
        }
        let _ = conn.ping(b"not shown");
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut String, message: Message<'_>) {
        conn.broadcast_all(MessageKind::Text, message.into_bytes()).expect("room");
    }

    fn preface(&mut self, wire: Wire, to: ConnId, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        assert_eq!(wire, Wire(7), "as the test wants");
        assert_ne!(&*delivery.publication.draft.data, b"panic", "as the test wants");
        out.extend_from_slice(format!("<{to}>").as_bytes());
    }

    fn close(&mut self, core: &mut Core<'_>, _: ConnId, path: String, closed: &Closed) {
        core.broadcast(MessageKind::Text, Bytes::from(format!("closed {path} {}", closed.code)));
    }
}

fn answer(deferred: Deferred, is_answered: bool) {
    if is_answered {
        deferred.answer("later").expect("room");
    }
}

#[test]
fn any_handler_may_answer_with_a_stream() {
    for variant in VARIANTS {
        let server = serve(variant, |builder| builder.cores(vec![0]), |_| Custom);
        let get = |path: &str| {
            let mut client = Client::tcp(server.addr);
            client.send_raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
            let reply = client.reply();
            (client, reply)
        };
        let mut websocket = Client::open(server.addr);
        assert_eq!(websocket.frame().opcode, common::PING);
        for (path, status) in [("/no", 426), ("/refuse", 402), ("/panic", 500), ("/never", 503)] {
            assert_eq!(get(path).1.status, status, "{path}");
        }
        let (mut closed, reply) = get("/close");
        assert_eq!((reply.status, reply.header("x-path")), (200, Some("/close")));
        assert_eq!(closed.rest(), b"before\n");
        assert_eq!(websocket.text(), "closed /close 4000");

        let (mut later, reply) = get("/later");
        assert_eq!((reply.status, reply.header("x-answer")), (200, Some("later")));
        let (mut one, _) = get("/one");
        let (mut two, _) = get("/two");
        for client in [&mut later, &mut one, &mut two] {
            assert_eq!(client.line().as_deref(), Some(":"));
            assert_eq!(client.line().as_deref(), Some(""));
        }
        until("all hear", || server.sum(|metrics| &metrics.subscriptions) == 4);
        // Broadcasts are for WebSockets.
        websocket.send_text("to all");
        assert_eq!(websocket.text(), "to all");
        drop(later);
        assert_eq!(websocket.text(), "closed /later 1005");
        publish(&server.handle, "t", DataKind::Text, "hi\n");
        assert_eq!(websocket.text(), "hi\n");
        let (first, second) = (one.line().expect("a line"), two.line().expect("a line"));
        assert!(first.starts_with('<') && first.ends_with(">hi") && second.ends_with(">hi"), "{first} {second}");
        assert_ne!(first, second);
        // Whom a panic was for is closed, and nobody else.
        publish(&server.handle, "t", DataKind::Text, "panic");
        let mut news: Vec<_> = (0..3).map(|_| websocket.text()).collect();
        news.sort();
        assert_eq!(news, ["closed /one 1011", "closed /two 1011", "panic"]);
        websocket.close();
        server.wait_until_empty();
    }
}
