//! `corewire broadcast`: every message goes to every connection on every core, its sender included.

use crate::handler::{Accept, Conn, Handler, Request, Upgrade};
use crate::protocol::Message;

/// Sends every message to everybody.
#[derive(Debug, Default)]
pub struct Broadcast;

impl Handler for Broadcast {
    type Session = ();

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), message: Message<'_>) {
        let kind = message.kind();
        // A core that is too far behind is counted by the mesh, and this connection is held back until it caught up.
        let _ = conn.broadcast_all(kind, message.into_bytes());
    }
}
