//! Large messages, received straight into their own buffer, against the same bytes through a buffer in between.

use bytes::Bytes;

use super::*;

impl End {
    /// Reads `wire` as a driver does that reads `read_len` bytes at most: into the message's buffer where there is
    /// one. Answers how many bytes went there.
    fn read_in_place(&mut self, wire: &[u8], read_len: usize) -> usize {
        let (mut rest, mut in_place) = (wire, 0);
        while !rest.is_empty() {
            let Some(room) = self.connection.message_buffer(&mut self.workspace) else {
                let (now, later) = rest.split_at(read_len.min(rest.len()));
                self.read(now);
                rest = later;
                continue;
            };
            assert!(!room.is_empty(), "a buffer without room would never be filled");
            let (now, later) = rest.split_at(room.len().min(read_len).min(rest.len()));
            room[..now.len()].copy_from_slice(now);
            rest = later;
            in_place += now.len();
            let event = self.connection.received_in_place(now.len(), &mut self.workspace, self.now);
            self.heard.extend(event.as_ref().map(in_words));
        }
        in_place
    }

    fn has_message_buffer(&mut self) -> bool {
        self.connection.message_buffer(&mut self.workspace).is_some()
    }

    /// Reads a message of `len` bytes, in place where it can, and answers it.
    fn receive(&mut self, len: usize) -> Bytes {
        let wire = self.peers(0x82, &pattern(len));
        let mut rest = &wire[..];
        loop {
            let message = match self.connection.message_buffer(&mut self.workspace) {
                Some(room) => {
                    let (now, later) = rest.split_at(room.len().min(rest.len()));
                    room[..now.len()].copy_from_slice(now);
                    rest = later;
                    self.connection.received_in_place(now.len(), &mut self.workspace, self.now).map(bytes_of)
                }
                None => {
                    let (now, later) = rest.split_at(rest.len().min(65_536));
                    rest = later;
                    let mut now = now.to_vec();
                    let mut input = Input::new(&mut now);
                    let event = self.connection.poll_event(&mut input, &mut self.workspace, self.now);
                    let message = event.map(bytes_of);
                    self.connection.end_input(&mut input, &mut self.workspace);
                    message
                }
            };
            if let Some(message) = message {
                assert!(rest.is_empty(), "the message ends where its frame does");
                return message;
            }
        }
    }

    fn send_shared(&mut self, message: Bytes) {
        self.connection.send(MessageKind::Binary, Body::Shared(message), &mut self.workspace).expect("room");
    }

    /// Writes all that waits, `len_max` bytes at a time.
    fn write(&mut self, len_max: usize) {
        while let Some(outbox) = self.connection.poll_transmit() {
            let len = outbox.front().len().min(len_max);
            outbox.advance(len);
            self.connection.transmitted(&mut self.workspace);
        }
    }
}

fn bytes_of(event: Event<'_>) -> Bytes {
    match event {
        Event::Message(message) => message.into_bytes(),
        other => panic!("{}", in_words(&other)),
    }
}

fn text(len: usize) -> Vec<u8> {
    "Ω≈ç√ ".bytes().cycle().take(len / 11 * 11).collect()
}

/// A message between two small ones, whole and in fragments with a ping in between.
fn wires(sender: Role, opcode: u8, payload: &[u8]) -> [Vec<u8>; 2] {
    let small = frame(sender, 0x81, b"small");
    let whole = [small.clone(), frame(sender, 0x80 | opcode, payload), small.clone()].concat();
    let (first, rest) = payload.split_at(payload.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    let fragments = [
        frame(sender, opcode, first),
        frame(sender, 0x89, b"between"),
        frame(sender, 0x00, second),
        frame(sender, 0x80, third),
        small,
    ];
    [whole, fragments.concat()]
}

#[test]
fn it_hears_the_same_whatever_is_read_at_once() {
    let binary = pattern(1_000_003);
    let text = text(700_000);
    for role in ROLES {
        for (opcode, payload) in [(0x2, &binary), (0x1, &text)] {
            for wire in wires(opposite(role), opcode, payload) {
                for read_len in [40_000, 65_536, 99_999, 10_000_000] {
                    let mut plain = End::open(role, Limits::default(), None);
                    plain.read(&wire);
                    let mut direct = End::open(role, Limits::default(), None);
                    // What a driver reads into is smaller than a large message.
                    let in_place =
                        direct.read_in_place(&wire[..40_000], 40_000) + direct.read_in_place(&wire[40_000..], read_len);
                    assert_eq!(direct.told(), plain.told(), "{role:?}, {read_len} at once");
                    assert_eq!(direct.said(), plain.said());
                    assert!(in_place > payload.len() / 4, "only {in_place} bytes went straight to their place");
                    assert!(direct.connection.extra.is_none(), "the box went back");
                }
            }
        }
    }
}

#[test]
fn room_is_made_in_proportion_to_what_has_arrived() {
    let mut end = End::server();
    let wire = end.peers(0x82, &pattern(10_000_000));
    end.read(&wire[..100_000]);
    assert!(end.has_message_buffer());
    let held = end.connection.heap_bytes();
    assert!(held <= 4 * 100_000 + 10_000, "{held} bytes were reserved");
}

#[test]
fn what_is_small_or_nearly_there_has_no_buffer() {
    let mut end = End::server();
    let wire = end.peers(0x82, &pattern(100_000));
    end.read(&wire[..10_000]);
    assert!(!end.has_message_buffer(), "little has arrived");
    end.read(&wire[10_000..50_000]);
    assert!(end.has_message_buffer());
    end.read(&wire[50_000..90_000]);
    assert!(!end.has_message_buffer(), "little is to come");
}

#[test]
fn a_bad_character_fails_where_it_stands() {
    let mut end = End::server();
    let mut payload = text(500_000);
    payload[300_000] = 0xff;
    let wire = end.peers(0x81, &payload);
    end.read_in_place(&wire[..310_000], 50_000);
    assert_eq!(end.told(), "closed 1007 '' by InvalidUtf8");
    assert!(!end.has_message_buffer());
}

#[test]
fn a_pause_and_a_close_leave_no_buffer_to_read_into() {
    let mut end = End::server();
    let wire = end.peers(0x82, &pattern(500_000));
    end.read(&wire[..100_000]);
    end.connection.pause();
    assert!(!end.has_message_buffer());
    end.connection.resume(end.now);
    assert!(end.has_message_buffer());
    end.close(1000, "");
    end.read_in_place(&wire[100_000..], 70_000);
    let close = end.peers(0x88, b"\x03\xe8");
    end.read(&close);
    assert_eq!(end.told(), "closed 1000 '' by local", "what came after our Close was dropped");
}

#[test]
fn the_buffer_of_what_was_sent_is_that_of_the_next_message() {
    let mut end = End::server();
    let message = end.receive(1_000_000);
    let first = message.as_ptr();
    assert!(message == pattern(1_000_000));
    end.send_shared(message);
    assert_eq!(end.workspace.large.free_bytes(), 0, "it is being sent");
    end.write(99_999);
    assert!(end.workspace.large.free_bytes() >= 1_000_000);
    // Shorter, and then as long again: what stood there before shows nowhere.
    for len in [600_000, 999_999, 1_000_000] {
        let message = end.receive(len);
        assert_eq!((message.as_ptr(), end.workspace.large.free_bytes()), (first, 0), "{len}");
        assert!(message == pattern(len));
        end.send_shared(message);
        end.write(usize::MAX);
    }
}

#[test]
fn a_buffer_that_somebody_still_has_is_not_used_again() {
    let mut end = End::server();
    let message = end.receive(500_000);
    let held = message.slice(1000..2000);
    let first = message.as_ptr();
    end.send_shared(message);
    end.write(usize::MAX);
    assert_eq!(end.workspace.large.free_bytes(), 0);
    let second = end.receive(500_000);
    assert_ne!(second.as_ptr(), first);
    assert!(held == pattern(500_000)[1000..2000]);
    // The same to two peers: the last one gives it back.
    let mut other = Connection::established(Role::Server, None, &mut end.workspace, START);
    end.send_shared(second.clone());
    other.send(MessageKind::Binary, Body::Shared(second), &mut end.workspace).expect("room");
    end.write(usize::MAX);
    assert_eq!(end.workspace.large.free_bytes(), 0);
    other.recycle(&mut end.workspace);
    assert!(end.workspace.large.free_bytes() >= 500_000, "also from a connection that broke");
}

#[test]
fn only_buffers_of_this_kind_are_kept() {
    let mut end = End::server();
    let len = 500_000;
    for theirs in
        [Bytes::from(vec![1; len]), Bytes::from(vec![1; 2 * len]).slice(5..len), Bytes::from_static(&[1; 70_000])]
    {
        end.send_shared(theirs);
        end.write(usize::MAX);
        assert_eq!(end.workspace.large.free_bytes(), 0);
    }
    let message = end.receive(len);
    end.send_shared(message.slice(100_000..));
    drop(message);
    end.write(usize::MAX);
    assert_eq!(end.workspace.large.free_bytes(), 0, "it begins elsewhere");
}

#[test]
fn a_message_has_no_buffer_of_more_than_twice_its_length() {
    let mut end = End::server();
    let large = end.receive(1_000_000);
    let first = large.as_ptr();
    end.send_shared(large);
    end.write(usize::MAX);
    let small = end.receive(400_000);
    assert_ne!(small.as_ptr(), first);
    let fits = end.receive(600_000);
    assert_eq!(fits.as_ptr(), first);
}

#[test]
fn buffers_are_kept_up_to_a_bound_and_those_used_last() {
    let mut end = End::server();
    let messages: Vec<_> = (0..30).map(|_| end.receive(1_000_000)).collect();
    let last = messages[29].as_ptr();
    for message in messages {
        end.send_shared(message);
        end.write(usize::MAX);
        assert!(end.workspace.large.free_bytes() <= 8 << 20);
    }
    assert!(end.workspace.pooled_bytes() >= 7_000_000);
    assert_eq!(end.receive(1_000_000).as_ptr(), last);
    // One that is larger than all that may be kept.
    let huge = end.receive(10_000_000);
    let before = end.workspace.large.free_bytes();
    end.send_shared(huge);
    end.write(usize::MAX);
    assert_eq!(end.workspace.large.free_bytes(), before);
    // Others that are sent now push out those that are not.
    for _ in 0..200 {
        let message = end.receive(100_000);
        end.send_shared(message);
    }
    end.write(usize::MAX);
    let one = end.receive(1_000_000);
    assert!(end.workspace.large.free_bytes() <= 8 << 20);
    drop(one);
    end.workspace.shrink();
    assert_eq!(end.workspace.large.free_bytes(), 0, "given back");
}

/// What the kernel copies to or from is further in its page than the other side by anything but a few bytes.
#[test]
fn a_large_message_begins_in_the_middle_of_a_page() {
    let mut end = End::server();
    for len in [100_000, 300_000, 1_000_000, 3_000_000, 1_000_000] {
        let message = end.receive(len);
        assert_eq!(message.as_ptr().addr() % 4096, 2048, "{len}");
        end.send_shared(message);
        end.write(usize::MAX);
    }
}
