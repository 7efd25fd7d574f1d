//! permessage-deflate (RFC 7692): what two peers agree on, and the compression itself.
//!
//! Knows messages, not frames: the RSV1 bit that marks a compressed one is the frame header's.

mod codec;
mod negotiate;

pub use codec::{Deflater, InflateError, Inflater, worth_deflating};
pub use negotiate::{
    Agreement, DeflateOptions, NegotiationError, accept_offer, check_answer, write_answer, write_offer,
};
