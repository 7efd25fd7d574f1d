//! One session: records in, plaintext out, and back.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, HandshakeKind, ProtocolVersion};

use super::drive::{Outgoing, Pumped, REFUSED_HEADER, pump, send, without_alert};
use super::error::{Misuse, TlsError};
use super::facts::{TlsFacts, TlsVersion};
use super::record::{self, BadHeader, RECORD_BYTES_MAX};
use super::server::take_asked_name;

/// One TLS session, as server or as client.
///
/// Bytes go in and out through the caller's buffers: see [`Session::read`].
///
/// At rest, as server, it keeps 3.5 KB of heap in TLS 1.3 and 3.4 KB in TLS 1.2 with AES-256-GCM (glibc, allocator
/// overhead included): about 1,250 bytes are the expanded keys of both directions inside the crypto library,
/// 1,088 rustls's own state, and 640 room for sixteen handshake messages, which rustls never gives back.
/// `tests/tls_memory.rs` measures it.
pub struct Session {
    role: Role,
    phase: Phase,
    /// Records of a handshake message that is not whole yet, as rustls left them: decrypted in place and moved
    /// together. It knows them by their place in the buffer, so they are shown to it again at every call. Empty,
    /// without an allocation, at all other times.
    held: Vec<u8>,
    /// What the client asked for (RFC 6066 §3).
    asked_name: Option<Box<str>>,
}

/// What came out of one [`Session::read`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of `input`, from its front, that are done with. The caller keeps the rest.
    pub consumed: usize,
    /// The peer has sent `close_notify`, now or earlier: no plaintext will follow (RFC 8446 §6.1).
    pub peer_closed: bool,
    /// The handshake has finished in this very call.
    pub handshake_finished: bool,
}

enum Role {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// How far a session has come; rustls itself knows handshake and traffic apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing whole was received: it may still turn out not to be TLS.
    Unheard,
    /// Both directions are open.
    Open,
    /// The peer has sent `close_notify`.
    PeerClosed,
    /// We have sent `close_notify`; the peer may go on (RFC 8446 §6.1).
    WeClosed,
    /// Both have.
    BothClosed,
    /// An error ended it.
    Failed,
}

impl Session {
    /// What a server's session at rest is known to hold on the heap, in bytes; `tests/tls_memory.rs` measures it.
    pub const IDLE_BYTES: usize = 3_500;

    pub(super) fn server(connection: UnbufferedServerConnection) -> Self {
        Self::new(Role::Server(Box::new(connection)))
    }

    pub(super) fn client(connection: UnbufferedClientConnection) -> Self {
        Self::new(Role::Client(Box::new(connection)))
    }

    fn new(role: Role) -> Self {
        Self { role, phase: Phase::Unheard, held: Vec::new(), asked_name: None }
    }

    /// Consumes the whole records at the front of `input`, appends the application data in them to `plaintext`, and
    /// appends to `reply` what must be sent to the peer: handshake messages, tickets, alerts.
    ///
    /// `input` may be cut anywhere, and is decrypted in place: what lies before [`Progress::consumed`] is garbage
    /// afterwards, what lies behind it is untouched. The caller moves the rest to the front, puts what it receives
    /// next behind it, and calls again. With room for [`RECORD_BYTES_MAX`](super::RECORD_BYTES_MAX) there is always
    /// progress. A client's first call, with empty input, appends its ClientHello to `reply`.
    ///
    /// A request for new keys (KeyUpdate, RFC 8446 §4.6.3) is answered in front of the next record that is
    /// written, which is when the RFC demands it. What follows the peer's `close_notify` is consumed and ignored
    /// (RFC 8446 §6.1). The end of the stream without it is for the caller to see: data may have been cut off.
    ///
    /// # Errors
    ///
    /// Whatever [`TlsError`] says of the peer. `plaintext` then holds what was received before the fault and
    /// `reply` ends with the alert; send it and close. Every later call is refused with
    /// [`Misuse::AlreadyFailed`].
    pub fn read(
        &mut self,
        input: &mut [u8],
        plaintext: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<Progress, TlsError> {
        let was_handshaking = self.is_handshaking();
        let consumed = match self.phase {
            Phase::Failed => return Err(Misuse::AlreadyFailed.into()),
            Phase::PeerClosed | Phase::BothClosed => input.len(),
            Phase::Unheard if record::looks_like_http(input) => {
                self.fail();
                return Err(TlsError::PlainHttp);
            }
            Phase::Unheard | Phase::Open | Phase::WeClosed => {
                self.read_records(input, plaintext, reply).inspect_err(|_| self.fail())?
            }
        };
        Ok(Progress {
            consumed,
            peer_closed: self.is_peer_closed(),
            handshake_finished: was_handshaking && !self.is_handshaking(),
        })
    }

    /// Encrypts `plaintext` into as many records as it takes, appended to `ciphertext`. Nothing makes no record.
    ///
    /// # Errors
    ///
    /// [`TlsError::Misuse`] before the handshake has finished, after [`Session::close_notify`] and after an error;
    /// [`TlsError::KeysUsedUp`] when a TLS 1.2 session must end (`ciphertext` then holds its `close_notify`).
    pub fn write(&mut self, plaintext: &[u8], ciphertext: &mut Vec<u8>) -> Result<(), TlsError> {
        match self.phase {
            Phase::Failed => return Err(Misuse::AlreadyFailed.into()),
            Phase::WeClosed | Phase::BothClosed => return Err(Misuse::AlreadyClosed.into()),
            Phase::Unheard | Phase::Open | Phase::PeerClosed => {}
        }
        if self.is_handshaking() {
            return Err(Misuse::StillHandshaking.into());
        }
        if plaintext.is_empty() {
            return Ok(());
        }
        let sent = match &mut self.role {
            Role::Server(connection) => send(&mut **connection, &mut self.held, Outgoing::Data(plaintext), ciphertext),
            Role::Client(connection) => send(&mut **connection, &mut self.held, Outgoing::Data(plaintext), ciphertext),
        };
        sent.inspect_err(|_| self.fail())
    }

    /// Appends a `close_notify` alert: nothing more will be written (RFC 8446 §6.1). Reading goes on.
    ///
    /// Appends nothing the second time, after an error, and before the handshake has finished, when there is no
    /// stream yet that could be cut off unnoticed.
    pub fn close_notify(&mut self, ciphertext: &mut Vec<u8>) {
        let closed = match self.phase {
            Phase::Open => Phase::WeClosed,
            Phase::PeerClosed => Phase::BothClosed,
            Phase::Unheard | Phase::WeClosed | Phase::BothClosed | Phase::Failed => return,
        };
        if self.is_handshaking() {
            return;
        }
        let sent = match &mut self.role {
            Role::Server(connection) => send(&mut **connection, &mut self.held, Outgoing::CloseNotify, ciphertext),
            Role::Client(connection) => send(&mut **connection, &mut self.held, Outgoing::CloseNotify, ciphertext),
        };
        self.phase = if sent.is_ok() { closed } else { Phase::Failed };
    }

    /// Whether application data cannot be written yet.
    pub fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// What the handshake has agreed on so far.
    pub fn facts(&self) -> TlsFacts {
        let common = self.common();
        TlsFacts {
            version: match common.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => Some(TlsVersion::Tls12),
                Some(ProtocolVersion::TLSv1_3) => Some(TlsVersion::Tls13),
                _ => None,
            },
            cipher_suite: common.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()),
            alpn: common.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            sni: self.asked_name.as_deref().map(str::to_owned),
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            peer_chain: common
                .peer_certificates()
                .map(|chain| chain.iter().map(|certificate| certificate.to_vec()).collect())
                .unwrap_or_default(),
        }
    }

    /// Reads what is whole and returns its length.
    fn read_records(
        &mut self,
        input: &mut [u8],
        plaintext: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let (whole_len, fault) = record::whole_len(input);
        if self.phase == Phase::Unheard {
            // A client speaks first; a server has nothing to say.
            self.pump(&mut [], plaintext, reply)?;
        }
        let mut unread = &mut input[..whole_len];
        while !unread.is_empty() {
            let read_len = if self.held.is_empty() {
                self.read_in_place(unread, plaintext, reply)?
            } else {
                self.read_held(unread, plaintext, reply)?
            };
            unread = &mut unread[read_len..];
        }
        if self.is_peer_closed() {
            return Ok(input.len());
        }
        match fault {
            None => Ok(whole_len),
            Some(fault) => Err(self.refuse(fault, reply)),
        }
    }

    /// Reads all of `records`, and keeps what rustls still needs of them.
    fn read_in_place(
        &mut self,
        records: &mut [u8],
        plaintext: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let done_len = self.pump(records, plaintext, reply)?;
        if !self.is_peer_closed() {
            self.held.extend_from_slice(&records[done_len..]);
        }
        Ok(records.len())
    }

    /// Reads one record behind those that are kept.
    fn read_held(&mut self, records: &[u8], plaintext: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<usize, TlsError> {
        let Ok(Some(record_len)) = record::first_len(records) else {
            return Err(TlsError::Internal("half a record where only whole ones come".to_owned()));
        };
        if self.held.len() + record_len > HELD_BYTES_MAX {
            self.answer_refusal(reply);
            return Err(TlsError::HandshakeTooLong { bytes_max: HELD_BYTES_MAX });
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(&records[..record_len]);
        let done_len = self.pump(&mut held, plaintext, reply)?;
        if done_len < held.len() && !self.is_peer_closed() {
            held.drain(..done_len);
            self.held = held;
        }
        Ok(record_len)
    }

    /// Lets rustls read `records` to where it waits for more; returns how much of them it is done with.
    fn pump(&mut self, records: &mut [u8], plaintext: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<usize, TlsError> {
        let reply_start = reply.len();
        let mut read = || match &mut self.role {
            Role::Server(connection) => pump(&mut **connection, records, plaintext, reply),
            Role::Client(connection) => pump(&mut **connection, records, plaintext, reply),
        };
        let pumped = if self.phase == Phase::WeClosed {
            let pumped = without_alert(read);
            // Nothing may follow our close_notify, not even an alert (RFC 8446 §6.1).
            reply.truncate(reply_start);
            pumped
        } else {
            read()
        };
        if let Some(name) = take_asked_name() {
            self.asked_name = Some(name);
        }
        let Pumped { done_len, peer_closed } = pumped?;
        self.phase = match self.phase {
            Phase::Unheard if records.is_empty() => Phase::Unheard,
            Phase::Unheard | Phase::Open if peer_closed => Phase::PeerClosed,
            Phase::Unheard | Phase::Open => Phase::Open,
            Phase::WeClosed if peer_closed => Phase::BothClosed,
            Phase::WeClosed => Phase::WeClosed,
            Phase::PeerClosed => Phase::PeerClosed,
            Phase::BothClosed => Phase::BothClosed,
            Phase::Failed => Phase::Failed,
        };
        Ok(done_len)
    }

    /// Answers a bad header with an alert.
    fn refuse(&mut self, fault: BadHeader, reply: &mut Vec<u8>) -> TlsError {
        self.answer_refusal(reply);
        match fault {
            BadHeader::NotTls if self.phase == Phase::Unheard => TlsError::NotTls,
            BadHeader::NotTls => TlsError::Violation("not the header of a record".to_owned()),
            BadHeader::TooLong { record_len } => TlsError::RecordTooLong { record_len },
        }
    }

    /// Has rustls write the `decode_error` alert: only it can encrypt one.
    fn answer_refusal(&mut self, reply: &mut Vec<u8>) {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(&REFUSED_HEADER);
        let refused = self.pump(&mut held, &mut Vec::new(), reply);
        debug_assert!(refused.is_err());
    }

    /// Ends it. Whoever fails needs no memory any more.
    fn fail(&mut self) {
        self.phase = Phase::Failed;
        self.held = Vec::new();
    }

    fn is_peer_closed(&self) -> bool {
        matches!(self.phase, Phase::PeerClosed | Phase::BothClosed)
    }

    fn common(&self) -> &CommonState {
        match &self.role {
            Role::Server(connection) => connection,
            Role::Client(connection) => connection,
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("phase", &self.phase).finish_non_exhaustive()
    }
}

const _: () = {
    // A session is a part of its connection's box, and takes no more than a cache line there.
    assert!(size_of::<Session>() <= 64);
    // The second record of a message must fit behind the first.
    assert!(HELD_BYTES_MAX >= 2 * RECORD_BYTES_MAX);
};

/// Most bytes of records kept for one handshake message. rustls takes messages of up to 64 KiB; a peer that cuts
/// one into specks is not worth more than that.
const HELD_BYTES_MAX: usize = 80 << 10;
