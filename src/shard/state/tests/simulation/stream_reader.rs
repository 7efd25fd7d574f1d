//! A client of Server-Sent Events, which comes back with the id of its last event, and holds the server to `docs/WIRE.md`.

use std::collections::BTreeMap;

use super::plan::Kind;
use super::reader::Ear;
use crate::wire::Position;
use crate::wire::sse::Positions;

/// One client over all of its connections.
pub(super) struct StreamReader {
    /// Topics and patterns.
    pub(super) subjects: Vec<&'static str>,
    /// Of the last event that was whole; empty before the first.
    last_id: String,
    /// Where it stands in topics that it has subscribed to by name, over all connections.
    stands: BTreeMap<&'static str, Position>,
    /// By topic, epoch and offset of what a pattern brought last on this connection.
    overheard: BTreeMap<String, (u64, u64)>,
    /// What has come of a line, and of an event.
    line: Vec<u8>,
    event: Event,
    /// Where it stood when it came back, until all that it asked for has begun.
    returned_at: Option<BTreeMap<&'static str, Position>>,
}

#[derive(Default)]
struct Event {
    id: Option<String>,
    kind: String,
    data: Vec<String>,
}

impl StreamReader {
    pub(super) fn new(subjects: Vec<&'static str>) -> Self {
        Self {
            subjects,
            last_id: String::new(),
            stands: BTreeMap::new(),
            overheard: BTreeMap::new(),
            line: Vec::new(),
            event: Event::default(),
            returned_at: None,
        }
    }

    pub(super) fn target(&self) -> String {
        let query: Vec<_> = self.subjects.iter().map(|subject| format!("topic={subject}")).collect();
        format!("/sse?{}", query.join("&"))
    }

    /// What a request says beside that.
    pub(super) fn headers(&mut self) -> String {
        if self.last_id.is_empty() {
            return String::new();
        }
        self.returned_at = Some(self.stands.clone());
        format!("Last-Event-ID: {}\r\n", self.last_id)
    }

    /// The connection is gone, and with it what was not whole.
    pub(super) fn lose(&mut self) {
        self.line.clear();
        self.event = Event::default();
        self.overheard.clear();
        self.returned_at = None;
    }

    /// Where it stands in a topic that it has subscribed to by name.
    pub(super) fn stands(&self, topic: &str) -> Option<Position> {
        self.stands.get(topic).copied()
    }

    /// Bytes of the stream, cut anywhere.
    pub(super) fn hear(&mut self, bytes: &[u8], ear: &mut Ear<'_>) {
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = String::from_utf8(std::mem::take(&mut self.line)).expect("a stream is UTF-8");
            self.hear_line(&line, ear);
        }
    }

    fn hear_line(&mut self, line: &str, ear: &mut Ear<'_>) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match (line, field) {
            ("", _) => {
                let event = std::mem::take(&mut self.event);
                self.hear_event(event, ear);
            }
            (_, "id") => self.event.id = Some(value),
            (_, "event") => self.event.kind = value,
            (_, "data") => self.event.data.push(value),
            (_, "" | "retry") => {}
            _ => panic!("{line:?} is no line of ours"),
        }
    }

    fn hear_event(&mut self, event: Event, ear: &mut Ear<'_>) {
        let Event { id, kind, data } = event;
        let said = match &id {
            Some(id) => Positions::parse(id).expect("an id of the server's own"),
            None => Positions::default(),
        };
        let about = match (&*kind, data.is_empty()) {
            ("", true) => None,
            ("", false) => Some(self.hear_publication(&data.join("\n"), &said, ear)),
            ("gap", _) => Some(self.hear_gap(&data.join("\n"), &said, ear)),
            _ => panic!("{kind:?} is no type of ours"),
        };
        let Some(id) = id else { return };
        // Of topics that the event is not about nothing has changed, but that they may have begun, or that a slow client
        // lost what stood in the queue before this.
        for &topic in &self.subjects {
            if let Some(position) = said.get(topic)
                && about.as_deref() != Some(topic)
            {
                let stood = self.stands.insert(topic, position).unwrap_or(position);
                let is_later = stood.epoch == position.epoch && stood.offset < position.offset;
                let may_move = is_later && !Kind::of(topic).is_firm();
                assert!(stood == position || may_move, "{topic}: from {stood} to {position} without an event");
            }
        }
        self.last_id = id;
    }

    /// Answers its topic.
    fn hear_publication(&mut self, data: &str, said: &Positions, ear: &mut Ear<'_>) -> String {
        let number = ear.truth.number_of(data);
        assert_eq!(data, ear.truth.said(number).text, "bare data is what was said");
        ear.faults.streamed += 1;
        let topic = ear.truth.said(number).topic.clone();
        assert!(self.subjects.iter().any(|subject| Kind::is_heard_by(subject, &topic)), "{topic} was not asked for");
        let (epoch, offset) = ear.truth.place_of(number).expect("whoever encoded it has said where it stands");
        let Some(&name) = self.subjects.iter().find(|subject| **subject == topic.as_str()) else {
            let before = self.overheard.insert(topic.as_str().to_owned(), (epoch, offset));
            let is_newer = before.is_none_or(|(last_epoch, last)| last_epoch != epoch || offset > last);
            assert!(is_newer, "{topic}: {offset} came after {before:?}");
            return topic.as_str().to_owned();
        };
        let at = said.get(name).expect("the id says where it stands");
        assert_eq!((at.epoch.0, at.offset), (epoch, offset), "{topic}: the id is that of another publication");
        if let Some(before) = self.stands.insert(name, at) {
            assert_eq!(before.epoch, at.epoch, "{topic}: another life began without a gap");
            let is_next = at.offset == before.offset + 1;
            assert!(
                is_next || (!Kind::of(name).is_firm() && at.offset > before.offset),
                "{topic}: {at} came after {before}"
            );
            let returned_at = self.returned_at.as_ref().and_then(|stood| stood.get(name));
            ear.faults.streams_recovered += u64::from(returned_at == Some(&before));
        }
        name.to_owned()
    }

    /// Answers its topic.
    fn hear_gap(&mut self, topic: &str, said: &Positions, ear: &mut Ear<'_>) -> String {
        ear.faults.stream_gaps += 1;
        let Some(&name) = self.subjects.iter().find(|subject| **subject == topic) else {
            assert!(ear.has_losses, "{topic}: a pattern has a gap, and nothing was lost");
            return topic.to_owned();
        };
        let at = said.get(name).expect("the id says where it goes on");
        if let Some(before) = self.stands.insert(name, at) {
            // A topic of which nothing was ever kept may be forgotten while nobody hears it.
            let was_used = ear.truth.life(name, before.epoch.0).is_some();
            assert!(!Kind::of(name).is_kept_whole() || !was_used, "{topic} keeps all, and {before} was not recovered");
        }
        name.to_owned()
    }
}
