//! Holds `docs/CONFIGURATION.md` and `examples/corewire.toml` to the table of options.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::options::{Input, NAMESPACE_KEYS, OPTIONS, OptionSpec};
use super::{Config, Invocation, Loaded};
use crate::topics::Namespace;

const EXAMPLE: &str = include_str!("../../examples/corewire.toml");
const BEGIN: &str = "<!-- options: made from src/config/options/table.rs by UPDATE_DOCS=1 cargo test -->\n";
const END: &str = "<!-- end of options -->\n";
const NAMESPACES_BEGIN: &str =
    "<!-- namespaces: made from src/config/options/namespaces.rs by UPDATE_DOCS=1 cargo test -->\n";
const NAMESPACES_END: &str = "<!-- end of namespaces -->\n";

/// The options as Markdown, a table per group.
fn reference() -> String {
    let mut text = String::new();
    let mut group = None;
    for spec in OPTIONS {
        if group.replace(spec.group) != Some(spec.group) {
            let _ = write!(text, "\n### {}\n\n{HEAD}", spec.group.title());
        }
        text.push_str(&row(spec));
    }
    text.push('\n');
    text
}

const HEAD: &str = "| option | key | variable | default | unit and range | meaning |\n|---|---|---|---|---|---|\n";

fn row(spec: &OptionSpec) -> String {
    let repeat = if spec.repeatable { "; may be repeated" } else { "" };
    let mut meaning = format!("{}{repeat}.", spec.help);
    if !spec.more.is_empty() {
        let _ = write!(meaning, " {}", spec.more);
    }
    let cells = [
        format!("`--{} {}`", spec.name, spec.value_name),
        format!("`{}`", spec.name),
        format!("`{}`", spec.variable()),
        spec.default.describe().to_owned(),
        spec.accepts.unit_and_range(),
        meaning,
    ];
    // A bar would end the cell, a star or an angle bracket would be markup.
    let cells = cells.map(|cell| cell.replace('|', "\\|").replace("'*'", "`*`"));
    format!("| {} |\n", cells.join(" | "))
}

/// The keys of a namespace as Markdown.
fn namespace_reference() -> String {
    let mut text = "\n| key | default | values | meaning |\n|---|---|---|---|\n".to_owned();
    for key in NAMESPACE_KEYS {
        let _ =
            writeln!(text, "| `{}` | {} | {} | {} |", key.name, key.default, key.accepts.unit_and_range(), key.help);
    }
    text.push('\n');
    text
}

#[test]
fn the_reference_is_that_of_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md");
    let text = fs::read_to_string(&path).expect("docs/CONFIGURATION.md");
    let mut made = text.clone();
    for (begin, end, want) in [(BEGIN, END, reference()), (NAMESPACES_BEGIN, NAMESPACES_END, namespace_reference())] {
        let (before, rest) = made.split_once(begin).expect(begin);
        let (_, after) = rest.split_once(end).expect(end);
        made = format!("{before}{begin}{want}{end}{after}");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, made).expect("docs/CONFIGURATION.md");
    } else {
        assert!(text == made, "docs/CONFIGURATION.md is behind the tables: UPDATE_DOCS=1 cargo test mends it");
    }
}

#[test]
fn the_defaults_of_namespaces_are_those_of_the_server() {
    let mut namespace = Namespace { history_messages: 7, ..Namespace::default() };
    for key in NAMESPACE_KEYS {
        (key.set)(&mut namespace, &Input::of(&key.accepts, &[key.default.to_owned()])).expect(key.name);
    }
    assert_eq!(namespace, Namespace::default());
}

const JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"kdK8diySkmrsEjNGOmW978jPVysUmYjbSHgkXfsQP9E"}]}"#;
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAkdK8diySkmrsEjNGOmW978jPVysUmYjbSHgkXfsQP9E=
-----END PUBLIC KEY-----
";

/// Loads the example with stand-ins for the files that it names.
fn load(text: &str) -> Loaded {
    let args = ["corewire", "--config", "corewire.toml"].map(OsString::from);
    let read_file = |path: &Path| -> io::Result<String> {
        Ok(match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => text.to_owned(),
            Some("json") => JWKS.to_owned(),
            Some("pub") => PUBLIC_KEY.to_owned(),
            Some("secret") => "a secret of more than thirty-two bytes\n".to_owned(),
            Some("keys") => "0123456789abcdef\n".to_owned(),
            _ => "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n".to_owned(),
        })
    };
    match Config::from_sources(args.into_iter(), |_| None, read_file) {
        Ok(Invocation::Run(loaded)) => loaded,
        Ok(other) => panic!("{other:?}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_example_as_it_is_changes_nothing() {
    let loaded = load(EXAMPLE);
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(format!("{:?}", loaded.config), format!("{:?}", Config::default()));
}

#[test]
fn every_option_stands_in_the_example_and_what_is_commented_out_works_too() {
    let key_of = |line: &str| {
        let line = line.strip_prefix('#').unwrap_or(line);
        let (key, _) = line.split_once(" = ")?;
        super::options::find(key).map(|spec| (spec.name, line.to_owned()))
    };
    // The last line of a key stands: a variant in a comment comes after the default.
    let keys: BTreeMap<&str, String> = EXAMPLE.lines().filter_map(key_of).collect();
    let uncommented = keys.into_values().collect::<Vec<_>>().join("\n");
    let loaded = load(&uncommented);
    assert_eq!(loaded.warnings, [""; 0]);
    for spec in OPTIONS {
        assert!(loaded.source(spec.name).is_given(), "{} is not in the example", spec.name);
    }
}

#[test]
fn the_namespaces_of_the_example_work_when_they_are_no_comments() {
    let (_, namespaces) = EXAMPLE.split_once("# --- Namespaces").expect("its last part");
    let uncommented = |line: &str| line.strip_prefix('#').filter(|line| !line.starts_with(' ')).map(str::to_owned);
    let text: Vec<_> = namespaces.lines().skip(1).filter_map(uncommented).collect();
    let loaded = load(&format!("token-jwks = \"jwks.json\"\n{}", text.join("\n")));
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(loaded.config.namespaces[0], Namespace::default());
    assert!(loaded.config.namespaces.len() > 2);
    for key in NAMESPACE_KEYS {
        assert!(text.iter().any(|line| line.starts_with(key.name)), "{} is not in the example", key.name);
    }
}
