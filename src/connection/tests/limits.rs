//! Every limit at its border: what fits exactly is taken, one more is refused before memory is spent on it.

use super::*;

#[test]
fn a_message_may_be_exactly_as_large_as_the_limit() {
    let limits = Limits { message_bytes_max: 1000, ..Limits::default() };
    for role in ROLES {
        for pieces in [vec![1000], vec![0, 1000], vec![1000, 0], vec![400, 600], vec![999, 1]] {
            let mut end = End::open(role, limits.clone(), None);
            end.read(&fragments(&end, &pieces));
            assert_eq!(end.told(), format!("binary {}", quoted(&pattern_in(&pieces))));
        }
        for pieces in [vec![1001], vec![0, 1001], vec![400, 601], vec![1000, 1]] {
            let mut end = End::open(role, limits.clone(), None);
            end.read(&fragments(&end, &pieces));
            assert_eq!((&*end.told(), &*end.said()), ("closed 1009 '' by MessageTooBig", "close 1009 ''"));
        }
    }
}

#[test]
fn a_message_too_large_is_refused_at_its_header() {
    let limits = Limits { message_bytes_max: 1 << 30, frame_bytes_max: usize::MAX, ..Limits::default() };
    let mut end = End::open(Role::Client, limits, None);
    // 2^30 + 1 bytes announced, none sent.
    end.read(&[0x82, 127, 0, 0, 0, 0, 0x40, 0, 0, 1]);
    assert_eq!(end.told(), "closed 1009 '' by MessageTooBig");
}

#[test]
fn what_is_announced_takes_no_memory() {
    let mut end = End::open(Role::Client, Limits::default(), None);
    end.read(&[0x82, 127, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff]);
    end.read(b"only these");
    assert!(end.connection.heap_bytes() < 1024, "{}", end.connection.heap_bytes());
}

#[test]
fn a_frame_may_be_exactly_as_large_as_the_limit() {
    for frame_bytes_max in [0, 100, 125, 126, 65_535, 65_536] {
        let limits = Limits { frame_bytes_max, ..Limits::default() };
        let mut end = End::open(Role::Server, limits.clone(), None);
        // In fragments, so that the limit of the message is another.
        end.read(&fragments(&end, &[frame_bytes_max, frame_bytes_max]));
        assert!(end.told().starts_with("binary"), "{frame_bytes_max}");
        let mut end = End::open(Role::Server, limits, None);
        end.read(&fragments(&end, &[frame_bytes_max + 1]));
        assert_eq!(end.told(), "closed 1009 '' by FrameTooBig", "{frame_bytes_max}");
    }
}

#[test]
fn as_many_fragments_as_the_limit() {
    for fragments_max in [1, 2, 100] {
        let limits = Limits { fragments_max, ..Limits::default() };
        let mut end = End::open(Role::Server, limits.clone(), None);
        end.read(&fragments(&end, &vec![1; fragments_max as usize]));
        assert!(end.told().starts_with("binary"), "{fragments_max}");
        let mut end = End::open(Role::Server, limits, None);
        end.read(&fragments(&end, &vec![1; fragments_max as usize + 1]));
        assert_eq!((&*end.told(), &*end.said()), ("closed 1008 '' by TooManyFragments", "close 1008 ''"));
    }
}

#[test]
fn the_defaults_take_65536_fragments() {
    let pieces = vec![1; 65_536];
    let mut end = End::server();
    let wire = fragments(&end, &pieces);
    for read in wire.chunks(1000) {
        end.read(read);
    }
    assert_eq!(end.told(), format!("binary {}", quoted(&pattern(65_536))));
}

#[test]
fn the_queue_takes_what_fits_and_nothing_of_what_does_not() {
    let limits = Limits { queued_bytes_max: 1000, ..Limits::default() };
    for role in ROLES {
        let mut end = End::open(role, limits.clone(), None);
        assert_eq!(end.send(&"x".repeat(1001)), Err(SendError::QueueFull));
        assert_eq!(end.connection.queued_bytes(), 0);
        end.send(&"x".repeat(900)).expect("room");
        let queued = end.connection.queued_bytes();
        assert_eq!(queued, 904 + if role == Role::Client { 4 } else { 0 });
        assert_eq!(end.send(&"x".repeat(1001 - queued)), Err(SendError::QueueFull));
        let ping = [b'x'; 200];
        assert_eq!(end.connection.ping(&ping[..1001 - queued], &mut end.workspace), Err(SendError::QueueFull));
        let mut broadcast = Broadcast::new(MessageKind::Text, vec![b'x'; 1001 - queued].into());
        let refused = end.connection.send_broadcast(&mut broadcast, &mut end.workspace);
        assert_eq!((refused, end.connection.queued_bytes()), (Err(SendError::QueueFull), queued));
        end.send(&"x".repeat(1000 - queued)).expect("exactly what is left");
        // Control frames always find room: a full queue must not break the protocol.
        let wire = end.peers(0x89, b"still there?");
        end.read(&wire);
        end.close(1000, "");
        assert!(end.said().ends_with("pong 'still there?', close 1000 ''"));
    }
}

#[test]
fn a_full_queue_stops_reading_until_it_drains_or_closing_begins() {
    let limits = Limits { queued_bytes_pause: 1000, ..Limits::default() };
    let mut end = End::open(Role::Server, limits, None);
    end.send(&"x".repeat(996)).expect("room");
    assert!(end.connection.wants_input(&end.workspace), "exactly the limit");
    end.send("").expect("room");
    assert!(!end.connection.wants_input(&end.workspace));
    end.output();
    assert!(end.connection.wants_input(&end.workspace));
    end.send(&"x".repeat(2000)).expect("room");
    assert!(!end.connection.wants_input(&end.workspace));
    // From here on nothing that is read makes the queue longer, and the peer's Close may be on its way.
    end.close(1000, "");
    assert!(end.connection.wants_input(&end.workspace));
}

#[test]
fn a_ping_is_cut_to_what_a_control_frame_holds() {
    let mut end = End::server();
    end.connection.ping(&[b'x'; 126], &mut end.workspace).expect("room");
    assert_eq!(end.said(), format!("ping '{}'", "x".repeat(125)));
}

/// A binary message cut into fragments of these lengths.
fn fragments(end: &End, lens: &[usize]) -> Vec<u8> {
    let whole = pattern_in(lens);
    let mut rest = &whole[..];
    let mut wire = Vec::new();
    for (index, len) in lens.iter().enumerate() {
        let opcode = if index == 0 { 0x02 } else { 0x00 };
        let fin = if index + 1 == lens.len() { 0x80 } else { 0x00 };
        let (fragment, after) = rest.split_at(*len);
        wire.extend(end.peers(fin | opcode, fragment));
        rest = after;
    }
    wire
}

fn pattern_in(lens: &[usize]) -> Vec<u8> {
    pattern(lens.iter().sum())
}
