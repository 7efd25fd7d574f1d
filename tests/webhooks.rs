//! What a back end is told of clients of `corewire serve`, on both drivers.

#![cfg(feature = "cli")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::binary::Binary;
use common::commands::{at_home_on, hold};
use common::target::{Say, Target};
use common::tokens::{token, verifier};
use common::{Client, Folder, PATIENCE, TestServer, VARIANTS, Variant, serve, until};
use corewire::backend::{Event, EventKinds, Observer};
use corewire::builtin::{Admission, Serve};
use corewire::handler::Outside;
use corewire::topics::{Access, Answer, HomeEvent, Namespace, Namespaces, Ticket};
use corewire::webhooks::{Prepared, Secret, WebhookOptions};
use serde_json::{Value, json};

fn namespaces() -> Namespaces {
    let named = |name: &str| Namespace { name: name.into(), publish: Access::Public, ..Namespace::default() };
    let members = Namespace { subscribe: Access::Token, publish: Access::Token, ..named("members") };
    Namespaces::new(named(""), [members]).expect("they are good")
}

/// Keeps what it is told.
#[derive(Default)]
struct Diary(Mutex<Vec<Event>>);

impl Observer for Diary {
    fn kinds(&self) -> EventKinds {
        EventKinds::all()
    }

    fn observe(&self, event: Event) {
        self.0.lock().expect("no panic").push(event);
    }
}

/// Hears what homes say.
struct Homes(Arc<dyn Observer>);

impl Outside for Homes {
    fn answered(&self, _: Ticket, _: Answer) {}

    fn topic_event(&self, event: HomeEvent) {
        Event::of_topic(event).into_iter().for_each(|event| self.0.observe(event));
    }
}

fn stage(variant: Variant, observer: Arc<dyn Observer>) -> TestServer {
    let admission = Arc::new(Admission { verifier: Some(verifier()), ..Admission::default() });
    let homes = Arc::new(Homes(observer.clone()));
    serve(
        variant,
        |builder| builder.cores(vec![0, 1]).namespaces(namespaces()).outside(homes),
        move |_| Serve::new(false).admission(admission.clone()).observer(observer.clone()),
    )
}

fn open_v1(server: &TestServer) -> Client {
    let mut client = Client::tcp(server.addr);
    assert_eq!(client.ask("/ws", "Sec-WebSocket-Protocol: corewire.v1\r\n").status, 101);
    client
}

#[track_caller]
fn ask(client: &mut Client, message: Value) -> Value {
    client.send_text(&message.to_string());
    serde_json::from_str(&client.text()).expect("JSON")
}

#[track_caller]
fn ask_well(client: &mut Client, message: Value) -> Value {
    let answer = ask(client, message);
    assert_eq!(answer["type"], "ack", "{answer}");
    answer
}

/// The events of one kind, in a form that reads.
fn told(diary: &Diary, kind: &str) -> Vec<String> {
    let events = diary.0.lock().expect("no panic");
    let of_kind = events.iter().filter(|event| event.kind().name() == kind);
    of_kind.map(show).collect()
}

fn show(event: &Event) -> String {
    let user = |client: &corewire::backend::Client| client.user.as_deref().unwrap_or("nobody").to_owned();
    match event {
        Event::Connected { client, address, protocol } => {
            format!("{} from {} by {protocol}", user(client), address.expect("TCP"))
        }
        Event::Disconnected { client, code, cause } => format!("{} {code} {cause}", user(client)),
        Event::Subscribed { client, subject } | Event::Unsubscribed { client, subject } => {
            format!("{} {subject:?}", user(client))
        }
        Event::Occupied(topic) | Event::Vacated(topic) => topic.as_str().to_owned(),
        Event::Unanswered { client, topic, draft } => {
            format!("{} {} {}", user(client), topic.as_str(), String::from_utf8_lossy(&draft.data))
        }
        Event::Published { client, topic, position, draft } => {
            let data = String::from_utf8_lossy(&draft.data);
            format!("{} {} {} {:?} {data}", user(client), topic.as_str(), position.offset, draft.kind)
        }
    }
}

/// Waits until so many of a kind are told, and answers with all there are.
#[track_caller]
fn wait_for(diary: &Diary, kind: &str, count: usize) -> Vec<String> {
    until(kind, || told(diary, kind).len() >= count);
    told(diary, kind)
}

#[test]
fn the_life_of_clients() {
    for variant in VARIANTS {
        let diary = Arc::new(Diary::default());
        let server = stage(variant, diary.clone());
        let mut ada = open_v1(&server);
        ask_well(&mut ada, json!({"type": "connect", "id": 1, "token": token(json!({"sub": "ada"}))}));
        assert_eq!(wait_for(&diary, "connected", 1), ["ada from 127.0.0.1 by corewire.v1"]);
        // Again is not anew.
        ask_well(&mut ada, json!({"type": "connect", "id": 2, "token": token(json!({"sub": "ada"}))}));
        ask_well(&mut ada, json!({"type": "subscribe", "id": 3, "topic": "a"}));
        ask_well(&mut ada, json!({"type": "subscribe", "id": 4, "topic": "b:*"}));
        let refused = ask(&mut ada, json!({"type": "subscribe", "id": 5, "topic": "members:x"}));
        assert_eq!(refused["code"], "forbidden");
        assert_eq!(wait_for(&diary, "subscribed", 2), ["ada Topic(a)", "ada Pattern(b:*)"].map(as_debug));
        assert_eq!(wait_for(&diary, "occupied", 1), ["a"], "a pattern occupies nothing");

        ada.send_text(&json!({"type": "publish", "id": 6, "topic": "b:c", "data": {"x": [1]}}).to_string());
        // The ack, and the message that comes by the pattern.
        let answers = [ada.text(), ada.text()].map(|text| serde_json::from_str::<Value>(&text).expect("JSON"));
        assert!(answers.iter().any(|answer| answer["data"] == json!({"x": [1]})), "{answers:?}");
        let refused = ask(&mut ada, json!({"type": "publish", "id": 7, "topic": "members:x", "data": 1}));
        assert_eq!(refused["code"], "forbidden");
        assert_eq!(wait_for(&diary, "published", 1), ["ada b:c 1 Json {\"x\":[1]}"]);

        let mut raw = Client::open_at(server.addr, "/ws?topic=a");
        wait_for(&diary, "subscribed", 3);
        raw.send_text("hi");
        assert_eq!(raw.text(), "hi");
        assert_eq!(wait_for(&diary, "published", 2)[1], "nobody a 1 Text hi");
        assert_eq!(wait_for(&diary, "connected", 2)[1], "nobody from 127.0.0.1 by raw");

        let _message = ada.text();
        ask_well(&mut ada, json!({"type": "unsubscribe", "id": 8, "topic": "a"}));
        assert_eq!(wait_for(&diary, "unsubscribed", 1), ["ada Topic(a)"].map(as_debug));
        raw.close();
        assert_eq!(wait_for(&diary, "disconnected", 1), ["nobody 1000 client"]);
        assert_eq!(wait_for(&diary, "vacated", 1), ["a"]);
        drop(ada);
        assert_eq!(wait_for(&diary, "disconnected", 2)[1], "ada 1006 transport");
        assert_eq!(told(&diary, "unsubscribed").len(), 1, "with a connection its subscriptions end untold");
        assert_eq!(told(&diary, "occupied").len(), 1);
    }
}

/// The publication is accepted in the end, but its publisher was told that nobody knows, and so is the back end: what
/// is not told as published is not lost silently.
#[test]
fn what_a_topic_does_not_answer_is_told() {
    for variant in VARIANTS {
        let diary = Arc::new(Diary::default());
        let server = stage(variant, diary.clone());
        let topic = at_home_on(1, "t");
        let silent = hold(&server.handle, 1);
        // Who comes to the core that is silent is not let in.
        let mut bob = std::iter::repeat_with(|| {
            let mut client = Client::tcp(server.addr);
            client.send_raw(common::request("/ws", "Sec-WebSocket-Protocol: corewire.v1\r\n").as_bytes());
            client.set_read_timeout(Duration::from_millis(100));
            client.peek().then_some(client)
        });
        let mut bob = bob.find_map(|client| client).expect("the other core listens too");
        bob.set_read_timeout(PATIENCE);
        assert_eq!(bob.reply().status, 101);
        ask_well(&mut bob, json!({"type": "connect", "id": 1, "token": token(json!({"sub": "bob"}))}));
        let answer = ask(&mut bob, json!({"type": "publish", "id": 2, "topic": topic, "data": "hi"}));
        assert_eq!(answer["code"], "unanswered");
        assert_eq!(wait_for(&diary, "unanswered", 1), [format!("bob {topic} \"hi\"")]);
        drop(silent);
        ask_well(&mut bob, json!({"type": "publish", "id": 3, "topic": topic, "data": "again"}));
        assert_eq!(wait_for(&diary, "published", 1), [format!("bob {topic} 2 Json \"again\"")], "the first is there");
        assert_eq!(told(&diary, "unanswered").len(), 1);
    }
}

/// `Subject` shows its variant and the name in its own way.
fn as_debug(text: &str) -> String {
    use corewire::topics::{Pattern, Subject, Topic};
    let (user, rest) = text.split_once(' ').expect("a user");
    let name = rest.split(['(', ')']).nth(1).expect("a name");
    let subject = match Topic::parse(name) {
        Ok(topic) => Subject::Topic(topic),
        Err(_) => Subject::Pattern(Pattern::parse(name).expect("one of both")),
    };
    format!("{user} {subject:?}")
}

#[test]
fn a_stream_is_a_client_too() {
    for variant in VARIANTS {
        let diary = Arc::new(Diary::default());
        let server = stage(variant, diary.clone());
        let mut stream = Client::tcp(server.addr);
        stream.send_raw(b"GET /sse?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(wait_for(&diary, "connected", 1), ["nobody from 127.0.0.1 by sse"]);
        assert_eq!(wait_for(&diary, "subscribed", 1), ["nobody Topic(a)"].map(as_debug));
        drop(stream);
        wait_for(&diary, "disconnected", 1);
        assert_eq!(wait_for(&diary, "vacated", 1), ["a"]);
    }
}

#[test]
fn who_was_never_let_in_is_not_told_of() {
    for variant in VARIANTS {
        let diary = Arc::new(Diary::default());
        let server = stage(variant, diary.clone());
        drop(open_v1(&server));
        let mut refused = open_v1(&server);
        assert_eq!(ask(&mut refused, json!({"type": "connect", "id": 1, "token": "x"}))["code"], "token_invalid");
        assert_eq!(refused.close_frame().0, 4001);
        drop(refused);
        assert_eq!(Client::tcp(server.addr).ask("/ws?topic=members:a", "").status, 401);
        server.wait_until_empty();
        assert_eq!(diary.0.lock().expect("no panic").len(), 0);
    }
}

#[test]
fn a_subscription_that_the_server_ends_is_told() {
    for variant in VARIANTS {
        let diary = Arc::new(Diary::default());
        let server = stage(variant, diary.clone());
        let mut ada = open_v1(&server);
        let may = json!({"sub": "ada", "subscribe": ["members:*"]});
        ask_well(&mut ada, json!({"type": "connect", "id": 1, "token": token(may)}));
        ask_well(&mut ada, json!({"type": "subscribe", "id": 2, "topic": "members:x"}));
        // A newer token that allows less.
        let ended = ask(&mut ada, json!({"type": "connect", "id": 3, "token": token(json!({"sub": "ada"}))}));
        assert_eq!((&ended["type"], &ended["code"]), (&json!("unsubscribe"), &json!("forbidden")), "{ended}");
        assert_eq!(wait_for(&diary, "unsubscribed", 1), ["ada Topic(members:x)"].map(as_debug));
    }
}

/// The whole way, once: clients on two cores, one queue, one webhook; a drained server tells of everybody's end.
#[test]
fn a_webhook_hears_of_everybody_and_of_their_end() {
    const CLIENTS: usize = 40;
    let target = Target::agreeable();
    let options = WebhookOptions {
        endpoint: target.url().parse().expect("a URL"),
        secret: Secret::new(b"a secret of some length").expect("long enough"),
        events: EventKinds::all(),
        batch_events: 50,
        batch_wait: Duration::from_millis(20),
        queue_events: 10_000,
        queue_bytes: 1 << 20,
        timeout: PATIENCE,
        retry_min: Duration::from_millis(2),
        retry_max: Duration::from_millis(20),
    };
    let prepared = Prepared::new(Some(options), None, 7).expect("it needs no authorities");
    let server = stage(VARIANTS[0], prepared.observer().expect("a webhook"));
    let running = prepared.start().expect("a thread");
    let clients: Vec<_> =
        (0..CLIENTS).map(|n| Client::open_at(server.addr, &format!("/ws?topic=all&topic=t:{n}"))).collect();
    // Occupied: each one's own topic and that of all.
    target.wait_for_events(CLIENTS + 2 * CLIENTS + CLIENTS + 1);
    drop(clients);
    server.wait_until_empty();
    // Vacated as often, and disconnected.
    let events = target.wait_for_events(6 * CLIENTS + 2);
    assert_eq!(running.stop(PATIENCE), 0);
    let of_kind = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    let counts = ["connected", "subscribed", "occupied", "vacated", "disconnected"].map(of_kind);
    assert_eq!(counts, [CLIENTS, 2 * CLIENTS, CLIENTS + 1, CLIENTS + 1, CLIENTS]);
    let seqs: Vec<_> = events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "no gap and no repetition");
    // What one core says of one connection is in order.
    let connections: std::collections::BTreeSet<_> =
        events.iter().filter_map(|event| event["connection"].as_str()).collect();
    assert_eq!(connections.len(), CLIENTS);
    for connection in connections {
        let its = events.iter().filter(|event| event["connection"] == connection);
        let its: Vec<_> = its.map(|event| event["event"].as_str().expect("a name")).collect();
        assert_eq!(its, ["connected", "subscribed", "subscribed", "disconnected"]);
    }
}

// ---- the command ---------------------------------------------------------------------------------------------

const SECRET: &str = "a secret of some length";

/// The command with a webhook at this URL, that tries again at once.
fn command(folder: &Folder, url: &str, variable: (&str, &str), more: &[&str]) -> Binary {
    let file = folder.path("secret");
    std::fs::write(&file, format!("{SECRET}\n")).expect("a file");
    let file = file.to_str().expect("UTF-8").to_owned();
    let args = [
        &["--admin", "127.0.0.1:0", "--webhook-url", url, "--webhook-secret-file", &file][..],
        &["--webhook-retry-min", "2ms", "--webhook-retry-max", "20ms"],
        more,
    ];
    Binary::with_variable(VARIANTS[0], variable, &args.concat())
}

#[test]
fn the_command_tells_until_its_end() {
    let target = Target::agreeable();
    let folder = Folder::new();
    let variable = ("COREWIRE_DEMO", "on");
    let mut server = command(&folder, &target.url(), variable, &[]);
    let mut client = Client::open_at(server.addr(), "/ws?topic=a");
    let events = target.wait_for_events(3);
    let mut kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().expect("a name")).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["connected", "occupied", "subscribed"]);
    client.send_text("hi");
    let published = target.wait_for_events(4).pop().expect("four");
    assert_eq!((&published["event"], &published["data"]), (&json!("published"), &json!("hi")));
    until("they are counted", || server.metric("webhook_events_delivered_total", "") == 4);
    assert_eq!(server.metric("webhook_events_total", ""), 4);
    assert_eq!(server.metric("webhook_attempts_total", "outcome=\"failed\""), 0);
    server.signal(rustix::process::Signal::TERM);
    // It answers our end of the conversation, so that the drain need not wait.
    assert_eq!(client.text(), "hi");
    assert_eq!(client.close_frame().0, 1001);
    drop(client);
    assert!(server.wait().success());
    let end: Vec<_> = target.events().into_iter().skip(4).collect();
    assert!(end.iter().any(|event| event["event"] == "disconnected" && event["code"] == 1001), "{end:?}");
    assert!(target.got().iter().all(|got| got.signed_at(SECRET) > 0));
}

#[test]
fn the_command_says_what_it_could_not_tell() {
    let target = Target::agreeable();
    let url = target.url();
    drop(target);
    let folder = Folder::new();
    let more =
        ["--webhook-drain-time", "50ms", "--webhook-events", "connected,occupied", "--webhook-queue-events", "3"];
    let mut server = command(&folder, &url, ("COREWIRE_LOG", "text"), &more);
    let clients: Vec<_> = (0..5).map(|n| Client::open_at(server.addr(), &format!("/ws?topic=t:{n}"))).collect();
    until("it has tried", || server.metric("webhook_attempts_total", "outcome=\"failed\"") >= 2);
    until("all have happened", || {
        server.metric("webhook_events_total", "") + server.metric("webhook_events_lost_total", "") == 10
    });
    assert_eq!(server.metric("webhook_waiting_events", ""), 3);
    drop(clients);
    until("they are gone", || server.metric("connections", "state=\"open\"") == 0);
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success(), "it is no failure of the server");
    server.wait_for_log("events were not delivered to the webhook before the end lost=3");
    server.wait_for_log("events could not be delivered to the webhook");
}

#[test]
fn an_authority_of_ones_own_is_enough_for_https() {
    let folder = Folder::new();
    let pki = common::pki::Pki::new();
    let authorities = folder.path("ca.pem");
    std::fs::write(&authorities, &pki.ca).expect("a file");
    let target = Target::start_at(([127, 0, 0, 1], 0).into(), Some(pki.https()), |_| Say::ok(""));
    let url = format!("https://localhost:{}/hook", target.addr.port());
    let variable = ("SSL_CERT_FILE", authorities.to_str().expect("UTF-8"));
    let server = command(&folder, &url, variable, &[]);
    let _client = Client::open_at(server.addr(), "/ws?topic=a");
    target.wait_for_events(3);
    drop(server);
    // Without it, nothing is sent to whom nobody vouches for.
    let others = folder.path("others.pem");
    std::fs::write(&others, &common::pki::Pki::new().ca).expect("a file");
    let count = target.count();
    let server = command(&folder, &url, ("SSL_CERT_FILE", others.to_str().expect("UTF-8")), &[]);
    let _client = Client::open_at(server.addr(), "/ws?topic=a");
    until("it has tried", || server.metric("webhook_attempts_total", "outcome=\"failed\"") >= 2);
    assert_eq!(target.count(), count);
    assert!(server.log().contains("certificate"), "{}", server.log());
}
