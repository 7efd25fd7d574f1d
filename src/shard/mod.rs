//! One core: its connections, its timers, its sockets. The only folder that names monoio.
//!
//! `state` decides: it is given bytes, time and envelopes and names no socket. Everything else here moves bytes:
//!
//! - `driver`: the core's loop: waits, hands out what happened, settles what was touched at the end of the turn;
//! - `hot`: which connections have a receive posted in the ring;
//! - `paged`, `slab`, `wheel`, `temperature`: what `state` and `driver` keep per connection;
//! - `ring`: receives that stay posted, and writes that leave together;
//! - `kernel`: the system calls;
//! - `runtime`: io_uring or epoll;
//! - `listener`: where peers come from.

mod clock;
mod driver;
mod envelope;
mod hot;
mod kernel;
mod listener;
mod paged;
mod ring;
mod runtime;
mod slab;
pub mod state;
mod temperature;
mod wheel;

pub(crate) use driver::{Core, CoreOptions};
pub use envelope::{AboutTopics, Envelope};
pub(crate) use kernel::BellFd;
pub use listener::{ListenAddr, ListenError};
pub(crate) use listener::{Listener, bind, unbind};
pub use runtime::{DriverChoice, Rung, explain};
pub use state::ShardOptions;
pub use temperature::{ColdRead, Heat, Load, Thermostat};
pub use wheel::{Node, Nodes, Wheel};
