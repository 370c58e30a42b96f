//! The flooder against a broker that does everything right, and against one that does one thing
//! wrong.
//!
//! The real binary runs; what it prints and how it exits is what is checked.

mod fake_broker;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

use fake_broker::{FakeBroker, Fault};
use serde_json::Value;

/// Short, but long enough for hundreds of messages through a slow debug build.
const SHORT: &[&str] = &[
    "--duration",
    "300ms",
    "--warmup",
    "100ms",
    "--grace",
    "400ms",
    "--loss-timeout",
    "150ms",
    "--quiet",
    "--json",
];

fn flood(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate-flood"))
        .args(args)
        .output()
        .unwrap()
}

/// Runs against a fake broker; gives back the exit code and the JSON object.
fn flood_at(fault: Fault, args: &[&str]) -> (i32, Value) {
    let broker = FakeBroker::start(fault);
    let target = format!("mqtt://{}", broker.addr);
    let output = flood(&[args, &["--target", &target], SHORT].concat());
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_str(&stdout)
        .unwrap_or_else(|error| panic!("{error}: {stdout:?}, stderr {stderr:?}"));
    (output.status.code().unwrap(), json)
}

fn number(json: &Value, path: &str) -> u64 {
    json.pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{path} in {json}"))
}

/// A run that must be fine, whatever the scenario.
fn check_clean(args: &[&str]) {
    let (code, json) = flood_at(Fault::None, args);
    assert_eq!(code, 0, "{args:?}: {json}");
    assert_eq!(json["ok"], true);
    let expected = number(&json, "/checks/expected");
    assert!(expected > 20, "{args:?}: only {expected} deliveries");
    assert_eq!(number(&json, "/checks/received"), expected);
    for count in [
        "lost",
        "duplicates",
        "out_of_order",
        "corrupt",
        "unexpected",
        "unfinished",
        "written_off",
    ] {
        assert_eq!(
            number(&json, &format!("/checks/{count}")),
            0,
            "{count} of {args:?}: {json}"
        );
    }
    assert!(number(&json, "/traffic/latency_us/count") > 0);
}

/// A run in which `count` must be noticed, with exit code 1.
fn check_noticed(fault: Fault, args: &[&str], count: &str) {
    let (code, json) = flood_at(fault, args);
    assert_eq!(code, 1, "{fault:?} {args:?}: {json}");
    assert_eq!(json["ok"], false);
    assert!(number(&json, count) > 0, "{count} after {fault:?}: {json}");
}

#[test]
fn every_scenario_is_clean_against_a_good_broker_at_every_qos() {
    for qos in ["0", "1", "2"] {
        check_clean(&[
            "fanout",
            "--subscribers",
            "8",
            "--publishers",
            "2",
            "--qos",
            qos,
        ]);
        check_clean(&["p2p", "--clients", "8", "--qos", qos]);
        check_clean(&["fanin", "--clients", "8", "--qos", qos, "--payload", "20"]);
    }
}

#[test]
fn publishers_and_receivers_may_live_on_different_threads() {
    check_clean(&[
        "p2p",
        "--clients",
        "9",
        "--qos",
        "2",
        "--threads",
        "3",
        "--inflight",
        "1",
    ]);
    check_clean(&[
        "fanout",
        "--subscribers",
        "8",
        "--publishers",
        "3",
        "--threads",
        "4",
    ]);
}

#[test]
fn mqtt_5_and_large_payloads_work_too() {
    check_clean(&[
        "p2p",
        "--clients",
        "4",
        "--mqtt",
        "5",
        "--qos",
        "1",
        "--inflight",
        "100",
        "--payload",
        "50000",
    ]);
}

#[test]
fn a_rate_is_kept() {
    let args = ["p2p", "--clients", "10", "--rate", "1000", "--threads", "2"];
    check_clean(&args);
    let (_, json) = flood_at(Fault::None, &args);
    let rate = json["traffic"]["published_per_second"].as_f64().unwrap();
    assert!(
        (700.0..1_300.0).contains(&rate),
        "{rate} a second instead of 1,000"
    );
}

#[test]
fn lost_deliveries_are_noticed_and_do_not_stall_the_run() {
    for qos in ["0", "1", "2"] {
        check_noticed(
            Fault::Drop(13),
            &["p2p", "--clients", "4", "--qos", qos],
            "/checks/lost",
        );
        check_noticed(
            Fault::Drop(50),
            &["fanout", "--subscribers", "5", "--qos", qos],
            "/checks/lost",
        );
    }
}

#[test]
fn duplicates_are_noticed_where_they_are_forbidden() {
    check_noticed(
        Fault::Duplicate(13),
        &["fanin", "--clients", "4"],
        "/checks/duplicates",
    );
    check_noticed(
        Fault::Duplicate(13),
        &["p2p", "--clients", "4", "--qos", "2"],
        "/checks/duplicates",
    );
    let (code, json) = flood_at(
        Fault::Duplicate(13),
        &["p2p", "--clients", "4", "--qos", "1"],
    );
    assert_eq!(code, 0, "QoS 1 may deliver twice: {json}");
    assert!(number(&json, "/checks/duplicates") > 0);
}

#[test]
fn broken_order_is_noticed() {
    for qos in ["0", "1", "2"] {
        check_noticed(
            Fault::Swap(9),
            &["p2p", "--clients", "4", "--qos", qos],
            "/checks/out_of_order",
        );
    }
    check_noticed(
        Fault::Swap(9),
        &["fanout", "--subscribers", "5"],
        "/checks/out_of_order",
    );
}

#[test]
fn damage_and_misdelivery_are_noticed() {
    check_noticed(
        Fault::Damage(13),
        &["p2p", "--clients", "4"],
        "/checks/corrupt",
    );
    check_noticed(
        Fault::Misdeliver(13),
        &["fanout", "--subscribers", "3"],
        "/checks/unexpected",
    );
}

#[test]
fn missing_answers_are_noticed() {
    for qos in ["1", "2"] {
        let (code, json) = flood_at(
            Fault::Unacknowledged(20),
            &["fanin", "--clients", "4", "--qos", qos],
        );
        assert_eq!(code, 1, "{json}");
        assert!(number(&json, "/checks/acknowledged") < number(&json, "/checks/published"));
    }
    check_noticed(
        Fault::Unreleased(20),
        &["p2p", "--clients", "4", "--qos", "2"],
        "/checks/unfinished",
    );
    let (code, json) = flood_at(
        Fault::NoPong,
        &["connect", "--clients", "4", "--keep-alive", "1"],
    );
    assert_eq!(code, 1, "{json}");
    assert!(number(&json, "/pings/answered") < number(&json, "/pings/sent"));
}

#[test]
fn a_connection_that_is_cut_is_counted_with_its_losses() {
    let (code, json) = flood_at(Fault::Cut(40), &["p2p", "--clients", "4"]);
    assert_eq!(code, 1);
    assert_eq!(number(&json, "/ended"), 1, "{json}");
    assert!(number(&json, "/checks/lost") > 0);
    assert!(json["errors"][0].as_str().unwrap().starts_with("flood-"));
}

#[test]
fn connections_are_held_and_measured() {
    let args = [
        "connect",
        "--clients",
        "40",
        "--subscribe-own",
        "--keep-alive",
        "1",
        "--connect-rate",
        "400",
    ];
    let (code, json) = flood_at(Fault::None, &args);
    assert_eq!(code, 0, "{json}");
    assert_eq!(number(&json, "/connect/ready"), 40);
    assert_eq!(number(&json, "/connect/latency_us/count"), 40);
    assert!(number(&json, "/pings/answered") > 0);
    assert!(json["connect"]["per_second"].as_f64().unwrap() < 500.0);
    // The fake broker lives in the process of this test.
    assert_eq!(
        number(&json, "/target/pids/0"),
        u64::from(std::process::id())
    );
}

#[test]
fn refused_connects_end_the_run_with_their_reason() {
    let broker = FakeBroker::start(Fault::Refuse);
    let output = flood(&[
        "p2p",
        "--clients",
        "3",
        "--quiet",
        "--target",
        &broker.addr.to_string(),
    ]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("could not connect") && stderr.contains("not_authorized"),
        "{stderr}"
    );
}

#[test]
fn nobody_listening_is_said_plainly() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = flood(&["fanout", "--target", &unused.to_string()]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("is a broker listening there?"), "{stderr}");
}

#[test]
fn a_cpu_that_is_not_there_is_said_plainly() {
    let broker = FakeBroker::start(Fault::None);
    let output = flood(&[
        "p2p",
        "--clients",
        "3",
        "--cpu",
        "900",
        "--target",
        &broker.addr.to_string(),
    ]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("--cpu 900"), "{stderr}");
}

#[test]
fn bad_usage_exits_with_2() {
    for args in [
        &["p2p", "--qos", "7"][..],
        &["nonsense"],
        &["p2p", "--clients", "1"],
        &["connect", "--clients", "90000000"],
    ] {
        assert_eq!(flood(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn the_report_is_written() {
    let broker = FakeBroker::start(Fault::None);
    let path = std::env::temp_dir().join(format!("tidegate-flood-{}.html", std::process::id()));
    let args = [
        "p2p",
        "--clients",
        "4",
        "--target",
        &broker.addr.to_string(),
        "--report",
        path.to_str().unwrap(),
    ];
    let output = flood(&[&args[..], SHORT].concat());
    let page = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(output.status.success());
    assert!(page.contains("<svg") && page.contains("Everything expected came"));
}
