//! Reports keep to the schema that is published beside them.

mod support;

use serde_json::Value;
use support::schema::check;
use support::{Fault, corewire, free_port, report, report_with, serve, serve_broadcast};

#[test]
fn every_scenario_keeps_to_the_schema() {
    let schema: Value = serde_json::from_str(include_str!("../report.schema.json")).unwrap();
    let (echo, faulty, broadcast) = (serve(Fault::None), serve(Fault::HangUp(20)), serve_broadcast(Fault::None));
    let lines = [
        format!("echo ws://127.0.0.1:{echo}/ -c 4 --for 2s --warm-up 100ms --pid {}", std::process::id()),
        format!("echo ws://127.0.0.1:{faulty}/ -c 4 --for 300ms --warm-up 100ms --rate 100 --timeout 2s"),
        format!("idle ws://127.0.0.1:{echo}/ -c 4 --for 300ms --pid {}", std::process::id()),
        format!(
            "idle ws://127.0.0.1:{echo}/ -c 4 --for 300ms --settle 100ms --sparse-every 100ms --hot-for 200ms --waves 2 \
             --pid {}",
            std::process::id()
        ),
        format!("fanout ws://127.0.0.1:{broadcast}/ -c 4 --for 300ms --warm-up 100ms"),
        format!("storm ws://127.0.0.1:{echo}/ -c 4 --for 300ms --warm-up 100ms"),
        format!("storm ws://127.0.0.1:{echo}/ -c 4 --for 500ms --warm-up 100ms --drop 50%"),
        format!("slow ws://127.0.0.1:{echo}/ -c 4 --for 300ms --warm-up 100ms"),
    ];
    for line in lines {
        let mut complaints = Vec::new();
        check(&report(&line), &schema, "report", &mut complaints);
        assert!(complaints.is_empty(), "{line}: {complaints:#?}");
    }
    for line in ["recovery {} -c 4 --drop 50% --for 500ms --warm-up 100ms", "idle {} --wire raw -c 4 --for 300ms"] {
        let port = free_port();
        let server = format!("{} serve --demo --admin off --listen 127.0.0.1:{port}", corewire().display());
        let line = line.replace("{}", &format!("ws://127.0.0.1:{port}/"));
        let mut complaints = Vec::new();
        check(&report_with(&line, &["--spawn", &server]), &schema, "report", &mut complaints);
        assert!(complaints.is_empty(), "{line}: {complaints:#?}");
    }
}

#[test]
fn a_report_that_does_not_keep_to_it_is_told() {
    let schema: Value = serde_json::from_str(include_str!("../report.schema.json")).unwrap();
    let mut complaints = Vec::new();
    check(&serde_json::json!({"url": 5, "surprise": 1}), &schema, "report", &mut complaints);
    for want in ["report.url", "report.surprise", "report.verdict"] {
        assert!(complaints.iter().any(|complaint| complaint.starts_with(want)), "{want}: {complaints:#?}");
    }
}
