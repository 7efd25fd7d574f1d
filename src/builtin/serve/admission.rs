//! Who may connect, and as whom.

use std::net::IpAddr;
use std::num::NonZeroU32;

use crate::auth::{Identity, TopicGrant, UnixSeconds, Verifier};
use crate::rate::Rate;
use crate::wire::ErrorCode;

use super::access::{Failure, User};
use super::seats::{Full, Seat, Seats};

/// What `corewire serve` demands of clients before they may do anything. One value serves all cores; a new one takes its
/// place whole when it is cast to the handlers ([`Handle::cast`](crate::server::Handle::cast)).
#[derive(Clone, Debug)]
pub struct Admission {
    /// What tokens are checked with. `None`: there are no keys, and every token is refused.
    pub verifier: Option<Verifier>,
    /// Whether clients may connect without a token. What they may do then, their namespaces say.
    pub anonymous: bool,
    /// How fast one connection may send messages. `None`: as fast as it can.
    pub message_rate: Option<Rate>,
    /// Most connections of one user, over all cores. `None`: no limit.
    pub connections_per_user_max: Option<NonZeroU32>,
    /// Most connections from one address, over all cores; IPv6 addresses count by their first 64 bits. `None`: no limit.
    pub connections_per_address_max: Option<NonZeroU32>,
    /// Who is there. What takes this one's place has a clone of it.
    pub seats: Seats,
}

impl Default for Admission {
    /// Everybody may come, and nobody has a token.
    fn default() -> Self {
        Self {
            verifier: None,
            anonymous: true,
            message_rate: None,
            connections_per_user_max: None,
            connections_per_address_max: None,
            seats: Seats::default(),
        }
    }
}

impl Admission {
    /// One more connection from the address that is known of it.
    pub(super) fn seat_at(&self, address: Option<IpAddr>) -> Result<Option<Box<Seat>>, Full> {
        let seat = address.map(|address| self.seats.of_address(address, self.connections_per_address_max));
        seat.transpose().map(Option::flatten)
    }

    /// For a connection without a token.
    pub(super) fn anonymous(&self) -> Result<(), Failure> {
        match self.anonymous {
            true => Ok(()),
            false => Err(Failure::new(ErrorCode::TokenRequired, "this server takes no connection without a token")),
        }
    }

    /// Who has this token, which is one for connecting.
    pub(super) fn user(&self, token: &str, now: UnixSeconds) -> Result<User, Failure> {
        Ok(User::new(self.verifier()?.connection(token, now)?))
    }

    /// A newer token of the same user.
    pub(super) fn refresh(&self, token: &str, user: &str, now: UnixSeconds) -> Result<Identity, Failure> {
        Ok(self.verifier()?.refresh(token, user, now)?)
    }

    /// A token for one topic.
    pub(super) fn subscription(
        &self,
        token: &str,
        topic: &str,
        user: Option<&str>,
        now: UnixSeconds,
    ) -> Result<TopicGrant, Failure> {
        Ok(self.verifier()?.subscription(token, topic, user, now)?)
    }

    fn verifier(&self) -> Result<&Verifier, Failure> {
        let none = || Failure::new(ErrorCode::TokenInvalid, "this server has no keys to check a token with");
        self.verifier.as_ref().ok_or_else(none)
    }
}
