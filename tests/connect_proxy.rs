//! A back end that decides about connections and subscriptions, and what clients meet when it does not.

#![cfg(feature = "cli")]

mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::target::{Got, Say, Target};
use common::{Client, PATIENCE, TestServer, VARIANTS, Variant, frame, serve, until};
use corewire::builtin::Serve;
use corewire::topics::{Access, DataKind, Draft, Namespace, Namespaces, Topic};
use corewire::webhooks::{Figures, Prepared, ProxyOptions, Running, Secret};
use serde_json::{Value, json};

const SECRET: &str = "a secret of some length";

/// `members` wants a token of the connection, `vip` one for each topic.
fn namespaces() -> Namespaces {
    let named = |name: &str| Namespace { name: name.into(), presence: true, ..Namespace::default() };
    let all = [
        Namespace { subscribe: Access::Token, publish: Access::Token, ..named("members") },
        Namespace { subscribe: Access::Signed, ..named("vip") },
        Namespace { subscribe: Access::Nobody, ..named("secret") },
        Namespace { publish: Access::Public, ..named("open") },
    ];
    Namespaces::new(Namespace::default(), all).expect("they are good")
}

/// A server that asks a target.
struct Stage {
    server: TestServer,
    target: Target,
    figures: Figures,
    _running: Running,
}

impl Stage {
    fn new(variant: Variant, answer: impl Fn(&Got) -> Say + Send + Sync + 'static) -> Self {
        Self::with(variant, |_| {}, answer)
    }

    fn with(
        variant: Variant,
        change: impl FnOnce(&mut ProxyOptions),
        answer: impl Fn(&Got) -> Say + Send + Sync + 'static,
    ) -> Self {
        let target = Target::start(answer);
        let mut options = ProxyOptions {
            endpoint: target.url().parse().expect("a URL"),
            secret: Some(Secret::new(SECRET.as_bytes()).expect("long enough")),
            timeout: PATIENCE,
            requests: 8,
        };
        change(&mut options);
        let prepared = Prepared::new(None, Some(options), 7).expect("it needs no authorities");
        let decider = prepared.decider().expect("a proxy");
        let server = serve(
            variant,
            |builder| builder.cores(vec![0, 1]).namespaces(namespaces()),
            move |_| Serve::new(false).decider(decider.clone()),
        );
        let figures = prepared.figures();
        Self { server, target, figures, _running: prepared.start().expect("a thread") }
    }

    fn open_v1(&self) -> Client {
        let mut client = Client::tcp(self.server.addr);
        assert_eq!(client.ask("/ws", "Sec-WebSocket-Protocol: corewire.v1\r\n").status, 101);
        client
    }

    fn verdicts(&self, verdict: &str) -> u64 {
        let samples = self.figures.samples();
        samples.iter().find(|sample| sample.label == Some(("verdict", verdict))).expect("a figure").value
    }

    fn publish(&self, topic: &str, data: &'static str) {
        let draft = Draft { kind: DataKind::Text, data: data.into(), key: None, publisher: None };
        self.server.handle.publish(&Topic::parse(topic).expect("good"), draft).expect("room");
    }
}

/// Gives these answers, one after the other.
fn answers(answers: impl IntoIterator<Item = Value>) -> impl Fn(&Got) -> Say + Send + Sync {
    let answers: Mutex<VecDeque<_>> = Mutex::new(answers.into_iter().collect());
    move |_| Say::ok(answers.lock().expect("no panic").pop_front().expect("no more questions").to_string())
}

#[track_caller]
fn ask(client: &mut Client, message: Value) -> Value {
    client.send_text(&message.to_string());
    hear(client)
}

#[track_caller]
fn hear(client: &mut Client) -> Value {
    serde_json::from_str(&client.text()).expect("JSON")
}

#[track_caller]
fn is_error(answer: &Value, code: &str, says: &str) {
    assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{answer}");
    assert!(answer["message"].as_str().expect("a sentence").contains(says), "{answer}");
}

// ---- corewire.v1 ---------------------------------------------------------------------------------------------

#[test]
fn the_back_end_says_who_somebody_is_and_what_he_may() {
    for variant in VARIANTS {
        let verdict = json!({
            "allow": true, "user": "ada", "info": {"name": "Ada"}, "expires_in": 600,
            "subscribe": ["members:*"], "publish": ["members:a"],
        });
        let stage = Stage::new(variant, answers([verdict]));
        let mut ada = stage.open_v1();
        let ack = ask(&mut ada, json!({"type": "connect", "id": 1, "token": "anything at all"}));
        assert_eq!((&ack["type"], &ack["user"], &ack["id"]), (&json!("ack"), &json!("ada"), &json!(1)), "{ack}");
        assert!((570..=600).contains(&ack["expires_in"].as_u64().expect("a number")), "{ack}");
        let asked = stage.target.got().remove(0);
        asked.signed_at(SECRET);
        let want = json!({
            "kind": "connect", "connection": ack["connection"], "address": "127.0.0.1", "protocol": "corewire.v1",
            "token": "anything at all",
        });
        assert_eq!(asked.json(), want);
        // What the verdict grants is not asked again, nor is what everybody may.
        for topic in ["members:a", "members:*", "open:b"] {
            let ack = ask(&mut ada, json!({"type": "subscribe", "id": 2, "topic": topic}));
            assert_eq!(ack["type"], "ack", "{topic}: {ack}");
        }
        ada.send_text(&json!({"type": "publish", "id": 3, "topic": "members:a", "data": 1}).to_string());
        let two = [hear(&mut ada), hear(&mut ada)];
        assert!(two.iter().any(|message| message["type"] == "ack"), "{two:?}");
        assert!(two.iter().any(|message| message["data"] == 1), "{two:?}");
        is_error(&ask(&mut ada, json!({"type": "publish", "id": 4, "topic": "members:b", "data": 1})), "forbidden", "");
        let there = ask(&mut ada, json!({"type": "presence", "id": 5, "topic": "members:a"}));
        assert_eq!(there["members"][0], json!({"user": "ada", "info": {"name": "Ada"}, "connections": 1}), "{there}");
        assert_eq!((stage.target.count(), stage.verdicts("allowed")), (1, 1));
    }
}

#[test]
fn subscriptions_that_nothing_else_allows_are_asked_about() {
    for variant in VARIANTS {
        let stage = Stage::new(variant, |got| {
            let question = got.json();
            let topic = question["topic"].as_str();
            Say::ok(match (question["kind"].as_str(), topic) {
                (Some("connect"), None) => json!({"allow": true, "user": "ada"}).to_string(),
                (Some("subscribe"), Some("members:yes")) => json!({"allow": true}).to_string(),
                (Some("subscribe"), Some("vip:yes")) => {
                    json!({"allow": true, "info": {"seat": 7}, "expires_in": 60}).to_string()
                }
                (Some("subscribe"), _) => json!({"allow": false, "reason": "not for Ada"}).to_string(),
                (_, _) => panic!("{question}"),
            })
        });
        let mut ada = stage.open_v1();
        let connection = ask(&mut ada, json!({"type": "connect", "id": 1}))["connection"].clone();
        let subscribe = |client: &mut Client, topic: &str| {
            ask(client, json!({"type": "subscribe", "id": 2, "topic": topic, "token": "shown"}))
        };
        assert_eq!(subscribe(&mut ada, "members:yes")["type"], "ack");
        let want = json!({
            "kind": "subscribe", "connection": connection, "user": "ada", "topic": "members:yes", "token": "shown",
        });
        assert_eq!(stage.target.got()[1].json(), want);
        assert_eq!(subscribe(&mut ada, "vip:yes")["type"], "ack");
        let there = ask(&mut ada, json!({"type": "presence", "id": 5, "topic": "vip:yes"}));
        assert_eq!(there["members"][0], json!({"user": "ada", "info": {"seat": 7}, "connections": 1}), "{there}");
        is_error(&subscribe(&mut ada, "members:no"), "forbidden", "not for Ada");
        is_error(&subscribe(&mut ada, "vip:no"), "forbidden", "not for Ada");
        is_error(&subscribe(&mut ada, "members:yes"), "already_subscribed", "");
        let asked = stage.target.count();
        // Nobody may, so nobody is asked; and patterns are for verdicts about connections.
        is_error(&subscribe(&mut ada, "secret:x"), "forbidden", "");
        is_error(&subscribe(&mut ada, "members:*"), "forbidden", "");
        is_error(&subscribe(&mut ada, "vip:*"), "forbidden", "");
        assert_eq!(stage.target.count(), asked);
        stage.publish("members:yes", "one");
        assert_eq!(hear(&mut ada)["data"], "one");
        // A newer verdict about the connection leaves alone what was decided topic by topic.
        assert_eq!(ask(&mut ada, json!({"type": "connect", "id": 6}))["user"], "ada");
        stage.publish("members:yes", "two");
        assert_eq!(hear(&mut ada)["data"], "two");
    }
}

#[test]
fn whom_the_back_end_does_not_want_is_told_and_closed() {
    for variant in VARIANTS {
        let refusals = [
            json!({"allow": false}),
            json!({"allow": false, "reason": "banned"}),
            json!({"allow": false, "code": 4123, "reason": "banned until Monday"}),
        ];
        let stage = Stage::new(variant, answers(refusals));
        let cases = [
            ("the back end does not allow it", (4003, "disconnected by the back end")),
            ("banned", (4003, "disconnected by the back end")),
            ("banned until Monday", (4123, "banned until Monday")),
        ];
        for (says, (code, reason)) in cases {
            let mut client = stage.open_v1();
            is_error(&ask(&mut client, json!({"type": "connect", "id": 1})), "forbidden", says);
            assert_eq!(client.close_frame(), (code, reason.to_owned()));
        }
        assert_eq!(stage.verdicts("denied"), 3);
    }
}

#[test]
fn somebody_stays_who_he_is() {
    for variant in VARIANTS {
        let verdicts = [
            json!({"allow": true, "user": "ada", "expires_in": 60, "subscribe": ["members:x"]}),
            json!({"allow": true, "user": "ada", "expires_in": 600}),
            json!({"allow": true, "user": "eve"}),
            json!({"allow": true}),
            json!({"allow": false, "code": 4100, "reason": "out"}),
        ];
        let stage = Stage::new(variant, answers(verdicts));
        let mut ada = stage.open_v1();
        let mut connect = |id: u32| ask(&mut ada, json!({"type": "connect", "id": id}));
        assert!(connect(1)["expires_in"].as_u64() <= Some(60));
        assert!(connect(2)["expires_in"].as_u64() > Some(60));
        is_error(&connect(3), "token_invalid", "somebody else");
        is_error(&connect(4), "token_invalid", "somebody else");
        is_error(&connect(5), "forbidden", "out");
        assert_eq!(ada.close_frame(), (4100, "out".to_owned()));
    }
}

#[test]
fn nobody_in_particular_may_be_let_in() {
    for variant in VARIANTS {
        let stage = Stage::new(variant, |got| {
            let is_connect = got.json()["kind"] == "connect";
            Say::ok(json!({"allow": is_connect}).to_string())
        });
        let mut client = stage.open_v1();
        let ack = ask(&mut client, json!({"type": "connect", "id": 1}));
        assert_eq!((&ack["type"], &ack["user"]), (&json!("ack"), &Value::Null), "{ack}");
        assert_eq!(ask(&mut client, json!({"type": "subscribe", "id": 2, "topic": "open:a"}))["type"], "ack");
        is_error(&ask(&mut client, json!({"type": "subscribe", "id": 3, "topic": "members:a"})), "forbidden", "");
    }
}

/// What comes while a verdict is waited for is heard after it, in order, and nobody else waits.
#[test]
fn what_a_client_says_meanwhile_waits_in_its_order() {
    for variant in VARIANTS {
        let is_open = Arc::new(AtomicBool::new(false));
        let gate = is_open.clone();
        let stage = Stage::new(variant, move |got| {
            if got.json()["token"] == "slow" {
                until("the gate is opened", || gate.load(Ordering::Relaxed));
            }
            Say::ok(json!({"allow": true, "user": "ada", "publish": ["members:x"]}).to_string())
        });
        let mut slow = stage.open_v1();
        let messages = [
            json!({"type": "connect", "id": 1, "token": "slow"}),
            json!({"type": "subscribe", "id": 2, "topic": "open:a"}),
            json!({"type": "ping", "id": 3}),
            json!({"type": "publish", "id": 4, "topic": "open:a", "data": "mine"}),
        ];
        let all: Vec<u8> =
            messages.iter().flat_map(|message| frame(common::TEXT, message.to_string().as_bytes())).collect();
        slow.send_raw(&all);
        until("it is asked about", || stage.target.count() == 1);
        // Others come and go, on the same core or another.
        for _ in 0..10 {
            let mut quick = stage.open_v1();
            assert_eq!(ask(&mut quick, json!({"type": "connect", "id": 1, "token": "quick"}))["user"], "ada");
            assert_eq!(ask(&mut quick, json!({"type": "ping", "id": 2}))["type"], "ack");
        }
        slow.set_read_timeout(Duration::from_millis(20));
        assert!(!slow.peek(), "nothing is answered yet");
        slow.set_read_timeout(PATIENCE);
        is_open.store(true, Ordering::Relaxed);
        assert_eq!(hear(&mut slow)["user"], "ada");
        let mut ids: Vec<_> = (0..4).map(|_| hear(&mut slow)).map(|m| (m["id"].clone(), m["data"].clone())).collect();
        ids.sort_by_key(|(id, _)| id.as_u64());
        let want =
            [(Value::Null, json!("mine")), (json!(2), Value::Null), (json!(3), Value::Null), (json!(4), Value::Null)];
        assert_eq!(ids, want);
    }
}

#[test]
fn who_leaves_meanwhile_is_no_burden() {
    for variant in VARIANTS {
        let is_open = Arc::new(AtomicBool::new(false));
        let gate = is_open.clone();
        let stage = Stage::new(variant, move |_| {
            until("the gate is opened", || gate.load(Ordering::Relaxed));
            Say::ok(json!({"allow": true, "user": "ada"}).to_string())
        });
        for _ in 0..3 {
            let mut client = stage.open_v1();
            client.send_text(&json!({"type": "connect", "id": 1}).to_string());
            let mut raw = Client::tcp(stage.server.addr);
            raw.send_raw(common::request("/ws?topic=a", "").as_bytes());
        }
        until("all are asked about", || stage.target.count() == 6);
        is_open.store(true, Ordering::Relaxed);
        until("all are answered", || stage.verdicts("allowed") == 6);
        stage.server.wait_until_empty();
        let mut next = stage.open_v1();
        assert_eq!(ask(&mut next, json!({"type": "connect", "id": 1}))["user"], "ada");
    }
}

// ---- no verdict ----------------------------------------------------------------------------------------------

#[test]
fn without_a_verdict_clients_are_refused_and_may_try_again() {
    let bad = [
        Say::Status(500, "oops".into()),
        Say::Status(403, json!({"allow": true}).to_string()),
        Say::Status(307, String::new()),
        Say::ok("not JSON"),
        Say::ok("[]"),
        Say::ok(json!({"allow": "yes"}).to_string()),
        Say::ok(json!({"allow": true, "user": "x".repeat(300)}).to_string()),
        Say::ok(json!({"allow": true, "subscribe": ["members:*"]}).to_string()),
        Say::ok(json!({"allow": true, "padding": "x".repeat(70_000)}).to_string()),
        Say::Hangup,
    ];
    for variant in VARIANTS {
        let count = bad.len() as u64;
        // Each is given to a v1 client and to a raw one.
        let says: Mutex<VecDeque<_>> = Mutex::new(bad.iter().flat_map(|say| [say.clone(), say.clone()]).collect());
        let yes = || Say::ok(json!({"allow": true}).to_string());
        let stage = Stage::new(variant, move |_| says.lock().expect("no panic").pop_front().unwrap_or_else(yes));
        let mut client = stage.open_v1();
        for number in 0..count {
            let answer = ask(&mut client, json!({"type": "connect", "id": number}));
            is_error(&answer, "unavailable", "no answer");
            let reply = Client::tcp(stage.server.addr).ask("/ws?topic=a", "");
            assert_eq!(reply.status, 503, "{reply:?}");
            assert!(reply.body.contains("no answer"), "{reply:?}");
        }
        assert_eq!(stage.verdicts("failed"), 2 * count);
        assert_eq!(ask(&mut client, json!({"type": "connect", "id": 99}))["type"], "ack", "it is still there");
    }
}

#[test]
fn a_back_end_that_says_nothing_is_waited_for_only_so_long() {
    for variant in VARIANTS {
        let stage = Stage::with(variant, |options| options.timeout = Duration::from_millis(50), |_| Say::Nothing);
        let mut client = stage.open_v1();
        is_error(&ask(&mut client, json!({"type": "connect", "id": 1})), "unavailable", "no answer");
        assert_eq!(Client::tcp(stage.server.addr).ask("/ws?topic=a", "").status, 503);
        is_error(&ask(&mut client, json!({"type": "subscribe", "id": 2, "topic": "a"})), "not_connected", "");
        assert_eq!(stage.verdicts("failed"), 2);
    }
}

#[test]
fn a_back_end_that_is_down_is_told_at_once() {
    for variant in VARIANTS {
        let stage = Stage::new(variant, |_| Say::ok("{\"allow\":true}"));
        stage.target.stop();
        let mut client = stage.open_v1();
        is_error(&ask(&mut client, json!({"type": "connect", "id": 1})), "unavailable", "no answer");
        assert_eq!(Client::tcp(stage.server.addr).ask("/ws?topic=a", "").status, 503);
        let back = Target::start_at(stage.target.addr, None, |_| Say::ok("{\"allow\":true}"));
        assert_eq!(ask(&mut client, json!({"type": "connect", "id": 2}))["type"], "ack");
        assert_eq!(back.count(), 1);
    }
}

/// More questions than requests at a time: the others wait for their turn, and are answered.
#[test]
fn many_at_once_take_turns() {
    let at_once = Arc::new(Mutex::new((0, 0)));
    let counts = at_once.clone();
    let stage = Stage::with(
        VARIANTS[0],
        |options| options.requests = 3,
        move |_| {
            {
                let mut counts = counts.lock().expect("no panic");
                counts.0 += 1;
                counts.1 = counts.0.max(counts.1);
            }
            std::thread::sleep(Duration::from_millis(2));
            counts.lock().expect("no panic").0 -= 1;
            Say::ok(json!({"allow": true}).to_string())
        },
    );
    let mut clients: Vec<_> = (0..60).map(|_| stage.open_v1()).collect();
    clients.iter_mut().for_each(|client| client.send_text(&json!({"type": "connect", "id": 1}).to_string()));
    clients.iter_mut().for_each(|client| assert_eq!(hear(client)["type"], "ack"));
    let most = at_once.lock().expect("no panic").1;
    assert!((1..=3).contains(&most), "{most} at once");
}

// ---- by URL --------------------------------------------------------------------------------------------------

#[test]
fn a_url_is_decided_about_as_a_whole() {
    for variant in VARIANTS {
        let stage = Stage::new(variant, |got| {
            let question = got.json();
            assert_eq!((&question["kind"], &question["protocol"]), (&json!("connect"), &json!("raw")));
            Say::ok(
                match question["token"].as_str() {
                    None => json!({"allow": true}),
                    Some("member") => json!({"allow": true, "user": "ada", "subscribe": ["members:**", "vip:x"]}),
                    Some(_) => json!({"allow": false, "reason": "who is that?"}),
                }
                .to_string(),
            )
        });
        let get = |path: &str| Client::tcp(stage.server.addr).ask(path, "");
        let mut open = Client::open_at(stage.server.addr, "/ws?topic=open:a&topic=b");
        assert_eq!(stage.target.got()[0].json()["topics"], json!(["open:a", "b"]));
        let mut member =
            Client::open_at(stage.server.addr, "/ws?topic=members:a&topic=members:*&topic=vip:x&token=member");
        until("they have subscribed", || stage.server.sum(|metrics| &metrics.subscriptions) == 5);
        for topic in ["open:a", "vip:x"] {
            stage.publish(topic, "hello");
        }
        assert_eq!((open.text(), member.text()), ("hello".to_owned(), "hello".to_owned()));
        let cases = [
            ("/ws?topic=a&token=other", 403, "who is that?"),
            ("/ws?topic=members:a", 401, "needs a token"),
            ("/ws?topic=open:a&topic=secret:a&token=member", 403, "may not subscribe"),
            ("/ws?topic=vip:y&token=member", 401, "token of its own"),
        ];
        for (path, status, says) in cases {
            let reply = get(path);
            assert_eq!(reply.status, status, "{path}: {reply:?}");
            assert!(reply.body.contains(says), "{path}: {reply:?}");
        }
        // What is wrong in itself is not asked about.
        let asked = stage.target.count();
        assert_eq!((get("/ws").status, get("/ws?topic=a::b").status, get("/elsewhere").status), (400, 400, 404));
        assert_eq!(stage.target.count(), asked);
    }
}

#[test]
fn a_stream_is_asked_about_like_any_other() {
    for variant in VARIANTS {
        let stage = Stage::new(variant, |got| {
            let question = got.json();
            assert_eq!((&question["kind"], &question["protocol"]), (&json!("connect"), &json!("sse")));
            match question["token"].as_str() {
                Some("member") => {
                    Say::ok(json!({"allow": true, "user": "ada", "subscribe": ["members:**"]}).to_string())
                }
                Some("down") => Say::Status(500, String::new()),
                _ => Say::ok(json!({"allow": false, "reason": "who is that?"}).to_string()),
            }
        });
        let get = |path: &str| {
            let mut client = Client::tcp(stage.server.addr);
            client.send_raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
            client
        };
        let refused = get("/sse?topic=members:a").reply();
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.body.contains("who is that?"), "{refused:?}");
        assert_eq!(get("/sse?topic=members:a&token=down").reply().status, 503);
        let mut stream = get("/sse?topic=members:a&topic=members:b&token=member");
        until("it has subscribed", || stage.server.sum(|metrics| &metrics.subscriptions) == 2);
        stage.publish("members:b", "hello");
        let mut heard = String::new();
        while !heard.contains("data: hello\n") {
            let mut chunk = [0; 256];
            let len = std::io::Read::read(&mut stream.socket, &mut chunk).expect("it goes on");
            assert_ne!(len, 0, "{heard}");
            heard.push_str(&String::from_utf8_lossy(&chunk[..len]));
        }
        assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
    }
}
