//! What a core holds in memory: counted for the metrics, and given back after a wave of connections.

use super::CoreState;
use crate::connection::Tick;

/// What a core's driver holds in memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct DriverMemory {
    /// One place per connection that ever was at a time.
    pub sockets_bytes: usize,
    /// What is received into, and what hot connections need beside it.
    pub buffers_bytes: usize,
}

impl CoreState {
    /// What the driver holds in memory, for the metrics.
    pub fn note_driver_memory(&mut self, memory: DriverMemory) {
        self.driver_memory = memory;
    }

    /// The driver holds less than before, without a connection that did anything: the metrics are to be counted again.
    pub fn note_buffers_freed(&mut self) {
        self.survey.note_change();
    }

    /// When the metrics of memory are to be counted on, a wave may have passed, or topics have something to do.
    pub(super) fn next_chore(&self) -> Option<Tick> {
        let topics = match self.topics_pending {
            // A connection that breaks while the touched are settled leaves its topics after their turn.
            true => Some(Tick(self.now.0 + 1)),
            false => (self.topics_due != Tick::NEVER).then_some(self.topics_due),
        };
        self.survey.next_at().into_iter().chain(self.calm.next_at()).chain(topics).min()
    }

    /// Counts on what connections hold, and tells the metrics when all were counted.
    pub(super) fn survey_if_due(&mut self, sessions_bytes: usize) {
        let Some(found) = self.survey.step_if_due(&self.slab, self.now) else { return };
        let DriverMemory { sockets_bytes, buffers_bytes } = self.driver_memory;
        let metrics = &self.metrics;
        metrics.memory_record.set((self.slab.heap_bytes() + sessions_bytes + sockets_bytes) as u64);
        metrics.memory_buffers.set((found.input + buffers_bytes + self.workspace.pooled_bytes()) as u64);
        metrics.memory_queue.set(found.queue as u64);
        metrics.memory_tls.set(found.tls as u64);
        metrics.memory_deflate.set((found.deflate + self.workspace.codec_bytes()) as u64);
    }

    /// A connection gave up what it had used: its handshake ended, it became cold, or it left.
    pub(super) fn note_given_up(&mut self) {
        self.survey.note_change();
        self.calm.note_given_up(self.message_count(), self.now);
    }

    /// The buffer of a large message was kept for the next one.
    pub(super) fn note_kept(&mut self) {
        self.survey.note_change();
        self.calm.note_kept(self.message_count(), self.now);
    }

    pub(super) fn has_calmed(&mut self) -> bool {
        self.calm.has_come(self.message_count(), self.now)
    }

    /// Gives back what a wave of connections has left in pools and tables.
    pub(super) fn shrink(&mut self) {
        self.survey.note_change();
        self.workspace.shrink();
        self.peers.shrink_to_fit();
        self.deferred.shrink_to_fit();
        self.touched.shrink_to_fit();
        self.held.shrink_to_fit();
        #[cfg(feature = "tls")]
        {
            self.plaintext = Vec::new();
        }
    }

    /// In and out, so far.
    fn message_count(&self) -> u64 {
        let metrics = &self.metrics;
        metrics.messages_in_text.get() + metrics.messages_in_binary.get() + metrics.messages_out.get()
    }
}
