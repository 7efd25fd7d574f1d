//! What a connection needs only at times: it lies in a box that an idle connection does not have.

use super::memory::Memory;
use super::receiving::Receiving;
#[cfg(feature = "tls")]
use super::secure::Secure;
use super::workspace::Workspace;
use crate::protocol::deflate::{Deflater, Inflater};

/// Everything that is not needed between two whole messages.
#[derive(Default)]
pub(super) struct Extra {
    /// A frame or message cut by the end of a read.
    pub(super) receiving: Receiving,
    /// Input that waits: the request head that is not complete yet, or what arrived while reading was paused.
    pub(super) waiting: Vec<u8>,
    /// The end of input came behind what waits.
    pub(super) eof_waits: bool,
    /// Contexts of their own, where context takeover was agreed (RFC 7692 §7.1.1).
    pub(super) deflater: Option<Box<Deflater>>,
    pub(super) inflater: Option<Box<Inflater>>,
    #[cfg(feature = "tls")]
    pub(super) secure: Option<Box<Secure>>,
}

impl Extra {
    /// Whether nothing in it is needed any more.
    fn is_idle(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.secure.is_some() {
            return false;
        }
        let nothing_waits = self.waiting.is_empty() && !self.eof_waits;
        self.receiving.is_idle() && nothing_waits && self.deflater.is_none() && self.inflater.is_none()
    }

    /// Whether the peer is bound to send the rest of something.
    #[cfg(test)]
    pub(super) fn is_mid_message(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.secure.as_ref().is_some_and(|secure| secure.is_mid_record()) {
            return true;
        }
        !self.receiving.is_idle()
    }

    /// The WebSocket is over; only TLS goes on until the transport ends.
    pub(super) fn forget_websocket(&mut self) {
        self.receiving = Receiving::default();
        self.waiting = Vec::new();
        self.eof_waits = false;
        self.deflater = None;
        self.inflater = None;
    }

    /// Bytes of memory. The box itself counts to what keeps it longest: TLS, then compression, then input.
    pub(super) fn memory(&self) -> Memory {
        let mut memory = Memory {
            input: self.receiving.heap_bytes() + self.waiting.capacity(),
            deflate: self.deflater.as_ref().map_or(0, |_| DEFLATER_BYTES)
                + self.inflater.as_ref().map_or(0, |_| INFLATER_BYTES),
            ..Memory::default()
        };
        #[cfg(feature = "tls")]
        if let Some(secure) = &self.secure {
            memory.tls = secure.heap_bytes();
            memory.queue = secure.queue_heap_bytes();
        }
        let keeper = match memory {
            Memory { tls: 1.., .. } => &mut memory.tls,
            Memory { deflate: 1.., .. } => &mut memory.deflate,
            Memory { .. } => &mut memory.input,
        };
        *keeper += size_of::<Self>();
        memory
    }
}

/// The box, made when first needed.
pub(super) fn ensure<'a>(slot: &'a mut Option<Box<Extra>>, workspace: &mut Workspace) -> &'a mut Extra {
    slot.get_or_insert_with(|| workspace.take_extra())
}

/// Gives the box back if nothing in it is needed.
pub(super) fn release_if_idle(slot: &mut Option<Box<Extra>>, workspace: &mut Workspace) {
    if slot.as_ref().is_some_and(|extra| extra.is_idle()) {
        let mut extra = slot.take().expect("it was there a line above");
        extra.waiting.shrink_to(KEPT_BYTES_MAX);
        workspace.give_extra(extra);
    }
}

/// What a compressor holds: window, hash chains and output, at 15 window bits. `tests/deflate_memory.rs` counts both.
pub(super) const DEFLATER_BYTES: usize = 371 << 10;
/// What a decompressor holds: mostly its window.
pub(super) const INFLATER_BYTES: usize = 47 << 10;

/// Capacity that a pooled box may keep.
const KEPT_BYTES_MAX: usize = 4 << 10;
