//! A client that speaks `corewire.v1`, and holds the server to `docs/WIRE.md`.

use std::collections::BTreeMap;

use super::faults::Faults;
use super::plan::Kind;
use super::reading::Reading;
use super::truth::Truth;
use crate::topics::{Pattern, Topic};
use crate::wire::{Ack, ClientMessage, Data, ErrorCode, Message, Position, ServerMessage};

/// One client over all of its connections.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) topics: BTreeMap<String, Reading>,
    /// By pattern, whether it has begun on this connection.
    pub(super) patterns: BTreeMap<String, bool>,
    /// By topic, epoch and offset of what was heard by a pattern on this connection.
    overheard: BTreeMap<String, (u64, u64)>,
    pub(super) is_connected: bool,
    /// What was asked on this connection and not answered.
    pub(super) requests: BTreeMap<u32, Asked>,
    next_id: u32,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Connect,
    Subscribe { topic: String, since: Option<Position>, listens: bool },
    Pattern(String),
    Unsubscribe(String),
    Publish(usize),
    Members(String),
    Ping,
}

/// What a client hears something with.
pub(super) struct Ear<'a> {
    pub(super) truth: &'a mut Truth,
    pub(super) faults: &'a mut Faults,
    /// Whether anything between cores was lost so far.
    pub(super) has_losses: bool,
}

impl Reader {
    /// The connection is gone.
    pub(super) fn lose(&mut self) {
        self.is_connected = false;
        self.requests.clear();
        self.overheard.clear();
        self.topics.values_mut().for_each(Reading::lose);
        self.patterns.values_mut().for_each(|has_begun| *has_begun = false);
    }

    // ---- what it says ----------------------------------------------------------------------------------------

    pub(super) fn connect(&mut self) -> String {
        let id = self.ask(Asked::Connect);
        text(&ClientMessage::Connect { id, token: None })
    }

    /// With recovery if it has heard the topic before, unless it is to begin afresh.
    pub(super) fn subscribe(&mut self, topic: &str, listens: bool, is_fresh: bool, faults: &mut Faults) -> String {
        faults.pipelined += u64::from(self.awaits_answer_about(topic));
        let reading = self.topics.get_mut(topic).expect("it is one of its topics");
        reading.is_wanted = true;
        let recover = reading.position.filter(|_| !is_fresh);
        let id = self.ask(Asked::Subscribe { topic: topic.to_owned(), since: recover, listens });
        text(&ClientMessage::Subscribe { id, topic: topic.into(), recover, token: None, presence: listens })
    }

    pub(super) fn subscribe_pattern(&mut self, pattern: &str) -> String {
        let id = self.ask(Asked::Pattern(pattern.to_owned()));
        text(&ClientMessage::Subscribe { id, topic: pattern.into(), recover: None, token: None, presence: false })
    }

    pub(super) fn unsubscribe(&mut self, topic: &str, faults: &mut Faults) -> String {
        faults.pipelined += u64::from(self.awaits_answer_about(topic));
        self.topics.get_mut(topic).expect("it is one of its topics").is_wanted = false;
        let id = self.ask(Asked::Unsubscribe(topic.to_owned()));
        text(&ClientMessage::Unsubscribe { id, topic: topic.into() })
    }

    /// `is_told`: whether it wants to know that it was published.
    pub(super) fn publish(&mut self, number: usize, is_told: bool, truth: &Truth) -> String {
        let said = truth.said(number);
        let id = is_told.then(|| self.ask(Asked::Publish(number)));
        let data = serde_json::value::RawValue::from_string(said.text.clone()).expect("it is JSON");
        text(&ClientMessage::Publish {
            id,
            topic: said.topic.as_str().into(),
            data: &data,
            key: said.key.map(Into::into),
        })
    }

    pub(super) fn ask_for_members(&mut self, topic: &str) -> String {
        let id = self.ask(Asked::Members(topic.to_owned()));
        text(&ClientMessage::Presence { id, topic: topic.into() })
    }

    pub(super) fn ping(&mut self) -> String {
        let id = self.ask(Asked::Ping);
        text(&ClientMessage::Ping { id })
    }

    /// Topics whose members it should know and does not, and has not asked for.
    pub(super) fn unknown_members(&self) -> Vec<String> {
        let is_unknown = |(topic, reading): &(&String, &Reading)| {
            let has_asked = self.requests.values().any(|asked| *asked == Asked::Members((*topic).clone()));
            reading.has_begun && reading.listens && reading.members.is_none() && !has_asked
        };
        self.topics.iter().filter(is_unknown).map(|(topic, _)| topic.clone()).collect()
    }

    fn ask(&mut self, asked: Asked) -> u32 {
        self.next_id += 1;
        self.requests.insert(self.next_id, asked);
        self.next_id
    }

    fn awaits_answer_about(&self, name: &str) -> bool {
        self.requests.values().any(|asked| match asked {
            Asked::Subscribe { topic, .. } | Asked::Unsubscribe(topic) => topic == name,
            _ => false,
        })
    }

    // ---- what it hears ---------------------------------------------------------------------------------------

    /// A frame has come. Answers the topic whose members it is time to ask for, if there is one.
    pub(super) fn hear(&mut self, frame: &str, ear: &mut Ear<'_>) -> Option<String> {
        let message = ServerMessage::decode(frame).unwrap_or_else(|refusal| panic!("{frame}: {refusal:?}"));
        match message {
            ServerMessage::Ack(ack) => return self.hear_ack(&ack, ear),
            ServerMessage::Message(message) => self.hear_publication(&message, ear),
            ServerMessage::Presence(list) => {
                let asked = self.requests.remove(&list.id);
                assert_eq!(asked, Some(Asked::Members(list.topic.clone().into_owned())), "{list:?}");
                // It may have unsubscribed since it asked.
                if let Some(reading) = self.topics.get_mut(&*list.topic).filter(|reading| reading.has_begun) {
                    reading.members = Some(list.members.into_iter().map(|member| member.user.into_owned()).collect());
                }
            }
            ServerMessage::PresenceEvent(event) => {
                let reading = self.topics.get_mut(&*event.topic).expect("it is one of its topics");
                assert!(reading.has_begun && reading.listens, "{event:?}: nobody asked");
                let members = reading.members.as_mut();
                if event.joined {
                    ear.faults.joins += 1;
                    members.map(|members| members.insert(event.user.into_owned()));
                } else {
                    ear.faults.leaves += 1;
                    members.map(|members| members.remove(&*event.user));
                }
            }
            ServerMessage::Unsubscribe { topic, code, .. } => self.hear_end(&topic, &code, ear),
            ServerMessage::Error { id, code, message, .. } => {
                let code = ErrorCode::of_name(&code).unwrap_or_else(|| panic!("{code}: {message}"));
                self.hear_error(id, code, &message, ear);
            }
        }
        None
    }

    fn hear_ack(&mut self, ack: &Ack<'_>, ear: &mut Ear<'_>) -> Option<String> {
        let asked = self.requests.remove(&ack.id).unwrap_or_else(|| panic!("nobody asked for {ack:?}"));
        match asked {
            Asked::Connect => self.is_connected = true,
            Asked::Subscribe { topic, since, listens } => {
                let reading = self.topics.get_mut(&topic).expect("it is one of its topics");
                reading.begin(&topic, since, ack, ear.truth, ear.faults);
                reading.listens = listens;
                return listens.then_some(topic);
            }
            Asked::Pattern(pattern) => *self.patterns.get_mut(&pattern).expect("it is one of its patterns") = true,
            Asked::Unsubscribe(topic) => {
                let reading = self.topics.get_mut(&topic).expect("it is one of its topics");
                reading.has_begun = false;
                reading.members = None;
            }
            Asked::Publish(number) => {
                let position = ack.position.expect("a publication has a place");
                let topic = ear.truth.said(number).topic.clone();
                ear.truth.place(number, topic.as_str(), position.epoch.0, position.offset);
            }
            Asked::Ping => {}
            Asked::Members(topic) => panic!("{topic}: members were asked for, and acknowledged"),
        }
        None
    }

    fn hear_publication(&mut self, message: &Message<'_>, ear: &mut Ear<'_>) {
        let Data::Json(json) = message.data else { panic!("what is read is JSON") };
        let number = ear.truth.number_of(json);
        assert_eq!(message.key.as_deref(), ear.truth.said(number).key, "{message:?}");
        ear.faults.heard += 1;
        let topic = &*message.topic;
        match self.topics.get_mut(topic) {
            Some(reading) => reading.hear(topic, message.offset, number, ear.truth),
            None => self.overhear(topic, message.offset, number, ear),
        }
    }

    fn overhear(&mut self, topic: &str, offset: u64, number: usize, ear: &Ear<'_>) {
        let name = Topic::parse(topic).expect("a good name");
        let is_asked_for = |pattern: &String| Kind::hears(&Pattern::parse(pattern).expect("a good one"), &name);
        assert!(self.patterns.keys().any(is_asked_for), "{topic} was not asked for");
        let place = ear.truth.place_of(number).expect("whoever encoded it has said where it stands");
        assert_eq!(place.1, offset, "{topic}");
        let before = self.overheard.insert(topic.to_owned(), place);
        if let Some((_, last)) = before.filter(|(epoch, _)| *epoch == place.0) {
            assert!(offset > last, "{topic}: {offset} came after {last}");
            assert!(
                !Kind::of(topic).is_firm() || ear.has_losses || offset == last + 1,
                "{topic}: {offset} after {last}"
            );
        }
    }

    /// The server has ended a subscription.
    fn hear_end(&mut self, topic: &str, code: &str, ear: &mut Ear<'_>) {
        assert_eq!(code, "unavailable", "{topic}");
        assert!(ear.has_losses, "{topic} was ended, and nothing was lost");
        ear.faults.ended_for_loss += 1;
        let is_asked_for = self
            .requests
            .values()
            .any(|asked| matches!(asked, Asked::Subscribe { topic: other, .. } if other == topic));
        let reading = self.topics.get_mut(topic).expect("it is one of its topics");
        assert!(reading.has_begun, "{topic} ended before it began");
        assert!(reading.listens || !Kind::of(topic).is_kept_whole(), "{topic} keeps all, so nothing of it can be lost");
        reading.has_begun = false;
        reading.members = None;
        reading.is_wanted &= is_asked_for;
    }

    fn hear_error(&mut self, id: Option<u32>, code: ErrorCode, message: &str, ear: &mut Ear<'_>) {
        let Some(id) = id else {
            // Of a publication without an id: which one, the client cannot know.
            assert!(is_no_fault(code), "{code}: {message}");
            return;
        };
        let asked = self.requests.remove(&id).unwrap_or_else(|| panic!("nobody asked for {code}: {message}"));
        match (asked, code) {
            (Asked::Publish(number), ErrorCode::Unavailable) => ear.truth.refuse(number),
            (Asked::Publish(_) | Asked::Members(_), ErrorCode::Unanswered) => ear.faults.unanswered += 1,
            (Asked::Members(_), ErrorCode::Unavailable) => {}
            // The server had ended it meanwhile.
            (Asked::Unsubscribe(topic), ErrorCode::NotSubscribed) => {
                assert!(ear.has_losses && !self.topics[&topic].has_begun, "{topic}");
            }
            // It was unsubscribed from before it began.
            (Asked::Subscribe { topic, .. }, ErrorCode::Unavailable) => {
                assert!(!self.topics[&topic].has_begun, "{topic}");
            }
            (asked, code) => panic!("{asked:?} was answered with {code}: {message}"),
        }
    }
}

fn is_no_fault(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unavailable | ErrorCode::Unanswered)
}

fn text(message: &ClientMessage<'_>) -> String {
    String::from_utf8(message.encode()).expect("messages are text")
}
