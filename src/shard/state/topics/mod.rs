//! Topics on one core: its subscribers, the topics whose home it is, and the way between these two and other cores.
//!
//! A core speaks to itself as to any other, only that its messages wait in a queue here and not in a ring. Nothing is
//! told to the handler in the middle of anything: what it is to know is noted, and told before the next message is
//! taken up, so that a subscriber hears what it missed before what comes later.

mod backlogs;
mod outlet;
mod questions;
mod reaching;
mod replays;
mod running;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::super::envelope::{AboutTopics, Envelope};
use super::reach::{CoreState, ShardOptions};
use crate::connection::{TICK_MILLIS, Tick};
use crate::handler::{Outside, Unanswered};
use crate::ids::ConnId;
use crate::protocol::MessageKind;
use crate::topics::{
    Answer, Backlog, Home, HomeOptions, Local, Member, Moment, Namespaces, Outbound, Party, Position, PresenceChange,
    Publication, Recovery, Refused, Subject, Ticket, ToCore, ToHome, Topic,
};
use questions::Questions;
use replays::Replays;

/// What one core knows of topics.
pub(super) struct Topics {
    /// Away only while it is called; nothing that it calls comes back to it.
    local: Option<Box<Local>>,
    home: Home,
    namespaces: Arc<Namespaces>,
    outside: Arc<dyn Outside>,
    /// What was said to this core, by others and by itself, in order.
    work: VecDeque<(Party, AboutTopics)>,
    /// What the handler is to be told before more of the work is done.
    notices: VecDeque<Notice>,
    questions: Questions,
    replays: Replays,
    /// By connection: publications for those that read too slowly.
    backlogs: HashMap<u32, Backlog<Waiting>>,
    /// Reused.
    out: Outbound,
}

/// A message that is not in its connection's queue yet.
struct Waiting {
    kind: MessageKind,
    payload: Bytes,
}

/// Something that the handler is to be told.
enum Notice {
    Subscribed {
        to: ConnId,
        subject: Subject,
        position: Option<Position>,
        recovery: Recovery,
        publications: Vec<Publication>,
    },
    Refused {
        to: ConnId,
        topic: Topic,
        refused: Refused,
    },
    News {
        topic: Topic,
        news: News,
        to: Vec<ConnId>,
    },
    Answer(Ticket, Result<Answer, Unanswered>),
}

impl Notice {
    /// Whether it says how the subscription has begun, or that it has not.
    fn is_of_subscription(&self, id: ConnId, name: &str) -> bool {
        match self {
            Self::Subscribed { to, subject, .. } => *to == id && subject.as_str() == name,
            Self::Refused { to, topic, .. } => *to == id && topic.as_str() == name,
            Self::News { .. } | Self::Answer(..) => false,
        }
    }
}

enum News {
    Gap(Position),
    Presence(PresenceChange),
    Members(Vec<Member>),
}

impl Topics {
    pub(super) fn new(options: &ShardOptions, core_count: usize) -> Self {
        let namespaces = options.namespaces.clone();
        let home = HomeOptions::new(usize::from(options.core), core_count, options.seed);
        Self {
            local: Some(Box::new(Local::new(core_count, namespaces.clone()))),
            home: Home::new(home, namespaces.clone()),
            namespaces,
            outside: options.listener.clone(),
            work: VecDeque::new(),
            notices: VecDeque::new(),
            questions: Questions::default(),
            replays: Replays::default(),
            backlogs: HashMap::new(),
            out: Outbound::default(),
        }
    }

    fn local(&self) -> &Local {
        self.local.as_ref().expect("it is away only while it is called")
    }

    fn deadline(&self) -> Option<Moment> {
        [self.local().deadline(), self.home.deadline(), self.questions.deadline()].into_iter().flatten().min()
    }
}

impl CoreState {
    /// Another core, or a thread that is none, said something about topics.
    pub(super) fn hear_of_topics(&mut self, from: Party, message: AboutTopics) {
        self.topics.work.push_back((from, message));
        self.topics_pending = true;
    }

    /// Carries something to a core, which may be this one. Answers `false` if it is lost, for want of room.
    fn carry(&mut self, to: usize, message: AboutTopics) -> bool {
        let from = Party::Core(usize::from(self.core));
        self.topics_pending = true;
        if to == usize::from(self.core) {
            self.topics.work.push_back((from, message));
            return true;
        }
        let is_sent = self.post.send(to, Envelope::Topics { from, message: Box::new(message) }).is_ok();
        let counter = if is_sent { &self.metrics.mesh_sent } else { &self.metrics.mesh_refused };
        counter.add(1);
        is_sent
    }

    /// Something was said to this core as a home.
    fn at_home(&mut self, from: Party, message: ToHome) {
        let now = self.moment();
        let mut out = std::mem::take(&mut self.topics.out);
        match message {
            ToHome::Publish(publish) if !self.has_room(&publish.topic) => {
                let answer = Answer::Refused(Refused::Busy);
                out.messages.push((from, ToCore::Answer { ticket: publish.ticket, answer }));
            }
            message => {
                self.topics.home.handle(from, message, now, &mut out);
                self.metrics.publications.set(self.topics.home.publication_count());
            }
        }
        self.carry_all(out);
    }

    /// From now on these namespaces count. Subscriptions stay, whether they are still permitted or not.
    pub(super) fn configure_topics(&mut self, namespaces: Arc<Namespaces>) {
        if let Some(local) = &mut self.topics.local {
            local.configure(namespaces.clone());
        }
        self.topics.home.configure(namespaces.clone());
        self.topics.namespaces = namespaces;
        self.topics_pending = true;
    }

    /// Whether a publication could be carried to all cores that would hear it.
    fn has_room(&self, topic: &Topic) -> bool {
        // Where nothing waits there is room; then the audience need not be looked up.
        !self.post.is_congested() || self.topics.home.audience(topic).iter().all(|core| self.post.has_room(core))
    }

    fn carry_all(&mut self, mut out: Outbound) {
        let now = self.moment();
        self.metrics.topics.set(self.topics.home.topic_count() as u64);
        for (to, message) in out.messages.drain(..) {
            if is_refusal(&message) {
                self.metrics.publications_refused.add(1);
            }
            let Party::Core(to) = to else {
                self.answer_outside(message);
                continue;
            };
            if to == usize::from(self.core) {
                self.carry(to, AboutTopics::ToCore(message));
                continue;
            }
            let missed = message.missed_topic().cloned();
            if !self.carry(to, AboutTopics::ToCore(message.detached()))
                && let Some(topic) = missed
            {
                self.topics.home.missed(to, &topic, now);
            }
        }
        out.events.drain(..).for_each(|event| self.topics.outside.topic_event(event));
        self.topics.out = out;
    }

    /// Whoever is no core has only asked questions.
    fn answer_outside(&self, message: ToCore) {
        match message {
            ToCore::Answer { ticket: Ticket::NOBODY, .. } => {}
            ToCore::Answer { ticket, answer } => self.topics.outside.answered(ticket, answer),
            _ => debug_assert!(false, "only cores have subscribers"),
        }
    }

    /// The handler is to be told.
    fn note(&mut self, notice: Notice) {
        self.topics.notices.push_back(notice);
        self.topics_pending = true;
    }

    /// When topics have something to do by themselves.
    fn schedule_topics(&mut self) {
        self.topics_due = match self.topics.deadline() {
            // In the next turn: connections come first.
            _ if self.topics_pending => Tick(self.now.0 + 1),
            Some(at) => Tick(u32::try_from(at.0.div_ceil(TICK_MILLIS)).unwrap_or(u32::MAX)),
            None => Tick::NEVER,
        };
    }

    fn moment(&self) -> Moment {
        Moment(u64::from(self.now.0) * TICK_MILLIS)
    }
}

fn is_refusal(message: &ToCore) -> bool {
    matches!(message, ToCore::Answer { answer: Answer::Refused(_), .. })
}
