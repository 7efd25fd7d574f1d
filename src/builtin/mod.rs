//! The servers that the `corewire` command runs: handlers like any embedder's.
//!
//! Knows no shards and no sockets.

mod broadcast;
mod echo;
mod serve;

pub use broadcast::Broadcast;
pub use echo::Echo;
pub use serve::Serve;
