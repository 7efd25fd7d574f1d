//! One WebSocket peer as a state machine: bytes and time in, events and bytes out.
//!
//! Knows no socket, no clock and no other connection.

mod limits;

pub use limits::{DeflateMode, Limits};
