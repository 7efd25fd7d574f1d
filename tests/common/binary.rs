//! The `corewire` binary in a process of its own.

#![allow(clippy::print_stderr, reason = "a failing test shows its seed, its variant and the log")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::{Client, PATIENCE, Variant, until};
use corewire::server::DriverChoice;

/// A server process, killed when dropped.
pub struct Binary {
    child: Child,
    /// Lines on stdout: where it listens.
    pub lines: Vec<String>,
    log: Arc<Mutex<String>>,
}

impl Binary {
    /// Starts it and waits until it listens in `listening` places.
    #[track_caller]
    pub fn start(variant: Variant, listening: usize, args: &[&str]) -> Self {
        Self::start_with_files(variant, None, listening, args)
    }

    /// As [`Binary::start`], on a port that the kernel chooses.
    #[track_caller]
    pub fn on_any_port(variant: Variant, args: &[&str]) -> Self {
        Self::start(variant, 1, &[&["--listen", "127.0.0.1:0"], args].concat())
    }

    /// With no more than so many open files.
    #[track_caller]
    pub fn start_with_files(variant: Variant, files_max: Option<u32>, listening: usize, args: &[&str]) -> Self {
        Self::spawn(variant, files_max, args).listening(listening)
    }

    /// As [`Binary::on_any_port`], with a variable.
    #[track_caller]
    pub fn with_variable(variant: Variant, variable: (&str, &str), args: &[&str]) -> Self {
        let args = [&["--listen", "127.0.0.1:0"], args].concat();
        Self::spawn_with(variant, None, Some(variable), &args).listening(1)
    }

    #[track_caller]
    fn listening(mut self, listening: usize) -> Self {
        let this = &mut self;
        let mut stdout = BufReader::new(this.child.stdout.take().expect("a pipe"));
        for _ in 0..listening {
            let mut line = String::new();
            let len = stdout.read_line(&mut line).expect("UTF-8");
            assert_ne!(len, 0, "it ended instead of listening:\n{}", this.log());
            this.lines.push(line.trim_end().to_owned());
        }
        self
    }

    /// Starts it and waits for nothing.
    pub fn spawn(variant: Variant, files_max: Option<u32>, args: &[&str]) -> Self {
        Self::spawn_with(variant, files_max, None, args)
    }

    fn spawn_with(variant: Variant, files_max: Option<u32>, variable: Option<(&str, &str)>, args: &[&str]) -> Self {
        eprintln!("{variant:?}");
        let mut command = match files_max {
            Some(max) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {max} && exec \"$0\" \"$@\"")]);
                shell.arg(env!("CARGO_BIN_EXE_corewire"));
                shell
            }
            None => Command::new(env!("CARGO_BIN_EXE_corewire")),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COREWIRE_") {
                command.env_remove(name);
            }
        }
        command.envs(variable);
        // Transparent huge pages come in steps of 2 MiB, which would hide what is measured here, or feign growth.
        command.env("MIMALLOC_ALLOW_THP", "0");
        if variant.restless {
            command.env("COREWIRE_TEST_RESTLESS", "1");
        }
        let driver = if variant.driver == DriverChoice::Epoll { "epoll" } else { "io-uring" };
        command.args(args).args(["--driver", driver]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("corewire runs");
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().expect("a pipe"), log.clone());
        Self { child, lines: Vec::new(), log }
    }

    /// The address in the first line that it printed.
    pub fn addr(&self) -> SocketAddr {
        let line = self.lines.first().expect("a line");
        line.rsplit('/').next().and_then(|addr| addr.parse().ok()).unwrap_or_else(|| panic!("no address in {line:?}"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic while it was held").clone()
    }

    #[track_caller]
    pub fn wait_for_log(&self, what: &str) {
        let start = Instant::now();
        while !self.log().contains(what) {
            assert!(start.elapsed() < PATIENCE, "{what:?} was not logged:\n{}", self.log());
            thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process");
        kill_process(pid, signal).expect("it lives");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", || {
            status = self.child.try_wait().expect("our own child");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// CPU time so far, in clock ticks (usually 10 ms).
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it lives");
        let after_name = stat.rsplit(") ").next().expect("a name in brackets");
        // Fields 14 and 15 of proc(5), user and system time; the first after the name is the third.
        after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    /// Memory of its own, in KiB.
    pub fn pss_kib(&self) -> u64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).expect("it lives");
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).expect("a figure");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Memory that holds no file, in KiB: other processes do not change it.
    pub fn anonymous_kib(&self) -> u64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).expect("it lives");
        let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).expect("a figure");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// The most memory it ever had, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it lives");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a figure");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// The body of a reply of the admin listener. It must have been started with `--admin`.
    #[track_caller]
    pub fn admin_get(&self, path: &str) -> String {
        self.admin_ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// As [`Binary::admin_get`], for a body in JSON.
    #[track_caller]
    pub fn admin_post(&self, path: &str, body: &str) -> String {
        let fields = format!("Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        self.admin_ask(&format!("POST {path} HTTP/1.1\r\n{fields}\r\n\r\n{body}"))
    }

    #[track_caller]
    fn admin_ask(&self, request: &str) -> String {
        self.wait_for_log("admin on http://");
        let log = self.log();
        let admin = log.split("admin on http://").nth(1).and_then(|rest| rest.lines().next()).expect("an address");
        let mut client = Client::tcp(admin.trim().parse().expect("an address"));
        client.send_raw(request.as_bytes());
        client.reply().body
    }

    /// A figure of `GET /metrics`, summed over cores. `name` is without `corewire_`, `label` such as `cause="queue"` or
    /// empty. It must have been started with `--admin`.
    #[track_caller]
    pub fn metric(&self, name: &str, label: &str) -> u64 {
        let body = self.admin_get("/metrics");
        let name = format!("corewire_{name}");
        let is_it = |line: &&str| line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = body.lines().filter(|line| is_it(line) && line.contains(label));
        let values: Vec<u64> =
            lines.map(|line| line.rsplit(' ').next().expect("a value").parse().expect("whole")).collect();
        assert!(!values.is_empty(), "no {name}{label} in {body}");
        values.iter().sum()
    }

    /// Open descriptors.
    pub fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it lives").count()
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- its log:\n{}", self.log());
        }
    }
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(len @ 1..) = from.read(&mut chunk) {
            into.lock().expect("no panic while it was held").push_str(&String::from_utf8_lossy(&chunk[..len]));
        }
    });
}
