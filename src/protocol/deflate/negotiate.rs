//! The offer, the answer, and what they mean (RFC 7692 §7.1).

use std::io::Write;

use crate::protocol::extension::{Extension, InvalidExtensionList, Param, ParamValue, extensions};

/// What both ends keep to. Valid for the life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The server compresses each message from an empty window (RFC 7692 §7.1.1.1).
    pub server_no_context_takeover: bool,
    /// The client compresses each message from an empty window (RFC 7692 §7.1.1.2).
    pub client_no_context_takeover: bool,
    /// The server's window is no larger than 2 to the power of this, 8 to 15 (RFC 7692 §7.1.2.1).
    pub server_max_window_bits: u8,
    /// The client's window is no larger than 2 to the power of this, 8 to 15 (RFC 7692 §7.1.2.2).
    pub client_max_window_bits: u8,
    /// The offer limited the server's window, so the answer must name it, be it 15 (RFC 7692 §7.1.2.1).
    pub server_window_was_offered: bool,
}

/// What one end wants, before it knows what the other can.
///
/// For a server, `true` and a window below 15 are asked of every client that can be asked; for a client they are what
/// the offer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateOptions {
    /// The server compresses each message from an empty window.
    pub server_no_context_takeover: bool,
    /// The client compresses each message from an empty window.
    pub client_no_context_takeover: bool,
    /// Largest window of the server, 9 to 15.
    pub server_max_window_bits: u8,
    /// Largest window of the client, 9 to 15.
    pub client_max_window_bits: u8,
}

/// What a server's answer did wrong. RFC 7692 §7.1: the client must fail the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// Not an extension list.
    #[error("the server's extension list is malformed (RFC 6455 §9.1)")]
    Malformed,
    /// An extension that was not offered.
    #[error("the server chose an extension that was not offered (RFC 6455 §4.1)")]
    NotOffered,
    /// The same extension twice.
    #[error("the server accepted permessage-deflate more than once (RFC 7692 §5.1)")]
    Repeated,
    /// An unknown, repeated or invalid parameter.
    #[error("the server's answer has a parameter that is unknown, repeated or invalid (RFC 7692 §7.1)")]
    InvalidParameter,
    /// The answer leaves out or exceeds what the offer required.
    #[error("the server's answer does not keep to the offer (RFC 7692 §7.1)")]
    NotWhatWasOffered,
    /// `client_max_window_bits=8`, which this implementation cannot compress with.
    #[error("the server asks for a window of 256 bytes, which cannot be compressed with here (RFC 7692 §7.1.2.2)")]
    WindowUnsupported,
}

impl Default for DeflateOptions {
    /// No context is kept, whole windows: what costs a connection nothing.
    fn default() -> Self {
        Self {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: WINDOW_BITS_MAX,
            client_max_window_bits: WINDOW_BITS_MAX,
        }
    }
}

/// Server: accepts the first offer that can be, in the values of all `Sec-WebSocket-Extensions` fields in their
/// order (RFC 7692 §5.1). `None` if there is none: the connection goes on uncompressed.
///
/// An offer is declined for an unknown, repeated or invalid parameter (RFC 7692 §7.1), and for
/// `server_max_window_bits=8`: zlib has no raw stream with that window. A value that is not an extension list ends the
/// search; whether it ends the handshake as well is the handshake's part.
pub fn accept_offer<'v>(values: impl IntoIterator<Item = &'v str>, options: &DeflateOptions) -> Option<Agreement> {
    values
        .into_iter()
        .flat_map(extensions)
        .map_while(Result::ok)
        .filter(|extension| extension.name.eq_ignore_ascii_case(NAME))
        .find_map(|offer| Params::read(&offer)?.accept(options))
}

/// Server: appends the extension's element of the answer, as the value of `Sec-WebSocket-Extensions`.
pub fn write_answer(agreement: &Agreement, out: &mut Vec<u8>) {
    out.extend_from_slice(NAME.as_bytes());
    // RFC 7692 §7.1.1.1, §7.1.1.2: both may be answered without having been offered.
    write_flag(SERVER_NO_CONTEXT_TAKEOVER, agreement.server_no_context_takeover, out);
    write_flag(CLIENT_NO_CONTEXT_TAKEOVER, agreement.client_no_context_takeover, out);
    // RFC 7692 §7.1.2.1: MUST be answered if it was offered, and may be if not.
    if agreement.server_window_was_offered || agreement.server_max_window_bits < WINDOW_BITS_MAX {
        write_bits(SERVER_MAX_WINDOW_BITS, agreement.server_max_window_bits, out);
    }
    // Below 15 only if it was offered: `Params::accept` sees to it.
    if agreement.client_max_window_bits < WINDOW_BITS_MAX {
        write_bits(CLIENT_MAX_WINDOW_BITS, agreement.client_max_window_bits, out);
    }
}

/// Client: appends one offer, as the value of `Sec-WebSocket-Extensions`.
pub fn write_offer(options: &DeflateOptions, out: &mut Vec<u8>) {
    let options = options.usable();
    out.extend_from_slice(NAME.as_bytes());
    write_flag(SERVER_NO_CONTEXT_TAKEOVER, options.server_no_context_takeover, out);
    write_flag(CLIENT_NO_CONTEXT_TAKEOVER, options.client_no_context_takeover, out);
    if options.server_max_window_bits < WINDOW_BITS_MAX {
        write_bits(SERVER_MAX_WINDOW_BITS, options.server_max_window_bits, out);
    }
    // Without a value it says that an answer with one is welcome (RFC 7692 §7.1.2.2).
    if options.client_max_window_bits < WINDOW_BITS_MAX {
        write_bits(CLIENT_MAX_WINDOW_BITS, options.client_max_window_bits, out);
    } else {
        write_flag(CLIENT_MAX_WINDOW_BITS, true, out);
    }
}

/// Client: reads the values of all `Sec-WebSocket-Extensions` fields of an answer to the one offer that
/// [`write_offer`] wrote for `offered`, or to none. `Ok(None)`: the server declined.
pub fn check_answer<'v>(
    values: impl IntoIterator<Item = &'v str>,
    offered: Option<&DeflateOptions>,
) -> Result<Option<Agreement>, NegotiationError> {
    let mut agreement = None;
    for extension in values.into_iter().flat_map(extensions) {
        let extension = extension?;
        // RFC 6455 §4.1: an extension that was not offered fails the connection.
        let offered =
            offered.filter(|_| extension.name.eq_ignore_ascii_case(NAME)).ok_or(NegotiationError::NotOffered)?;
        if agreement.is_some() {
            return Err(NegotiationError::Repeated);
        }
        let params = Params::read(&extension).ok_or(NegotiationError::InvalidParameter)?;
        agreement = Some(params.conclude(&offered.usable())?);
    }
    Ok(agreement)
}

impl From<InvalidExtensionList> for NegotiationError {
    fn from(_: InvalidExtensionList) -> Self {
        Self::Malformed
    }
}

impl DeflateOptions {
    /// With windows that zlib can compress with.
    fn usable(self) -> Self {
        let usable = |bits: u8| bits.clamp(COMPRESS_WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        Self {
            server_max_window_bits: usable(self.server_max_window_bits),
            client_max_window_bits: usable(self.client_max_window_bits),
            ..self
        }
    }
}

/// The parameters of one offer or answer; each at most once and with a value that it can have (RFC 7692 §7.1).
#[derive(Clone, Copy, Debug, Default)]
struct Params {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// `Some(None)`: there without a value, which only an offer's may be.
    client_max_window_bits: Option<ClientBits>,
}

/// `client_max_window_bits` as it is there.
#[derive(Clone, Copy, Debug)]
enum ClientBits {
    /// Without a value: the client can be asked for any window (RFC 7692 §7.1.2.2).
    Askable,
    /// With one.
    Limited(u8),
}

impl Params {
    fn read(extension: &Extension<'_>) -> Option<Self> {
        let mut params = Self::default();
        for param in extension.params() {
            params.read_one(param)?;
        }
        Some(params)
    }

    /// `None` for a parameter that is unknown, repeated, or has a value it cannot have.
    fn read_one(&mut self, param: Param<'_>) -> Option<()> {
        let Param { name, value } = param;
        if name.eq_ignore_ascii_case(SERVER_NO_CONTEXT_TAKEOVER) {
            set_flag(&mut self.server_no_context_takeover, value)
        } else if name.eq_ignore_ascii_case(CLIENT_NO_CONTEXT_TAKEOVER) {
            set_flag(&mut self.client_no_context_takeover, value)
        } else if name.eq_ignore_ascii_case(SERVER_MAX_WINDOW_BITS) {
            // RFC 7692 §7.1.2.1: never without a value.
            set_once(&mut self.server_max_window_bits, window_bits(value?)?)
        } else if name.eq_ignore_ascii_case(CLIENT_MAX_WINDOW_BITS) {
            let bits = match value {
                None => ClientBits::Askable,
                Some(value) => ClientBits::Limited(window_bits(value)?),
            };
            set_once(&mut self.client_max_window_bits, bits)
        } else {
            None
        }
    }

    /// Server: what an offer with these parameters comes to. `None` declines it.
    fn accept(self, options: &DeflateOptions) -> Option<Agreement> {
        let options = options.usable();
        let server_max_window_bits = self.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX);
        if server_max_window_bits < COMPRESS_WINDOW_BITS_MIN {
            return None;
        }
        Some(Agreement {
            // RFC 7692 §7.1.1.1: an offer with it is accepted by answering it.
            server_no_context_takeover: self.server_no_context_takeover || options.server_no_context_takeover,
            // RFC 7692 §7.1.1.2: in an offer it is a hint. Answered, it binds the client, and we need no context.
            client_no_context_takeover: self.client_no_context_takeover || options.client_no_context_takeover,
            server_max_window_bits: server_max_window_bits.min(options.server_max_window_bits),
            client_max_window_bits: self.answer_client_bits(options.client_max_window_bits),
            server_window_was_offered: self.server_max_window_bits.is_some(),
        })
    }

    /// RFC 7692 §7.1.2.2: not offered, it must not be answered, and the client may use the whole window. Offered with
    /// a value, the value is only a hint until we answer it; so we do, with what is smaller. 8 is no obstacle here:
    /// zlib can inflate what it cannot deflate.
    fn answer_client_bits(self, wanted: u8) -> u8 {
        match self.client_max_window_bits {
            None => WINDOW_BITS_MAX,
            Some(ClientBits::Askable) => wanted,
            Some(ClientBits::Limited(bits)) => bits.min(wanted),
        }
    }

    /// Client: what an answer with these parameters comes to.
    fn conclude(self, offered: &DeflateOptions) -> Result<Agreement, NegotiationError> {
        // RFC 7692 §7.1.1.1: accepting the offer means answering it.
        if offered.server_no_context_takeover && !self.server_no_context_takeover {
            return Err(NegotiationError::NotWhatWasOffered);
        }
        Ok(Agreement {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover || offered.client_no_context_takeover,
            server_max_window_bits: self.conclude_server_bits(offered.server_max_window_bits)?,
            client_max_window_bits: self.conclude_client_bits(offered.client_max_window_bits)?,
            server_window_was_offered: offered.server_max_window_bits < WINDOW_BITS_MAX,
        })
    }

    /// RFC 7692 §7.1.2.1: if offered, answered with the same or a smaller value.
    fn conclude_server_bits(self, offered: u8) -> Result<u8, NegotiationError> {
        let answered = self.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX);
        if answered <= offered { Ok(answered) } else { Err(NegotiationError::NotWhatWasOffered) }
    }

    /// RFC 7692 §7.1.2.2: an answer always has a value. Above our hint it changes nothing: we keep to the hint.
    fn conclude_client_bits(self, offered: u8) -> Result<u8, NegotiationError> {
        match self.client_max_window_bits {
            None => Ok(offered),
            Some(ClientBits::Askable) => Err(NegotiationError::InvalidParameter),
            Some(ClientBits::Limited(bits)) if bits < COMPRESS_WINDOW_BITS_MIN => {
                Err(NegotiationError::WindowUnsupported)
            }
            Some(ClientBits::Limited(bits)) => Ok(bits.min(offered)),
        }
    }
}

/// RFC 7692 §7.1.1: these parameters have no value.
fn set_flag(flag: &mut bool, value: Option<ParamValue<'_>>) -> Option<()> {
    if value.is_some() || *flag {
        return None;
    }
    *flag = true;
    Some(())
}

fn set_once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(value);
    Some(())
}

/// RFC 7692 §7.1.2: a decimal number without leading zeroes from 8 to 15.
fn window_bits(value: ParamValue<'_>) -> Option<u8> {
    value.to_number().filter(|bits| (WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(bits))
}

fn write_flag(name: &str, is_set: bool, out: &mut Vec<u8>) {
    if is_set {
        out.extend_from_slice(b"; ");
        out.extend_from_slice(name.as_bytes());
    }
}

fn write_bits(name: &str, bits: u8, out: &mut Vec<u8>) {
    write!(out, "; {name}={bits}").expect("writing to a Vec cannot fail");
}

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// Smallest window that can be named (RFC 7692 §7.1.2).
const WINDOW_BITS_MIN: u8 = 8;
/// Largest window, and the one that holds if none is named (RFC 7692 §7.1.2).
pub(super) const WINDOW_BITS_MAX: u8 = 15;
/// Smallest window zlib can compress a raw stream with: it takes 8 for 9, and would then reach too far back.
pub(super) const COMPRESS_WINDOW_BITS_MIN: u8 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: DeflateOptions = DeflateOptions {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    const DEDICATED: DeflateOptions =
        DeflateOptions { server_no_context_takeover: false, client_no_context_takeover: false, ..SHARED };
    const SMALL: DeflateOptions =
        DeflateOptions { server_max_window_bits: 11, client_max_window_bits: 10, ..DEDICATED };

    /// The answer as it goes on the wire, or "declined".
    fn answer(values: &[&str], options: &DeflateOptions) -> String {
        let Some(agreement) = accept_offer(values.iter().copied(), options) else {
            return "declined".into();
        };
        let mut out = Vec::new();
        write_answer(&agreement, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn offers_and_their_answers() {
        const PMD: &str = "permessage-deflate";
        let cases: &[(&DeflateOptions, &[&str], &str)] = &[
            // Nothing to accept.
            (&DEDICATED, &[], "declined"),
            (&DEDICATED, &[""], "declined"),
            (&DEDICATED, &["x-webkit-deflate-frame"], "declined"),
            // As browsers offer.
            (&DEDICATED, &["permessage-deflate; client_max_window_bits"], PMD),
            (
                &SHARED,
                &["permessage-deflate; client_max_window_bits"],
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            ),
            (&DEDICATED, &["PerMessage-Deflate; CLIENT_max_window_bits"], PMD),
            // Context takeover.
            (
                &DEDICATED,
                &["permessage-deflate; server_no_context_takeover"],
                "permessage-deflate; server_no_context_takeover",
            ),
            (
                &DEDICATED,
                &["permessage-deflate; client_no_context_takeover"],
                "permessage-deflate; client_no_context_takeover",
            ),
            (&DEDICATED, &["permessage-deflate; server_no_context_takeover=true"], "declined"),
            (&DEDICATED, &["permessage-deflate; client_no_context_takeover; client_no_context_takeover"], "declined"),
            // The server's window.
            (
                &DEDICATED,
                &["permessage-deflate; server_max_window_bits=10"],
                "permessage-deflate; server_max_window_bits=10",
            ),
            (
                &DEDICATED,
                &["permessage-deflate; server_max_window_bits=15"],
                "permessage-deflate; server_max_window_bits=15",
            ),
            (
                &SMALL,
                &["permessage-deflate; server_max_window_bits=15"],
                "permessage-deflate; server_max_window_bits=11",
            ),
            (&SMALL, &["permessage-deflate; server_max_window_bits=9"], "permessage-deflate; server_max_window_bits=9"),
            (&SMALL, &["permessage-deflate"], "permessage-deflate; server_max_window_bits=11"),
            (&DEDICATED, &["permessage-deflate; server_max_window_bits=8"], "declined"),
            (&DEDICATED, &["permessage-deflate; server_max_window_bits=8, permessage-deflate"], PMD),
            (&DEDICATED, &["permessage-deflate; server_max_window_bits"], "declined"),
            (&DEDICATED, &["permessage-deflate; server_max_window_bits=7"], "declined"),
            (&DEDICATED, &["permessage-deflate; server_max_window_bits=16"], "declined"),
            (&DEDICATED, &["permessage-deflate; server_max_window_bits=010"], "declined"),
            (&DEDICATED, &["permessage-deflate; server_max_window_bits=+9"], "declined"),
            (&DEDICATED, &["permessage-deflate; server_max_window_bits=10; server_max_window_bits=10"], "declined"),
            (
                &DEDICATED,
                &["permessage-deflate; server_max_window_bits=\"10\""],
                "permessage-deflate; server_max_window_bits=10",
            ),
            // The client's window.
            (
                &SMALL,
                &["permessage-deflate; server_max_window_bits=9; client_max_window_bits"],
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
            ),
            (
                &DEDICATED,
                &["permessage-deflate; client_max_window_bits=12"],
                "permessage-deflate; client_max_window_bits=12",
            ),
            (&DEDICATED, &["permessage-deflate; client_max_window_bits=15"], PMD),
            (
                &DEDICATED,
                &["permessage-deflate; client_max_window_bits=8"],
                "permessage-deflate; client_max_window_bits=8",
            ),
            (&DEDICATED, &["permessage-deflate; client_max_window_bits=7"], "declined"),
            (
                &DEDICATED,
                &["permessage-deflate; client_max_window_bits=\"\\1\\2\""],
                "permessage-deflate; client_max_window_bits=12",
            ),
            // Several offers, in one field and in many.
            (
                &DEDICATED,
                &["permessage-deflate; unknown, permessage-deflate; server_no_context_takeover"],
                "permessage-deflate; server_no_context_takeover",
            ),
            (&DEDICATED, &["foo; a=b", "permessage-deflate; x=1", "bar, permessage-deflate"], PMD),
            (&DEDICATED, &["permessage-deflate; x, permessage-deflate; y"], "declined"),
            // What is no list is no offer.
            (&DEDICATED, &["permessage-deflate; server_max_window_bits="], "declined"),
            (&DEDICATED, &["=, permessage-deflate"], "declined"),
        ];
        for (options, values, want) in cases {
            assert_eq!(answer(values, options), *want, "{values:?} for {options:?}");
        }
    }

    #[test]
    fn a_client_that_was_not_asked_may_use_the_whole_window() {
        let agreement = accept_offer(["permessage-deflate"], &SMALL).unwrap();
        assert_eq!(agreement.client_max_window_bits, 15);
        let agreement = accept_offer(["permessage-deflate; client_max_window_bits"], &SMALL).unwrap();
        assert_eq!(agreement.client_max_window_bits, 10);
    }

    fn offer(options: &DeflateOptions) -> String {
        let mut out = Vec::new();
        write_offer(options, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn offers_as_a_client_writes_them() {
        let cases = [
            (
                SHARED,
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
            ),
            (DEDICATED, "permessage-deflate; client_max_window_bits"),
            (SMALL, "permessage-deflate; server_max_window_bits=11; client_max_window_bits=10"),
            (
                DeflateOptions { server_max_window_bits: 8, client_max_window_bits: 0, ..DEDICATED },
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
            ),
        ];
        for (options, want) in cases {
            assert_eq!(offer(&options), want);
        }
    }

    #[test]
    fn answers_and_what_a_client_makes_of_them() {
        use NegotiationError::*;
        type Want = Result<Option<(bool, bool, u8, u8)>, NegotiationError>;
        let cases: &[(Option<&DeflateOptions>, &[&str], Want)] = &[
            (None, &[], Ok(None)),
            (Some(&DEDICATED), &[], Ok(None)),
            (Some(&DEDICATED), &["permessage-deflate"], Ok(Some((false, false, 15, 15)))),
            (
                Some(&DEDICATED),
                &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
                Ok(Some((true, true, 15, 15))),
            ),
            (
                Some(&DEDICATED),
                &["permessage-deflate; server_max_window_bits=8; client_max_window_bits=9"],
                Ok(Some((false, false, 8, 9))),
            ),
            (Some(&SMALL), &["permessage-deflate; server_max_window_bits=11"], Ok(Some((false, false, 11, 10)))),
            (
                Some(&SMALL),
                &["permessage-deflate; server_max_window_bits=9; client_max_window_bits=15"],
                Ok(Some((false, false, 9, 10))),
            ),
            (Some(&SHARED), &["permessage-deflate; server_no_context_takeover"], Ok(Some((true, true, 15, 15)))),
            // Everything a client must not accept.
            (None, &["permessage-deflate"], Err(NotOffered)),
            (Some(&DEDICATED), &["x-foo"], Err(NotOffered)),
            (Some(&DEDICATED), &["permessage-deflate, permessage-deflate"], Err(Repeated)),
            (Some(&DEDICATED), &["permessage-deflate", "permessage-deflate"], Err(Repeated)),
            (Some(&DEDICATED), &["permessage-deflate; unknown"], Err(InvalidParameter)),
            (Some(&DEDICATED), &["permessage-deflate; client_max_window_bits"], Err(InvalidParameter)),
            (Some(&DEDICATED), &["permessage-deflate; client_max_window_bits=16"], Err(InvalidParameter)),
            (Some(&DEDICATED), &["permessage-deflate; server_no_context_takeover=1"], Err(InvalidParameter)),
            (Some(&DEDICATED), &["permessage-deflate; client_max_window_bits=8"], Err(WindowUnsupported)),
            (Some(&DEDICATED), &["permessage-deflate; ="], Err(Malformed)),
            (Some(&SMALL), &["permessage-deflate"], Err(NotWhatWasOffered)),
            (Some(&SMALL), &["permessage-deflate; server_max_window_bits=12"], Err(NotWhatWasOffered)),
            (Some(&SHARED), &["permessage-deflate"], Err(NotWhatWasOffered)),
        ];
        for (offered, values, want) in cases {
            let got = check_answer(values.iter().copied(), *offered).map(|agreement| {
                agreement.map(|agreed| {
                    (
                        agreed.server_no_context_takeover,
                        agreed.client_no_context_takeover,
                        agreed.server_max_window_bits,
                        agreed.client_max_window_bits,
                    )
                })
            });
            assert_eq!(got, *want, "{values:?} to {offered:?}");
        }
    }

    #[test]
    fn our_client_and_our_server_agree_whatever_they_want() {
        let every_options = || {
            (0..4u8).flat_map(|flags| {
                (8..=15).flat_map(move |server| {
                    (8..=15).map(move |client| DeflateOptions {
                        server_no_context_takeover: flags & 1 != 0,
                        client_no_context_takeover: flags & 2 != 0,
                        server_max_window_bits: server,
                        client_max_window_bits: client,
                    })
                })
            })
        };
        for wanted in every_options() {
            let offer = offer(&wanted);
            for options in every_options() {
                let served = accept_offer([offer.as_str()], &options).unwrap();
                let answer = answer(&[&offer], &options);
                let concluded = check_answer([answer.as_str()], Some(&wanted)).unwrap().unwrap();
                assert_eq!(concluded, served, "{offer} answered {answer}");
            }
        }
    }
}
