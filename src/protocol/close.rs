//! The payload of a Close frame (RFC 6455 §5.5.1, §7.4).

use super::Violation;

/// Why a connection ends.
///
/// Any number can be held, also one that never stands in a frame: [`may_be_sent`](Self::may_be_sent) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

/// What a Close frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// [`CloseCode::NO_STATUS`] if the frame was empty.
    pub code: CloseCode,
    /// Empty if there is none.
    pub reason: &'a str,
}

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server stops, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of message that this end cannot take.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1005: the Close frame was empty. Never sent (RFC 6455 §7.1.5).
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a Close frame. Never sent (RFC 6455 §7.1.5).
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: the payload is not what its message says it is, as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: against a rule of this end that no other code names.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message too big to be processed.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: a client misses an extension in the server's handshake.
    pub const EXTENSION_REQUIRED: Self = Self(1010);
    /// 1011: the server could not do what was asked.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server restarts; come back after a while (IANA registry, RFC 6455 §11.7).
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the server is overloaded; come back later (IANA registry, RFC 6455 §11.7).
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got an invalid answer from behind it (IANA registry, RFC 6455 §11.7).
    pub const BAD_GATEWAY: Self = Self(1014);

    /// Whether the code may stand in a Close frame.
    ///
    /// Defined codes (RFC 6455 §7.4.1 and the registry of §11.7) and those of libraries and applications
    /// (3000-4999, RFC 6455 §7.4.2). Not 1005, 1006 and 1015, which only report; not 1004 and the other reserved ones.
    pub const fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl std::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads the unmasked payload of a Close frame.
pub fn parse_close(payload: &[u8]) -> Result<CloseFrame<'_>, Violation> {
    let (code, reason) = match payload {
        [] => {
            return Ok(CloseFrame { code: CloseCode::NO_STATUS, reason: "" });
        }
        [_] => return Err(Violation::ClosePayloadTooShort),
        [high, low, reason @ ..] => (CloseCode(u16::from_be_bytes([*high, *low])), reason),
    };
    if !code.may_be_sent() {
        return Err(Violation::CloseCodeInvalid);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::CloseReasonNotUtf8)?;
    Ok(CloseFrame { code, reason })
}

/// Writes the payload of a Close frame and returns its length.
///
/// A reason that does not fit is cut at the end of a character. A code that may not be sent leaves the payload
/// empty, so the answer to an empty Close frame ([`CloseCode::NO_STATUS`]) is an empty one.
pub fn encode_close(code: CloseCode, reason: &str, out: &mut [u8; CLOSE_LEN_MAX]) -> usize {
    if !code.may_be_sent() {
        return 0;
    }
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_LEN_MAX)];
    out[..2].copy_from_slice(&code.0.to_be_bytes());
    out[2..2 + reason.len()].copy_from_slice(reason);
    2 + reason.len()
}

/// Longest payload of a Close frame: that of any control frame (RFC 6455 §5.5).
pub const CLOSE_LEN_MAX: usize = super::frame::CONTROL_LEN_MAX;
/// Longest reason in bytes: what the code leaves.
pub const REASON_LEN_MAX: usize = CLOSE_LEN_MAX - 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_sendable_or_not_by_the_list() {
        let sendable = (0..=u16::MAX).filter(|&code| CloseCode(code).may_be_sent());
        let listed = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
        assert!(sendable.eq(listed.into_iter().chain(3000..5000)));
    }

    #[test]
    fn every_code_parses_exactly_if_it_may_be_sent() {
        for code in (0..=u16::MAX).map(CloseCode) {
            let payload = code.0.to_be_bytes();
            let want =
                if code.may_be_sent() { Ok(CloseFrame { code, reason: "" }) } else { Err(Violation::CloseCodeInvalid) };
            assert_eq!(parse_close(&payload), want, "{code}");
        }
    }

    #[test]
    fn payloads_and_what_they_say() {
        type Want = Result<(u16, &'static str), Violation>;
        let cases: &[(&[u8], Want)] = &[
            (b"", Ok((1005, ""))),
            (b"\x03", Err(Violation::ClosePayloadTooShort)),
            (b"\x03\xe8", Ok((1000, ""))),
            (b"\x03\xe8bye", Ok((1000, "bye"))),
            (b"\x03\xe9\xc3\xa9", Ok((1001, "é"))),
            (b"\x03\xe8\xc3", Err(Violation::CloseReasonNotUtf8)),
            (b"\x03\xe8\xff", Err(Violation::CloseReasonNotUtf8)),
            (b"\x03\xed", Err(Violation::CloseCodeInvalid)),
            // The code is judged before the reason.
            (b"\x03\xed\xff", Err(Violation::CloseCodeInvalid)),
        ];
        for &(payload, want) in cases {
            let got = parse_close(payload).map(|frame| (frame.code.0, frame.reason));
            assert_eq!(got, want, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn reasons_of_every_length_come_back_cut_at_a_character() {
        for filler in ["a", "é", "€", "😀"] {
            for count in 0..=130 {
                let reason = filler.repeat(count);
                let mut out = [0; CLOSE_LEN_MAX];
                let len = encode_close(CloseCode::NORMAL, &reason, &mut out);
                let got = parse_close(&out[..len]).unwrap();
                assert_eq!(got.code, CloseCode::NORMAL);
                assert!(reason.starts_with(got.reason));
                assert!(got.reason.len() == reason.len() || got.reason.len() + filler.len() > REASON_LEN_MAX);
            }
        }
    }

    #[test]
    fn a_code_that_may_not_be_sent_is_not_sent() {
        for code in (0..=u16::MAX).map(CloseCode).filter(|code| !code.may_be_sent()) {
            assert_eq!(encode_close(code, "reason", &mut [0; CLOSE_LEN_MAX]), 0, "{code}");
        }
    }
}
