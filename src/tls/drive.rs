//! Steps rustls from one state to the next, in either role, until it waits for somebody else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};

use super::error::TlsError;
use super::record::PLAINTEXT_LEN_MAX;

/// What the two roles of rustls have in common.
pub(super) trait Connection {
    type Data;
    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn has_reply(&self) -> bool;
}

impl Connection for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }
    fn has_reply(&self) -> bool {
        self.wants_write()
    }
}

impl Connection for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }
    fn has_reply(&self) -> bool {
        self.wants_write()
    }
}

pub(super) struct Pumped {
    /// Bytes at the front that rustls needs no longer.
    pub(super) done_len: usize,
    pub(super) peer_closed: bool,
}

/// Steps rustls until it waits for more. On failure, collects the alert.
pub(super) fn pump<C: Connection>(
    connection: &mut C,
    records: &mut [u8],
    plaintext: &mut Vec<u8>,
    reply: &mut Vec<u8>,
) -> Result<Pumped, TlsError> {
    let mut pumped = Pumped { done_len: 0, peer_closed: false };
    loop {
        let status = connection.process(&mut records[pumped.done_len..]);
        pumped.done_len += status.discard;
        match status.state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(TlsError::from_rustls)?;
                    plaintext.extend_from_slice(record.payload);
                    pumped.done_len += record.discard;
                }
            }
            Ok(ConnectionState::EncodeTlsData(message)) => encode(message, reply),
            Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
            Ok(ConnectionState::PeerClosed) => pumped.peer_closed = true,
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                return Ok(pumped);
            }
            Ok(ConnectionState::ReadEarlyData(_)) => {
                return Err(unexpected("early data, which is never accepted"));
            }
            Ok(_) => return Err(unexpected("a state that rustls did not have")),
            Err(error) => {
                answer(connection, &error, &records[pumped.done_len..], reply);
                return Err(TlsError::from_rustls(error));
            }
        }
    }
}

/// Reads when the alert that a fault would cause can no longer be sent.
///
/// rustls asserts, in debug builds only, that no alert follows `close_notify`, and a peer can cause one.
pub(super) fn without_alert(read: impl FnOnce() -> Result<Pumped, TlsError>) -> Result<Pumped, TlsError> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(TlsError::Violation("a faulty record after our close_notify".to_owned())))
}

/// Collects the alert for `error`. Where rustls fails without one, it is shown what it does send an alert for.
///
/// `rest` is what rustls still needs of the records. It remembers messages by their place there, so the noise that
/// it is shown is as long, and longer by the header that it will refuse.
fn answer<C: Connection>(connection: &mut C, error: &rustls::Error, rest: &[u8], reply: &mut Vec<u8>) {
    let is_told = connection.has_reply() || matches!(error, rustls::Error::AlertReceived(_));
    if !is_told {
        let mut noise = vec![NOISE; rest.len() + REFUSED_HEADER.len()];
        for _ in 0..ANSWER_STEPS_MAX {
            let is_failed = connection.process(&mut noise).state.is_err();
            if !is_failed || connection.has_reply() {
                break;
            }
        }
    }
    collect(connection, reply);
}

/// Takes what rustls has queued before it failed, its alert last.
///
/// It must not come as far as reading: the records it remembers are not shown to it any more.
fn collect<C: Connection>(connection: &mut C, reply: &mut Vec<u8>) {
    while connection.has_reply() {
        match connection.process(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(message)) => encode(message, reply),
            // Plaintext comes before it, and was taken already.
            _ => return,
        }
    }
}

fn encode<D>(mut message: EncodeTlsData<'_, D>, reply: &mut Vec<u8>) {
    let start = reply.len();
    if let Err(EncodeError::InsufficientSize(lack)) = message.encode(&mut []) {
        reply.resize(start + lack.required_size, 0);
        let encoded = message.encode(&mut reply[start..]);
        debug_assert!(encoded.is_ok());
    }
}

/// What is to be encrypted.
#[derive(Clone, Copy)]
pub(super) enum Outgoing<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

impl Outgoing<'_> {
    /// Bytes of ciphertext that suffice, unless an answer to a KeyUpdate goes first.
    fn ciphertext_len(self) -> usize {
        match self {
            Self::Data(plaintext) => plaintext.len() + plaintext.len().div_ceil(PLAINTEXT_LEN_MAX) * RECORD_GROWTH_LEN,
            Self::CloseNotify => RECORD_GROWTH_LEN,
        }
    }
}

/// Encrypts behind `ciphertext`, from the state in which rustls waits for nothing.
pub(super) fn send<C: Connection>(
    connection: &mut C,
    held: &mut [u8],
    what: Outgoing<'_>,
    ciphertext: &mut Vec<u8>,
) -> Result<(), TlsError> {
    loop {
        match connection.process(held).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                return append(ciphertext, what.ciphertext_len(), |out| match what {
                    Outgoing::Data(plaintext) => traffic.encrypt(plaintext, out),
                    Outgoing::CloseNotify => traffic.queue_close_notify(out),
                });
            }
            Ok(ConnectionState::EncodeTlsData(message)) => encode(message, ciphertext),
            Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
            Ok(_) => return Err(unexpected("no state to write in")),
            Err(error) => return Err(TlsError::from_rustls(error)),
        }
    }
}

/// Lets `encrypt` write behind `ciphertext`, giving it more room if `len` bytes do not suffice.
fn append(
    ciphertext: &mut Vec<u8>,
    mut len: usize,
    mut encrypt: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), TlsError> {
    let start = ciphertext.len();
    loop {
        ciphertext.resize(start + len, 0);
        match encrypt(&mut ciphertext[start..]) {
            Ok(written_len) => {
                ciphertext.truncate(start + written_len);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(lack)) if lack.required_size > len => len = lack.required_size,
            Err(EncryptError::InsufficientSize(_)) => {
                return Err(unexpected("a size that is not enough"));
            }
            Err(EncryptError::EncryptExhausted) => {
                ciphertext.truncate(start);
                return Err(TlsError::KeysUsedUp);
            }
        }
    }
}

fn unexpected(what: &str) -> TlsError {
    TlsError::Internal(format!("rustls came up with {what}"))
}

/// Header, explicit nonce of TLS 1.2 or inner content type of TLS 1.3, and tag: 29 or 22 bytes (RFC 5288 §3,
/// RFC 8446 §5.2). Also enough for an alert of two bytes.
const RECORD_GROWTH_LEN: usize = 32;

/// A header that no record layer accepts: it makes ours answer with a `decode_error` alert.
pub(super) const REFUSED_HEADER: [u8; 5] = [NOISE; 5];

/// No content type, no version and no acceptable length.
const NOISE: u8 = 0xff;

/// Most failures of rustls in a row before an alert is given up: it fails once for each message in the record, and
/// one record may hold thousands.
const ANSWER_STEPS_MAX: usize = 64;
