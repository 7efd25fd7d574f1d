//! A TCP connection: bytes on their way in both directions, and what comes behind them.

use std::collections::VecDeque;

/// Both ways between a client and its core. What has not been read yet has not arrived, so whoever decides when to read
/// decides how long it takes.
pub(super) struct Link {
    /// To the core. What is put here must be told by [`Link::arrive`].
    pub(super) up: VecDeque<u8>,
    pub(super) up_end: End,
    /// To the client: the core's send buffer, the network and the client's receive buffer in one.
    pub(super) down: VecDeque<u8>,
    pub(super) down_end: End,
    /// Bytes that `down` takes.
    down_bytes_max: usize,
    /// How often something has come to the core: bytes, a FIN, a reset. That is when a set that watches is told.
    pub(super) arrivals: u64,
    /// How often there was room for the core's bytes again, after there had been none.
    pub(super) vacancies: u64,
    /// Nobody will read `down` any more.
    pub(super) client_is_gone: bool,
    /// The core has closed its socket.
    pub(super) server_is_gone: bool,
}

/// What follows behind the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// More, perhaps.
    Open,
    Fin,
    /// Known at once, before the bytes.
    Reset,
}

/// Why a socket takes nothing any more.
pub(super) struct Broken;

impl Link {
    pub(super) fn new(down_bytes_max: usize) -> Self {
        Self {
            up: VecDeque::new(),
            up_end: End::Open,
            down: VecDeque::new(),
            down_end: End::Open,
            down_bytes_max,
            arrivals: 0,
            vacancies: 0,
            client_is_gone: false,
            server_is_gone: false,
        }
    }

    /// Bytes that the core's socket takes now.
    pub(super) fn room(&self) -> usize {
        self.down_bytes_max.saturating_sub(self.down.len())
    }

    /// Bytes come to the core.
    pub(super) fn arrive(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.up.extend(bytes);
            self.arrivals += 1;
        }
    }

    /// The client sends no more.
    pub(super) fn finish(&mut self) {
        self.up_end = End::Fin;
        self.arrivals += 1;
    }

    /// At most so many bytes come to the client.
    pub(super) fn take(&mut self, bytes_max: usize) -> Vec<u8> {
        let had_room = self.room() > 0;
        let len = bytes_max.min(self.down.len());
        let bytes = self.down.drain(..len).collect();
        self.vacancies += u64::from(!had_room && self.room() > 0);
        bytes
    }

    /// From now on there is room for so much.
    pub(super) fn narrow(&mut self, down_bytes_max: usize) {
        self.down_bytes_max = down_bytes_max;
    }

    /// From now on there is room for whatever comes.
    pub(super) fn widen(&mut self) {
        if !self.client_is_gone {
            self.vacancies += u64::from(self.room() == 0);
            self.down_bytes_max = usize::MAX;
        }
    }

    /// Whether the core's socket says that it is readable.
    pub(super) fn is_readable(&self) -> bool {
        !self.up.is_empty() || self.up_end != End::Open
    }

    /// The core writes; answers how much was taken.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        if self.up_end == End::Reset {
            return Err(Broken);
        }
        let len = bytes.len().min(self.room());
        self.down.extend(&bytes[..len]);
        Ok(len)
    }

    /// The core closes its socket. What it has not read by then makes that a reset, which may destroy what is under way.
    pub(super) fn close_by_server(&mut self) {
        self.server_is_gone = true;
        if !self.up.is_empty() || self.down_end == End::Open {
            self.down_end = End::Reset;
            self.down.clear();
        }
        self.up.clear();
    }

    /// The client's machine has closed the socket, with a FIN or a reset.
    pub(super) fn close_by_client(&mut self, end: End) {
        self.up_end = end;
        self.arrivals += 1;
        self.client_is_gone = true;
        if end == End::Reset {
            self.up.clear();
        }
    }

    /// The client's machine is gone without a word: nobody acknowledges anything any more.
    pub(super) fn vanish(&mut self) {
        self.client_is_gone = true;
        self.down_bytes_max = 0;
    }
}
