use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::config::options::{self, Accepts, OPTIONS, Shown};
use crate::config::{Command, ListenAddr, OriginSetting};
use crate::connection::Limits;
use crate::rate::Rate;
use crate::topics::{Access, Namespace, SlowConsumer, Topic};

/// A machine: variables and files by name.
#[derive(Default)]
struct World {
    variables: HashMap<String, String>,
    files: HashMap<String, String>,
}

impl World {
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    fn invoke(&self, args: &[&str]) -> Result<Invocation, ConfigError> {
        let args = std::iter::once("corewire").chain(args.iter().copied()).map(OsString::from);
        Config::from_sources(
            args,
            |name| self.variables.get(name).cloned(),
            |path| {
                let text = path.to_str().and_then(|path| self.files.get(path));
                text.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
            },
        )
    }

    fn load(&self, args: &[&str]) -> Loaded {
        match self.invoke(args) {
            Ok(Invocation::Run(loaded) | Invocation::Check(loaded)) => loaded,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn refuse(&self, args: &[&str]) -> String {
        self.invoke(args).expect_err("it is wrong").to_string()
    }
}

fn load(args: &[&str]) -> Loaded {
    World::default().load(args)
}

fn refuse(args: &[&str]) -> String {
    World::default().refuse(args)
}

fn with_pems() -> World {
    World::default()
        .file("cert.pem", "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n")
        .file("key.pem", "-----BEGIN EC PRIVATE KEY-----\nMII=\n-----END EC PRIVATE KEY-----\n")
        .file("empty.pem", "")
        .file("api.keys", "# the first back end\n0123456789abcdef\n")
        .file("secret", "a secret of more than thirty-two bytes\n")
        .file("public.pem", PUBLIC_KEY)
        .file(
            "jwks.json",
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"kdK8diySkmrsEjNGOmW978jPVysUmYjbSHgkXfsQP9E"}]}"#,
        )
        .file("secret.txt", "a secret of some length\n")
}

const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAkdK8diySkmrsEjNGOmW978jPVysUmYjbSHgkXfsQP9E=
-----END PUBLIC KEY-----
";

/// A value that no default has, for each option.
fn unusual(name: &str) -> &'static str {
    match name {
        "listen" => "[::1]:7000",
        "unix-mode" => "600",
        "cores" => "1-2,5",
        "driver" => "epoll",
        "tls-cert" => "cert.pem",
        "tls-key" => "key.pem",
        "tls-client-ca" => "cert.pem",
        "origin" => "https://example.com",
        "demo" => "on",
        "strict-namespaces" => "on",
        "trusted-proxy" => "10.0.0.0/8",
        "max-connections" => "7000",
        "max-connections-per-address" => "70",
        "message-rate" => "30/m",
        "token-secret" => "secret",
        "token-key" => "public.pem",
        "token-jwks" => "jwks.json",
        "token-audience" => "corewire",
        "token-issuer" => "https://login.example.com",
        "token-leeway" => "5s",
        "anonymous" => "off",
        "max-connections-per-user" => "7",
        "deflate" => "dedicated",
        "max-message-bytes" => "2MiB",
        "max-frame-bytes" => "1MiB",
        "max-fragments" => "7",
        "max-queued-bytes" => "3MiB",
        "max-header-bytes" => "8KiB",
        "handshake-timeout" => "7s",
        "idle-timeout" => "3m",
        "ping-interval" => "1m",
        "close-timeout" => "2s",
        "max-lifetime" => "1h",
        "webhook-url" => "https://example.com/events?key=1",
        "webhook-secret-file" => "secret.txt",
        "webhook-events" => "vacated",
        "webhook-batch-events" => "7",
        "webhook-batch-wait" => "7ms",
        "webhook-queue-events" => "70",
        "webhook-queue-bytes" => "7MiB",
        "webhook-timeout" => "6s",
        "webhook-retry-min" => "70ms",
        "webhook-retry-max" => "7s",
        "webhook-drain-time" => "4s",
        "connect-proxy" => "http://127.0.0.1:7002/may",
        "connect-proxy-timeout" => "2s",
        "connect-proxy-requests" => "9",
        "admin" => "127.0.0.1:7001",
        "api-key" => "an-unusual-api-key",
        "api-key-file" => "api.keys",
        "drain-delay" => "8s",
        "drain-time" => "9s",
        "log" => "json",
        "log-level" => "debug",
        other => panic!("an option without a value in this table: {other}"),
    }
}

/// Other options without which the value of one would be refused.
fn companions(name: &str) -> &'static [&'static str] {
    match name {
        "tls-cert" => &["tls-key"],
        "tls-key" => &["tls-cert"],
        "tls-client-ca" => &["tls-cert", "tls-key"],
        "anonymous" => &["token-key"],
        "webhook-url" => &["webhook-secret-file"],
        _ => &[],
    }
}

fn shown(loaded: &Loaded, name: &str) -> Shown {
    (options::find(name).expect(name).get)(&loaded.config)
}

#[test]
fn a_switch_needs_no_value_and_takes_none_that_is_not_its_own() {
    assert!(!load(&[]).config.demo);
    for (args, want) in [(&["--demo"][..], true), (&["--demo=off"], false), (&["--demo", "serve"], true)] {
        let loaded = load(args);
        assert_eq!((loaded.config.demo, loaded.config.command), (want, Command::Serve), "{args:?}");
    }
    assert!(refuse(&["--demo=maybe"]).contains("maybe"));
}

#[test]
fn every_option_can_be_said_in_every_source_and_means_the_same() {
    for spec in OPTIONS {
        let mut args = Vec::new();
        for name in companions(spec.name) {
            args.extend([format!("--{name}"), unusual(name).to_owned()]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let value = unusual(spec.name);
        let want = match spec.accepts {
            Accepts::Count(..) => Shown::Number(value.parse().expect(value)),
            _ if spec.name == "api-key" => Shown::Hidden,
            _ if spec.repeatable => Shown::List(vec![value.to_owned()]),
            _ => Shown::Text(value.to_owned()),
        };

        let flag = format!("--{}={value}", spec.name);
        let loaded = with_pems().load(&[&args[..], &[&flag]].concat());
        assert_eq!((shown(&loaded, spec.name), loaded.source(spec.name)), (want.clone(), &Source::CommandLine));

        let loaded = with_pems().variable(&spec.variable(), value).load(&args);
        let variable = Source::Environment(spec.variable());
        assert_eq!((shown(&loaded, spec.name), loaded.source(spec.name)), (want.clone(), &variable));

        let file = format!("\n{} = \"{value}\"\n", spec.name);
        let loaded = with_pems().file("c.toml", &file).load(&[&args[..], &["--config", "c.toml"]].concat());
        let line = Source::File { path: Path::new("c.toml").into(), line: 2 };
        assert_eq!((shown(&loaded, spec.name), loaded.source(spec.name)), (want, &line));
    }
}

#[test]
fn the_command_line_wins_over_the_environment_over_the_file_over_the_default() {
    let idle = |world: &World, args: &[&str]| world.load(args).config.limits.idle_timeout.as_secs();
    let world = World::default();
    assert_eq!(idle(&world, &[]), 120);
    let world = world.file("c.toml", "idle-timeout = \"201s\"").variable("COREWIRE_CONFIG", "c.toml");
    assert_eq!(idle(&world, &[]), 201);
    let world = world.variable("COREWIRE_IDLE_TIMEOUT", "202s");
    assert_eq!(idle(&world, &[]), 202);
    assert_eq!(idle(&world, &["--idle-timeout", "203s"]), 203);
    let world = world.variable("COREWIRE_IDLE_TIMEOUT", "");
    assert_eq!(idle(&world, &[]), 201, "an empty variable is not set");
    let world = world.file("d.toml", "idle-timeout = \"204s\"");
    assert_eq!(idle(&world, &["--config", "d.toml"]), 204, "--config wins over COREWIRE_CONFIG");
}

#[test]
fn a_list_is_taken_whole_from_the_winner() {
    let world = World::default()
        .file("c.toml", "origin = [\"https://a.example\", \"https://b.example\"]")
        .variable("COREWIRE_CONFIG", "c.toml");
    let origins = |world: &World, args: &[&str]| match world.load(args).config.origin {
        OriginSetting::List(origins) => origins.join(" "),
        other => format!("{other:?}"),
    };
    assert_eq!(origins(&world, &[]), "https://a.example https://b.example");
    assert_eq!(origins(&world, &["--origin", "https://c.example"]), "https://c.example");
    let twice = ["--origin", "https://c.example", "--origin", "https://d.example, https://e.example"];
    assert_eq!(origins(&world, &twice), "https://c.example https://d.example https://e.example");
    assert_eq!(origins(&world, &["--origin", "*"]), "Any");
    assert_eq!(origins(&world, &["--origin", "same-host"]), "SameHost");
    let world = world.variable("COREWIRE_ORIGIN", "https://x.example,https://y.example");
    assert_eq!(origins(&world, &[]), "https://x.example https://y.example");
}

#[test]
fn options_may_stand_on_both_sides_of_the_command() {
    let loaded = load(&["--listen", "127.0.0.1:1", "echo", "--listen", "unix:/s"]);
    assert_eq!(loaded.config.command, Command::Echo);
    let listen: Vec<String> = loaded.config.listen.iter().map(ListenAddr::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:1", "unix:/s"]);
}

#[test]
fn the_admin_listener_is_on_for_serve_and_off_for_the_others_unless_given() {
    let admin = |args: &[&str]| load(args).config.admin.map(|addr| addr.to_string());
    let default = Some("127.0.0.1:9090".to_owned());
    assert_eq!(admin(&[]), default);
    assert_eq!(admin(&["serve"]), default);
    assert_eq!(admin(&["echo"]), None);
    assert_eq!(admin(&["broadcast"]), None);
    assert_eq!(admin(&["echo", "--admin", "127.0.0.1:9090"]), default);
    assert_eq!(admin(&["serve", "--admin", "off"]), None);
}

#[test]
fn numbers_in_the_file_may_be_numbers() {
    let file = "max-message-bytes = 65536\nmax-fragments = 1_000\nunix-mode = 0o600\nmax-connections = \"10k\"\nidle-timeout = 0\n";
    let config = World::default().file("c.toml", file).load(&["--config", "c.toml"]).config;
    assert_eq!(config.limits.message_bytes_max, 65_536);
    assert_eq!(config.limits.fragments_max, 1000);
    assert_eq!(config.unix_mode, 0o600);
    assert_eq!(config.max_connections, Some(10_000));
    assert_eq!(config.limits.idle_timeout, Duration::ZERO);
    let config = World::default().file("c.toml", "unix-mode = 600").load(&["--config", "c.toml"]).config;
    assert_eq!(config.unix_mode, 0o600);
}

#[test]
fn defaults_follow_what_was_given() {
    let limits = load(&["--max-message-bytes", "64k", "--idle-timeout", "20s"]).config.limits;
    assert_eq!(limits.frame_bytes_max, 65_536);
    assert_eq!(limits.ping_interval, Duration::from_secs(5));

    let limits = load(&["--max-message-bytes", "1G", "--idle-timeout", "0"]).config.limits;
    assert_eq!(limits.frame_bytes_max, 1 << 30);
    assert_eq!(limits.ping_interval, Duration::from_secs(30));

    let limits = load(&["--idle-timeout", "1h"]).config.limits;
    assert_eq!(limits.ping_interval, Duration::from_secs(30));

    let limits = load(&["--max-queued-bytes", "1M"]).config.limits;
    assert_eq!(limits.queued_bytes_pause, 512 << 10);
    assert_eq!(load(&[]).config.limits.queued_bytes_pause, Limits::default().queued_bytes_pause);
}

#[test]
fn a_wrong_value_names_option_source_fault_and_remedy() {
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["--max-message-bytes", "64q"],
            &["error: --max-message-bytes: `64q` is not a size", "64k or 16MiB, 125 to 4GiB"],
        ),
        (&["--idle-timeout", "10"], &["--idle-timeout: `10` has no unit; write 10s"]),
        (&["--handshake-timeout", "0"], &["`0` is less than 1ms"]),
        (&["--deflate", "share"], &["`share` is not known; perhaps shared", "one of off, shared, dedicated"]),
        (&["--listen", "8080"], &["--listen: `8080`: it names no host; write 127.0.0.1:8080"]),
        (&["--listen", "127.0.0.1:1,"], &["--listen: "]),
        (&["--cores", "0-2,1"], &["--cores: `0-2,1`: core 1 is listed twice"]),
        (&["--origin", "example.com"], &["perhaps https://example.com"]),
        (&["--origin", "*", "--origin", "https://a.b"], &["stand alone"]),
        (&["--trusted-proxy", "10.0.0.1/8"], &["perhaps 10.0.0.0/8"]),
        (&["--unix-mode", "888"], &["`888` is not an octal number"]),
        (&["--tls-cert", ""], &["--tls-cert: ", "the path is empty"]),
        (&["--max-mesage-bytes", "1"], &["error: unexpected argument", "--max-message-bytes"]),
        (&["eco"], &["'echo'"]),
        (&["--idle-timeout", "1m", "--idle-timeout", "2m"], &["cannot be used multiple times"]),
        (&["--config", "none.toml"], &["--config: cannot read none.toml: entity not found"]),
    ];
    for (args, wants) in cases {
        let got = refuse(args);
        for want in *wants {
            assert!(got.contains(want), "{args:?}: {got}");
        }
        assert_eq!(got.matches("error: ").count(), 1, "{args:?}: {got}");
    }

    let got = World::default().variable("COREWIRE_PING_INTERVAL", "soon").refuse(&[]);
    assert!(got.contains("--ping-interval (variable COREWIRE_PING_INTERVAL): `soon` is not a duration"), "{got}");
}

#[test]
fn a_wrong_file_names_file_and_line() {
    let cases = [
        ("# first\nlisen = \"127.0.0.1:1\"\n", "c.toml, line 2: there is no key `lisen`; perhaps `listen`"),
        ("max_message_bytes = 1\n", "line 1: there is no key `max_message_bytes`; perhaps `max-message-bytes`"),
        ("\n\ncolour = 1\n", "line 3: there is no key `colour`; the keys are"),
        ("[tls]\ncert = 1\n", "line 1: there is no key `tls`"),
        ("log = \"text\"\nlog = \"json\"\n", "line 2: not TOML: "),
        ("log = \n", "line 1: not TOML: "),
        ("\nidle-timeout = 10\n", "--idle-timeout (c.toml, line 2): `10` has no unit"),
        ("admin = true\n", "--admin (c.toml, line 1): it is a TOML boolean, not a string"),
        ("max-fragments = 1.5\n", "it is a TOML float"),
        ("log = [\"text\"]\n", "it is a TOML array, not a string or a number\n"),
        ("origin = [1.5]\n", "or a list of strings"),
        ("listen = []\n", "the list is empty"),
        ("max-fragments = -1\n", "`-1` is not a count"),
        ("max-message-bytes = 0x10000\n", "is not a size"),
        ("namespace = 1\n", "line 1: a namespace is a table: [namespace.default]"),
        ("[namespace]\nprices = 1\n", "line 2: a namespace is a table"),
        ("[namespace.a]\n\nsubscrib = 1\n", "line 3: a namespace has no key `subscrib`; perhaps `subscribe`"),
        ("[namespace.a]\ncolour = 1\n", "line 2: a namespace has no key `colour`; the keys are subscribe, publish, "),
        (
            "[namespace.a]\nsubscribe = \"all\"\n",
            "c.toml, line 2: subscribe of the namespace a: `all` is not known\n  expected: one of public, token",
        ),
        (
            "[namespace.a]\npublish = \"signed\"\n",
            "publish of the namespace a: a token for one topic is for subscribing",
        ),
        ("[namespace.a]\nsubscribe = true\n", "line 2: `subscribe` is a TOML boolean, not a string or a number"),
        ("[namespace.a]\nhistory-ttl = 10\n", "history-ttl of the namespace a: `10` has no unit"),
        ("[namespace.a]\nhistory_messages = 2000000\n", "`2000000` is more than 1000000"),
        ("[namespace.a]\nhistory_messages = 1\nhistory-messages = 2\n", "line 3: `history-messages` stands twice"),
        ("[namespace.a]\npublish-rate = \"1/d\"\n", "`d` is not a unit of time here"),
        ("[namespace.a]\nslow-consumer = \"\"\n", "slow-consumer of the namespace a: it is empty"),
        ("\n[namespace.\"a::b\"]\n", "line 2: no topic can be in the namespace `a::b`: a segment is empty"),
        ("[namespace.a]\n[namespace.a]\n", "line 2: not TOML: "),
    ];
    for (file, want) in cases {
        let got = World::default().file("c.toml", file).refuse(&["--config", "c.toml"]);
        assert!(got.contains(want), "{file}: {got}");
    }
}

#[test]
fn all_wrong_values_are_told_at_once() {
    let world = World::default().file("c.toml", "nonsense = 1\nlog = \"xml\"\n").variable("COREWIRE_DRIVER", "kqueue");
    let got = world.refuse(&["--config", "c.toml", "--cores", "x"]);
    assert_eq!(got.matches("error: ").count(), 4, "{got}");
}

#[test]
fn options_that_do_not_fit_together_are_refused() {
    let cases: &[(&[&str], &str)] = &[
        (&["--tls-cert", "cert.pem"], "--tls-cert: it needs --tls-key"),
        (&["--tls-key", "key.pem"], "--tls-key: it needs --tls-cert"),
        (&["--tls-client-ca", "cert.pem"], "--tls-client-ca: it needs TLS"),
        (
            &["--tls-cert", "key.pem", "--tls-key", "key.pem"],
            "--tls-cert: key.pem holds a private key and no certificate",
        ),
        (
            &["--tls-cert", "cert.pem", "--tls-key", "cert.pem"],
            "--tls-key: cert.pem holds certificates and no private key",
        ),
        (&["--tls-cert", "cert.pem", "--tls-key", "empty.pem"], "--tls-key: empty.pem is not PEM"),
        (&["--tls-cert", "none.pem", "--tls-key", "key.pem"], "--tls-cert: cannot read none.pem"),
        (
            &["--ping-interval", "2m"],
            "--ping-interval and --idle-timeout (default): a peer that is silent would be given up after 2m and pinged only after 2m",
        ),
        (&["--max-frame-bytes", "1G"], "--max-frame-bytes and --max-message-bytes (default): a frame of 1GiB"),
        (&["--listen", "127.0.0.1:1", "--listen", "127.0.0.1:1"], "--listen: 127.0.0.1:1 is given twice"),
        (&["--listen", "unix:/a", "--listen", "unix:/a"], "unix:/a is given twice"),
        (&["--listen", "0.0.0.0:9090"], "--admin (default) and --listen"),
    ];
    for (args, want) in cases {
        let got = with_pems().refuse(args);
        assert!(got.contains(want), "{args:?}: {got}");
    }
}

#[test]
fn options_that_do_fit_together_are_taken_without_a_warning() {
    let cases: &[&[&str]] = &[
        &["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"],
        &["--listen", "127.0.0.1:1", "--listen", "[::1]:1"],
        &["--ping-interval", "5m", "--idle-timeout", "0"],
        &["--ping-interval", "0", "--idle-timeout", "1s"],
        &["--max-frame-bytes", "16M"],
        &["--unix-mode", "600", "--listen", "unix:/s"],
        &["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--tls-client-ca", "cert.pem"],
        &["--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0"],
        &["--admin", "[::1]:9090"],
    ];
    for args in cases {
        let loaded = with_pems().load(args);
        assert!(loaded.warnings.is_empty(), "{args:?}: {:?}", loaded.warnings);
    }
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let cases: &[(&[&str], &str)] = &[
        (&["--unix-mode", "600"], "--unix-mode has no effect"),
        (&["--admin", "0.0.0.0:9090"], "can be reached from other machines"),
        (&["--trusted-proxy", "0.0.0.0/0"], "may claim any address"),
        (&["--max-queued-bytes", "1M"], "but not sent on"),
        (&["--listen", "unix:/s", "--tls-cert", "cert.pem", "--tls-key", "key.pem"], "TLS is for TCP"),
    ];
    for (args, want) in cases {
        let warnings = with_pems().load(args).warnings;
        assert_eq!(warnings.len(), 1, "{args:?}: {warnings:?}");
        assert!(warnings[0].contains(want), "{args:?}: {warnings:?}");
    }
}

#[test]
fn cores_outside_the_affinity_mask_are_refused() {
    assert_eq!(load(&[]).choose_cores(&[0, 3]).expect("all"), [0, 3]);
    assert_eq!(load(&["--cores", "3"]).choose_cores(&[0, 3]).expect("one"), [3]);
    let error = load(&["--cores", "0-2"]).choose_cores(&[0, 3]).expect_err("1 and 2").to_string();
    assert!(error.contains("--cores: cores 1-2 cannot be used by this process"), "{error}");
    assert!(error.contains("cores among 0,3"), "{error}");
}

#[test]
fn help_and_version_are_outcomes() {
    for args in [["-h"], ["--help"]] {
        match World::default().invoke(&args) {
            Ok(Invocation::Print(text)) => assert!(text.contains("--max-message-bytes"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    match World::default().invoke(&["--version"]) {
        Ok(Invocation::Print(text)) => {
            assert_eq!(text, format!("corewire {}\n", env!("CARGO_PKG_VERSION")))
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(World::default().invoke(&["--check-config"]), Ok(Invocation::Check(_))));
    assert!(matches!(World::default().invoke(&[]), Ok(Invocation::Run(_))));
}

#[test]
fn the_effective_configuration_is_a_file_that_gives_itself() {
    let mut args: Vec<String> = Vec::new();
    for spec in OPTIONS {
        args.push(format!("--{}={}", spec.name, unusual(spec.name)));
    }
    args.extend(["--listen".to_owned(), "unix:/tmp/a \"quoted\" \\ path".to_owned()]);
    let all: Vec<&str> = args.iter().map(String::as_str).collect();
    for args in [&[][..], &all] {
        let first = with_pems().load(args);
        let toml = first.to_toml();
        // A secret is not shown, and must be said again.
        let secret = args.iter().filter(|arg| arg.starts_with("--api-key=")).copied();
        let again: Vec<_> = ["--config", "c.toml"].into_iter().chain(secret).collect();
        let second = with_pems().file("c.toml", &toml).load(&again);
        assert!(!toml.contains(unusual("api-key")), "{toml}");
        assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config), "{toml}");
        for spec in OPTIONS {
            assert!(toml.contains(spec.name), "{} in {toml}", spec.name);
        }
    }
}

#[test]
fn the_effective_configuration_tells_where_each_value_came_from() {
    let world = World::default().file("c.toml", "# mine\nlog = \"json\"\n").variable("COREWIRE_DRIVER", "epoll");
    let toml = world.load(&["--config", "c.toml", "--idle-timeout", "20s"]).to_toml();
    for want in [
        "log = \"json\"  # c.toml, line 2\n",
        "driver = \"epoll\"  # variable COREWIRE_DRIVER\n",
        "idle-timeout = \"20s\"  # command line\n",
        "ping-interval = \"5s\"  # default, follows from idle-timeout\n",
        "close-timeout = \"5s\"  # default\n",
        "# tls-cert is not set: no TLS\n",
    ] {
        assert!(toml.contains(want), "{want} in {toml}");
    }
}

#[test]
fn namespaces_have_from_the_default_what_they_do_not_say() {
    let file = "\
[namespace.prices]
history_messages = 1
slow_consumer = \"latest\"
publish-rate = \"10/s\"

[namespace.default]
subscribe = \"token\"
presence = true
history-bytes = \"2MiB\"

[namespace.\"prices:vip\"]
subscribe = \"signed\"
";
    let world = with_pems().file("c.toml", file);
    let loaded = world.load(&["--config", "c.toml", "--token-secret", "secret", "--demo"]);
    assert_eq!(loaded.warnings, [""; 0]);
    let default = Namespace {
        subscribe: Access::Token,
        publish: Access::Public,
        presence: true,
        history_bytes: 2 << 20,
        ..Namespace::default()
    };
    let prices = Namespace {
        name: "prices".into(),
        // What --demo opens is the default namespace alone.
        publish: Access::Nobody,
        history_messages: 1,
        slow_consumer: SlowConsumer::Latest,
        publish_rate: Rate::per_second(10).ok(),
        ..default.clone()
    };
    let vip =
        Namespace { name: "prices:vip".into(), subscribe: Access::Signed, publish: Access::Nobody, ..default.clone() };
    assert_eq!(loaded.config.namespaces, [default, prices, vip]);
    let eur = loaded.config.namespaces().of(&Topic::parse("prices:eur").expect("a topic")).name.clone();
    assert_eq!(eur, "prices");

    let toml = loaded.to_toml();
    for want in [
        "[namespace.\"default\"]\nsubscribe = \"token\"  # c.toml, line 7\npublish = \"public\"  # default, follows from demo\n",
        "history-messages = 100  # default\n",
        "[namespace.\"prices:vip\"]\nsubscribe = \"signed\"  # c.toml, line 12\n",
        "publish = \"nobody\"  # default, follows from namespace.default\n",
        "slow-consumer = \"latest\"  # c.toml, line 3\n",
        "publish-rate = \"10/s\"  # c.toml, line 4\n",
        "publish-rate = \"0\"  # default\n",
    ] {
        assert!(toml.contains(want), "{want} in {toml}");
    }
    let again = world.file("d.toml", &toml).load(&["--config", "d.toml"]);
    assert_eq!(again.config.namespaces, loaded.config.namespaces);
}

#[test]
fn tokens_need_keys_that_can_be_read() {
    let refused = |args: &[&str]| with_pems().refuse(args);
    assert!(refused(&["--anonymous=off"]).contains("--anonymous: nobody could connect"));
    assert!(refused(&["--token-secret", "none"]).contains("--token-secret: cannot read none: entity not found"));
    assert!(refused(&["--token-secret", "empty.pem"]).contains("has 0 bytes; HS256 needs at least 32"));
    assert!(refused(&["--token-secret", "public.pem"]).contains("public.pem holds a key, not a secret"));
    assert!(refused(&["--token-key", "key.pem"]).contains("key.pem, line 1: a private key"));
    assert!(refused(&["--token-jwks", "secret"]).contains("secret, line 1, column 1: not JSON here"));
    assert!(refused(&["--token-secret", ""]).contains("the path is empty"));
    assert!(refused(&["--token-issuer", ""]).contains("the name is empty"));

    let warned = |args: &[&str]| {
        with_pems()
            .file("c.toml", "[namespace.a]\nsubscribe = \"token\"\nmessage_bytes_max = \"1GiB\"\n")
            .load(args)
            .warnings
    };
    assert_eq!(warned(&[]), [""; 0]);
    let warnings = warned(&["--config", "c.toml", "--token-audience", "x"]);
    for (warning, want) in warnings.iter().zip([
        "--token-audience has no effect",
        "[namespace.a] wants tokens",
        "[namespace.a] message-bytes-max (1GiB) is above",
    ]) {
        assert!(warning.contains(want), "{warning}");
    }
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert_eq!(warned(&["--config", "c.toml", "--token-key", "public.pem"]).len(), 1);
}

#[test]
fn a_back_end_is_described_in_whole() {
    let world = with_pems().file("short.txt", "short");
    let cases: &[(&[&str], &str)] = &[
        (&["--webhook-url", "https://a.example/x"], "needs --webhook-secret-file"),
        (&["--webhook-url", "a.example/x"], "must begin with http:// or https://"),
        (&["--connect-proxy", "http://me:secret@a.example/"], "must not carry a user or a password"),
        (&["--webhook-secret-file", "short.txt"], "has 5 bytes, and must have at least 16"),
        (&["--webhook-secret-file", "none.txt"], "cannot read none.txt"),
        (&["--webhook-events", "connect"], "there is no event `connect`; perhaps connected"),
        (&["--webhook-events", "vacated,vacated"], "vacated is given twice"),
        (&["--webhook-retry-min", "1m"], "longer than the longest"),
        (&["--connect-proxy", "http://a.example/", "--connect-proxy-timeout", "10s"], "time would be over before"),
    ];
    for (args, says) in cases {
        let error = world.refuse(args);
        assert!(error.contains(says), "{args:?}: {error}");
    }
    let config = world.load(&["--connect-proxy", "http://a.example/"]).config;
    assert!(config.back_end.proxy().is_some() && config.back_end.webhook().is_none());
    let whole = ["--webhook-url", "https://a.example/x", "--webhook-secret-file", "secret.txt"];
    assert!(world.load(&whole).config.back_end.webhook().is_some());
    assert!(world.load(&["--webhook-secret-file", "secret.txt"]).warnings[0].contains("no effect"));
    assert!(world.load(&[&["echo"][..], &whole].concat()).warnings[0].contains("no effect"));
}
