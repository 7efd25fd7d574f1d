//! What is published, as the page shows it: asked of the homes of all cores, and put together.

use serde::{Deserialize, Serialize};

use crate::topics::{DataKind, Heard, NameError, Subject, Watch, Watched, WatcherId};

/// The parameters of `GET /dashboard/topics`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    /// Chosen by the page: what was published is told since this one asked last.
    watcher: u64,
    /// A topic or a pattern whose publications are to be told whole from now on.
    hear: Option<String>,
}

/// Its body. Publications of one topic are in their order.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Topics {
    /// Since the question before, in seconds; 0 for the first.
    span: f64,
    topics: usize,
    publications: u64,
    busiest: Vec<(String, u64)>,
    heard: Vec<Told>,
    unheard: u64,
    /// Cores that did not answer in time: nothing above is theirs.
    silent_cores: Vec<usize>,
}

/// A publication.
#[derive(Debug, PartialEq, Serialize)]
struct Told {
    topic: String,
    epoch: String,
    offset: u64,
    key: Option<String>,
    kind: &'static str,
    /// Text, of JSON as it was published; of binary data, with escapes for what is not printable.
    data: String,
}

impl Parameters {
    pub(super) fn watch(&self) -> Result<Watch, NameError> {
        let hear = self.hear.as_deref().map(Subject::parse).transpose()?;
        Ok(Watch { watcher: WatcherId(self.watcher), hear })
    }
}

impl Topics {
    /// Of what each core has answered, if it has.
    pub(super) fn of(answers: Vec<Option<Watched>>) -> Self {
        let mut all = Self::default();
        for (core, answer) in answers.into_iter().enumerate() {
            match answer {
                Some(watched) => all.add(watched),
                None => all.silent_cores.push(core),
            }
        }
        // Each topic has one home, so nothing stands twice.
        all.busiest.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
        all.busiest.truncate(BUSIEST_MAX);
        all
    }

    fn add(&mut self, watched: Watched) {
        let Watched { topic_count, span, publication_count, busiest, heard, unheard } = watched;
        self.span = self.span.max(span.as_secs_f64());
        self.topics += topic_count;
        self.publications += publication_count;
        self.busiest.extend(busiest.into_iter().map(|(topic, count)| (topic.as_str().to_owned(), count)));
        self.heard.extend(heard.into_iter().map(Told::from));
        self.unheard += unheard;
    }
}

impl From<Heard> for Told {
    fn from(Heard { topic, epoch, publication }: Heard) -> Self {
        let draft = publication.draft;
        let (kind, data) = match draft.kind {
            DataKind::Json => ("json", String::from_utf8_lossy(&draft.data).into_owned()),
            DataKind::Text => ("text", String::from_utf8_lossy(&draft.data).into_owned()),
            DataKind::Binary => ("binary", draft.data.escape_ascii().to_string()),
        };
        Self {
            topic: topic.as_str().to_owned(),
            epoch: epoch.to_string(),
            offset: publication.offset,
            key: draft.key.map(|key| key.as_ref().to_owned()),
            kind,
            data,
        }
    }
}

/// Most topics that are shown.
const BUSIEST_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::topics::{Draft, Epoch, Publication, Topic};

    fn topic(name: &str) -> Topic {
        Topic::parse(name).expect(name)
    }

    fn heard(name: &str, offset: u64, kind: DataKind, data: &'static [u8]) -> Heard {
        let draft = Draft { kind, data: Bytes::from_static(data), key: None, publisher: None };
        Heard { topic: topic(name), epoch: Epoch::new(1), publication: Publication { offset, draft } }
    }

    #[test]
    fn cores_are_put_together_and_a_silent_one_is_named() {
        let busy = |name: &str, count| (topic(name), count);
        let one = Watched {
            topic_count: 3,
            span: Duration::from_millis(992),
            publication_count: 9,
            busiest: vec![busy("b", 5), busy("c", 4)],
            heard: vec![heard("b", 1, DataKind::Text, b"x"), heard("b", 2, DataKind::Text, b"y")],
            unheard: 1,
        };
        let other = Watched {
            topic_count: 1,
            span: Duration::from_secs(1),
            publication_count: 5,
            busiest: vec![busy("a", 5)],
            heard: vec![heard("a", 7, DataKind::Json, b"{}")],
            unheard: 2,
        };
        let all = Topics::of(vec![Some(one), None, Some(other)]);
        assert_eq!((all.span, all.topics, all.publications, all.unheard), (1.0, 4, 14, 3));
        assert_eq!(all.busiest, [("a".to_owned(), 5), ("b".to_owned(), 5), ("c".to_owned(), 4)]);
        let heard: Vec<_> = all.heard.iter().map(|told| (&*told.topic, told.offset, told.kind, &*told.data)).collect();
        assert_eq!(heard, [("b", 1, "text", "x"), ("b", 2, "text", "y"), ("a", 7, "json", "{}")]);
        assert_eq!(all.silent_cores, [1]);
    }

    #[test]
    fn what_is_no_text_is_shown_with_escapes() {
        let told = Told::from(heard("a", 1, DataKind::Binary, b"a\x00\xff"));
        assert_eq!((told.kind, &*told.data), ("binary", r"a\x00\xff"));
    }

    #[test]
    fn a_subject_that_cannot_be_is_refused() {
        let of = |hear: &str| Parameters { watcher: 1, hear: Some(hear.to_owned()) }.watch();
        assert!(matches!(of("prices:*"), Ok(Watch { hear: Some(Subject::Pattern(_)), .. })));
        assert!(matches!(of("prices"), Ok(Watch { hear: Some(Subject::Topic(_)), .. })));
        assert!(of("a::b").is_err());
        let nothing = Parameters { watcher: 7, hear: None }.watch().expect("good");
        assert_eq!(nothing, Watch { watcher: WatcherId(7), hear: None });
    }
}
