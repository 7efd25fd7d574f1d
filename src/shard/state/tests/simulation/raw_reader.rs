//! A client that only opened a URL: it hears bare data and knows no offsets, but we do.

use std::collections::BTreeMap;

use super::faults::Faults;
use super::plan::Kind;
use super::truth::Truth;

/// What one connection has heard.
pub(super) struct RawReader {
    /// Topics or patterns.
    pub(super) subjects: Vec<&'static str>,
    /// By topic, epoch and offset of what came last.
    last: BTreeMap<String, (u64, u64)>,
}

impl RawReader {
    pub(super) fn new(subjects: Vec<&'static str>) -> Self {
        Self { subjects, last: BTreeMap::new() }
    }

    pub(super) fn target(&self) -> String {
        let query: Vec<_> = self.subjects.iter().map(|subject| format!("topic={subject}")).collect();
        format!("/ws?{}", query.join("&"))
    }

    /// The one topic that it may publish in.
    pub(super) fn only_topic(&self) -> Option<&'static str> {
        match self.subjects[..] {
            [only] if !only.contains('*') => Some(only),
            _ => None,
        }
    }

    pub(super) fn lose(&mut self) {
        self.last.clear();
    }

    pub(super) fn hear(&mut self, text: &str, truth: &Truth, faults: &mut Faults) {
        let number = truth.number_of(text);
        assert_eq!(text, truth.said(number).text, "bare data is what was said");
        faults.heard += 1;
        let topic = truth.said(number).topic.clone();
        assert!(self.subjects.iter().any(|subject| Kind::is_heard_by(subject, &topic)), "{topic} was not asked for");
        let place = truth.place_of(number).expect("whoever encoded it has said where it stands");
        let before = self.last.insert(topic.as_str().to_owned(), place);
        let Some((epoch, offset)) = before else { return };
        if self.subjects.contains(&topic.as_str()) {
            assert_eq!(place.0, epoch, "{topic}: whoever hears it keeps it alive");
            assert!(
                !Kind::of(topic.as_str()).is_firm() || place.1 == offset + 1,
                "{topic}: {} after {offset}",
                place.1
            );
        }
        assert!(place.0 != epoch || place.1 > offset, "{topic}: {} after {offset}", place.1);
    }

    /// Where it stands in a topic.
    pub(super) fn last(&self, topic: &str) -> Option<(u64, u64)> {
        self.last.get(topic).copied()
    }
}
