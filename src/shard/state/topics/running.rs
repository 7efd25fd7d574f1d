//! The one place from which handlers are told of topics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::super::super::envelope::AboutTopics;
use super::super::State;
use super::outlet::{Encode, Surroundings};
use super::{News, Notice};
use crate::handler::{Conn, Delivery, Handler, TopicNews, Unanswered, Wire};
use crate::ids::ConnId;
use crate::protocol::MessageKind;
use crate::topics::{Begun, Local, Outbound, Party, Subject, SubscriberId};

impl<H: Handler> State<H> {
    /// Does what is to be done about topics, until nothing is left or other things must have their turn.
    pub(in super::super) fn run_topics(&mut self) {
        for _ in 0..STEPS_PER_RUN {
            // First what the handler is to know: a subscriber hears what it missed before anything newer.
            if let Some(notice) = self.core.topics.notices.pop_front() {
                self.tell(notice);
                continue;
            }
            match self.core.topics.work.pop_front() {
                Some((from, AboutTopics::ToHome(message))) => self.core.at_home(from, message),
                Some((Party::Core(from), AboutTopics::ToCore(message))) => {
                    let now = self.core.moment();
                    self.with_local(|local, outlet| local.handle(from, message, now, outlet));
                }
                Some((Party::Outside, AboutTopics::ToCore(_))) => debug_assert!(false, "only cores are homes"),
                None => {
                    self.core.topics_pending = false;
                    break;
                }
            }
        }
        self.core.topics.replays.forget();
        self.core.schedule_topics();
    }

    /// Time has passed for subscriptions, homes or questions.
    pub(in super::super) fn handle_topics_timeout(&mut self) {
        let now = self.core.moment();
        self.with_local(|local, outlet| local.handle_timeout(now, outlet));
        let mut out = Outbound::default();
        self.core.topics.home.handle_timeout(now, &mut out);
        self.core.carry_all(out);
        while let Some(ticket) = self.core.topics.questions.expire(now) {
            self.core.note(Notice::Answer(ticket, Err(Unanswered)));
        }
        self.core.topics_pending = true;
    }

    fn tell(&mut self, notice: Notice) {
        match notice {
            Notice::Subscribed { to, subject, position, recovery, publications } => {
                let begun = Begun { position, recovery, publications: &publications };
                self.tell_subscribed(to, &subject, &begun);
            }
            Notice::Refused { to, topic, refused } => {
                self.with_session_of(to, |handler, conn, session| {
                    handler.not_subscribed(conn, session, &topic, refused)
                });
            }
            Notice::News { topic, news, mut to } => {
                // What was told before may have led to an end. Those who hear by a pattern are only told of gaps.
                let by_name = !matches!(news, News::Gap(_));
                to.retain(|&id| match by_name {
                    true => self.core.is_subscribed(id, topic.as_str()),
                    false => self.core.id(id.index) == id,
                });
                let news = match &news {
                    News::Gap(position) => TopicNews::Gap(*position),
                    News::Presence(change) => TopicNews::Presence(change),
                    News::Members(members) => TopicNews::Members(members),
                };
                self.guard(|handler, core| handler.topic_news(core, &topic, news, &to));
            }
            Notice::Answer(ticket, answer) => {
                self.guard(|handler, core| handler.answered(core, ticket, answer));
            }
        }
    }

    fn tell_subscribed(&mut self, to: ConnId, subject: &Subject, begun: &Begun<'_>) {
        if !self.core.is_subscribed(to, name_of(subject)) {
            return;
        }
        self.with_session_of(to, |handler, conn, session| handler.subscribed(conn, session, subject, begun));
        let (Subject::Topic(topic), Some(position)) = (subject, begun.position) else { return };
        for publication in begun.publications {
            if !self.core.is_subscribed(to, topic.as_str()) {
                return;
            }
            let subscriber = SubscriberId(to.index);
            let delivery = Delivery { topic, epoch: position.epoch, publication };
            self.with_local(|_, outlet| outlet.replay(&delivery, subscriber));
        }
    }

    /// Calls the core's subscriptions; the handler encodes what they deliver.
    fn with_local<T>(&mut self, call: impl FnOnce(&mut Local, &mut Surroundings<'_>) -> T) -> T {
        let mut guarded = Guarded { handler: &mut self.handler, panics: Vec::new() };
        let outcome = self.core.with_local_and(&mut guarded, call);
        for about in guarded.panics {
            self.handle_panic(about);
        }
        outcome
    }

    fn with_session_of(&mut self, id: ConnId, call: impl FnOnce(&mut H, &mut Conn<'_>, &mut H::Session)) {
        if self.core.id(id.index) == id {
            self.with_session(id.index, call);
        }
    }
}

/// A handler that is asked how a publication is told, and what for it panicked.
struct Guarded<'a, H> {
    handler: &'a mut H,
    /// With the connection, if it was for one.
    panics: Vec<Option<ConnId>>,
}

impl<H: Handler> Encode for Guarded<'_, H> {
    fn encode(&mut self, wire: Wire, delivery: &Delivery<'_>) -> Option<(MessageKind, Bytes)> {
        let encoded = catch_unwind(AssertUnwindSafe(|| self.handler.encode(wire, delivery)));
        encoded.map_err(|_panic| self.panics.push(None)).unwrap_or_default()
    }

    fn preface(&mut self, wire: Wire, to: ConnId, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        let prefaced = catch_unwind(AssertUnwindSafe(|| self.handler.preface(wire, to, delivery, out)));
        if prefaced.is_err() {
            self.panics.push(Some(to));
        }
    }
}

fn name_of(subject: &Subject) -> &str {
    match subject {
        Subject::Topic(topic) => topic.as_str(),
        Subject::Pattern(pattern) => pattern.as_str(),
    }
}

/// Messages and notices before connections get their turn again.
const STEPS_PER_RUN: usize = 65_536;
