//! What a connection's core and a topic's home say to each other.
//!
//! Whoever carries these must keep the order of those between the same two cores. It may lose any of them: the one
//! that asked asks again, gaps are found by offset and closed from history, and presence is compared from time to
//! time. A carrier that could not deliver a [`ToCore::Deliver`], [`ToCore::Presence`] or [`ToCore::Behind`]
//! tells the home by [`Home::missed`](super::Home::missed), so that a loss is found even if nothing follows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::name::Topic;
use super::pattern::{Pattern, Subject};
use super::placement::name_hash;
use super::position::{Epoch, Horizon, Position};
use super::publication::{Draft, Publication};

/// Who asks a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// A core.
    Core(usize),
    /// Another thread. It may publish and read.
    Outside,
}

/// Chosen by whoever asks, and given back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl Ticket {
    /// Of those who want no answer at all.
    pub const NOBODY: Self = Self(0);
}

/// A question of a home to cores, for a [`Tally`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiptId(pub u64);

/// To a topic's home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToHome {
    /// This core wants to hear the topic. Answered by [`ToCore::Subscribed`] or [`ToCore::NotSubscribed`].
    Subscribe {
        /// Which one.
        topic: Topic,
        /// For the answer.
        ticket: Ticket,
        /// What is to be told of the past.
        want: Want,
    },
    /// Nobody on this core has subscribed to the topic by its own name any more.
    Unsubscribe {
        /// Which one.
        topic: Topic,
    },
    /// Something came for the topic and nobody hears it, not even by a pattern.
    Nobody {
        /// Which one.
        topic: Topic,
    },
    /// This core wants to hear all topics of this form. Answered by [`ToCore::PatternKnown`]. Sent to every core.
    Pattern {
        /// The form.
        pattern: Pattern,
        /// For the answer.
        ticket: Ticket,
    },
    /// It does not want to any more.
    PatternEnded {
        /// The form.
        pattern: Pattern,
    },
    /// Something to publish.
    Publish(Box<Publish>),
    /// What became of a delivery on this core, or how many subscribers it has.
    Tally {
        /// The question.
        receipt: ReceiptId,
        /// The answer.
        tally: Tally,
    },
    /// The first connection of a user on this core has become a member.
    Enter {
        /// Of which topic.
        topic: Topic,
        /// Who.
        member: Member,
    },
    /// The last connection of a user on this core is not a member any more.
    Leave {
        /// Of which topic.
        topic: Topic,
        /// Who.
        user: UserId,
    },
    /// A user who is a member on this core has so many connections there now.
    Recount {
        /// Of which topic.
        topic: Topic,
        /// Who.
        user: UserId,
        /// Not zero.
        connections: u32,
    },
    /// This core still has members of the topic: so many connections, and of these users.
    Renew {
        /// Which one.
        topic: Topic,
        /// All of them, compressed.
        digest: Digest,
    },
    /// All members of the topic on this core. Answers [`ToCore::Attend`].
    Attendance {
        /// Which one.
        topic: Topic,
        /// Each once, with the connections on this core.
        members: Vec<Attendee>,
    },
    /// A question about a topic. Answered by [`ToCore::Answer`].
    Read {
        /// Which one.
        topic: Topic,
        /// For the answer.
        ticket: Ticket,
        /// The question.
        what: Read,
    },
    /// What was published on this home, for somebody who watches it. Answered by [`ToCore::Answer`].
    Watch {
        /// For the answer.
        ticket: Ticket,
        /// The question.
        watch: Watch,
    },
}

/// From a topic's home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToCore {
    /// From here on this core hears the topic.
    Subscribed {
        /// Which one.
        topic: Topic,
        /// Of the question.
        ticket: Ticket,
        /// Where the topic stands, and how far back it could be told.
        horizon: Horizon,
        /// What was asked for, oldest first, up to `horizon.position`.
        publications: Vec<Publication>,
    },
    /// The home has no room for another topic.
    NotSubscribed {
        /// Which one.
        topic: Topic,
        /// Of the question.
        ticket: Ticket,
        /// Why not.
        refused: Refused,
    },
    /// From here on this core hears topics of that form whose home is the sender.
    PatternKnown {
        /// The form.
        pattern: Pattern,
        /// Of the question.
        ticket: Ticket,
    },
    /// A publication.
    Deliver(Deliver),
    /// Something was sent and did not arrive: the topic stands here now.
    Behind {
        /// Which one.
        topic: Topic,
        /// Its newest publication.
        position: Position,
        /// All its members, sorted by user, if the topic knows them.
        members: Option<Vec<Member>>,
    },
    /// How many subscribers of the topic are there? Answered by [`ToHome::Tally`].
    Count {
        /// Which one.
        topic: Topic,
        /// The question.
        receipt: ReceiptId,
    },
    /// A member has come or gone.
    Presence {
        /// Of which topic.
        topic: Topic,
        /// Who.
        change: PresenceChange,
    },
    /// Who are the members of the topic? Answered by [`ToHome::Attendance`].
    Attend {
        /// Which one.
        topic: Topic,
    },
    /// To a publication or a question.
    Answer {
        /// Of the question.
        ticket: Ticket,
        /// What there is to say.
        answer: Answer,
    },
}

/// What a new subscriber is to be told of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Nothing.
    Nothing,
    /// The newest publication, if it is kept.
    Last,
    /// Everything after this. If that cannot be told, the newest publication where the namespace
    /// [keeps one](super::Namespace::keeps_last_value), and nothing elsewhere.
    Since(Position),
}

/// Something to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where.
    pub topic: Topic,
    /// What.
    pub draft: Draft,
    /// What publishing it twice must not do twice: the same key within some minutes is the same publication.
    pub idempotency_key: Option<Arc<str>>,
    /// For the answer.
    pub ticket: Ticket,
    /// Which answer.
    pub reply: Reply,
}

/// The answer to a publication. One that is refused is always answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// None.
    Nothing,
    /// That it was accepted.
    Accepted,
    /// What became of it on each core.
    Counted,
}

/// A publication on its way to a core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// Of which topic.
    pub topic: Topic,
    /// In which life of it.
    pub epoch: Epoch,
    /// What.
    pub publication: Publication,
    /// Whether the home wants to know what became of it.
    pub receipt: Option<ReceiptId>,
}

/// What became of a publication, on one core or on all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that were to get it.
    pub subscribers: u64,
    /// Queues that it has entered.
    pub delivered: u64,
    /// Older publications with its key that waited in these and that it has replaced.
    pub conflated: u64,
    /// Publications that are lost for it: older ones, or itself where there was no room.
    pub dropped: u64,
}

/// Someone who is present, however many connections that takes.
pub type UserId = Arc<str>;

/// Someone who is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What others are told of them: the text of a JSON object.
    pub info: Bytes,
}

/// A member, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attendee {
    /// Who.
    pub member: Member,
    /// With how many connections. What one core has not yet told, or what was lost on the way, counts within ten
    /// seconds.
    pub connections: u32,
}

/// A member has come or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceChange {
    /// Somebody who was not there.
    Joined(Member),
    /// Somebody whose last connection is gone.
    Left(UserId),
}

/// The connections of users, compressed: how many, and the sum of their users' hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    count: u64,
    sum: u64,
}

/// A question about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// What is kept: the newest, up to this many, or everything after `since` if there is less of it.
    History {
        /// Only what came after; ignored if it is of another epoch.
        since: Option<Position>,
        /// At most so many.
        limit: usize,
    },
    /// Who is present.
    Members,
    /// The figures.
    Info,
}

/// The answer to a publication or a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was published.
    Published(Receipt),
    /// It was not.
    Refused(Refused),
    /// The home does not know the topic if there is no horizon.
    History {
        /// Where the topic stands.
        horizon: Option<Horizon>,
        /// Oldest first.
        publications: Vec<Publication>,
    },
    /// Sorted by user.
    Members(Vec<Attendee>),
    /// The figures.
    Info(TopicInfo),
    /// What was published on a home.
    Watched(Box<Watched>),
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its place.
    pub position: Position,
    /// If they were asked for: none for a publication that was [repeated](Receipt::is_repeat).
    pub counts: Option<Counts>,
    /// Whether there was one with this idempotency key already: this is its place, and nothing was published.
    pub is_repeat: bool,
}

/// What cores have answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The sum of all answers.
    pub tally: Tally,
    /// Cores that did not answer in time: what became of it there is not known.
    pub silent: Vec<usize>,
}

/// Figures of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicInfo {
    /// Where it stands; `None` if its home does not know it.
    pub horizon: Option<Horizon>,
    /// Publications in its history.
    pub history_messages: usize,
    /// Their bytes of content.
    pub history_bytes: usize,
    /// Users that are present.
    pub members: usize,
    /// Their connections.
    pub connections: u64,
    /// Subscribers, by name or by pattern; only `subscribers` is used of the tally.
    pub counts: Counts,
}

/// Who watches: chosen by himself, and the same in all his questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatcherId(pub u64);

/// A question about everything that is published on one home. Who asks it again and again learns each time what was
/// published since the last time; who does not ask for ten seconds is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Who asks.
    pub watcher: WatcherId,
    /// Publications of these topics are to be told whole from now on, whatever their namespace permits to clients.
    pub hear: Option<Subject>,
}

/// What was published on a home since a watcher asked last: nothing if he was not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Topics that the home knows now.
    pub topic_count: usize,
    /// How long ago he asked last.
    pub span: Duration,
    /// Publications of all topics.
    pub publication_count: u64,
    /// Topics with the most of them, and how many, the busiest first. Bounded, and where very many topics are busy some
    /// are not counted by name.
    pub busiest: Vec<(Topic, u64)>,
    /// What he listens to, oldest first; the newest of it, if it is much.
    pub heard: Vec<Heard>,
    /// How many publications that he listens to were dropped because they were too many, or too large.
    pub unheard: u64,
}

/// A publication that a watcher listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Of which topic.
    pub topic: Topic,
    /// In which life of it.
    pub epoch: Epoch,
    /// What.
    pub publication: Publication,
}

/// Why a home does not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There are more topics already than this core may know.
    #[error("there are too many topics")]
    TooManyTopics,
    /// More bytes than the namespace admits.
    #[error("the publication has {bytes} bytes, and its namespace admits {max}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
    /// An idempotency key that is longer than can be kept.
    #[error("the idempotency key has {bytes} bytes, and {} are allowed", super::IDEMPOTENCY_KEY_BYTES_MAX)]
    KeyTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Some core that would hear it has no room for more. Never said by a home, but by who carries.
    #[error("a core is too far behind")]
    Busy,
}

/// How often a core says that its members are still there.
pub const PRESENCE_RENEWAL: Duration = Duration::from_secs(10);

impl Tally {
    /// Adds what happened elsewhere.
    pub fn add(&mut self, other: Self) {
        self.subscribers += other.subscribers;
        self.delivered += other.delivered;
        self.conflated += other.conflated;
        self.dropped += other.dropped;
    }
}

impl Digest {
    /// A user has so many connections more.
    pub fn add(&mut self, user: &str, connections: u32) {
        self.count += u64::from(connections);
        self.sum = self.sum.wrapping_add(name_hash(user).wrapping_mul(connections.into()));
    }

    /// Or less.
    pub fn remove(&mut self, user: &str, connections: u32) {
        self.count -= u64::from(connections);
        self.sum = self.sum.wrapping_sub(name_hash(user).wrapping_mul(connections.into()));
    }

    /// How many connections there are.
    pub fn connections(&self) -> u64 {
        self.count
    }
}

impl ToCore {
    /// The topic of which [`Home::missed`](super::Home::missed) is to be told if this could not be carried.
    pub fn missed_topic(&self) -> Option<&Topic> {
        match self {
            Self::Deliver(deliver) => Some(&deliver.topic),
            Self::Presence { topic, .. } | Self::Behind { topic, .. } => Some(topic),
            Self::Subscribed { .. }
            | Self::NotSubscribed { .. }
            | Self::PatternKnown { .. }
            | Self::Count { .. }
            | Self::Attend { .. }
            | Self::Answer { .. } => None,
        }
    }

    /// A copy of content that shares no memory with the home's, to be made when it goes to another core.
    #[must_use]
    pub fn detached(self) -> Self {
        match self {
            Self::Deliver(deliver) => Self::Deliver(Deliver { publication: deliver.publication.detached(), ..deliver }),
            Self::Subscribed { topic, ticket, horizon, publications } => {
                let publications = publications.iter().map(Publication::detached).collect();
                Self::Subscribed { topic, ticket, horizon, publications }
            }
            other => other,
        }
    }
}
