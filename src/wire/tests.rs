//! The codec against its specification, against itself, and against noise.

use super::*;
use crate::connection::Random;

const GUIDE: &str = include_str!("../../docs/WIRE.md");

/// The guide's examples of what goes one way.
fn examples(arrow: &str) -> Vec<&'static str> {
    let found: Vec<_> = GUIDE.lines().filter_map(|line| line.strip_prefix(arrow)).collect();
    assert!(found.len() >= 8, "only {} examples with {arrow}", found.len());
    found
}

fn recoded_as_client(frame: &str) -> Result<String, Refusal> {
    ClientMessage::decode(frame).map(|message| String::from_utf8(message.encode()).unwrap())
}

fn recoded_as_server(frame: &str) -> Result<String, Refusal> {
    ServerMessage::decode(frame).map(|message| String::from_utf8(message.encode()).unwrap())
}

fn fault(frame: &str) -> Fault {
    ClientMessage::decode(frame).unwrap_err().fault
}

#[test]
fn every_example_of_the_guide_is_a_message_to_the_byte() {
    for example in examples("→ ") {
        assert_eq!(recoded_as_client(example).as_deref(), Ok(example));
    }
    for example in examples("← ") {
        assert_eq!(recoded_as_server(example).as_deref(), Ok(example));
    }
}

#[test]
fn the_guide_has_every_message() {
    let mut kinds: Vec<_> = examples("→ ").iter().map(|frame| ClientMessage::decode(frame).unwrap().kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, ["connect", "ping", "presence", "publish", "subscribe", "unsubscribe"]);
    let mut seen = [false; 6];
    for frame in examples("← ") {
        seen[match ServerMessage::decode(frame).unwrap() {
            ServerMessage::Ack(_) => 0,
            ServerMessage::Message(_) => 1,
            ServerMessage::Presence(_) => 2,
            ServerMessage::PresenceEvent(_) => 3,
            ServerMessage::Unsubscribe { .. } => 4,
            ServerMessage::Error { .. } => 5,
        }] = true;
    }
    assert_eq!(seen, [true; 6]);
}

#[test]
fn the_guide_has_every_error_and_close_code() {
    let (_, table) = GUIDE.split_once("| code | what happened").unwrap();
    let rows: Vec<_> = table.lines().skip(2).map_while(|line| line.strip_prefix("| `")).collect();
    assert_eq!(rows.len(), ErrorCode::ALL.len());
    for (row, code) in rows.iter().zip(ErrorCode::ALL) {
        let (name, rest) = row.split_once('`').unwrap();
        assert_eq!(name, code.name());
        assert_eq!(rest.starts_with(" †"), code.ends_connect().is_some(), "{code}");
        assert_eq!(ErrorCode::of_name(name), Some(code));
    }
    assert_eq!(ErrorCode::of_name("other"), None);
    for (code, reason) in close::ALL {
        assert!(GUIDE.contains(&format!("| {code} | `{reason}` |")), "{code}");
        assert!(code.may_be_sent());
    }
    let bounds = [
        format!("{DEPTH_MAX} levels"),
        format!("{NUMBER_BYTES_MAX} bytes"),
        format!("up to {} topics", sse::TOPICS_MAX),
    ];
    for bound in bounds.iter().chain([&format!("`{SUBPROTOCOL}`")]) {
        assert!(GUIDE.contains(bound), "{bound}");
    }
}

/// What the guide shows of a stream is what the encoder writes.
#[test]
fn the_guide_shows_a_real_stream() {
    let mut stream = sse::opening(std::time::Duration::from_secs(3));
    let mut positions = sse::Positions::default();
    positions.set("chat:room1", Position { epoch: Epoch(0x00f1_e2d3_c4b5_a697), offset: 41 });
    sse::write_id(&mut stream, &positions);
    stream.push(b'\n');
    for (offset, text) in [(42, "hello"), (43, "two\nlines")] {
        positions.set("chat:room1", Position { epoch: Epoch(0x00f1_e2d3_c4b5_a697), offset });
        sse::write_id(&mut stream, &positions);
        stream.extend(sse::data(text));
        if offset == 42 {
            stream.extend(b":\n\n");
        }
    }
    let stream = String::from_utf8(stream).unwrap();
    assert!(GUIDE.contains(&format!("```text\n{stream}```\n")), "{stream}");
}

#[test]
fn fields_in_any_order_with_white_space_unknown_ones_and_escapes() {
    let frame = " { \"data\" : [ 1 , 2 ] , \"future\" : {\"type\":\"ping\"} , \"topic\" : \"caf\\u00e9:\\ud83d\\ude00\" ,\
                 \n \"future\" : 2 , \"id\" : null , \"t\\u0079pe\" : \"publish\" } ";
    let ClientMessage::Publish { id, topic, data, key } = ClientMessage::decode(frame).unwrap() else {
        panic!("a publish");
    };
    assert_eq!((id, &*topic, data.get(), key), (None, "café:😀", "[ 1 , 2 ]", None));
}

/// What serde_json would make of a double is nobody's business: the text goes on as it came.
#[test]
fn data_is_carried_as_it_stands() {
    let values = [
        "null",
        "true",
        "0",
        "-0",
        "-0.0",
        "1e400",
        "0.1000000000000000055511151231257827",
        "18446744073709551616",
        r#""""#,
        r#""\u00e9\n\ud83d\ude00""#,
        "{}",
        "[ ]",
        r#"{"a":1,"a":2}"#,
        "[1,\t2]",
    ];
    for value in values {
        let frame = format!(r#"{{"type":"publish","topic":"a","data":{value}}}"#);
        assert_eq!(recoded_as_client(&frame), Ok(frame.clone()));
        let ClientMessage::Publish { data, .. } = ClientMessage::decode(&frame).unwrap() else { panic!("a publish") };
        let message = Message { topic: "a".into(), offset: 1, key: None, user: None, data: Data::Json(data.get()) };
        let frame = format!(r#"{{"type":"message","topic":"a","offset":1,"data":{value}}}"#);
        assert_eq!(message.encode(), frame.as_bytes());
        assert_eq!(recoded_as_server(&frame), Ok(frame.clone()));
    }
}

#[test]
fn bare_data_is_a_string_as_it_is_and_anything_else_as_json() {
    let cases = [
        (Data::Json(r#""hello""#), "hello"),
        (Data::Json(r#""\"\n\u00e9""#), "\"\né"),
        (Data::Json(r#"{"a": "b"}"#), r#"{"a": "b"}"#),
        (Data::Json("null"), "null"),
        (Data::Json("1.50"), "1.50"),
        (Data::Text("hello"), "hello"),
        (Data::Text(r#""hello""#), r#""hello""#),
        (data_from_raw("{\"a\":1}"), "{\"a\":1}"),
        (Data::Json(r#""\ud800""#), r#""\ud800""#),
    ];
    for (data, want) in cases {
        assert_eq!(bare(data), want, "{data:?}");
    }
    let message = Message { topic: "a".into(), offset: 1, key: None, user: None, data: data_from_raw("a\n\"b\"\u{1}") };
    let frame = r#"{"type":"message","topic":"a","offset":1,"data":"a\n\"b\"\u0001"}"#;
    assert_eq!(message.encode(), frame.as_bytes());
}

#[test]
fn every_fault_has_its_sentence_and_code() {
    let deep = format!(r#"{{"type":"publish","topic":"a","data":{}{}}}"#, "[".repeat(32), "]".repeat(32));
    let digits = format!(r#"{{"type":"publish","topic":"a","data":{}}}"#, "9".repeat(65));
    let cases: &[(&str, &str, &str)] = &[
        ("", "bad_json", "not JSON at line 1, column 0"),
        ("{", "bad_json", "not JSON at line 1, column 1"),
        ("{\"type\"\n:x}", "bad_json", "not JSON at line 2, column 2"),
        (r#"{"type":"ping","id":1}}"#, "bad_json", "not JSON at line 1, column 23"),
        (r#"{"type":"ping","id":1,}"#, "bad_json", "not JSON at line 1, column 23"),
        (r#"{"type":"ping","id":01}"#, "bad_json", "not JSON at line 1, column 22"),
        ("{\"type\":\"ping\",\"id\":1,\"x\":\"\u{1}\"}", "bad_json", "not JSON at line 1, column 27"),
        ("[]", "bad_json", "a message is a JSON object"),
        (r#"["ping",1]"#, "bad_json", "a message is a JSON object"),
        ("null", "bad_json", "a message is a JSON object"),
        (r#""ping""#, "bad_json", "a message is a JSON object"),
        (&deep, "bad_json", "nested deeper than 32 levels"),
        (&digits, "bad_json", "a number of more than 64 bytes"),
        (r#"{"type":"publish","topic":"a","data":"\ud800"}"#, "bad_json", "a string with half a surrogate pair"),
        (r#"{"type":"ping","id":1,"type":"connect"}"#, "bad_json", "the field `type` stands twice"),
        (r#"{"type":"ping","id":1,"id":1}"#, "bad_json", "the field `id` stands twice"),
        (
            r#"{"type":"subscribe","id":1,"topic":"a","recover":{"offset":1,"offset":2}}"#,
            "bad_json",
            "the field `offset` stands twice",
        ),
        ("{}", "bad_field", "the field `type` is missing"),
        (r#"{"type":5}"#, "bad_field", "the field `type` must be a string"),
        (r#"{"type":"pong","id":1}"#, "unknown_type", "no message has this `type`"),
        (r#"{"type":"Ping","id":1}"#, "unknown_type", "no message has this `type`"),
        (r#"{"type":"message","topic":"a","offset":1,"data":1}"#, "unknown_type", "no message has this `type`"),
        (r#"{"type":"ping"}"#, "bad_field", "the field `id` is missing"),
        (r#"{"type":"ping","id":null}"#, "bad_field", "the field `id` is missing"),
        (r#"{"type":"connect"}"#, "bad_field", "the field `id` is missing"),
        (r#"{"type":"connect","id":1,"token":5}"#, "bad_field", "the field `token` must be a string"),
        (r#"{"type":"subscribe","id":1}"#, "bad_field", "the field `topic` is missing"),
        (r#"{"type":"subscribe","id":1,"topic":["a"]}"#, "bad_field", "the field `topic` must be a string"),
        (
            r#"{"type":"subscribe","id":1,"topic":"a","presence":"yes"}"#,
            "bad_field",
            "the field `presence` must be true or false",
        ),
        (
            r#"{"type":"subscribe","id":1,"topic":"a","recover":41}"#,
            "bad_field",
            "the field `recover` must be an object",
        ),
        (
            r#"{"type":"subscribe","id":1,"topic":"a","recover":[]}"#,
            "bad_field",
            "the field `recover` must be an object",
        ),
        (r#"{"type":"subscribe","id":1,"topic":"a","recover":{}}"#, "bad_field", "the field `epoch` is missing"),
        (
            r#"{"type":"subscribe","id":1,"topic":"a","recover":{"epoch":"00f1e2d3c4b5a697"}}"#,
            "bad_field",
            "the field `offset` is missing",
        ),
        (
            r#"{"type":"subscribe","id":1,"topic":"a","recover":{"epoch":"00F1E2D3C4B5A697","offset":1}}"#,
            "bad_field",
            "the field `epoch` must be a string of 16 hexadecimal digits, letters in lower case",
        ),
        (
            r#"{"type":"subscribe","id":1,"topic":"a","recover":{"epoch":"00f1e2d3c4b5a697","offset":9007199254740992}}"#,
            "bad_field",
            "the field `offset` must be a whole number from 0 to 9007199254740991",
        ),
        (r#"{"type":"unsubscribe","id":1}"#, "bad_field", "the field `topic` is missing"),
        (r#"{"type":"presence","id":1}"#, "bad_field", "the field `topic` is missing"),
        (r#"{"type":"publish","topic":"a"}"#, "bad_field", "the field `data` is missing"),
        (r#"{"type":"publish","data":1}"#, "bad_field", "the field `topic` is missing"),
        (r#"{"type":"publish","topic":"a","data":1,"key":1}"#, "bad_field", "the field `key` must be a string"),
    ];
    for &(frame, code, sentence) in cases {
        let fault = fault(frame);
        assert_eq!((fault.code().name(), &*fault.to_string()), (code, sentence), "{frame}");
    }
    for id in ["-1", "1.5", "1.0", "1e1", "4294967296", "99999999999999999999", "\"1\"", "[1]", "true"] {
        let wrong = Fault::Wrong { field: "id", expected: "a whole number from 0 to 4294967295" };
        assert_eq!(fault(&format!(r#"{{"type":"ping","id":{id}}}"#)), wrong, "{id}");
    }
    for id in ["0", "4294967295"] {
        assert!(ClientMessage::decode(&format!(r#"{{"type":"ping","id":{id}}}"#)).is_ok(), "{id}");
    }
}

#[test]
fn a_refusal_is_told_to_whom_it_concerns() {
    let told =
        |frame: &str| String::from_utf8(ClientMessage::decode(frame).unwrap_err().to_message().encode()).unwrap();
    let cases = [
        (
            r#"{"id":7,"type":"fly"}"#,
            r#"{"type":"error","id":7,"code":"unknown_type","message":"no message has this `type`"}"#,
        ),
        (
            r#"{"type":"publish","id":7,"topic":"a"}"#,
            r#"{"type":"error","id":7,"code":"bad_field","message":"the field `data` is missing"}"#,
        ),
        (
            r#"{"type":"ping","id":7,"type":"ping"}"#,
            r#"{"type":"error","id":7,"code":"bad_json","message":"the field `type` stands twice"}"#,
        ),
        (r#"{"id":7"#, r#"{"type":"error","code":"bad_json","message":"not JSON at line 1, column 7"}"#),
        (
            r#"{"type":"ping","id":-7}"#,
            r#"{"type":"error","code":"bad_field","message":"the field `id` must be a whole number from 0 to 4294967295"}"#,
        ),
    ];
    for (frame, want) in cases {
        assert_eq!(told(frame), want);
    }
}

#[test]
fn servers_messages_with_faults_are_refused_too() {
    let fault = |frame: &str| ServerMessage::decode(frame).unwrap_err().fault.to_string();
    let cases = [
        (r#"{"type":"connect","id":1}"#, "no message has this `type`"),
        (r#"{"type":"ack"}"#, "the field `id` is missing"),
        (r#"{"type":"ack","id":1,"offset":1}"#, "the field `epoch` is missing"),
        (r#"{"type":"message","topic":"a","data":1}"#, "the field `offset` is missing"),
        (r#"{"type":"presence","topic":"a","event":"nap","user":"a"}"#, "the field `event` must be `join` or `leave`"),
        (r#"{"type":"presence","topic":"a","event":"join"}"#, "the field `user` is missing"),
        (r#"{"type":"presence","topic":"a","event":"join","user":"a","info":1}"#, "the field `info` must be an object"),
        (r#"{"type":"presence","id":1,"topic":"a"}"#, "the field `members` is missing"),
        (r#"{"type":"presence","id":1,"topic":"a","members":{}}"#, "the field `members` must be an array"),
        (r#"{"type":"presence","id":1,"topic":"a","members":[1]}"#, "the field `members` must be an object"),
        (r#"{"type":"presence","id":1,"topic":"a","members":[{}]}"#, "the field `user` is missing"),
        (r#"{"type":"error","id":1,"message":"x"}"#, "the field `code` is missing"),
        (r#"{"type":"unsubscribe","topic":"a","code":"x"}"#, "the field `reason` is missing"),
    ];
    for (frame, want) in cases {
        assert_eq!(fault(frame), want, "{frame}");
    }
}

#[test]
fn acks_and_errors_have_the_fields_of_what_they_answer() {
    let position = Position { epoch: Epoch(1), offset: 2 };
    let ack = |ack| String::from_utf8(ServerMessage::Ack(ack).encode()).unwrap();
    assert_eq!(ack(Ack::done(1)), r#"{"type":"ack","id":1}"#);
    assert_eq!(ack(Ack::connected(1, "c", None, None)), r#"{"type":"ack","id":1,"connection":"c"}"#);
    assert_eq!(
        ack(Ack::connected(1, "c", Some("a\"b"), Some(9))),
        r#"{"type":"ack","id":1,"connection":"c","user":"a\"b","expires_in":9}"#
    );
    assert_eq!(
        ack(Ack::subscribed(1, position, Some(false), 0)),
        r#"{"type":"ack","id":1,"epoch":"0000000000000001","offset":2,"recovered":false,"replay":0}"#
    );
    assert_eq!(ack(Ack::published(1, position)), r#"{"type":"ack","id":1,"epoch":"0000000000000001","offset":2}"#);
    let error = ServerMessage::error(Some(1), ErrorCode::BadTopic, "why").encode();
    assert_eq!(error, br#"{"type":"error","id":1,"code":"bad_topic","message":"why"}"#);
    let ended = ServerMessage::unsubscribed("a", ErrorCode::Unavailable, "why").encode();
    assert_eq!(ended, br#"{"type":"unsubscribe","topic":"a","code":"unavailable","reason":"why"}"#);
}

#[test]
fn a_token_does_not_show() {
    let frame = r#"{"type":"connect","id":1,"token":"hush"}"#;
    let message = ClientMessage::decode(frame).unwrap();
    assert!(!format!("{message:?}").contains("hush"));
    let ClientMessage::Connect { token: Some(token), .. } = message else { panic!("a token") };
    assert_eq!(token.0, "hush");
}

#[test]
fn every_cut_is_refused() {
    for example in examples("→ ").into_iter().chain(examples("← ")) {
        for cut in (0..example.len()).filter(|&cut| example.is_char_boundary(cut)) {
            for fault in [fault(&example[..cut]), ServerMessage::decode(&example[..cut]).unwrap_err().fault] {
                assert!(matches!(fault, Fault::NotJson { .. }), "{}: {fault}", &example[..cut]);
            }
        }
    }
}

/// `WIRE_SEED=n` repeats a run. Whatever comes out of noise is within the bounds, is JSON to a strict parser, and
/// says the same when it is written and read again.
#[test]
fn noise_is_refused_or_means_something() {
    let seed = std::env::var("WIRE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(fresh_seed);
    let mut random = Random::new(seed);
    let examples: Vec<_> = examples("→ ").into_iter().chain(examples("← ")).collect();
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..60_000 {
        let frame = mutated(&mut random, &examples);
        for recode in [recoded_as_client, recoded_as_server] {
            match recode(&frame) {
                Ok(again) => {
                    accepted += 1;
                    let place = || format!("WIRE_SEED={seed}, round {round}: {frame}");
                    assert_eq!(recode(&again).as_ref(), Ok(&again), "{}", place());
                    // A `Value` refuses what subscribers' parsers would, but for numbers above a double's range.
                    let strict = serde_json::from_str::<serde_json::Value>(&again);
                    let out_of_range = |error: &serde_json::Error| error.to_string().contains("number out of range");
                    assert!(strict.as_ref().err().is_none_or(out_of_range), "{}: {strict:?}", place());
                }
                Err(refusal) => {
                    refused += 1;
                    let told = String::from_utf8(refusal.to_message().encode()).unwrap();
                    assert!(ServerMessage::decode(&told).is_ok(), "WIRE_SEED={seed}, round {round}: {told}");
                }
            }
        }
    }
    assert!(accepted > 1000 && refused > 1000, "WIRE_SEED={seed}: {accepted} accepted, {refused} refused");
}

/// An example with one to four changes.
fn mutated(random: &mut Random, examples: &[&str]) -> String {
    let pick = |random: &mut Random, len: usize| random.below(len as u64) as usize;
    let mut frame: Vec<char> = examples[pick(random, examples.len())].chars().collect();
    for _ in 0..=random.below(4) {
        let at = pick(random, frame.len());
        let end = (at + pick(random, 12)).min(frame.len());
        match random.below(6) {
            0 => drop(frame.drain(at..end)),
            1 => frame.splice(at..at, frame[at..end].to_vec()).for_each(drop),
            2 => frame[at] = char::from(random.below(128) as u8),
            3 => frame[at] = ['"', '\\', '{', '}', '[', ']', ':', ',', '9', 'é', '\0', '-'][pick(random, 12)],
            4 => {
                let other: Vec<char> = examples[pick(random, examples.len())].chars().collect();
                let from = pick(random, other.len());
                frame.splice(at..end, other[from..(from + 20).min(other.len())].iter().copied()).for_each(drop);
            }
            _ => {
                let piece = PIECES[pick(random, PIECES.len())];
                frame.splice(at..at, piece.chars()).for_each(drop);
            }
        }
        if frame.is_empty() {
            frame.push('{');
        }
    }
    frame.into_iter().collect()
}

const PIECES: &[&str] = &[
    "\\ud83d",
    "\\ude00",
    "\\u0000",
    "null",
    "1e999",
    "-0",
    "\"id\":1,",
    "\"type\":\"ping\",",
    "[[[[[[[[",
    "{\"a\":",
    "99999999999999999999999999999999",
    " ",
    "\n",
];

fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one("wire")
}
