//! How much memory a connection holds, and why.

use std::ops::AddAssign;

/// Bytes of memory beyond a connection's own record, by what they are there for.
///
/// Payloads that many connections have in their queues are not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Input that is not whole yet, or waits for the end of a pause.
    pub input: usize,
    /// What waits to be sent, ciphertext included.
    pub queue: usize,
    /// The TLS session, as far as it is known; see `tls::Session::IDLE_BYTES`.
    pub tls: usize,
    /// Compression contexts of the connection's own, by what they are known to hold.
    pub deflate: usize,
}

impl Memory {
    /// All of it.
    pub fn total(self) -> usize {
        let Self { input, queue, tls, deflate } = self;
        input + queue + tls + deflate
    }
}

impl AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        let Self { input, queue, tls, deflate } = other;
        self.input += input;
        self.queue += queue;
        self.tls += tls;
        self.deflate += deflate;
    }
}
