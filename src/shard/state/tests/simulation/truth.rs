//! What was really published, as far as anybody knows, and where it stands.

use std::collections::BTreeMap;

use crate::topics::{DataKind, Draft, Topic};

/// One life of a topic.
pub(super) type Life = (String, u64);

/// Everything that somebody has said, and the places that it was given.
#[derive(Default)]
pub(super) struct Truth {
    said: Vec<Said>,
    places: BTreeMap<Life, BTreeMap<u64, usize>>,
}

/// Something that was published, or was to be.
pub(super) struct Said {
    pub(super) topic: Topic,
    pub(super) key: Option<&'static str>,
    pub(super) kind: DataKind,
    pub(super) text: String,
    /// One connection, or one other thread: what it says about a topic is ordered.
    pub(super) by: u64,
    pub(super) fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nobody has been told.
    Unknown,
    /// It must never be heard.
    Refused,
    At {
        epoch: u64,
        offset: u64,
    },
}

impl Truth {
    /// Takes down what is about to be said; its content begins with the number that is answered, so it is said once.
    pub(super) fn say(
        &mut self,
        topic: &Topic,
        key: Option<&'static str>,
        kind: DataKind,
        by: u64,
        pad: usize,
    ) -> usize {
        let number = self.said.len();
        let text = match kind {
            DataKind::Json => format!("{{\"n\":{number},\"pad\":\"{}\"}}", "y".repeat(pad)),
            DataKind::Text | DataKind::Binary => format!("{number} {}", "x".repeat(pad)),
        };
        self.said.push(Said { topic: topic.clone(), key, kind, text, by, fate: Fate::Unknown });
        number
    }

    pub(super) fn said(&self, number: usize) -> &Said {
        &self.said[number]
    }

    pub(super) fn draft(&self, number: usize) -> Draft {
        let said = &self.said[number];
        Draft { kind: said.kind, data: said.text.clone().into(), key: said.key.map(Into::into), publisher: None }
    }

    /// Which one has this content. What was never said is nobody's to hear.
    pub(super) fn number_of(&self, text: &str) -> usize {
        let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let number = digits[..end].parse().unwrap_or_else(|_| panic!("nobody said {text:?}"));
        let said: &Said = self.said.get(number).unwrap_or_else(|| panic!("nobody said {text:?}"));
        let quoted = format!("\"{}\"", said.text);
        assert!(text == said.text || (said.kind == DataKind::Text && text == quoted), "{text:?} was {:?}", said.text);
        number
    }

    /// Somebody has learned where it stands: it stands nowhere else, and nothing else stands there.
    pub(super) fn place(&mut self, number: usize, topic: &str, epoch: u64, offset: u64) {
        let said = &mut self.said[number];
        assert_eq!(said.topic.as_str(), topic, "{:?} is heard in another topic", said.text);
        match said.fate {
            Fate::Unknown => said.fate = Fate::At { epoch, offset },
            Fate::Refused => panic!("{:?} of {topic} was refused, and stands at {offset} all the same", said.text),
            known => assert_eq!(known, Fate::At { epoch, offset }, "{:?} of {topic} stands in two places", said.text),
        }
        let other = self.places.entry((topic.to_owned(), epoch)).or_default().insert(offset, number);
        assert!(other.is_none_or(|other| other == number), "{topic} {offset}: two publications have one place");
    }

    /// Its publisher was told that nothing was done.
    pub(super) fn refuse(&mut self, number: usize) {
        let said = &mut self.said[number];
        assert!(
            !matches!(said.fate, Fate::At { .. }),
            "{:?} of {}: nothing was done, and it stands at {:?}",
            said.text,
            said.topic,
            said.fate
        );
        said.fate = Fate::Refused;
    }

    /// Where it stands, if anybody knows.
    pub(super) fn place_of(&self, number: usize) -> Option<(u64, u64)> {
        match self.said[number].fate {
            Fate::At { epoch, offset } => Some((epoch, offset)),
            Fate::Unknown | Fate::Refused => None,
        }
    }

    /// What this one has said and nobody has found.
    pub(super) fn unplaced_of(&self, by: u64) -> Vec<usize> {
        let is_unplaced = |(_, said): &(usize, &Said)| said.by == by && !matches!(said.fate, Fate::At { .. });
        self.said.iter().enumerate().filter(is_unplaced).map(|(number, _)| number).collect()
    }

    /// What is known of one life of a topic, by offset.
    pub(super) fn life(&self, topic: &str, epoch: u64) -> Option<&BTreeMap<u64, usize>> {
        self.places.get(&(topic.to_owned(), epoch))
    }

    /// How many are known to have been published, and how many may have been.
    pub(super) fn counts(&self) -> (u64, u64) {
        let known = self.places.values().map(|life| life.len() as u64).sum();
        let refused = self.said.iter().filter(|said| said.fate == Fate::Refused).count();
        (known, (self.said.len() - refused) as u64)
    }

    /// What each publisher said in a topic stands in the order in which it was said.
    pub(super) fn check_order(&self) {
        for ((topic, _), life) in &self.places {
            let mut last: BTreeMap<u64, usize> = BTreeMap::new();
            for (offset, &number) in life {
                let before = last.insert(self.said[number].by, number);
                assert!(
                    before.is_none_or(|before| before < number),
                    "{topic} {offset}: said {before:?}, then {number}"
                );
            }
        }
    }
}
