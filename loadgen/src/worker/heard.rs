//! What links tell: one was opened, bytes arrived, one is gone.

use std::io;
use std::os::fd::AsRawFd;

use corewire::connection::{Event, Input, Tick};
use monoio::io::Splitable;

use super::phases::{Phase, Worker};
use super::tasks::Tasks;
use crate::link::LinkState;
use crate::transport::{OpenError, Opened, io_kind};

impl Worker {
    /// Opening `slot` has come to its end. Returns the tasks to start for it.
    pub(super) fn handle_opened(&mut self, slot: usize, opened: Result<Opened, OpenError>) -> Option<Tasks> {
        self.opening -= 1;
        self.desk.now_ns = self.desk.clock.now_ns();
        match opened {
            Ok(_) if matches!(self.phase, Phase::Closing { .. } | Phase::Done) => {
                self.desk.links[slot].state = LinkState::Vacant;
                None
            }
            Ok(Opened { stream, connection, tls, leftover, facts }) => {
                let link = &mut self.desk.links[slot];
                link.occupy(connection, tls, facts.compressed, stream.as_raw_fd());
                let generation = link.generation;
                self.desk.live += 1;
                self.desk.tally.counts.opened += 1;
                self.desk.tally.counts.resumed += u64::from(facts.tls_resumed);
                self.desk.tally.wire.compressed_connections += u64::from(facts.compressed);
                self.desk.tally.opening.saturating_record(facts.total_ns);
                self.scenario.on_open(slot, &mut self.desk);
                let (read_half, write_half) = stream.into_split();
                Some(Tasks { slot, generation, read_half, write_half, leftover })
            }
            Err(error) => {
                self.desk.links[slot].state = LinkState::Vacant;
                self.desk.tally.counts.failed += 1;
                self.desk.tally.error(&error.kind(), || error.to_string());
                if self.scenario.needs_every_link() && matches!(self.phase, Phase::Opening) {
                    let opened = self.desk.tally.counts.opened;
                    let before = if opened > 0 { format!("after {opened} connections: ") } else { String::new() };
                    self.board.fail(format!("{before}{error}"));
                }
                self.scenario.on_open_failed(slot, &error, &mut self.desk);
                None
            }
        }
    }

    /// Bytes have arrived on `slot`.
    pub(super) fn handle_input(&mut self, slot: usize, bytes: &mut [u8]) {
        let now_ns = self.desk.clock.now_ns();
        if let Phase::Running(timetable) = self.phase
            && now_ns >= timetable.edge_ns(self.marks.len())
        {
            self.advance(now_ns);
        }
        self.desk.now_ns = now_ns;
        self.desk.activity += 1;
        if self.desk.tally.window.contains(now_ns) {
            self.desk.tally.wire.arrived_bytes += bytes.len() as u64;
        }
        match self.desk.links[slot].tls.take() {
            None => self.handle_plaintext(slot, bytes),
            Some(mut tls) => {
                let mut plaintext = Vec::new();
                let mut reply = std::mem::take(&mut self.desk.links[slot].sealed);
                let result = tls.open(bytes, &mut plaintext, &mut reply);
                let link = &mut self.desk.links[slot];
                link.sealed = reply;
                link.tls = Some(tls);
                link.wake_writer();
                self.handle_plaintext(slot, &mut plaintext);
                if let Err(error) = result {
                    self.desk.tally.error("tls", || error.to_string());
                    self.desk.cut(slot);
                }
            }
        }
    }

    fn handle_plaintext(&mut self, slot: usize, bytes: &mut [u8]) {
        let Self { desk, scenario, .. } = self;
        // Out of its place meanwhile, so that the scenario may use the desk.
        let Some(mut connection) = desk.links[slot].connection.take() else { return };
        let mut input = Input::new(bytes);
        while let Some(event) = connection.poll_event(&mut input, &mut desk.workspace, Tick(0)) {
            match event {
                Event::Message(message) => scenario.on_message(slot, message.kind(), message.bytes(), desk),
                Event::Pong(payload) => scenario.on_pong(slot, payload.bytes(), desk),
                Event::Closed(closed) if desk.links[slot].state == LinkState::Open => {
                    desk.tally.error(&format!("closed_{}", closed.code.0), || {
                        format!(
                            "the server closed a connection: {:?}, {:?} {}",
                            closed.cause, closed.code, closed.reason
                        )
                    });
                }
                Event::Closed(_) | Event::Ping(_) => {}
                Event::Head(_) | Event::BadHead(_) | Event::Abandoned(_) => {
                    unreachable!("the handshake was over before this connection was made")
                }
            }
        }
        connection.end_input(&mut input, &mut desk.workspace);
        let link = &mut desk.links[slot];
        link.restore(connection, &mut desk.workspace);
        if link.wants_fin() {
            desk.finish(slot);
        }
    }

    /// The reader has ended: the peer left, or the transport broke.
    pub(super) fn handle_gone(&mut self, slot: usize, result: io::Result<()>) {
        self.desk.now_ns = self.desk.clock.now_ns();
        if self.desk.links[slot].state == LinkState::Open {
            match result {
                Ok(()) => self
                    .desk
                    .tally
                    .error("closed_without_close", || "the server ended a connection without a Close frame".to_owned()),
                Err(error) => self.desk.tally.error(&io_kind(&error), || error.to_string()),
            }
        }
        self.desk.links[slot].vacate();
        self.desk.live -= 1;
        self.scenario.on_gone(slot, &mut self.desk);
    }
}
