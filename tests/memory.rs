//! What connections cost in memory: told by cause, and given back after they were hot and after they left.

#![cfg(feature = "cli")]
#![allow(clippy::print_stderr, reason = "what led to a failure is shown beside it")]

mod common;

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use common::binary::Binary;
use common::pki::{self, Pki};
use common::{BINARY, Client, Folder, PATIENCE, VARIANTS, Variant, deflated_frame, frame, request, until};
use common::{tokens, v1};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

const IO_URING: Variant = VARIANTS[0];
const EPOLL: Variant = VARIANTS[2];

fn start(variant: Variant, args: &[&str]) -> Binary {
    Binary::on_any_port(variant, &[&["echo", "--admin", "127.0.0.1:0", "--ping-interval", "0"], args].concat())
}

// ---- told by cause -------------------------------------------------------------------------------------------

#[test]
fn memory_is_told_by_cause_on_io_uring() {
    memory_is_told_by_cause(VARIANTS[1]);
}

#[test]
fn memory_is_told_by_cause_on_epoll() {
    memory_is_told_by_cause(EPOLL);
}

fn memory_is_told_by_cause(variant: Variant) {
    let binary = start(variant, &["--deflate", "dedicated"]);
    let memory = |cause: &str| binary.metric("memory_bytes", &format!("cause={cause:?}"));
    let at = |temperature: &str| binary.metric("connections_by_temperature", &format!("temperature={temperature:?}"));

    let idle: Vec<_> = (0..600).map(|_| Client::open(binary.addr())).collect();
    until("records are counted", || memory("record") > 0);
    until("all are cold", || (at("cold"), at("hot")) == (600, 0));
    // Whole pages on each core, and no more than one that is not full: nothing but the record, place and session.
    let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
    until("the walk has seen all", || memory("record") >= 600 * 72);
    assert!(memory("record") <= (600 + 256 * cores) * 96, "{}", memory("record"));
    for cause in ["queue", "deflate", "tls"] {
        assert_eq!(memory(cause), 0, "{cause}");
    }
    // Those of connections that were hot are freed step by step.
    until("there is a read buffer per core and little else", || memory("buffers") < cores * (100 << 10));
    let buffers_idle = memory("buffers");

    // Half a message, which waits for its other half.
    let mut halves: Vec<_> = (0..5).map(|_| Client::open(binary.addr())).collect();
    halves.iter_mut().for_each(|client| client.send_raw(&frame(BINARY, &[1; 200_000])[..100_000]));
    // A compressed message: from then on each side keeps its window.
    let mut compressed = Client::tcp(binary.addr()).upgraded("Sec-WebSocket-Extensions: permessage-deflate\r\n");
    compressed.send_raw(&deflated_frame(BINARY, &[2; 1000]));
    assert!(compressed.frame().rsv1);
    // Echoes that nobody reads.
    let deaf = Client::tcp_narrow(binary.addr()).upgraded("");
    let mut speaking = deaf.writer();
    let speaker = thread::spawn(move || while speaking.write_all(&frame(BINARY, &[3; 60_000])).is_ok() {});

    until("input that waits is seen", || memory("buffers") >= buffers_idle + 5 * 99_000);
    until("contexts are seen", || memory("deflate") >= 400 << 10);
    until("queues are seen", || memory("queue") >= 900_000);
    if variant.restless {
        // Those in the middle of a message wait in the ring, or did until they were silent for too long.
        assert!(at("hot") > 0 || binary.metric("demotions_total", "") > 0);
    }
    // Some may change sides between the two questions.
    until("all are counted", || at("cold") + at("hot") == 600 + 5 + 1 + 1);

    deaf.writer().shutdown(Shutdown::Both).expect("it is connected");
    speaker.join().expect("it was told that nobody is there");
    drop((idle, halves, compressed, deaf));
    until("all are gone", || (at("cold"), at("hot")) == (0, 0));
    let mut told = [u64::MAX; 3];
    until("nothing is left", || {
        let left = ["queue", "deflate", "buffers"].map(memory);
        if left != told {
            eprintln!("{left:?} bytes are left, and there were {buffers_idle} in buffers");
            told = left;
        }
        left[..2] == [0, 0] && left[2] <= buffers_idle
    });
}

#[test]
fn tls_sessions_are_told_of() {
    let (folder, pki) = (Folder::new(), Pki::new());
    let (cert, key) = (folder.path("cert.pem"), folder.path("key.pem"));
    std::fs::write(&cert, &pki.cert).expect("a file");
    std::fs::write(&key, &pki.key).expect("a file");
    let paths = [&cert, &key].map(|path| path.to_str().expect("an ASCII path"));
    let binary = start(IO_URING, &["--tls-cert", paths[0], "--tls-key", paths[1]]);
    let config = pki.client(&[&rustls::version::TLS13], false);
    let clients: Vec<_> = (0..20).map(|_| pki::connect(binary.addr(), &config).upgraded("")).collect();
    let tls = || binary.metric("memory_bytes", "cause=\"tls\"");
    until("all sessions are seen", || tls() >= 20 * 3_500);
    assert!(tls() <= 20 * 4_500, "{}", tls());
    drop(clients);
    until("none is left", || tls() == 0);
}

// ---- given back ----------------------------------------------------------------------------------------------

const CROWD: usize = 500;

/// Restless, so that connections become hot whatever the load.
#[test]
fn waves_of_hot_connections_leave_no_memory_behind_on_io_uring() {
    let binary = start(VARIANTS[1], &[]);
    let mut crowd = come(&binary);
    until("they have settled", || binary.metric("memory_returns_total", "") > 0);
    let idle = binary.anonymous_kib();
    until("they have been hot", || {
        talk(&mut crowd);
        binary.metric("promotions_total", "") >= 2 * CROWD as u64
    });
    let silent_max = idle + CROWD as u64 * 240 / 1024 + SLACK_KIB;
    until("those who fell silent cost little again", || binary.anonymous_kib() <= silent_max);
    drop(crowd);
    waves(&binary);
    assert!(binary.metric("promotions_total", "") >= 6 * CROWD as u64);
}

#[test]
fn waves_leave_no_memory_behind_on_epoll() {
    waves(&start(EPOLL, &[]));
}

/// Five times: come, talk, leave while still hot.
fn waves(binary: &Binary) {
    let mut first = None;
    for wave in 1..=5 {
        let mut crowd = come(binary);
        (0..6).for_each(|_| talk(&mut crowd));
        let heated = binary.anonymous_kib();
        drop(crowd);
        until("all are gone", || binary.metric("connections", "") == 0);
        match first {
            None => {
                // Two looks of the core, and as long again.
                thread::sleep(Duration::from_secs(4));
                first = Some(binary.anonymous_kib());
            }
            Some(first) => {
                let most = first * 11 / 10 + SLACK_KIB;
                until("memory is given back", || binary.anonymous_kib() <= most);
            }
        }
        eprintln!("wave {wave}: {heated} KiB, then {} KiB; {first:?} after the first", binary.anonymous_kib());
    }
    assert!(binary.metric("memory_returns_total", "") > 0);
}

fn come(binary: &Binary) -> Vec<Client> {
    (0..CROWD).map(|_| Client::open(binary.addr())).collect()
}

/// Everybody says something, and then everybody gets an answer.
fn talk(crowd: &mut [Client]) {
    let message = frame(BINARY, &[7; 64]);
    crowd.iter_mut().for_each(|client| client.send_raw(&message));
    crowd.iter_mut().for_each(|client| assert_eq!(client.message(), (BINARY, vec![7; 64])));
}

#[test]
fn large_messages_leave_no_memory_behind_on_io_uring() {
    large_messages_leave_no_memory_behind(IO_URING);
}

#[test]
fn large_messages_leave_no_memory_behind_on_epoll() {
    large_messages_leave_no_memory_behind(EPOLL);
}

/// Buffers are kept while large messages come, whoever sends them, and given back when no more do.
fn large_messages_leave_no_memory_behind(variant: Variant) {
    let binary = start(variant, &["--cores", "0"]);
    let buffers = || binary.metric("memory_bytes", "cause=\"buffers\"");
    let mut clients: Vec<_> = (0..4).map(|_| Client::open(binary.addr())).collect();
    until("buffers are counted", || buffers() > 0);
    let (idle, idle_kib) = (buffers(), settled_kib(&binary));
    let payload: Vec<_> = (0..1_000_000u32).map(|n| n as u8).collect();
    until("buffers are kept", || {
        for client in &mut clients {
            client.send(BINARY, &payload);
            assert_eq!(client.message(), (BINARY, payload.clone()));
        }
        buffers() >= idle + 1_000_000
    });
    until("buffers are given back", || buffers() <= idle);
    until("memory is given back", || binary.anonymous_kib() <= idle_kib + SLACK_KIB);
}

/// What a process may grow by for other reasons; the allocator's units are large beside so few connections.
const SLACK_KIB: u64 = 768;

// ---- what a user costs ---------------------------------------------------------------------------------------

/// With one subscription each, all to one topic. On epoll, where no connection has a buffer of its own.
#[test]
fn what_a_connection_of_serve_costs() {
    const FEW: usize = 500;
    const MANY: usize = 4000;
    raise_open_files();
    let folder = Folder::new();
    let secret = folder.path("secret");
    std::fs::write(&secret, tokens::SECRET).expect("a file");
    let secret = secret.to_str().expect("an ASCII path");
    let serve = ["serve", "--admin", "127.0.0.1:0", "--ping-interval", "0", "--cores", "0", "--token-secret", secret];
    let echo = ["echo", "--admin", "127.0.0.1:0", "--ping-interval", "0", "--cores", "0"];
    let cost = |args: &[&str], open: &(dyn Fn(&Binary, usize) -> Client + Sync)| {
        let binary = Binary::on_any_port(EPOLL, args);
        let mut crowd: Vec<_> = (0..FEW).map(|n| open(&binary, n)).collect();
        let before = settled_kib(&binary);
        crowd.extend((FEW..FEW + MANY).map(|n| open(&binary, n)));
        let after = settled_kib(&binary);
        (after - before) * 1024 / MANY as u64
    };
    let bare = || cost(&echo, &|binary, _| Client::open(binary.addr()));
    let raw = || cost(&serve, &|binary, _| Client::open_at(binary.addr(), "/ws?topic=news"));
    let anonymous = || {
        cost(&serve, &|binary, _| {
            let mut client = v1::open(binary.addr());
            v1::is_ack(&v1::ask(&mut client, json!({"type": "connect", "id": 1})));
            v1::is_ack(&v1::subscribe(&mut client, "news"));
            client
        })
    };
    let user = || {
        cost(&serve, &|binary, n| {
            let claims = json!({
                "sub": format!("user-{n}"),
                "subscribe": ["news", "chat:**"],
                "publish": ["chat:**"],
                "info": {"name": format!("User {n}")},
            });
            let mut client = v1::open(binary.addr());
            v1::is_ack(&v1::connect(&mut client, &tokens::token(claims)));
            v1::is_ack(&v1::subscribe(&mut client, "news"));
            client
        })
    };
    // Each has a process of its own and mostly waits until that has settled: two at a time.
    let both = |one: &(dyn Fn() -> u64 + Sync), other: &(dyn Fn() -> u64 + Sync)| {
        thread::scope(|scope| {
            let one = scope.spawn(one);
            let other = other();
            (one.join().expect("no panic"), other)
        })
    };
    let (bare, raw) = both(&bare, &raw);
    let (anonymous, user) = both(&anonymous, &user);
    eprintln!("bytes per connection: bare {bare}, raw {raw}, corewire.v1 {anonymous}, of a user {user}");
    // 64, and what pages of 4 KiB blur.
    assert!(raw <= bare + 64 + 16, "a raw connection costs {raw} bytes, a bare one {bare}");
    assert!(user <= 1024, "a user's connection costs {user} bytes");
}

/// Clients are descriptors of this process.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .expect("up to the hard limit");
}

/// Once it has not changed for two looks of the core. A machine that stood still meanwhile may have kept it from looking.
fn settled_kib(binary: &Binary) -> u64 {
    loop {
        let (before, start) = (binary.anonymous_kib(), Instant::now());
        thread::sleep(Duration::from_millis(1200));
        if binary.anonymous_kib() == before && start.elapsed() < Duration::from_millis(1800) {
            return before;
        }
    }
}

// ---- descriptors ---------------------------------------------------------------------------------------------

#[test]
fn the_limit_of_open_files_is_told_as_connections_and_counted_as_a_reason() {
    const FILES: u32 = 120;
    let args = ["echo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--max-connections", "1000"];
    let binary = Binary::start_with_files(EPOLL, Some(FILES), 1, &args);
    binary.wait_for_log("raise it (ulimit -Hn");
    let log = binary.log();
    let allowed = log.split("connections_allowed=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let allowed: usize = allowed.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{log}"));
    assert!(allowed < FILES as usize - 16 && allowed > 20, "{allowed}");

    // Before the crowd comes: afterwards there may be no descriptor left to be asked through.
    let refused = || binary.metric("refusals_total", "reason=\"descriptors\"");
    let mut crowd: Vec<_> = (0..allowed).map(|_| Client::open(binary.addr())).collect();
    assert_eq!(refused(), 0, "as many as it said have room");
    let mut more: Vec<_> = (0..50).map(|_| Client::tcp(binary.addr())).collect();
    more.iter_mut().for_each(|client| client.send_raw(request("/", "").as_bytes()));
    binary.wait_for_log("accepting pauses");
    // Some leave, so that there is room to ask.
    crowd.drain(..).for_each(Client::close);
    assert!(refused() > 0);
    for client in &mut more {
        client.set_read_timeout(PATIENCE);
        assert_eq!(client.reply().status, 101, "who waited is let in");
    }
}
