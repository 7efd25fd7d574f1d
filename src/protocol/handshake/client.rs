//! The client's end: the request, and what the answer must say to it (RFC 6455 §4.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::server::{is_handshake_field, write_field};
use super::{KEY_LEN, VERSION, accept_key, tokens};
use crate::http::{HEADERS_MAX, check_header};
use crate::protocol::deflate::{self, Agreement, DeflateOptions, NegotiationError};

/// One handshake of a client: what it asks, and so what it may be answered.
#[derive(Clone, Debug)]
pub struct ClientHandshake {
    host: String,
    path: String,
    /// In base64, as it is sent.
    key: String,
    subprotocols: Vec<String>,
    deflate: Option<DeflateOptions>,
    extra_headers: Vec<(String, String)>,
}

/// What the bytes so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseProgress {
    /// The answer goes on; nothing in it is wrong yet.
    Incomplete,
    /// The connection is a WebSocket.
    Complete {
        /// Bytes that the answer took. Frames may follow.
        len: usize,
        /// The subprotocol that the server chose, if it did.
        subprotocol: Option<String>,
        /// What permessage-deflate came to, if anything.
        agreement: Option<Agreement>,
    },
}

/// Why an answer does not make a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientHandshakeError {
    /// Not an HTTP/1.1 response.
    #[error("the answer is not an HTTP/1.1 response")]
    Malformed,
    /// Longer than [`RESPONSE_BYTES_MAX`], or with more fields than [`HEADERS_MAX`].
    #[error("the head of the answer is too long")]
    TooLarge,
    /// Any status but 101.
    #[error("the server answered {status} {reason}")]
    Refused {
        /// The status code.
        status: u16,
        /// The words beside it.
        reason: String,
    },
    /// RFC 6455 §4.1, step 2: `Upgrade` must be `websocket`.
    #[error("the answer's Upgrade header field does not say websocket (RFC 6455 §4.1)")]
    UpgradeMissing,
    /// RFC 6455 §4.1, step 3: `Connection` must have `Upgrade`.
    #[error("the answer's Connection header field does not say Upgrade (RFC 6455 §4.1)")]
    ConnectionNotUpgrade,
    /// RFC 6455 §4.1, step 4: the accept key must belong to ours.
    #[error("the answer's Sec-WebSocket-Accept does not belong to our key (RFC 6455 §4.1)")]
    AcceptMismatch,
    /// RFC 6455 §4.1, step 6: a subprotocol that was not offered, or more than one.
    #[error("the server chose a subprotocol that was not offered (RFC 6455 §4.1)")]
    SubprotocolNotOffered,
    /// RFC 6455 §4.1, step 5: an extension that was not offered, or not like this.
    #[error(transparent)]
    Extension(#[from] NegotiationError),
    /// What we were told to send cannot be sent: the caller's mistake, not the server's.
    #[error("the request cannot be written: {0} does not belong there as it is")]
    Unwritable(&'static str),
}

impl ClientHandshake {
    /// A handshake with the server at `host` (with its port, if it is not the usual one) for `path` (with its query).
    ///
    /// `key` must be random, and another for each connection (RFC 6455 §4.1). What cannot stand in a head is refused.
    pub fn new(
        host: impl Into<String>,
        path: impl Into<String>,
        key: [u8; KEY_LEN],
        subprotocols: Vec<String>,
        deflate: Option<DeflateOptions>,
        extra_headers: Vec<(String, String)>,
    ) -> Result<Self, ClientHandshakeError> {
        let (host, path) = (host.into(), path.into());
        check_writable(&host, &path, &subprotocols, &extra_headers)?;
        Ok(Self { host, path, key: STANDARD.encode(key), subprotocols, deflate, extra_headers })
    }

    /// Appends the request.
    pub fn write_request(&self, out: &mut Vec<u8>) {
        for part in ["GET ", &self.path, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        write_field("Host", &self.host, out);
        write_field("Upgrade", "websocket", out);
        write_field("Connection", "Upgrade", out);
        write_field("Sec-WebSocket-Key", &self.key, out);
        write_field("Sec-WebSocket-Version", VERSION, out);
        if !self.subprotocols.is_empty() {
            write_field("Sec-WebSocket-Protocol", &self.subprotocols.join(", "), out);
        }
        if let Some(options) = &self.deflate {
            out.extend_from_slice(b"Sec-WebSocket-Extensions: ");
            deflate::write_offer(options, out);
            out.extend_from_slice(b"\r\n");
        }
        for (name, value) in &self.extra_headers {
            write_field(name, value, out);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Checks the answer that `bytes` begin with. Bytes behind its head are left alone.
    pub fn check_response(&self, bytes: &[u8]) -> Result<ResponseProgress, ClientHandshakeError> {
        let window = &bytes[..bytes.len().min(RESPONSE_BYTES_MAX)];
        let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut slots);
        match response.parse(window) {
            Ok(httparse::Status::Complete(len)) => self.check_head(&response, len),
            Ok(httparse::Status::Partial) if window.len() == RESPONSE_BYTES_MAX => Err(ClientHandshakeError::TooLarge),
            Ok(httparse::Status::Partial) => Ok(ResponseProgress::Incomplete),
            Err(httparse::Error::TooManyHeaders) => Err(ClientHandshakeError::TooLarge),
            Err(_) => Err(ClientHandshakeError::Malformed),
        }
    }

    fn check_head(
        &self,
        response: &httparse::Response<'_, '_>,
        len: usize,
    ) -> Result<ResponseProgress, ClientHandshakeError> {
        let (Some(1), Some(status)) = (response.version, response.code) else {
            return Err(ClientHandshakeError::Malformed);
        };
        if status != 101 {
            let reason = response.reason.unwrap_or_default().to_owned();
            return Err(ClientHandshakeError::Refused { status, reason });
        }
        if !tokens::any_is(values_of(response, "upgrade"), "websocket") {
            return Err(ClientHandshakeError::UpgradeMissing);
        }
        if !tokens::any_is(values_of(response, "connection"), "upgrade") {
            return Err(ClientHandshakeError::ConnectionNotUpgrade);
        }
        self.check_accept(response)?;
        let subprotocol = self.check_subprotocol(response)?;
        let agreement = self.check_extensions(response)?;
        Ok(ResponseProgress::Complete { len, subprotocol, agreement })
    }

    /// RFC 6455 §4.1, step 4; §11.3.3: not more than once.
    fn check_accept(&self, response: &httparse::Response<'_, '_>) -> Result<(), ClientHandshakeError> {
        let want = accept_key(self.key.as_bytes());
        if values_of(response, "sec-websocket-accept").eq([&want[..]]) {
            Ok(())
        } else {
            Err(ClientHandshakeError::AcceptMismatch)
        }
    }

    /// RFC 6455 §4.1, step 6; §11.3.4: not more than once. None is an answer too.
    fn check_subprotocol(&self, response: &httparse::Response<'_, '_>) -> Result<Option<String>, ClientHandshakeError> {
        let mut chosen = values_of(response, "sec-websocket-protocol");
        let Some(first) = chosen.next() else {
            return Ok(None);
        };
        let offered = self.subprotocols.iter().find(|offered| offered.as_bytes() == first);
        match (offered, chosen.next()) {
            (Some(offered), None) => Ok(Some(offered.clone())),
            (Some(_) | None, _) => Err(ClientHandshakeError::SubprotocolNotOffered),
        }
    }

    /// RFC 6455 §4.1, step 5.
    fn check_extensions(
        &self,
        response: &httparse::Response<'_, '_>,
    ) -> Result<Option<Agreement>, ClientHandshakeError> {
        let values: Result<Vec<_>, _> =
            values_of(response, "sec-websocket-extensions").map(std::str::from_utf8).collect();
        let values = values.map_err(|_| NegotiationError::Malformed)?;
        Ok(deflate::check_answer(values, self.deflate.as_ref())?)
    }
}

/// Nothing that goes into the head may end a line or the request target.
fn check_writable(
    host: &str,
    path: &str,
    subprotocols: &[String],
    extra_headers: &[(String, String)],
) -> Result<(), ClientHandshakeError> {
    let unwritable = |part| Err(ClientHandshakeError::Unwritable(part));
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return unwritable("the host");
    }
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return unwritable("the path");
    }
    // RFC 6455 §4.1: tokens, and all of them different.
    let repeated = |index: usize| subprotocols[..index].contains(&subprotocols[index]);
    let is_bad = |index: usize| tokens::as_token(subprotocols[index].as_bytes()).is_none() || repeated(index);
    if (0..subprotocols.len()).any(is_bad) {
        return unwritable("a subprotocol");
    }
    let writable = |(name, value): &(String, String)| check_header(name, value).is_ok() && !is_handshake_field(name);
    if !extra_headers.iter().all(writable) {
        return unwritable("a header field");
    }
    Ok(())
}

fn values_of<'r>(response: &'r httparse::Response<'_, '_>, name: &'r str) -> impl Iterator<Item = &'r [u8]> {
    response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// Longest head of an answer in bytes.
pub const RESPONSE_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::super::{check_upgrade, write_accept};
    use super::*;
    use crate::http::{HeadLimits, HeadScratch, Parsed, parse_request};

    const OPTIONS: DeflateOptions = DeflateOptions {
        server_no_context_takeover: false,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };

    /// Its key is that of RFC 6455 §1.3.
    fn handshake(deflate: Option<DeflateOptions>) -> ClientHandshake {
        let subprotocols = vec!["chat".into(), "superchat".into()];
        let extra = vec![("Authorization".into(), "Bearer x".into())];
        ClientHandshake::new("a.example:81", "/c?d=e", *b"the sample nonce", subprotocols, deflate, extra).unwrap()
    }

    #[test]
    fn the_request_as_it_goes_on_the_wire() {
        let mut out = Vec::new();
        handshake(Some(OPTIONS)).write_request(&mut out);
        let want = "GET /c?d=e HTTP/1.1\r\nHost: a.example:81\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Protocol: chat, superchat\r\n\
                    Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; client_max_window_bits\r\n\
                    Authorization: Bearer x\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn our_server_answers_our_client_at_every_cut() {
        let client = handshake(Some(OPTIONS));
        let mut request = Vec::new();
        client.write_request(&mut request);
        let mut scratch = HeadScratch::new();
        let limits = HeadLimits { bytes_max: 4096, headers_max: 32 };
        let Ok(Parsed::Complete { head, len }) = parse_request(&request, limits, &mut scratch) else { panic!() };
        assert_eq!(len, request.len());
        let upgrade = check_upgrade(&head).unwrap();
        let agreement = upgrade.agree_on_deflate(&DeflateOptions::default());
        let mut answer = Vec::new();
        let subprotocol = upgrade.choose_protocol(&["superchat"]);
        write_accept(&mut answer, &upgrade.accept_key(), subprotocol, agreement.as_ref(), &[]);
        for cut in 0..answer.len() {
            assert_eq!(client.check_response(&answer[..cut]), Ok(ResponseProgress::Incomplete), "cut at {cut}");
        }
        let len = answer.len();
        answer.extend_from_slice(b"\x81\x00");
        let want = ResponseProgress::Complete { len, subprotocol: Some("superchat".into()), agreement };
        assert!(agreement.is_some());
        assert_eq!(client.check_response(&answer), Ok(want));
    }

    #[test]
    fn answers_that_make_no_websocket() {
        use ClientHandshakeError::*;
        const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        const UPGRADE: &str = "Upgrade: websocket";
        const CONNECTION: &str = "Connection: Upgrade";
        const OK: &str = "HTTP/1.1 101 x";
        let cases: &[(&[&str], ClientHandshakeError)] = &[
            (&["HTTP/1.1 503 Gone fishing", "Retry-After: 1"], Refused { status: 503, reason: "Gone fishing".into() }),
            (&["HTTP/1.1 200", UPGRADE, CONNECTION, ACCEPT], Refused { status: 200, reason: "".into() }),
            (&["HTTP/1.0 101 x", UPGRADE, CONNECTION, ACCEPT], Malformed),
            (&["SSH-2.0-OpenSSH"], Malformed),
            (&[OK, CONNECTION, ACCEPT], UpgradeMissing),
            (&[OK, "Upgrade: h2c", CONNECTION, ACCEPT], UpgradeMissing),
            (&[OK, UPGRADE, ACCEPT], ConnectionNotUpgrade),
            (&[OK, UPGRADE, "Connection: close", ACCEPT], ConnectionNotUpgrade),
            (&[OK, UPGRADE, CONNECTION], AcceptMismatch),
            (&[OK, UPGRADE, CONNECTION, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOO="], AcceptMismatch),
            (&[OK, UPGRADE, CONNECTION, ACCEPT, ACCEPT], AcceptMismatch),
            (&[OK, UPGRADE, CONNECTION, ACCEPT, "Sec-WebSocket-Protocol: other"], SubprotocolNotOffered),
            (&[OK, UPGRADE, CONNECTION, ACCEPT, "Sec-WebSocket-Protocol: Chat"], SubprotocolNotOffered),
            (&[OK, UPGRADE, CONNECTION, ACCEPT, "Sec-WebSocket-Protocol: chat, superchat"], SubprotocolNotOffered),
            (
                &[OK, UPGRADE, CONNECTION, ACCEPT, "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat"],
                SubprotocolNotOffered,
            ),
            (
                &[OK, UPGRADE, CONNECTION, ACCEPT, "Sec-WebSocket-Extensions: permessage-deflate"],
                Extension(NegotiationError::NotOffered),
            ),
            (&[OK, UPGRADE, CONNECTION, ACCEPT, "Sec-WebSocket-Extensions: ;"], Extension(NegotiationError::Malformed)),
        ];
        for (lines, want) in cases {
            let wire = format!("{}\r\n\r\n", lines.join("\r\n"));
            assert_eq!(handshake(None).check_response(wire.as_bytes()), Err(want.clone()), "{lines:?}");
        }
    }

    #[test]
    fn an_answer_without_end_is_refused() {
        let endless = format!("HTTP/1.1 101 x\r\nA: {}", "a".repeat(RESPONSE_BYTES_MAX));
        assert_eq!(handshake(None).check_response(endless.as_bytes()), Err(ClientHandshakeError::TooLarge));
        let fields = format!("HTTP/1.1 101 x\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(handshake(None).check_response(fields.as_bytes()), Err(ClientHandshakeError::TooLarge));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before() {
        let new = |host: &str, path: &str, subprotocol: &str, header: (&str, &str)| {
            let extra = vec![(header.0.to_owned(), header.1.to_owned())];
            ClientHandshake::new(host, path, [0; KEY_LEN], vec![subprotocol.into()], None, extra).err()
        };
        let fine = ("X-A", "b");
        let cases = [
            (new("a", "/", "p", fine), None),
            (new("", "/", "p", fine), Some("the host")),
            (new("a\r\nb", "/", "p", fine), Some("the host")),
            (new("a", "", "p", fine), Some("the path")),
            (new("a", "b", "p", fine), Some("the path")),
            (new("a", "/ HTTP/1.1\r\n", "p", fine), Some("the path")),
            (new("a", "/#b", "p", fine), Some("the path")),
            (new("a", "/", "p q", fine), Some("a subprotocol")),
            (new("a", "/", "p", ("X", "a\nb")), Some("a header field")),
            (new("a", "/", "p", ("Upgrade", "h2c")), Some("a header field")),
            (new("a", "/", "p", ("Sec-WebSocket-Key", "x")), Some("a header field")),
        ];
        for (got, want) in cases {
            assert_eq!(got, want.map(ClientHandshakeError::Unwritable));
        }
        let twice = vec!["p".into(), "q".into(), "p".into()];
        let got = ClientHandshake::new("a", "/", [0; KEY_LEN], twice, None, Vec::new()).err();
        assert_eq!(got, Some(ClientHandshakeError::Unwritable("a subprotocol")), "RFC 6455 §4.1: all different");
    }
}
