//! Which pages may open a connection (RFC 6455 §10.2).
//!
//! Only browsers send `Origin`, and only they can be made to connect by somebody else's page with the visitor's own
//! cookies. A client that is no browser can claim any origin: this protects visitors, not the server.

/// Which origins are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// Pages from the host and port that the request itself is for, and clients that are no browsers.
    #[default]
    SameHost,
    /// Every page.
    Any,
    /// These origins, as `https://app.example` or `http://localhost:3000`, and clients that are no browsers.
    List(Vec<String>),
}

impl OriginPolicy {
    /// Whether a request with that `Origin`, for that host, is served.
    ///
    /// Scheme and host are compared in any case, and the port of a scheme need not be written (RFC 6454 §4, §5). The
    /// origin `null` belongs to everybody, so it is nobody's: only [`Any`](Self::Any) serves it.
    pub fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Self::Any => true,
            Self::SameHost => Origin::parse(origin).zip(host).is_some_and(|(origin, host)| origin.is_at(host)),
            Self::List(listed) => {
                let origin = Origin::parse(origin);
                origin.is_some() && listed.iter().any(|listed| Origin::parse(listed) == origin)
            }
        }
    }
}

/// Scheme, host and port (RFC 6454 §4). Equal if they are the same origin.
#[derive(Clone, Copy, Debug)]
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = split_port(authority)?;
        if scheme.is_empty() || host.is_empty() || host.contains(['/', '?', '#', '@']) {
            return None;
        }
        Some(Self { scheme, host, port: port.or(default_port(scheme)) })
    }

    /// A `Host` has no scheme: without a port it means the one of the origin's scheme.
    fn is_at(&self, host_and_port: &str) -> bool {
        split_port(host_and_port).is_some_and(|(host, port)| {
            host.eq_ignore_ascii_case(self.host) && port.or(default_port(self.scheme)) == self.port
        })
    }
}

impl PartialEq for Origin<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
    }
}

/// Host and port; the host of an IPv6 address keeps its brackets. `None` if the port is no port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_len = match authority.starts_with('[') {
        true => authority.find(']')? + 1,
        false => authority.find(':').unwrap_or(authority.len()),
    };
    match authority.split_at(host_len) {
        (host, "" | ":") => Some((host, None)),
        (host, port) => {
            let digits = port.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?;
            Some((host, Some(digits.parse().ok()?)))
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_host() {
        let cases = [
            // A client that is no browser.
            (None, Some("a.example"), true),
            (None, None, true),
            // The page's own server.
            (Some("https://a.example"), Some("a.example"), true),
            (Some("http://a.example"), Some("a.example"), true),
            (Some("http://a.example:8080"), Some("a.example:8080"), true),
            (Some("HTTPS://A.Example"), Some("a.EXAMPLE"), true),
            (Some("https://a.example"), Some("a.example:443"), true),
            (Some("https://a.example:443"), Some("a.example"), true),
            (Some("http://a.example"), Some("a.example:80"), true),
            (Some("http://[::1]:9000"), Some("[::1]:9000"), true),
            (Some("http://[::1]"), Some("[::1]"), true),
            (Some("http://a.example"), Some("a.example:"), true),
            // Another's.
            (Some("https://b.example"), Some("a.example"), false),
            (Some("https://sub.a.example"), Some("a.example"), false),
            (Some("https://a.example.b"), Some("a.example"), false),
            (Some("https://a.example:8443"), Some("a.example"), false),
            (Some("http://a.example"), Some("a.example:443"), false),
            (Some("https://a.example"), Some("a.example:80"), false),
            (Some("http://[::1]:9000"), Some("[::2]:9000"), false),
            // Nobody's.
            (Some("null"), Some("a.example"), false),
            (Some("null"), Some("null"), false),
            (Some(""), Some(""), false),
            (Some("a.example"), Some("a.example"), false),
            (Some("https://"), Some(""), false),
            (Some("https://a.example"), None, false),
            (Some("https://a.example:x"), Some("a.example:x"), false),
            (Some("https://a.example:99999"), Some("a.example:99999"), false),
            (Some("https://a.example:+443"), Some("a.example"), false),
            (Some("https://a.example/"), Some("a.example"), false),
            (Some("https://b.example@a.example"), Some("a.example"), false),
            (Some("http://[::1"), Some("[::1"), false),
        ];
        for (origin, host, want) in cases {
            assert_eq!(OriginPolicy::SameHost.allows(origin, host), want, "{origin:?} at {host:?}");
        }
    }

    #[test]
    fn a_list_names_schemes_too() {
        let policy =
            OriginPolicy::List(vec!["https://app.example".into(), "http://localhost:3000".into(), "null".into()]);
        let cases = [
            (None, true),
            (Some("https://app.example"), true),
            (Some("https://APP.example:443"), true),
            (Some("http://localhost:3000"), true),
            (Some("http://app.example"), false),
            (Some("http://localhost"), false),
            (Some("https://b.example"), false),
            (Some("null"), false),
        ];
        for (origin, want) in cases {
            assert_eq!(policy.allows(origin, Some("b.example")), want, "{origin:?}");
        }
    }

    #[test]
    fn any_is_any() {
        for origin in [None, Some("null"), Some("https://b.example"), Some("")] {
            assert!(OriginPolicy::Any.allows(origin, None), "{origin:?}");
        }
    }
}
