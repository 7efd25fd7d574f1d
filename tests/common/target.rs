//! A back end: an HTTP server that keeps what it is sent, and answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use aws_lc_rs::hmac;
use serde_json::Value;

use super::until;

/// A request.
#[derive(Clone, Debug)]
pub struct Got {
    pub head: String,
    pub body: Vec<u8>,
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Say {
    Status(u16, String),
    /// Nothing, ever.
    Nothing,
    /// The end of the connection.
    Hangup,
}

/// The server. It is gone when it is dropped.
pub struct Target {
    pub addr: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    got: Mutex<Vec<Got>>,
    streams: Mutex<Vec<TcpStream>>,
    answer: Box<dyn Fn(&Got) -> Say + Send + Sync>,
    is_over: AtomicBool,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Target {
    /// On a port that the kernel chooses.
    pub fn start(answer: impl Fn(&Got) -> Say + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), None, answer)
    }

    /// Says "yes" to everything.
    pub fn agreeable() -> Self {
        Self::start(|_| Say::ok(""))
    }

    pub fn start_at(
        addr: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&Got) -> Say + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).expect("the port is free");
        let addr = listener.local_addr().expect("it is bound");
        let inner = Arc::new(Inner {
            got: Mutex::default(),
            streams: Mutex::default(),
            answer: Box::new(answer),
            is_over: AtomicBool::new(false),
            tls,
        });
        let its = inner.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if its.is_over.load(Ordering::Relaxed) {
                    return;
                }
                its.streams.lock().expect("no panic").push(stream.try_clone().expect("a descriptor"));
                let its = its.clone();
                thread::spawn(move || its.serve(stream));
            }
        });
        Self { addr, inner }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.addr)
    }

    /// All requests so far.
    pub fn got(&self) -> Vec<Got> {
        self.inner.got.lock().expect("no panic").clone()
    }

    pub fn count(&self) -> usize {
        self.inner.got.lock().expect("no panic").len()
    }

    /// All events so far, as they came.
    pub fn events(&self) -> Vec<Value> {
        self.got().iter().flat_map(Got::events).collect()
    }

    /// Waits for so many events.
    #[track_caller]
    pub fn wait_for_events(&self, count: usize) -> Vec<Value> {
        until("the events are delivered", || self.events().len() >= count);
        self.events()
    }

    /// Nobody listens any more, and all connections are cut.
    pub fn stop(&self) {
        self.inner.is_over.store(true, Ordering::Relaxed);
        // So that it sees that it is over, and the port is free.
        drop(TcpStream::connect(self.addr));
        for stream in self.inner.streams.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        until("the listener is gone", || TcpStream::connect(self.addr).is_err());
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.inner.is_over.load(Ordering::Relaxed) {
            self.stop();
        }
    }
}

impl Say {
    pub fn ok(body: impl Into<String>) -> Self {
        Self::Status(200, body.into())
    }
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn events(&self) -> Vec<Value> {
        self.json()["events"].as_array().expect("events").clone()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// Checks the signature as a back end would, and answers with its time.
    #[track_caller]
    pub fn signed_at(&self, secret: &str) -> u64 {
        let header = self.header("Corewire-Signature").expect("it is signed");
        let (time, code) = header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).expect("its form");
        let code: Vec<u8> =
            (0..code.len()).step_by(2).map(|at| u8::from_str_radix(&code[at..at + 2], 16).unwrap()).collect();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signed = [time.as_bytes(), b".", &self.body].concat();
        hmac::verify(&key, &signed, &code).expect("signed with our secret");
        time.parse().expect("a number")
    }
}

impl Inner {
    fn serve(&self, stream: TcpStream) {
        let socket = stream.try_clone().expect("a descriptor");
        match &self.tls {
            None => self.talk(stream),
            Some(config) => {
                let session = rustls::ServerConnection::new(config.clone()).expect("a good configuration");
                self.talk(rustls::StreamOwned::new(session, stream));
            }
        }
        // There are other descriptors of it.
        let _ = socket.shutdown(Shutdown::Both);
    }

    fn talk(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        while let Some(got) = read(&mut stream) {
            self.got.lock().expect("no panic").push(got.clone());
            match (self.answer)(&got) {
                Say::Status(status, body) => {
                    let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
                Say::Nothing => {
                    let _ = stream.read(&mut [0]);
                    return;
                }
                Say::Hangup => return,
            }
            if stream.get_mut().flush().is_err() {
                return;
            }
        }
    }
}

fn read(stream: &mut impl BufRead) -> Option<Got> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut got = Got { head, body: Vec::new() };
    let len = got.header("Content-Length").and_then(|len| len.parse().ok()).expect("a length");
    got.body.resize(len, 0);
    stream.read_exact(&mut got.body).ok()?;
    Some(got)
}
