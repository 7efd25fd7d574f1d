//! Starts the server that is to be measured, and ends it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// A server of ours. It ends when this value does.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    command: String,
}

impl Server {
    /// Starts `command`, on `core` if one is given. There is no shell between us and it: a shell's process would be
    /// observed instead of the server's.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub(crate) fn start(command: &str, core: Option<usize>) -> Result<Self, String> {
        let words = split_words(command)?;
        let (program, arguments) = words.split_first().ok_or("the command to start the server is empty")?;
        let mut start = Command::new(program);
        start.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        // A group of its own: Ctrl-C is for us, who end it after the report, and its children end with it.
        start.process_group(0);
        // A child inherits the affinity of the thread that starts it.
        let started = std::thread::scope(|scope| {
            let starting = scope.spawn(|| match core {
                Some(id) if !core_affinity::set_for_current(core_affinity::CoreId { id }) => {
                    Err(format!("core {id} does not exist or is not allowed"))
                }
                Some(_) | None => start.spawn().map_err(|error| format!("`{program}` cannot be started: {error}")),
            });
            starting.join().map_err(|_| "the thread that starts the server failed".to_owned())
        });
        Ok(Self { child: started??, command: command.to_owned() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// To it and all of its children. The group is ours as long as one of them lives.
    fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// A sentence, if it ends before, or takes longer than `limit`.
    pub(crate) fn wait_until_it_listens(&mut self, address: SocketAddr, limit: Duration) -> Result<(), String> {
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("`{}` ended at once ({status})", self.command));
            }
            if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            if began.elapsed() > limit {
                return Err(format!("`{}` does not listen on {address} after {limit:?}", self.command));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM first: a server may have something to finish.
        self.signal(Signal::TERM);
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Children that outlived it, and itself if it did not hear.
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A port of 127.0.0.1 that nobody listens on.
///
/// # Errors
///
/// A sentence, if there is none.
pub(crate) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| format!("no port is free: {error}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|error| format!("no port is free: {error}"))
}

/// Words as a shell splits them: blanks between, quotes around, a backslash before.
fn split_words(command: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = command.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = characters.next().ok_or("the command ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote in `{command}` is never closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_in_a_shell() {
        let cases: &[(&str, &[&str])] = &[
            ("server --port 1", &["server", "--port", "1"]),
            ("  a  b ", &["a", "b"]),
            ("a 'b c' \"d \\\" e\" f\\ g ''", &["a", "b c", "d \" e", "f g", ""]),
            ("", &[]),
        ];
        for (command, want) in cases {
            assert_eq!(split_words(command).unwrap(), *want, "{command}");
        }
        assert!(split_words("a 'b").is_err());
    }

    #[test]
    fn children_end_with_their_server() {
        let server = Server::start("sh -c 'sleep 60 & wait'", None).unwrap();
        let group = Pid::from_raw(server.pid() as i32).unwrap();
        assert!(rustix::process::test_kill_process_group(group).is_ok());
        drop(server);
        let began = Instant::now();
        while rustix::process::test_kill_process_group(group).is_ok() {
            assert!(began.elapsed() < Duration::from_secs(10), "somebody of the group lives");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_server_that_is_none_is_told_apart() {
        assert!(Server::start("/does/not/exist", None).unwrap_err().contains("cannot be started"));
        let mut server = Server::start("true", None).unwrap();
        let nobody = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let error = server.wait_until_it_listens(nobody, Duration::from_secs(5)).unwrap_err();
        assert!(error.contains("ended at once"), "{error}");
    }
}
