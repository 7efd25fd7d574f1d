//! What a token claims, and whether it holds at a given time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::grant::Patterns;
use super::token_error::{Part, TokenError};
use super::verifier::Policy;

/// Seconds since the beginning of 1970 in UTC, as tokens count them (RFC 7519 §2, NumericDate).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// The second that is under way at `time`; zero before 1970.
    pub fn at(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// How long from `now` until then; zero if it has come.
    pub fn since(self, now: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(now.0))
    }
}

/// The claims that matter here, unread. Others may stand beside them; of these, each once (RFC 7519 §4).
#[derive(Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(borrow)]
    exp: Option<&'a RawValue>,
    #[serde(borrow)]
    nbf: Option<&'a RawValue>,
    #[serde(borrow)]
    aud: Option<&'a RawValue>,
    #[serde(borrow)]
    iss: Option<&'a RawValue>,
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
    #[serde(borrow)]
    topic: Option<&'a RawValue>,
    #[serde(borrow)]
    subscribe: Option<&'a RawValue>,
    #[serde(borrow)]
    publish: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
}

impl<'a> Claims<'a> {
    pub(super) fn parse(json: &'a RawValue) -> Result<Self, TokenError> {
        // serde would read an array as the members in their order.
        let json = Some(json.get()).filter(|json| json.starts_with('{'));
        json.and_then(|json| serde_json::from_str(json).ok()).ok_or(TokenError::NotJson(Part::Claims))
    }

    /// Holds `exp`, `nbf`, `aud` and `iss` against `policy`, and says until when the token may be used.
    pub(super) fn check(&self, policy: &Policy, now: UnixSeconds) -> Result<Option<UnixSeconds>, TokenError> {
        let valid_until = self.check_expiry(policy, now)?;
        self.check_not_before(policy, now)?;
        self.check_audience(&policy.audiences)?;
        self.check_issuer(&policy.issuers)?;
        Ok(valid_until)
    }

    /// Between one byte and [`SUBJECT_BYTES_MAX`]; none at all where `may_be_empty`.
    pub(super) fn subject(&self, may_be_empty: bool) -> Result<Box<str>, TokenError> {
        let wrong = TokenError::ClaimMalformed { claim: "sub", expected: "a string of 1 to 255 bytes" };
        let subject = self.sub.ok_or(TokenError::ClaimMissing { claim: "sub" })?;
        let subject: String = read(subject).ok_or(wrong)?;
        let fits = subject.len() <= SUBJECT_BYTES_MAX && (may_be_empty || !subject.is_empty());
        if fits { Ok(subject.into()) } else { Err(wrong) }
    }

    /// `None` if there is none.
    pub(super) fn topic(&self) -> Result<Option<String>, TokenError> {
        let wrong = TokenError::ClaimMalformed { claim: "topic", expected: "a string" };
        self.topic.map(|topic| read(topic).ok_or(wrong)).transpose()
    }

    pub(super) fn subscribe(&self) -> Result<Patterns, TokenError> {
        patterns("subscribe", self.subscribe)
    }

    pub(super) fn publish(&self) -> Result<Patterns, TokenError> {
        patterns("publish", self.publish)
    }

    /// A JSON object, as it stands in the token.
    pub(super) fn info(&self) -> Result<Option<Box<str>>, TokenError> {
        match self.info {
            None => Ok(None),
            Some(info) if info.get().starts_with('{') => Ok(Some(info.get().into())),
            Some(_) => Err(TokenError::ClaimMalformed { claim: "info", expected: "a JSON object" }),
        }
    }

    fn check_expiry(&self, policy: &Policy, now: UnixSeconds) -> Result<Option<UnixSeconds>, TokenError> {
        let Some(exp) = self.exp else {
            let missing = Err(TokenError::ClaimMissing { claim: "exp" });
            return if policy.expiry_required { missing } else { Ok(None) };
        };
        // A part of a second does not lengthen a life, nor shorten a wait.
        let exp = numeric_date("exp", exp)?.floor() as u64;
        let valid_until = UnixSeconds(exp.saturating_add(policy.leeway.as_secs()));
        if now >= valid_until {
            return Err(TokenError::Expired { seconds: now.0 - exp });
        }
        Ok(Some(valid_until))
    }

    fn check_not_before(&self, policy: &Policy, now: UnixSeconds) -> Result<(), TokenError> {
        let Some(nbf) = self.nbf else { return Ok(()) };
        let nbf = numeric_date("nbf", nbf)?.ceil() as u64;
        if now.0.saturating_add(policy.leeway.as_secs()) < nbf {
            return Err(TokenError::NotYetValid { seconds: nbf - now.0 });
        }
        Ok(())
    }

    /// Where the server has names, the token must have one of them. Where it has none, no token is meant for it that
    /// names an audience (RFC 7519 §4.1.3).
    fn check_audience(&self, ours: &[String]) -> Result<(), TokenError> {
        let wrong = TokenError::ClaimMalformed { claim: "aud", expected: "a string or an array of strings" };
        match self.aud {
            None if ours.is_empty() => Ok(()),
            None => Err(TokenError::ClaimMissing { claim: "aud" }),
            Some(aud) => {
                let named = read(aud).map(|one: String| vec![one]).or_else(|| read(aud)).ok_or(wrong)?;
                let is_for_us = named.iter().any(|name| ours.contains(name));
                if is_for_us { Ok(()) } else { Err(TokenError::OtherAudience) }
            }
        }
    }

    fn check_issuer(&self, trusted: &[String]) -> Result<(), TokenError> {
        if trusted.is_empty() {
            return Ok(());
        }
        let wrong = TokenError::ClaimMalformed { claim: "iss", expected: "a string" };
        let issuer = self.iss.ok_or(TokenError::ClaimMissing { claim: "iss" })?;
        let issuer: String = read(issuer).ok_or(wrong)?;
        if trusted.contains(&issuer) { Ok(()) } else { Err(TokenError::OtherIssuer) }
    }
}

fn patterns(claim: &'static str, value: Option<&RawValue>) -> Result<Patterns, TokenError> {
    let Some(value) = value else { return Ok(Patterns::default()) };
    let expected = "an array of at most 128 topics, where `*` may be a segment and `**` the last";
    read(value).and_then(Patterns::new).ok_or(TokenError::ClaimMalformed { claim, expected })
}

/// Finite and not negative. Doubles count seconds exactly for longer than the sun burns.
fn numeric_date(claim: &'static str, value: &RawValue) -> Result<f64, TokenError> {
    let seconds = read(value).filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    seconds.ok_or(TokenError::ClaimMalformed { claim, expected: "a number of seconds since 1970" })
}

/// What serde_json says of a failure may quote the token, so it is dropped.
fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// Longest user id in bytes.
const SUBJECT_BYTES_MAX: usize = 255;
