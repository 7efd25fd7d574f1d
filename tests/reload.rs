//! SIGHUP: another configuration, other keys and certificates, and nobody notices who is connected.

#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::Path;

use common::binary::Binary;
use common::pki::{self, Pki};
use common::target::{Say, Target};
use common::tokens::KeyPair;
use common::v1::{connect, is_ack, is_error, open, open_on, ping, publish, subscribe};
use common::{Client, Folder, VARIANTS, Variant, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A server with a configuration file, and how often it has said that it reloaded or did not.
struct Stage {
    binary: Binary,
    folder: Folder,
    reloaded: usize,
    refused: usize,
}

impl Stage {
    fn new(variant: Variant, files: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        for (name, text) in files {
            fs::write(folder.path(name), text.replace("FOLDER", shown(&folder.0))).expect("a file");
        }
        let config = folder.path("corewire.toml");
        let binary = Binary::on_any_port(variant, &["serve", "--admin", "off", "--config", shown(&config)]);
        Self { binary, folder, reloaded: 0, refused: 0 }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path(name), text.replace("FOLDER", shown(&self.folder.0))).expect("a file");
    }

    /// What it has logged meanwhile.
    fn reload(&mut self) -> String {
        let before = self.binary.log().len();
        self.binary.signal(Signal::HUP);
        let (reloaded, refused) = (self.reloaded, self.refused);
        until("it has reloaded or not", || {
            let log = self.binary.log();
            self.reloaded = log.matches(" reloaded\n").count();
            self.refused = log.matches("not reloaded, the old configuration stays").count();
            self.reloaded + self.refused == reloaded + refused + 1
        });
        self.binary.log()[before..].to_owned()
    }

    #[track_caller]
    fn reloads(&mut self) -> String {
        let refused = self.refused;
        let log = self.reload();
        assert_eq!(self.refused, refused, "{log}");
        log
    }

    #[track_caller]
    fn is_refused(&mut self, says: &str) {
        let reloaded = self.reloaded;
        let log = self.reload();
        assert!(self.reloaded == reloaded && log.contains(says), "{says} in {log}");
    }

    /// What `connect` answers on a new connection.
    #[track_caller]
    fn enter(&self, token: &str) -> (Client, Value) {
        let mut client = open(self.binary.addr());
        let answer = connect(&mut client, token);
        (client, answer)
    }
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn jwks(keys: &[&KeyPair]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

#[test]
fn keys_and_namespaces_change_under_connections() {
    for variant in VARIANTS {
        let (first, second) = (KeyPair::new("first"), KeyPair::new("second"));
        let config = "token-jwks = \"FOLDER/jwks.json\"\ncores = \"0-1\"\n[namespace.room]\nsubscribe = \"token\"\n";
        let mut stage = Stage::new(variant, &[("corewire.toml", config), ("jwks.json", &jwks(&[&first]))]);
        let ada = json!({"sub": "ada", "subscribe": ["room:a"]});
        let (mut client, ack) = stage.enter(&first.token(ada.clone()));
        is_ack(&ack);
        is_ack(&subscribe(&mut client, "room:a"));
        is_error(&publish(&mut client, "room:a", json!(1)), "forbidden", "clients may not publish here");
        let (_, answer) = stage.enter(&second.token(ada.clone()));
        is_error(&answer, "token_invalid", "`kid` names a key that this server does not have");

        stage.write("jwks.json", &jwks(&[&second]));
        stage.write(
            "corewire.toml",
            &config.replace("subscribe = \"token\"", "publish = \"public\"\npublish_rate = \"1/h\""),
        );
        let log = stage.reloads();
        assert!(log.contains("key_id=\"second\""), "{log}");
        assert!(!log.contains("takes effect at the next start"), "{log}");
        // On each core as soon as it takes note.
        until("the first key is gone", || stage.enter(&first.token(ada.clone())).1["code"] == "token_invalid");
        until("the second is there", || stage.enter(&second.token(ada.clone())).1["type"] == "ack");
        until("it may publish", || {
            let answer = publish(&mut client, "room:a", json!(1));
            if answer["type"] == "error" {
                return false;
            }
            // The answer and what it hears itself, in any order.
            assert_ne!(answer["type"], common::v1::hear(&mut client)["type"]);
            true
        });
        is_error(&publish(&mut client, "room:a", json!(2)), "rate_limited", "more than 1 publications per hour");
        is_ack(&connect(&mut client, &second.token(ada.clone())));

        stage.write("corewire.toml", &format!("anonymous = \"off\"\nmessage-rate = \"1/h\"\n{config}"));
        stage.reloads();
        until("tokens are needed", || Client::tcp(stage.binary.addr()).ask("/ws?topic=a", "").status == 401);
        until("messages are counted", || ping(&mut client)["code"] == "rate_limited");
    }
}

#[test]
fn a_bad_file_is_refused_and_changes_nothing() {
    for variant in VARIANTS {
        let (key, other) = (KeyPair::new("key"), KeyPair::new("other"));
        let config = "token-jwks = \"FOLDER/jwks.json\"\n\n[namespace.default]\nsubscribe = \"token\"\n";
        let mut stage = Stage::new(variant, &[("corewire.toml", config), ("jwks.json", &jwks(&[&key]))]);
        let ada = json!({"sub": "ada", "subscribe": ["a"]});
        let (mut client, ack) = stage.enter(&key.token(ada.clone()));
        is_ack(&ack);
        is_ack(&subscribe(&mut client, "a"));

        stage.write("corewire.toml", &format!("{config}\nsubscribe = \"public\"\n"));
        stage.is_refused("corewire.toml, line 6: not TOML: ");
        stage.write("corewire.toml", &format!("{config}presence = \"maybe\"\n"));
        stage.is_refused("corewire.toml, line 5: presence of the namespace default: `maybe` is not known");
        stage.write("corewire.toml", &format!("idle-timeout = 10\n{config}"));
        stage.is_refused("--idle-timeout (");
        fs::remove_file(stage.folder.path("corewire.toml")).expect("it was there");
        stage.is_refused("--config: cannot read ");

        // One part is good, another is not: none is taken.
        stage.write("corewire.toml", &config.replace("\"token\"", "\"public\""));
        fs::remove_file(stage.folder.path("jwks.json")).expect("it was there");
        stage.is_refused("jwks.json: No such file");
        stage.write("jwks.json", "{\"keys\":\n[}");
        stage.is_refused("jwks.json, line 2, column 2: not JSON here");
        let twice = jwks(&[&other, &other]);
        stage.write("jwks.json", &twice);
        stage.is_refused("two keys for EdDSA have the same `kid`");
        for _ in 0..8 {
            is_ack(&stage.enter(&key.token(ada.clone())).1);
            is_error(&stage.enter(&other.token(ada.clone())).1, "token_invalid", "`kid`");
            assert_eq!(Client::tcp(stage.binary.addr()).ask("/ws?topic=a", "").status, 401, "it is not public");
        }
        is_ack(&ping(&mut client));

        stage.write("jwks.json", &jwks(&[&other]));
        stage.reloads();
        until("it is public", || Client::tcp(stage.binary.addr()).ask("/ws?topic=a", "").status == 101);
        is_ack(&ping(&mut client));
        stage.binary.signal(Signal::TERM);
        assert_eq!(client.close_frame().0, 1001);
        drop(client);
        assert_eq!(stage.binary.wait().code(), Some(0));
    }
}

#[test]
fn what_cannot_change_is_said() {
    let mut stage = Stage::new(VARIANTS[0], &[("corewire.toml", "idle-timeout = \"1m\"\n")]);
    stage.write(
        "corewire.toml",
        "idle-timeout = \"50s\"\nmax-connections = 5\n[namespace.default]\nsubscribe = \"token\"\n",
    );
    let log = stage.reloads();
    for option in ["idle-timeout", "max-connections"] {
        assert!(log.contains(&format!("--{option} has changed: it takes effect at the next start")), "{log}");
    }
    assert!(log.contains("[namespace.default] wants tokens, and there are no keys"), "{log}");
    until("the rest has changed", || Client::tcp(stage.binary.addr()).ask("/ws?topic=a", "").status == 401);
}

#[test]
fn certificates_change_under_connections() {
    for variant in VARIANTS {
        let (old, new) = (Pki::new(), Pki::new());
        let config = "tls-cert = \"FOLDER/cert.pem\"\ntls-key = \"FOLDER/key.pem\"\ncores = \"0-1\"\n";
        let mut stage =
            Stage::new(variant, &[("corewire.toml", config), ("cert.pem", &old.cert), ("key.pem", &old.key)]);
        let addr = stage.binary.addr();
        let enter = |pki: &Pki| {
            let mut client = open_on(pki::connect(addr, &pki.client(rustls::ALL_VERSIONS, false)));
            is_ack(&common::v1::ask(&mut client, json!({"type": "connect", "id": 1})));
            client
        };
        let mut client = enter(&old);
        // The key of another certificate.
        stage.write("key.pem", &new.key);
        stage.is_refused("TLS: ");
        drop(enter(&old));
        stage.write("cert.pem", &new.cert);
        stage.reloads();
        let is_new = || std::panic::catch_unwind(|| drop(enter(&new))).is_ok();
        until("the new certificate is shown", is_new);
        for _ in 0..4 {
            is_ack(&ping(&mut client));
        }
    }
}

/// The first back end is gone for good: what waits for it goes to the next one, signed with the next secret, in the
/// same sequence, and without waiting for an hour.
#[test]
fn a_back_end_moves() {
    for variant in VARIANTS {
        let first = Target::agreeable();
        let allows = json!({"allow": true}).to_string();
        let (second, asked) = (Target::agreeable(), Target::start(move |_| Say::ok(allows.clone())));
        let config = |webhook: &str, retry: &str, proxy: &str, events: &str| {
            format!(
                "webhook-url = \"{webhook}\"\nwebhook-secret-file = \"FOLDER/secret\"\n\
                 webhook-retry-min = \"{retry}\"\nwebhook-retry-max = \"1h\"\n\
                 webhook-events = [{events}]\nconnect-proxy = \"{proxy}\"\n"
            )
        };
        let events = "\"connected\", \"subscribed\"";
        let before = config(&first.url(), "1h", &asked.url(), events);
        let mut stage = Stage::new(variant, &[("corewire.toml", &before), ("secret", "a secret of some length")]);
        let _one = Client::open_at(stage.binary.addr(), "/ws?topic=a");
        assert_eq!(first.wait_for_events(2)[1]["seq"], 2);
        first.stop();
        let _two = Client::open_at(stage.binary.addr(), "/ws?topic=b");
        stage.binary.wait_for_log("events could not be delivered to the webhook");

        // What is no good changes nothing, the good part of it neither.
        stage.write("corewire.toml", &config(&second.url(), "1h", "nowhere", events));
        stage.is_refused("connect-proxy");
        // The last question goes to who is asked no more.
        let questions = asked.count();
        let _three = Client::open_at(stage.binary.addr(), "/ws?topic=c");
        assert_eq!((asked.count(), second.count()), (questions + 1, 0));

        let denies = Target::start(|_| Say::ok(json!({"allow": false, "reason": "moved"}).to_string()));
        stage.write("secret", "another secret of some length");
        stage.write("corewire.toml", &config(&second.url(), "30m", &denies.url(), "\"connected\""));
        let log = stage.reloads();
        assert!(log.contains("--webhook-events has changed: it takes effect at the next start"), "{log}");
        assert!(log.matches("takes effect at the next start").count() == 1, "{log}");
        let events = second.wait_for_events(4);
        let seqs: Vec<_> = events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect();
        assert_eq!(seqs, [3, 4, 5, 6]);
        assert!(second.got().iter().all(|got| got.signed_at("another secret of some length") > 0));
        let refused = Client::tcp(stage.binary.addr()).ask("/ws?topic=d", "");
        assert!(refused.status == 403 && refused.body.contains("moved"), "{refused:?}");
        assert_eq!(asked.count(), questions + 1);

        // What is on stays on, and the log says so.
        stage.write("corewire.toml", "demo = \"on\"\n");
        let log = stage.reloads();
        for option in ["webhook-url", "connect-proxy"] {
            let sentence = format!("--{option} has changed: it takes effect at the next start");
            assert!(log.contains(&sentence), "{sentence} in {log}");
        }
        let refused = Client::tcp(stage.binary.addr()).ask("/ws?topic=d", "");
        assert_eq!(refused.status, 403, "{refused:?}");
    }
}
