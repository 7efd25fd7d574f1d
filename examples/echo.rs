//! Sends every message back to its sender: the smallest server there is.
//!
//! ```sh
//! cargo run --example echo
//! python3 -m websockets ws://127.0.0.1:9000/
//! ```

#![expect(clippy::print_stdout, reason = "whoever starts it wants to know where it listens")]

use corewire::handler::{Accept, Conn, Handler, Request, Upgrade};
use corewire::protocol::Message;
use corewire::server::{Server, StartError};

struct Echo;

impl Handler for Echo {
    type Session = ();

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), message: Message<'_>) {
        // Fails for a peer that has stopped reading; `Handler::overflow` says that such a peer is disconnected.
        let _ = conn.reply(message);
    }
}

fn main() -> Result<(), StartError> {
    let addr = "127.0.0.1:9000".parse().expect("an address and a port");
    let running = Server::builder().listen(addr).start(|_core| Echo)?;
    println!("listening on ws://{addr}");
    running.wait()
}
