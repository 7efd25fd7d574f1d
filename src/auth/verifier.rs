//! From a token to an identity.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::claims::{Claims, UnixSeconds};
use super::grant::Patterns;
use super::key::{Algorithm, Key};
use super::key_error::KeyError;
use super::key_file::KeyFile;
use super::keys::KeySet;
use super::token_error::{Part, TokenError};

/// What a token must claim beside being signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Names of this server. If there are any, a token needs one of them in `aud`; if there are none, no token may
    /// have an `aud`. Default none.
    pub audiences: Vec<String>,
    /// Whom `iss` must name. If there are none, it is not looked at. Default none.
    pub issuers: Vec<String>,
    /// How far the clocks of issuer and server may lie apart: a token is good for so much longer than `exp` and
    /// earlier than `nbf`. Whole seconds. Default 30 s.
    pub leeway: Duration,
    /// Whether a token must have `exp`. Default true: what never expires can only be taken back with its key.
    pub expiry_required: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { audiences: Vec::new(), issuers: Vec::new(), leeway: Duration::from_secs(30), expiry_required: true }
    }
}

/// Who is connected, and what he may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `sub`: the user's id, 1 to 255 bytes.
    pub user: Box<str>,
    /// `info`: a JSON object that others see in presence.
    pub info: Option<Box<str>>,
    /// `subscribe`: what he may subscribe to where a namespace wants a token. Nothing if the token does not say.
    pub subscribe: Patterns,
    /// `publish`: the same for publishing.
    pub publish: Patterns,
    /// `exp` and leeway: when the connection must end unless a newer token has come. `None`: never.
    pub valid_until: Option<UnixSeconds>,
}

/// Leave to subscribe to one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicGrant {
    /// `info`: what others see of the user in this topic's presence, instead of the connection's.
    pub info: Option<Box<str>>,
    /// `exp` and leeway: when the subscription must end unless a newer token has come. `None`: never.
    pub valid_until: Option<UnixSeconds>,
}

/// Keys and policy: what a server checks tokens with.
///
/// Made once; a clone costs a reference count and may go to any thread. It never changes: after a reload, a new one
/// goes to everybody in its place, whole.
#[derive(Clone, Debug)]
pub struct Verifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: KeySet,
    files: Vec<KeyFile>,
    policy: Policy,
}

impl Verifier {
    /// Reads all `files`.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] that names the file and the line or field.
    pub fn from_files(files: Vec<KeyFile>, policy: Policy) -> Result<Self, KeyError> {
        Ok(Self(Arc::new(Inner { keys: KeySet::from_files(&files)?, files, policy })))
    }

    /// From keys that came from elsewhere.
    pub fn new(keys: KeySet, policy: Policy) -> Self {
        Self(Arc::new(Inner { keys, files: Vec::new(), policy }))
    }

    /// What takes this one's place after its files have changed. Connections keep what they were given.
    ///
    /// # Errors
    ///
    /// As [`Verifier::from_files`]; `self` remains as good as it was.
    pub fn reloaded(&self) -> Result<Self, KeyError> {
        if self.0.files.is_empty() {
            return Ok(self.clone());
        }
        Self::from_files(self.0.files.clone(), self.0.policy.clone())
    }

    /// Its keys.
    pub fn keys(&self) -> &KeySet {
        &self.0.keys
    }

    /// Reads a token for connecting: `sub` is required, `topic` must not be there.
    ///
    /// # Errors
    ///
    /// A [`TokenError`], the signature's before any of the claims'.
    pub fn connection(&self, token: &str, now: UnixSeconds) -> Result<Identity, TokenError> {
        let json = self.signed_claims(token)?;
        let claims = Claims::parse(&json)?;
        let valid_until = claims.check(&self.0.policy, now)?;
        if claims.topic()?.is_some() {
            return Err(TokenError::NotForConnecting);
        }
        Ok(Identity {
            user: claims.subject(false)?,
            info: claims.info()?,
            subscribe: claims.subscribe()?,
            publish: claims.publish()?,
            valid_until,
        })
    }

    /// Reads a newer token for a connection that is `user`'s.
    ///
    /// # Errors
    ///
    /// As [`Verifier::connection`], and [`TokenError::OtherUser`]: who one is does not change on a connection.
    pub fn refresh(&self, token: &str, user: &str, now: UnixSeconds) -> Result<Identity, TokenError> {
        let identity = self.connection(token, now)?;
        if *identity.user == *user { Ok(identity) } else { Err(TokenError::OtherUser) }
    }

    /// Reads a token for subscribing to `topic`: its claim `topic` is that topic, and `sub` the connection's user, or
    /// the empty string where the connection has none.
    ///
    /// # Errors
    ///
    /// A [`TokenError`], the signature's before any of the claims'.
    pub fn subscription(
        &self,
        token: &str,
        topic: &str,
        user: Option<&str>,
        now: UnixSeconds,
    ) -> Result<TopicGrant, TokenError> {
        let json = self.signed_claims(token)?;
        let claims = Claims::parse(&json)?;
        let valid_until = claims.check(&self.0.policy, now)?;
        let claimed = claims.topic()?.ok_or(TokenError::ClaimMissing { claim: "topic" })?;
        if claimed != topic {
            return Err(TokenError::OtherTopic);
        }
        if *claims.subject(true)? != *user.unwrap_or_default() {
            return Err(TokenError::OtherUser);
        }
        Ok(TopicGrant { info: claims.info()?, valid_until })
    }

    /// The claims of a token that is well-formed and signed by one of our keys. Nothing is said of what they are.
    fn signed_claims(&self, token: &str) -> Result<Box<RawValue>, TokenError> {
        check_shape(token)?;
        let header = decode_header(token).map_err(|_| why_header_failed(token))?;
        if header.crit.is_some() {
            return Err(TokenError::CriticalHeader);
        }
        let algorithm = Algorithm::of_header(header.alg).ok_or(TokenError::AlgorithmUnsupported)?;
        let mut verdict = Err(TokenError::BadSignature);
        for key in self.0.keys.candidates(algorithm, header.kid.as_deref())? {
            verdict = verify(token, key);
            if verdict != Err(TokenError::BadSignature) {
                break;
            }
        }
        verdict.map(|Signed(claims)| claims)
    }
}

/// Claims under a good signature.
#[derive(Debug)]
struct Signed(Box<RawValue>);

impl PartialEq for Signed {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// The signature alone, with the key's own algorithm. All that the library would hold against its clock is off.
fn verify(token: &str, key: &Key) -> Result<Signed, TokenError> {
    let mut validation = Validation::new(key.algorithm.in_header());
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    match decode::<Box<RawValue>>(token, &key.material, &validation) {
        Ok(data) => Ok(Signed(data.claims)),
        Err(error) => Err(match error.kind() {
            ErrorKind::InvalidAlgorithm | ErrorKind::MissingAlgorithm => TokenError::NoKeyForAlgorithm,
            // After the signature only the claims are left to be read.
            ErrorKind::Json(_) | ErrorKind::Utf8(_) | ErrorKind::Base64(_) => TokenError::NotJson(Part::Claims),
            _ => TokenError::BadSignature,
        }),
    }
}

/// Three parts of base64url, and not too long.
fn check_shape(token: &str) -> Result<(), TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong { bytes: token.len() });
    }
    let parts: Vec<&str> = token.splitn(4, '.').collect();
    let [header, claims, signature] = parts[..] else { return Err(TokenError::NotThreeParts) };
    for (part, text) in [(Part::Header, header), (Part::Claims, claims), (Part::Signature, signature)] {
        URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::NotBase64(part))?;
    }
    Ok(())
}

/// The library knows `none` and what is unsupported only as errors of JSON.
fn why_header_failed(token: &str) -> TokenError {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    let header = token.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok()).unwrap_or_default();
    match serde_json::from_slice::<Header>(&header) {
        Ok(Header { alg }) if alg.eq_ignore_ascii_case("none") => TokenError::Unsigned,
        Ok(Header { alg }) if Algorithm::of_name(&alg).is_none() => TokenError::AlgorithmUnsupported,
        Ok(_) | Err(_) => TokenError::NotJson(Part::Header),
    }
}

/// Longest token in bytes. What issuers put into theirs rarely has more than 4 KiB.
pub const TOKEN_BYTES_MAX: usize = 8192;
