//! What spans several options: values that follow from others, values that do not fit together, files.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::load::Sources;
use super::options::Draft;
use super::{Command, Config, ListenAddr, Problem, Source, TlsFiles, namespaces, parse};
use crate::auth::{ApiKeys, KeyFormat, KeySet};
use crate::topics::Access;
use crate::webhooks::Secret;

/// Completes a draft whose options are each right alone. Answers with warnings; refusals go to `problems`.
pub(super) fn finish(
    draft: &mut Draft,
    sources: &mut Sources,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    follow(&mut draft.config, sources);
    let mut check = Check { sources, problems, warnings: Vec::new() };
    draft.config.tls = check.tls(draft, read_file);
    draft.config.api_keys = check.api_keys(draft, read_file);
    check.listeners(&draft.config);
    check.limits(&draft.config);
    check.pings(&draft.config);
    draft.config.back_end.secret = check.secret(&draft.config, read_file);
    check.back_end(&draft.config);
    check.admin(&draft.config);
    check.proxies(&draft.config);
    check.tokens(&draft.config, read_file);
    check.namespaces(&draft.config);
    check.warnings
}

/// Defaults that depend on what was given for other options.
fn follow(config: &mut Config, sources: &mut Sources) {
    let limits = &mut config.limits;
    if !sources.get("max-frame-bytes").is_given() && sources.get("max-message-bytes").is_given() {
        limits.frame_bytes_max = limits.message_bytes_max;
        sources.set("max-frame-bytes", Source::Follows("max-message-bytes"));
    }
    if config.demo {
        config.namespaces[0].publish = Access::Public;
    }
    let quarter = limits.idle_timeout / 4;
    if !sources.get("ping-interval").is_given() && !quarter.is_zero() && quarter < limits.ping_interval {
        limits.ping_interval = quarter;
        sources.set("ping-interval", Source::Follows("idle-timeout"));
    }
}

struct Check<'a> {
    sources: &'a Sources,
    problems: &'a mut Vec<Problem>,
    warnings: Vec<String>,
}

impl Check<'_> {
    fn tls(&mut self, draft: &Draft, read_file: &dyn Fn(&Path) -> io::Result<String>) -> Option<TlsFiles> {
        match (&draft.tls_cert, &draft.tls_key) {
            (Some(cert), Some(key)) => {
                self.pem("tls-cert", cert, CERTIFICATE, read_file);
                self.pem("tls-key", key, PRIVATE_KEY, read_file);
                if let Some(client_ca) = &draft.tls_client_ca {
                    self.pem("tls-client-ca", client_ca, CERTIFICATE, read_file);
                }
                return Some(TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: draft.tls_client_ca.clone() });
            }
            (Some(_), None) => self.conflict(&["tls-cert"], "it needs --tls-key, the private key of the certificate"),
            (None, Some(_)) => self.conflict(&["tls-key"], "it needs --tls-cert, the certificate of the key"),
            (None, None) if draft.tls_client_ca.is_some() => {
                self.conflict(&["tls-client-ca"], "it needs TLS: give --tls-cert and --tls-key");
            }
            (None, None) => {}
        }
        None
    }

    /// That a file can be read and holds what it is given for. What it means is judged when TLS is set up.
    fn pem(
        &mut self,
        option: &'static str,
        path: &Path,
        wanted: &str,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) {
        let path_shown = path.display();
        let what = match read_file(path) {
            Ok(text) if text.contains(wanted) => return,
            Ok(text) if text.contains(PRIVATE_KEY) => {
                format!("{path_shown} holds a private key and no certificate")
            }
            Ok(text) if text.contains(CERTIFICATE) => {
                format!("{path_shown} holds certificates and no private key")
            }
            Ok(_) => format!("{path_shown} is not PEM, or holds neither certificate nor key"),
            Err(error) => format!("cannot read {path_shown}: {error}"),
        };
        self.problems.push(Problem::Value {
            option,
            source: self.sources.get(option).clone(),
            what,
            expected: super::options::find(option).map_or(String::new(), |spec| spec.accepts.describe()),
        });
    }

    /// Keys of the command line and of the file together. What is wrong with one is told without the key.
    fn api_keys(&mut self, draft: &Draft, read_file: &dyn Fn(&Path) -> io::Result<String>) -> Option<ApiKeys> {
        let given = draft.api_key.as_deref().and_then(|key| self.accepted("api-key", ApiKeys::one(key)));
        let file = draft.config.api_key_file.as_deref().and_then(|path| {
            let name = path.display().to_string();
            let text = read_file(path).map_err(|error| format!("cannot read {name}: {error}"));
            let keys =
                text.and_then(|text| ApiKeys::from_lines(&name, text.as_bytes()).map_err(|error| error.to_string()));
            self.accepted("api-key-file", keys)
        });
        if (draft.api_key.is_some() || draft.config.api_key_file.is_some()) && draft.config.admin.is_none() {
            self.warnings
                .push("API keys have no effect: the HTTP API is on the admin listener, and --admin is off".to_owned());
        }
        match (given, file) {
            (Some(given), Some(file)) => Some(given.and(file)),
            (given, file) => given.or(file),
        }
    }

    fn accepted<T>(&mut self, option: &'static str, outcome: Result<T, impl ToString>) -> Option<T> {
        let what = match outcome {
            Ok(value) => return Some(value),
            Err(error) => error.to_string(),
        };
        self.problems.push(Problem::Value {
            option,
            source: self.sources.get(option).clone(),
            what,
            expected: super::options::find(option).map_or(String::new(), |spec| spec.accepts.describe()),
        });
        None
    }

    fn listeners(&mut self, config: &Config) {
        for (index, addr) in config.listen.iter().enumerate() {
            let repeated = config.listen[..index].contains(addr);
            if repeated && !kernel_chooses(addr) {
                self.conflict(&["listen"], &format!("{addr} is given twice"));
            }
        }
        let has_unix = config.listen.iter().any(|addr| matches!(addr, ListenAddr::Unix { .. }));
        if self.sources.get("unix-mode").is_given() && !has_unix {
            self.warnings.push("--unix-mode has no effect: no listener is a Unix socket (unix:PATH)".to_owned());
        }
        let has_tcp = config.listen.iter().any(|addr| matches!(addr, ListenAddr::Tcp(_)));
        if config.tls.is_some() && !has_tcp {
            self.warnings
                .push("--tls-cert has no effect: TLS is for TCP listeners, Unix sockets stay plain".to_owned());
        }
    }

    fn limits(&mut self, config: &Config) {
        let limits = &config.limits;
        let (frame, message) = (size(limits.frame_bytes_max), size(limits.message_bytes_max));
        if limits.frame_bytes_max > limits.message_bytes_max {
            self.conflict(
                &["max-frame-bytes", "max-message-bytes"],
                &format!("a frame of {frame} cannot be part of a message of at most {message}; lower the first or raise the second"),
            );
        }
        if limits.queued_bytes_max < limits.message_bytes_max {
            self.warnings.push(format!(
                "--max-queued-bytes ({}) is below --max-message-bytes ({message}): the largest messages can be received \
                 but not sent on",
                size(limits.queued_bytes_max)
            ));
        }
    }

    fn pings(&mut self, config: &Config) {
        let (ping, idle) = (config.limits.ping_interval, config.limits.idle_timeout);
        if !ping.is_zero() && !idle.is_zero() && ping >= idle {
            self.conflict(
                &["ping-interval", "idle-timeout"],
                &format!(
                    "a peer that is silent would be given up after {} and pinged only after {}; make the first option \
                     less than the second, or either 0",
                    span(idle),
                    span(ping)
                ),
            );
        }
    }

    fn secret(&mut self, config: &Config, read_file: &dyn Fn(&Path) -> io::Result<String>) -> Option<Secret> {
        let path = config.back_end.secret_file.as_ref()?;
        let what = match read_file(path).map(|text| Secret::new(text.as_bytes())) {
            Ok(Ok(secret)) => return Some(secret),
            Ok(Err(error)) => format!("{}: {error}", path.display()),
            Err(error) => format!("cannot read {}: {error}", path.display()),
        };
        let option = "webhook-secret-file";
        let source = self.sources.get(option).clone();
        self.problems.push(Problem::Value { option, source, what, expected: String::new() });
        None
    }

    fn back_end(&mut self, config: &Config) {
        let back_end = &config.back_end;
        let is_used = back_end.webhook_url.is_some() || back_end.proxy_url.is_some();
        if back_end.webhook_url.is_some() && back_end.secret_file.is_none() {
            self.conflict(&["webhook-url"], "it needs --webhook-secret-file, with what its requests are signed with");
        }
        if back_end.retry_min > back_end.retry_max {
            self.conflict(&["webhook-retry-min", "webhook-retry-max"], "the first wait is longer than the longest");
        }
        if back_end.proxy_url.is_some() && back_end.proxy_timeout >= config.limits.handshake_timeout {
            self.conflict(
                &["connect-proxy-timeout", "handshake-timeout"],
                "a client's time would be over before the verdict's; make the first option less than the second",
            );
        }
        if is_used && config.command != Command::Serve {
            self.warnings.push("--webhook-url and --connect-proxy have no effect: they are for serve".to_owned());
        }
        if !is_used && back_end.secret_file.is_some() {
            self.warnings.push(
                "--webhook-secret-file has no effect: there is neither --webhook-url nor --connect-proxy".to_owned(),
            );
        }
    }

    fn admin(&mut self, config: &Config) {
        let Some(admin) = config.admin else { return };
        for listen in &config.listen {
            if let ListenAddr::Tcp(addr) = listen
                && overlap(*addr, admin)
            {
                self.conflict(
                    &["admin", "listen"],
                    &format!("{admin} and {addr} would take the same port; give them different ones"),
                );
            }
        }
        if !admin.ip().is_loopback() {
            self.warnings.push(format!(
                "--admin {admin} can be reached from other machines, and its metrics have no password: keep that network \
                 closed"
            ));
        }
    }

    fn proxies(&mut self, config: &Config) {
        if let Some(net) = config.trusted_proxies.iter().find(|net| net.prefix_len() == 0) {
            self.warnings.push(format!("--trusted-proxy {net}: every client may claim any address"));
        }
    }

    /// That each file holds keys. Whether they can be together is judged when the verifier is made.
    fn tokens(&mut self, config: &Config, read_file: &dyn Fn(&Path) -> io::Result<String>) {
        for file in &config.token_keys {
            let name = file.path.display().to_string();
            let what = match read_file(&file.path) {
                Ok(text) => match KeySet::from_text(&name, text.as_bytes(), file.format) {
                    Ok(_) => continue,
                    Err(error) => error.to_string(),
                },
                // A secret may be any bytes; it is looked at when the verifier is made.
                Err(error) if error.kind() == io::ErrorKind::InvalidData && file.format == KeyFormat::Secret => {
                    continue;
                }
                Err(error) => format!("cannot read {name}: {error}"),
            };
            let option = match file.format {
                KeyFormat::Secret => "token-secret",
                KeyFormat::Pem => "token-key",
                KeyFormat::Jwks => "token-jwks",
            };
            let source = self.sources.get(option).clone();
            self.problems.push(Problem::Value { option, source, what, expected: String::new() });
        }
        if !config.token_keys.is_empty() {
            return;
        }
        if !config.anonymous && config.back_end.proxy_url.is_none() {
            self.conflict(
                &["anonymous"],
                "nobody could connect: there are no keys to check tokens with; give --token-secret, --token-key or \
                 --token-jwks, or --connect-proxy",
            );
        }
        for option in ["token-audience", "token-issuer"] {
            if self.sources.get(option).is_given() {
                self.warnings.push(format!("--{option} has no effect: there are no keys, so nobody has a token"));
            }
        }
    }

    fn namespaces(&mut self, config: &Config) {
        if let Err(what) = namespaces::check(&config.namespaces) {
            self.problems.push(Problem::Usage(what));
        }
        let has_keys = !config.token_keys.is_empty() || config.back_end.proxy_url.is_some();
        self.warnings.extend(namespaces::warnings(&config.namespaces, has_keys, config.limits.message_bytes_max));
    }

    fn conflict(&mut self, options: &[&'static str], what: &str) {
        let with_source = |name: &&'static str| (*name, self.sources.get(name).clone());
        self.problems
            .push(Problem::Conflict { options: options.iter().map(with_source).collect(), what: what.to_owned() });
    }
}

fn kernel_chooses(addr: &ListenAddr) -> bool {
    match addr {
        ListenAddr::Tcp(addr) => addr.port() == 0,
        ListenAddr::Unix { .. } => false,
    }
}

/// Whether two addresses would take the same port of the same interface.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_interface = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_interface
}

fn size(bytes: usize) -> String {
    parse::show_size(bytes as u64)
}

fn span(span: Duration) -> String {
    parse::show_duration(span)
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
/// The end of `-----BEGIN PRIVATE KEY-----` and of its older forms for RSA and EC.
const PRIVATE_KEY: &str = "PRIVATE KEY-----";
