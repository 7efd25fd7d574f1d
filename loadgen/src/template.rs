//! What subscribing and publishing look like to a server with topics of its own: text with holes.

/// A message with `{topic}` and `{payload}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Topic,
    Payload,
}

impl Template {
    /// Reads a template; everything but `{topic}` and `{payload}` stands for itself.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((at, hole, part)) = [("{topic}", Part::Topic), ("{payload}", Part::Payload)]
            .into_iter()
            .filter_map(|(hole, part)| Some((rest.find(hole)?, hole, part)))
            .min_by_key(|&(at, ..)| at)
        {
            parts.push(Part::Literal(rest[..at].to_owned()));
            parts.push(part);
            rest = &rest[at + hole.len()..];
        }
        parts.push(Part::Literal(rest.to_owned()));
        Self { parts }
    }

    /// Whether there is a place for a payload.
    pub(crate) fn has_payload(&self) -> bool {
        self.parts.contains(&Part::Payload)
    }

    /// The message.
    pub(crate) fn fill(&self, topic: &str, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.parts {
            out.extend_from_slice(match part {
                Part::Literal(text) => text.as_bytes(),
                Part::Topic => topic.as_bytes(),
                Part::Payload => payload,
            });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_and_all_else_stays() {
        let cases = [
            (r#"{"pub":"{topic}","data":"{payload}"}"#, r#"{"pub":"t1","data":"xyz"}"#),
            ("{payload}", "xyz"),
            ("no hole {x}", "no hole {x}"),
            ("{topic}{topic}", "t1t1"),
        ];
        for (template, want) in cases {
            let template = Template::parse(template);
            assert_eq!(String::from_utf8(template.fill("t1", b"xyz")).unwrap(), want);
        }
        assert!(!Template::parse("{topic}").has_payload());
    }
}
