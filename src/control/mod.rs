//! The admin thread: metrics over HTTP, on tokio, apart from the data path.
//!
//! Knows no connections and no frames.
