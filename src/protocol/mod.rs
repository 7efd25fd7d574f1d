//! RFC 6455 (WebSocket) and RFC 7692 (permessage-deflate) as functions over bytes.
//!
//! Does not know that connections, tasks or sockets exist.

pub mod close;
pub mod deflate;
mod extension;
pub mod frame;
pub mod handshake;
pub mod mask;
mod message;
mod opcode;
pub mod utf8;
mod violation;

pub use close::{CloseCode, CloseFrame};
pub use frame::{FrameHeader, FrameRules, HEADER_LEN_MAX, Role};
pub use message::{Message, MessageKind, Payload};
pub use opcode::Opcode;
pub use violation::Violation;
