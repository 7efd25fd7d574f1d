//! What the epoll set watches the sockets of connections for.

use super::super::kernel::{Interest, Token};
use super::{Shard, Temperature};
use crate::handler::Handler;

/// What the epoll set watches a socket for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Watched {
    /// It is not in the set.
    #[default]
    Nothing,
    For(Interest),
    /// It is, and something was left in it, which the set does not report again by itself.
    Stale,
}

impl<H: Handler> Shard<H> {
    /// Watches for what the connection can use now.
    pub(super) fn update_interest(&mut self, index: u32) {
        let wants_input = self.state.core().wants_input(index);
        let Some(socket) = self.sockets.get(index).filter(|socket| socket.fd.is_some()) else { return };
        let output = socket.blocked;
        match socket.temperature {
            Temperature::Cold => self.set_interest(index, Interest { input: wants_input, output }),
            // Its input comes through the ring.
            Temperature::Hot(_) if output => self.set_interest(index, Interest { input: false, output: true }),
            Temperature::Hot(_) => self.unwatch(index),
        }
    }

    pub(super) fn set_interest(&mut self, index: u32, interest: Interest) {
        let token = Token::Connection { index, generation: self.state.core().generation(index) };
        let socket = &mut self.sockets[index];
        let Some(fd) = &socket.fd else { return };
        let result = match socket.watched {
            Watched::For(watched) if watched == interest => return,
            Watched::For(_) | Watched::Stale => self.epoll.modify(fd, token, interest),
            Watched::Nothing => self.epoll.add(fd, token, interest),
        };
        match result {
            Ok(()) => socket.watched = Watched::For(interest),
            Err(error) => {
                // Only memory or the limit of watches can be missing; unwatched, the peer would hang for ever.
                tracing::warn!(%error, "a connection cannot be watched and is dropped");
                self.state.handle_reset(index);
            }
        }
    }

    /// Has what is left in the socket reported, now or as soon as it may be read.
    pub(super) fn watch_anew(&mut self, index: u32) {
        let socket = &mut self.sockets[index];
        if socket.watched != Watched::Nothing {
            socket.watched = Watched::Stale;
            self.update_interest(index);
        }
    }

    pub(super) fn unwatch(&mut self, index: u32) {
        let socket = &mut self.sockets[index];
        if let (Watched::For(_) | Watched::Stale, Some(fd)) = (socket.watched, &socket.fd) {
            let _ = self.epoll.delete(fd);
            socket.watched = Watched::Nothing;
        }
    }
}
