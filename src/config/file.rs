//! The TOML file as plain texts with the lines on which they stand. Knows which keys exist, not what they mean.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::load::Given;
use super::options::{NamespaceKey, OPTIONS, OptionSpec};
use super::{Problem, Source, namespaces, parse};

/// What the file says.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) options: Vec<(&'static str, Given)>,
    /// In their order.
    pub(super) namespaces: Vec<namespaces::Table>,
}

/// What the file says. Problems are added to `problems`; what is right is returned all the same.
pub(super) fn read(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Contents {
    let mut reader = Reader { path: Arc::from(path), text, problems };
    match DeTable::parse(text) {
        Ok(table) => reader.table(table.get_ref()),
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            reader.problem(offset, format!("not TOML: {}", error.message()));
            Contents::default()
        }
    }
}

struct Reader<'a> {
    path: Arc<Path>,
    text: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>) -> Contents {
        let mut contents = Contents::default();
        for (key, value) in in_order(table) {
            let name: &str = key.get_ref();
            match super::options::find(name) {
                Some(spec) => contents.options.extend(self.value(spec, value).map(|given| (spec.name, given))),
                None if name == NAMESPACE => contents.namespaces = self.namespaces(value),
                None => self.unknown(name, key.span().start),
            }
        }
        contents
    }

    fn namespaces(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<namespaces::Table> {
        let what = "a namespace is a table: [namespace.default], [namespace.prices] or [namespace.\"prices:vip\"]";
        let DeValue::Table(tables) = value.get_ref() else {
            self.problem(value.span().start, what.to_owned());
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name, value) in in_order(tables) {
            let line = self.line(name.span().start);
            match value.get_ref() {
                DeValue::Table(table) => {
                    let given = self.namespace(table);
                    found.push(namespaces::Table { name: name.get_ref().to_string(), line, given });
                }
                _ => self.problem(name.span().start, what.to_owned()),
            }
        }
        found
    }

    fn namespace(&mut self, table: &DeTable<'_>) -> Vec<(&'static NamespaceKey, Given)> {
        let mut found: Vec<(&NamespaceKey, Given)> = Vec::new();
        for (name, value) in in_order(table) {
            let line = self.line(value.span().start);
            let key = match namespaces::find(name.get_ref()) {
                Ok(key) => key,
                Err(what) => {
                    self.problem(name.span().start, what);
                    continue;
                }
            };
            if found.iter().any(|(other, _)| other.name == key.name) {
                self.problem(name.span().start, format!("`{}` stands twice", key.name));
                continue;
            }
            let text = match value.get_ref() {
                DeValue::Boolean(true) if key.name == "presence" => Some("on".to_owned()),
                DeValue::Boolean(false) if key.name == "presence" => Some("off".to_owned()),
                other => scalar(other),
            };
            match text {
                Some(text) => found.push((key, namespaces::given(&self.path, line, text))),
                None => {
                    let kind = value.get_ref().type_str();
                    let expected = key.accepts.describe();
                    let what =
                        format!("`{}` is a TOML {kind}, not a string or a number\n  expected: {expected}", key.name);
                    self.problem(value.span().start, what);
                }
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
            None => {
                format!(
                    "there is no key `{name}`; the keys are the long options of `corewire --help`, and [namespace.NAME]"
                )
            }
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

/// By their places in the file.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Spanned<Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
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

/// The table of tables.
const NAMESPACE: &str = "namespace";
