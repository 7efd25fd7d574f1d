//! What a connection costs: nothing between whole messages, little in the middle of one.

use super::*;

#[test]
fn a_connection_is_forty_bytes() {
    assert_eq!(size_of::<Connection>(), 40);
}

#[test]
fn an_idle_one_has_neither_box() {
    for deflate in [None, Some(agreement(false, false, 15))] {
        for role in ROLES {
            let mut end = End::open(role, Limits::default(), deflate);
            assert_idle(&end);
            for (first, payload) in [(0x81, &b"text"[..]), (0x82, &[0; 5000]), (0x89, b"ping"), (0x8a, b"pong")] {
                let wire = end.peers(first, payload);
                end.read(&wire);
                end.send("an answer").expect("room");
                end.output();
                assert_idle(&end);
                for byte in &wire {
                    end.read(&[*byte]);
                }
                end.output();
                assert_idle(&end);
            }
        }
    }
}

#[test]
fn half_a_message_lies_in_the_extra_box_until_it_is_whole() {
    let mut end = End::server();
    let wire = frame(Role::Client, 0x82, &[7; 1000]);
    for cut in 1..wire.len() {
        end.read(&wire[..cut]);
        assert!(end.connection.extra.is_some() && end.connection.outbox.is_none());
        assert!(end.connection.is_mid_message());
        let held = end.connection.heap_bytes();
        assert!(held <= size_of::<Extra>() + 2 * cut + 8, "{held} bytes for {cut}");
        end.read(&wire[cut..]);
        assert_idle(&end);
    }
}

#[test]
fn what_is_queued_lies_in_the_outbox_until_it_is_written() {
    let mut end = End::server();
    end.send("hello").expect("room");
    assert!(end.connection.outbox.is_some() && end.connection.extra.is_none());
    assert!(end.connection.heap_bytes() >= size_of::<Outbox>() + 7);
    end.output();
    assert_idle(&end);
}

#[test]
fn at_rest_is_who_reads_and_has_nothing_to_send_or_to_remember() {
    let mut end = End::server();
    assert!(end.connection.is_at_rest());
    end.send("hello").expect("room");
    assert!(!end.connection.is_at_rest(), "something waits");
    let mut lent = end.connection.lend_outbox(100).expect("it is small");
    assert!(end.connection.is_at_rest(), "what is lent does not count");
    end.send("again").expect("room");
    lent.advance(lent.queued_bytes());
    end.connection.return_outbox(lent, &mut end.workspace);
    assert!(!end.connection.is_at_rest(), "more came meanwhile");
    end.output();
    assert!(end.connection.is_at_rest());
    let wire = frame(Role::Client, 0x82, &[7; 100]);
    end.read(&wire[..50]);
    assert!(!end.connection.is_at_rest(), "half a message is kept");
    end.read(&wire[50..]);
    end.connection.pause();
    assert!(!end.connection.is_at_rest(), "it does not read");
    end.connection.resume(end.now);
    assert!(end.connection.is_at_rest());
    end.connection.close(CloseCode::NORMAL, "", &mut end.workspace, end.now);
    end.output();
    end.read(&frame(Role::Client, 0x88, b"\x03\xe8"));
    assert!(!end.connection.is_at_rest(), "its end is to be told");
}

#[test]
fn what_comes_back_unwritten_after_the_end_keeps_no_socket_open() {
    let mut end = End::server();
    end.send("hello").expect("room");
    let lent = end.connection.lend_outbox(100).expect("it is small");
    end.connection.handle_reset(&mut end.workspace, end.now);
    end.connection.return_outbox(lent, &mut end.workspace);
    assert_eq!(end.connection.next_step(), NextStep::Close);
    assert_eq!(end.connection.queued_bytes(), 0);
}

#[test]
fn boxes_are_used_again() {
    let mut end = End::server();
    let wire = frame(Role::Client, 0x81, b"hello");
    for _ in 0..100 {
        end.read(&wire[..4]);
        end.read(&wire[4..]);
        end.send("hello").expect("room");
        end.output();
    }
    let pooled = end.workspace.pooled_bytes();
    assert!(pooled <= size_of::<Extra>() + size_of::<Outbox>() + 1024, "{pooled}");
}

#[test]
fn the_pool_holds_a_bounded_amount() {
    let mut workspace = Workspace::new(Limits::default(), SEED);
    let mut ends: Vec<Connection> =
        (0..2000).map(|_| Connection::established(Role::Server, None, &mut workspace, START)).collect();
    let payload = [0; 60_000];
    for connection in &mut ends {
        connection.send(MessageKind::Binary, Body::Borrowed(&payload), &mut workspace).expect("room");
    }
    for connection in ends {
        connection.recycle(&mut workspace);
    }
    assert!(workspace.pooled_bytes() <= 5 << 20, "{}", workspace.pooled_bytes());
}

#[test]
fn an_end_by_itself_leaves_nothing() {
    let mut end = End::open(Role::Server, Limits::default(), Some(agreement(true, true, 15)));
    end.send(&"x".repeat(1000)).expect("room");
    assert!(end.connection.heap_bytes() > 300 << 10, "a compressor of its own");
    let wire = frame(Role::Client, 0x88, b"");
    end.read(&wire);
    end.output();
    assert_idle(&end);
}

fn assert_idle(end: &End) {
    assert!(end.connection.outbox.is_none(), "no outbox");
    assert!(end.connection.extra.is_none(), "no extra");
    assert_eq!(end.connection.heap_bytes(), 0);
    assert!(!end.connection.is_mid_message());
}
