//! One core: its connections, its timers, its sockets. The only folder that names monoio.
//!
//! `state` decides: it is given bytes, time and envelopes and names no socket. Everything else here moves bytes:
//!
//! - `driver`: the core's loop: waits, hands out what happened, settles what was touched at the end of the turn;
//! - `hot`: the task of a connection with a receive posted in the ring;
//! - `paged`, `slab`, `wheel`, `temperature`: what `state` and `driver` keep per connection;
//! - `buffers`: what hot connections receive into;
//! - `ring_write`: writes that leave through the ring, many in one call; `view`: what it and `hot` see of a socket;
//! - `kernel`: the system calls;
//! - `runtime`: io_uring or epoll;
//! - `listener`: where peers come from.

mod buffers;
mod clock;
mod driver;
mod envelope;
mod hot;
mod kernel;
mod listener;
mod paged;
mod ring_write;
mod runtime;
mod slab;
pub mod state;
mod temperature;
mod view;
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
