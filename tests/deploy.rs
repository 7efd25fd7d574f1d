//! What `deploy/` offers fits what the server exposes.

#![cfg(feature = "cli")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::VARIANTS;
use common::binary::Binary;
use serde_json::Value;

/// Families that no panel shows, and why.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("corewire_build_info", "the variables are made of it"),
    ("process_start_time_seconds", "the uptime says the same"),
];

/// Every family in `GET /metrics` of a server that runs.
fn exposed() -> BTreeSet<String> {
    let server = Binary::on_any_port(VARIANTS[0], &["serve", "--admin", "127.0.0.1:0"]);
    let text = server.admin_get("/metrics");
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    families.map(str::to_owned).collect()
}

/// Names of metrics in everything that Prometheus is asked.
fn named_in(dashboard: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    each_string(dashboard, &mut |key, text| {
        if key != "expr" && key != "query" {
            return;
        }
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        names.extend(words.filter(|word| is_metric(word)).map(str::to_owned));
    });
    names
}

fn is_metric(word: &str) -> bool {
    word.starts_with("corewire_") || word.starts_with("process_")
}

fn each_string(value: &Value, call: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| each_string(item, call)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) => call(key, text),
                    other => each_string(other, call),
                }
            }
        }
        _ => {}
    }
}

fn dashboard() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/corewire.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("it is there")).expect("it is JSON")
}

#[test]
fn the_grafana_dashboard_and_the_metrics_are_the_same_set() {
    let (exposed, dashboard) = (exposed(), dashboard());
    let named = named_in(&dashboard);
    let unknown: Vec<_> = named.difference(&exposed).collect();
    assert!(unknown.is_empty(), "deploy/grafana/corewire.json asks for what GET /metrics does not have: {unknown:?}");

    let shown = named_in(&dashboard["panels"]);
    let left_out: BTreeSet<_> = NOT_SHOWN.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing: Vec<_> = exposed.difference(&shown).filter(|name| !left_out.contains(*name)).collect();
    assert!(
        missing.is_empty(),
        "no panel of deploy/grafana/corewire.json shows {missing:?}: add one, or a line to NOT_SHOWN in this file"
    );
    for name in left_out {
        assert!(exposed.contains(&name) && !shown.contains(&name), "{name} is in NOT_SHOWN for nothing");
    }
}

#[test]
fn the_grafana_dashboard_lets_the_data_source_and_the_server_be_chosen() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    let names: Vec<_> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(names, ["datasource", "job", "instance", "core"]);
    let panels = dashboard["panels"].as_array().expect("a list");
    assert!(panels.iter().any(|panel| panel["type"] == "row" && panel["repeat"] == "core"), "a row for each core");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{} has the id of another", panel["title"]);
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        for target in panel["targets"].as_array().expect("a list") {
            let expression = target["expr"].as_str().expect("a text");
            for chosen in ["job=~\"$job\"", "instance=~\"$instance\""] {
                assert!(expression.contains(chosen), "{}: {expression} is not bound to {chosen}", panel["title"]);
            }
        }
    }
}
