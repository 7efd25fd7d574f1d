//! What a connection wants of its socket: to be written, to be read, to be ended.

use super::ending::Ending;
use super::events::NextStep;
use super::extra;
use super::outbox::Outbox;
use super::workspace::Workspace;
use super::{Connection, Stage, Tick, opening};

impl Connection {
    /// What must be written next; `None` if nothing waits. Under TLS this seals the next records.
    pub fn poll_transmit(&mut self) -> Option<&mut Outbox> {
        #[cfg(feature = "tls")]
        if self.is_secure() {
            return self.poll_transmit_secure();
        }
        self.outbox.as_deref_mut().filter(|outbox| !outbox.is_empty())
    }

    #[cfg(feature = "tls")]
    pub(super) fn poll_transmit_secure(&mut self) -> Option<&mut Outbox> {
        let ending = matches!(self.stage, Stage::Ending(_));
        let secure = self.extra.as_mut()?.secure.as_mut()?;
        let sealed = self.outbox.as_mut().map_or(Ok(()), |plain| secure.seal(plain));
        let plain_waits = self.outbox.as_ref().is_some_and(|plain| !plain.is_empty());
        if sealed.is_err() || (plain_waits && ending && secure.session().is_handshaking()) {
            // The session cannot carry it any more, and never will.
            if let Some(plain) = &mut self.outbox {
                plain.clear();
            }
        }
        if ending && secure.queued_bytes() == 0 && self.outbox.as_ref().is_none_or(|plain| plain.is_empty()) {
            secure.close();
        }
        Some(secure.cipher()).filter(|cipher| !cipher.is_empty())
    }

    /// Lends what is to be written next to somebody who writes it later, if it lies side by side and is at most
    /// `len_max` bytes. It must come back through [`Connection::return_outbox`]; what is queued meanwhile waits, and
    /// [`Connection::queued_bytes`] does not count what is lent.
    pub fn lend_outbox(&mut self, len_max: usize) -> Option<Box<Outbox>> {
        // Under TLS what is written is not the outbox but the records made from it.
        let fits = |outbox: &Outbox| outbox.segment_count() == 1 && outbox.queued_bytes() <= len_max;
        if self.is_secure() || !self.outbox.as_deref().is_some_and(fits) {
            return None;
        }
        self.outbox.take()
    }

    /// Takes back what was lent; what is left in it goes before everything queued since, or nowhere if the connection was
    /// given up meanwhile.
    pub fn return_outbox(&mut self, mut lent: Box<Outbox>, workspace: &mut Workspace) {
        if matches!(self.stage, Stage::Ending(ending) if ending.is_over()) {
            return workspace.give_outbox(lent);
        }
        if let Some(mut newer) = self.outbox.take() {
            if lent.is_empty() {
                std::mem::swap(&mut lent, &mut newer);
            } else {
                lent.append_all(&mut newer);
            }
            workspace.give_outbox(newer);
        }
        self.outbox = Some(lent);
        self.transmitted(workspace);
    }

    /// Some of what [`Connection::poll_transmit`] gave is written; boxes that emptied go back.
    pub fn transmitted(&mut self, workspace: &mut Workspace) {
        #[cfg(feature = "tls")]
        if let Some(secure) = self.extra.as_mut().and_then(|extra| extra.secure.as_mut()) {
            secure.release_if_idle();
        }
        let Some(outbox) = &mut self.outbox else { return };
        workspace.reclaim(outbox);
        if outbox.is_empty()
            && let Some(outbox) = self.outbox.take()
        {
            workspace.give_outbox(outbox);
        }
    }

    /// The socket took queued bytes after it had been full: the peer reads, so it lives.
    pub fn handle_progress(&mut self, now: Tick) {
        match &mut self.stage {
            Stage::Open(websocket) => websocket.heard(now),
            Stage::Streaming(stream) => stream.taken(now),
            Stage::Opening(_) | Stage::Ending(_) => {}
        }
    }

    /// Whether it is open, reads, and has nothing to send or to remember.
    pub fn is_at_rest(&self) -> bool {
        let reads = matches!(&self.stage, Stage::Open(websocket) if websocket.reads());
        reads && self.outbox.is_none() && self.extra.is_none()
    }

    /// What the socket needs now. Ask after every call that may have changed something.
    pub fn next_step(&mut self) -> NextStep {
        if self.poll_transmit().is_some() {
            return NextStep::Write;
        }
        match &self.stage {
            Stage::Opening(_) | Stage::Open(_) | Stage::Streaming(_) => NextStep::Wait,
            Stage::Ending(Ending { fin_sent: false, .. }) => NextStep::Fin,
            Stage::Ending(ending) if ending.is_over() => NextStep::Close,
            Stage::Ending(_) => NextStep::Wait,
        }
    }

    /// `shutdown(SHUT_WR)` was done.
    pub fn fin_sent(&mut self) {
        if let Stage::Ending(ending) = &mut self.stage {
            ending.fin_sent = true;
        }
    }

    /// Whether the socket should be read: not while the application pauses, nor while too much waits to be sent. After
    /// our Close what is read is dropped, so it is read whatever waits: a peer that writes before it reads gets there.
    /// So it is with a stream, whose peer's leave would not be noticed otherwise.
    pub fn wants_input(&self, workspace: &Workspace) -> bool {
        let drops_input = self.is_stream() || !self.is_open();
        self.stage_reads() && (drops_input || self.queued_bytes() <= workspace.limits.queued_bytes_pause)
    }

    pub(super) fn stage_reads(&self) -> bool {
        match &self.stage {
            Stage::Opening(opening) => opening.phase == opening::Phase::Reading,
            Stage::Open(websocket) => websocket.reads(),
            Stage::Streaming(_) => true,
            Stage::Ending(ending) => !ending.fin_heard,
        }
    }

    /// It is over and its socket closed: its boxes go back.
    pub fn recycle(mut self, workspace: &mut Workspace) {
        self.drop_queue(workspace);
        extra::release_if_idle(&mut self.extra, workspace);
    }
}
