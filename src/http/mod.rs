//! HTTP/1.1 request heads, plain replies and forwarded addresses (RFC 9110, RFC 9112).
//!
//! Knows no sockets, no WebSocket and no topics.

mod cidr;
mod forwarded;
mod query;
mod request;
mod response;

pub use cidr::{Cidr, CidrError};
pub use forwarded::client_address;
pub use query::QueryParams;
pub use request::{HEADERS_MAX, HeadError, HeadLimits, HeadPart, HeadScratch, Parsed, RequestHead, parse_request};
pub use response::{InvalidHeader, Response, reason_phrase};

pub(crate) use response::{check_header, is_token_byte};
