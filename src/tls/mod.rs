//! TLS as one more layer without I/O: ciphertext in, plaintext out.
//!
//! Knows neither sockets nor who speaks inside, and asks no clock of its own. [`Session`] is the seam: its few
//! methods are all that the connection layer sees, so another record layer could stand behind them.
//!
//! The caller owns every buffer. A session at rest holds keys and state, no bytes of either stream; the one
//! exception is a handshake message that is cut over several records, which it keeps until the rest comes.

mod client;
mod drive;
mod error;
mod facts;
mod pem;
mod record;
mod server;
mod session;
#[cfg(test)]
mod tests;

pub use client::{ClientTls, Trust};
pub use error::{Misuse, TlsError, TlsSetupError};
pub use facts::{TlsFacts, TlsVersion};
pub use record::RECORD_BYTES_MAX;
pub use server::{ServerTls, TlsOptions};
pub use session::{Progress, Session};
