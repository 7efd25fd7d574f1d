//! The servers that the `corewire` command runs: handlers like any embedder's.
//!
//! Knows no shards and no sockets.

mod broadcast;
mod echo;
#[cfg(all(feature = "auth", feature = "wire"))]
mod serve;

pub use broadcast::Broadcast;
pub use echo::Echo;
#[cfg(all(feature = "auth", feature = "wire"))]
pub use serve::{Act, Admission, Command, ConnectionInfo, DISCONNECTED, Outcome, Seats, Serve, Who};
