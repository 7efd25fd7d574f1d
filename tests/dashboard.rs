//! What the page on the admin listener is told, by the real server.

#![cfg(feature = "cli")]

mod common;

use common::binary::Binary;
use common::{VARIANTS, Variant};
use serde_json::{Value, json};

fn serve(variant: Variant) -> Binary {
    Binary::on_any_port(variant, &["serve", "--admin", "127.0.0.1:0"])
}

fn get(server: &Binary, path: &str) -> Value {
    let body = server.admin_get(path);
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error} in {body}"))
}

fn publish(server: &Binary, topic: &str, data: &Value) {
    let body = json!({ "topic": topic, "data": data }).to_string();
    let accepted = server.admin_post("/api/v1/publish", &body);
    assert!(accepted.contains("\"offset\""), "{accepted}");
}

#[test]
fn topics_of_all_cores_are_counted_and_heard() {
    for variant in VARIANTS {
        let server = serve(variant);
        let question = "/dashboard/topics?watcher=7&hear=prices:*";
        let first = get(&server, question);
        assert_eq!((&first["span"], &first["busiest"]), (&json!(0.0), &json!([])), "nothing since nobody asked");
        for index in 0..6 {
            publish(&server, &format!("prices:{index}"), &json!({ "eur": index }));
        }
        publish(&server, "prices:3", &json!("closed"));
        publish(&server, "other", &json!(1));

        let told = get(&server, question);
        assert_eq!((&told["publications"], &told["topics"]), (&json!(8), &json!(7)));
        assert_eq!(told["busiest"][0], json!(["prices:3", 2]));
        assert_eq!((&told["unheard"], &told["silent_cores"]), (&json!(0), &json!([])));
        let heard = told["heard"].as_array().expect("a list");
        assert_eq!(heard.len(), 7, "{heard:?}");
        let of_three: Vec<_> = heard.iter().filter(|one| one["topic"] == "prices:3").collect();
        let shown: Vec<_> = of_three.iter().map(|one| (&one["offset"], &one["kind"], &one["data"])).collect();
        assert_eq!(
            shown,
            [(&json!(1), &json!("json"), &json!("{\"eur\":3}")), (&json!(2), &json!("json"), &json!("\"closed\""))]
        );
        // Another page has its own account.
        assert_eq!(get(&server, "/dashboard/topics?watcher=8")["publications"], 0);
        assert_eq!(get(&server, question)["publications"], 0);
    }
}

#[test]
fn a_question_that_cannot_be_is_refused() {
    let server = serve(VARIANTS[0]);
    for (path, code, word) in [
        ("/dashboard/topics?watcher=1&hear=a::b", "bad_topic", "empty"),
        ("/dashboard/topics?watcher=x", "bad_field", "watcher"),
        ("/dashboard/topics", "bad_field", "watcher"),
        ("/dashboard/topics?watcher=1&here=a", "bad_field", "here"),
    ] {
        let error = &get(&server, path)["error"];
        assert_eq!(error["code"], code, "{path}");
        assert!(error["message"].as_str().expect("a text").contains(word), "{path}: {error}");
    }
}

#[test]
fn the_load_of_each_core_is_known() {
    let server = serve(VARIANTS[0]);
    let figures = get(&server, "/dashboard/figures");
    let cores = figures["cores"].as_array().expect("a list");
    assert!(!cores.is_empty() && cores.iter().all(|core| core["cpu"].as_f64().is_some()), "{cores:?}");
    assert_eq!(figures["has_topics"], true);
    let metrics = server.admin_get("/metrics");
    for core in cores {
        assert!(metrics.contains(&format!("corewire_core_cpu_seconds_total{{core=\"{}\"}} ", core["core"])));
    }
}
