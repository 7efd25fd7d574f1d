//! What happens when, with a clock that the test sets. A span of time is due one tick late at most, never early.

use std::time::Duration;

use super::*;

const HANDSHAKE: u32 = ticks(10_000);
const PING: u32 = ticks(30_000);
const IDLE: u32 = ticks(120_000);
const CLOSE: u32 = ticks(5_000);

/// The whole ticks of a span, and the one that is under way when it begins.
const fn ticks(millis: u64) -> u32 {
    millis.div_ceil(TICK_MILLIS) as u32 + 1
}

/// Nothing happens just before the deadline, `want` at it, and nothing is told twice.
fn assert_due(end: &mut End, at: u32, want: &str) {
    assert_eq!(end.due_at(), Some(at));
    end.at(at - 1);
    assert_eq!((end.told(), end.due_at()), (String::new(), Some(at)), "one tick early");
    end.at(at);
    assert_eq!(end.told(), want);
    assert_ne!(end.due_at(), Some(at), "what was handled is due no more");
    end.at(at);
    assert_eq!(end.told(), "");
}

#[test]
fn a_peer_that_asks_nothing_is_left_without_a_word() {
    let mut end = End::accepted(Limits::default());
    assert_due(&mut end, HANDSHAKE, "abandoned: TimedOut");
    assert_eq!(end.said(), "");
    assert_eq!(end.connection.next_step(), NextStep::Fin);
}

#[test]
fn half_a_head_is_answered_with_408() {
    let mut end = End::accepted(Limits::default());
    end.read(b"GET / HT");
    // Speaking slowly is no excuse.
    end.now = Tick(START.0 + 100);
    end.read(b"TP/1.1\r\n");
    assert_due(&mut end, HANDSHAKE, "abandoned: TimedOut");
    assert_eq!(end.said(), "HTTP/1.1 408 Request Timeout 'The request head took too long to arrive.'");
    assert_eq!(end.connection.next_step(), NextStep::Fin);
}

#[test]
fn a_decision_that_takes_too_long_is_answered_with_503() {
    for early in [&b""[..], b"\x81\x80\x00\x00\x00\x00"] {
        let mut end = End::accepted(Limits::default());
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        end.read_and(&[head, early].concat(), |connection, _| connection.defer());
        assert_eq!(end.told(), "head of 27 bytes");
        assert_due(&mut end, HANDSHAKE, "abandoned: TimedOut");
        let want = "The server took too long to decide about this request. Try again later.";
        assert_eq!(end.said(), format!("HTTP/1.1 503 Service Unavailable '{want}'"));
    }
}

#[test]
fn silence_is_asked_once_and_then_given_up() {
    for role in ROLES {
        let mut end = End::open(role, Limits::default(), None);
        assert_due(&mut end, PING, "");
        assert_eq!(end.said(), "ping ''");
        assert_due(&mut end, IDLE, "closed 1001 '' by idle");
        assert_eq!(end.said(), "close 1001 'idle'");
        assert_due(&mut end, IDLE + CLOSE, "");
        assert_eq!(end.connection.next_step(), NextStep::Close);
    }
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let pong = frame(Role::Client, 0x8a, b"");
    let half = &frame(Role::Client, 0x81, b"ab")[..3];
    for sign in [&pong[..], half] {
        let mut end = End::server();
        end.at(PING);
        assert_eq!(end.said(), "ping ''");
        end.now = Tick(START.0 + PING + 50);
        end.read(sign);
        end.told();
        // Asked again after as long a silence, and given up from the sign on.
        assert_due(&mut end, PING + 50 + PING, "");
        assert_eq!(end.said(), "ping ''");
        assert_due(&mut end, PING + 50 + IDLE, "closed 1001 '' by idle");
    }
}

#[test]
fn a_peer_that_takes_what_was_queued_lives() {
    let mut end = End::server();
    end.now = Tick(START.0 + 100);
    end.connection.handle_progress(end.now);
    assert_eq!(end.due_at(), Some(100 + PING));
}

#[test]
fn our_close_is_waited_for_once() {
    for role in ROLES {
        let mut end = End::open(role, Limits::default(), None);
        end.now = Tick(START.0 + 10);
        end.close(4000, "bye");
        assert_due(&mut end, 10 + CLOSE, "closed 4000 '' by local");
        // From our Close to the end: the peer had its time.
        assert_eq!(end.connection.next_step(), NextStep::Close);
        assert_eq!(end.connection.queued_bytes(), 0);
    }
}

#[test]
fn an_answered_close_does_not_begin_the_time_anew() {
    let mut end = End::server();
    end.close(1000, "");
    end.output();
    end.now = Tick(START.0 + 100);
    end.read(&frame(Role::Client, 0x88, b"\x03\xe8"));
    assert_eq!(end.told(), "closed 1000 '' by local");
    assert_due(&mut end, CLOSE, "");
    assert_eq!(end.connection.next_step(), NextStep::Close);
}

#[test]
fn the_peers_close_leaves_time_for_its_fin() {
    let mut end = End::server();
    end.now = Tick(START.0 + 100);
    end.read(&frame(Role::Client, 0x88, b"\x03\xe8"));
    end.told();
    end.output();
    end.connection.fin_sent();
    assert_eq!(end.connection.next_step(), NextStep::Wait);
    assert_due(&mut end, 100 + CLOSE, "");
    assert_eq!(end.connection.next_step(), NextStep::Close);
}

#[test]
fn a_life_ends_at_most_a_tenth_early() {
    let limits = Limits {
        lifetime_max: Some(Duration::from_secs(3600)),
        ping_interval: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        ..Limits::default()
    };
    let mut workspace = Workspace::new(limits.clone(), SEED);
    let lives: Vec<u32> = (0..1000)
        .map(|_| Connection::established(Role::Server, None, &mut workspace, START).deadline(&workspace).0 - START.0)
        .collect();
    let (shortest, longest) = (lives.iter().min().expect("some"), lives.iter().max().expect("some"));
    assert!((ticks(3_240_000)..ticks(3_260_000)).contains(shortest), "{shortest}");
    assert!((ticks(3_580_000)..=ticks(3_600_000)).contains(longest), "{longest}");

    let mut end = End::open(Role::Server, limits, None);
    let at = end.due_at().expect("a life");
    assert_due(&mut end, at, "");
    assert_eq!(end.said(), "close 1001 'going away'");
    assert_due(&mut end, at + CLOSE, "closed 1001 '' by local");
}

#[test]
fn a_drain_shortens_a_life_and_never_lengthens_it() {
    let mut end = End::server();
    end.connection.retire_by(Tick(START.0 + 50));
    end.connection.retire_by(Tick(START.0 + 80));
    assert_due(&mut end, 50, "");
    assert_eq!(end.said(), "close 1001 'going away'");
    end.connection.retire_by(Tick(START.0 + 51));
    assert_due(&mut end, 50 + CLOSE, "closed 1001 '' by local");
}

#[test]
fn who_is_not_read_is_not_timed_out() {
    type Act = fn(&mut End);
    let unread: [(Act, Act); 2] = [
        (|end| end.connection.pause(), |end| end.connection.resume(end.now)),
        (|end| end.connection.hold(true, end.now), |end| end.connection.hold(false, end.now)),
    ];
    for (stop, go_on) in unread {
        let mut end = End::server();
        stop(&mut end);
        assert_eq!(end.due_at(), None);
        end.at(100 * IDLE);
        assert_eq!((end.told(), end.said()), (String::new(), String::new()));
        go_on(&mut end);
        assert_eq!(end.due_at(), Some(100 * IDLE + PING), "its time begins anew");
        end.at(100 * IDLE + IDLE);
        assert_eq!(end.told(), "closed 1001 '' by idle");
    }
}

#[test]
fn zero_means_never() {
    let limits = Limits { ping_interval: Duration::ZERO, idle_timeout: Duration::ZERO, ..Limits::default() };
    assert_eq!(End::open(Role::Server, limits.clone(), None).due_at(), None);
    let idle_only = Limits { idle_timeout: Duration::from_secs(120), ..limits };
    assert_eq!(End::open(Role::Server, idle_only, None).due_at(), Some(IDLE));
}

#[test]
fn nobody_is_asked_who_is_given_up_first() {
    let limits = Limits { ping_interval: Duration::from_secs(200), ..Limits::default() };
    let mut end = End::open(Role::Server, limits, None);
    assert_due(&mut end, IDLE, "closed 1001 '' by idle");
    assert_eq!(end.said(), "close 1001 'idle'");
}
