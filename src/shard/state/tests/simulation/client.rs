//! One client over all of its connections: what it is, how it behaves, and the end of its socket.

use super::link::Link;
use super::peer::{Heard, Peer};
use super::plan::{KEYS, Kind, PATTERNS, TOPICS, USERS};
use super::raw_reader::RawReader;
use super::reader::{Ear, Reader};
use super::stream_reader::StreamReader;
use crate::connection::{Random, Tick};
use crate::topics::Topic;
use crate::wire::SUBPROTOCOL;

pub(super) struct Client {
    pub(super) speaks: Speaks,
    pub(super) peer: Option<Peer>,
    pub(super) temper: Temper,
    /// Another for each connection: what one says about a topic is ordered.
    pub(super) life: u64,
    /// It has said that it leaves.
    pub(super) is_leaving: bool,
}

pub(super) enum Speaks {
    V1(Reader),
    Raw(RawReader),
    Stream(StreamReader),
    /// It says nothing, and is present.
    Member {
        user: &'static str,
        topic: &'static str,
    },
}

/// How it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Temper {
    Attentive,
    Slow,
    /// Not at all, for the time being.
    Deaf,
}

impl Speaks {
    /// One that speaks `corewire.v1` and has these topics.
    pub(super) fn v1(topics: &[&str]) -> Self {
        let mut reader = Reader::default();
        for topic in topics {
            reader.topics.entry((*topic).to_owned()).or_default();
        }
        Self::V1(reader)
    }

    pub(super) fn draw(random: &mut Random) -> Self {
        let some = |random: &mut Random, most: u64, of: &[&'static str]| {
            let mut chosen: Vec<_> =
                (0..1 + random.below(most)).map(|_| of[random.below(of.len() as u64) as usize]).collect();
            chosen.sort_unstable();
            chosen.dedup();
            chosen
        };
        match random.below(12) {
            0..4 => Self::v1(&some(random, 6, &TOPICS)),
            4 => {
                let mut reader = Reader::default();
                for pattern in some(random, 3, &PATTERNS) {
                    reader.patterns.insert(pattern.to_owned(), false);
                }
                Self::V1(reader)
            }
            5..7 => {
                let mut subjects = some(random, 2, &TOPICS);
                if random.below(4) == 0 {
                    subjects = some(random, 2, &PATTERNS);
                }
                Self::Raw(RawReader::new(subjects))
            }
            7..9 => {
                let mut subjects = some(random, 3, &TOPICS);
                if random.below(3) == 0 {
                    subjects.extend(some(random, 2, &PATTERNS));
                }
                Self::Stream(StreamReader::new(subjects))
            }
            _ => Self::Member {
                user: USERS[random.below(USERS.len() as u64) as usize],
                topic: ["whole:a", "whole:b"][random.below(2) as usize],
            },
        }
    }
}

impl Client {
    pub(super) fn new(speaks: Speaks) -> Self {
        Self { speaks, peer: None, temper: Temper::Attentive, life: 0, is_leaving: false }
    }

    /// A connection of its own, its request on the way.
    pub(super) fn connect(&mut self, id: usize, link: &mut Link, now: Tick) {
        if let Speaks::Stream(reader) = &mut self.speaks {
            self.life += 1;
            self.is_leaving = false;
            self.peer = Some(Peer::streaming(id, link, &reader.target(), &reader.headers(), now));
            return;
        }
        let (target, subprotocol) = match &self.speaks {
            Speaks::V1(_) => ("/ws".to_owned(), Some(SUBPROTOCOL)),
            Speaks::Raw(reader) => (reader.target(), None),
            Speaks::Stream(_) => unreachable!("it is connected above"),
            Speaks::Member { user, topic } => (format!("/member?user={user}&topic={topic}"), None),
        };
        self.life += 1;
        self.is_leaving = false;
        let is_compressed = id.is_multiple_of(4);
        self.peer = Some(Peer::new(id, link, &target, subprotocol, is_compressed, now));
    }

    /// Whether it can say something now that is understood.
    pub(super) fn can_talk(&self) -> bool {
        let is_open = !self.is_leaving && self.peer.as_ref().is_some_and(Peer::is_open);
        match &self.speaks {
            Speaks::V1(reader) => is_open && reader.is_connected,
            Speaks::Raw(_) | Speaks::Stream(_) | Speaks::Member { .. } => is_open,
        }
    }

    pub(super) fn say(&mut self, text: &str, links: &mut [Link]) {
        let peer = self.peer.as_mut().expect("it is connected");
        let link = &mut links[peer.link];
        peer.say(text, link);
    }

    /// Reads so many bytes, and does what is to be done about them.
    pub(super) fn read(
        &mut self,
        bytes_max: usize,
        links: &mut [Link],
        random: &mut Random,
        now: Tick,
        ear: &mut Ear<'_>,
    ) {
        let Some(peer) = &mut self.peer else { return };
        let link = &mut links[peer.link];
        for heard in peer.read(bytes_max, link, now) {
            match heard {
                Heard::Open => self.open(links),
                Heard::Refused(head) => {
                    let begins = |status: &&str| {
                        let line = format!("HTTP/1.1 {status}");
                        line.starts_with(&head) || head.starts_with(&line)
                    };
                    assert!(["503", "408", "101", "200"].iter().any(begins), "{head}");
                    ear.faults.turned_away += u64::from(head.starts_with("HTTP/1.1 503"));
                }
                Heard::Bytes(bytes) => {
                    let Speaks::Stream(reader) = &mut self.speaks else { panic!("only streams are bytes") };
                    reader.hear(&bytes, ear);
                }
                Heard::Text(text) => self.hear(&text, links, random, ear),
                Heard::Closed(closed) => match closed.code.0 {
                    // It read so slowly that it did not hear in time that it was to say `connect`.
                    1000 | 1006 | 4000 => {}
                    1001 if closed.reason == "idle" => ear.faults.idle_closes += 1,
                    1001 => ear.faults.drained += 1,
                    1002 if self.is_leaving => {}
                    1013 => {
                        let is_about_loss = closed.reason == "something was lost on the way";
                        assert!(ear.has_losses || !is_about_loss, "nothing was lost: {closed:?}");
                        ear.faults.try_later_closes += 1;
                    }
                    4006 => ear.faults.slow_closes += 1,
                    _ => panic!("{closed:?}"),
                },
            }
        }
        if self.peer.as_ref().is_some_and(Peer::is_over) {
            self.lose();
        }
    }

    fn open(&mut self, links: &mut [Link]) {
        if let Speaks::V1(reader) = &mut self.speaks {
            let text = reader.connect();
            self.say_if_open(&text, links);
        }
    }

    fn hear(&mut self, text: &str, links: &mut [Link], random: &mut Random, ear: &mut Ear<'_>) {
        let Speaks::V1(reader) = &mut self.speaks else {
            if let Speaks::Raw(reader) = &mut self.speaks {
                reader.hear(text, ear.truth, ear.faults);
            }
            return;
        };
        let was_connected = reader.is_connected;
        let ask_about = reader.hear(text, ear);
        let mut texts: Vec<String> = ask_about.map(|topic| reader.ask_for_members(&topic)).into_iter().collect();
        if !was_connected && reader.is_connected {
            let topics: Vec<_> = reader.topics.keys().cloned().collect();
            for topic in topics {
                let listens = Kind::of(&topic).knows_members() && random.below(4) > 0;
                texts.push(reader.subscribe(&topic, listens, false, ear.faults));
            }
            let patterns: Vec<_> = reader.patterns.keys().cloned().collect();
            texts.extend(patterns.iter().map(|pattern| reader.subscribe_pattern(pattern)));
        }
        texts.iter().for_each(|text| self.say_if_open(text, links));
    }

    fn say_if_open(&mut self, text: &str, links: &mut [Link]) {
        if self.peer.as_ref().is_some_and(Peer::is_open) {
            self.say(text, links);
        }
    }

    /// Whether it hears the topic, and only by a pattern.
    pub(super) fn overhears(&self, topic: &str) -> bool {
        let name = Topic::parse(topic).expect(topic);
        match &self.speaks {
            Speaks::V1(reader) => reader.patterns.keys().any(|pattern| Kind::is_heard_by(pattern, &name)),
            Speaks::Raw(reader) if reader.subjects.contains(&topic) => false,
            Speaks::Raw(reader) => reader.subjects.iter().any(|subject| Kind::is_heard_by(subject, &name)),
            Speaks::Stream(reader) if reader.subjects.contains(&topic) => false,
            Speaks::Stream(reader) => reader.subjects.iter().any(|subject| Kind::is_heard_by(subject, &name)),
            Speaks::Member { .. } => false,
        }
    }

    /// Its connection is gone, whether its core knows or not.
    pub(super) fn lose(&mut self) {
        self.peer = None;
        match &mut self.speaks {
            Speaks::V1(reader) => reader.lose(),
            Speaks::Raw(reader) => reader.lose(),
            Speaks::Stream(reader) => reader.lose(),
            Speaks::Member { .. } => {}
        }
    }
}

/// Most are small; what is larger than 256 bytes is compressed for those who agreed to that.
pub(super) fn pick_pad(random: &mut Random) -> usize {
    let most = if random.below(10) == 0 { 400 } else { 80 };
    random.below(most) as usize
}

pub(super) fn pick_key(random: &mut Random) -> Option<&'static str> {
    (random.below(4) > 0).then(|| KEYS[random.below(KEYS.len() as u64) as usize])
}
