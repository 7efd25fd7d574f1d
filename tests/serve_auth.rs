//! Who somebody is and what he may do, as clients of `corewire serve` meet it.

#![cfg(feature = "cli")]

mod common;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use common::tokens::{OTHER_SECRET, SECRET, now, signed_with, token, verifier, verifier_with};
use common::v1::{self, ask, connect, hear, is_ack, is_error, ping, publish, subscribe};
use common::{Client, TEXT, TestServer, VARIANTS, Variant, at_once, serve, until};
use corewire::auth::Policy;
use corewire::builtin::{Admission, Serve};
use corewire::rate::Rate;
use corewire::topics::{Access, Namespace, Namespaces};
use serde_json::{Value, json};

/// `members` wants a token of the connection, `vip` one for each topic; anybody may publish to `vip`.
fn namespaces() -> Namespaces {
    let named = |name: &str| Namespace { name: name.into(), presence: true, ..Namespace::default() };
    let all = [
        Namespace { subscribe: Access::Token, publish: Access::Token, ..named("members") },
        Namespace { subscribe: Access::Signed, publish: Access::Public, ..named("vip") },
        Namespace { publish: Access::Public, ..named("open") },
    ];
    Namespaces::new(Namespace::default(), all).expect("they are good")
}

fn stage(variant: Variant, admission: Admission) -> TestServer {
    let admission = Arc::new(admission);
    let configure = |builder: corewire::server::Builder| builder.cores(vec![0, 1]).namespaces(namespaces());
    serve(variant, configure, move |_| Serve::new(false).admission(admission.clone()))
}

fn with_keys() -> Admission {
    Admission { verifier: Some(verifier()), ..Admission::default() }
}

fn open_v1(server: &TestServer) -> Client {
    v1::open(server.addr)
}

/// A connection of this user, whose token has these further claims.
#[track_caller]
fn connected(server: &TestServer, user: &str, claims: Value) -> Client {
    let mut all = json!({"sub": user});
    all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
    let mut client = open_v1(server);
    let ack = connect(&mut client, &token(all));
    assert_eq!((&ack["type"], &ack["user"]), (&json!("ack"), &json!(user)), "{ack}");
    client
}

fn anonymous(server: &TestServer) -> Client {
    let mut client = open_v1(server);
    let ack = ask(&mut client, json!({"type": "connect", "id": 1}));
    assert_eq!((&ack["type"], &ack["user"]), (&json!("ack"), &Value::Null), "{ack}");
    client
}

// ---- connecting ----------------------------------------------------------------------------------------------

/// Each way to be wrong, its error and a part of its sentence.
fn wrong_tokens() -> Vec<(&'static str, String, &'static str, &'static str)> {
    let hs256 = r#"{"alg":"HS256"}"#;
    let ada = || json!({"sub": "ada", "aud": "corewire"});
    let altered = {
        let mut good = token(ada());
        let last = good.pop().expect("a signature");
        good.push(if last == 'A' { 'E' } else { 'A' });
        good
    };
    let unsigned = |header| signed_with(SECRET, header, ada());
    vec![
        ("alg none", unsigned(r#"{"alg":"none"}"#), "token_invalid", "not signed"),
        ("alg NONE", unsigned(r#"{"alg":"NONE"}"#), "token_invalid", "not signed"),
        ("alg RS256 with an HMAC", unsigned(r#"{"alg":"RS256"}"#), "token_invalid", "no key for the token's algorithm"),
        ("alg HS512", unsigned(r#"{"alg":"HS512"}"#), "token_invalid", "algorithm other than"),
        ("another key", signed_with(OTHER_SECRET, hs256, ada()), "token_invalid", "signature is wrong"),
        ("altered", altered, "token_invalid", "signature is wrong"),
        ("expired", token(json!({"sub": "ada", "aud": "corewire", "exp": now() - 60})), "token_expired", "expired 6"),
        (
            "not yet",
            token(json!({"sub": "ada", "aud": "corewire", "nbf": now() + 600})),
            "token_invalid",
            "not valid yet",
        ),
        ("other audience", token(json!({"sub": "ada", "aud": "elsewhere"})), "token_invalid", "another audience"),
        ("no audience", token(json!({"sub": "ada"})), "token_invalid", "no claim `aud`"),
        ("other issuer", token(json!({"sub": "ada", "aud": "corewire", "iss": "eve"})), "token_invalid", "issuer"),
        ("no user", token(json!({"aud": "corewire", "iss": "us"})), "token_invalid", "no claim `sub`"),
        (
            "user too long",
            token(json!({"aud": "corewire", "iss": "us", "sub": "x".repeat(256)})),
            "token_invalid",
            "1 to 255",
        ),
        ("not three parts", "a.b".into(), "token_invalid", "three parts"),
        ("five parts", "a.b.c.d.e".into(), "token_invalid", "three parts"),
        ("no base64", "ä.ö.ü".into(), "token_invalid", "base64url"),
        ("empty", String::new(), "token_invalid", "three parts"),
        ("too long", "x".repeat(8193), "token_invalid", "8193 bytes"),
        (
            "for a topic",
            token(json!({"sub": "ada", "aud": "corewire", "iss": "us", "topic": "vip:a"})),
            "token_invalid",
            "one topic",
        ),
    ]
}

/// A server that has a name and trusts one issuer.
fn particular() -> Admission {
    let policy = Policy { audiences: vec!["corewire".into()], issuers: vec!["us".into()], ..Policy::default() };
    Admission { verifier: Some(verifier_with(policy)), ..Admission::default() }
}

#[test]
fn a_wrong_token_is_refused_and_says_why() {
    for variant in VARIANTS {
        let server = stage(variant, particular());
        for (what, token, code, says) in wrong_tokens() {
            let mut client = open_v1(&server);
            let answer = connect(&mut client, &token);
            is_error(&answer, code, says);
            assert_eq!(answer["id"], 1);
            let close = if code == "token_expired" { (4002, "token expired") } else { (4001, "token refused") };
            assert_eq!(client.close_frame(), (close.0, close.1.to_owned()), "{what}");

            // A URL that is too long for a request head never comes so far.
            let token = token.replace('ä', "%C3%A4").replace('ö', "%C3%B6").replace('ü', "%C3%BC");
            let reply = Client::tcp(server.addr).ask(&format!("/ws?topic=open:a&token={token}"), "");
            assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")), "{what}");
            assert!(reply.body.contains(says), "{what}: {}", reply.body);
        }
        let good = token(json!({"sub": "ada", "aud": ["x", "corewire"], "iss": "us"}));
        is_ack(&connect(&mut open_v1(&server), &good));
    }
}

#[test]
fn what_a_token_permits_and_nothing_else() {
    for variant in VARIANTS {
        let server = stage(variant, with_keys());
        let mut client = open_v1(&server);
        let claims = json!({"sub": "ada", "subscribe": ["members:*", "elsewhere"], "publish": ["members:own"]});
        let ack = connect(&mut client, &token(claims));
        assert_eq!((&ack["user"], ack["connection"].is_string()), (&json!("ada"), true), "{ack}");
        let expires_in = ack["expires_in"].as_u64().expect("a number");
        assert!((601..=630).contains(&expires_in), "ten minutes and the leeway: {ack}");

        is_ack(&publish(&mut client, "members:own", json!(1)));
        is_error(&publish(&mut client, "members:a", json!(1)), "forbidden", "does not allow publishing");
        is_error(&publish(&mut client, "public", json!(1)), "forbidden", "clients may not publish here");
        is_ack(&subscribe(&mut client, "members:a"));
        is_ack(&subscribe(&mut client, "members:*"));
        is_ack(&subscribe(&mut client, "anything:public"));
        for wider in ["members:**", "members", "members:a:b", "*:a:b"] {
            let answer = subscribe(&mut client, wider);
            match wider {
                // A pattern of the default namespace, which is public and hears no other.
                "*:a:b" => is_ack(&answer),
                _ => is_error(&answer, "forbidden", "does not allow subscribing"),
            }
        }
        let mut nobody = anonymous(&server);
        is_error(&subscribe(&mut nobody, "members:a"), "token_required", "subscribing to this topic needs a token");
        is_error(&publish(&mut nobody, "members:a", json!(1)), "token_required", "publishing to this topic");
        let presence = json!({"type": "presence", "id": 4, "topic": "members:a"});
        is_error(&ask(&mut nobody, presence), "token_required", "needs a token");
        is_ack(&subscribe(&mut nobody, "public"));
        let late = connect(&mut nobody, &token(json!({"sub": "ada"})));
        is_error(&late, "token_invalid", "made without a token");
        is_ack(&ping(&mut nobody));
    }
}

#[test]
fn a_token_in_the_url_is_as_good() {
    for variant in VARIANTS {
        let server = stage(variant, with_keys());
        let may = token(json!({"sub": "ada", "subscribe": ["members:a"], "publish": ["members:a"]}));
        let mut client = Client::open_at(server.addr, &format!("/ws?topic=members:a&token={may}"));
        client.send_text("hello");
        assert_eq!(client.text(), "hello");

        let reply = Client::tcp(server.addr).ask(&format!("/ws?topic=members:b&token={may}"), "");
        assert_eq!(reply.status, 403);
        assert!(reply.body.contains("does not allow subscribing"), "{}", reply.body);
        let reply = Client::tcp(server.addr).ask(&format!("/ws?topic=members:a&token={may}&token={may}"), "");
        assert_eq!(reply.status, 400);

        let listens = token(json!({"sub": "bob", "subscribe": ["members:a"]}));
        let mut listener = Client::open_at(server.addr, &format!("/ws?topic=members:a&token={listens}"));
        listener.send_text("may I?");
        assert_eq!(listener.close_frame(), (1008, "the token does not allow publishing to this topic".into()));

        let vip = token(json!({"sub": "", "topic": "vip:a"}));
        drop(Client::open_at(server.addr, &format!("/ws?topic=vip:a&token={vip}")));
        let reply = Client::tcp(server.addr).ask(&format!("/ws?topic=vip:b&token={vip}"), "");
        assert_eq!(reply.status, 401);
        assert!(reply.body.contains("another topic"), "{}", reply.body);
        let reply = Client::tcp(server.addr).ask(&format!("/ws?topic=vip:a&token={may}"), "");
        assert_eq!(reply.status, 401);
    }
}

#[test]
fn where_nobody_may_be_anonymous_a_token_is_needed_for_everything() {
    for variant in VARIANTS {
        let server = stage(variant, Admission { anonymous: false, ..with_keys() });
        let mut client = open_v1(&server);
        is_error(&ask(&mut client, json!({"type": "connect", "id": 1})), "token_required", "without a token");
        assert_eq!(client.close_frame(), (4001, "token refused".into()));
        let reply = Client::tcp(server.addr).ask("/ws?topic=public", "");
        assert_eq!(reply.status, 401);
        let vip = token(json!({"sub": "", "topic": "vip:a"}));
        assert_eq!(Client::tcp(server.addr).ask(&format!("/ws?topic=vip:a&token={vip}"), "").status, 401);
        is_ack(&subscribe(&mut connected(&server, "ada", json!({})), "public"));
        let ada = token(json!({"sub": "ada"}));
        drop(Client::open_at(server.addr, &format!("/ws?topic=public&token={ada}")));
    }
}

// ---- time ----------------------------------------------------------------------------------------------------

/// The leeway of 30 seconds counts, so this is good for a few seconds more: enough for what is to be done before, on a
/// busy machine as well.
fn expiring_soon() -> u64 {
    now() + 5 - 30
}

#[test]
fn who_does_not_renew_is_closed_with_4002() {
    at_once(|variant| {
        let server = stage(variant, with_keys());
        let until_soon = || json!({"exp": expiring_soon(), "subscribe": ["members:a", "members:b"]});
        let mut ends = connected(&server, "ada", until_soon());
        let mut stays = connected(&server, "ada", until_soon());
        let raw = token(json!({"sub": "ada", "exp": expiring_soon()}));
        let mut raw = Client::open_at(server.addr, &format!("/ws?topic=public&token={raw}"));
        is_ack(&subscribe(&mut stays, "members:a"));
        is_ack(&subscribe(&mut stays, "members:b"));

        is_error(&connect(&mut stays, &token(json!({"sub": "bob"}))), "token_invalid", "another user");
        is_error(&connect(&mut stays, "nonsense"), "token_invalid", "three parts");
        is_error(&ask(&mut stays, json!({"type": "connect", "id": 1})), "token_required", "stays with another");
        // Permits less: what it does not permit ends.
        stays.send_text(
            &json!({"type": "connect", "id": 9, "token": token(json!({"sub": "ada", "subscribe": ["members:b"]}))})
                .to_string(),
        );
        let ended = hear(&mut stays);
        assert_eq!(
            (&ended["type"], &ended["topic"], &ended["code"]),
            (&json!("unsubscribe"), &json!("members:a"), &json!("forbidden")),
            "{ended}"
        );
        let ack = hear(&mut stays);
        assert!(ack["expires_in"].as_u64().is_some_and(|seconds| seconds > 600), "{ack}");

        assert_eq!(ends.close_frame(), (4002, "token expired".into()));
        assert_eq!(raw.close_frame(), (4002, "token expired".into()));
        is_ack(&ping(&mut stays));
        let answer = subscribe(&mut stays, "members:b");
        is_error(&answer, "already_subscribed", "");
    });
}

// ---- tokens for one topic ------------------------------------------------------------------------------------

#[test]
fn a_token_for_a_topic_is_for_this_topic_and_this_user() {
    at_once(|variant| {
        let server = stage(variant, with_keys());
        let mut ada = connected(&server, "ada", json!({"subscribe": ["**"], "info": {"name": "Ada"}}));
        let subscribe_with = |client: &mut Client, topic: &str, claims: Value| {
            ask(client, json!({"type": "subscribe", "id": 2, "topic": topic, "token": token(claims)}))
        };
        is_error(&subscribe(&mut ada, "vip:a"), "token_required", "a token of its own");
        is_error(&subscribe(&mut ada, "vip:*"), "forbidden", "no patterns");
        let wrong = [
            (json!({"sub": "ada", "topic": "vip:b"}), "token_invalid", "another topic"),
            (json!({"sub": "bob", "topic": "vip:a"}), "token_invalid", "another user"),
            (json!({"sub": "", "topic": "vip:a"}), "token_invalid", "another user"),
            (json!({"sub": "ada"}), "token_invalid", "no claim `topic`"),
            (json!({"sub": "ada", "topic": "vip:a", "exp": now() - 60}), "token_expired", "expired"),
        ];
        for (claims, code, says) in wrong {
            is_error(&subscribe_with(&mut ada, "vip:a", claims), code, says);
        }
        let presence = || json!({"type": "presence", "id": 4, "topic": "vip:a"});
        is_error(&ask(&mut ada, presence()), "token_required", "a token of its own");
        let claims = json!({"sub": "ada", "topic": "vip:a", "exp": expiring_soon(), "info": {"seat": 1}});
        is_ack(&subscribe_with(&mut ada, "vip:a", claims));
        assert_eq!(
            ask(&mut ada, presence())["members"],
            json!([{"user": "ada", "info": {"seat": 1}, "connections": 1}])
        );

        let mut nobody = anonymous(&server);
        is_ack(&subscribe_with(&mut nobody, "vip:a", json!({"sub": "", "topic": "vip:a"})));
        let ended = hear(&mut ada);
        assert_eq!(
            (&ended["type"], &ended["topic"], &ended["code"]),
            (&json!("unsubscribe"), &json!("vip:a"), &json!("token_expired")),
            "{ended}"
        );
        is_error(&ask(&mut ada, presence()), "token_required", "a token of its own");
        is_ack(&publish(&mut ada, "vip:a", json!("one")));
        assert_eq!(hear(&mut nobody)["data"], "one");
        // It begins anew with another token, also after the end of the first.
        is_ack(&subscribe_with(&mut ada, "vip:a", json!({"sub": "ada", "topic": "vip:a"})));
        is_ack(&ask(&mut ada, json!({"type": "unsubscribe", "id": 6, "topic": "vip:a"})));
        is_ack(&subscribe_with(&mut ada, "vip:a", json!({"sub": "ada", "topic": "vip:a"})));
    });
}

// ---- presence ------------------------------------------------------------------------------------------------

#[test]
fn a_user_is_present_once_however_many_connections_he_has() {
    for variant in VARIANTS {
        let server = stage(variant, with_keys());
        let mut watcher = anonymous(&server);
        is_ack(&ask(&mut watcher, json!({"type": "subscribe", "id": 2, "topic": "open:a", "presence": true})));
        let members = |client: &mut Client| {
            let answer = ask(client, json!({"type": "presence", "id": 4, "topic": "open:a"}));
            answer["members"].as_array().unwrap_or_else(|| panic!("no members: {answer}")).clone()
        };
        assert_eq!(members(&mut watcher), [json!(null); 0], "who is anonymous is not there");
        let info = json!({"info": {"name": "Ada"}});
        // On both cores, most likely.
        let mut adas: Vec<_> = (0..6).map(|_| connected(&server, "ada", info.clone())).collect();
        for ada in &mut adas {
            is_ack(&subscribe(ada, "open:a"));
        }
        let raw = token(json!({"sub": "ada"}));
        let raw = Client::open_at(server.addr, &format!("/ws?topic=open:a&token={raw}"));
        let mut bob = connected(&server, "bob", json!({}));
        is_ack(&subscribe(&mut bob, "open:a"));
        let join = |user: &str| json!({"type": "presence", "topic": "open:a", "event": "join", "user": user});
        let mut ada_joins = join("ada");
        ada_joins["info"] = json!({"name": "Ada"});
        assert_eq!(hear(&mut watcher), ada_joins);
        assert_eq!(hear(&mut watcher), join("bob"));
        let names = |members: &[Value]| -> Vec<String> {
            members.iter().map(|member| member["user"].as_str().expect("a name").to_owned()).collect()
        };
        let mut all = names(&members(&mut watcher));
        all.sort();
        assert_eq!(all, ["ada", "bob"]);

        drop(raw);
        let last = adas.pop();
        drop(adas);
        until("most have gone", || server.handle.connection_count() == 3);
        assert_eq!(names(&members(&mut watcher)).len(), 2);
        drop(last);
        let leave = json!({"type": "presence", "topic": "open:a", "event": "leave", "user": "ada"});
        assert_eq!(hear(&mut watcher), leave);
        is_ack(&ask(&mut bob, json!({"type": "unsubscribe", "id": 6, "topic": "open:a"})));
        assert_eq!(hear(&mut watcher)["user"], "bob");
        assert_eq!(members(&mut watcher), [json!(null); 0]);
    }
}

// ---- how many and how much -----------------------------------------------------------------------------------

/// The core of a connection, from its name in the answer to `connect`.
fn core_of(ack: &Value) -> String {
    ack["connection"].as_str().expect("a name").split('-').next().expect("a core").to_owned()
}

/// Connects until so many stay, on both cores: the kernel chooses the core of each.
fn fill(count: usize, mut connect: impl FnMut() -> Option<(Client, Value)>) -> Vec<Client> {
    loop {
        let kept: Vec<_> = (0..count).map(|_| connect().expect("there is room")).collect();
        let cores: std::collections::BTreeSet<_> = kept.iter().map(|(_, ack)| core_of(ack)).collect();
        if cores.len() == 2 {
            return kept.into_iter().map(|(client, _)| client).collect();
        }
        for (client, _) in kept {
            client.close();
        }
    }
}

#[test]
fn the_connections_of_a_user_are_counted_over_all_cores() {
    for variant in VARIANTS {
        let limit = NonZeroU32::new(6);
        let server = stage(variant, Admission { connections_per_user_max: limit, ..with_keys() });
        let ada = token(json!({"sub": "ada"}));
        let mut enter = || {
            let mut client = open_v1(&server);
            client.send_text(&json!({"type": "connect", "id": 1, "token": ada}).to_string());
            // Whoever is one too many is closed without an answer.
            let frame = client.frame();
            (frame.opcode == TEXT).then(|| {
                let ack: Value = serde_json::from_slice(&frame.payload).expect("JSON");
                is_ack(&ack);
                (client, ack)
            })
        };
        let mut kept = fill(6, &mut enter);
        for _ in 0..6 {
            let mut surplus = open_v1(&server);
            surplus.send_text(&json!({"type": "connect", "id": 1, "token": ada}).to_string());
            assert_eq!(surplus.close_frame(), (4004, "too many connections".into()));
            let reply = Client::tcp(server.addr).ask(&format!("/ws?topic=a&token={ada}"), "");
            assert_eq!(reply.status, 429, "{}", reply.body);
        }
        // Another user, nobody, and a newer token are not concerned.
        drop(connected(&server, "bob", json!({})));
        drop(anonymous(&server));
        is_ack(&connect(&mut kept[0], &ada));
        kept.pop().expect("six").close();
        drop(Client::open_at(server.addr, &format!("/ws?topic=a&token={ada}")));
        until("it has gone", || enter().is_some());
    }
}

#[test]
fn the_connections_from_an_address_are_counted_over_all_cores() {
    for variant in VARIANTS {
        let limit = NonZeroU32::new(6);
        let server = stage(variant, Admission { connections_per_address_max: limit, ..with_keys() });
        let enter = || {
            let mut client = open_v1(&server);
            let ack = ask(&mut client, json!({"type": "connect", "id": 1}));
            Some((client, ack))
        };
        let mut kept = fill(6, enter);
        for _ in 0..6 {
            assert_eq!(open_v1(&server).close_frame(), (4004, "too many connections".into()));
            let reply = Client::tcp(server.addr).ask("/ws?topic=a", "");
            assert_eq!((reply.status, reply.body.contains("Your address")), (429, true));
        }
        kept.pop().expect("six").reset();
        until("one has gone", || Client::tcp(server.addr).ask("/ws?topic=a", "").status == 101);
    }
}

#[test]
fn messages_that_come_too_fast_are_refused_and_in_the_end_the_connection_is() {
    for variant in VARIANTS {
        let rate = Rate::new(3, Duration::from_secs(3600), 3).expect("a good rate");
        let server = stage(variant, Admission { message_rate: Some(rate), ..with_keys() });
        let mut client = anonymous(&server);
        for id in 0..2 {
            is_ack(&ask(&mut client, json!({"type": "ping", "id": id})));
        }
        let refused = ask(&mut client, json!({"type": "ping", "id": 7}));
        is_error(&refused, "rate_limited", "more than 3 messages per hour");
        assert_eq!(refused["id"], 7);
        let retry = refused["retry_ms"].as_u64().expect("a number");
        assert!((1_000_000..=1_200_032).contains(&retry), "a third of an hour: {refused}");
        for _ in 1..100 {
            is_error(&ask(&mut client, json!({"type": "ping", "id": 8})), "rate_limited", "");
        }
        assert_eq!(client.close_frame(), (4005, "too many messages".into()));

        let mut raw = Client::open_at(server.addr, "/ws?topic=open:a");
        for text in ["1", "2", "3"] {
            raw.send_text(text);
            assert_eq!(raw.text(), text);
        }
        raw.send_text("4");
        assert_eq!(raw.close_frame(), (4005, "too many messages".into()));
    }
}

#[test]
fn subscribers_are_told_the_publisher_where_the_namespace_tells_it() {
    for variant in VARIANTS {
        let named = |name: &str, publisher| Namespace {
            name: name.into(),
            publish: Access::Public,
            publisher,
            ..Namespace::default()
        };
        let namespaces = Namespaces::new(named("", false), [named("chat", true), named("blind", false)]).expect("good");
        let server = serve(variant, |builder| builder.namespaces(namespaces), {
            let admission = Arc::new(with_keys());
            move |_| Serve::new(false).admission(admission.clone())
        });
        let mut ada = connected(&server, "ada", json!({}));
        let mut nobody = anonymous(&server);
        for (topic, user) in [("chat:a", Some("ada")), ("blind:a", None)] {
            let mut reader = anonymous(&server);
            is_ack(&subscribe(&mut reader, topic));
            is_ack(&publish(&mut ada, topic, json!("hello")));
            let message = hear(&mut reader);
            assert_eq!((message["data"].as_str(), message["user"].as_str()), (Some("hello"), user), "{message}");
            is_ack(&publish(&mut nobody, topic, json!("hello")));
            assert_eq!(hear(&mut reader).get("user"), None);
        }
    }
}

#[test]
fn a_client_publishes_as_fast_as_its_namespace_lets_it() {
    for variant in VARIANTS {
        let slow = |name: &str| Namespace {
            name: name.into(),
            publish: Access::Public,
            publish_rate: Rate::new(2, Duration::from_secs(3600), 2).ok(),
            ..Namespace::default()
        };
        let open = Namespace { publish: Access::Public, ..Namespace::default() };
        let namespaces = Namespaces::new(open, [slow("slow"), slow("slower")]).expect("they are good");
        let server = serve(variant, |builder| builder.cores(vec![0, 1]).namespaces(namespaces), |_| Serve::new(false));
        let mut client = anonymous(&server);
        is_ack(&publish(&mut client, "slow:a", json!(1)));
        is_ack(&publish(&mut client, "slow:b", json!(2)));
        is_error(&publish(&mut client, "slow:c", json!(3)), "rate_limited", "more than 2 publications per hour");
        // Without an id as well, so that nothing is lost without a word.
        client.send_text(&json!({"type": "publish", "topic": "slow:a", "data": 4}).to_string());
        is_error(&hear(&mut client), "rate_limited", "more than 2 publications");
        is_ack(&publish(&mut client, "slower:a", json!(1)));
        for n in 0..50 {
            is_ack(&publish(&mut client, "fast", json!(n)));
        }
        // Each client has its own share.
        is_ack(&publish(&mut anonymous(&server), "slow:a", json!(1)));
        let mut raw = Client::open_at(server.addr, "/ws?topic=slow:d");
        for text in ["1", "2"] {
            raw.send_text(text);
            assert_eq!(raw.text(), text);
        }
        raw.send_text("3");
        assert_eq!(raw.close_frame(), (4005, "too many messages".into()));
    }
}
