//! Each scenario for a second or two: against small servers made here, and against Corewire where it has been built.

mod support;

use serde_json::Value;
use support::{
    Fault, blames, lateness_ns, load, load_alone, report, report_alone, report_of_corewire, serve, serve_broadcast,
};

fn number(report: &Value, group: &str, name: &str) -> u64 {
    report[group][name].as_u64().unwrap_or_else(|| panic!("{group}.{name}: {report}"))
}

#[test]
fn fanout_is_complete_and_in_order() {
    let port = serve_broadcast(Fault::None);
    let report = report(&format!("fanout ws://127.0.0.1:{port}/ -c 20 --rate 50 --for 1s --warm-up 200ms"));
    assert_eq!(number(&report, "achieved", "sent_messages"), 50);
    assert_eq!(number(&report, "achieved", "answered_messages"), 50 * 20);
    for what in ["lost", "duplicate", "out_of_order", "corrupt"] {
        assert_eq!(number(&report, "problems", &format!("{what}_messages")), 0, "{what}");
    }
    assert_eq!(report["subscriber_mean_count"], 20);
}

#[test]
fn fanout_with_templates_and_topics() {
    // Everything goes to everybody here, so one topic; what is sent is wrapped all the same.
    let port = serve_broadcast(Fault::None);
    let output = support::report_with(
        &format!("fanout ws://127.0.0.1:{port}/ -c 5 --text --rate 50 --for 1s --warm-up 200ms"),
        &["--publish", r#"{"publish":"{topic}","data":"{payload}"}"#],
    );
    assert_eq!(number(&output, "achieved", "answered_messages"), 50 * 5);
    assert_eq!(number(&output, "problems", "lost_messages"), 0);
}

#[test]
fn each_fault_of_a_broadcast_is_found_and_named() {
    let cases = [
        (Fault::Drop(10), "lost", "were lost"),
        (Fault::Duplicate(10), "duplicate", "came twice"),
        (Fault::Reorder(10), "out_of_order", "came out of order"),
        (Fault::Corrupt(10), "corrupt", "came back wrong"),
    ];
    for (fault, what, words) in cases {
        let port = serve_broadcast(fault);
        let line = format!("fanout ws://127.0.0.1:{port}/ -c 5 --rate 60 --for 1s --warm-up 100ms --timeout 1s");
        let report = report(&line);
        assert!(number(&report, "problems", &format!("{what}_messages")) > 0, "{fault:?}: {report}");
        assert!(blames(&report, words), "{fault:?}: {}", report["verdict"]);
    }
}

/// Nothing lost, repeated, reordered or wrong.
fn assert_flawless(report: &Value) {
    for what in ["lost", "duplicate", "out_of_order", "corrupt", "late", "unsent"] {
        assert_eq!(number(report, "problems", &format!("{what}_messages")), 0, "{what}: {report}");
    }
    assert_eq!(report["problems"]["errors"], serde_json::json!({}));
}

/// Both cores, where there are two.
fn two_workers() -> &'static str {
    if std::thread::available_parallelism().unwrap().get() > 1 { "--cores 0,1" } else { "" }
}

#[test]
fn fanout_from_several_publishers_on_several_workers() {
    let cases = [
        ("--publishers 3 --rate 90", 90),
        ("--publishers 8 --rate 80 --burst 8", 80),
        ("--publishers 1 --rate 80 --burst 8", 80),
        ("--publishers 30 --rate 60", 60),
    ];
    for (options, published) in cases {
        let port = serve_broadcast(Fault::None);
        let line = format!("fanout ws://127.0.0.1:{port}/ -c 20 {options} {}", two_workers());
        let report = report(&format!("{line} --for 1s --warm-up 200ms"));
        assert_flawless(&report);
        assert_eq!(number(&report, "achieved", "planned_messages"), published, "{options}");
        assert_eq!(number(&report, "achieved", "sent_messages"), published, "{options}");
        assert_eq!(number(&report, "achieved", "answered_messages"), published * 20, "{options}");
        assert_eq!(report["subscriber_mean_count"], 20);
        assert_eq!(report["service_count"], report["response_count"]);
        assert!(report["service_mean_ns"].as_u64() <= report["response_mean_ns"].as_u64(), "{report}");
    }
}

#[test]
fn fanout_in_a_closed_loop_keeps_its_publications_under_way() {
    for (inflight, options) in [(1, "--inflight 1 --publishers 2"), (8, "--inflight 8 --publishers 8")] {
        let port = serve_broadcast(Fault::None);
        let line = format!("fanout ws://127.0.0.1:{port}/ -c 20 {options} {}", two_workers());
        let report = report(&format!("{line} --for 1s --warm-up 200ms"));
        assert_flawless(&report);
        let sent = number(&report, "achieved", "sent_messages");
        assert!(sent >= 4 * inflight, "each is followed by others, {options}: {sent} only");
        assert_eq!(number(&report, "achieved", "answered_messages"), sent * 20, "{options}");
        assert_eq!(report["achieved"]["planned_messages"], Value::Null);
        // Little's law: what is under way is what leaves per second times what it takes, by the slowest subscriber
        // at most.
        let under_way = sent as f64 * report["response_max_ns"].as_f64().unwrap() / 1e9;
        assert!(under_way >= 1.0, "{options}: {under_way}");
    }
}

#[test]
fn a_lost_delivery_does_not_stop_a_closed_loop() {
    const EVERY: u64 = 4;
    let port = serve_broadcast(Fault::Drop(EVERY));
    let line = format!("fanout ws://127.0.0.1:{port}/ -c 5 --inflight 1 --for 1s --warm-up 0s --timeout 500ms");
    let report = report(&line);
    assert!(number(&report, "problems", "lost_messages") > 0, "{report}");
    // Nothing else is under way when the first is lost.
    let sent = number(&report, "achieved", "sent_messages");
    assert!(sent > EVERY, "it went on: {sent}");
}

#[test]
fn faults_are_found_among_several_publishers() {
    let cases = [(Fault::Drop(10), "lost"), (Fault::Duplicate(10), "duplicate"), (Fault::Corrupt(10), "corrupt")];
    for (fault, what) in cases {
        let port = serve_broadcast(fault);
        let line = format!("fanout ws://127.0.0.1:{port}/ -c 5 --publishers 4 --rate 60");
        let report = report(&format!("{line} --for 1s --warm-up 100ms --timeout 2s"));
        let found = number(&report, "problems", &format!("{what}_messages"));
        // A tenth of the deliveries of 1.1 seconds to five subscribers; what came wrong is not lost as well.
        assert!((30..=35).contains(&found), "{fault:?}: {found}");
        if what == "corrupt" {
            assert_eq!(number(&report, "problems", "lost_messages"), 0, "{report}");
        }
    }
}

#[test]
fn a_delay_of_a_broadcast_shows_in_the_latency() {
    let span = std::time::Duration::from_millis(150);
    let port = serve_broadcast(Fault::Delay(20, span));
    let report = report_alone(&format!("fanout ws://127.0.0.1:{port}/ -c 1 --rate 50 --for 1s --warm-up 100ms"), &[]);
    assert_flawless(&report);
    assert!(report["response_max_ns"].as_u64().unwrap() > 150_000_000, "{report}");
    assert!(report["response_p50_ns"].as_u64().unwrap() < 100_000_000 + lateness_ns(&report), "{report}");
}

#[test]
fn idle_holds_its_connections_in_several_processes() {
    let port = serve(Fault::None);
    let report =
        report(&format!("idle ws://127.0.0.1:{port}/ -c 30 --processes 3 --for 1s --pid {}", std::process::id()));
    assert_eq!(number(&report, "achieved", "opened_connections"), 30);
    assert_eq!(number(&report, "memory", "connections"), 30);
    assert_eq!(number(&report, "memory", "processes"), 3);
    assert_eq!(report["problems"]["errors"], serde_json::json!({}));
}

#[test]
fn idle_with_heartbeats() {
    let port = serve(Fault::None);
    let report = report(&format!("idle ws://127.0.0.1:{port}/ -c 10 --for 2s --heartbeat 200ms"));
    assert!(number(&report, "achieved", "answered_messages") >= 80, "{report}");
    assert_eq!(number(&report, "problems", "lost_messages"), 0);
}

#[test]
fn the_idle_talk_fall_silent_leave_and_come_again() {
    let port = serve(Fault::None);
    let report = report(&format!(
        "idle ws://127.0.0.1:{port}/ -c 20 --processes 2 --for 1s --settle 200ms --sparse-every 200ms --hot-for 500ms \
         --waves 3 --pid {}",
        std::process::id()
    ));
    let memory = &report["memory"];
    let sparse = memory["sparse"]["messages"].as_u64().unwrap();
    // On a machine that stands still for a while, somebody's turn comes before his last answer: that is told.
    let errors = report["problems"]["errors"].as_object().unwrap();
    let held_back = errors.get("still_unanswered").map_or(0, |count| count.as_u64().unwrap());
    assert!((80..=120).contains(&(sparse + held_back)), "20 connections, each five times: {sparse}, {held_back}");
    assert!(errors.keys().all(|kind| kind == "still_unanswered"), "{errors:?}");
    assert!(memory["sparse"]["cpu_per_message_ns"].as_f64().unwrap() > 0.0);
    let hot = memory["after_heat"]["messages"].as_u64().unwrap();
    assert!(hot > 200, "as fast as it goes: {hot}");
    let waves = memory["waves"].as_array().unwrap();
    assert_eq!(waves.len(), 3);
    for wave in waves {
        assert_eq!(wave["connections"], 20);
        assert!(wave["hot_messages"].as_u64().unwrap() > 200 && wave["resident_bytes"].as_u64().unwrap() > 0, "{wave}");
    }
    assert_eq!(number(&report, "achieved", "opened_connections"), 60);
    assert!(number(&report, "achieved", "answered_messages") >= sparse + hot);
    for what in ["lost", "corrupt"] {
        assert_eq!(number(&report, "problems", &format!("{what}_messages")), 0, "{what}: {report}");
    }
}

#[test]
fn what_the_idle_hear_is_compared_too() {
    let report = report(&format!(
        "idle ws://127.0.0.1:{}/ -c 4 --for 100ms --settle 0s --hot-for 300ms --timeout 1s",
        serve(Fault::Corrupt(20))
    ));
    assert!(number(&report, "problems", "corrupt_messages") > 0, "{report}");
    assert!(blames(&report, "came back wrong"), "{}", report["verdict"]);
}

#[test]
fn a_server_that_cannot_hold_the_crowd_is_told_before() {
    let port = serve(Fault::None);
    // A process that has a small limit stands for the server.
    let mut small = std::process::Command::new("sh").args(["-c", "ulimit -n 64; exec sleep 30"]).spawn().unwrap();
    let limits = format!("/proc/{}/limits", small.id());
    let is_small = |text: String| text.lines().any(|line| line.starts_with("Max open files            64 "));
    let began = std::time::Instant::now();
    while !is_small(std::fs::read_to_string(&limits).unwrap()) {
        assert!(began.elapsed().as_secs() < 20, "the shell sets no limit");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = load(&format!("idle ws://127.0.0.1:{port}/ -c 100 --for 100ms --pid {}", small.id()));
    small.kill().unwrap();
    small.wait().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("the server may hold 64 files open"), "{error}");
}

#[test]
fn a_storm_at_a_rate() {
    let port = serve(Fault::None);
    // Links for all that are ever due: on a machine that was stopped for a while, they are due at once.
    let report = report(&format!("storm ws://127.0.0.1:{port}/ -c 120 --rate 100 --for 1s --warm-up 200ms"));
    assert_eq!(number(&report, "achieved", "sent_messages"), 100);
    assert_eq!(number(&report, "achieved", "answered_messages"), 100);
    assert!(report["opening_count"].as_u64().unwrap() >= 100);
}

#[test]
fn a_storm_counts_what_is_refused() {
    let port = serve(Fault::Status(503));
    let report = report(&format!("storm ws://127.0.0.1:{port}/ -c 60 --rate 50 --for 1s --warm-up 100ms"));
    assert!(report["problems"]["errors"]["handshake_503"].as_u64().unwrap() >= 50, "{report}");
    assert_eq!(report["achieved"]["failed_connection_share"], 1.0);
}

#[test]
fn a_fifth_drops_and_comes_back() {
    let port = serve(Fault::None);
    let report = report(&format!("storm ws://127.0.0.1:{port}/ -c 20 --drop 20% --for 2s --warm-up 200ms"));
    assert!(report["recovery_ns"].as_u64().unwrap() < 1_000_000_000, "{report}");
    assert_eq!(number(&report, "achieved", "opened_connections"), 24);
    assert_eq!(number(&report, "achieved", "failed_connections"), 0);
    assert!(report["recovery_response_count"].as_u64().unwrap() > 0, "the survivors went on meanwhile: {report}");
    assert_eq!(report["problems"]["errors"], serde_json::json!({}));
}

#[test]
fn the_slow_do_not_count_and_the_fast_are_measured() {
    let port = serve(Fault::None);
    for slow_read in ["0", "64k"] {
        let line = format!(
            "slow ws://127.0.0.1:{port}/ -c 10 --slow 50% --slow-read {slow_read} --rate 200 --for 1s --warm-up 200ms"
        );
        let report = report(&line);
        assert_eq!(number(&report, "achieved", "answered_messages"), 200, "{report}");
    }
}

#[test]
fn a_plan_of_several_phases_and_its_page() {
    let port = serve(Fault::None);
    let folder = std::env::temp_dir().join(format!("corewire-load-plan-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (plan, json, page) = (folder.join("plan.toml"), folder.join("out.json"), folder.join("out.html"));
    let text = format!(
        "[common]\nurl = 'ws://127.0.0.1:{port}/'\nfor = '2s'\nwarm_up = '100ms'\nquiet = true\n\
         [[phase]]\nscenario = 'echo'\nconnections = 3\nrate = 100\n\
         [[phase]]\nscenario = 'storm'\nconnections = 5\nrate = 20\n"
    );
    std::fs::write(&plan, text).unwrap();
    let output = load(&format!("run {} --json {} --html {}", plan.display(), json.display(), page.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let reports: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(reports[0]["achieved"]["answered_messages"], 200);
    assert_eq!(reports[1]["scenario"], "storm");
    let html = std::fs::read_to_string(&page).unwrap();
    assert_eq!(html.matches("<section>").count(), 2);
    assert!(!html.contains("NaN") && !html.contains("http"), "a page that needs nothing else");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_cool_down_goes_on_and_is_not_measured() {
    let port = serve(Fault::None);
    // How much more was sent than measured: at a rate nearly twice as much, and as much as a busy machine lets in a loop;
    // a tenth, had it not gone on or been measured too.
    for (rate, more) in [("--rate 100", 1.5), ("-i 1", 1.2)] {
        let line = format!("echo ws://127.0.0.1:{port}/ -c 3 {rate} --for 1s --warm-up 100ms --cool-down 1s");
        let report = report(&line);
        let seconds = report["seconds"].as_array().unwrap();
        let sent: u64 = seconds.iter().map(|second| second["sent_messages"].as_u64().unwrap()).sum();
        let measured = number(&report, "achieved", "answered_messages");
        assert!(sent as f64 > measured as f64 * more, "{sent} sent, {measured} of them measured");
        assert!(rate == "-i 1" || measured == 100, "{measured}");
        assert!((0.99..1.01).contains(&report["achieved"]["measured_s"].as_f64().unwrap()), "{report}");
        assert_eq!(report["plan"]["cool_down_s"], 1.0);
    }
}

#[test]
fn an_hdr_log_has_an_entry_for_each_second() {
    let port = serve(Fault::None);
    let path = std::env::temp_dir().join(format!("corewire-load-{}.hlog", std::process::id()));
    report(&format!("echo ws://127.0.0.1:{port}/ -c 2 --rate 100 --for 3s --warm-up 0s --hdr {}", path.display()));
    let log = std::fs::read_to_string(&path).unwrap();
    let entries = log.lines().filter(|line| !line.starts_with('#') && !line.starts_with('"')).count();
    assert!((2..=4).contains(&entries), "{log}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn compression_is_told_in_bytes_on_the_wire() {
    let line = "echo -c 4 --size 1k-8k --text --compress --for 1s --warm-up 200ms";
    let report = report_of_corewire("echo", line);
    assert_flawless(&report);
    let wire = |what: &str| number(&report, "wire", what);
    assert_eq!(wire("compressed_connections"), 4);
    assert!(wire("sent_wire_bytes") * 2 < wire("sent_payload_bytes"), "{}", report["wire"]);
    assert!(wire("arrived_wire_bytes") * 2 < wire("arrived_payload_bytes"), "{}", report["wire"]);
}

#[test]
fn a_server_that_does_not_compress_is_told() {
    let port = serve(Fault::None);
    let report = report(&format!("echo ws://127.0.0.1:{port}/ -c 2 -i 4 --compress --for 500ms --warm-up 100ms"));
    assert_flawless(&report);
    assert_eq!(number(&report, "wire", "compressed_connections"), 0);
    assert!(number(&report, "wire", "sent_wire_bytes") > number(&report, "wire", "sent_payload_bytes"));
    let remarks = report["verdict"]["remarks"].to_string();
    assert!(remarks.contains("taken on 0 of 2 connections"), "{remarks}");
}

#[test]
fn a_server_that_answers_nothing_is_told_and_the_others_go_on() {
    let folder = std::env::temp_dir().join(format!("corewire-load-mute-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let mute = "import socket, sys, time\n\
                listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n\
                accepted = []\n\
                while True:\n    accepted.append(listener.accept())\n";
    std::fs::write(at("mute.py"), mute).unwrap();
    let plan = format!(
        "rounds = 1\nslice = '200ms'\nwarm_up = '50ms'\n\
         [[server]]\nname = 'mute'\ncommand = 'python3 {} {{port}}'\nurl = 'tcp://127.0.0.1:{{port}}'\n\
         [[server]]\nname = 'corewire'\ncommand = '{} echo --listen 127.0.0.1:{{port}} --log-level error'\n\
         [[case]]\nconnections = 2\ntimeout = '1s'\n",
        at("mute.py"),
        support::corewire().display(),
    );
    std::fs::write(at("plan.toml"), plan).unwrap();
    let output = load(&format!("compare {} --json {}", at("plan.toml"), at("out.json")));
    let (text, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words}");
    assert!(text.contains("it answered nothing"), "{text}");
    let result: Value = serde_json::from_str(&std::fs::read_to_string(at("out.json")).unwrap()).unwrap();
    let servers = &result["cases"][0]["servers"];
    assert!(servers[0]["figures"]["server_cpu_per_message_ns"].is_null(), "{servers}");
    assert!(servers[1]["figures"]["server_cpu_per_message_ns"]["median"].is_f64(), "{servers}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_comparison_of_two_servers_in_every_kind_of_case() {
    let corewire = support::corewire();
    let folder = std::env::temp_dir().join(format!("corewire-load-compare-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let server = |name: &str| {
        format!(
            "[[server]]\nname = '{name}'\ntls = '--tls-cert {{cert}} --tls-key {{key}}'\n\
             command = '{} {{mode}} --listen 127.0.0.1:{{port}} --log-level error'\n",
            corewire.display()
        )
    };
    let plan = format!(
        "rounds = 2\nslice = '200ms'\nwarm_up = '50ms'\nservers_from = 'servers.toml'\n{}\
         [[case]]\nconnections = 4\nrate = 'third-of-slowest'\n\
         [[case]]\nscenario = 'fanout'\nconnections = 10\nrate = 100\n\
         [[case]]\nscenario = 'storm'\nconnections = 4\ntls = 'resumed'\n\
         [[case]]\nscenario = 'slow'\nconnections = 4\nslow = '25%'\n\
         [[case]]\nscenario = 'idle'\nconnections = 20\nfor = '100ms'\nsettle = '50ms'\nhot_for = '200ms'\n\
         sparse_every = '50ms'\nrounds = 1\n",
        server("one"),
    );
    let absent = "[[server]]\nname = 'none'\ncommand = '$COREWIRE_LOAD_NO_SUCH {port}'\noptional = true\n";
    std::fs::write(folder.join("plan.toml"), plan).unwrap();
    std::fs::write(folder.join("servers.toml"), server("two") + absent).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let output =
        load_alone(&format!("compare {} --json {} --html {}", at("plan.toml"), at("out.json"), at("out.html")));
    let (text, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words}");
    assert!(words.contains("minutes if all servers are there"), "{words}");
    assert!(text.contains("note: left out: none: the variable COREWIRE_LOAD_NO_SUCH is not set"), "{text}");
    let result: Value = serde_json::from_str(&std::fs::read_to_string(at("out.json")).unwrap()).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../comparison.schema.json")).unwrap();
    let mut complaints = Vec::new();
    support::schema::check(&result, &schema, "comparison", &mut complaints);
    assert!(complaints.is_empty(), "{complaints:#?}");
    let mains = [
        ("echo", "server_cpu_per_message_ns"),
        ("fanout", "server_cpu_per_delivery_ns"),
        ("storm", "server_cpu_per_handshake_ns"),
        ("slow", "server_cpu_per_message_ns"),
        ("idle", "user_bytes_per_connection"),
    ];
    for (at, (scenario, main)) in mains.into_iter().enumerate() {
        let case = &result["cases"][at];
        assert_eq!((&case["scenario"], &case["reference"]), (&scenario.into(), &"one".into()));
        for (at, name) in ["one", "two"].into_iter().enumerate() {
            let server = &case["servers"][at];
            assert_eq!(server["server"], name, "{scenario}");
            assert!(server["figures"][main]["median"].is_f64(), "{scenario}: {server}");
            // So few idle connections may cost nothing.
            assert!(server["ratios"][main]["median"].is_f64() || scenario == "idle", "{scenario}: {server}");
        }
    }
    let (echo, fanout, storm, idle) =
        (&result["cases"][0], &result["cases"][1], &result["cases"][2], &result["cases"][4]);
    let rate = echo["rate_per_second"].as_f64().unwrap();
    let achieved = echo["servers"][1]["figures"]["messages_per_second"]["median"].as_f64().unwrap();
    // A third of what it can. In so short a slice some answers come behind its end on a busy machine.
    assert!((achieved / rate - 1.0).abs() < 0.5, "{achieved} of {rate} per second");
    assert_eq!(fanout["servers"][0]["figures"]["complete_share"]["low"], 1.0);
    assert!(storm["servers"][0]["figures"]["resumed_share"]["median"].as_f64().unwrap() > 0.5);
    assert_eq!(storm["servers"][0]["figures"]["failed_share"]["high"], 0.0);
    for key in ["sparse_cpu_per_message_ns", "after_heat_user_bytes_per_connection"] {
        assert!(idle["servers"][1]["figures"][key]["median"].is_f64(), "{key}: {idle}");
    }
    assert_eq!(result["slices"].as_array().unwrap().len(), 4 * 2 * 2 + 2);
    let page = std::fs::read_to_string(at("out.html")).unwrap();
    assert_eq!(page.matches("<table>").count(), 5);
    assert!(!page.contains("NaN") && !page.contains("http"), "a page that needs nothing else");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn every_scenario_against_corewire() {
    let cases = [
        ("echo", "echo", "-c 20 --size 64 --for 1s --warm-up 200ms"),
        ("echo", "echo", "-c 4 --size 0-100k --text --for 1s --warm-up 200ms"),
        ("echo", "echo", "-c 20 --rate 2000 --for 1s --warm-up 200ms"),
        ("echo", "idle", "-c 300 --for 1s"),
        ("broadcast", "fanout", "-c 50 --rate 100 --for 1s --warm-up 200ms"),
        ("broadcast", "fanout", "-c 50 --inflight 8 --publishers 8 --for 1s --warm-up 200ms"),
        ("broadcast", "fanout", "-c 50 --rate 80 --burst 8 --compress --size 1k --for 1s --warm-up 200ms"),
        ("echo", "storm", "-c 240 --rate 200 --for 1s --warm-up 200ms"),
        ("echo", "storm", "-c 50 --drop 20% --for 1s --warm-up 200ms"),
        ("echo", "slow", "-c 20 --rate 500 --for 1s --warm-up 200ms"),
    ];
    for (mode, scenario, options) in cases {
        let line = format!("{scenario} {options}");
        let report = report_of_corewire(mode, &line);
        for what in ["lost", "duplicate", "out_of_order", "corrupt", "late", "unsent"] {
            assert_eq!(number(&report, "problems", &format!("{what}_messages")), 0, "{line}: {report}");
        }
        assert_eq!(report["problems"]["errors"], serde_json::json!({}), "{line}: {}", report["problems"]);
        // Whoever holds idle connections may well use nothing.
        assert!(report["server"]["cpu_ns"].as_u64().unwrap() > 0 || scenario == "idle", "{line}");
    }
}

#[test]
fn a_storm_over_tls_resumes_sessions_unless_it_is_told_not_to() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = std::env::temp_dir().join(format!("corewire-load-storm-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    for (option, resumes) in [("", true), ("--tls-full", false)] {
        let port = support::free_port();
        let files = format!("--tls-cert {} --tls-key {}", cert.display(), key.display());
        let server =
            format!("{} echo --listen 127.0.0.1:{port} --log-level error {files}", support::corewire().display());
        // Links for all that are ever due: each is in use until its session is closed, which takes a busy machine a while.
        let line = format!("storm wss://127.0.0.1:{port}/ -c 60 --rate 50 --for 1s --warm-up 200ms {option}");
        let report = support::report_with(&line, &["--spawn", &server]);
        assert_flawless(&report);
        assert_eq!(number(&report, "achieved", "sent_messages"), 50);
        assert_eq!(number(&report, "achieved", "failed_connections"), 0);
        let resumed = number(&report, "achieved", "resumed_tls_sessions");
        assert_eq!(resumed > 0, resumes, "{option}: {resumed}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
