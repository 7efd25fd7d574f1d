//! Who somebody is and what he may do: JSON Web Tokens (RFC 7519) and API keys.
//!
//! Keys and tokens go in as text, with the time; identities and permissions come out. A [`Verifier`] is made from key
//! files once and shared by all cores; [`Verifier::reloaded`] makes what takes its place, or fails and leaves it as it
//! is. Knows neither sockets nor HTTP nor topics, and reads no clock.
//!
//! Of the crate `jsonwebtoken` it uses headers and signatures. Times and claims are checked here, because the crate
//! reads the system's clock for them, and passes over `crit` (RFC 7515 §4.1.11).

mod api_key;
mod claims;
mod grant;
mod jwks;
mod key;
mod key_error;
mod key_file;
mod keys;
mod token_error;
mod verifier;

#[cfg(test)]
mod tests;

pub use api_key::{API_KEY_BYTES_MIN, ApiKeyError, ApiKeys};
pub use claims::UnixSeconds;
pub use grant::{Patterns, covers};
pub use key::{Algorithm, SECRET_BYTES_MIN};
pub use key_error::KeyError;
pub use key_file::{KeyFile, KeyFormat};
pub use keys::{KEYS_MAX, KeySet};
pub use token_error::{Part, TokenError};
pub use verifier::{Identity, Policy, TOKEN_BYTES_MAX, TopicGrant, Verifier};
