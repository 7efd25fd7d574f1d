//! What one client makes of what it reads, and what it checks at every frame.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::*;
use super::world::{Frame, World};

/// Somebody who comes and goes, and remembers where it was.
pub(super) struct Client {
    pub(super) member: Member,
    /// The core and connection, while there is one.
    pub(super) at: Option<(usize, SubscriberId)>,
    pub(super) topics: BTreeMap<Topic, Reading>,
    /// Instead of topics, for clients that listen to patterns.
    pub(super) patterns: Vec<Pattern>,
    /// By topic, what was heard since the patterns began.
    pub(super) heard: BTreeMap<Topic, Heard>,
    /// Patterns that have begun.
    pub(super) begun: usize,
    /// Whether a queue of one of its connections has dropped something.
    pub(super) has_drops: bool,
}

/// How far a client has read a topic.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) position: Option<Position>,
    /// Whether its subscription has begun on this connection.
    pub(super) has_begun: bool,
    /// The newest of each key that was heard, or that came before anything was.
    pub(super) newest: BTreeMap<Option<Arc<str>>, u64>,
    /// Where the part begins in which nothing may be missing.
    pub(super) complete_from: u64,
    /// Who is present, as far as the client was told.
    pub(super) members: Option<BTreeSet<UserId>>,
    /// How often it was told that something is lost.
    pub(super) gap_count: u64,
}

/// What a listener to patterns knows of a topic.
pub(super) struct Heard {
    pub(super) first: Position,
    pub(super) last: Position,
    pub(super) is_complete: bool,
}

impl Client {
    pub(super) fn new(user: &str) -> Self {
        Self {
            member: Member { user: user.into(), info: bytes::Bytes::from_static(b"{}") },
            at: None,
            topics: BTreeMap::new(),
            patterns: Vec::new(),
            heard: BTreeMap::new(),
            begun: 0,
            has_drops: false,
        }
    }

    /// The connection is gone, and with it what was not read.
    pub(super) fn lose(&mut self) {
        self.at = None;
        self.begun = 0;
        self.heard.clear();
        for reading in self.topics.values_mut() {
            reading.has_begun = false;
            reading.members = None;
        }
    }

    pub(super) fn read(&mut self, frame: Frame, world: &World) {
        match frame {
            Frame::Begun { subject: Subject::Topic(topic), position, recovery, count } => {
                let position = position.expect("a topic has a position");
                self.topics.get_mut(&topic).expect("it asked").begin(&topic, position, recovery, count, world);
            }
            Frame::Begun { subject: Subject::Pattern(_), .. } => self.begun += 1,
            Frame::Message { topic, epoch, publication } => {
                let truth = &world.truth[&(topic.clone(), epoch)][publication.offset as usize - 1];
                assert_eq!(publication.draft, *truth, "{topic} {}", publication.offset);
                let at = Position { epoch, offset: publication.offset };
                match self.topics.get_mut(&topic) {
                    Some(reading) => reading.hear(&topic, at, publication.draft.key, world),
                    None => self.overhear(topic, at, world),
                }
            }
            Frame::Gap { topic, position } => match self.topics.get_mut(&topic) {
                Some(reading) => {
                    assert!(!is_kept_whole(&topic), "{topic} keeps all, so nothing of it can be lost");
                    reading.start_again(position);
                }
                None => {
                    self.heard.entry(topic).and_modify(|heard| heard.is_complete = false);
                }
            },
            Frame::Presence { topic, change } => {
                let reading = self.topics.get_mut(&topic).expect("it asked");
                match (&mut reading.members, change) {
                    (None, _) => {}
                    (Some(members), PresenceChange::Joined(member)) => {
                        members.insert(member.user);
                    }
                    (Some(members), PresenceChange::Left(user)) => {
                        members.remove(&user);
                    }
                }
            }
            Frame::Members { topic, members } => {
                // It may have unsubscribed since it asked.
                if let Some(reading) = self.topics.get_mut(&topic) {
                    reading.members = Some(members.into_iter().map(|member| member.user).collect());
                }
            }
        }
    }

    fn overhear(&mut self, topic: Topic, at: Position, world: &World) {
        assert!(
            self.patterns.iter().any(|pattern| world.namespaces.hears(pattern, &topic)),
            "{topic} was not asked for"
        );
        let fresh = Heard { first: at, last: at, is_complete: true };
        let Some(heard) = self.heard.get_mut(&topic) else {
            self.heard.insert(topic, fresh);
            return;
        };
        if heard.last.epoch == at.epoch {
            assert!(at.offset > heard.last.offset, "{topic} {at} came after {}", heard.last);
            heard.is_complete &= at.offset == heard.last.offset + 1;
            heard.last = at;
        } else {
            *heard = fresh;
        }
    }
}

impl Reading {
    fn begin(&mut self, topic: &Topic, position: Position, recovery: Recovery, count: u64, world: &World) {
        assert!(!self.has_begun, "{topic} began twice");
        self.has_begun = true;
        self.members = None;
        match recovery {
            Recovery::Recovered => {
                let since = self.position.expect("it asked");
                assert_eq!(since.epoch, position.epoch);
                assert_eq!(since.offset + count, position.offset, "{topic}: exactly what was missed");
            }
            Recovery::NotAsked => self.start_again(Position { offset: position.offset - count, ..position }),
            Recovery::NotRecovered(why) => {
                let since = self.position.expect("it asked");
                match why {
                    NotRecovered::EpochChanged => assert_ne!(since.epoch, position.epoch),
                    NotRecovered::NotKept => assert!(since.epoch == position.epoch && since.offset < position.offset),
                    NotRecovered::Ahead => panic!("{topic}: nobody can be ahead of {position} at {since}"),
                }
                // A topic of which nothing was ever kept may be forgotten while nobody hears it.
                let was_used = world.truth.contains_key(&(topic.clone(), since.epoch));
                assert!(!is_kept_whole(topic) || !was_used, "{topic} keeps all, and {since} was not recovered: {why}");
                let keeps_last_value = world.namespaces.of(topic).keeps_last_value();
                assert!(count <= u64::from(keeps_last_value), "{topic}: {count} told without a recovery");
                self.start_again(Position { offset: position.offset - count, ..position });
            }
        }
        assert!(world.truth.get(&(topic.clone(), position.epoch)).map_or(0, Vec::len) as u64 >= position.offset);
    }

    fn hear(&mut self, topic: &Topic, at: Position, key: Option<Arc<str>>, world: &World) {
        let position = self.position.expect("nothing comes before the beginning");
        assert_eq!(at.epoch, position.epoch, "{topic}");
        match world.namespaces.of(topic).slow_consumer {
            SlowConsumer::Disconnect => assert_eq!(at.offset, position.offset + 1, "{topic}: the next one"),
            SlowConsumer::DropOldest | SlowConsumer::Latest => {
                assert!(at.offset > position.offset, "{topic}: {at} came after {position}");
            }
        }
        self.position = Some(at);
        self.newest.insert(key, at.offset);
    }

    fn start_again(&mut self, position: Position) {
        self.gap_count += u64::from(self.position.is_some());
        self.position = Some(position);
        self.complete_from = position.offset;
        self.newest.clear();
    }
}

/// Topics of this namespace never forget anything in these tests.
pub(super) fn is_kept_whole(topic: &Topic) -> bool {
    topic.as_str().starts_with("whole:")
}
