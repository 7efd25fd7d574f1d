//! Which pages may read a stream: Cross-Origin Resource Sharing (Fetch Standard, §3.2).
//!
//! The origins that are admitted are those that may open a WebSocket. Credentials are not allowed for: no answer here
//! depends on a cookie.

use crate::http::{RequestHead, Response};
use crate::protocol::handshake::OriginPolicy;

/// Whether the page that asks is admitted. A client that is no browser has no origin, and is.
pub(super) fn admits(policy: &OriginPolicy, head: &RequestHead<'_>) -> bool {
    match head.header("origin") {
        None => true,
        Some(_) => origin(head).is_some_and(|origin| policy.allows(Some(origin), head.host())),
    }
}

/// The response, such that the admitted page that asked may read it.
pub(super) fn readable(response: Response, head: &RequestHead<'_>) -> Response {
    let response = with(response, "Vary", "Origin");
    match origin(head) {
        Some(origin) => with(response, "Access-Control-Allow-Origin", origin),
        None => response,
    }
}

/// Whether a browser asks what it may ask (§3.2.2).
pub(super) fn is_preflight(head: &RequestHead<'_>) -> bool {
    head.method() == "OPTIONS" && origin(head).is_some() && head.header("access-control-request-method").is_some()
}

/// The answer to that: how requests for streams may be made. On no path they do anything.
pub(super) fn preflight(policy: &OriginPolicy, head: &RequestHead<'_>) -> Response {
    if !admits(policy, head) {
        return with(Response::text(403, "This page's origin may not read anything here.\n"), "Vary", "Origin");
    }
    let permissions = [
        ("Access-Control-Allow-Methods", "GET, HEAD"),
        ("Access-Control-Allow-Headers", "Cache-Control, Last-Event-ID"),
        ("Access-Control-Max-Age", MAX_AGE_SECONDS),
    ];
    permissions.iter().fold(readable(Response::empty(204), head), |answer, &(name, value)| with(answer, name, value))
}

/// An origin comes from the peer; one that no header field can carry is none.
fn origin<'a>(head: &RequestHead<'a>) -> Option<&'a str> {
    head.header_str("origin")
}

fn with(response: Response, name: &'static str, value: &str) -> Response {
    response.clone().header(name, value.to_owned()).unwrap_or(response)
}

/// For how long browsers need not ask again.
const MAX_AGE_SECONDS: &str = "600";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, HeadScratch, Parsed, parse_request};

    fn answer(
        policy: &OriginPolicy,
        request: &str,
        what: impl Fn(&OriginPolicy, &RequestHead<'_>) -> String,
    ) -> String {
        let request = request.replace('\n', "\r\n");
        let limits = HeadLimits { bytes_max: 4096, headers_max: 32 };
        match parse_request(request.as_bytes(), limits, &mut HeadScratch::new()) {
            Ok(Parsed::Complete { head, .. }) => what(policy, &head),
            other => panic!("{other:?}: {request}"),
        }
    }

    fn written(response: &Response) -> String {
        let mut out = Vec::new();
        response.write_to(&mut out);
        String::from_utf8(out).expect("ASCII").replace('\r', "")
    }

    #[test]
    fn who_may_read() {
        let listed = OriginPolicy::List(vec!["https://app.example".into()]);
        let cases = [
            (&OriginPolicy::SameHost, "", true),
            (&OriginPolicy::SameHost, "Origin: http://a.example\n", true),
            (&OriginPolicy::SameHost, "Origin: https://app.example\n", false),
            (&listed, "", true),
            (&listed, "Origin: https://app.example\n", true),
            (&listed, "Origin: https://other.example\n", false),
            (&listed, "Origin: null\n", false),
            (&listed, "Origin: \u{fffd}\n", false),
            (&OriginPolicy::Any, "Origin: null\n", true),
        ];
        for (policy, origin, admitted) in cases {
            let request = format!("GET /sse HTTP/1.1\nHost: a.example\n{origin}\n");
            assert_eq!(answer(policy, &request, |policy, head| admits(policy, head).to_string()), admitted.to_string());
        }
    }

    #[test]
    fn answers_name_the_origin_that_asked() {
        let readable = |_: &OriginPolicy, head: &RequestHead<'_>| written(&readable(Response::empty(404), head));
        let got =
            answer(&OriginPolicy::Any, "GET / HTTP/1.1\nHost: a.example\nOrigin: https://b.example\n\n", readable);
        assert!(got.contains("\nVary: Origin\nAccess-Control-Allow-Origin: https://b.example\n"), "{got}");
        let got = answer(&OriginPolicy::Any, "GET / HTTP/1.1\nHost: a.example\n\n", readable);
        assert!(got.contains("\nVary: Origin\n") && !got.contains("Access-Control"), "{got}");
    }

    #[test]
    fn preflights() {
        let ask = |policy: &OriginPolicy, head: &RequestHead<'_>| match is_preflight(head) {
            true => written(&preflight(policy, head)),
            false => "none".to_owned(),
        };
        let request = |method: &str, headers: &str| format!("{method} /sse HTTP/1.1\nHost: a.example\n{headers}\n");
        let asks = "Origin: https://b.example\nAccess-Control-Request-Method: GET\n";
        for (method, headers) in [("OPTIONS", "Origin: https://b.example\n"), ("OPTIONS", ""), ("POST", asks)] {
            assert_eq!(answer(&OriginPolicy::Any, &request(method, headers), ask), "none");
        }
        let want = "HTTP/1.1 204 No Content\nVary: Origin\nAccess-Control-Allow-Origin: https://b.example\n\
                    Access-Control-Allow-Methods: GET, HEAD\n\
                    Access-Control-Allow-Headers: Cache-Control, Last-Event-ID\n\
                    Access-Control-Max-Age: 600\nConnection: close\n\n";
        assert_eq!(answer(&OriginPolicy::Any, &request("OPTIONS", asks), ask), want);
        let refused = answer(&OriginPolicy::SameHost, &request("OPTIONS", asks), ask);
        assert!(refused.starts_with("HTTP/1.1 403 ") && !refused.contains("Access-Control"), "{refused}");
    }
}
