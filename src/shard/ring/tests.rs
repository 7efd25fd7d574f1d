use std::os::fd::OwnedFd;

use rustix::net::{RecvFlags, Shutdown, recv, shutdown, sockopt};

use super::buffers::COUNT_FIRST;
use super::*;

/// What came for one receive until it ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    bytes: Vec<u8>,
    ends: Vec<&'static str>,
}

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

fn outbox(bytes: &[u8]) -> Box<Outbox> {
    let mut outbox = Box::<Outbox>::default();
    outbox.append(|tail| tail.extend_from_slice(bytes));
    outbox
}

/// Has the only receive come back.
fn end(ring: &mut Ring, theirs: OwnedFd) {
    drop(theirs);
    let mut heard = [Heard::default()];
    hear(ring, &mut heard, |heard| !heard[0].ends.is_empty());
    assert_eq!(ring.posted_count, 0);
}

/// Hears what completes, `NotCancelled` as a new cancellation, until `done`.
fn hear(ring: &mut Ring, heard: &mut [Heard], done: impl Fn(&[Heard]) -> bool) {
    let mut events = Vec::new();
    while !done(heard) {
        ring.wait(&mut events, &mut Vec::new());
        for event in events.drain(..) {
            match event {
                Event::Received { slot, received, more } => {
                    let heard = &mut heard[slot as usize];
                    let end = match received {
                        Received::Bytes(filled) => {
                            heard.bytes.extend_from_slice(ring.bytes(&filled));
                            ring.give(filled);
                            "bytes"
                        }
                        Received::Eof => "eof",
                        Received::NoBuffer => "no buffer",
                        Received::Cancelled => "cancelled",
                        Received::Broken => "broken",
                    };
                    if !more {
                        heard.ends.push(end);
                    }
                }
                Event::NotCancelled { slot } if heard[slot as usize].ends.is_empty() => ring.cancel_receive(slot),
                Event::NotCancelled { .. } | Event::Readable => {}
            }
        }
    }
}

#[test]
fn a_receive_stays_posted_until_the_peer_ends() {
    let mut ring = Ring::new().unwrap();
    let (ours, theirs) = pair();
    let mut heard = [Heard::default()];
    ring.post_receive(0, ours.as_fd());
    for round in 0..10_000_u32 {
        send(&theirs, &round.to_le_bytes(), SendFlags::empty()).unwrap();
        let want = (round as usize + 1) * 4;
        hear(&mut ring, &mut heard, |heard| heard[0].bytes.len() == want);
    }
    shutdown(&theirs, Shutdown::Write).unwrap();
    hear(&mut ring, &mut heard, |heard| !heard[0].ends.is_empty());
    let want: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    assert!(heard[0].bytes == want && heard[0].ends == ["eof"], "{:?}", heard[0].ends);
    assert_eq!(ring.posted_count, 0);
}

#[test]
fn when_buffers_run_out_receives_end_and_nothing_is_lost() {
    let mut ring = Ring::new().unwrap();
    let pairs: Vec<_> = (0..300).map(|_| pair()).collect();
    for (slot, (ours, theirs)) in pairs.iter().enumerate() {
        ring.post_receive(slot as u32, ours.as_fd());
        send(theirs, &[slot as u8; 100], SendFlags::empty()).unwrap();
    }
    // Nothing is given back before all have completed.
    let (mut events, mut filled, mut exhausted) = (Vec::new(), Vec::new(), Vec::new());
    while filled.len() + exhausted.len() < pairs.len() {
        ring.wait(&mut events, &mut Vec::new());
        for event in events.drain(..) {
            match event {
                Event::Received { slot, received: Received::Bytes(bytes), more: true } => filled.push((slot, bytes)),
                Event::Received { slot, received: Received::NoBuffer, more: false } => exhausted.push(slot),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(filled.len(), usize::from(COUNT_FIRST));
    for (slot, bytes) in filled {
        assert_eq!(ring.bytes(&bytes), [slot as u8; 100]);
        ring.give(bytes);
    }
    ring.grow_for(usize::from(COUNT_FIRST));
    assert_eq!(ring.buffers.count(), usize::from(COUNT_FIRST), "enough for so many");
    (0..3).for_each(|_| ring.grow_for(300));
    assert_eq!(ring.buffers.count(), 512);
    exhausted.iter().for_each(|&slot| ring.post_receive(slot, pairs[slot as usize].0.as_fd()));
    let mut heard: Vec<_> = pairs.iter().map(|_| Heard::default()).collect();
    hear(&mut ring, &mut heard, |heard| exhausted.iter().all(|&slot| heard[slot as usize].bytes.len() == 100));
    assert!(exhausted.iter().all(|&slot| heard[slot as usize].bytes == [slot as u8; 100]));
    for (slot, (_, theirs)) in pairs.iter().enumerate() {
        shutdown(theirs, Shutdown::Write).unwrap();
        heard[slot].ends.clear();
    }
    hear(&mut ring, &mut heard, |heard| heard.iter().all(|heard| !heard.ends.is_empty()));
    assert!(heard.iter().all(|heard| heard.ends == ["eof"]), "{heard:?}");
}

#[test]
fn buffers_grow_to_their_limit_and_their_memory_can_be_freed_while_receives_are_posted() {
    let mut ring = Ring::new().unwrap();
    assert_eq!(ring.heap_bytes(), 0, "what nobody has written to takes no memory");
    (0..5).for_each(|_| ring.grow_for(usize::MAX));
    let (ours, theirs) = pair();
    ring.post_receive(0, ours.as_fd());
    let mut heard = [Heard::default()];
    // More than once around the queue.
    for round in 1..=2500 {
        send(&theirs, b"seven b", SendFlags::empty()).unwrap();
        hear(&mut ring, &mut heard, |heard| heard[0].bytes.len() == round * 7);
        if round % 1200 == 0 {
            assert_eq!(ring.heap_bytes(), usize::from(COUNT_MAX) * BUFFER_BYTES);
            ring.shrink();
            assert_eq!(ring.heap_bytes(), 0);
        }
    }
    assert!(heard[0].bytes.chunks(7).all(|chunk| chunk == b"seven b"));
    drop(theirs);
    hear(&mut ring, &mut heard, |heard| !heard[0].ends.is_empty());
}

#[test]
fn a_cancelled_receive_comes_back_and_what_it_left_can_be_read() {
    let mut ring = Ring::new().unwrap();
    for round in 0..2_000_u32 {
        let (ours, theirs) = pair();
        let mut heard = [Heard::default()];
        ring.post_receive(0, ours.as_fd());
        // Before it is submitted, after, and after something has arrived that nobody has looked at.
        if round % 4 > 0 {
            send(&theirs, b"one", SendFlags::empty()).unwrap();
        }
        if round % 4 > 1 {
            hear(&mut ring, &mut heard, |heard| heard[0].bytes.len() == 3);
        }
        if round % 4 > 2 {
            send(&theirs, b"two", SendFlags::empty()).unwrap();
        }
        ring.cancel_receive(0);
        hear(&mut ring, &mut heard, |heard| !heard[0].ends.is_empty());
        let mut rest = [0; 16];
        let left = recv(&ours, &mut rest[..], RecvFlags::DONTWAIT).map_or(0, |(len, _)| len);
        heard[0].bytes.extend_from_slice(&rest[..left]);
        let want: &[u8] = [&b""[..], b"one", b"one", b"onetwo"][round as usize % 4];
        assert_eq!(heard[0].bytes, want, "round {round}");
    }
    assert_eq!(ring.posted_count, 0);
}

#[test]
fn writes_tell_what_the_socket_took_before_they_come_back() {
    let mut ring = Ring::new().unwrap();
    let (ours, theirs) = pair();
    sockopt::set_socket_send_buffer_size(&ours, 4096).unwrap();
    let (gone, peer_of_gone) = pair();
    drop(peer_of_gone);
    let large = vec![7; 1 << 20];
    ring.post_write(1, ours.as_fd(), outbox(b"small"));
    ring.post_write(2, ours.as_fd(), outbox(&large));
    ring.post_write(3, ours.as_fd(), outbox(b"after it was full"));
    ring.post_write(4, gone.as_fd(), outbox(b"to nobody"));
    assert_eq!(ring.write_count(), 4);
    let mut done = Vec::new();
    ring.finish_writes(&mut done);
    assert_eq!(ring.write_count(), 0);
    let results: Vec<_> = done.iter().map(|write| (write.index, write.result)).collect();
    let Ok(taken) = results[1].1 else { panic!("{results:?}") };
    assert!(taken > 0 && taken < large.len(), "{taken} taken");
    assert_eq!(results, [(1, Ok(5)), (2, Ok(taken)), (3, Err(Errno::AGAIN)), (4, Err(Errno::PIPE))]);
    let mut arrived = vec![0; 2 << 20];
    let (len, _) = recv(&theirs, &mut arrived[..], RecvFlags::WAITALL | RecvFlags::DONTWAIT).unwrap();
    assert_eq!(len, 5 + taken);
    assert!(arrived[..5] == *b"small" && arrived[5..len] == large[..taken]);
}

#[test]
fn a_look_submits_and_receives_and_does_not_wait() {
    let mut ring = Ring::new().unwrap();
    let (ours, theirs) = pair();
    let (mut events, mut done) = (Vec::new(), Vec::new());
    ring.post_receive(0, ours.as_fd());
    ring.poll(&mut events, &mut done);
    assert!(events.is_empty() && done.is_empty(), "{events:?}");
    ring.post_write(7, theirs.as_fd(), outbox(b"corewire"));
    while events.is_empty() {
        ring.poll(&mut events, &mut done);
    }
    assert!(matches!(&done[..], [write] if write.index == 7 && write.result == Ok(8)));
    let Some(Event::Received { slot: 0, received: Received::Bytes(filled), more: true }) = events.pop() else {
        panic!("{events:?}")
    };
    assert_eq!(ring.bytes(&filled), b"corewire");
    ring.give(filled);
    end(&mut ring, theirs);
}

#[test]
fn a_write_ends_a_wait_in_which_nothing_is_received() {
    let mut ring = Ring::new().unwrap();
    let (ours, theirs) = pair();
    let (mut events, mut done) = (Vec::new(), Vec::new());
    ring.post_receive(0, ours.as_fd());
    ring.post_write(7, ours.as_fd(), outbox(b"corewire"));
    ring.wait(&mut events, &mut done);
    assert!(events.is_empty() && done.len() == 1);
    end(&mut ring, theirs);
}

#[test]
fn more_than_the_queue_holds_is_submitted_all_the_same() {
    let mut ring = Ring::new().unwrap();
    let pairs: Vec<_> = (0..50).map(|_| pair()).collect();
    let count = SUBMISSION_ENTRIES as usize * 2 + 1;
    for number in 0..count {
        ring.post_write(number as u32, pairs[number % 50].0.as_fd(), outbox(&(number as u32).to_le_bytes()));
    }
    let mut done = Vec::new();
    ring.finish_writes(&mut done);
    assert!(done.iter().enumerate().all(|(at, write)| write.index == at as u32 && write.result == Ok(4)));
    for (place, (_, theirs)) in pairs.iter().enumerate() {
        let mut arrived = [0; 1024];
        let (len, _) = recv(theirs, &mut arrived[..], RecvFlags::DONTWAIT).unwrap();
        let numbers: Vec<_> = arrived[..len].chunks(4).map(|it| u32::from_le_bytes(it.try_into().unwrap())).collect();
        let want: Vec<_> = (0..count as u32).filter(|number| *number as usize % 50 == place).collect();
        assert_eq!(numbers, want);
    }
}

#[test]
fn what_is_watched_is_told_once() {
    let mut ring = Ring::new().unwrap();
    let (ours, theirs) = pair();
    let mut events = Vec::new();
    send(&theirs, b"x", SendFlags::empty()).unwrap();
    for _ in 0..3 {
        ring.watch(ours.as_fd());
        ring.wait(&mut events, &mut Vec::new());
        assert!(matches!(events[..], [Event::Readable]), "{events:?}");
        events.clear();
    }
}
