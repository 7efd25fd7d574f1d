//! Plain replies: a status, a few header fields, a body, and then the connection ends.

use std::borrow::Cow;

/// A whole HTTP/1.1 response whose connection closes behind it.
///
/// `Content-Length` and `Connection: close` are written by it; `Date` is left out, because nothing here asks a clock
/// (RFC 9110 §6.6.1 allows that to a server without one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    body: Cow<'static, [u8]>,
    body_withheld: bool,
    /// The body goes on for as long as the connection does.
    is_endless: bool,
}

/// A header field that cannot be written without changing what the response says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// Not a token (RFC 9110 §5.1).
    #[error("{0:?} is not the name of a header field")]
    Name(String),
    /// Has a CR, LF, NUL or another control character (RFC 9110 §5.5).
    #[error("the value of header field {0:?} has a control character")]
    Value(String),
    /// Says how the message is framed, which is not the caller's to say.
    #[error("header field {0:?} is written by the server itself")]
    Framing(String),
}

impl Response {
    /// A response without header fields or body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Cow::Borrowed(&[]), body_withheld: false, is_endless: false }
    }

    /// A response with a body of the given media type.
    pub fn with_body(status: u16, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        debug_assert!(check_header("content-type", content_type).is_ok());
        let headers = vec![(Cow::Borrowed("Content-Type"), Cow::Borrowed(content_type))];
        Self { headers, body: body.into(), ..Self::empty(status) }
    }

    /// A response that says something to a person.
    pub fn text(status: u16, text: impl Into<Cow<'static, str>>) -> Self {
        let body = match text.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Self::with_body(status, "text/plain; charset=utf-8", body)
    }

    /// Adds a header field.
    ///
    /// Refuses whatever would let a value end the field or the head, and the fields that frame the message.
    pub fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Result<Self, InvalidHeader> {
        let (name, value) = (name.into(), value.into());
        check_header(&name, &value)?;
        self.headers.push((name, value));
        Ok(self)
    }

    /// The same response as an answer to `HEAD`: everything but the body (RFC 9110 §9.3.2).
    pub fn without_body(mut self) -> Self {
        self.body_withheld = true;
        self
    }

    /// The same response with a body of which this is the beginning, and whose end is that of the connection
    /// (RFC 9112 §6.3). That needs no chunks, which proxies may gather before they pass them on (HTML Living Standard,
    /// §9.2.7), and HTTP/1.0 has none.
    pub fn endless(mut self) -> Self {
        self.is_endless = true;
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Appends the response as it goes on the wire.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status)).as_bytes());
        for (name, value) in &self.headers {
            write_header(name, value, out);
        }
        if has_content(self.status) && !self.is_endless {
            write_header("Content-Length", &self.body.len().to_string(), out);
        }
        out.extend_from_slice(b"Connection: close\r\n\r\n");
        if has_content(self.status) && !self.body_withheld {
            out.extend_from_slice(&self.body);
        }
    }
}

/// Whether a header field can be written as it is, by somebody who does not frame the message.
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), InvalidHeader> {
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return Err(InvalidHeader::Name(name.into()));
    }
    if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
        return Err(InvalidHeader::Framing(name.into()));
    }
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(InvalidHeader::Value(name.into()));
    }
    Ok(())
}

/// RFC 9110 §5.6.2: what a token consists of.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn write_header(name: &str, value: &str, out: &mut Vec<u8>) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// RFC 9110 §8.6: no `Content-Length` in these, and no body.
fn has_content(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

/// The words that go with a status code; empty for one that this server has no use for.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Fields that say where a message ends and whether its connection goes on.
const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "connection"];

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(response: &Response) -> String {
        let mut out = Vec::new();
        response.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn responses_as_they_go_on_the_wire() {
        let cases: &[(Response, &str)] = &[
            (Response::empty(404), "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            (
                Response::text(200, "hi"),
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
            ),
            (
                Response::text(200, "hi").without_body(),
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
            ),
            (Response::empty(204), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
            (
                Response::empty(503).header("Retry-After", "1").unwrap(),
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ),
            (
                Response::with_body(200, "text/event-stream", &b":\n"[..]).endless(),
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n:\n",
            ),
            (Response::empty(299), "HTTP/1.1 299 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        ];
        for (response, want) in cases {
            assert_eq!(wire(response), *want);
        }
    }

    #[test]
    fn a_field_cannot_smuggle_another() {
        type Want = fn(String) -> InvalidHeader;
        let cases: &[(&str, &str, Want)] = &[
            ("", "a", InvalidHeader::Name),
            ("a b", "a", InvalidHeader::Name),
            ("a:", "a", InvalidHeader::Name),
            ("a\r\nb", "a", InvalidHeader::Name),
            ("é", "a", InvalidHeader::Name),
            ("a", "b\r\nc: d", InvalidHeader::Value),
            ("a", "b\nc", InvalidHeader::Value),
            ("a", "b\rc", InvalidHeader::Value),
            ("a", "b\0c", InvalidHeader::Value),
            ("a", "b\x7f", InvalidHeader::Value),
            ("Content-length", "0", InvalidHeader::Framing),
            ("Transfer-Encoding", "chunked", InvalidHeader::Framing),
            ("connection", "keep-alive", InvalidHeader::Framing),
        ];
        for &(name, value, want) in cases {
            let got = Response::empty(200).header(name.to_owned(), value.to_owned());
            assert_eq!(got, Err(want(name.into())), "{name:?}: {value:?}");
        }
        assert!(Response::empty(200).header("x-a", "b\tc é").is_ok());
    }
}
