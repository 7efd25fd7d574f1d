use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::metrics::ShardMetrics;

/// Of no core.
const FIGURES: [Sample; 3] = [
    Sample { name: "alone", label: None, help: "One.", kind: Kind::Gauge, value: 7 },
    Sample { name: "both_total", label: Some(("which", "a")), help: "Two.", kind: Kind::Counter, value: 1 },
    Sample { name: "both_total", label: Some(("which", "b")), help: "Two.", kind: Kind::Counter, value: 2 },
];

/// A series as a scraper reads it.
#[derive(Debug, PartialEq)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A line as the format defines it; panics with the line if it is none.
enum Line {
    Help(String),
    Type(String, String),
    Series(Series),
}

fn parse(line: &str) -> Line {
    if let Some(rest) = line.strip_prefix("# HELP ") {
        let (name, help) = rest.split_once(' ').expect(line);
        assert!(!help.is_empty() && is_name(name), "{line}");
        Line::Help(name.to_owned())
    } else if let Some(rest) = line.strip_prefix("# TYPE ") {
        let (name, kind) = rest.split_once(' ').expect(line);
        assert!(["counter", "gauge"].contains(&kind), "{line}");
        Line::Type(name.to_owned(), kind.to_owned())
    } else {
        Line::Series(parse_series(line))
    }
}

fn parse_series(line: &str) -> Series {
    let name_len = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(name_len);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").expect(line);
            let (content, after) = parse_quoted(after);
            assert!(is_name(label), "{line}");
            assert!(labels.insert(label.to_owned(), content).is_none(), "{line}");
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}').expect(line);
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').expect(line);
    Series { name: name.to_owned(), labels, value: value.parse().expect(line) }
}

/// Content up to the closing quote, and what stands after it.
fn parse_quoted(text: &str) -> (String, &str) {
    let mut content = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return (content, &text[index + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => content.push('\n'),
                Some((_, c @ ('\\' | '"'))) => content.push(c),
                other => panic!("{other:?} after a backslash in {text}"),
            },
            c => content.push(c),
        }
    }
    panic!("no closing quote in {text}")
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn shard(core: usize) -> CoreMetrics {
    CoreMetrics { core, metrics: Arc::new(ShardMetrics::default()) }
}

fn render_with(shards: &[CoreMetrics], version: &'static str) -> String {
    let started_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    render(&Exposed {
        shards,
        figures: &FIGURES,
        build: BuildInfo { version },
        started_at,
        now: started_at + Duration::from_millis(2500),
        is_draining: false,
        process: ProcessFigures {
            open_fds: Some(40),
            max_fds: Some(1024),
            resident_bytes: Some(5 << 20),
            cpu_time: Some(Duration::from_millis(1250)),
            started_at: Some(Duration::from_millis(1_700_000_000_500)),
            core_times: vec![(0, Duration::from_millis(700)), (5, Duration::from_secs(3)), (77, Duration::ZERO)],
        },
    })
}

fn all_series(text: &str) -> Vec<Series> {
    let lines = text.lines().map(parse);
    lines
        .filter_map(|line| match line {
            Line::Series(series) => Some(series),
            Line::Help(_) | Line::Type(..) => None,
        })
        .collect()
}

fn value_of(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let series = all_series(text);
    let found = series.iter().find(|s| s.name == name && s.labels == labels);
    found.unwrap_or_else(|| panic!("{name} {labels:?}")).value
}

#[test]
fn every_family_is_one_block_of_help_type_and_series() {
    let text = render_with(&[shard(0), shard(5)], "0.1.0");
    assert!(text.ends_with('\n'));
    let mut families: Vec<(String, String)> = Vec::new();
    let mut helped = None;
    for line in text.lines() {
        match parse(line) {
            Line::Help(name) => {
                assert!(families.iter().all(|(family, _)| *family != name), "{name} comes twice");
                helped = Some(name);
            }
            Line::Type(name, kind) => {
                assert_eq!(helped.take(), Some(name.clone()), "TYPE follows HELP");
                families.push((name, kind));
            }
            Line::Series(series) => {
                assert_eq!(helped, None);
                let (family, kind) = families.last().expect("a series comes after its family");
                assert_eq!(*family, series.name);
                assert_eq!(kind == "counter", family.ends_with("_total"), "{family} is a {kind}");
                assert!(series.value >= 0.0);
            }
        }
    }
    let series = all_series(&text);
    for (index, one) in series.iter().enumerate() {
        let mut before = series[..index].iter();
        assert!(!before.any(|other| (&other.name, &other.labels) == (&one.name, &one.labels)), "{one:?}");
    }
    for (family, _) in &families {
        assert!(series.iter().any(|one| one.name == *family), "{family} is empty");
    }
}

#[test]
fn every_figure_of_every_shard_is_there_once_and_nothing_is_summed() {
    let shards = [shard(0), shard(5)];
    let text = render_with(&shards, "0.1.0");
    let series = all_series(&text);
    let figures = shards[0].metrics.samples().count();
    for core in ["0", "5"] {
        let of_core = series.iter().filter(|s| s.labels.get("core").map(String::as_str) == Some(core));
        // And the time that the kernel counts.
        assert_eq!(of_core.count(), figures + 1, "core {core}");
    }
    let without_core = series.iter().filter(|s| !s.labels.contains_key("core"));
    let names: Vec<&str> = without_core.map(|s| s.name.as_str()).collect();
    let want = [
        "corewire_build_info",
        "corewire_uptime_seconds",
        "corewire_draining",
        "corewire_alone",
        "corewire_both_total",
        "corewire_both_total",
        "process_open_fds",
        "process_max_fds",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
    ];
    assert_eq!(names, want);
}

#[test]
fn values_go_to_the_core_and_member_that_counted_them() {
    let shards = [shard(0), shard(5)];
    shards[0].metrics.connections_open.set(3);
    shards[1].metrics.connections_open.set(u64::MAX);
    shards[1].metrics.refused_origin.add(7);
    let text = render_with(&shards, "0.1.0");

    let open = |core| value_of(&text, "corewire_connections", &[("core", core), ("state", "open")]);
    assert_eq!(open("0"), 3.0);
    assert!(text.contains("corewire_connections{core=\"5\",state=\"open\"} 18446744073709551615\n"));
    assert_eq!(value_of(&text, "corewire_refusals_total", &[("core", "5"), ("reason", "origin")]), 7.0);
    assert_eq!(value_of(&text, "corewire_refusals_total", &[("core", "0"), ("reason", "origin")]), 0.0);
    assert_eq!(value_of(&text, "corewire_core_cpu_seconds_total", &[("core", "0")]), 0.7);
    assert_eq!(value_of(&text, "corewire_core_cpu_seconds_total", &[("core", "5")]), 3.0);
    assert!(!text.contains("core=\"77\""), "that thread is no core of this server");
    assert_eq!(value_of(&text, "corewire_uptime_seconds", &[]), 2.5);
    assert_eq!(value_of(&text, "process_cpu_seconds_total", &[]), 1.25);
    assert_eq!(value_of(&text, "process_start_time_seconds", &[]), 1_700_000_000.5);
    assert_eq!(value_of(&text, "process_resident_memory_bytes", &[]), 5_242_880.0);
    assert_eq!(value_of(&text, "corewire_build_info", &[("version", "0.1.0")]), 1.0);
}

#[test]
fn labels_and_help_are_escaped() {
    let text = render_with(&[], "a\"b\\c\nd");
    assert!(text.contains(r#"corewire_build_info{version="a\"b\\c\nd"} 1"#));
    assert_eq!(value_of(&text, "corewire_build_info", &[("version", "a\"b\\c\nd")]), 1.0);

    let mut written = Text(String::new());
    written.family("x", Kind::Gauge, "one\\two\nthree \"four\"");
    assert_eq!(written.0, "# HELP x one\\\\two\\nthree \"four\"\n# TYPE x gauge\n");
}

#[test]
fn a_server_without_shards_and_a_process_without_proc_are_no_failure() {
    let text = render(&Exposed {
        shards: &[],
        figures: &[],
        build: BuildInfo { version: "0.1.0" },
        // A clock that was set back.
        started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        now: SystemTime::UNIX_EPOCH,
        is_draining: true,
        process: ProcessFigures::default(),
    });
    assert_eq!(value_of(&text, "corewire_uptime_seconds", &[]), 0.0);
    assert_eq!(value_of(&text, "corewire_draining", &[]), 1.0);
    assert_eq!(all_series(&text).len(), 3);
}

#[test]
fn figures_of_no_core_have_no_core() {
    let text = render_with(&[], "0.1.0");
    assert_eq!(value_of(&text, "corewire_alone", &[]), 7.0);
    assert_eq!(value_of(&text, "corewire_both_total", &[("which", "b")]), 2.0);
}
