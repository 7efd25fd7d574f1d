//! A deliberately faulty server, and a run of the tool against a server.

#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod schema;

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::{Bytes, Message, WebSocket};

/// What the server does wrong. Every `n`th message of each connection suffers it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing: an honest echo.
    None,
    Drop(u64),
    Duplicate(u64),
    /// It is sent after the next one.
    Reorder(u64),
    /// One bit is wrong.
    Corrupt(u64),
    /// It ends without its last byte.
    Truncate(u64),
    Delay(u64, Duration),
    /// All connections stand still, once: so long after the first message, for so long.
    Freeze {
        after: Duration,
        span: Duration,
    },
    /// The connection ends at its `n`th message, without Close.
    HangUp(u64),
    /// The handshake is answered with this status.
    Status(u16),
}

/// Starts a faulty echo server; its threads end with the process. Returns its port.
pub(crate) fn serve(fault: Fault) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let first_message = Arc::new(Mutex::new(None));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let first_message = Arc::clone(&first_message);
            thread::spawn(move || {
                // A peer that leaves ends it; that is no fault.
                let _ = echo(stream.unwrap(), fault, &first_message);
            });
        }
    });
    port
}

fn echo(
    mut stream: TcpStream,
    fault: Fault,
    first_message: &Mutex<Option<Instant>>,
) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_nodelay(true)?;
    if let Fault::Status(status) = fault {
        use std::io::{Read, Write};
        let mut request = [0; 4096];
        let _ = stream.read(&mut request)?;
        stream.write_all(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
        return Ok(());
    }
    let mut websocket = tungstenite::accept(stream)?;
    let mut held = None;
    for number in 1.. {
        let message = loop {
            let message = websocket.read()?;
            if message.is_binary() || message.is_text() {
                break message;
            }
        };
        let began = *first_message.lock().unwrap().get_or_insert_with(Instant::now);
        let hit = |every: u64| number % every == 0;
        match fault {
            Fault::Drop(every) if hit(every) => {}
            Fault::Duplicate(every) if hit(every) => {
                websocket.send(message.clone())?;
                websocket.send(message)?;
            }
            Fault::Reorder(every) if hit(every) => held = Some(message),
            Fault::Corrupt(every) if hit(every) => send_changed(&mut websocket, message, |bytes| bytes[20] ^= 4)?,
            Fault::Truncate(every) if hit(every) => {
                send_changed(&mut websocket, message, |bytes| bytes.truncate(bytes.len() - 1))?;
            }
            Fault::HangUp(at) if number == at => return Ok(()),
            Fault::Delay(every, span) if hit(every) => {
                thread::sleep(span);
                websocket.send(message)?;
            }
            Fault::Freeze { after, span } => {
                let since = began.elapsed();
                if since >= after && since < after + span {
                    thread::sleep(after + span - since);
                }
                websocket.send(message)?;
            }
            _ => {
                websocket.send(message)?;
                if let Some(held) = held.take() {
                    websocket.send(held)?;
                }
            }
        }
    }
    Ok(())
}

fn send_changed(
    websocket: &mut WebSocket<TcpStream>,
    message: Message,
    change: impl FnOnce(&mut Vec<u8>),
) -> Result<(), tungstenite::Error> {
    let mut bytes = message.into_data().to_vec();
    change(&mut bytes);
    websocket.send(Message::Binary(Bytes::from(bytes)))
}

/// A place on the machine for one run, while it lasts.
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Turn {
    fn shared() -> Self {
        Self::Shared(TURN.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn alone() -> Self {
        Self::Alone(TURN.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// A load generator measures what else the machine does, too: whoever goes as fast as it can, or fast, goes alone.
    /// A low rate and a crowd that holds still leave room for others.
    fn of(words: &str) -> Self {
        let holds_still = words.starts_with("idle ") && !words.contains("--hot-for");
        let rate = words.split_once("--rate ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        if holds_still || rate.is_some_and(|rate: u32| rate <= SHARED_RATE_MAX) {
            Self::shared()
        } else {
            Self::alone()
        }
    }
}

/// Messages per second.
const SHARED_RATE_MAX: u32 = 200;

static TURN: RwLock<()> = RwLock::new(());

/// Runs the tool with words split at blanks: for what is refused, or goes at a low rate.
pub(crate) fn load(words: &str) -> Output {
    load_in(Turn::shared(), words)
}

/// The same, while nothing else is run.
pub(crate) fn load_alone(words: &str) -> Output {
    load_in(Turn::alone(), words)
}

fn load_in(_turn: Turn, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corewire-load")).args(words.split_ascii_whitespace()).output().unwrap()
}

/// Runs the tool and reads its report.
pub(crate) fn report(words: &str) -> serde_json::Value {
    report_with(words, &[])
}

/// The same, with arguments that have blanks in them.
pub(crate) fn report_with(words: &str, more: &[&str]) -> serde_json::Value {
    report_in(Turn::of(words), words, more)
}

/// The same, while nothing else is run: for what is about time, or much in spite of its rate.
pub(crate) fn report_alone(words: &str, more: &[&str]) -> serde_json::Value {
    report_in(Turn::alone(), words, more)
}

fn report_in(_turn: Turn, words: &str, more: &[&str]) -> serde_json::Value {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("corewire-load-{}-{count}.json", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_corewire-load"))
        .args(words.split_ascii_whitespace())
        .args(more)
        .args(["--quiet", "--json"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Whether the verdict gives a reason that has `words` in it.
pub(crate) fn blames(report: &serde_json::Value, words: &str) -> bool {
    let reasons = report["verdict"]["reasons"].as_array().unwrap();
    reasons.iter().any(|reason| reason.as_str().unwrap().contains(words))
}

/// Starts a server that sends everything to everybody, with a fault on the way to each; returns its port.
pub(crate) fn serve_broadcast(fault: Fault) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let hearers: Arc<Mutex<Vec<Hearer>>> = Arc::default();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let hearers = Arc::clone(&hearers);
            thread::spawn(move || {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let out = stream.try_clone().unwrap();
                let Ok(mut websocket) = tungstenite::accept(stream) else { return };
                hearers.lock().unwrap().push(Hearer { out, count: 0, held: None });
                while let Ok(message) = websocket.read() {
                    if message.is_binary() || message.is_text() {
                        let frame = frame(message.is_text(), &message.into_data());
                        hearers.lock().unwrap().iter_mut().for_each(|hearer| hearer.hear(&frame, fault));
                    }
                }
            });
        }
    });
    port
}

/// Somebody who hears broadcasts.
struct Hearer {
    out: TcpStream,
    count: u64,
    held: Option<Vec<u8>>,
}

impl Hearer {
    fn hear(&mut self, frame: &[u8], fault: Fault) {
        use std::io::Write;
        self.count += 1;
        let hit = |every: u64| self.count.is_multiple_of(every);
        let mut bytes = frame.to_vec();
        match fault {
            Fault::Drop(every) if hit(every) => return,
            Fault::Duplicate(every) if hit(every) => bytes.extend_from_slice(frame),
            Fault::Delay(every, span) if hit(every) => thread::sleep(span),
            Fault::Corrupt(every) if hit(every) => *bytes.last_mut().unwrap() ^= 4,
            Fault::Reorder(every) if hit(every) => {
                self.held = Some(bytes);
                return;
            }
            _ => bytes.extend(self.held.take().unwrap_or_default()),
        }
        // Whoever has left hears nothing.
        let _ = self.out.write_all(&bytes);
    }
}

/// A frame as a server sends it; for payloads below 64 KiB.
pub(crate) fn frame(text: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![if text { 0x81 } else { 0x82 }];
    match payload.len() {
        len @ 0..126 => frame.push(len as u8),
        len => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Corewire, as `COREWIRE_BIN` or beside this tool, where `cargo test --workspace` builds it.
pub(crate) fn corewire() -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_corewire-load")).with_file_name("corewire");
    let path = std::env::var_os("COREWIRE_BIN").map_or(beside, PathBuf::from);
    assert!(path.exists(), "{} is not there; build it first: cargo build -p corewire", path.display());
    path
}

/// A port that nobody listens on, and that the kernel gives to nobody who asks for just any, be it to connect: until it
/// is used, other tests ask for many.
pub(crate) fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Below what Linux gives away of itself, from 32768 on. Another process begins elsewhere.
    let first = std::process::id() * 50;
    loop {
        let port = 12_000 + ((first + COUNT.fetch_add(1, Ordering::Relaxed)) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// By how much the tool itself was late at most, in nanoseconds: a machine that is busy or stands still is no fault of a
/// server's, and is in every latency that is counted from the intended moment.
pub(crate) fn lateness_ns(report: &serde_json::Value) -> u64 {
    report["generator"]["lateness_max_ns"].as_u64().unwrap()
}

/// A run against Corewire in `mode`.
pub(crate) fn report_of_corewire(mode: &str, words: &str) -> serde_json::Value {
    let port = free_port();
    let server = format!("{} {mode} --listen 127.0.0.1:{port} --log-level error", corewire().display());
    report_with(&words.replacen(' ', &format!(" ws://127.0.0.1:{port}/ "), 1), &["--spawn", &server])
}
