//! Publications over HTTP: a thread and a connection that stays for each publisher.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corewire::wire::{Epoch, Position};
use serde::Deserialize;

use super::accepted::Accepted;
use crate::target::{Scheme, Target};

/// Where publications go.
#[derive(Clone, Debug)]
pub(crate) struct HttpTarget {
    pub(crate) target: Target,
    pub(crate) address: SocketAddr,
    pub(crate) api_key: Option<String>,
    pub(crate) timeout: Duration,
}

/// Publishers of one worker.
pub(super) struct HttpPublisher {
    queues: Vec<SyncSender<Job>>,
    accepted: Arc<Accepted>,
    failures: Arc<Mutex<Vec<String>>>,
}

struct Job {
    topic: u64,
    body: String,
}

/// What the API answers.
#[derive(Deserialize)]
struct Answer {
    offset: u64,
    epoch: String,
}

impl HttpTarget {
    /// Reads a URL of the API.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub(crate) fn parse(url: &str, anywhere: bool, api_key: Option<String>, timeout: Duration) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| {
            format!("`{url}` is no URL to publish to. An example: http://127.0.0.1:9000/api/v1/publish")
        })?;
        let target = Target::parse(&format!("ws://{rest}")).map_err(|error| error.to_string())?;
        debug_assert_eq!(target.scheme, Scheme::Ws);
        let address = target.resolve(anywhere).map_err(|error| error.to_string())?;
        if api_key.as_ref().is_some_and(|key| key.chars().any(char::is_control)) {
            return Err("--api-key has a character in it that no header field may have".to_owned());
        }
        Ok(Self { target, address, api_key, timeout })
    }

    fn request(&self, body: &str) -> String {
        let key = self.api_key.as_ref().map_or_else(String::new, |key| format!("X-API-Key: {key}\r\n"));
        format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{key}Content-Length: {}\r\n\r\n{body}",
            self.target.path,
            self.target.host_field(),
            body.len(),
        )
    }
}

impl HttpPublisher {
    pub(super) fn start(target: &HttpTarget, count: usize, accepted: &Arc<Accepted>) -> Self {
        let failures = Arc::<Mutex<Vec<String>>>::default();
        let queues = (0..count)
            .map(|_| {
                let (queue, jobs) = mpsc::sync_channel(WAITING_MAX);
                let (target, accepted, failures) = (target.clone(), Arc::clone(accepted), Arc::clone(&failures));
                std::thread::spawn(move || work(&target, &jobs, &accepted, &failures));
                queue
            })
            .collect();
        Self { queues, accepted: Arc::clone(accepted), failures }
    }

    /// Has one of them publish.
    pub(super) fn publish(&self, own: usize, topic: u64, body: String) {
        if self.queues[own].try_send(Job { topic, body }).is_err() {
            self.accepted.refuse(1);
            fail(&self.failures, format!("more than {WAITING_MAX} publications wait for the HTTP API to answer"));
        }
    }

    /// What went wrong since the last time.
    pub(super) fn take_failures(&self) -> Vec<String> {
        std::mem::take(&mut *self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

fn fail(failures: &Mutex<Vec<String>>, words: String) {
    failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(words);
}

/// Publishes until nobody wants anything any more.
fn work(target: &HttpTarget, jobs: &Receiver<Job>, accepted: &Accepted, failures: &Mutex<Vec<String>>) {
    let mut stream = None;
    for Job { topic, body } in jobs {
        match post(target, &mut stream, &body) {
            Ok(position) if accepted.accept(topic, position) => {}
            Ok(_) => fail(failures, "a topic began anew: its epoch changed".to_owned()),
            Err(words) => {
                stream = None;
                accepted.refuse(1);
                fail(failures, words);
            }
        }
    }
}

/// One request and its answer, over the connection that is there or a new one.
fn post(target: &HttpTarget, stream: &mut Option<BufReader<TcpStream>>, body: &str) -> Result<Position, String> {
    let failed = |error: std::io::Error| format!("publishing to http://{}: {error}", target.target.host_field());
    if stream.is_none() {
        let new = TcpStream::connect_timeout(&target.address, target.timeout).map_err(failed)?;
        new.set_nodelay(true).and_then(|()| new.set_read_timeout(Some(target.timeout))).map_err(failed)?;
        *stream = Some(BufReader::new(new));
    }
    let Some(stream) = stream else { return Err("there is no connection".to_owned()) };
    stream.get_mut().write_all(target.request(body).as_bytes()).map_err(failed)?;
    let (status, body) = read_answer(stream).map_err(failed)?;
    let text = String::from_utf8_lossy(&body);
    if !(200..300).contains(&status) {
        return Err(format!("the HTTP API answered {status}: {}", text.trim()));
    }
    let answer: Answer =
        serde_json::from_str(&text).map_err(|error| format!("the HTTP API's answer has no position: {error}"))?;
    let epoch = Epoch::parse(&answer.epoch).ok_or_else(|| format!("`{}` is no epoch", answer.epoch))?;
    Ok(Position { epoch, offset: answer.offset })
}

/// Status and body (RFC 9112), whose length must be told.
fn read_answer(stream: &mut impl BufRead) -> std::io::Result<(u16, Vec<u8>)> {
    let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| broken("the answer is not HTTP"))?;
    let mut len = None;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(broken("the connection ended within an answer"));
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            len = value.trim().parse::<usize>().ok().filter(|&len| len <= ANSWER_BYTES_MAX);
        }
    }
    let mut body = vec![0; len.ok_or_else(|| broken("the answer does not say how long it is"))?];
    stream.read_exact(&mut body)?;
    Ok((status, body))
}

/// Publications of one publisher that wait for their turn.
const WAITING_MAX: usize = 65_536;
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_one_after_another() {
        let text =
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX: y\r\n\r\n{}HTTP/1.1 401 No\r\nContent-Length: 3\r\n\r\nkey";
        let mut reader = text.as_bytes();
        assert_eq!(read_answer(&mut reader).unwrap(), (200, b"{}".to_vec()));
        assert_eq!(read_answer(&mut reader).unwrap(), (401, b"key".to_vec()));
        assert!(read_answer(&mut reader).is_err());
        for bad in ["SSH-2.0\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"] {
            assert!(read_answer(&mut bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_plain_http_is_a_target() {
        let parse = |url| HttpTarget::parse(url, false, None, Duration::from_secs(1));
        assert!(parse("http://127.0.0.1:9000/api/v1/publish").is_ok());
        assert!(parse("https://127.0.0.1/").unwrap_err().contains("An example"));
        assert!(parse("http://192.0.2.1/").unwrap_err().contains("not on this machine"));
    }
}
