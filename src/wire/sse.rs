//! Server-Sent Events (HTML Living Standard, §9.2), as text.
//!
//! An event is an `id` line, which differs from client to client, and the lines of its data, which do not:
//! [`write_id`] once per client and [`data`] once per publication.

use std::collections::BTreeMap;
use std::io::Write;

use thiserror::Error;

use super::position::Position;

/// How far a client has got in each of its topics. `Last-Event-ID` carries it, so that the server keeps nothing.
///
/// As text: for each topic a hash of its name, a dash and the position, with commas between them. A hash keeps an id
/// short and free of characters that a header cannot carry. If two names of one client ever had the same hash, one of
/// them would come back with the other's position, whose epoch does not fit: it is told a gap, never a wrong
/// publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(BTreeMap<u32, Position>);

impl Positions {
    /// Reads `Last-Event-ID`. An empty one is what clients send that have had no event.
    ///
    /// # Errors
    ///
    /// [`BadEventId`] if it is none of ours. What the client missed is then not known.
    pub fn parse(id: &str) -> Result<Self, BadEventId> {
        if id.len() > ID_BYTES_MAX {
            return Err(BadEventId::TooLong { bytes: id.len() });
        }
        if id.is_empty() {
            return Ok(Self::default());
        }
        let mut positions = BTreeMap::new();
        for (index, entry) in id.split(',').enumerate() {
            let (name, position) = parse_entry(entry).ok_or(BadEventId::Malformed { index })?;
            if positions.insert(name, position).is_some() {
                return Err(BadEventId::Repeated { index });
            }
        }
        if positions.len() > TOPICS_MAX { Err(BadEventId::TooManyTopics) } else { Ok(Self(positions)) }
    }

    /// Of a client with one topic.
    pub fn one(topic: &str, position: Position) -> Self {
        Self(BTreeMap::from([(hash(topic), position)]))
    }

    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the client stands in `topic`; `None` if the id does not say.
    pub fn get(&self, topic: &str) -> Option<Position> {
        self.0.get(&hash(topic)).copied()
    }

    /// The client gets the publication at `position` next. At most [`TOPICS_MAX`] topics; more are not kept.
    pub fn set(&mut self, topic: &str, position: Position) {
        let name = hash(topic);
        if self.0.len() < TOPICS_MAX || self.0.contains_key(&name) {
            self.0.insert(name, position);
        }
    }
}

impl std::fmt::Display for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (name, position)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{name:08x}-{position}")?;
        }
        Ok(())
    }
}

/// Why a `Last-Event-ID` tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadEventId {
    /// Longer than any of ours.
    #[error("Last-Event-ID has {bytes} bytes, above the limit of {ID_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// An entry is not a hash and a position.
    #[error("Last-Event-ID is not one of this server's: entry {index} is malformed")]
    Malformed {
        /// Which, counted from zero.
        index: usize,
    },
    /// Two entries for one topic.
    #[error("Last-Event-ID is not one of this server's: entry {index} repeats a topic")]
    Repeated {
        /// The second one, counted from zero.
        index: usize,
    },
    /// More topics than a client may have.
    #[error("Last-Event-ID has more than {TOPICS_MAX} topics")]
    TooManyTopics,
}

/// The `id` line of a client's next event. None for one that has no positions: an empty one would make it forget.
pub fn write_id(out: &mut Vec<u8>, positions: &Positions) {
    if !positions.is_empty() {
        // A vector takes everything.
        let _ = writeln!(out, "id: {positions}");
    }
}

/// The rest of an event: its data and the empty line that ends it. The same for every client.
///
/// A line break in the data, be it `\n`, `\r` or both, begins a new `data` line, and comes out of the client's parser
/// as `\n`: the format has no other.
pub fn data(bare: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(bare.len() + 16);
    write_lines(&mut out, bare);
    out
}

/// An event of the type `gap`: publications of `topic` may be missing before those that follow. It has an `id` line
/// before it, like all events, so that it is not told again.
pub fn gap(topic: &str) -> Vec<u8> {
    let mut out = b"event: gap\n".to_vec();
    write_lines(&mut out, topic);
    out
}

/// What a stream begins with: how long clients are to wait before they come back.
pub fn opening(retry: std::time::Duration) -> Vec<u8> {
    format!("retry: {}\n\n", retry.as_millis()).into_bytes()
}

/// Most topics of one client.
pub const TOPICS_MAX: usize = 32;
/// Longest id: a hash, a dash, an epoch, a dash, an offset and a comma for each topic.
pub const ID_BYTES_MAX: usize = TOPICS_MAX * (8 + 1 + 16 + 1 + 16 + 1);

fn write_lines(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    loop {
        let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&rest.as_bytes()[..end]);
        out.push(b'\n');
        let Some(after) = rest.get(end + 1..) else { break };
        rest = if rest[end..].starts_with("\r\n") { &after[1..] } else { after };
    }
    out.push(b'\n');
}

fn parse_entry(entry: &str) -> Option<(u32, Position)> {
    let (name, position) = entry.split_once('-')?;
    let is_name = name.len() == 8 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let name = u32::from_str_radix(name, 16).ok().filter(|_| is_name)?;
    Some((name, Position::parse(position)?))
}

/// FNV-1a with 32 bits.
fn hash(topic: &str) -> u32 {
    topic.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Epoch, OFFSET_MAX};

    fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch: Epoch(epoch), offset }
    }

    /// What the standard's algorithm makes of a stream (§9.2.6): the last id, and each event's type and data.
    fn read(stream: &str) -> (String, Vec<(String, String)>) {
        let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
        let (mut id, mut events) = (String::new(), Vec::new());
        let (mut kind, mut data) = (String::new(), String::new());
        for line in stream.split_terminator('\n') {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match (line, name) {
                ("", _) => {
                    if !data.is_empty() {
                        let data = data.strip_suffix('\n').expect("each line adds one").to_owned();
                        events.push((std::mem::take(&mut kind), data));
                    }
                    kind.clear();
                    data.clear();
                }
                (_, "event") => kind = value.to_owned(),
                (_, "data") => data.extend([value, "\n"]),
                (_, "id") => id = value.to_owned(),
                (_, _) => {}
            }
        }
        (id, events)
    }

    #[test]
    fn data_of_any_lines_comes_out_of_a_parser() {
        let mut cases: Vec<String> = Vec::new();
        for a in ["", "a", " ", ":", "data: x", "é"] {
            for b in ["\n", "\r", "\r\n", "\n\n", "\r\r\n", "\n\r", "\r\n\r\n"] {
                cases.extend([format!("{a}{b}{a}"), format!("{b}{a}"), format!("{a}{b}"), a.to_owned()]);
            }
        }
        for case in cases {
            let stream = String::from_utf8(data(&case)).unwrap();
            let want = case.replace("\r\n", "\n").replace('\r', "\n");
            assert_eq!(read(&stream).1, [(String::new(), want)], "{case:?}");
        }
    }

    #[test]
    fn a_stream_as_it_goes_over_the_wire() {
        let mut positions = Positions::default();
        let mut stream = opening(std::time::Duration::from_secs(3));
        for (offset, text) in [(41, "one"), (42, "two\nlines")] {
            positions.set("chat:a", at(0xabc, offset));
            write_id(&mut stream, &positions);
            stream.extend(data(text));
            stream.extend(b":\n\n");
        }
        positions.set("chat:b", at(7, 0));
        write_id(&mut stream, &positions);
        stream.extend(gap("chat:b"));
        let stream = String::from_utf8(stream).unwrap();
        let (a, b) = (hash("chat:a"), hash("chat:b"));
        let want = format!(
            "retry: 3000\n\n\
             id: {a:08x}-0000000000000abc-41\ndata: one\n\n:\n\n\
             id: {a:08x}-0000000000000abc-42\ndata: two\ndata: lines\n\n:\n\n\
             id: {b:08x}-0000000000000007-0,{a:08x}-0000000000000abc-42\nevent: gap\ndata: chat:b\n\n"
        );
        assert_eq!(stream, want);
        let (id, events) = read(&stream);
        let event = |kind: &str, data: &str| (kind.to_owned(), data.to_owned());
        assert_eq!(events, [event("", "one"), event("", "two\nlines"), event("gap", "chat:b")]);
        let back = Positions::parse(&id).unwrap();
        assert_eq!(back, positions);
        assert_eq!(back.get("chat:a"), Some(at(0xabc, 42)));
        assert_eq!(back.get("chat:b"), Some(at(7, 0)));
        assert_eq!(back.get("chat:c"), None);
    }

    #[test]
    fn ids_of_every_length_come_back_and_the_longest_fits() {
        let mut positions = Positions::default();
        for count in 0..=TOPICS_MAX + 5 {
            let id = positions.to_string();
            assert!(id.len() <= ID_BYTES_MAX);
            assert_eq!(Positions::parse(&id).as_ref(), Ok(&positions), "{count} topics");
            positions.set(&format!("topic:{count}"), at(u64::MAX, OFFSET_MAX));
        }
        assert_eq!(positions.0.len(), TOPICS_MAX);
        positions.set("topic:0", at(1, 1));
        assert_eq!(positions.get("topic:0"), Some(at(1, 1)));
    }

    #[test]
    fn ids_that_are_not_ours() {
        let good = "0000000a-0000000000000abc-41";
        let other = "0000000b-0000000000000abc-41";
        let cases = [
            ("x".to_owned(), BadEventId::Malformed { index: 0 }),
            ("41".to_owned(), BadEventId::Malformed { index: 0 }),
            (",".to_owned(), BadEventId::Malformed { index: 0 }),
            (format!("{good},"), BadEventId::Malformed { index: 1 }),
            (format!(" {good}"), BadEventId::Malformed { index: 0 }),
            (good.to_uppercase(), BadEventId::Malformed { index: 0 }),
            (format!("{good},{other},+000000c-0000000000000abc-1"), BadEventId::Malformed { index: 2 }),
            (format!("{good},{other},{good}"), BadEventId::Repeated { index: 2 }),
            ("é".to_owned(), BadEventId::Malformed { index: 0 }),
            ("x".repeat(ID_BYTES_MAX + 1), BadEventId::TooLong { bytes: ID_BYTES_MAX + 1 }),
        ];
        for (id, want) in cases {
            assert_eq!(Positions::parse(&id), Err(want), "{id}");
        }
        for cut in 1..good.len() - 2 {
            assert_eq!(Positions::parse(&good[..cut]), Err(BadEventId::Malformed { index: 0 }), "{}", &good[..cut]);
        }
        let short = |name: usize| format!("{name:08x}-0000000000000001-1");
        let many: Vec<_> = (0..=TOPICS_MAX).map(short).collect();
        assert_eq!(Positions::parse(&many.join(",")), Err(BadEventId::TooManyTopics));
        assert_eq!(Positions::parse(""), Ok(Positions::default()));
    }
}
