//! After a wave of connections: what the driver's tables and pools have grown to is given back.

use super::super::ring::Ring;
use super::{COLD_BUFFER_BYTES, Shard};
use crate::handler::Handler;
use crate::shard::state::DriverMemory;

impl<H: Handler> Shard<H> {
    /// What the driver holds beside the state, for the metrics.
    pub(super) fn note_memory(&mut self) {
        let memory = DriverMemory {
            sockets_bytes: self.sockets.heap_bytes(),
            buffers_bytes: COLD_BUFFER_BYTES + self.hot.heap_bytes() + self.ring.as_ref().map_or(0, Ring::heap_bytes),
        };
        self.state.core().note_driver_memory(memory);
    }

    /// Gives back what is left of a wave that has passed, and lets the program do the same.
    pub(super) fn give_memory_back(&mut self) {
        self.hot.shrink();
        self.ready = Vec::new();
        self.events = Vec::new();
        self.writes = Vec::new();
        if let Some(ring) = &mut self.ring {
            ring.shrink();
        }
        self.state.core().metrics().memory_returns.add(1);
        if let Some(on_calm) = self.on_calm {
            on_calm();
        }
    }
}
