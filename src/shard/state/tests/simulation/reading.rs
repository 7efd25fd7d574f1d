//! What one client knows of one topic, and what must hold at everything that it hears of it.

use std::collections::{BTreeMap, BTreeSet};

use super::faults::Faults;
use super::plan::Kind;
use super::truth::Truth;
use crate::wire::{Ack, Position};

/// How far a client has read a topic, over all of its connections.
#[derive(Default)]
pub(super) struct Reading {
    /// The last publication that it has heard.
    pub(super) position: Option<Position>,
    /// What the server has said last: the subscription has begun, and has not ended.
    pub(super) has_begun: bool,
    /// Whether the client wants to hear it, as far as it has said so.
    pub(super) is_wanted: bool,
    /// Whether it wants joins and leaves; known from the acknowledgement on.
    pub(super) listens: bool,
    /// Where the part begins in which nothing may be missing.
    pub(super) complete_from: u64,
    /// The newest of each key that was heard since then.
    pub(super) newest: BTreeMap<Option<&'static str>, u64>,
    /// Who is present, as far as the client was told.
    pub(super) members: Option<BTreeSet<String>>,
}

impl Reading {
    /// The connection is gone, and with it what was not read.
    pub(super) fn lose(&mut self) {
        self.has_begun = false;
        self.is_wanted = false;
        self.listens = false;
        self.members = None;
    }

    /// The subscription has begun; `since` is what was asked for.
    pub(super) fn begin(
        &mut self,
        topic: &str,
        since: Option<Position>,
        ack: &Ack<'_>,
        truth: &Truth,
        faults: &mut Faults,
    ) {
        assert!(!self.has_begun, "{topic} began twice");
        self.has_begun = true;
        self.members = None;
        let position = ack.position.expect("a topic has a position");
        let replay = u64::from(ack.replay.expect("a topic may have something to replay"));
        match (since, ack.recovered) {
            (None, None) => {
                let last_values = u64::from(Kind::of(topic).keeps_last_value());
                assert!(replay <= last_values, "{topic}: {replay} replayed to a newcomer");
                faults.last_values += replay;
                self.start_at(Position { offset: position.offset - replay, ..position });
            }
            (Some(since), Some(true)) => {
                assert_eq!(since.epoch, position.epoch, "{topic}: recovered from another life");
                assert_eq!(since.offset + replay, position.offset, "{topic}: exactly what was missed");
                faults.recoveries += u64::from(replay > 0);
                faults.replayed += replay;
                self.position = Some(since);
                // It may have asked before it began afresh.
                self.complete_from = self.complete_from.min(since.offset);
            }
            (Some(since), Some(false)) => {
                let last_values = u64::from(Kind::of(topic).keeps_last_value());
                assert!(replay <= last_values, "{topic}: {replay} replayed without a recovery");
                faults.failed_recoveries += 1;
                faults.last_values_after_failure += replay;
                // A topic of which nothing was ever kept may be forgotten while nobody hears it.
                let was_used = truth.life(topic, since.epoch.0).is_some();
                assert!(
                    !Kind::of(topic).is_kept_whole() || !was_used,
                    "{topic} keeps all, and {since} was not recovered"
                );
                self.start_at(Position { offset: position.offset - replay, ..position });
            }
            (since, recovered) => panic!("{topic}: asked for {since:?}, answered {recovered:?}"),
        }
    }

    /// A publication has come. Answers its number.
    pub(super) fn hear(&mut self, topic: &str, offset: u64, number: usize, truth: &mut Truth) {
        assert!(self.has_begun, "{topic} {offset} came although nothing of it is subscribed to");
        let position = self.position.expect("it has begun");
        if Kind::of(topic).is_firm() {
            assert_eq!(offset, position.offset + 1, "{topic}: the next one");
        } else {
            assert!(offset > position.offset, "{topic}: {offset} came after {}", position.offset);
        }
        truth.place(number, topic, position.epoch.0, offset);
        self.position = Some(Position { offset, ..position });
        self.newest.insert(truth.said(number).key, offset);
    }

    /// The client loads the state anew: nothing before this counts.
    fn start_at(&mut self, position: Position) {
        self.position = Some(position);
        self.complete_from = position.offset;
        self.newest.clear();
    }
}
