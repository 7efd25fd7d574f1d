//! One request head: parsed once, into a type whose framing can no longer be in doubt.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::Header;

use super::query::QueryParams;

/// The head of one HTTP/1.x request, borrowed from the bytes it came in.
///
/// What a value of this type has already proved: it announces no body, an HTTP/1.1 head names its host exactly once
/// (RFC 9112 §3.2), and the request target carries no fragment.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    method: &'a str,
    target: Target<'a>,
    version_minor: u8,
    host: Option<&'a str>,
    headers: &'a [Header<'a>],
}

/// What the bytes so far amount to.
#[derive(Clone, Copy, Debug)]
pub enum Parsed<'a> {
    /// The head goes on; nothing in it is wrong yet.
    Incomplete,
    /// The head is whole.
    Complete {
        /// The head itself.
        head: RequestHead<'a>,
        /// Bytes that it took, its empty last line included.
        len: usize,
    },
}

/// What a request head may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Longest head in bytes. Status 431.
    pub bytes_max: usize,
    /// Most header fields. Status 431. More than [`HEADERS_MAX`] counts as [`HEADERS_MAX`].
    pub headers_max: usize,
}

/// Where [`parse_request`] puts the header fields that it finds: on the caller's stack, so nothing is allocated.
///
/// One scratch serves one call.
pub struct HeadScratch<'a> {
    slots: [MaybeUninit<Header<'a>>; HEADERS_MAX],
}

/// Why a request head is refused. [`status`](Self::status) is the answer to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Longer than [`HeadLimits::bytes_max`].
    #[error("the request head is longer than this server accepts")]
    TooLarge,
    /// More fields than [`HeadLimits::headers_max`].
    #[error("the request head has more header fields than this server accepts")]
    TooManyHeaders,
    /// Not HTTP/1.x as RFC 9112 writes it.
    #[error("the request head is malformed: {0}")]
    Malformed(HeadPart),
    /// HTTP, but neither 1.0 nor 1.1.
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here")]
    VersionUnsupported,
    /// A TLS ClientHello: the client speaks `https:` or `wss:` to a port that does not.
    #[error("this looks like TLS, but the port speaks plain HTTP: use ws:// or http:// here")]
    TlsOnPlainPort,
    /// `Content-Length` above zero. Bodies are never read here.
    #[error("the request announces a body, and no body is read here")]
    BodyAnnounced,
    /// `Content-Length` that is not one decimal number (RFC 9112 §6.3).
    #[error("the Content-Length header field is not one decimal number")]
    ContentLengthInvalid,
    /// `Transfer-Encoding` in any form. Bodies are never read here.
    #[error("the request announces a transfer encoding, and no body is read here")]
    TransferEncoding,
    /// HTTP/1.1 without `Host` (RFC 9112 §3.2).
    #[error("the Host header field is missing")]
    HostMissing,
    /// More than one `Host` (RFC 9112 §3.2).
    #[error("the Host header field is there more than once")]
    HostRepeated,
    /// `Host` that is not a host and port (RFC 9112 §3.2).
    #[error("the Host header field is not a host and port")]
    HostInvalid,
}

/// Which part of a head is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadPart {
    /// Method, target or the spaces between.
    RequestLine,
    /// The name of a header field.
    HeaderName,
    /// The value of a header field.
    HeaderValue,
    /// The end of a line.
    LineEnd,
}

/// Parses the head that `bytes` begin with. Total: any bytes give an answer, in time linear in `limits.bytes_max`.
///
/// Bytes behind the head are left alone. Nothing is kept between calls: with more bytes it begins again, so a head of
/// 16 KiB that comes one byte at a time costs some tens of milliseconds in all.
///
/// ```
/// use corewire::http::{HeadLimits, HeadScratch, Parsed, parse_request};
///
/// let limits = HeadLimits { bytes_max: 4096, headers_max: 32 };
/// let mut scratch = HeadScratch::new();
/// let parsed = parse_request(b"GET /chat?room=1 HTTP/1.1\r\nHost: a.example\r\n\r\n", limits, &mut scratch);
/// let Ok(Parsed::Complete { head, .. }) = parsed else { panic!("a whole head") };
/// assert_eq!((head.path(), head.query()), ("/chat", Some("room=1")));
/// ```
pub fn parse_request<'a>(
    bytes: &'a [u8],
    limits: HeadLimits,
    scratch: &'a mut HeadScratch<'a>,
) -> Result<Parsed<'a>, HeadError> {
    match looks_like_tls(bytes) {
        Some(true) => return Err(HeadError::TlsOnPlainPort),
        Some(false) => {}
        None => return Ok(Parsed::Incomplete),
    }
    let window = &bytes[..bytes.len().min(limits.bytes_max)];
    let slots = &mut scratch.slots[..limits.headers_max.min(HEADERS_MAX)];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(window, slots) {
        Ok(httparse::Status::Complete(len)) => Ok(Parsed::Complete { head: RequestHead::from_parsed(request)?, len }),
        // The window is full and the head is not over: it is longer than the limit.
        Ok(httparse::Status::Partial) if window.len() == limits.bytes_max => Err(HeadError::TooLarge),
        Ok(httparse::Status::Partial) => Ok(Parsed::Incomplete),
        Err(error) => Err(HeadError::from_httparse(error)),
    }
}

impl<'a> RequestHead<'a> {
    fn from_parsed(request: httparse::Request<'a, 'a>) -> Result<Self, HeadError> {
        let (Some(method), Some(target), Some(version_minor)) = (request.method, request.path, request.version) else {
            return Err(HeadError::Malformed(HeadPart::RequestLine));
        };
        let headers: &'a [Header<'a>] = request.headers;
        let target = Target::split(target)?;
        check_no_body(headers)?;
        let host = check_host(headers, version_minor)?;
        Ok(Self { method, target, version_minor, host, headers })
    }

    /// The method, as sent: methods are case-sensitive (RFC 9110 §9.1).
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The request target, whole and as sent.
    pub fn target(&self) -> &'a str {
        self.target.whole
    }

    /// The path of the target, not percent-decoded. `/` for an absolute target without a path.
    pub fn path(&self) -> &'a str {
        self.target.path
    }

    /// The query of the target, without its `?` and not percent-decoded.
    pub fn query(&self) -> Option<&'a str> {
        self.target.query
    }

    /// The parameters of the query, percent-decoded, in their order.
    pub fn query_params(&self) -> QueryParams<'a> {
        QueryParams::new(self.target.query.unwrap_or_default())
    }

    /// The first query parameter of that name, percent-decoded.
    pub fn query_param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query_params().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// 1 for HTTP/1.1, 0 for HTTP/1.0.
    pub fn version_minor(&self) -> u8 {
        self.version_minor
    }

    /// Host and port that the request is meant for. The target's own, if it has one, comes before the `Host` header
    /// field (RFC 9112 §3.2.2). Always there in HTTP/1.1.
    pub fn host(&self) -> Option<&'a str> {
        self.target.authority.or(self.host)
    }

    /// The value of the first header field of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers_all(name).next()
    }

    /// The value of the first header field of that name, if it is UTF-8.
    pub fn header_str(&self, name: &str) -> Option<&'a str> {
        self.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of every header field of that name, in any case, in their order.
    pub fn headers_all<'n>(&self, name: &'n str) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, 'n> {
        values_of(self.headers, name)
    }

    /// Every header field, in its order, names as sent.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.headers.iter().map(|header| (header.name, header.value))
    }
}

impl HeadScratch<'_> {
    /// Room for [`HEADERS_MAX`] header fields, not yet touched.
    pub fn new() -> Self {
        Self { slots: [const { MaybeUninit::uninit() }; HEADERS_MAX] }
    }
}

impl Default for HeadScratch<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl HeadError {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLarge | Self::TooManyHeaders => 431,
            Self::Malformed(_)
            | Self::TlsOnPlainPort
            | Self::ContentLengthInvalid
            | Self::TransferEncoding
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid => 400,
            Self::BodyAnnounced => 413,
            Self::VersionUnsupported => 505,
        }
    }

    fn from_httparse(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyHeaders,
            httparse::Error::Version => Self::VersionUnsupported,
            httparse::Error::HeaderName => Self::Malformed(HeadPart::HeaderName),
            httparse::Error::HeaderValue => Self::Malformed(HeadPart::HeaderValue),
            httparse::Error::NewLine => Self::Malformed(HeadPart::LineEnd),
            httparse::Error::Token | httparse::Error::Status => Self::Malformed(HeadPart::RequestLine),
        }
    }
}

impl std::fmt::Display for HeadPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RequestLine => "the request line",
            Self::HeaderName => "the name of a header field",
            Self::HeaderValue => "the value of a header field",
            Self::LineEnd => "the end of a line",
        })
    }
}

/// The request target, taken apart (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug)]
struct Target<'a> {
    whole: &'a str,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn split(whole: &'a str) -> Result<Self, HeadError> {
        // A fragment is never part of a target (RFC 9112 §3.2, RFC 6455 §3).
        if whole.contains('#') {
            return Err(HeadError::Malformed(HeadPart::RequestLine));
        }
        let (authority, rest) = match split_absolute(whole) {
            Some((authority, rest)) => (Some(authority), rest),
            None => (None, whole),
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { whole, authority, path, query })
    }
}

/// Authority and the rest, for a target in absolute form (RFC 9112 §3.2.2).
fn split_absolute(target: &str) -> Option<(&str, &str)> {
    if target.starts_with('/') {
        return None;
    }
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    Some(rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// `None` while a single byte leaves it open.
fn looks_like_tls(bytes: &[u8]) -> Option<bool> {
    match bytes {
        // A handshake record (0x16) of TLS 1.x (major version 3), RFC 8446 §5.1.
        [0x16, 0x03, ..] => Some(true),
        [0x16] => None,
        _ => Some(false),
    }
}

/// A body that is announced but never read would be taken for the next request: refuse the announcement itself.
fn check_no_body(headers: &[Header<'_>]) -> Result<(), HeadError> {
    if values_of(headers, "transfer-encoding").next().is_some() {
        return Err(HeadError::TransferEncoding);
    }
    let mut lengths = values_of(headers, "content-length");
    let Some(length) = lengths.next() else {
        return Ok(());
    };
    // RFC 9112 §6.3: a list, a sign or a second field makes the length unknowable.
    if lengths.next().is_some() || length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::ContentLengthInvalid);
    }
    if length.iter().any(|&digit| digit != b'0') {
        return Err(HeadError::BodyAnnounced);
    }
    Ok(())
}

/// RFC 9112 §3.2: HTTP/1.1 has exactly one `Host`; its value is a host and port, or empty.
fn check_host<'a>(headers: &'a [Header<'a>], version_minor: u8) -> Result<Option<&'a str>, HeadError> {
    let mut hosts = values_of(headers, "host");
    let Some(host) = hosts.next() else {
        return if version_minor == 0 { Ok(None) } else { Err(HeadError::HostMissing) };
    };
    if hosts.next().is_some() {
        return Err(HeadError::HostRepeated);
    }
    if !host.iter().all(|&byte| is_host_byte(byte)) {
        return Err(HeadError::HostInvalid);
    }
    std::str::from_utf8(host).map(Some).map_err(|_| HeadError::HostInvalid)
}

/// What RFC 3986 §3.2.2 and §3.2.3 let stand in a host and port.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

fn values_of<'a, 'n>(
    headers: &'a [Header<'a>],
    name: &'n str,
) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, 'n> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// Most header fields a head can have here, whatever the limits say: their places stand on the stack.
pub const HEADERS_MAX: usize = 128;

// A call must not eat the stack of a thread that runs a whole core.
const _: () = assert!(size_of::<HeadScratch<'static>>() <= 4096);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes_max: 1024, headers_max: 16 };

    /// A sentence for the whole outcome, so that a table can hold it.
    fn outcome(bytes: &[u8], limits: HeadLimits) -> String {
        let mut scratch = HeadScratch::new();
        match parse_request(bytes, limits, &mut scratch) {
            Ok(Parsed::Incomplete) => "incomplete".into(),
            Ok(Parsed::Complete { head, len }) => format!(
                "{} {} ?{:?} 1.{} @{:?} {}",
                head.method(),
                head.path(),
                head.query(),
                head.version_minor(),
                head.host(),
                len
            ),
            Err(error) => format!("{} {error:?}", error.status()),
        }
    }

    #[test]
    fn heads_that_are_accepted_at_every_cut() {
        let cases: &[(&str, &str)] = &[
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / ?None 1.1 @Some(\"a\") 27"),
            ("GET / HTTP/1.1\r\nhOsT: \r\n\r\n", "GET / ?None 1.1 @Some(\"\") 26"),
            ("GET /a?b=c?d HTTP/1.1\r\nHost: a:80\r\n\r\n", "GET /a ?Some(\"b=c?d\") 1.1 @Some(\"a:80\") 37"),
            ("GET /a? HTTP/1.0\r\n\r\n", "GET /a ?Some(\"\") 1.0 @None 20"),
            ("GET http://b:1/p?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET /p ?Some(\"q\") 1.1 @Some(\"b:1\") 40"),
            ("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET / ?None 1.1 @Some(\"b\") 34"),
            ("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET / ?Some(\"q\") 1.1 @Some(\"b\") 36"),
            ("GET /x://y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x://y ?None 1.1 @Some(\"a\") 32"),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * ?None 1.1 @Some(\"a\") 31"),
            ("HEAD / HTTP/1.1\r\nHost: [::1]:9\r\nContent-Length: 0\r\n\r\n", "HEAD / ?None 1.1 @Some(\"[::1]:9\") 53"),
        ];
        for &(wire, want) in cases {
            let bytes = wire.as_bytes();
            for cut in 0..bytes.len() {
                assert_eq!(outcome(&bytes[..cut], LIMITS), "incomplete", "{wire:?}, cut at {cut}");
            }
            assert_eq!(outcome(bytes, LIMITS), want, "{wire:?}");
            let followed = [bytes, b"\x81\x00"].concat();
            assert_eq!(outcome(&followed, LIMITS), want, "{wire:?}, followed by a frame");
        }
    }

    #[test]
    fn heads_that_are_refused_never_pass_at_any_cut() {
        let cases: &[(&[u8], &str)] = &[
            (b"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", "400 Malformed(RequestLine)"),
            (b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", "400 Malformed(RequestLine)"),
            (b"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", "400 Malformed(RequestLine)"),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 VersionUnsupported"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 VersionUnsupported"),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400 Malformed(HeaderName)"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n", "400 Malformed(HeaderName)"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nB: \0\r\n\r\n", "400 Malformed(HeaderValue)"),
            (b"GET / HTTP/1.1\r\n\r\n", "400 HostMissing"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400 HostRepeated"),
            (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "400 HostRepeated"),
            (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 HostInvalid"),
            (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 HostInvalid"),
            (b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", "400 HostInvalid"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", "413 BodyAnnounced"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n", "400 ContentLengthInvalid"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n", "400 ContentLengthInvalid"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "400 ContentLengthInvalid"),
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
                "400 ContentLengthInvalid",
            ),
            (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "400 TransferEncoding"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ntransfer-encoding: x\r\n\r\n", "400 TransferEncoding"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400 TlsOnPlainPort"),
        ];
        for &(wire, want) in cases {
            for cut in 0..wire.len() {
                let got = outcome(&wire[..cut], LIMITS);
                assert!(got == "incomplete" || got == want, "{}: {got}, cut at {cut}", wire.escape_ascii());
            }
            assert_eq!(outcome(wire, LIMITS), want, "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn a_head_may_have_exactly_the_bytes_of_the_limit() {
        let wire = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let limit = |bytes_max| HeadLimits { bytes_max, ..LIMITS };
        assert!(outcome(wire, limit(wire.len())).starts_with("GET"));
        assert_eq!(outcome(wire, limit(wire.len() - 1)), "431 TooLarge");
        // An endless head is refused as soon as the limit is reached, not when it ends.
        assert_eq!(outcome(&wire[..20], limit(20)), "431 TooLarge");
        assert_eq!(outcome(&wire[..19], limit(20)), "incomplete");
        assert_eq!(outcome(b"", limit(0)), "431 TooLarge");
    }

    #[test]
    fn a_head_may_have_exactly_the_fields_of_the_limit() {
        let head_of =
            |fields: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(fields - 1)).into_bytes();
        for headers_max in [1, 2, 16, HEADERS_MAX] {
            let limits = HeadLimits { bytes_max: 4096, headers_max };
            assert!(outcome(&head_of(headers_max), limits).starts_with("GET"), "{headers_max}");
            assert_eq!(outcome(&head_of(headers_max + 1), limits), "431 TooManyHeaders", "{headers_max}");
        }
        let beyond = HeadLimits { bytes_max: 4096, headers_max: usize::MAX };
        assert_eq!(outcome(&head_of(HEADERS_MAX + 1), beyond), "431 TooManyHeaders");
    }

    #[test]
    fn fields_are_found_in_any_case_and_in_their_order() {
        let wire = b"GET /?t=a%20b&t=c HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\nX-B: \xff\r\n\r\n";
        let mut scratch = HeadScratch::new();
        let Ok(Parsed::Complete { head, .. }) = parse_request(wire, LIMITS, &mut scratch) else { panic!() };
        assert_eq!(head.header("x-A"), Some(&b"1"[..]));
        assert_eq!(head.headers_all("X-A").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(head.headers_all("X-A").next_back(), Some(&b"2"[..]));
        assert_eq!(head.header("x-c"), None);
        assert_eq!((head.header("x-b"), head.header_str("x-b")), (Some(&b"\xff"[..]), None));
        assert_eq!(head.headers().map(|(name, _)| name).collect::<Vec<_>>(), ["Host", "X-A", "x-a", "X-B"]);
        assert_eq!(head.query_param("t").as_deref(), Some("a b"));
        assert_eq!(head.target(), "/?t=a%20b&t=c");
    }
}
