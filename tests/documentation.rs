//! What the guides point to is there: files, functions, tests, metrics and each other.

use std::fs;
use std::path::{Path, PathBuf};

const GUIDES: &[&str] = &[
    "README.md",
    "CHANGELOG.md",
    "docs/API.md",
    "docs/ARCHITECTURE.md",
    "docs/CONFIGURATION.md",
    "docs/OPERATIONS.md",
    "docs/TUTORIAL.md",
    "docs/WIRE.md",
    "clients/js/README.md",
    "clients/python/README.md",
];
const PROTOCOL: &str = "docs/PROTOCOL.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands between backticks, line by line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// A source as the guides name it: below `src`, or below the root where it begins with `tests/`.
fn source(path: &str) -> PathBuf {
    if path.starts_with("tests/") { path.into() } else { Path::new("src").join(path) }
}

#[test]
fn every_test_of_the_protocol_guide_exists() {
    let guide = read(PROTOCOL);
    let mut count = 0;
    for (file, name) in quoted(&guide).filter_map(|quoted| quoted.split_once(".rs::")) {
        let text = read(source(&format!("{file}.rs")));
        assert!(text.contains(&format!("fn {name}(")), "{file}.rs has no test {name}");
        count += 1;
    }
    assert!(count > 50, "only {count} tests were found: is the guide written otherwise now?");
}

#[test]
fn every_file_that_a_guide_names_exists() {
    for guide in GUIDES.iter().chain([&PROTOCOL]) {
        let text = read(guide);
        for file in quoted(&text).filter(|quoted| quoted.ends_with(".rs") && !quoted.contains(['*', ' '])) {
            let found = [Path::new(file).to_owned(), source(file), Path::new("examples").join(file)];
            assert!(found.iter().any(|path| root().join(path).exists()), "{guide} names {file}");
        }
    }
}

#[test]
fn links_between_guides_lead_somewhere() {
    for guide in GUIDES.iter().chain([&PROTOCOL]) {
        let folder = Path::new(guide).parent().expect("a file has a folder");
        for link in read(guide).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") {
                continue;
            }
            let target = if file.is_empty() { Path::new(guide).to_owned() } else { folder.join(file) };
            assert!(root().join(&target).exists(), "{guide}: {link}");
            let anchored = anchor.is_empty() || read(&target).lines().any(|line| anchor_of(line) == anchor);
            assert!(anchored, "{guide}: {link} has no such heading");
        }
    }
}

/// The anchor that a heading gets.
fn anchor_of(line: &str) -> String {
    let Some(heading) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()) else {
        return String::new();
    };
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|&c| c.is_alphanumeric() || c == '-' || c == '_').collect()
}

#[cfg(feature = "engine")]
#[test]
fn every_metric_is_in_the_operators_guide() {
    let guide = read("docs/OPERATIONS.md");
    for sample in corewire::metrics::ShardMetrics::default().samples() {
        let row = [format!("`{}`", sample.name), format!("`{}{{", sample.name)];
        assert!(row.iter().any(|name| guide.contains(name)), "{} is not explained", sample.name);
    }
}
