//! The codec against an independent one: what Corewire encodes tungstenite decodes, and the other way round.
#![cfg(not(miri))]

use std::io::{self, Read, Write};

use corewire::protocol::frame::{decode_header, encode_header};
use corewire::protocol::{CloseCode, FrameHeader, FrameRules, HEADER_LEN_MAX, Opcode, Role, close, mask};
use proptest::prelude::*;
use tungstenite::protocol::{self as other, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

/// A wire with two ends in one hand: what is written can be taken out, what is read was put in.
#[derive(Default)]
struct Wire {
    incoming: io::Cursor<Vec<u8>>,
    outgoing: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.incoming.read(buf)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.outgoing.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One message, and into how many bytes per frame it is cut.
#[derive(Clone, Debug)]
struct Sent {
    message: Message,
    fragment_len: usize,
    key: [u8; 4],
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        (any::<u8>(), 65_500usize..65_600).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let control = prop::collection::vec(any::<u8>(), 0..=125);
    let message = prop_oneof![
        payload.prop_map(|payload| Message::Binary(payload.into())),
        "\\PC{0,100}".prop_map(|text| Message::Text(text.into())),
        control.clone().prop_map(|payload| Message::Ping(payload.into())),
        control.prop_map(|payload| Message::Pong(payload.into())),
    ];
    (message, 1usize..70_000, any::<[u8; 4]>()).prop_map(|(message, fragment_len, key)| Sent {
        message,
        fragment_len,
        key,
    })
}

fn opcode_of(message: &Message) -> Opcode {
    match message {
        Message::Text(_) => Opcode::Text,
        Message::Binary(_) => Opcode::Binary,
        Message::Ping(_) => Opcode::Ping,
        Message::Pong(_) => Opcode::Pong,
        Message::Close(_) => Opcode::Close,
        Message::Frame(_) => unreachable!("tungstenite never returns one"),
    }
}

/// Encodes with our codec, cut into fragments where that is allowed.
fn encode(sent: &Sent, we_are: Role, out: &mut Vec<u8>) {
    let payload = sent.message.clone().into_data();
    let first = opcode_of(&sent.message);
    let fragment_len = if first.is_control() { payload.len().max(1) } else { sent.fragment_len };
    let mut pieces = payload.chunks(fragment_len).collect::<Vec<_>>();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    for (index, piece) in pieces.iter().enumerate() {
        let header = FrameHeader {
            fin: index + 1 == pieces.len(),
            rsv1: false,
            opcode: if index == 0 { first } else { Opcode::Continuation },
            mask: (we_are == Role::Client).then_some(sent.key),
            payload_len: piece.len() as u64,
        };
        encode_frame(&header, piece, out);
    }
}

fn encode_frame(header: &FrameHeader, payload: &[u8], out: &mut Vec<u8>) {
    let mut bytes = [0; HEADER_LEN_MAX];
    let len = encode_header(header, &mut bytes);
    out.extend_from_slice(&bytes[..len]);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = header.mask {
        mask::apply(&mut out[start..], key);
    }
}

/// Decodes every frame of `wire` with our codec and joins the fragments.
fn decode(mut wire: Vec<u8>, we_are: Role) -> Vec<(Opcode, Vec<u8>)> {
    let rules = FrameRules { role: we_are, rsv1_allowed: false, frame_bytes_max: 1 << 20 };
    let mut messages = Vec::new();
    let mut rest = &mut wire[..];
    while !rest.is_empty() {
        let (header, len) = decode_header(rest, &rules).unwrap().expect("whole frames only");
        let (frame, after) = rest.split_at_mut(len + header.payload_len as usize);
        let payload = &mut frame[len..];
        if let Some(key) = header.mask {
            mask::apply(payload, key);
        }
        assert!(header.fin && header.opcode != Opcode::Continuation, "tungstenite never fragments");
        messages.push((header.opcode, payload.to_vec()));
        rest = after;
    }
    messages
}

fn their_end(role: other::Role, incoming: Vec<u8>) -> WebSocket<Wire> {
    let wire = Wire { incoming: io::Cursor::new(incoming), outgoing: Vec::new() };
    WebSocket::from_raw_socket(wire, role, Some(WebSocketConfig::default()))
}

const BOTH_WAYS: [(Role, other::Role); 2] = [(Role::Client, other::Role::Server), (Role::Server, other::Role::Client)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tungstenite_reads_what_corewire_writes(messages in prop::collection::vec(sent(), 1..6)) {
        for (ours, theirs) in BOTH_WAYS {
            let mut wire = Vec::new();
            messages.iter().for_each(|sent| encode(sent, ours, &mut wire));
            let mut their_end = their_end(theirs, wire);
            for sent in &messages {
                prop_assert_eq!(&their_end.read().unwrap(), &sent.message);
            }
            prop_assert!(matches!(their_end.read(), Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock));
        }
    }

    #[test]
    fn corewire_reads_what_tungstenite_writes(messages in prop::collection::vec(sent(), 1..6)) {
        for (ours, theirs) in BOTH_WAYS {
            let mut their_end = their_end(theirs, Vec::new());
            for sent in &messages {
                their_end.send(sent.message.clone()).unwrap();
            }
            let got = decode(std::mem::take(&mut their_end.get_mut().outgoing), ours);
            let want: Vec<_> =
                messages.iter().map(|sent| (opcode_of(&sent.message), sent.message.clone().into_data().to_vec())).collect();
            prop_assert_eq!(got, want);
        }
    }

    /// Wherever ours finds a violation in a header, theirs must not read a message; and the other way round, as far
    /// as tungstenite enforces the rule (it takes lengths in more bytes than they need).
    #[test]
    fn both_judge_any_header_alike(mut wire in prop::collection::vec(any::<u8>(), 2..14), masked: bool) {
        wire[1] = wire[1] & 0x7f | (masked as u8) << 7;
        for (ours, theirs) in BOTH_WAYS {
            let rules = FrameRules { role: flipped(ours), rsv1_allowed: false, frame_bytes_max: 1 << 20 };
            let ours = decode_header(&wire, &rules);
            let we_refuse = ours.is_err();
            // What stands behind the first frame would be another, which we do not look at here.
            let one = ours.ok().flatten().map_or(wire.len(), |(header, len)| len + header.payload_len as usize);
            let wire = wire[..one.min(wire.len())].to_vec();
            let they_refuse = matches!(their_end(theirs, wire.clone()).read(), Err(Error::Protocol(_) | Error::Capacity(_)));
            prop_assert!(we_refuse || !they_refuse || needs_more_than_a_header(&wire), "{wire:02x?} for {theirs:?}");
        }
    }
}

/// `ours` is the end that writes; the rules are those of the end that reads.
fn flipped(ours: Role) -> Role {
    match ours {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// Faults that the header alone does not show: a continuation of nothing, a close payload, a text's UTF-8.
fn needs_more_than_a_header(wire: &[u8]) -> bool {
    matches!(wire[0] & 0x0f, 0x0 | 0x1 | 0x8)
}

#[test]
fn close_frames_say_the_same_to_both() {
    for (ours, theirs) in BOTH_WAYS {
        // 1014 was registered after RFC 6455, and tungstenite does not know it.
        for code in (1000..=5000).filter(|&code| CloseCode(code).may_be_sent() && code != 1014) {
            let mut payload = [0; close::CLOSE_LEN_MAX];
            let len = close::encode_close(CloseCode(code), "so long", &mut payload);
            let mask = (ours == Role::Client).then_some([1, 2, 3, 4]);
            let header = FrameHeader { fin: true, rsv1: false, opcode: Opcode::Close, mask, payload_len: len as u64 };
            let mut wire = Vec::new();
            encode_frame(&header, &payload[..len], &mut wire);
            let mut their_end = their_end(theirs, wire);
            let Ok(Message::Close(Some(frame))) = their_end.read() else { panic!("{code}") };
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (code, "so long"));
        }
    }
}
