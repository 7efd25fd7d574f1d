//! The API and its document, held to each other over real cores.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, mpsc};
use std::task::{Context, Poll};
use std::thread;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use super::*;
use crate::builtin::{Act, Command, Serve, Who};
use crate::server::{Running, Server};
use crate::topics::{DataKind, Draft, Namespace, Topic, home_of};

const KEY: &str = "0123456789abcdef";
/// A core's answer never takes so long, unless it is kept from it.
const WAIT: Duration = Duration::from_millis(400);
const BODY_BYTES_MAX: usize = 4096;

/// A running server, its API and the document, and what of the document was seen.
struct Desk {
    running: Running,
    router: TowerToHyperService<Router>,
    runtime: tokio::runtime::Runtime,
    document: Value,
    seen: BTreeSet<(String, String, String)>,
    /// What the next reload will answer.
    next_reload: Arc<Mutex<Result<Vec<String>, String>>>,
    settings: ApiSettings,
}

impl Desk {
    fn open() -> Self {
        let named = |name: &str| Namespace { name: name.into(), ..Namespace::default() };
        let namespaces = Namespaces::new(
            Namespace::default(),
            [Namespace { presence: true, ..named("here") }, Namespace { message_bytes_max: 10, ..named("small") }],
        )
        .expect("they are good");
        let (answers, inbox) = answers();
        let running = Server::builder()
            .listen("127.0.0.1:0".parse().expect("an address"))
            .cores(vec![0, 1])
            .namespaces(namespaces.clone())
            .outside(Arc::new(answers))
            .start(|_| Serve::new(false))
            .expect("it starts");
        let next = Arc::new(Mutex::new(Ok(Vec::new())));
        let outcome = next.clone();
        let reloads: Reload = Arc::new(move || outcome.lock().expect("no panic").clone());
        let settings = ApiSettings::new(Some(ApiKeys::one(KEY).expect("long enough")), Arc::new(namespaces));
        let options = ApiOptions {
            handle: running.handle(),
            answers: inbox,
            settings: settings.clone(),
            reload: reloads,
            body_bytes_max: BODY_BYTES_MAX,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let router = {
            let _inside = runtime.enter();
            Router::new().nest("/api/v1", routes(Api::start_with(options, WAIT, WAIT)))
        };
        let document = serde_json::from_str(DOCUMENT).expect("the document is JSON");
        Self {
            running,
            router: TowerToHyperService::new(router),
            runtime,
            document,
            seen: BTreeSet::new(),
            next_reload: next,
            settings,
        }
    }

    /// Sends a request, holds the answer to the document, and gives it back.
    fn ask(&mut self, request: Request<Body>) -> (StatusCode, Value) {
        let (method, path) = (request.method().as_str().to_lowercase(), request.uri().path().to_owned());
        let mut request = request;
        request.extensions_mut().insert(PeerAddr(([127, 0, 0, 1], 1).into()));
        let (status, headers, body) = self.runtime.block_on(async {
            let response = self.router.call(request).await.unwrap_or_else(|error: Infallible| match error {});
            let (head, body) = response.into_parts();
            (head.status, head.headers, body.collect().await.expect("all of it").to_bytes())
        });
        assert_eq!(headers["content-type"], "application/json", "{method} {path}");
        let value: Value = serde_json::from_slice(&body).expect("JSON");
        let template = self.template(path.strip_prefix("/api/v1").expect("below the API"));
        if let Some(template) = template
            && let Some(operation) = self.document["paths"][&template].get(&method)
        {
            let response = self.resolved(&operation["responses"][status.as_str()]);
            assert!(response.is_object(), "{method} {path}: {status} is not in the document: {value}");
            self.check(&response["content"]["application/json"]["schema"], &value);
            self.seen.insert((template, method, status.as_str().to_owned()));
        } else {
            self.check(&json!({ "$ref": "#/components/schemas/Error" }), &value);
        }
        (status, value)
    }

    fn get(&mut self, path: &str) -> (StatusCode, Value) {
        self.ask(request("GET", path).body(Body::empty()).expect("a request"))
    }

    /// The body is held to the document too: what is answered with 400 for its form must not fit, all else must.
    fn post(&mut self, path: &str, body: &Value) -> (StatusCode, Value) {
        let fits = self.fits_request(path, body);
        let (status, value) = self.post_text(path, &body.to_string());
        let is_bad_form = status == StatusCode::BAD_REQUEST && value["error"]["code"] == "bad_field";
        assert_eq!(fits, !is_bad_form, "{path} {body}: {value}");
        (status, value)
    }

    fn post_text(&mut self, path: &str, body: &str) -> (StatusCode, Value) {
        let request = request("POST", path).header("content-type", "application/json; charset=utf-8");
        self.ask(request.body(Body::from(body.to_owned())).expect("a request"))
    }

    fn fits_request(&self, path: &str, body: &Value) -> bool {
        let schema = &self.document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{path} is in the document");
        self.validator(schema).is_valid(body)
    }

    fn check(&self, schema: &Value, value: &Value) {
        assert!(schema.is_object(), "no schema for {value}");
        let complaints: Vec<_> = self
            .validator(schema)
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(complaints.is_empty(), "{value}: {complaints:#?}");
    }

    /// Schemas point to each other within the document, so it becomes part of each.
    fn validator(&self, schema: &Value) -> jsonschema::Validator {
        let mut schema = schema.clone();
        schema["components"] = self.document["components"].clone();
        jsonschema::draft202012::new(&schema).expect("a good schema")
    }

    /// The path of the document that this one is an example of.
    fn template(&self, path: &str) -> Option<String> {
        let mut templates = self.document["paths"].as_object().expect("paths").keys();
        let fits = |template: &&String| {
            let (wanted, given) = (template.split('/'), path.split('/'));
            wanted.clone().count() == given.clone().count()
                && wanted.zip(given).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
        };
        templates.find(fits).cloned()
    }

    fn resolved(&self, value: &Value) -> Value {
        match value["$ref"].as_str() {
            Some(place) => self.document.pointer(place.trim_start_matches('#')).expect(place).clone(),
            None => value.clone(),
        }
    }

    /// All that the document says may be answered.
    fn documented(&self) -> BTreeSet<(String, String, String)> {
        let mut all = BTreeSet::new();
        for (path, item) in self.document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("an item").iter().filter(|(key, _)| *key != "parameters")
            {
                for status in operation["responses"].as_object().expect("responses").keys() {
                    all.insert((path.clone(), method.clone(), status.clone()));
                }
            }
        }
        all
    }

    /// Keeps a core from everything until the answer is dropped.
    fn keep_busy(&self, core: usize) -> mpsc::Sender<()> {
        let (entered, is_in) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let held = Mutex::new(released);
        let answer = move |_| {
            entered.send(()).expect("somebody waits for it");
            // Ends with an error, when the other end is dropped.
            let _ = held.lock().expect("only once").recv();
        };
        let command = Command { who: Who::All, act: Act::List { most: 1 }, from: 0, answer: Box::new(answer) };
        self.running.handle().cast(core, Arc::new(command)).expect("there is room");
        is_in.recv_timeout(Duration::from_secs(30)).expect("the core comes to it");
        release
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(format!("/api/v1{path}")).header("x-api-key", KEY)
}

/// A body of which nothing more comes.
struct Endless;

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

/// A topic whose home is this core of two.
fn topic_at(core: usize) -> Topic {
    let topics = (0..).map(|n| Topic::parse(&format!("t{n}")).expect("a good name"));
    topics.into_iter().find(|topic| home_of(topic, 2) == core).expect("hashes differ")
}

const POSTS: &[(&str, &str)] = &[
    ("/publish", r#"{"topic":"a","data":1}"#),
    ("/batch", r#"{"publications":[{"topic":"a","data":1}]}"#),
    ("/broadcast", r#"{"topics":["a"],"data":1}"#),
    ("/disconnect", r#"{"user":"nobody"}"#),
    ("/unsubscribe", r#"{"user":"nobody","topic":"a"}"#),
    ("/refresh", r#"{"user":"nobody","expires_in":60}"#),
];
const GETS: &[&str] = &["/topics/a", "/topics/here:a/presence", "/topics/a/history", "/connections"];

#[test]
fn every_documented_answer_is_given_and_none_else() {
    let mut desk = Desk::open();
    assert_eq!(desk.get("/openapi.json").0, 200);

    // What every operation has in common.
    for &(path, body) in POSTS {
        assert_eq!(desk.post_text(path, body).0, 200, "{path}");
        let keyless = Request::builder().method("POST").uri(format!("/api/v1{path}"));
        let (status, told) = desk.ask(keyless.body(Body::from(body)).expect("a request"));
        assert_eq!((status.as_u16(), &told["error"]["code"]), (401, &json!("key_required")), "{path}");
        let form = request("POST", path).header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(desk.ask(form.body(Body::from(body)).expect("a request")).0, 415, "{path}");
        let too_big = format!("{body}{}", " ".repeat(BODY_BYTES_MAX));
        let (status, told) = desk.post_text(path, &too_big);
        assert_eq!((status.as_u16(), &told["error"]["code"]), (413, &json!("body_too_big")), "{path}");
        let endless = request("POST", path).header("content-type", "application/json");
        assert_eq!(desk.ask(endless.body(Body::new(Endless)).expect("a request")).0, 408, "{path}");
        for bad in ["", "[]", "1", "{", "nonsense", r#"["a",1]"#, &"[".repeat(2000), r#"{"data":"\ud800"}"#] {
            let (status, told) = desk.post_text(path, bad);
            assert_eq!((status.as_u16(), &told["error"]["code"]), (400, &json!("bad_json")), "{path} {bad}");
        }
        let (status, told) = desk.get(path);
        assert_eq!((status.as_u16(), &told["error"]["code"]), (405, &json!("method_not_allowed")), "{path}");
    }
    for path in GETS {
        assert_eq!(desk.get(path).0, 200, "{path}");
        let wrong = Request::builder().uri(format!("/api/v1{path}")).header("authorization", "Bearer wrong");
        let (status, told) = desk.ask(wrong.body(Body::empty()).expect("a request"));
        assert_eq!((status.as_u16(), &told["error"]["code"]), (401, &json!("key_invalid")), "{path}");
    }
    for path in ["", "/nothing", "/topics", "/topics/a/b"] {
        assert_eq!(desk.get(path).0, 404, "{path}");
    }

    // What some have of their own.
    for path in ["/topics/a::b", "/topics/%FF/presence", "/topics/*/history"] {
        let (status, told) = desk.get(path);
        assert_eq!((status.as_u16(), &told["error"]["code"]), (400, &json!("bad_topic")), "{path}");
    }
    assert_eq!(desk.get("/topics/a/presence").0, 409);
    assert_eq!(desk.get("/connections?limit=0").0, 400);
    for path in ["/disconnect", "/unsubscribe", "/refresh"] {
        for connection in ["0-99-1", "65535-0-0", "0-4294967295-0"] {
            let body = json!({ "connection": connection, "topic": "a" });
            let body = match path {
                "/disconnect" => json!({ "connection": connection }),
                "/refresh" => json!({ "connection": connection, "expires_in": 0 }),
                _ => body,
            };
            assert_eq!(desk.post(path, &body).0, 404, "{path} {connection}");
        }
    }

    // A reload takes no body, and reads none.
    let (status, told) = desk.ask(request("POST", "/reload").body(Body::from("whatever")).expect("a request"));
    assert_eq!((status.as_u16(), told), (200, json!({ "notes": [] })));
    *desk.next_reload.lock().expect("no panic") = Ok(vec!["--listen has changed".to_owned()]);
    assert_eq!(desk.post_text("/reload", "").1, json!({ "notes": ["--listen has changed"] }));
    *desk.next_reload.lock().expect("no panic") = Err("corewire.toml:3: nonsense".to_owned());
    let (status, told) = desk.post_text("/reload", "");
    assert_eq!((status.as_u16(), &told["error"]["code"]), (422, &json!("bad_configuration")));
    assert_eq!(told["error"]["message"], "corewire.toml:3: nonsense");
    let keyless = Request::builder().method("POST").uri("/api/v1/reload").body(Body::empty()).expect("a request");
    assert_eq!(desk.ask(keyless).0, 401);

    // A core that answers nothing, and then one that takes nothing in.
    let busy = desk.keep_busy(1);
    let topic = topic_at(1);
    let publish = json!({ "topic": topic.as_str(), "data": 1 });
    let gets = ["", "/presence", "/history"].map(|rest| {
        let name = if rest == "/presence" { here_at(1) } else { topic.to_string() };
        format!("/topics/{name}{rest}")
    });
    let expect = |desk: &mut Desk, want: (u16, &str)| {
        for path in &gets {
            let (status, told) = desk.get(path);
            assert_eq!((status.as_u16(), &told["error"]["code"]), (want.0, &json!(want.1)), "{path}: {told}");
            assert!(told["error"]["message"].as_str().expect("a sentence").contains("core 1"), "{told}");
        }
        let (status, told) = desk.post("/publish", &publish);
        assert_eq!((status.as_u16(), &told["error"]["code"]), (want.0, &json!(want.1)), "{told}");
        let batch = json!({ "publications": [&publish, { "topic": topic_at(0).as_str(), "data": 1 }] });
        let (status, told) = desk.post("/batch", &batch);
        assert_eq!((status.as_u16(), &told["results"][0]["error"]["code"]), (200, &json!(want.1)), "{told}");
    };
    expect(&mut desk, (504, "timeout"));
    let (_, told) = desk.get("/connections");
    assert_eq!(told["silent_cores"], json!([1]));
    let (_, told) = desk.post("/disconnect", &json!({ "user": "ada" }));
    assert_eq!(told, json!({ "connections": 0, "silent_cores": [1] }));
    let draft = Draft { kind: DataKind::Text, data: Bytes::new(), key: None, publisher: None };
    while desk.running.handle().publish(&topic, draft.clone()).is_ok() {}
    expect(&mut desk, (503, "unavailable"));
    drop(busy);
    // It goes on as if nothing had been.
    let give_up_at = std::time::Instant::now() + Duration::from_secs(30);
    while desk.post("/publish", &publish).0 != 200 {
        assert!(std::time::Instant::now() < give_up_at, "core 1 does not come back");
        thread::yield_now();
    }

    let documented = desk.documented();
    assert!(desk.seen.is_subset(&documented));
    let unseen: Vec<_> = documented.difference(&desk.seen).collect();
    assert!(unseen.is_empty(), "documented, and never answered: {unseen:#?}");
    desk.running.stop().expect("no core broke");
}

/// As [`topic_at`], in a namespace with presence.
fn here_at(core: usize) -> String {
    let names = (0..).map(|n| format!("here:{n}"));
    names.into_iter().find(|name| home_of(&Topic::parse(name).expect("good"), 2) == core).expect("hashes differ")
}

#[test]
fn bodies_and_parameters_are_held_to_the_document() {
    let mut desk = Desk::open();
    let cases = [
        ("/publish", json!({ "topic": "a", "data": null }), 200, ""),
        (
            "/publish",
            json!({ "topic": "a", "data": { "x": [1] }, "key": "k", "idempotency_key": "i", "wait": true }),
            200,
            "",
        ),
        ("/publish", json!({ "topic": "a", "data": 1, "key": null, "idempotency_key": null, "wait": null }), 200, ""),
        ("/publish", json!({ "data": 1 }), 400, "missing field `topic`"),
        ("/publish", json!({ "topic": "a" }), 400, "missing field `data`"),
        ("/publish", json!({ "topic": "a", "data": 1, "tpoic": "b" }), 400, "unknown field `tpoic`"),
        ("/publish", json!({ "topic": 1, "data": 1 }), 400, "invalid type"),
        ("/publish", json!({ "topic": "a", "data": 1, "wait": 1 }), 400, "invalid type"),
        ("/publish", json!({ "topic": "a", "data": 1, "idempotency_key": "" }), 400, "1 to 128 bytes"),
        ("/publish", json!({ "topic": "a", "data": 1, "idempotency_key": "i".repeat(129) }), 400, "1 to 128 bytes"),
        ("/publish", json!({ "topic": "small", "data": "0123456789" }), 413, "admits 10"),
        ("/publish", json!({ "topic": "a:*", "data": 1 }), 400, "only in a pattern"),
        ("/batch", json!({ "publications": [] }), 400, "1 to 1000 elements, not 0"),
        ("/batch", json!({}), 400, "missing field `publications`"),
        ("/broadcast", json!({ "topics": [], "data": 1 }), 400, "1 to 1000 elements, not 0"),
        ("/broadcast", json!({ "topics": vec!["a"; 1001], "data": 1 }), 400, "1 to 1000 elements, not 1001"),
        ("/disconnect", json!({}), 400, "`user` or `connection` is missing"),
        ("/disconnect", json!({ "user": "a", "connection": "0-0-0" }), 400, "not both"),
        ("/disconnect", json!({ "connection": "0-0" }), 400, "`connection`: a connection is called by three numbers"),
        ("/disconnect", json!({ "user": "a", "code": 1005 }), 400, "`code` must be one"),
        ("/disconnect", json!({ "user": "a", "code": 4999, "reason": "r".repeat(123) }), 200, ""),
        ("/disconnect", json!({ "user": "a", "reason": "r".repeat(124) }), 400, "`reason` has 124 bytes"),
        ("/unsubscribe", json!({ "user": "a" }), 400, "missing field `topic`"),
        ("/unsubscribe", json!({ "user": "a", "topic": "a:*" }), 200, ""),
        ("/unsubscribe", json!({ "user": "a", "topic": "a:**:b" }), 400, "must be the last segment"),
        ("/refresh", json!({ "user": "a" }), 400, "missing field `expires_in`"),
        ("/refresh", json!({ "user": "a", "expires_in": -1 }), 400, "invalid value"),
        ("/refresh", json!({ "user": "a", "expires_in": 3_155_760_001u64 }), 400, "0 to 3155760000 seconds"),
    ];
    for (path, body, want, says) in cases {
        let (status, told) = desk.post(path, &body);
        assert_eq!(status.as_u16(), want, "{path} {body}: {told}");
        assert!(told.to_string().contains(says), "{path} {body}: {told}");
    }
    let (status, told) = desk.post_text("/publish", r#"{"topic":"a","topic":"b","data":1}"#);
    assert_eq!(status.as_u16(), 400);
    assert!(told["error"]["message"].as_str().expect("a sentence").contains("duplicate field `topic`"), "{told}");
    let cases = [
        ("/topics/a/history?since=00f1e2d3c4b5a697-41&limit=1000", 200, ""),
        ("/topics/a/history?since=41", 400, "`since`: a position is an epoch"),
        ("/topics/a/history?limit=1001", 400, "`limit` must be a whole number from 1 to 1000"),
        ("/topics/a/history?limit=-1", 400, "`limit` must be"),
        ("/topics/a/history?offset=1", 400, "unknown field `offset`"),
        ("/connections?user=ada&after=1-5-1&limit=1", 200, ""),
        ("/connections?after=x", 400, "`after`: a connection is called by"),
        ("/connections?limit=", 400, "`limit` must be"),
    ];
    for (path, want, says) in cases {
        let (status, told) = desk.get(path);
        assert_eq!(status.as_u16(), want, "{path}: {told}");
        assert!(told.to_string().contains(says), "{path}: {told}");
    }
    desk.running.stop().expect("no core broke");
}

#[test]
fn the_document_names_every_error() {
    let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
    let named = &document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"];
    let named: BTreeSet<_> =
        named.as_array().expect("an array").iter().map(|code| code.as_str().expect("a name")).collect();
    let ours: Vec<String> =
        ErrorCode::ALL.iter().map(|code| json!(code).as_str().expect("a name").to_owned()).collect();
    assert_eq!(ours.iter().map(String::as_str).collect::<BTreeSet<_>>(), named);
}

#[test]
fn publications_of_any_kind_can_be_read_and_positions_go_on() {
    let mut desk = Desk::open();
    let kinds = [
        (DataKind::Json, "{\"a\": 1}"),
        (DataKind::Json, "no JSON at all"),
        (DataKind::Text, "\"a text\""),
        (DataKind::Binary, "\u{1}\u{2}"),
    ];
    let topic = topic_at(0);
    for (kind, data) in kinds {
        let draft = Draft { kind, data: Bytes::from_static(data.as_bytes()), key: Some("k".into()), publisher: None };
        desk.running.handle().publish(&topic, draft).expect("there is room");
    }
    let (_, told) = desk.get(&format!("/topics/{topic}/history"));
    let want = json!([
        { "offset": 1, "key": "k", "data": { "a": 1 } },
        { "offset": 2, "key": "k", "data": "no JSON at all" },
        { "offset": 3, "key": "k", "data": "\"a text\"" },
        { "offset": 4, "key": "k", "base64": "AQI=" },
    ]);
    assert_eq!(told["publications"], want);
    let epoch = told["epoch"].as_str().expect("it has one").to_owned();
    assert_eq!((&told["offset"], &told["oldest"], told.get("recovered")), (&json!(4), &json!(1), None));
    for (since, limit, offsets, recovered) in [
        (format!("{epoch}-0"), 100, vec![1, 2, 3, 4], true),
        (format!("{epoch}-2"), 100, vec![3, 4], true),
        (format!("{epoch}-2"), 1, vec![4], false),
        (format!("{epoch}-4"), 100, vec![], true),
        (format!("{epoch}-5"), 100, vec![], false),
        ("00f1e2d3c4b5a697-2".to_owned(), 2, vec![3, 4], false),
    ] {
        let (_, told) = desk.get(&format!("/topics/{topic}/history?since={since}&limit={limit}"));
        let got: Vec<u64> = told["publications"]
            .as_array()
            .expect("an array")
            .iter()
            .filter_map(|one| one["offset"].as_u64())
            .collect();
        assert_eq!((got, &told["recovered"]), (offsets, &json!(recovered)), "{since} {limit}");
    }
    let (_, told) = desk.get(&format!("/topics/{topic}"));
    assert_eq!((&told["history_messages"], &told["offset"]), (&json!(4), &json!(4)));
    let (_, told) = desk.get("/topics/unheard");
    assert_eq!(told["history_messages"], json!(0));
    assert_eq!(told.get("epoch"), None);
    desk.running.stop().expect("no core broke");
}

#[test]
fn strict_namespaces_refuse_what_is_in_none_of_them() {
    let mut desk = Desk::open();
    let here = Namespace { name: "here".to_owned(), presence: true, ..Namespace::default() };
    let namespaces = Namespaces::new(Namespace { presence: true, ..Namespace::default() }, [here]).expect("good");
    desk.settings.set_namespaces(Arc::new(namespaces.strict(true)));
    for (topic, want) in [("a", 200), ("here:a", 200), ("there:a", 400)] {
        let broadcast = json!({ "topics": [topic, "a"], "data": 1 });
        let (status, told) = desk.post("/broadcast", &broadcast);
        assert_eq!(status, 200);
        let mut told = vec![told["results"][0].clone()];
        let asked = [
            desk.post("/publish", &json!({ "topic": topic, "data": 1 })),
            desk.get(&format!("/topics/{topic}")),
            desk.get(&format!("/topics/{topic}/presence")),
            desk.get(&format!("/topics/{topic}/history")),
        ];
        for (status, answer) in asked {
            assert_eq!(status.as_u16(), want, "{answer}");
            told.push(answer);
        }
        let refused = json!("unknown_namespace");
        assert!(told.iter().all(|told| (told["error"]["code"] == refused) == (want == 400)), "{told:?}");
    }
    desk.running.stop().expect("no core broke");
}

#[test]
fn keys_and_namespaces_change_while_it_answers() {
    let mut desk = Desk::open();
    let (answers, inbox) = answers();
    drop(answers);
    let settings = ApiSettings::new(None, Arc::default());
    let options = ApiOptions {
        handle: desk.running.handle(),
        answers: inbox,
        settings: settings.clone(),
        reload: Arc::new(|| Ok(Vec::new())),
        body_bytes_max: 1000,
    };
    let router = {
        let _inside = desk.runtime.enter();
        Router::new().nest("/api/v1", routes(Api::start_with(options, WAIT, WAIT)))
    };
    desk.router = TowerToHyperService::new(router);
    let keyless = |desk: &mut Desk, host: &str| {
        let request = Request::builder().uri("/api/v1/connections").header("host", host);
        desk.ask(request.body(Body::empty()).expect("a request")).0.as_u16()
    };
    assert_eq!((keyless(&mut desk, "localhost:9090"), keyless(&mut desk, "example.com")), (200, 401));
    settings.set_keys(Some(ApiKeys::one(KEY).expect("long enough")));
    assert_eq!((keyless(&mut desk, "localhost:9090"), desk.get("/connections").0.as_u16()), (401, 200));
    settings.set_keys(Some(ApiKeys::one("another-key-of-16").expect("long enough")));
    assert_eq!(desk.get("/connections").0, 401);
    settings.set_keys(Some(ApiKeys::one(KEY).expect("long enough")));
    assert_eq!(desk.get("/topics/a/presence").0, 409);
    let present = Namespace { presence: true, ..Namespace::default() };
    settings.set_namespaces(Arc::new(Namespaces::new(present, []).expect("good")));
    // Asked, and never answered here: nobody gives this API what cores say.
    assert_eq!(desk.get("/topics/a/presence").0, 504);
    desk.running.stop().expect("no core broke");
}
