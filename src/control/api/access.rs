//! Who may use the API: back ends with a key, or without one this machine alone.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::error::{ApiError, ErrorCode};
use crate::auth::ApiKeys;

/// The other end of the connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct PeerAddr(pub(in super::super) SocketAddr);

/// Lets a request through, or answers 401 before its body is kept.
pub(super) async fn check(
    State(api): State<Api>,
    Extension(PeerAddr(peer)): Extension<PeerAddr>,
    request: Request,
    next: Next,
) -> Response {
    match authorize(api.settings.keys().as_deref(), peer, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            api.bodies.drain(request.into_body()).await;
            error.into_response()
        }
    }
}

/// Whether a request may be answered by who has these keys.
pub(in super::super) fn authorize(
    keys: Option<&ApiKeys>,
    peer: SocketAddr,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    match keys {
        Some(keys) => holds_key(keys, headers),
        None => is_local(peer.ip(), headers),
    }
}

fn holds_key(keys: &ApiKeys, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut given = keys_of(headers).peekable();
    if given.peek().is_none() {
        let message = "this needs an API key, in X-API-Key: KEY or Authorization: Bearer KEY";
        return Err(ApiError::new(ErrorCode::KeyRequired, message));
    }
    // All that are given must be good: a proxy in between may have added its own.
    if given.all(|key| keys.contain(key)) {
        Ok(())
    } else {
        Err(ApiError::new(ErrorCode::KeyInvalid, "the API key is not one of this server's"))
    }
}

/// What stands in `X-API-Key`, and in `Authorization` behind `Bearer` (RFC 6750 §2.1).
fn keys_of(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let plain = headers.get_all("x-api-key").iter().map(|value| value.as_bytes());
    let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
        let value = value.as_bytes();
        match value.split_at_checked(BEARER.len()) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(BEARER) => key.trim_ascii(),
            // Another scheme: never a key.
            Some(_) | None => &[],
        }
    });
    plain.chain(bearer)
}

/// Without a key, a request must come from this machine and be meant for it: a page that has its own name resolved to
/// 127.0.0.1, or a proxy that listens for others, says another host.
fn is_local(peer: IpAddr, headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if peer.to_canonical().is_loopback() && host.is_none_or(is_this_machine) {
        return Ok(());
    }
    let message = "this server has no API key, so its API answers requests of the same machine to localhost only; \
                   start it with --api-key-file FILE";
    Err(ApiError::new(ErrorCode::KeyRequired, message))
}

/// Whether `host`, with or without a port, names the loopback interface.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

const BEARER: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    const KEY: &str = "0123456789abcdef";

    #[test]
    fn a_key_stands_in_one_of_two_header_fields() {
        let keys = ApiKeys::one(KEY).expect("long enough");
        let bearer = format!("Bearer {KEY}");
        let lower = format!("bearer  {KEY} ");
        let basic = format!("Basic {KEY}");
        type Lines<'a> = &'a [(&'static str, &'a str)];
        let cases: &[(Lines<'_>, Option<ErrorCode>)] = &[
            (&[("x-api-key", KEY)], None),
            (&[("authorization", &bearer)], None),
            (&[("authorization", &lower)], None),
            (&[("authorization", &bearer), ("x-api-key", KEY)], None),
            (&[], Some(ErrorCode::KeyRequired)),
            (&[("x-api-key", "0123456789abcdeF")], Some(ErrorCode::KeyInvalid)),
            (&[("x-api-key", "")], Some(ErrorCode::KeyInvalid)),
            (&[("authorization", KEY)], Some(ErrorCode::KeyInvalid)),
            (&[("authorization", &basic)], Some(ErrorCode::KeyInvalid)),
            (&[("authorization", "Bearer")], Some(ErrorCode::KeyInvalid)),
            (&[("authorization", &bearer), ("x-api-key", "x")], Some(ErrorCode::KeyInvalid)),
        ];
        for (lines, want) in cases {
            let got = holds_key(&keys, &headers(lines)).err().map(|error| error.code());
            assert_eq!(got, *want, "{lines:?}");
        }
    }

    #[test]
    fn without_a_key_only_this_machine_is_answered_and_only_as_localhost() {
        let good = ["127.0.0.1:9090", "127.0.0.1", "127.8.8.8:1", "localhost:9090", "LOCALHOST", "[::1]:9090", "[::1]"];
        let bad = ["example.com", "example.com:9090", "10.0.0.1:9090", "localhost.example.com", "[::2]:1", "", ":9090"];
        let peer: IpAddr = [127, 0, 0, 1].into();
        for (hosts, is_good) in [(&good, true), (&bad, false)] {
            for host in hosts {
                assert_eq!(is_local(peer, &headers(&[("host", host)])).is_ok(), is_good, "{host:?}");
            }
        }
        for (peer, is_good) in [("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false), ("2001:db8::1", false)]
        {
            let peer = peer.parse().expect("an address");
            assert_eq!(is_local(peer, &headers(&[("host", "localhost")])).is_ok(), is_good, "{peer}");
        }
        // HTTP/1.0 knows no Host.
        assert!(is_local(peer, &headers(&[])).is_ok());
    }
}
