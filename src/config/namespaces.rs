//! The `[namespace.NAME]` tables of the file: how topics behave. No other source has a place for them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::load::Given;
use super::options::{Input, NAMESPACE_KEYS, NamespaceKey, namespace_key};
use super::{Problem, Source, parse};
use crate::topics::{Access, Namespace, Namespaces, Topic};

/// One table of the file.
pub(super) struct Table {
    /// As it stands in the file: `default`, or segments of topics.
    pub(super) name: String,
    /// Where it begins.
    pub(super) line: usize,
    pub(super) given: Vec<(&'static NamespaceKey, Given)>,
}

/// Who said the values of each namespace, in the order of [`Config::namespaces`](super::Config::namespaces).
pub(super) type NamespaceSources = Vec<HashMap<&'static str, Source>>;

/// The name under which the file has the default namespace.
pub(super) const DEFAULT: &str = "default";

/// Namespaces from tables, the default first. What a table does not say, it has from the default's.
pub(super) fn build(
    path: &Path,
    mut tables: Vec<Table>,
    problems: &mut Vec<Problem>,
) -> (Vec<Namespace>, NamespaceSources) {
    let default = tables.iter().position(|table| table.name == DEFAULT).map(|place| tables.remove(place));
    let (mut first, mut first_sources) = (Namespace::default(), HashMap::new());
    if let Some(table) = default {
        fill(&mut first, &mut first_sources, table, problems);
    }
    let (mut all, mut sources) = (vec![first], vec![first_sources]);
    for table in tables {
        let mut namespace = Namespace { name: table.name.clone(), ..all[0].clone() };
        let mut from = all_keys(Source::Follows("namespace.default"));
        if let Err(error) = Topic::parse(&table.name) {
            let what = format!("no topic can be in the namespace `{}`: {error}", table.name);
            problems.push(Problem::File { path: path.to_path_buf(), line: Some(table.line), what });
        }
        fill(&mut namespace, &mut from, table, problems);
        all.push(namespace);
        sources.push(from);
    }
    (all, sources)
}

/// What is allowed but probably not meant.
pub(super) fn warnings(all: &[Namespace], has_keys: bool, message_bytes_max: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    for namespace in all {
        let name = shown_name(namespace);
        let wants_token = |access| matches!(access, Access::Token | Access::Signed);
        if !has_keys && (wants_token(namespace.subscribe) || wants_token(namespace.publish)) {
            warnings.push(format!(
                "[namespace.{name}] wants tokens, and there are no keys to check them with: nobody is let in; give \
                 --token-secret, --token-key or --token-jwks"
            ));
        }
        if namespace.message_bytes_max > message_bytes_max {
            warnings.push(format!(
                "[namespace.{name}] message-bytes-max ({}) is above --max-message-bytes ({}): clients cannot send such \
                 messages",
                parse::show_size(namespace.message_bytes_max as u64),
                parse::show_size(message_bytes_max as u64)
            ));
        }
    }
    warnings
}

/// As it stands in the head of its table.
pub(super) fn shown_name(namespace: &Namespace) -> &str {
    if namespace.name.is_empty() { DEFAULT } else { &namespace.name }
}

/// Whether they can be together; each is right alone.
pub(super) fn check(all: &[Namespace]) -> Result<(), String> {
    let (default, named) = all.split_first().expect("the default is always there");
    Namespaces::new(default.clone(), named.iter().cloned()).map(|_| ()).map_err(|error| error.to_string())
}

fn fill(
    namespace: &mut Namespace,
    sources: &mut HashMap<&'static str, Source>,
    table: Table,
    problems: &mut Vec<Problem>,
) {
    for (key, given) in table.given {
        let outcome = match given.texts.as_slice() {
            [text] if text.is_empty() => Err("it is empty".to_owned()),
            texts => (key.set)(namespace, &Input::of(&key.accepts, texts)),
        };
        match outcome {
            Ok(()) => drop(sources.insert(key.name, given.source)),
            Err(what) => problems.push(Problem::Namespace {
                namespace: table.name.clone(),
                key: key.name,
                source: given.source,
                what,
                expected: key.accepts.describe(),
            }),
        }
    }
}

fn all_keys(source: Source) -> HashMap<&'static str, Source> {
    NAMESPACE_KEYS.iter().map(|key| (key.name, source.clone())).collect()
}

/// What the file says of namespaces is read key by key: this one, whichever way its words are joined.
pub(super) fn find(name: &str) -> Result<&'static NamespaceKey, String> {
    let name = name.replace('_', "-");
    namespace_key(&name).ok_or_else(|| match parse::nearest(&name, NAMESPACE_KEYS.iter().map(|key| key.name)) {
        Some(near) => format!("a namespace has no key `{name}`; perhaps `{near}`"),
        None => {
            let keys: Vec<_> = NAMESPACE_KEYS.iter().map(|key| key.name).collect();
            format!("a namespace has no key `{name}`; the keys are {}", keys.join(", "))
        }
    })
}

/// A value of a namespace's key, as text.
pub(super) fn given(path: &Arc<Path>, line: usize, text: String) -> Given {
    // `drop_oldest` is as good as `drop-oldest`; no value has an underscore that means something, but in numbers.
    let text = if text.starts_with(|c: char| c.is_ascii_alphabetic()) { text.replace('_', "-") } else { text };
    Given { texts: vec![text], source: Source::File { path: Arc::clone(path), line } }
}
