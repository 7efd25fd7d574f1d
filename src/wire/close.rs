//! Close codes of the wire, beside those of RFC 6455. Private use (RFC 6455 §7.4.2).

use crate::protocol::CloseCode;

/// No `connect` came in time.
pub const CONNECT_TIMEOUT: CloseCode = CloseCode(4000);
/// No token where one is needed, or a bad one.
pub const TOKEN_REFUSED: CloseCode = CloseCode(4001);
/// The token has expired, and no newer one came.
pub const TOKEN_EXPIRED: CloseCode = CloseCode(4002);
/// The back end does not want this connection.
pub const DISCONNECTED: CloseCode = CloseCode(4003);
/// The user, or the address, has too many connections.
pub const TOO_MANY_CONNECTIONS: CloseCode = CloseCode(4004);
/// Messages went on coming faster than they may, or were wrong again and again.
pub const ABUSE: CloseCode = CloseCode(4005);
/// The client reads more slowly than it is sent to, and its namespace says `disconnect`.
pub const SLOW_CONSUMER: CloseCode = CloseCode(4006);

/// What stands in the Close frame beside one of these codes; nothing beside any other.
pub fn reason(code: CloseCode) -> &'static str {
    ALL.iter().find(|(known, _)| *known == code).map_or("", |(_, reason)| reason)
}

/// All of them, with the reason that stands in the frame.
pub const ALL: [(CloseCode, &str); 7] = [
    (CONNECT_TIMEOUT, "no connect in time"),
    (TOKEN_REFUSED, "token refused"),
    (TOKEN_EXPIRED, "token expired"),
    (DISCONNECTED, "disconnected by the back end"),
    (TOO_MANY_CONNECTIONS, "too many connections"),
    (ABUSE, "too many messages"),
    (SLOW_CONSUMER, "slow consumer"),
];
