//! Why a request does not become a WebSocket, said so that the person who reads it knows what to mend.

use super::VERSION;
use crate::http::Response;

/// Why a request is not upgraded. Each variant is one mistake with one mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// A plain `GET` or `HEAD`, or one that upgrades to something else. Not a mistake: a page may be the answer.
    #[error(
        "This address speaks WebSocket, and the request does not ask for it. If a WebSocket client sent it, a proxy \
         in between has dropped the Upgrade header field."
    )]
    NotAnUpgrade,
    /// Neither a plain `GET` or `HEAD` nor an upgrade.
    #[error("Only GET and HEAD requests are answered here, and a WebSocket handshake is a GET request.")]
    MethodUnsupported,
    /// RFC 6455 §4.1: the method must be `GET`.
    #[error("A WebSocket handshake is a GET request (RFC 6455 §4.1).")]
    MethodNotGet,
    /// RFC 6455 §4.1: at least HTTP/1.1.
    #[error(
        "A WebSocket handshake needs HTTP/1.1 (RFC 6455 §4.1). A proxy in between may need to be told so; for nginx \
         it is: proxy_http_version 1.1."
    )]
    HttpVersionTooOld,
    /// RFC 6455 §4.1: `Connection` must have the token `upgrade`.
    #[error(
        "The Connection header field has no \"Upgrade\" in it (RFC 6455 §4.1). A proxy in between may have dropped it; \
         for nginx it is: proxy_set_header Connection \"upgrade\"."
    )]
    ConnectionNotUpgrade,
    /// RFC 6455 §4.2.2: a version that is not 13. The answer names the one that is.
    #[error("The Sec-WebSocket-Version header field must be there once and say 13 (RFC 6455 §4.1).")]
    VersionUnsupported,
    /// RFC 6455 §4.1: there must be a `Sec-WebSocket-Key`.
    #[error("The Sec-WebSocket-Key header field is missing (RFC 6455 §4.1).")]
    KeyMissing,
    /// RFC 6455 §11.3.1: not more than once.
    #[error("The Sec-WebSocket-Key header field is there more than once (RFC 6455 §11.3.1).")]
    KeyRepeated,
    /// RFC 6455 §4.1: 16 bytes in base64.
    #[error("The Sec-WebSocket-Key header field is not 16 bytes in base64 (RFC 6455 §4.1).")]
    KeyInvalid,
    /// RFC 6455 §4.1: subprotocols are tokens, and no two are the same.
    #[error("The Sec-WebSocket-Protocol header field is not a list of different tokens (RFC 6455 §4.1).")]
    ProtocolsInvalid,
    /// More subprotocols than [`PROTOCOLS_MAX`](super::PROTOCOLS_MAX).
    #[error("The Sec-WebSocket-Protocol header field has more subprotocols than this server looks at.")]
    TooManyProtocols,
    /// RFC 6455 §9.1: extensions have a grammar.
    #[error("The Sec-WebSocket-Extensions header field is malformed (RFC 6455 §9.1).")]
    ExtensionsInvalid,
    /// RFC 6455 §4.2.2: an origin that this server does not serve.
    #[error(
        "The page that opened this connection comes from an origin that this server does not serve (RFC 6455 §10.2). If \
         it should be served, add its origin to the list, or see that a proxy in between passes the Host header field on."
    )]
    OriginRefused,
}

impl Refusal {
    /// The status to answer with.
    pub const fn status(self) -> u16 {
        match self {
            Self::NotAnUpgrade | Self::VersionUnsupported => 426,
            Self::MethodUnsupported | Self::MethodNotGet => 405,
            Self::HttpVersionTooOld => 505,
            Self::OriginRefused => 403,
            Self::ConnectionNotUpgrade
            | Self::KeyMissing
            | Self::KeyRepeated
            | Self::KeyInvalid
            | Self::ProtocolsInvalid
            | Self::TooManyProtocols
            | Self::ExtensionsInvalid => 400,
        }
    }

    /// Header fields that the answer must have besides the usual ones.
    pub const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // RFC 9110 §15.5.22: 426 names what to upgrade to.
            Self::NotAnUpgrade => &[("Upgrade", "websocket")],
            // RFC 6455 §4.4: and the versions that would do.
            Self::VersionUnsupported => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)],
            // RFC 9110 §15.5.6: 405 names the methods that would do.
            Self::MethodUnsupported => &[("Allow", "GET, HEAD")],
            Self::MethodNotGet => &[("Allow", "GET")],
            Self::HttpVersionTooOld
            | Self::ConnectionNotUpgrade
            | Self::KeyMissing
            | Self::KeyRepeated
            | Self::KeyInvalid
            | Self::ProtocolsInvalid
            | Self::TooManyProtocols
            | Self::ExtensionsInvalid
            | Self::OriginRefused => &[],
        }
    }

    /// The whole answer.
    pub fn response(self) -> Response {
        let response = Response::text(self.status(), format!("{self}\n"));
        self.headers().iter().fold(response, |response, &(name, value)| {
            response.header(name, value).expect("a name and a value from the table above")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_they_go_on_the_wire() {
        let mut out = Vec::new();
        Refusal::VersionUnsupported.response().write_to(&mut out);
        let wire = String::from_utf8(out).unwrap();
        assert!(wire.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{wire}");
        assert!(wire.contains("\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"), "{wire}");
        assert!(wire.ends_with("say 13 (RFC 6455 §4.1).\n"), "{wire}");
    }

    #[test]
    fn every_refusal_can_be_written() {
        let all = [
            Refusal::NotAnUpgrade,
            Refusal::MethodUnsupported,
            Refusal::MethodNotGet,
            Refusal::HttpVersionTooOld,
            Refusal::ConnectionNotUpgrade,
            Refusal::VersionUnsupported,
            Refusal::KeyMissing,
            Refusal::KeyRepeated,
            Refusal::KeyInvalid,
            Refusal::ProtocolsInvalid,
            Refusal::TooManyProtocols,
            Refusal::ExtensionsInvalid,
            Refusal::OriginRefused,
        ];
        for refusal in all {
            let response = refusal.response();
            assert_eq!(response.status(), refusal.status());
            assert_ne!(crate::http::reason_phrase(refusal.status()), "", "{refusal:?}");
        }
    }
}
