//! The TOML file as plain texts with the lines on which they stand. Knows which keys exist, not what they mean.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::load::Given;
use super::options::{OPTIONS, OptionSpec};
use super::{Problem, Source, parse};

/// What the file says, by option. Problems are added to `problems`; what is right is returned all the same.
pub(super) fn read(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Vec<(&'static str, Given)> {
    let mut reader = Reader { path: Arc::from(path), text, problems };
    match DeTable::parse(text) {
        Ok(table) => reader.table(table.get_ref()),
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            reader.problem(offset, format!("not TOML: {}", error.message()));
            Vec::new()
        }
    }
}

struct Reader<'a> {
    path: Arc<Path>,
    text: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>) -> Vec<(&'static str, Given)> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut found = Vec::new();
        for (key, value) in entries {
            let name: &str = key.get_ref();
            match super::options::find(name) {
                Some(spec) => found.extend(self.value(spec, value).map(|given| (spec.name, given))),
                None => self.unknown(name, key.span().start),
            }
        }
        found
    }

    fn value(&mut self, spec: &'static OptionSpec, value: &Spanned<DeValue<'_>>) -> Option<Given> {
        let offset = value.span().start;
        let texts = match value.get_ref() {
            DeValue::Array(items) if spec.repeatable => {
                items.iter().map(|item| scalar(item.get_ref())).collect::<Option<Vec<_>>>()
            }
            DeValue::Array(_) => None,
            single => scalar(single).map(|text| super::load::split(spec, &text)),
        };
        let source = Source::File { path: Arc::clone(&self.path), line: self.line(offset) };
        match texts {
            Some(texts) => Some(Given { texts, source }),
            None => {
                let list = if spec.repeatable { " or a list of strings" } else { "" };
                self.problems.push(Problem::Value {
                    option: spec.name,
                    source,
                    what: format!("it is a TOML {}, not a string or a number{list}", value.get_ref().type_str()),
                    expected: spec.accepts.describe(),
                });
                None
            }
        }
    }

    fn unknown(&mut self, name: &str, offset: usize) {
        let what = match parse::nearest(name, OPTIONS.iter().map(|spec| spec.name)) {
            Some(near) => format!("there is no key `{name}`; perhaps `{near}`"),
            None => format!("there is no key `{name}`; the keys are the long options of `corewire --help`"),
        };
        self.problem(offset, what);
    }

    fn problem(&mut self, offset: usize, what: String) {
        self.problems.push(Problem::File { path: self.path.to_path_buf(), line: Some(self.line(offset)), what });
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(integer) => Some(show_integer(integer)),
        DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// With the prefix that the file had: `unix-mode = 660` and `unix-mode = 0o660` mean the same.
fn show_integer(integer: &DeInteger<'_>) -> String {
    let prefix = match integer.radix() {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        _ => "",
    };
    format!("{prefix}{}", integer.as_str())
}
