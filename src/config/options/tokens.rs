//! The options about tokens, for the table.

use std::time::Duration;

use super::table::HOUR;
use super::{Accepts, Fallback, Group, OptionSpec, SWITCH, Shown};
use crate::auth::KeyFormat;

pub(super) const TOKEN_SECRET: OptionSpec = OptionSpec {
    name: "token-secret",
    value_name: "FILE",
    group: Group::Tokens,
    repeatable: true,
    accepts: Accepts::Form("files with a secret of at least 32 bytes each"),
    default: Fallback::Unset("none"),
    help: "Files with secrets for tokens signed with HS256",
    more: "`openssl rand -base64 48` makes one. Who knows it can be anybody: only the back end that signs tokens \
           should.",
    set: |draft, input| {
        draft.config.token_keys.extend(input.key_files(KeyFormat::Secret)?);
        Ok(())
    },
    get: |config| Shown::key_files(config, KeyFormat::Secret),
};

pub(super) const TOKEN_KEY: OptionSpec = OptionSpec {
    name: "token-key",
    value_name: "FILE",
    group: Group::Tokens,
    repeatable: true,
    accepts: Accepts::Form("PEM files with public keys of RSA, ECDSA P-256 or Ed25519"),
    default: Fallback::Unset("none"),
    help: "PEM files with public keys for tokens signed with RS256, ES256 or EdDSA",
    more: "",
    set: |draft, input| {
        draft.config.token_keys.extend(input.key_files(KeyFormat::Pem)?);
        Ok(())
    },
    get: |config| Shown::key_files(config, KeyFormat::Pem),
};

pub(super) const TOKEN_JWKS: OptionSpec = OptionSpec {
    name: "token-jwks",
    value_name: "FILE",
    group: Group::Tokens,
    repeatable: true,
    accepts: Accepts::Form("JSON files with JWK sets (RFC 7517)"),
    default: Fallback::Unset("none"),
    help: "Files with JWK sets, as an identity provider publishes them",
    more: "A token's kid selects the key. Nothing is fetched: put a new set there and send SIGHUP.",
    set: |draft, input| {
        draft.config.token_keys.extend(input.key_files(KeyFormat::Jwks)?);
        Ok(())
    },
    get: |config| Shown::key_files(config, KeyFormat::Jwks),
};

pub(super) const TOKEN_AUDIENCE: OptionSpec = OptionSpec {
    name: "token-audience",
    value_name: "NAME",
    group: Group::Tokens,
    repeatable: true,
    accepts: Accepts::Form("names, as they stand in the claim aud"),
    default: Fallback::Unset("none: no token may have an audience"),
    help: "Names of this server, one of which a token's aud must have",
    more: "",
    set: |draft, input| input.names().map(|names| draft.config.token_policy.audiences = names),
    get: |config| Shown::list(&config.token_policy.audiences),
};

pub(super) const TOKEN_ISSUER: OptionSpec = OptionSpec {
    name: "token-issuer",
    value_name: "NAME",
    group: Group::Tokens,
    repeatable: true,
    accepts: Accepts::Form("names, as they stand in the claim iss"),
    default: Fallback::Unset("none: iss is not looked at"),
    help: "Issuers one of whom a token's iss must name",
    more: "",
    set: |draft, input| input.names().map(|names| draft.config.token_policy.issuers = names),
    get: |config| Shown::list(&config.token_policy.issuers),
};

pub(super) const TOKEN_LEEWAY: OptionSpec = OptionSpec {
    name: "token-leeway",
    value_name: "DURATION",
    group: Group::Tokens,
    repeatable: false,
    accepts: Accepts::Span(SECOND..=HOUR, Some("none")),
    default: Fallback::Value("30s"),
    help: "How long tokens are good after exp and before nbf, for clocks that differ",
    more: "Whole seconds count.",
    set: |draft, input| input.span().map(|span| draft.config.token_policy.leeway = span),
    get: |config| Shown::span(config.token_policy.leeway),
};

pub(super) const ANONYMOUS: OptionSpec = OptionSpec {
    name: "anonymous",
    value_name: "on|off",
    group: Group::Tokens,
    repeatable: false,
    accepts: Accepts::Word(SWITCH),
    default: Fallback::Value("on"),
    help: "Whether clients may connect without a token",
    more: "What they may do then, their namespaces say. With --anonymous=off nobody gets in without a token, \
           whatever is public.",
    set: |draft, input| input.word(&[false, true]).map(|anonymous| draft.config.anonymous = anonymous),
    get: |config| Shown::word("anonymous", Some(usize::from(config.anonymous))),
};

pub(super) const MAX_CONNECTIONS_PER_USER: OptionSpec = OptionSpec {
    name: "max-connections-per-user",
    value_name: "N",
    group: Group::Tokens,
    repeatable: false,
    accepts: Accepts::Count(1..=1_000_000_000, Some("no limit")),
    default: Fallback::Value("0"),
    help: "Most connections of one user, over all cores",
    more: "A user is what a token's sub says. Those beyond are closed with 4004, or get status 429 where a URL says \
           everything.",
    set: |draft, input| input.limit().map(|limit| draft.config.max_connections_per_user = limit),
    get: |config| Shown::limit(config.max_connections_per_user),
};

/// Whole seconds are what tokens count.
const SECOND: Duration = Duration::from_secs(1);
