//! Sends one signed body to a back end, and reads what it says.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Request, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use super::SetupError;
use super::signature::{self, Secret};

/// Where a back end listens: an absolute URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// It is no URL.
    #[error("it is not a URL")]
    NotUrl,
    /// It has another scheme, or none.
    #[error("it must begin with http:// or https://")]
    Scheme,
    /// It has a user or a password.
    #[error("it must not carry a user or a password: requests prove with a signature where they come from")]
    UserInfo,
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(url: &str) -> Result<Self, BadEndpoint> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(BadEndpoint::Scheme);
        }
        let uri: Uri = url.parse().map_err(|_| BadEndpoint::NotUrl)?;
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(BadEndpoint::NotUrl)?;
        if authority.as_str().contains('@') { Err(BadEndpoint::UserInfo) } else { Ok(Self(uri)) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    /// Without the query, which may carry a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.without_query())
    }
}

impl Endpoint {
    /// For the log.
    pub(super) fn without_query(&self) -> String {
        self.0.to_string().split('?').next().unwrap_or_default().to_owned()
    }
}

/// Sends to one endpoint, over connections that are kept.
#[derive(Clone)]
pub(super) struct Poster {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Endpoint,
    secret: Option<Secret>,
    timeout: Duration,
}

/// Why a request did not have the effect that it was sent for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PostError {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("it answered with status {0}; only 2xx will do, and redirects are not followed")]
    Status(u16),
    #[error("its answer is larger than {ANSWER_BYTES_MAX} bytes")]
    AnswerTooLarge,
    #[error("{0}")]
    Transport(String),
}

impl Poster {
    /// `timeout` is for everything: name, connection, TLS, request and answer.
    pub(super) fn new(endpoint: Endpoint, secret: Option<Secret>, timeout: Duration) -> Result<Self, SetupError> {
        let is_secure = endpoint.0.scheme_str() == Some("https");
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls(is_secure)?).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Ok(Self { client, endpoint, secret, timeout })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Answers with the body of a 2xx response.
    pub(super) async fn post(&self, body: Bytes) -> Result<Bytes, PostError> {
        tokio::time::timeout(self.timeout, self.exchange(body)).await.unwrap_or(Err(PostError::TimedOut(self.timeout)))
    }

    async fn exchange(&self, body: Bytes) -> Result<Bytes, PostError> {
        let mut request = Request::post(self.endpoint.0.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("corewire/", env!("CARGO_PKG_VERSION")));
        if let Some(secret) = &self.secret {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            request = request.header(signature::HEADER, secret.sign(now, &body));
        }
        let request = request.body(Full::new(body)).map_err(|error| PostError::Transport(error.to_string()))?;
        let response = self.client.request(request).await.map_err(|error| transport(&error))?;
        let status = response.status();
        // Read also where it does not matter, so that the connection can be used again.
        let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        match answer {
            _ if !status.is_success() => Err(PostError::Status(status.as_u16())),
            Ok(answer) => Ok(answer.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(PostError::AnswerTooLarge),
            Err(error) => Err(transport(&*error)),
        }
    }
}

fn tls(is_secure: bool) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore::empty();
    if is_secure {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(SetupError::NoAuthorities);
        }
    }
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("the provider knows the versions that it comes with");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The error and its causes, which say more.
fn transport(error: &(dyn Error + 'static)) -> PostError {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let mut told: Vec<_> = causes.map(ToString::to_string).collect();
    told.dedup();
    PostError::Transport(told.join(": "))
}

/// Largest answer; those of webhooks are not looked into.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long a connection is kept that nobody uses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_before_anything_is_sent() {
        for good in ["http://localhost", "https://example.com:8443/hook?key=1", "http://[::1]:80/", "http://10.0.0.9/a"]
        {
            assert!(good.parse::<Endpoint>().is_ok(), "{good}");
        }
        let cases = [
            ("", BadEndpoint::Scheme),
            ("example.com/hook", BadEndpoint::Scheme),
            ("ftp://example.com", BadEndpoint::Scheme),
            ("/hook", BadEndpoint::Scheme),
            ("http://", BadEndpoint::NotUrl),
            ("http:///hook", BadEndpoint::NotUrl),
            ("http://a b/", BadEndpoint::NotUrl),
            ("https://:80/", BadEndpoint::NotUrl),
            ("https://user:secret@example.com/", BadEndpoint::UserInfo),
        ];
        for (url, wrong) in cases {
            assert_eq!(url.parse::<Endpoint>(), Err(wrong), "{url}");
        }
    }

    #[test]
    fn a_key_in_the_query_is_not_logged() {
        let endpoint: Endpoint = "https://example.com/hook?key=secret".parse().unwrap();
        assert_eq!(format!("{endpoint:?}"), "https://example.com/hook");
        assert_eq!(endpoint.without_query(), "https://example.com/hook");
    }
}
