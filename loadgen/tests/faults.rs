//! Every fault of a server must be found, and an honest server must not be blamed.

mod support;

use std::time::Duration;

use support::{Fault, blames, lateness_ns, load, report, serve};

/// A short closed loop with several messages under way.
fn short(port: u16) -> String {
    format!("echo ws://127.0.0.1:{port}/ -c 4 -i 4 --size 64 --for 600ms --warm-up 100ms")
}

/// Waits no longer for an answer than a fault may take.
fn impatient(port: u16) -> String {
    format!("{} --timeout 600ms", short(port))
}

fn count(report: &serde_json::Value, what: &str) -> u64 {
    report["problems"][format!("{what}_messages")].as_u64().unwrap()
}

#[test]
fn an_honest_server_is_not_blamed() {
    for size in ["0", "1", "11", "64", "70000", "0-300"] {
        let report = report(&short(serve(Fault::None)).replace("--size 64", &format!("--size {size}")));
        for what in ["lost", "duplicate", "out_of_order", "corrupt", "late", "unsent"] {
            assert_eq!(count(&report, what), 0, "{what}, size {size}: {report}");
        }
        assert_eq!(report["problems"]["errors"], serde_json::json!({}), "size {size}");
        assert_eq!(report["achieved"]["sent_messages"], report["achieved"]["answered_messages"], "size {size}");
    }
}

#[test]
fn each_fault_is_found_and_named() {
    let cases = [
        (Fault::Drop(10), "lost", "were lost"),
        (Fault::Duplicate(10), "duplicate", "came twice"),
        (Fault::Reorder(10), "out_of_order", "came out of order"),
        (Fault::Corrupt(10), "corrupt", "came back wrong"),
        (Fault::Truncate(10), "corrupt", "came back wrong"),
        (Fault::Delay(10, Duration::from_millis(900)), "late", "after they had been given up"),
    ];
    for (fault, what, words) in cases {
        let report = report(&impatient(serve(fault)));
        assert!(count(&report, what) > 0, "{fault:?}: {report}");
        assert!(blames(&report, words), "{fault:?}: {}", report["verdict"]);
        assert_eq!(report["verdict"]["trustworthy"], false, "{fault:?}");
    }
}

#[test]
fn a_connection_that_ends_is_an_error() {
    let report = report(&short(serve(Fault::HangUp(10))));
    let errors = report["problems"]["errors"].as_object().unwrap();
    assert_eq!(errors.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), 4, "{errors:?}");
}

#[test]
fn a_freeze_of_a_second_shows_in_the_open_loop() {
    let fault = Fault::Freeze { after: Duration::from_millis(700), span: Duration::from_secs(1) };
    let port = serve(fault);
    let report = report(&format!("echo ws://127.0.0.1:{port}/ -c 10 --rate 2000 --for 3s --warm-up 200ms"));
    let p99_9_ns = report["response_p99_9_ns"].as_u64().unwrap();
    assert!(p99_9_ns > 900_000_000, "p99.9 is {p99_9_ns} ns");
    assert_eq!(report["achieved"]["sent_messages"], 6000, "the schedule goes on during the freeze");
}

#[test]
fn with_a_limit_under_way_only_the_corrected_latency_shows_a_freeze() {
    let fault = Fault::Freeze { after: Duration::from_millis(700), span: Duration::from_secs(1) };
    let port = serve(fault);
    let report = report(&format!("echo ws://127.0.0.1:{port}/ -c 1 -i 1 --rate 500 --for 2s --warm-up 200ms"));
    let (response_ns, service_ns) =
        (report["response_p99_ns"].as_u64().unwrap(), report["service_p99_ns"].as_u64().unwrap());
    assert!(response_ns > 800_000_000, "corrected p99 is {response_ns} ns");
    assert!(service_ns < 500_000_000, "uncorrected p99 is {service_ns} ns");
}

#[test]
fn the_rate_is_kept() {
    let port = serve(Fault::None);
    let report = report(&format!("echo ws://127.0.0.1:{port}/ -c 10 --rate 1000 --for 10s --warm-up 0s"));
    for what in ["planned_messages", "sent_messages", "answered_messages"] {
        assert_eq!(report["achieved"][what], 10_000, "{what}");
    }
    // Evenly: each second has its thousand, as far as a busy machine lets it. What was late was in another second.
    let late = lateness_ns(&report) / 1_000_000;
    let seconds = report["seconds"].as_array().unwrap();
    assert!(seconds.len() >= 10);
    for second in &seconds[..10] {
        let sent = second["sent_messages"].as_u64().unwrap();
        assert!(sent.abs_diff(1000) <= 50 + late, "{sent} in a second: {seconds:?}");
    }
}

#[test]
fn bad_input_is_refused_in_a_sentence_with_code_2() {
    let teapot = serve(Fault::Status(404));
    let cases = [
        ("echo http://x/".to_owned(), "is no URL"),
        ("echo ws://127.0.0.1:1/".to_owned(), "refused the connection"),
        ("echo ws://192.0.2.1/".to_owned(), "--i-may-load-this-host"),
        ("echo ws://127.0.0.1:1/ -c 900M".to_owned(), "more than this process may open"),
        ("echo ws://127.0.0.1:1/ --cores 9999".to_owned(), "core 9999"),
        ("echo ws://127.0.0.1:1/ --size 1x".to_owned(), "is no size"),
        ("echo ws://127.0.0.1:1/ --for 0s".to_owned(), "longer than nothing"),
        ("echo ws://127.0.0.1:1/ --rate 0".to_owned(), "is no rate"),
        ("echo ws://127.0.0.1:1/ --spawn /does/not/exist".to_owned(), "cannot be started"),
        ("echo ws://127.0.0.1:1/ --pid 999999999".to_owned(), "no process"),
        (format!("echo ws://127.0.0.1:{teapot}/"), "answered 404"),
        ("compare /does/not/exist".to_owned(), "cannot be read"),
        ("nonsense".to_owned(), "unrecognized subcommand"),
    ];
    for (words, want) in cases {
        let output = load(&words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {error}");
        assert!(error.contains(want), "{words}: {error}");
    }
}
