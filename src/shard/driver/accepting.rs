//! Taking connections in: a bounded number per turn, and a pause where descriptors have run out.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::super::kernel::{self, Accepted, Interest, Token};
use super::{Shard, Socket};
use crate::connection::Tick;
use crate::handler::Handler;

/// Whether listeners are in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    Open,
    /// Descriptors ran out; tried again at this tick, or as soon as a connection ends.
    Paused {
        until: Tick,
    },
    Closed,
}

impl<H: Handler> Shard<H> {
    pub(super) fn watch_listeners(&mut self) -> rustix::io::Result<()> {
        for (place, listener) in self.listeners.iter().enumerate() {
            let token = Token::Listener(place as u32);
            if listener.shared {
                self.epoll.add_exclusive(listener, token)?;
            } else {
                self.epoll.add(listener, token, Interest { input: true, output: false })?;
            }
        }
        Ok(())
    }

    pub(super) fn accept(&mut self, place: u32) {
        for _ in 0..ACCEPTS_PER_TURN {
            if self.accepting != Accepting::Open || !self.accept_one(place) {
                return;
            }
        }
    }

    /// Answers whether another may be waiting.
    fn accept_one(&mut self, place: u32) -> bool {
        let Some(listener) = self.listeners.get(place as usize) else { return false };
        match kernel::accept(listener.as_fd(), self.ring.is_none()) {
            Accepted::Socket(fd, peer) => {
                if let Some(index) = self.state.handle_accept(peer) {
                    self.adopt(index, fd);
                }
                true
            }
            Accepted::Nothing => false,
            Accepted::Left => {
                self.state.core().metrics().accept_errors.add(1);
                true
            }
            Accepted::Exhausted(errno) => {
                self.pause_accepting(errno);
                false
            }
        }
    }

    fn adopt(&mut self, index: u32, fd: OwnedFd) {
        if self.sockets.capacity() <= index as usize {
            self.sockets.grow(Socket::default);
        }
        self.sockets[index] = Socket { fd: Some(fd), ..Socket::default() };
        self.set_interest(index, Interest { input: true, output: false });
    }

    /// Says once what ran out, and stops asking for a while: the listener would be ready again at once, for ever.
    fn pause_accepting(&mut self, errno: rustix::io::Errno) {
        let metrics = self.state.core().metrics();
        metrics.accept_errors.add(1);
        metrics.accept_pauses.add(1);
        metrics.refused_descriptors.add(1);
        let mend = if kernel::is_own_limit(errno) {
            "raise the limit of open files (ulimit -n, or LimitNOFILE= of the service)"
        } else {
            "raise fs.file-max, or give the machine more memory"
        };
        let now = self.clock.now();
        if now >= self.next_complaint {
            self.next_complaint = now.after(COMPLAINT_INTERVAL);
            tracing::warn!(error = %errno, mend, "accepting pauses until a connection ends, at most {ACCEPT_PAUSE:?}");
        }
        self.stop_watching_listeners();
    }

    /// None of them stays in the set: one that did could not be added again.
    fn stop_watching_listeners(&mut self) {
        for listener in &self.listeners {
            let _ = self.epoll.delete(listener);
        }
        self.accepting = Accepting::Paused { until: self.clock.now().after(ACCEPT_PAUSE) };
    }

    pub(super) fn resume_accepting(&mut self) {
        match self.watch_listeners() {
            Ok(()) => self.accepting = Accepting::Open,
            Err(_) => self.stop_watching_listeners(),
        }
    }

    /// Whoever stands in a queue already is served; then nobody can come any more.
    pub(super) fn close_listeners(&mut self) {
        self.accepting = Accepting::Open;
        for place in 0..self.listeners.len() as u32 {
            while self.accepting == Accepting::Open && self.accept_one(place) {}
        }
        for listener in self.listeners.drain(..) {
            let _ = self.epoll.delete(&listener);
        }
        self.accepting = Accepting::Closed;
    }
}

/// Accepts in a row before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Under churn at the limit there are many pauses; one line tells of them, the metric counts them.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// Longest pause after descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
