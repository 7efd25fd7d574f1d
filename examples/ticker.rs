//! Pushes prices to every connection on every core, twice a second.
//!
//! ```sh
//! cargo run --example ticker
//! python3 -m websockets ws://127.0.0.1:9000/
//! ```
//!
//! The first core makes the prices, so that everybody sees the same. The others only hold connections.

#![expect(clippy::print_stdout, reason = "whoever starts it wants to know where it listens")]

use std::time::Duration;

use corewire::handler::{Accept, Conn, Core, Handler, Overflow, Request, Upgrade};
use corewire::protocol::close::CloseCode;
use corewire::protocol::{Message, MessageKind};
use corewire::server::{Server, StartError};

struct Ticker {
    core: usize,
    cents: u64,
    seed: u64,
}

impl Ticker {
    fn step(&mut self) -> u64 {
        // Knuth's MMIX generator: a walk is wanted here, not chance.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.cents = (self.cents + (self.seed >> 33) % 101).saturating_sub(50).max(1);
        self.cents
    }
}

impl Handler for Ticker {
    type Session = ();

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), _: Message<'_>) {
        conn.close(CloseCode::POLICY, "this server only talks");
    }

    fn tick_interval(&self) -> Option<Duration> {
        (self.core == 0).then_some(Duration::from_millis(500))
    }

    fn tick(&mut self, core: &mut Core<'_>) {
        let cents = self.step();
        let price = format!(r#"{{"symbol":"ACME","price":{}.{:02}}}"#, cents / 100, cents % 100);
        // A core that has fallen too far behind misses this price and gets a later one.
        let _ = core.broadcast_all(MessageKind::Text, price.into());
    }

    /// Who reads too slowly misses prices and stays: an old price is worth nothing.
    fn overflow(&self) -> Overflow {
        Overflow::DropMessage
    }
}

fn main() -> Result<(), StartError> {
    let addr = "127.0.0.1:9000".parse().expect("an address and a port");
    let running = Server::builder().listen(addr).start(|core| Ticker { core, cents: 10_000, seed: 1 })?;
    println!("listening on ws://{addr}");
    running.wait()
}
