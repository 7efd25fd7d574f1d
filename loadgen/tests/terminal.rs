//! What a terminal shows: the view while a run goes on, and nothing of it afterwards.

mod support;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use support::{Fault, serve};

const COLUMNS: u16 = 60;

#[test]
fn the_view_is_drawn_and_leaves_only_the_report() {
    let port = serve(Fault::None);
    let mut terminal = Terminal::run(&format!("echo ws://127.0.0.1:{port}/ -c 3 --rate 200 --for 3s --warm-up 0s"));
    let wanted = ["echo ws://127.0.0.1:", " of 200 sent/s, ", "3 open, 0 errors", "p99 ", "arrived/s    "];
    // A view may be read in pieces: its last line comes when it likes.
    let is_second = |screen: &str| screen.contains("2/3 s") || screen.contains("3/3 s");
    let drawn = terminal
        .until(|screen| is_second(screen) && wanted.iter().all(|want| screen.contains(want)) && screen.contains('█'));
    assert_eq!(drawn.matches("connections  ").count(), 1, "drawn over, not below: {drawn}");
    let (left, success) = terminal.finish();
    assert!(success && left.contains("600 sent of 600 planned"), "{left}");
    assert!(
        !left.contains("last second") && !left.contains("connections  3 open"),
        "nothing stays of the view: {left}"
    );
}

#[test]
fn an_interrupt_ends_the_run_and_it_still_reports() {
    let port = serve(Fault::None);
    let mut terminal = Terminal::run(&format!("echo ws://127.0.0.1:{port}/ -c 3 --rate 200 --for 60s --warm-up 0s"));
    // The first second, or a later one if nobody looked meanwhile.
    terminal.until(|screen| screen.contains("/60 s"));
    let began = Instant::now();
    kill_process(Pid::from_child(&terminal.child), Signal::INT).unwrap();
    let (left, success) = terminal.finish();
    assert!(began.elapsed() < Duration::from_secs(10), "it ends at once");
    assert!(success && left.contains("it was ended early"), "{left}");
    assert!(!left.contains("last second"), "nothing stays of the view: {left}");
}

#[test]
fn where_there_is_no_terminal_it_is_a_line_a_second() {
    let port = serve(Fault::None);
    let output = support::load(&format!("echo ws://127.0.0.1:{port}/ -c 3 --rate 200 --for 3s --warm-up 0s"));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains('\x1b'), "{error}");
    let seconds: Vec<_> = error.lines().filter(|line| line.contains(" of 200 sent/s")).collect();
    assert!((2..=3).contains(&seconds.len()), "{error}");
}

/// The tool on a terminal of its own.
struct Terminal {
    child: Child,
    /// What comes out of our end.
    shown: Receiver<Vec<u8>>,
    /// What the tool sees, kept to look at its modes.
    theirs: File,
    modes_before: String,
    screen: Screen,
}

impl Terminal {
    fn run(words: &str) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap();
        // Nor is it to become this process's own terminal, which would end with it.
        let mut options = File::options();
        options.read(true).write(true).custom_flags(OFlags::NOCTTY.bits() as i32);
        let theirs = options.open(path.to_str().unwrap()).unwrap();
        tcsetwinsize(&theirs, Winsize { ws_row: 50, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let modes_before = format!("{:?}", tcgetattr(&theirs).unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_corewire-load"))
            .args(words.split_ascii_whitespace())
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut ours = File::from(ours);
        let (tell, shown) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len) = ours.read(&mut bytes) {
                // Whoever has seen enough has left.
                if tell.send(bytes[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, shown, theirs, modes_before, screen: Screen::default() }
    }

    /// Reads until the screen is as wanted, and returns it.
    fn until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let give_up = Instant::now() + Duration::from_secs(20);
        while !wanted(&self.screen.text()) {
            match self.shown.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.screen.feed(&bytes),
                Err(_) => panic!("{}", self.screen.text()),
            }
        }
        self.screen.text()
    }

    /// The last screen, and whether the tool was content.
    fn finish(mut self) -> (String, bool) {
        self.until(|screen| screen.contains("verdict") && screen.contains("note"));
        let status = self.child.wait().unwrap();
        assert_eq!(format!("{:?}", tcgetattr(&self.theirs).unwrap()), self.modes_before, "the terminal's modes");
        assert_eq!(self.screen.unknown, Vec::<String>::new(), "sequences that change more than this screen knows");
        (self.screen.text(), status.success())
    }
}

/// As much of a terminal as the view needs; whatever else is asked for is remembered as unknown.
#[derive(Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// Bytes of a character or a sequence that is not complete.
    partial: Vec<u8>,
    unknown: Vec<String>,
}

impl Screen {
    fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.partial.push(byte);
            if self.partial[0] == 0x1b {
                if self.partial.len() > 2 && byte.is_ascii_alphabetic() {
                    let sequence = String::from_utf8(std::mem::take(&mut self.partial)).unwrap();
                    self.obey(&sequence);
                }
            } else if let Ok(text) = std::str::from_utf8(&self.partial) {
                let character = text.chars().next().unwrap();
                self.partial.clear();
                self.put(character);
            }
        }
    }

    fn obey(&mut self, sequence: &str) {
        match (&sequence[2..sequence.len() - 1], &sequence[sequence.len() - 1..]) {
            (count, "A") => self.row -= count.parse::<usize>().unwrap(),
            ("", "J") => {
                self.rows.truncate(self.row + 1);
                if let Some(row) = self.rows.get_mut(self.row) {
                    row.truncate(self.column);
                }
            }
            _ => self.unknown.push(sequence.to_owned()),
        }
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' => self.row += 1,
            character => {
                if self.column == usize::from(COLUMNS) {
                    (self.row, self.column) = (self.row + 1, 0);
                }
                self.rows.resize_with(self.rows.len().max(self.row + 1), Vec::new);
                let row = &mut self.rows[self.row];
                row.resize(row.len().max(self.column + 1), ' ');
                row[self.column] = character;
                self.column += 1;
            }
        }
    }

    /// What is to be read; lines that wrapped are joined again.
    fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            text.extend(row);
            if row.len() < usize::from(COLUMNS) {
                text.push('\n');
            }
        }
        text
    }
}
