//! What every call does in every stage, as one table: `states.txt`. `UPDATE_SNAPSHOT=1` writes it anew.

use std::fmt::Write;

use super::*;

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/connection/tests/states.txt");

#[test]
fn every_call_in_every_stage() {
    let table = table();
    if std::env::var_os("UPDATE_SNAPSHOT").is_some() {
        std::fs::write(SNAPSHOT, &table).expect("the snapshot is written");
    }
    let committed = std::fs::read_to_string(SNAPSHOT).expect("the snapshot");
    for (ours, theirs) in table.lines().zip(committed.lines()) {
        assert_eq!(ours, theirs, "UPDATE_SNAPSHOT=1 writes the table anew");
    }
    assert_eq!(table, committed);
}

fn table() -> String {
    let mut table = HEADING.to_owned();
    for (stage, make) in STAGES {
        let end = make();
        let _ = writeln!(table, "\n## {stage}: {}\n", state(&end));
        let idle = row(make, |_| String::new());
        let mut without_effect = Vec::new();
        for (call, act) in CALLS {
            let row = row(make, *act);
            if row == idle {
                without_effect.push(*call);
            } else {
                let _ = writeln!(table, "{call:<22}| {row}");
            }
        }
        let _ = writeln!(table, "without effect: {}", without_effect.join(", "));
    }
    table
}

/// What the call answers and causes, and where it leads.
fn row(make: &Make, act: impl FnOnce(&mut End) -> String) -> String {
    let mut end = make();
    let answer = act(&mut end);
    let heard = format!("{answer} {}", end.told());
    let next = format!("{:?}", end.connection.next_step());
    let (after, said) = (state(&end), end.said());
    format!("{:<42}| {said:<34}| {next:<6}| {after}", heard.trim())
}

const HEADING: &str = "\
What every call does in every stage of a connection. Made by states.rs; UPDATE_SNAPSHOT=1 writes it anew.

call                  | answer and events                         | queued                            | next  | stage afterwards, deadline in ticks
";

type Make = fn() -> End;
type Act = fn(&mut End) -> String;

const STAGES: &[(&str, Make)] = &[
    ("opening, nothing read", || End::accepted(Limits::default())),
    ("opening, half a head read", || {
        let mut end = End::accepted(Limits::default());
        end.read(&HEAD[..10]);
        settled(end)
    }),
    ("opening, the application decides", || {
        let mut end = End::accepted(Limits::default());
        end.read_and(HEAD, |connection, _| connection.defer());
        settled(end)
    }),
    ("open, flowing", End::server),
    ("open, half a message read", || {
        let mut end = End::server();
        end.read(&frame(Role::Client, 0x01, b"half"));
        settled(end)
    }),
    ("open, a ping unanswered", || {
        let mut end = End::server();
        let due = end.due_at().expect("a ping is due");
        end.at(due);
        settled(end)
    }),
    ("open, paused", || {
        let mut end = End::server();
        end.connection.pause();
        settled(end)
    }),
    ("open, held", || {
        let mut end = End::server();
        end.connection.hold(true, end.now);
        settled(end)
    }),
    ("open, paused with a message waiting", || {
        let mut end = End::server();
        end.connection.pause();
        end.read(&frame(Role::Client, 0x81, b"waiting"));
        settled(end)
    }),
    ("awaiting Close", || {
        let mut end = End::server();
        end.close(4000, "bye");
        settled(end)
    }),
    ("streaming", || End::streaming(Limits::default())),
    ("streaming, closed", || {
        let mut end = End::streaming(Limits::default());
        end.close(4000, "bye");
        settled(end)
    }),
    ("ending, Close not written yet", || {
        let mut end = End::server();
        end.read(&frame(Role::Client, 0x88, b"\x03\xe8"));
        end.told();
        end
    }),
    ("ending, FIN neither sent nor heard", || {
        let mut end = End::server();
        end.read(&frame(Role::Client, 0x88, b"\x03\xe8"));
        settled(end)
    }),
    ("ending, FIN sent", || {
        let mut end = End::server();
        end.read(&frame(Role::Client, 0x88, b"\x03\xe8"));
        end.connection.fin_sent();
        settled(end)
    }),
    ("ending, FIN heard", || {
        let mut end = End::server();
        end.eof();
        settled(end)
    }),
    ("over", || {
        let mut end = End::server();
        end.reset();
        settled(end)
    }),
];

const CALLS: &[(&str, Act)] = &[
    ("read a text", |end| read(end, &frame(Role::Client, 0x81, b"hi"))),
    ("read a continuation", |end| read(end, &frame(Role::Client, 0x80, b"hi"))),
    ("read a ping", |end| read(end, &frame(Role::Client, 0x89, b"hi"))),
    ("read a Close", |end| read(end, &frame(Role::Client, 0x88, b"\x0f\xa1bye"))),
    ("read garbage", |end| read(end, b"\xff\xff\xff\xff")),
    ("read a head", |end| read(end, HEAD)),
    ("read nothing", |end| read(end, b"")),
    ("handle_eof", |end| {
        end.eof();
        String::new()
    }),
    ("handle_reset", |end| {
        end.reset();
        String::new()
    }),
    ("timeout, one too early", |end| {
        let due = end.due_at().unwrap_or(100_000);
        end.at(due - 1);
        String::new()
    }),
    ("timeout, when due", |end| {
        let due = end.due_at().unwrap_or(100_000);
        end.at(due);
        String::new()
    }),
    ("accept, if opening", |end| {
        if end.connection.is_opening() {
            opening::accept(end);
            end.read(b"");
        }
        String::new()
    }),
    ("stream, if opening", |end| {
        if end.connection.is_opening() {
            end.stream();
            end.read(b"");
        }
        String::new()
    }),
    ("respond", |end| {
        end.connection.respond(&Response::text(404, "no"), &mut end.workspace, end.now);
        String::new()
    }),
    ("defer", |end| {
        end.connection.defer();
        String::new()
    }),
    ("send", |end| in_short(end.send("hi"))),
    ("send_broadcast", |end| {
        let mut broadcast = Broadcast::new(MessageKind::Text, "all".into());
        in_short(end.connection.send_broadcast(&mut broadcast, &mut end.workspace))
    }),
    ("send_prefaced", |end| in_short(end.connection.send_prefaced(b"id: 1 ", "all".into(), &mut end.workspace))),
    ("ping", |end| in_short(end.connection.ping(b"p", &mut end.workspace))),
    ("close", |end| {
        end.close(4001, "now");
        String::new()
    }),
    ("retire_by", |end| {
        end.connection.retire_by(Tick(START.0 + 5));
        String::new()
    }),
    ("pause", |end| {
        end.connection.pause();
        String::new()
    }),
    ("resume", |end| {
        end.connection.resume(end.now);
        read(end, b"")
    }),
    ("hold", |end| {
        end.connection.hold(true, end.now);
        String::new()
    }),
    ("hold no longer", |end| {
        end.connection.hold(false, end.now);
        read(end, b"")
    }),
    ("handle_progress", |end| {
        end.now = Tick(end.now.0 + 3);
        end.connection.handle_progress(end.now);
        String::new()
    }),
    ("fin_sent", |end| {
        end.connection.fin_sent();
        String::new()
    }),
];

fn read(end: &mut End, bytes: &[u8]) -> String {
    end.read(bytes);
    String::new()
}

fn in_short(result: Result<(), SendError>) -> String {
    match result {
        Ok(()) => "Ok".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// With everything written and told.
fn settled(mut end: End) -> End {
    end.output();
    end.told();
    end
}

fn state(end: &End) -> String {
    let stage = match &end.connection.stage {
        Stage::Opening(opening) => format!("opening, {:?}", opening.phase).to_lowercase(),
        Stage::Open(websocket) => {
            let phase = match websocket.phase {
                websocket::Phase::Open => "open".to_owned(),
                websocket::Phase::AwaitingClose { code } => format!("awaiting Close after {code}"),
            };
            let reading = match websocket.reading {
                Reading::Flowing => "",
                Reading::Paused => ", paused",
            };
            let held = if websocket.held { ", held" } else { "" };
            let asked = if websocket.ping_sent { ", pinged" } else { "" };
            format!("{phase}{reading}{held}{asked}")
        }
        Stage::Streaming(stream) => match stream.phase {
            crate::connection::streaming::Phase::Open => "streaming".to_owned(),
            crate::connection::streaming::Phase::Closing { code } => format!("streaming, closed with {code}"),
        },
        Stage::Ending(Ending { fin_sent: true, fin_heard: true, .. }) => "over".to_owned(),
        Stage::Ending(Ending { fin_sent, fin_heard, .. }) => {
            let sent = if *fin_sent { ", FIN sent" } else { "" };
            let heard = if *fin_heard { ", FIN heard" } else { "" };
            format!("ending{sent}{heard}")
        }
    };
    let reads = if end.connection.wants_input(&end.workspace) { "reads" } else { "does not read" };
    let due = end.due_at().map_or("never".to_owned(), |due| due.to_string());
    format!("{stage}, {reads}, due {due}")
}

const HEAD: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a.example\r\n\r\n";
