//! The server's end: what a request must say, and what the answer says (RFC 6455 §4.2).

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::{ACCEPT_LEN, KEY_LEN, Refusal, VERSION, accept_key, tokens};
use crate::http::{RequestHead, check_header};
use crate::protocol::deflate::{self, Agreement, DeflateOptions};
use crate::protocol::extension::extensions;

/// A request that asks for a WebSocket and keeps every rule in asking.
#[derive(Clone, Copy, Debug)]
pub struct UpgradeRequest<'a> {
    head: RequestHead<'a>,
    key: &'a [u8],
    origin: Option<&'a str>,
}

/// Checks a request against RFC 6455 §4.1 and §4.2.1.
///
/// Whether its origin is served is the caller's question ([`OriginPolicy`](super::OriginPolicy)), and
/// [`Refusal::OriginRefused`] the answer then.
pub fn check_upgrade<'a>(head: &RequestHead<'a>) -> Result<UpgradeRequest<'a>, Refusal> {
    if !tokens::any_is(head.headers_all("upgrade"), "websocket") {
        return Err(if matches!(head.method(), "GET" | "HEAD") {
            Refusal::NotAnUpgrade
        } else {
            Refusal::MethodUnsupported
        });
    }
    // RFC 6455 §4.1: the method MUST be GET, and the version at least 1.1. (That there is one Host is a head's own
    // rule: see `RequestHead`.)
    if head.method() != "GET" {
        return Err(Refusal::MethodNotGet);
    }
    if head.version_minor() < 1 {
        return Err(Refusal::HttpVersionTooOld);
    }
    // RFC 6455 §4.1: Connection MUST include the token "Upgrade".
    if !tokens::any_is(head.headers_all("connection"), "upgrade") {
        return Err(Refusal::ConnectionNotUpgrade);
    }
    check_version(head)?;
    let key = check_key(head)?;
    check_protocols(head)?;
    check_extensions(head)?;
    Ok(UpgradeRequest { head: *head, key, origin: check_origin(head)? })
}

impl<'a> UpgradeRequest<'a> {
    /// The head that it came in.
    pub fn head(&self) -> &RequestHead<'a> {
        &self.head
    }

    /// The `Sec-WebSocket-Key`, as sent.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// What `Sec-WebSocket-Accept` must say.
    pub fn accept_key(&self) -> [u8; ACCEPT_LEN] {
        accept_key(self.key)
    }

    /// The page's origin, if a browser sent the request (RFC 6455 §4.1).
    pub fn origin(&self) -> Option<&'a str> {
        self.origin
    }

    /// Host and port that the request is for.
    pub fn host(&self) -> Option<&'a str> {
        self.head.host()
    }

    /// The subprotocols offered, the most wanted first; no two are the same (RFC 6455 §4.1).
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        protocols_of(&self.head).filter_map(tokens::as_token)
    }

    /// The subprotocol that the client wants most among those that we speak. Compared in exact case
    /// (RFC 6455 §4.1).
    pub fn choose_protocol(&self, spoken: &[impl AsRef<str>]) -> Option<&'a str> {
        self.protocols().find(|offered| spoken.iter().any(|spoken| spoken.as_ref() == *offered))
    }

    /// The values of `Sec-WebSocket-Extensions`, each a well-formed list.
    pub fn extensions(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.head.headers_all("sec-websocket-extensions").filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// What permessage-deflate comes to with this client, if anything.
    pub fn agree_on_deflate(&self, options: &DeflateOptions) -> Option<Agreement> {
        deflate::accept_offer(self.extensions(), options)
    }
}

/// Appends the answer that makes the connection a WebSocket (RFC 6455 §4.2.2).
///
/// `subprotocol` must be one that was offered. An extra header field that could not be written without changing what
/// the answer says is left out.
pub fn write_accept(
    out: &mut Vec<u8>,
    key_accept: &[u8; ACCEPT_LEN],
    subprotocol: Option<&str>,
    deflate: Option<&Agreement>,
    extra_headers: &[(String, String)],
) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    out.extend_from_slice(b"Sec-WebSocket-Accept: ");
    out.extend_from_slice(key_accept);
    out.extend_from_slice(b"\r\n");
    if let Some(subprotocol) = subprotocol {
        debug_assert!(tokens::as_token(subprotocol.as_bytes()).is_some(), "a subprotocol is a token (RFC 6455 §4.1)");
        write_field("Sec-WebSocket-Protocol", subprotocol, out);
    }
    if let Some(agreement) = deflate {
        out.extend_from_slice(b"Sec-WebSocket-Extensions: ");
        deflate::write_answer(agreement, out);
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in extra_headers {
        if check_header(name, value).is_ok() && !is_handshake_field(name) {
            write_field(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Fields that are the handshake's own, which nobody else may write.
pub(super) fn is_handshake_field(name: &str) -> bool {
    name.eq_ignore_ascii_case("upgrade")
        || name.get(.."sec-websocket-".len()).is_some_and(|start| start.eq_ignore_ascii_case("sec-websocket-"))
}

pub(super) fn write_field(name: &str, value: &str, out: &mut Vec<u8>) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// RFC 6455 §4.1: the value MUST be 13. §11.3.5: not more than once in a request.
fn check_version(head: &RequestHead<'_>) -> Result<(), Refusal> {
    let mut versions = head.headers_all("sec-websocket-version");
    match (versions.next(), versions.next()) {
        (Some(version), None) if version == VERSION.as_bytes() => Ok(()),
        (Some(_) | None, _) => Err(Refusal::VersionUnsupported),
    }
}

/// RFC 6455 §4.1: 16 bytes in base64. §11.3.1: not more than once.
fn check_key<'a>(head: &RequestHead<'a>) -> Result<&'a [u8], Refusal> {
    let mut keys = head.headers_all("sec-websocket-key");
    let key = keys.next().ok_or(Refusal::KeyMissing)?;
    if keys.next().is_some() {
        return Err(Refusal::KeyRepeated);
    }
    // base64 writes into whole groups of three.
    let mut decoded = [0; KEY_LEN.next_multiple_of(3)];
    match KEY_BASE64.decode_slice(key, &mut decoded) {
        Ok(KEY_LEN) => Ok(key),
        Ok(_) | Err(_) => Err(Refusal::KeyInvalid),
    }
}

/// RFC 6455 §4.1: every element MUST be a token, and all MUST be different.
fn check_protocols(head: &RequestHead<'_>) -> Result<(), Refusal> {
    for (index, protocol) in protocols_of(head).enumerate() {
        if index == PROTOCOLS_MAX {
            return Err(Refusal::TooManyProtocols);
        }
        if tokens::as_token(protocol).is_none() || protocols_of(head).take(index).any(|earlier| earlier == protocol) {
            return Err(Refusal::ProtocolsInvalid);
        }
    }
    Ok(())
}

/// RFC 6455 §9.1: a value that does not keep to the grammar fails the handshake.
fn check_extensions(head: &RequestHead<'_>) -> Result<(), Refusal> {
    let mut values = head.headers_all("sec-websocket-extensions");
    let conforms = |value: &[u8]| std::str::from_utf8(value).is_ok_and(|value| extensions(value).all(|e| e.is_ok()));
    if values.all(conforms) { Ok(()) } else { Err(Refusal::ExtensionsInvalid) }
}

/// One origin, or none. Two, or one that is not text, are nobody's: no policy could judge them.
fn check_origin<'a>(head: &RequestHead<'a>) -> Result<Option<&'a str>, Refusal> {
    let mut origins = head.headers_all("origin");
    let Some(origin) = origins.next() else {
        return Ok(None);
    };
    match (std::str::from_utf8(origin), origins.next()) {
        (Ok(origin), None) => Ok(Some(origin)),
        (Ok(_) | Err(_), _) => Err(Refusal::OriginRefused),
    }
}

fn protocols_of<'a>(head: &RequestHead<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    head.headers_all("sec-websocket-protocol").flat_map(tokens::elements)
}

/// Most subprotocols that a client may offer: each is compared with all before it.
pub const PROTOCOLS_MAX: usize = 64;

/// The key is only ever hashed as it was sent, so bits behind its last byte harm nobody.
const KEY_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, HeadScratch, Parsed, parse_request};

    const LIMITS: HeadLimits = HeadLimits { bytes_max: 8192, headers_max: 100 };

    /// The request of RFC 6455 §1.2, one line each.
    const GOOD: [&str; 8] = [
        "GET /chat HTTP/1.1",
        "Host: server.example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Origin: http://example.com",
        "Sec-WebSocket-Protocol: chat, superchat",
        "Sec-WebSocket-Version: 13",
    ];

    fn with_request<T>(lines: &[&str], then: impl FnOnce(Result<UpgradeRequest<'_>, Refusal>) -> T) -> T {
        let wire = format!("{}\r\n\r\n", lines.join("\r\n"));
        let mut scratch = HeadScratch::new();
        match parse_request(wire.as_bytes(), LIMITS, &mut scratch) {
            Ok(Parsed::Complete { head, .. }) => then(check_upgrade(&head)),
            other => panic!("{lines:?}: {other:?}"),
        }
    }

    /// [`GOOD`] with the line that begins with `start` replaced; by nothing if `line` is empty.
    fn replaced<'l>(start: &str, line: &'l str) -> Vec<&'l str> {
        let lines = GOOD.iter().map(|&good| if good.starts_with(start) { line } else { good });
        lines.filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn the_request_of_rfc_6455_section_1_2() {
        with_request(&GOOD, |request| {
            let request = request.unwrap();
            assert_eq!(&request.accept_key(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            assert_eq!(request.origin(), Some("http://example.com"));
            assert_eq!(request.host(), Some("server.example.com"));
            assert_eq!(request.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
            assert_eq!(request.choose_protocol(&["superchat", "chat"]), Some("chat"));
            assert_eq!(request.choose_protocol(&["Chat"]), None);
            assert_eq!(request.extensions().count(), 0);
        });
    }

    #[test]
    fn one_changed_line_and_its_verdict() {
        use Refusal::*;
        let cases: &[(&str, &str, Option<Refusal>)] = &[
            // What may be otherwise.
            ("Origin", "", None),
            ("Sec-WebSocket-Protocol", "", None),
            ("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: a", None),
            ("Upgrade", "UPGRADE: foo, WebSocket", None),
            ("Connection", "connection: keep-alive, upgrade", None),
            ("Sec-WebSocket-Key", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZR==", None),
            ("Origin", "Sec-WebSocket-Extensions: foo; a=\"b\", permessage-deflate", None),
            // What may not.
            ("Upgrade", "", Some(NotAnUpgrade)),
            ("Upgrade", "Upgrade: h2c", Some(NotAnUpgrade)),
            ("Upgrade", "Upgrade: websockets", Some(NotAnUpgrade)),
            ("GET", "POST /chat HTTP/1.1", Some(MethodNotGet)),
            ("GET", "HEAD /chat HTTP/1.1", Some(MethodNotGet)),
            ("GET", "get /chat HTTP/1.1", Some(MethodNotGet)),
            ("GET", "GET /chat HTTP/1.0", Some(HttpVersionTooOld)),
            ("Connection", "", Some(ConnectionNotUpgrade)),
            ("Connection", "Connection: keep-alive", Some(ConnectionNotUpgrade)),
            ("Sec-WebSocket-Version", "", Some(VersionUnsupported)),
            ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8", Some(VersionUnsupported)),
            ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13, 8", Some(VersionUnsupported)),
            ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 013", Some(VersionUnsupported)),
            ("Origin", "Sec-WebSocket-Version: 13", Some(VersionUnsupported)),
            ("Sec-WebSocket-Key", "", Some(KeyMissing)),
            ("Origin", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", Some(KeyRepeated)),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key:", Some(KeyInvalid)),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", Some(KeyInvalid)),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j", Some(KeyInvalid)),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWE=", Some(KeyInvalid)),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWFi", Some(KeyInvalid)),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWFiYWFhYWFhYWFhYWFh", Some(KeyInvalid)),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZS\"ub25jZQ==", Some(KeyInvalid)),
            ("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: a, b, a", Some(ProtocolsInvalid)),
            ("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: a b", Some(ProtocolsInvalid)),
            ("Origin", "Sec-WebSocket-Protocol: superchat", Some(ProtocolsInvalid)),
            ("Origin", "Sec-WebSocket-Extensions: foo;", Some(ExtensionsInvalid)),
            ("Origin", "Sec-WebSocket-Extensions: foo; a=\"b c\"", Some(ExtensionsInvalid)),
            ("Sec-WebSocket-Protocol", "Origin: http://b.example", Some(OriginRefused)),
            ("Origin", "Origin: http://é.example", None),
        ];
        for &(start, line, want) in cases {
            let got = with_request(&replaced(start, line), |request| request.err());
            assert_eq!(got, want, "{line:?} in place of {start:?}");
        }
    }

    #[test]
    fn plain_requests_are_not_mistakes() {
        let cases: &[(&str, Refusal)] = &[
            ("GET / HTTP/1.1", Refusal::NotAnUpgrade),
            ("HEAD / HTTP/1.1", Refusal::NotAnUpgrade),
            ("GET / HTTP/1.0", Refusal::NotAnUpgrade),
            ("POST / HTTP/1.1", Refusal::MethodUnsupported),
            ("OPTIONS * HTTP/1.1", Refusal::MethodUnsupported),
        ];
        for &(line, want) in cases {
            assert_eq!(with_request(&[line, "Host: a"], |request| request.err()), Some(want), "{line}");
        }
    }

    #[test]
    fn as_many_subprotocols_as_the_limit() {
        for (count, want) in [(PROTOCOLS_MAX, None), (PROTOCOLS_MAX + 1, Some(Refusal::TooManyProtocols))] {
            let names: Vec<_> = (0..count).map(|index| format!("p{index}")).collect();
            let line = format!("Sec-WebSocket-Protocol: {}", names.join(","));
            assert_eq!(with_request(&replaced("Sec-WebSocket-Protocol", &line), |request| { request.err() }), want);
        }
    }

    fn accept(subprotocol: Option<&str>, deflate: Option<&Agreement>, extra: &[(&str, &str)]) -> String {
        let extra: Vec<_> = extra.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut out = Vec::new();
        write_accept(&mut out, &accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), subprotocol, deflate, &extra);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn answers_as_they_go_on_the_wire() {
        const START: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        let agreement = deflate::accept_offer(["permessage-deflate"], &DeflateOptions::default());
        assert_eq!(accept(None, None, &[]), format!("{START}\r\n"));
        assert_eq!(
            accept(Some("chat"), agreement.as_ref(), &[("Server", "x")]),
            format!(
                "{START}Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate; \
                 server_no_context_takeover; client_no_context_takeover\r\nServer: x\r\n\r\n"
            )
        );
    }

    #[test]
    fn extra_fields_cannot_change_the_answer() {
        let extra = [
            ("X", "a\r\nb: c"),
            ("X\r\nY", "a"),
            ("Upgrade", "h2c"),
            ("content-length", "5"),
            ("sec-websocket-Accept", "a"),
            ("", "a"),
        ];
        assert_eq!(accept(None, None, &extra), accept(None, None, &[]));
    }
}
