//! Why a token is refused.

use thiserror::Error;

/// Why a token is refused, in sentences that hold nothing of the token: they may be logged and sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than [`TOKEN_BYTES_MAX`](super::TOKEN_BYTES_MAX); nothing of it was read.
    #[error("the token has {bytes} bytes, above the limit of {max}", max = super::TOKEN_BYTES_MAX)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not three parts, two dots between them (RFC 7515 §7.1).
    #[error("the token is not a JWT: three parts with dots between them are expected")]
    NotThreeParts,
    /// A part is not base64url without padding (RFC 7515 §2).
    #[error("the token's {0} is not base64url without padding: was it cut short?")]
    NotBase64(Part),
    /// A part is not the JSON that belongs there.
    #[error("the token's {0} is not a JSON object as RFC 7519 has it, each member once")]
    NotJson(Part),
    /// `alg` is `none`: anybody could have written it (RFC 8725 §2.1).
    #[error("the token is not signed: its `alg` is `none`")]
    Unsigned,
    /// `alg` is not one of HS256, RS256, ES256 and EdDSA.
    #[error("the token is signed with an algorithm other than HS256, RS256, ES256 and EdDSA")]
    AlgorithmUnsupported,
    /// `crit` names extensions that must be understood (RFC 7515 §4.1.11), and none is.
    #[error("the token's header has `crit`: it demands an extension that this server does not have")]
    CriticalHeader,
    /// No key has the token's `kid`, and all keys have one of their own.
    #[error("the token's `kid` names a key that this server does not have")]
    UnknownKeyId,
    /// There are keys, for other algorithms (RFC 8725 §3.1: each key is for one).
    #[error("this server has no key for the token's algorithm")]
    NoKeyForAlgorithm,
    /// Signed by another key, or altered.
    #[error("the token's signature is wrong: it was signed with another key, or altered")]
    BadSignature,
    /// A claim that must be there is not.
    #[error("the token has no claim `{claim}`")]
    ClaimMissing {
        /// Its name.
        claim: &'static str,
    },
    /// A claim has a value that it cannot have.
    #[error("the token's claim `{claim}` must be {expected}")]
    ClaimMalformed {
        /// Its name.
        claim: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// `exp` has come (RFC 7519 §4.1.4).
    #[error("the token expired {seconds} s ago")]
    Expired {
        /// How long ago, leeway not counted.
        seconds: u64,
    },
    /// `nbf` has not come yet (RFC 7519 §4.1.5).
    #[error("the token is not valid yet, but in {seconds} s: compare the clocks")]
    NotYetValid {
        /// How long until then, leeway not counted.
        seconds: u64,
    },
    /// `aud` does not name this server (RFC 7519 §4.1.3).
    #[error("the token is for another audience: its `aud` does not name this server")]
    OtherAudience,
    /// `iss` is nobody whom this server was told to trust (RFC 7519 §4.1.1).
    #[error("the token is from another issuer: its `iss` is none that this server was told to trust")]
    OtherIssuer,
    /// A token for one topic where one for the connection belongs.
    #[error("the token is for subscribing to one topic (it has the claim `topic`), not for connecting")]
    NotForConnecting,
    /// A token for one topic, and it is another one.
    #[error("the token is for subscribing to another topic")]
    OtherTopic,
    /// Another user's token.
    #[error("the token belongs to another user than the connection")]
    OtherUser,
}

impl TokenError {
    /// Whether the same user can expect success with a newer token of the same kind.
    pub fn is_expiry(self) -> bool {
        matches!(self, Self::Expired { .. })
    }
}

/// A part of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first: algorithm and key.
    Header,
    /// The second.
    Claims,
    /// The third.
    Signature,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Claims => "second part, the claims,",
            Self::Signature => "signature",
        })
    }
}
