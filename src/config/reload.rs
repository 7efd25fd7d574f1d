//! What a server that runs can be told anew.

use super::Config;
use super::options::OPTIONS;

impl Config {
    /// Options that have another value in `newer`, and that a server that runs with this configuration cannot take.
    pub fn unchangeable(&self, newer: &Self) -> Vec<&'static str> {
        let differs = OPTIONS.iter().filter(|spec| (spec.get)(self) != (spec.get)(newer));
        let (back_end, newer_back_end) = (&self.back_end, &newer.back_end);
        // What is off cannot be turned on, nor the other way round.
        let turned = [
            ("tls-", self.tls.is_some() != newer.tls.is_some()),
            ("webhook-", back_end.webhook_url.is_some() != newer_back_end.webhook_url.is_some()),
            ("connect-proxy", back_end.proxy_url.is_some() != newer_back_end.proxy_url.is_some()),
        ];
        let is_turned = |name: &str| turned.iter().any(|(start, is_turned)| *is_turned && name.starts_with(start));
        let stays = |name: &str| !RELOADABLE.contains(&name) || is_turned(name);
        differs.map(|spec| spec.name).filter(|name| stays(name)).collect()
    }
}

/// Options that can change under a server, as can all of the namespaces. The files that they name are read again even
/// where the option is the same.
const RELOADABLE: &[&str] = &[
    "tls-cert",
    "tls-key",
    "tls-client-ca",
    "demo",
    "strict-namespaces",
    "max-connections-per-address",
    "message-rate",
    "token-secret",
    "token-key",
    "token-jwks",
    "token-audience",
    "token-issuer",
    "token-leeway",
    "anonymous",
    "max-connections-per-user",
    "api-key",
    "api-key-file",
    "webhook-url",
    "webhook-secret-file",
    "webhook-batch-events",
    "webhook-batch-wait",
    "webhook-timeout",
    "webhook-retry-min",
    "webhook-retry-max",
    "connect-proxy",
    "connect-proxy-timeout",
    "connect-proxy-requests",
];

#[cfg(test)]
mod tests {
    use super::super::options::{defaults, find};
    use super::super::{Command, TlsFiles};
    use super::*;
    use crate::backend::EventKind;
    use std::time::Duration;

    #[test]
    fn what_can_change_is_an_option() {
        for name in RELOADABLE {
            assert!(find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn what_cannot_change_is_named() {
        let old = defaults(Command::Serve);
        let mut new = Config { anonymous: false, max_connections: Some(7), ..old.clone() };
        new.limits.idle_timeout = Duration::from_secs(1);
        assert_eq!(old.unchangeable(&old), [""; 0]);
        assert_eq!(old.unchangeable(&new), ["max-connections", "idle-timeout"]);
        let files = |cert: &str| Some(TlsFiles { cert: cert.into(), key: "key".into(), client_ca: None });
        let (first, second) = (Config { tls: files("a"), ..old.clone() }, Config { tls: files("b"), ..old.clone() });
        assert_eq!(first.unchangeable(&second), [""; 0]);
        assert_eq!(old.unchangeable(&first), ["tls-cert", "tls-key"]);
        assert_eq!(first.unchangeable(&old), ["tls-cert", "tls-key"]);
    }

    #[test]
    fn a_back_end_can_move_but_not_appear() {
        let old = defaults(Command::Serve);
        let told_at = |url: &str| {
            let mut config = old.clone();
            config.back_end.webhook_url = Some(url.parse().expect("a URL"));
            config
        };
        let (first, mut second) = (told_at("http://a/"), told_at("http://b/"));
        assert_eq!(first.unchangeable(&second), [""; 0]);
        assert_eq!(old.unchangeable(&first), ["webhook-url"]);
        assert_eq!(first.unchangeable(&old), ["webhook-url"]);
        second.back_end.queue_events += 1;
        second.back_end.events = [EventKind::Published].into_iter().collect();
        second.back_end.proxy_url = Some("http://c/".parse().expect("a URL"));
        second.back_end.proxy_requests += 1;
        let stays = ["webhook-events", "webhook-queue-events", "connect-proxy", "connect-proxy-requests"];
        assert_eq!(first.unchangeable(&second), stays);
    }
}
