//! Large messages, received straight into their own buffer, against the same bytes through a buffer in between.

use super::*;

impl End {
    /// Reads `wire` as a driver does that reads `read_len` bytes at most: into the message's buffer where there is
    /// one. Answers how many bytes went there.
    fn read_in_place(&mut self, wire: &[u8], read_len: usize) -> usize {
        let (mut rest, mut in_place) = (wire, 0);
        while !rest.is_empty() {
            let Some(buffer) = self.connection.message_buffer() else {
                let (now, later) = rest.split_at(read_len.min(rest.len()));
                self.read(now);
                rest = later;
                continue;
            };
            let room = buffer.capacity() - buffer.len();
            assert!(room > 0, "a buffer without room would never be filled");
            let (now, later) = rest.split_at(room.min(read_len).min(rest.len()));
            buffer.extend_from_slice(now);
            assert_eq!(buffer.capacity() - buffer.len(), room - now.len(), "it did not grow");
            rest = later;
            in_place += now.len();
            let event = self.connection.received_in_place(now.len(), &mut self.workspace, self.now);
            self.heard.extend(event.as_ref().map(in_words));
        }
        in_place
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
    let buffer = end.connection.message_buffer().expect("much is to come");
    assert!(buffer.capacity() <= 4 * 100_000, "{} bytes were reserved", buffer.capacity());
}

#[test]
fn what_is_small_or_nearly_there_has_no_buffer() {
    let mut end = End::server();
    let wire = end.peers(0x82, &pattern(100_000));
    end.read(&wire[..10_000]);
    assert!(end.connection.message_buffer().is_none(), "little has arrived");
    end.read(&wire[10_000..50_000]);
    assert!(end.connection.message_buffer().is_some());
    end.read(&wire[50_000..90_000]);
    assert!(end.connection.message_buffer().is_none(), "little is to come");
}

#[test]
fn a_bad_character_fails_where_it_stands() {
    let mut end = End::server();
    let mut payload = text(500_000);
    payload[300_000] = 0xff;
    let wire = end.peers(0x81, &payload);
    end.read_in_place(&wire[..310_000], 50_000);
    assert_eq!(end.told(), "closed 1007 '' by InvalidUtf8");
    assert!(end.connection.message_buffer().is_none());
}

#[test]
fn a_pause_and_a_close_leave_no_buffer_to_read_into() {
    let mut end = End::server();
    let wire = end.peers(0x82, &pattern(500_000));
    end.read(&wire[..100_000]);
    end.connection.pause();
    assert!(end.connection.message_buffer().is_none());
    end.connection.resume(end.now);
    assert!(end.connection.message_buffer().is_some());
    end.close(1000, "");
    end.read_in_place(&wire[100_000..], 70_000);
    let close = end.peers(0x88, b"\x03\xe8");
    end.read(&close);
    assert_eq!(end.told(), "closed 1000 '' by local", "what came after our Close was dropped");
}
