//! Messages on their way into the queues of connections, and what becomes of those for which there is no room.

use bytes::Bytes;

use super::reach::CoreState;
use crate::connection::{Body, Broadcast, SendError};
use crate::handler::Overflow;
use crate::ids::ConnId;
use crate::protocol::MessageKind;

impl CoreState {
    pub(super) fn send_here(&mut self, id: ConnId, kind: MessageKind, body: Body<'_>) -> Result<(), SendError> {
        if self.has_backlog(id.index) {
            return self.send_behind(id, kind, body.into_bytes());
        }
        let Some(connection) = self.named(id) else { return Err(SendError::NotOpen) };
        let len = body.bytes().len();
        let result = connection.1.send(kind, body, connection.0);
        self.after_send(id.index, len, result)
    }

    pub(super) fn broadcast_here(&mut self, kind: MessageKind, payload: Bytes) -> usize {
        let len = payload.len();
        let mut broadcast = Broadcast::new(kind, payload.clone());
        let mut reached = 0;
        for index in 0..self.slab.end() {
            let has_backlog = self.has_backlog(index);
            let Some(record) = self.slab.get_mut(index) else { continue };
            if record.connection.is_stream() || !record.connection.is_open() {
                continue;
            }
            if has_backlog {
                reached += usize::from(self.send_behind(self.id(index), kind, payload.clone()).is_ok());
                continue;
            }
            let result = record.connection.send_broadcast(&mut broadcast, &mut self.workspace);
            reached += usize::from(self.after_send(index, len, result).is_ok());
        }
        reached
    }

    pub(super) fn after_send(
        &mut self,
        index: u32,
        len: usize,
        result: Result<(), SendError>,
    ) -> Result<(), SendError> {
        match result {
            Ok(()) => {
                self.metrics.messages_out.add(1);
                self.touch(index);
            }
            Err(SendError::NotOpen) => {}
            Err(SendError::QueueFull) => {
                self.metrics.queue_drops.add(1);
                let id = self.id(index);
                tracing::debug!(connection = %id, len, "a peer reads too slowly; a message was dropped");
                match self.overflow {
                    Overflow::Disconnect(code) => self.close_here(id, code, "slow consumer"),
                    Overflow::DropMessage => {}
                }
            }
        }
        result
    }
}
