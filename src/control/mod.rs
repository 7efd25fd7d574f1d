//! The admin thread: metrics and the HTTP API, on tokio, apart from the data path.
//!
//! Knows no connections and no frames: what it wants of them, it asks of cores.

mod api;
mod dashboard;
mod exposition;
mod process;
mod serve;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::metrics::{Sample, ShardMetrics};
pub use api::{Answers, AnswersInbox, ApiOptions, ApiSettings, Reload, answers};

pub use serve::{ControlHandle, start};

/// How the admin listener is set up.
pub struct ControlOptions {
    /// Where it stands; port 0 lets the kernel choose.
    pub addr: SocketAddr,
    /// The HTTP API below `/api/v1`; `None`: there is none.
    pub api: Option<ApiOptions>,
}

/// What the admin thread may see of the server. Its methods are called on that thread and must not wait.
pub trait ControlSource: Send + Sync + 'static {
    /// The shards, always the same ones in the same order.
    fn shards(&self) -> &[CoreMetrics];

    /// Figures of the whole server, of no core in particular; members of a family stand next to each other.
    fn figures(&self) -> Vec<Sample> {
        Vec::new()
    }

    /// Whether the server is about to stop and wants no new clients.
    fn is_draining(&self) -> bool;

    /// When the server started.
    fn started_at(&self) -> SystemTime;

    /// What was built.
    fn build_info(&self) -> BuildInfo;
}

/// The figures of one shard and the label under which they are shown.
#[derive(Clone, Debug)]
pub struct CoreMetrics {
    /// The CPU that the shard is pinned to, or its index where it is not pinned. No two shards have the same.
    pub core: usize,
    /// The figures, written by the shard.
    pub metrics: Arc<ShardMetrics>,
}

/// What was built.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    /// Version as in `Cargo.toml`: `0.1.0`.
    pub version: &'static str,
}

/// Why the admin listener could not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another socket has the address.
    #[error(
        "the admin address {addr} is taken, perhaps by another corewire; choose one with --admin ADDR, or --admin off"
    )]
    AddrInUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The process may not listen there.
    #[error("no permission to listen on the admin address {addr}; ports below 1024 need CAP_NET_BIND_SERVICE")]
    PermissionDenied {
        /// The address.
        addr: SocketAddr,
    },
    /// The address belongs to another machine.
    #[error("no interface of this machine has the admin address {addr}")]
    AddrNotAvailable {
        /// The address.
        addr: SocketAddr,
    },
    /// The kernel refused for another reason.
    #[error("cannot listen on the admin address {addr}: {error}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The thread or its runtime could not be made.
    #[error("cannot start the admin thread: {0}")]
    Thread(io::Error),
}

impl ControlError {
    fn bind(addr: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::AddrInUse { addr },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { addr },
            io::ErrorKind::AddrNotAvailable => Self::AddrNotAvailable { addr },
            _ => Self::Bind { addr, error },
        }
    }
}
