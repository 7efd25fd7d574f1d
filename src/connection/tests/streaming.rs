//! A stream as the connection sees it: what is sent goes out as it is, what the peer says goes nowhere, and it ends.

use std::time::Duration;

use bytes::Bytes;

use super::*;

pub(super) const HEAD: &[u8] = b"GET /sse HTTP/1.1\r\nHost: a.example\r\nLast-Event-ID: 7\r\n\r\n";
pub(super) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// The whole ticks of a span, and the one that is under way when it begins.
const fn ticks(millis: u64) -> u32 {
    millis.div_ceil(TICK_MILLIS) as u32 + 1
}

const LOOK: u32 = ticks(30_000);
const CLOSE: u32 = ticks(5_000);

#[test]
fn a_request_at_every_cut_and_what_follows_it() {
    let wire = [HEAD, b"GET / HTTP/1.1\r\n\r\n\x81\x80\x00\x00"].concat();
    for cut in 0..=wire.len() {
        assert_streams(&[&wire[..cut], &wire[cut..]]);
    }
    assert_streams(&wire.chunks(1).collect::<Vec<_>>());
}

fn assert_streams(pieces: &[&[u8]]) {
    let mut end = End::accepted(Limits::default());
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let mut input = Input::new(&mut bytes);
        while let Some(event) = end.connection.poll_event(&mut input, &mut end.workspace, end.now) {
            let words = in_words(&event);
            end.heard.push(words);
            if let Event::Head(head) = &event {
                assert_eq!(head.bytes(), HEAD);
                end.stream();
            }
        }
        end.connection.end_input(&mut input, &mut end.workspace);
    }
    assert_eq!(end.told(), format!("head of {} bytes", HEAD.len()));
    end.send("data: x\n\n").expect("it is open");
    assert_eq!(end.output(), [ANSWER, b"data: x\n\n"].concat());
    assert_eq!((end.connection.heap_bytes(), end.connection.next_step()), (0, NextStep::Wait));
}

#[test]
fn what_came_while_the_application_decided_is_dropped() {
    let mut end = End::accepted(Limits::default());
    end.read_and(&[HEAD, b"GET "].concat(), |connection, _| connection.defer());
    end.read(b"/ HTTP/1.1\r\n\r\n");
    end.stream();
    end.read(b"");
    assert_eq!(end.told(), format!("head of {} bytes", HEAD.len()));
    assert_eq!(end.output(), ANSWER);
    assert_eq!(end.connection.heap_bytes(), 0);
}

#[test]
fn everything_goes_out_as_it_is_and_shared_where_it_can_be() {
    let mut end = End::streaming(Limits::default());
    let large = Bytes::from(pattern(5000));
    end.send("a").expect("room");
    end.connection.send(MessageKind::Binary, Body::Shared(large.clone()), &mut end.workspace).expect("room");
    let mut broadcast = Broadcast::new(MessageKind::Text, large.clone());
    end.connection.send_broadcast(&mut broadcast, &mut end.workspace).expect("room");
    end.connection.send_prefaced(b"id: 1\n", large.clone(), &mut end.workspace).expect("room");
    end.connection.send_prefaced(b"id: 2\n", "small".into(), &mut end.workspace).expect("room");
    end.send("").expect("room");
    assert!(end.connection.heap_bytes() < 2000, "the large ones are not copied");
    assert_eq!(end.connection.queued_bytes(), counted(&end.connection));
    let want = [b"a", &large[..], &large, b"id: 1\n", &large, b"id: 2\nsmall"].concat();
    assert_eq!(end.output(), want);
    assert_eq!(end.told(), "");
}

#[test]
fn a_full_queue_takes_nothing_and_never_half() {
    let limits = Limits { queued_bytes_max: 100, queued_bytes_pause: 10, ..Limits::default() };
    let mut end = End::streaming(limits);
    end.send(&"x".repeat(90)).expect("room");
    assert_eq!(end.send(&"x".repeat(11)), Err(SendError::QueueFull));
    let prefaced = |end: &mut End, len: usize| {
        end.connection.send_prefaced(b"id: 1\n", vec![b'y'; len].into(), &mut end.workspace)
    };
    assert_eq!(prefaced(&mut end, 5), Err(SendError::QueueFull));
    assert_eq!(end.connection.queued_bytes(), 90);
    prefaced(&mut end, 4).expect("just enough room");
    // It is read all the same: the peer's leave must be noticed.
    assert!(end.connection.wants_input(&end.workspace));
    end.eof();
    assert_eq!(end.told(), "closed 1005 '' by peer");
    assert_eq!(end.output().len(), 100);
}

#[test]
fn a_comment_is_sent_as_often_as_a_ping_whatever_else_is() {
    let mut end = End::streaming(Limits::default());
    for nth in 1..5 {
        assert_eq!(end.due_at(), Some(nth * LOOK));
        end.at(nth * LOOK - 1);
        end.send("data: x\n\n").expect("room");
        assert_eq!(end.said(), r"'data: x\n\n'");
        end.at(nth * LOOK);
        assert_eq!(end.said(), r"':\n\n'");
    }
    end.connection.ping(b"ignored", &mut end.workspace).expect("room");
    assert_eq!((end.said(), end.told()), (r"':\n\n'".to_owned(), String::new()));
}

#[test]
fn who_takes_nothing_is_given_up_and_who_takes_little_is_not() {
    for progress in [false, true] {
        let mut end = End::streaming(Limits::default());
        end.send("data: x\n\n").expect("room");
        for nth in 1..4 {
            end.at(nth * LOOK);
            if progress {
                end.connection.handle_progress(end.now);
            }
            assert_eq!((end.told(), end.connection.queued_bytes()), (String::new(), 9), "nothing is added");
        }
        end.at(4 * LOOK);
        match progress {
            true => assert_eq!(end.told(), ""),
            false => {
                assert_eq!(end.told(), "closed 1001 '' by idle");
                assert_eq!((end.due_at(), end.connection.is_ending()), (Some(4 * LOOK + CLOSE), true));
            }
        }
    }
}

#[test]
fn either_span_may_be_endless() {
    let (never, some) = (Duration::ZERO, Duration::from_secs(60));
    let limits = |ping_interval, idle_timeout| Limits { ping_interval, idle_timeout, ..Limits::default() };
    let mut end = End::streaming(limits(never, never));
    assert_eq!(end.due_at(), None);
    end.send("x").expect("room");
    end.at(1_000_000);
    assert_eq!(end.told(), "");

    let mut end = End::streaming(limits(some, never));
    end.at(ticks(60_000));
    assert_eq!(end.connection.queued_bytes(), 3);
    (1..100).for_each(|nth| end.at(nth * 100_000));
    assert_eq!((end.told(), end.said()), (String::new(), r"':\n\n'".to_owned()));

    let mut end = End::streaming(limits(never, some));
    end.at(ticks(60_000));
    assert_eq!(end.said(), "");
    end.send("x").expect("room");
    end.at(2 * ticks(60_000));
    assert_eq!(end.told(), "closed 1001 '' by idle");
}

#[test]
fn a_close_is_told_at_the_next_tick_and_what_is_queued_goes_first() {
    let mut end = End::streaming(Limits::default());
    end.send("last").expect("room");
    end.close(4006, "slow consumer");
    end.close(1001, "too late");
    assert_eq!((end.told(), end.due_at()), (String::new(), Some(1)));
    assert!(!end.connection.is_open() && end.connection.is_stream());
    assert_eq!(end.send("more"), Err(SendError::NotOpen));
    end.at(1);
    assert_eq!((end.told(), end.said()), ("closed 4006 '' by local".to_owned(), "'last'".to_owned()));
    assert_eq!(end.connection.next_step(), NextStep::Fin);
    end.connection.fin_sent();
    end.eof();
    assert_eq!((end.told(), end.connection.next_step()), (String::new(), NextStep::Close));
}

#[test]
fn it_ends_once_whatever_ends_it() {
    type End_ = fn(&mut End);
    let ends: [(&str, End_, &str); 4] = [
        ("the peer leaves", End::eof, "closed 1005 '' by peer"),
        ("the socket breaks", End::reset, "closed 1005 '' by peer"),
        (
            "it retires",
            |end| {
                end.connection.retire_by(Tick(START.0 + 5));
                end.at(5);
            },
            "closed 1001 '' by local",
        ),
        (
            "it is closed, and the peer leaves meanwhile",
            |end| {
                end.close(4001, "");
                end.eof();
            },
            "closed 4001 '' by local",
        ),
    ];
    for (name, act, want) in ends {
        let mut end = End::streaming(Limits::default());
        act(&mut end);
        assert_eq!(end.told(), want, "{name}");
        end.close(4002, "");
        end.eof();
        end.at(1000);
        end.reset();
        assert_eq!((end.told(), end.said()), (String::new(), String::new()), "{name}");
        assert_eq!(end.connection.next_step(), NextStep::Close, "{name}");
    }
}

#[test]
fn a_lifetime_ends_it_up_to_a_tenth_early() {
    let limits =
        Limits { lifetime_max: Some(Duration::from_secs(10)), ping_interval: Duration::ZERO, ..Limits::default() };
    let end = End::streaming(limits);
    let due = end.due_at().expect("an end");
    assert!((ticks(9_000)..=ticks(10_000)).contains(&due), "{due}");
}
