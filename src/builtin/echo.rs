//! `corewire echo`: every message goes back to its sender.

use crate::handler::{Accept, Conn, Handler, Request, Upgrade};
use crate::protocol::Message;

/// Sends every message back.
#[derive(Debug, Default)]
pub struct Echo;

impl Handler for Echo {
    type Session = ();

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), message: Message<'_>) {
        // A peer whose queue is full is closed by the overflow policy; there is nobody else to tell.
        let _ = conn.reply(message);
    }
}
