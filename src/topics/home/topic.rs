//! One topic at its home.

use std::sync::Arc;
use std::time::Duration;

use super::super::message::{Member, PresenceChange, TopicInfo, Want};
use super::super::moment::Moment;
use super::super::namespace::Namespace;
use super::super::placement::CoreSet;
use super::super::position::{Epoch, Horizon, Position};
use super::super::publication::{Draft, Publication};
use super::history::History;
use super::presence::Presence;

/// Everything that the home knows of a topic.
#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) namespace: Arc<Namespace>,
    /// Cores with subscribers by its own name.
    pub(super) cores: CoreSet,
    /// Cores to which something could not be sent.
    pub(super) behind: CoreSet,
    /// When it is on the home's agenda.
    pub(super) check_at: Option<Moment>,
    pub(super) presence: Presence,
    epoch: Epoch,
    /// The newest one.
    offset: u64,
    history: History,
    used_at: Moment,
}

impl TopicState {
    pub(super) fn new(epoch: Epoch, namespace: Arc<Namespace>, now: Moment) -> Self {
        Self {
            namespace,
            cores: CoreSet::default(),
            behind: CoreSet::default(),
            check_at: None,
            presence: Presence::default(),
            epoch,
            offset: 0,
            history: History::default(),
            used_at: now,
        }
    }

    /// Gives a draft its place.
    pub(super) fn publish(&mut self, draft: Draft, now: Moment) -> Publication {
        self.offset += 1;
        self.used_at = now;
        let publication = Publication { offset: self.offset, draft };
        self.history.push(publication.clone(), &self.namespace, now);
        publication
    }

    /// What a subscriber is to be told of the past. If that cannot be told, it is the last value where one is kept, and
    /// nothing elsewhere; the horizon says why.
    pub(super) fn recall(&mut self, want: Want, now: Moment) -> (Horizon, Vec<Publication>) {
        self.used_at = now;
        let horizon = self.horizon(now);
        let publications = match want {
            Want::Nothing => Vec::new(),
            Want::Since(since) if horizon.recovers(since).is_ok() => {
                self.history.since(since.offset).cloned().collect()
            }
            Want::Since(_) if !self.namespace.keeps_last_value() => Vec::new(),
            Want::Since(_) | Want::Last => self.history.last().cloned().into_iter().collect(),
        };
        (horizon, publications)
    }

    /// The newest `limit` publications, or what came after `since` if there is less of it.
    pub(super) fn newest(&mut self, since: Option<Position>, limit: usize, now: Moment) -> (Horizon, Vec<Publication>) {
        let horizon = self.horizon(now);
        let since = since.filter(|since| since.epoch == self.epoch).map_or(0, |since| since.offset);
        let after = self.history.since(since);
        let skip = after.len().saturating_sub(limit);
        (horizon, after.skip(skip).cloned().collect())
    }

    pub(super) fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.offset }
    }

    /// Its members, if it is to know them.
    pub(super) fn members(&self) -> Option<Vec<Member>> {
        self.namespace.presence.then(|| self.presence.members().collect())
    }

    /// All figures but the counts, which cores know.
    pub(super) fn info(&mut self, now: Moment) -> TopicInfo {
        TopicInfo {
            horizon: Some(self.horizon(now)),
            history_messages: self.history.len(),
            history_bytes: self.history.bytes(),
            members: self.presence.members().len(),
            connections: self.presence.connections(),
            ..TopicInfo::default()
        }
    }

    /// The topic was asked for, so it is not forgotten yet.
    pub(super) fn touch(&mut self, now: Moment) {
        self.used_at = now;
    }

    /// Forgets what has become too old. Answers who has gone.
    pub(super) fn expire(&mut self, now: Moment) -> Vec<PresenceChange> {
        self.history.trim(&self.namespace, now);
        self.presence.expire(now)
    }

    /// Whether nobody would miss it: nobody hears it, nothing is kept, and it was not used for a while.
    pub(super) fn is_forgettable(&self, idle_ttl: Duration, now: Moment) -> bool {
        self.is_vacant() && self.used_at.after(idle_ttl) <= now
    }

    /// When it is to be looked at again.
    pub(super) fn deadline(&self, idle_ttl: Duration) -> Option<Moment> {
        let idle = self.is_vacant().then(|| self.used_at.after(idle_ttl));
        let times = [self.history.deadline(&self.namespace), self.presence.deadline(), idle];
        times.into_iter().flatten().min()
    }

    fn is_vacant(&self) -> bool {
        self.cores.is_empty() && self.history.len() == 0 && self.presence.is_empty()
    }

    fn horizon(&mut self, now: Moment) -> Horizon {
        self.history.trim(&self.namespace, now);
        let oldest = self.history.oldest().unwrap_or(self.offset + 1);
        Horizon { position: self.position(), oldest }
    }
}
