//! The TLS layer of one connection: what rustls keeps, ciphertext that waits to be written, a record cut by a read.

use super::outbox::Outbox;
use crate::tls::{Session, TlsError};

/// A TLS session with its two edges.
pub(super) struct Secure {
    session: Session,
    /// Records that wait to be written. Plaintext is sealed only when this is empty, so that what is queued can
    /// still be dropped or replaced before it is encrypted.
    cipher: Outbox,
    /// A record that a read cut.
    cut: Vec<u8>,
    close_notified: bool,
}

/// What a read told beside its plaintext.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The peer said that it sends no more (close_notify, RFC 8446 §6.1): treat it as the end of input.
    pub peer_closed: bool,
}

impl Secure {
    pub(super) fn new(session: Session) -> Self {
        Self { session, cipher: Outbox::default(), cut: Vec::new(), close_notified: false }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn cipher(&mut self) -> &mut Outbox {
        &mut self.cipher
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.cipher.queued_bytes()
    }

    /// Whether a read ended within a record.
    #[cfg(test)]
    pub(super) fn is_mid_record(&self) -> bool {
        !self.cut.is_empty()
    }

    /// The session and a record that a read cut, this value included.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + Session::IDLE_BYTES + self.cut.capacity()
    }

    /// Ciphertext that waits to be written.
    pub(super) fn queue_heap_bytes(&self) -> usize {
        self.cipher.heap_bytes()
    }

    /// Decrypts what arrived behind `plaintext`. On error the alert is queued already.
    pub(super) fn open(&mut self, arrived: &mut [u8], plaintext: &mut Vec<u8>) -> Result<Opened, TlsError> {
        let Self { session, cipher, cut, .. } = self;
        let mut result = Ok(Opened { peer_closed: false });
        cipher.append(|reply| {
            result = if cut.is_empty() {
                session.read(arrived, plaintext, reply).map(|progress| {
                    cut.extend_from_slice(&arrived[progress.consumed..]);
                    Opened { peer_closed: progress.peer_closed }
                })
            } else {
                cut.extend_from_slice(arrived);
                session.read(cut, plaintext, reply).map(|progress| {
                    cut.drain(..progress.consumed);
                    Opened { peer_closed: progress.peer_closed }
                })
            };
        });
        if cut.is_empty() {
            *cut = Vec::new();
        }
        result
    }

    /// Seals what waits in `plain`, a bounded amount at a time, if no earlier ciphertext waits.
    pub(super) fn seal(&mut self, plain: &mut Outbox) -> Result<(), TlsError> {
        if !self.cipher.is_empty() || self.session.is_handshaking() {
            return Ok(());
        }
        while !plain.is_empty() && self.cipher.queued_bytes() < SEALED_BYTES_MAX {
            let front = plain.front();
            let len = front.len().min(SEALED_BYTES_MAX);
            let (session, cipher) = (&mut self.session, &mut self.cipher);
            let mut result = Ok(());
            cipher.append(|buf| result = session.write(&front[..len], buf));
            result?;
            plain.advance(len);
        }
        Ok(())
    }

    /// Gives memory back once everything is written: an idle session keeps none for ciphertext.
    pub(super) fn release_if_idle(&mut self) {
        if self.cipher.is_empty() && self.cipher.heap_bytes() > 0 {
            self.cipher = Outbox::default();
        }
    }

    /// Says once that we send no more (close_notify).
    pub(super) fn close(&mut self) {
        if !self.close_notified {
            self.close_notified = true;
            let (session, cipher) = (&mut self.session, &mut self.cipher);
            cipher.append(|buf| session.close_notify(buf));
        }
    }
}

/// Ciphertext made ahead of the socket, at most about this much.
const SEALED_BYTES_MAX: usize = 128 << 10;
