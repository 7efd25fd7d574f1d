//! What clients of topics speak: the subprotocol `corewire.v1`, bare data, and Server-Sent Events.
//!
//! Text to typed messages and back; `docs/WIRE.md` is the specification, and its examples are tests. Knows no topics,
//! subscribers, connections or time. What is told to many ([`Message`], [`PresenceEvent`], a [`sse`] event's data) has
//! no field of any one of them, so it is encoded once.

mod client;
pub mod close;
mod code;
mod fault;
mod fields;
mod position;
mod raw;
mod scan;
mod server;
pub mod sse;
mod write;

#[cfg(test)]
mod tests;

pub use client::{ClientMessage, Token};
pub use code::ErrorCode;
pub use fault::{Fault, Refusal};
pub use position::{Epoch, OFFSET_MAX, Position};
pub use raw::{bare, data_from_raw};
pub use scan::{DEPTH_MAX, NUMBER_BYTES_MAX, check as check_bounds};
pub use server::{Ack, Data, Member, Message, Presence, PresenceEvent, ServerMessage};

/// The subprotocol's name in `Sec-WebSocket-Protocol` (RFC 6455 §1.9).
pub const SUBPROTOCOL: &str = "corewire.v1";
