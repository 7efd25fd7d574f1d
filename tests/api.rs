//! The HTTP API of `corewire serve` as back ends meet it, with clients on two cores.

#![cfg(feature = "cli")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::SystemTime;

use common::binary::Binary;
use common::commands::{at_home_on, hold};
use common::tokens::{SECRET, token};
use common::{Client, Folder, PATIENCE, TestServer, VARIANTS, Variant, serve, until};
use corewire::builtin::Serve;
use corewire::control::{
    self, ApiOptions, ApiSettings, BuildInfo, ControlHandle, ControlOptions, ControlSource, CoreMetrics,
};
use rustix::process::Signal;
use serde_json::{Value, json};

const KEY: &str = "a-key-for-the-tests-of-the-api";

const CONFIG: &str = r#"
token-secret = "SECRET_FILE"
api-key-file = "KEY_FILE"
max-message-bytes = "8k"

[namespace.here]
presence = true
subscribe = "token"

[namespace.small]
message_bytes_max = 10
"#;

/// A server in a process of its own, and the way to its API.
struct Stage {
    binary: Binary,
    api: Api,
    files: Folder,
}

/// A back end.
struct Api {
    addr: SocketAddr,
    key: Option<&'static str>,
}

impl Stage {
    fn open(variant: Variant) -> Self {
        let files = Folder::new();
        std::fs::write(files.path("secret"), SECRET).expect("a file");
        std::fs::write(files.path("keys"), format!("# the shop\n{KEY}\n\nanother-key-for-a-change\n")).expect("a file");
        let config = CONFIG
            .replace("SECRET_FILE", files.path("secret").to_str().expect("UTF-8"))
            .replace("KEY_FILE", files.path("keys").to_str().expect("UTF-8"));
        std::fs::write(files.path("c.toml"), config).expect("a file");
        let config = files.path("c.toml");
        let config = config.to_str().expect("UTF-8");
        let args = ["serve", "--admin", "127.0.0.1:0", "--cores", "0-1", "--config", config];
        let binary = Binary::on_any_port(variant, &args);
        let api = Api { addr: admin_addr(&binary), key: Some(KEY) };
        Self { binary, api, files }
    }

    fn raw(&self, path: &str) -> Client {
        Client::open_at(self.binary.addr(), path)
    }

    /// A client of `corewire.v1`, and what its connection is called.
    fn v1(&self, claims: Option<Value>) -> (Client, String) {
        let mut client = Client::tcp(self.binary.addr());
        assert_eq!(client.ask("/ws", "Sec-WebSocket-Protocol: corewire.v1\r\n").status, 101);
        let mut connect = json!({ "type": "connect", "id": 1 });
        if let Some(claims) = claims {
            connect["token"] = token(claims).into();
        }
        let ack = ask(&mut client, &connect);
        (client, ack["connection"].as_str().unwrap_or_else(|| panic!("{ack}")).to_owned())
    }

    /// Subscribers of a topic, some on each core: the kernel chooses where each goes.
    fn on_both_cores(&self, topic: &str) -> Vec<Client> {
        let mut clients = Vec::new();
        until("both cores have one", || {
            clients.push(self.raw(&format!("/ws?topic={topic}")));
            let (_, told) = self.api.get("/connections?limit=1000");
            ["0-", "1-"].iter().all(|core| connections(&told).any(|id| id.starts_with(core)))
        });
        self.wait_for_subscribers(topic, clients.len());
        clients
    }

    fn wait_for_subscribers(&self, topic: &str, count: usize) {
        let path = format!("/topics/{topic}");
        until("all have subscribed", || self.api.get(&path).1["subscribers"] == json!(count));
    }

    /// The server does what it did before, and ends as it should.
    fn end(mut self) {
        let mut client = self.raw("/ws?topic=after");
        self.wait_for_subscribers("after", 1);
        assert_eq!(self.api.publish("after", &json!("all is well")).0, 200);
        assert_eq!(client.text(), "all is well");
        drop(client);
        self.binary.signal(Signal::TERM);
        assert_eq!(self.binary.wait().code(), Some(0));
        assert!(!self.binary.log().contains("panicked"), "{}", self.binary.log());
    }
}

impl Api {
    fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "", b"")
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", path, "Content-Type: application/json\r\n", body.to_string().as_bytes())
    }

    fn publish(&self, topic: &str, data: &Value) -> (u16, Value) {
        self.post("/publish", &json!({ "topic": topic, "data": data }))
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, Value) {
        let key = self.key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{key}{headers}\r\n",
            self.addr,
            body.len()
        );
        let mut stream = TcpStream::connect(self.addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.write_all(head.as_bytes()).expect("it reads");
        stream.write_all(body).expect("it reads the body, also of a request that it refuses");
        answer(&mut stream)
    }
}

/// A whole answer, to the end of the connection.
#[track_caller]
fn answer(stream: &mut TcpStream) -> (u16, Value) {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{text:?}"));
    let (_, body) = text.split_once("\r\n\r\n").expect("a head");
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text:?}")))
}

fn admin_addr(binary: &Binary) -> SocketAddr {
    binary.wait_for_log("admin on http://");
    let log = binary.log();
    let addr = log.split("admin on http://").nth(1).and_then(|rest| rest.lines().next()).expect("an address");
    addr.trim().parse().expect("an address")
}

#[track_caller]
fn hear(client: &mut Client) -> Value {
    serde_json::from_str(&client.text()).expect("JSON")
}

#[track_caller]
fn ask(client: &mut Client, message: &Value) -> Value {
    client.send_text(&message.to_string());
    hear(client)
}

fn subscribe(client: &mut Client, topic: &str) -> Value {
    ask(client, &json!({ "type": "subscribe", "id": 2, "topic": topic }))
}

fn connections(told: &Value) -> impl Iterator<Item = &str> {
    let all = told["connections"].as_array().unwrap_or_else(|| panic!("{told}"));
    all.iter().map(|one| one["connection"].as_str().expect("each has a name"))
}

#[test]
fn a_publication_reaches_subscribers_on_both_cores_and_is_counted() {
    for variant in VARIANTS {
        let stage = Stage::open(variant);
        let mut clients = stage.on_both_cores("news");
        let count = clients.len();
        let body = json!({ "topic": "news", "data": { "text": "hello" }, "key": "k", "wait": true });
        let (status, told) = stage.api.post("/publish", &body);
        assert_eq!(status, 200);
        let want = json!({
            "epoch": told["epoch"], "offset": 1, "subscribers": count, "delivered": count, "conflated": 0, "dropped": 0,
            "silent_cores": [],
        });
        assert_eq!(told, want);
        for client in &mut clients {
            assert_eq!(client.text(), r#"{"text":"hello"}"#);
        }
        // Nobody hears it, and nothing is made up.
        let (_, told) = stage.api.post("/publish", &json!({ "topic": "unheard", "data": 1, "wait": true }));
        assert_eq!((&told["subscribers"], &told["delivered"]), (&json!(0), &json!(0)));
        let (_, told) = stage.api.get("/topics/news");
        assert_eq!(
            (&told["offset"], &told["subscribers"], &told["history_messages"]),
            (&json!(1), &json!(count), &json!(1))
        );
        drop(clients);
        stage.end();
    }
}

#[test]
fn the_same_idempotency_key_publishes_once() {
    for variant in VARIANTS {
        let stage = Stage::open(variant);
        let mut client = stage.raw("/ws?topic=orders&topic=bills");
        stage.wait_for_subscribers("orders", 1);
        stage.wait_for_subscribers("bills", 1);
        let body = json!({ "topic": "orders", "data": "one", "idempotency_key": "o-1", "wait": true });
        let (_, first) = stage.api.post("/publish", &body);
        assert_eq!((&first["offset"], &first["delivered"], first.get("repeated")), (&json!(1), &json!(1), None));
        let (status, again) = stage.api.post("/publish", &body);
        assert_eq!(status, 200);
        assert_eq!(again, json!({ "epoch": first["epoch"], "offset": 1, "repeated": true }));
        // By topic: a broadcast with one key is published once in each.
        let all = json!({ "topics": ["orders", "bills"], "data": "two", "idempotency_key": "o-1" });
        let (_, told) = stage.api.post("/broadcast", &all);
        assert_eq!((&told["results"][0]["repeated"], &told["results"][1]["offset"]), (&json!(true), &json!(1)));
        assert_eq!(stage.api.publish("orders", &json!("three")).1["offset"], json!(2));
        let mut heard = [client.text(), client.text(), client.text()];
        // Two topics, so the last two have no order between them.
        heard[1..].sort();
        assert_eq!(heard, ["one", "three", "two"]);
        drop(client);
        stage.end();
    }
}

#[test]
fn a_bad_publication_in_a_batch_harms_no_other() {
    for variant in VARIANTS {
        let stage = Stage::open(variant);
        let mut client = stage.raw("/ws?topic=a");
        stage.wait_for_subscribers("a", 1);
        let bad = [
            (json!({ "topic": "a::b", "data": 1 }), "bad_topic"),
            (json!({ "topic": "a" }), "bad_field"),
            (json!({ "topic": "small:x", "data": "0123456789" }), "data_too_big"),
            (json!([1]), "bad_json"),
            (json!({ "topic": "a", "data": 1, "idempotency_key": "x".repeat(129) }), "bad_field"),
        ];
        let mut publications = Vec::new();
        for (index, (bad, _)) in bad.iter().enumerate() {
            publications.extend([json!({ "topic": "a", "data": index, "wait": true }), bad.clone()]);
        }
        let (status, told) = stage.api.post("/batch", &json!({ "publications": publications }));
        assert_eq!(status, 200);
        let results = told["results"].as_array().expect("results");
        assert_eq!(results.len(), publications.len());
        for (index, (_, code)) in bad.iter().enumerate() {
            assert_eq!(
                (&results[2 * index]["offset"], &results[2 * index]["delivered"]),
                (&json!(index + 1), &json!(1))
            );
            assert_eq!(results[2 * index + 1]["error"]["code"], json!(code));
            assert_eq!(client.text(), index.to_string());
        }
        // More than are asked for at a time, in their order.
        let many: Vec<_> = (0..200).map(|n| json!({ "topic": "a", "data": n })).collect();
        let (_, told) = stage.api.post("/batch", &json!({ "publications": many }));
        let offsets: Vec<_> =
            told["results"].as_array().expect("results").iter().map(|one| one["offset"].as_u64()).collect();
        assert!(offsets.iter().copied().eq((6..206).map(Some)), "{offsets:?}");
        for n in 0..200 {
            assert_eq!(client.text(), n.to_string());
        }
        drop(client);
        stage.end();
    }
}

#[test]
fn history_and_presence_can_be_read() {
    for variant in VARIANTS {
        let stage = Stage::open(variant);
        for n in 1..=5 {
            assert_eq!(stage.api.publish("log:a/b c", &json!({ "n": n })).1["offset"], json!(n));
        }
        let path = "/topics/log:a%2Fb%20c/history";
        let (status, told) = stage.api.get(path);
        assert_eq!((status, told["publications"].as_array().map(Vec::len), &told["offset"]), (200, Some(5), &json!(5)));
        let since = format!("{path}?since={}-3", told["epoch"].as_str().expect("an epoch"));
        let (_, told) = stage.api.get(&since);
        let want = json!([{ "offset": 4, "data": { "n": 4 } }, { "offset": 5, "data": { "n": 5 } }]);
        assert_eq!((&told["publications"], &told["recovered"]), (&want, &json!(true)));
        let (_, told) = stage.api.get(&format!("{since}&limit=1"));
        assert_eq!((&told["publications"], &told["recovered"]), (&json!([want[1]]), &json!(false)));

        assert_eq!(stage.api.get("/topics/log/presence").1["error"]["code"], json!("presence_disabled"));
        let claims = |user| json!({ "sub": user, "subscribe": ["here:**"], "info": { "name": user } });
        let (mut ada, _) = stage.v1(Some(claims("ada")));
        let (mut ada_again, _) = stage.v1(Some(claims("ada")));
        let (mut bob, _) = stage.v1(Some(claims("bob")));
        for client in [&mut ada, &mut ada_again, &mut bob] {
            assert_eq!(subscribe(client, "here:room")["type"], json!("ack"));
        }
        let members = || stage.api.get("/topics/here:room/presence").1["members"].clone();
        let of = |user, connections| json!({ "user": user, "info": { "name": user }, "connections": connections });
        let both = json!([of("ada", 2), of("bob", 1)]);
        until("both are there", || members() == both);
        bob.close();
        until("one has left", || members() == json!([both[0]]));
        let (_, told) = stage.api.get("/topics/here:room");
        assert_eq!((&told["members"], &told["connections"]), (&json!(1), &json!(2)));
        ada.send_text(&json!({ "type": "presence", "id": 9, "topic": "here:room" }).to_string());
        let list = std::iter::repeat_with(|| hear(&mut ada)).find(|message| message["id"] == json!(9));
        assert_eq!(list.expect("an answer")["members"], json!([of("ada", 2)]));
        drop(ada_again);
        until("one connection has gone", || members() == json!([of("ada", 1)]));
        drop(ada);
        stage.end();
    }
}

#[test]
fn connections_are_listed_and_commanded() {
    for variant in VARIANTS {
        let stage = Stage::open(variant);
        let claims = |user| json!({ "sub": user, "subscribe": ["here:**"] });
        let (mut ada, ada_id) = stage.v1(Some(claims("ada")));
        let (mut bob, bob_id) = stage.v1(Some(claims("bob")));
        let (mut nobody, nobody_id) = stage.v1(None);
        let others = stage.on_both_cores("news");

        // One at a time or all at once, each once.
        let (_, all) = stage.api.get("/connections");
        let all: Vec<_> = connections(&all).map(str::to_owned).collect();
        assert_eq!(all.len(), 3 + others.len());
        let (mut paged, mut after) = (Vec::new(), String::new());
        loop {
            let (_, told) = stage.api.get(&format!("/connections?limit=1{after}"));
            paged.extend(connections(&told).map(str::to_owned));
            let Some(next) = told["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(paged, all);
        assert_eq!(subscribe(&mut ada, "here:a")["type"], json!("ack"));
        let (_, told) = stage.api.get("/connections?user=ada");
        let one = &told["connections"][0];
        let since = one["since"].as_u64().expect("it is known");
        assert!(since.abs_diff(common::tokens::now()) < 120, "{since}");
        let want = json!([{
            "connection": ada_id, "wire": "corewire.v1", "user": "ada", "address": "127.0.0.1", "subscriptions": 1,
            "since": since,
        }]);
        assert_eq!(told["connections"], want);
        let (_, told) = stage.api.get("/connections?limit=1000");
        let raw =
            told["connections"].as_array().expect("all").iter().find(|one| one["wire"] == "raw").expect("one of news");
        assert_eq!((&raw["subscriptions"], raw.get("user"), raw.get("since")), (&json!(1), None, None));

        // Subscriptions.
        assert_eq!(subscribe(&mut bob, "here:a")["type"], json!("ack"));
        let done = |count| json!({ "connections": count, "silent_cores": [] });
        let (_, told) = stage.api.post("/unsubscribe", &json!({ "user": "ada", "topic": "here:a" }));
        assert_eq!(told, done(1));
        let want = json!({
            "type": "unsubscribe", "topic": "here:a", "code": "forbidden", "reason": "unsubscribed by the back end",
        });
        assert_eq!(hear(&mut ada), want);
        assert_eq!(stage.api.post("/unsubscribe", &json!({ "user": "ada", "topic": "here:a" })).1, done(0));
        assert_eq!(stage.api.publish("here:a", &json!(1)).0, 200);
        assert_eq!(hear(&mut bob)["data"], json!(1));
        assert_eq!(subscribe(&mut ada, "here:b")["type"], json!("ack"), "nothing came in between");
        let raw_id = raw["connection"].as_str().expect("a name");
        assert_eq!(stage.api.post("/unsubscribe", &json!({ "connection": raw_id, "topic": "news" })).1, done(1));
        until("the raw one is closed, as it could hear nothing any more", || {
            connections(&stage.api.get("/connections?limit=1000").1).all(|id| id != raw_id)
        });

        // Until when they may stay.
        let refresh =
            |who: &str, expires_in: u64| stage.api.post("/refresh", &json!({ "user": who, "expires_in": expires_in }));
        assert_eq!(refresh("bob", 3600).1, done(1));
        assert_eq!(refresh("bob", 0).1, done(1));
        assert_eq!(bob.close_frame(), (4002, "token expired".into()));
        let (status, told) = stage.api.post("/refresh", &json!({ "connection": nobody_id, "expires_in": 0 }));
        assert_eq!((status, told), (200, done(0)), "it has no token that could expire");
        until("bob is gone", || stage.api.get("/connections?user=bob").1["connections"] == json!([]));
        let (status, told) = stage.api.post("/refresh", &json!({ "connection": bob_id, "expires_in": 0 }));
        assert_eq!((status, &told["error"]["code"]), (404, &json!("unknown_connection")));

        // Away with them.
        assert_eq!(stage.api.post("/disconnect", &json!({ "user": "ada" })).1, done(1));
        assert_eq!(ada.close_frame(), (4003, "disconnected by the back end".into()));
        let body = json!({ "connection": nobody_id, "code": 4999, "reason": "the shop closes" });
        assert_eq!(stage.api.post("/disconnect", &body).1, done(1));
        assert_eq!(nobody.close_frame(), (4999, "the shop closes".into()));
        assert_eq!(stage.api.post("/disconnect", &json!({ "user": "nobody" })).1, done(0));
        drop((ada, bob, nobody, others));
        stage.end();
    }
}

#[test]
fn bad_requests_get_a_sentence_and_harm_nobody() {
    for variant in VARIANTS {
        let stage = Stage::open(variant);
        let mut client = stage.raw("/ws?topic=a");
        stage.wait_for_subscribers("a", 1);
        let json_type = "Content-Type: application/json\r\n";
        let post = |headers: &str, body: &[u8]| {
            let (status, told) = stage.api.ask("POST", "/publish", headers, body);
            let code = told["error"]["code"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
            assert!(told["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{told}");
            (status, code)
        };
        let told = |status: u16, code: &str| (status, code.to_owned());
        let keyless = Api { key: None, ..stage.api };
        let wrong = Api { key: Some("a-key-for-the-tests-of-the-apI"), ..stage.api };
        let other = Api { key: Some("another-key-for-a-change"), ..stage.api };
        assert_eq!(keyless.publish("a", &json!(1)).1["error"]["code"], json!("key_required"));
        assert_eq!(wrong.publish("a", &json!(1)).0, 401);
        assert_eq!(wrong.ask("POST", "/publish", json_type, &vec![b' '; 3 << 20]).0, 401);
        assert_eq!(keyless.get("/openapi.json").1["openapi"], json!("3.1.0"));
        assert_eq!(other.publish("a", &json!("by the other key")).0, 200);

        assert_eq!(post(json_type, &vec![b' '; 8193]), told(413, "body_too_big"));
        assert_eq!(post(json_type, &vec![b'['; 3 << 20]), told(413, "body_too_big"));
        assert_eq!(post(json_type, &[b'['; 8000]), told(400, "bad_json"));
        assert_eq!(post(json_type, &br#"{"topic":"#.repeat(800)), told(400, "bad_json"));
        assert_eq!(
            post(json_type, format!(r#"{{"topic":"a","data":{}}}"#, "9".repeat(65)).as_bytes()),
            told(400, "bad_json")
        );
        assert_eq!(post(json_type, b"\xff\xff"), told(400, "bad_json"));
        assert_eq!(post(json_type, b""), told(400, "bad_json"));
        assert_eq!(post("", br#"{"topic":"a","data":1}"#), told(415, "unsupported_media_type"));
        assert_eq!(post(json_type, br#"{"topic":"small","data":"0123456789"}"#), told(413, "data_too_big"));
        assert_eq!(stage.api.get("/publish").0, 405);
        assert_eq!(stage.api.get("/nothing").1["error"]["code"], json!("not_found"));

        // Chunks that never end, and one that lies about its length.
        let mut stream = TcpStream::connect(stage.api.addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let head = format!(
            "POST /api/v1/publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {KEY}\r\n{json_type}\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        for _ in 0..9 {
            stream.write_all(format!("400\r\n{}\r\n", " ".repeat(0x400)).as_bytes()).expect("it reads");
        }
        stream.write_all(b"0\r\n\r\n").expect("it reads");
        assert_eq!(answer(&mut stream).1["error"]["code"], json!("body_too_big"));
        let mut stream = TcpStream::connect(stage.api.addr).expect("it listens");
        let head = head.replace("Transfer-Encoding: chunked", "Content-Length: 100");
        stream.write_all(format!("{head}{{").as_bytes()).expect("it reads");
        drop(stream);

        assert_eq!(client.text(), "by the other key");
        assert_eq!(stage.api.publish("a", &json!("still here")).0, 200);
        assert_eq!(client.text(), "still here");
        assert!(!stage.binary.log().contains("a-key-for-the-tests"), "keys are not logged");
        drop(client);
        stage.end();
    }
}

#[test]
fn without_a_key_the_api_answers_this_machine_only_and_says_so() {
    let mut binary = Binary::on_any_port(VARIANTS[0], &["serve", "--admin", "127.0.0.1:0", "--cores", "0-1"]);
    let api = Api { addr: admin_addr(&binary), key: None };
    binary.wait_for_log("the HTTP API has no key: it answers this machine only");
    assert_eq!(api.publish("a", &json!(1)).0, 200);
    // As a page would ask whose name was made to mean 127.0.0.1.
    let mut stream = TcpStream::connect(api.addr).expect("it listens");
    stream
        .write_all(b"GET /api/v1/connections HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let (status, told) = answer(&mut stream);
    assert_eq!((status, &told["error"]["code"]), (401, &json!("key_required")));
    binary.signal(Signal::TERM);
    assert_eq!(binary.wait().code(), Some(0));

    for (args, says) in [
        (&["--api-key", "short"][..], "--api-key: the API key: an API key needs at least 16 bytes, this has 5"),
        (&["--api-key-file", "/nonexistent"], "--api-key-file: cannot read /nonexistent"),
    ] {
        let mut binary = Binary::spawn(VARIANTS[0], None, args);
        assert_eq!(binary.wait().code(), Some(2));
        binary.wait_for_log(says);
        assert!(!binary.log().contains("`short`"), "the key itself is not told: {}", binary.log());
    }
    let mut binary = Binary::on_any_port(VARIANTS[0], &["echo", "--admin", "127.0.0.1:0"]);
    let mut client = Client::tcp(admin_addr(&binary));
    client.send_raw(b"GET /api/v1/connections HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.reply().status, 404);
    drop(client);
    binary.signal(Signal::TERM);
    assert_eq!(binary.wait().code(), Some(0));
}

/// What the admin listener may know of a server in this process.
struct Source(Vec<CoreMetrics>);

impl ControlSource for Source {
    fn shards(&self) -> &[CoreMetrics] {
        &self.0
    }

    fn is_draining(&self) -> bool {
        false
    }

    fn started_at(&self) -> SystemTime {
        SystemTime::now()
    }

    fn build_info(&self) -> BuildInfo {
        BuildInfo { version: "0" }
    }
}

fn in_this_process(variant: Variant) -> (TestServer, ControlHandle, Api) {
    let (answers, inbox) = control::answers();
    let server = serve(variant, |builder| builder.cores(vec![0, 1]).outside(Arc::new(answers)), |_| Serve::new(false));
    let options = ApiOptions {
        handle: server.handle.clone(),
        answers: inbox,
        settings: ApiSettings::new(None, Arc::default()),
        reload: Arc::new(|| Ok(Vec::new())),
        body_bytes_max: 1 << 20,
    };
    let addr = "127.0.0.1:0".parse().expect("an address");
    let control = control::start(ControlOptions { addr, api: Some(options) }, Arc::new(Source(Vec::new())));
    let control = control.expect("it listens");
    let api = Api { addr: control.local_addr(), key: None };
    (server, control, api)
}

#[test]
fn a_reload_changes_keys_and_namespaces_or_nothing() {
    for variant in VARIANTS {
        let mut stage = Stage::open(variant);
        let (status, told) = stage.api.post("/reload", &json!({}));
        assert!(status == 200 && told["notes"].is_array(), "{told}");
        assert_eq!(stage.api.publish("small:a", &json!("0123456789")).0, 413);

        let path = stage.files.path("c.toml");
        let good = std::fs::read_to_string(&path).expect("a file");
        std::fs::write(&path, good.replace("message_bytes_max = 10", "message_bytes_max = 9x")).expect("a file");
        let (status, told) = stage.api.post("/reload", &json!({}));
        assert_eq!((status, &told["error"]["code"]), (422, &json!("bad_configuration")));
        let says = told["error"]["message"].as_str().expect("a sentence");
        assert!(says.contains("c.toml, line 11"), "{says}");
        assert_eq!(stage.api.publish("small:a", &json!("0123456789")).0, 413, "the old one stays");

        let other = good.replace("message_bytes_max = 10", "message_bytes_max = 100").replace("8k", "16k");
        std::fs::write(&path, other).expect("a file");
        std::fs::write(stage.files.path("keys"), "another-key-for-a-change\n").expect("a file");
        let (status, told) = stage.api.post("/reload", &json!({}));
        let note = json!("--max-message-bytes has changed: it takes effect at the next start");
        assert!(status == 200 && told["notes"].as_array().is_some_and(|notes| notes.contains(&note)), "{told}");
        assert_eq!(stage.api.get("/connections").0, 401, "this key is gone");
        stage.api.key = Some("another-key-for-a-change");
        // A core takes note between two of its turns.
        until("the namespace is the new one", || stage.api.publish("small:a", &json!("0123456789")).0 == 200);
    }
}

#[test]
fn a_core_that_does_not_answer_in_time_is_named() {
    for variant in VARIANTS {
        let (server, control, api) = in_this_process(variant);
        let topic = at_home_on(0, "t");
        let mut clients = Vec::new();
        until("both cores have one", || {
            clients.push(Client::open_at(server.addr, &format!("/ws?topic={topic}")));
            let (_, told) = api.get("/connections?limit=1000");
            ["0-", "1-"].iter().all(|core| connections(&told).any(|id| id.starts_with(core)))
        });
        let path = format!("/topics/{topic}");
        until("all have subscribed", || api.get(&path).1["subscribers"] == json!(clients.len()));

        // Core 1 does nothing until `busy` is dropped.
        let busy = hold(&server.handle, 1);

        let (status, told) = api.post("/publish", &json!({ "topic": topic, "data": "x", "wait": true }));
        let here = told["subscribers"].as_u64().expect("a number");
        assert_eq!((status, &told["silent_cores"], &told["delivered"]), (200, &json!([1]), &json!(here)));
        assert!(here > 0 && here < clients.len() as u64, "{told}");
        assert_eq!(api.get(&path).1["silent_cores"], json!([1]));
        // Whoever does not wait is answered at once: the topic's core has accepted it.
        assert_eq!(api.publish(&topic, &json!("y")).1, json!({ "epoch": told["epoch"], "offset": 2 }));
        drop(busy);
        for client in &mut clients {
            assert_eq!((client.text(), client.text()), ("x".to_owned(), "y".to_owned()));
        }
        let (_, told) = api.post("/publish", &json!({ "topic": topic, "data": "z", "wait": true }));
        assert_eq!((&told["delivered"], &told["silent_cores"]), (&json!(clients.len()), &json!([])));
        control.stop();
        server.stop().expect("no core broke");
    }
}
