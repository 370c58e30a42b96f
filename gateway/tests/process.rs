//! The binary from the outside: usage, configuration, start-up, health, metrics, signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{kill_process, Pid, Signal};
use serde_json::Value;

/// Far above what anything here takes; only a hang gets there.
const PATIENCE: Duration = Duration::from_secs(30);

fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A developer's own settings are not part of the story.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE__") {
            command.env_remove(name);
        }
    }
    command
}

fn outcome(arguments: &[&str]) -> (Option<i32>, String, String) {
    outcome_of(&mut tidegate(arguments))
}

fn outcome_of(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A configuration file that is there as long as the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let folder = std::env::temp_dir().join(format!("tidegate-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("tidegate.toml");
        std::fs::write(&path, text).unwrap();
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// A gateway on free ports that has said it is ready.
struct Gateway {
    child: Child,
    ready: Value,
}

impl Gateway {
    fn start(more: &[&str]) -> Gateway {
        let mut command = tidegate(&["run", "--listen", "mqtt://127.0.0.1:0", "--admin"]);
        command
            .args(["127.0.0.1:0", "--shards", "2", "--json"])
            .args(more);
        Gateway::start_as(&mut command)
    }

    /// Standard error goes to the test's own, where a failure shows it.
    fn start_as(command: &mut Command) -> Gateway {
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {line:?}"));
        Gateway { child, ready }
    }

    fn addr(&self, pointer: &str) -> SocketAddr {
        self.ready
            .pointer(pointer)
            .unwrap()
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    fn admin(&self) -> SocketAddr {
        self.addr("/admin")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole answer to `METHOD path`, head and body.
fn http(admin: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/examples");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect()
}

#[test]
fn version_names_version_commit_and_target() {
    let (code, stdout, _) = outcome(&["--version"]);
    assert_eq!(code, Some(0));
    let start = format!("tidegate {} (commit ", env!("CARGO_PKG_VERSION"));
    assert!(stdout.starts_with(&start), "{stdout}");
    assert!(
        stdout.contains(", target ") && stdout.contains("linux"),
        "{stdout}"
    );
}

#[test]
fn help_teaches() {
    for (arguments, words) in [
        (
            &["--help"][..],
            &["run", "check", "Examples:", "Exit codes:"][..],
        ),
        (
            &["run", "--help"],
            &[
                "--listen",
                "--io",
                "TIDEGATE__NODE__SHARDS",
                "SIGTERM",
                "/metrics",
            ],
        ),
        (
            &["check", "--help"],
            &["--config", "Examples:", "Exit codes:"],
        ),
        (&[], &["Usage:", "Examples:"]),
    ] {
        let (code, stdout, _) = outcome(arguments);
        assert_eq!(code, Some(0), "{arguments:?}");
        for word in words {
            assert!(stdout.contains(word), "{word} in {stdout}");
        }
    }
}

#[test]
fn bad_usage_and_bad_configuration_exit_2() {
    for (arguments, words) in [
        (&["run", "--sharts", "2"][..], &["--sharts", "--shards"][..]),
        (&["walk"], &["walk"]),
        (&["check"], &["--config"]),
        (
            &["run", "--shards", "none"],
            &["--shards: node.shards: \"none\" is not a whole number"],
        ),
        (
            &["run", "--listen", "ws://127.0.0.1:0"],
            &["ws://", "not built yet"],
        ),
        (
            &["run", "--listen", "mqtt://0.0.0.0:0"],
            &[
                "mqtt://0.0.0.0:0",
                "--allow-anonymous",
                "auth.allow_anonymous",
            ],
        ),
        (
            &["run", "--config", "/nonexistent.toml"],
            &["/nonexistent.toml", "cannot be read"],
        ),
        (
            &["run", "--data-dir", "/dev/null"],
            &["--data-dir", "/dev/null is not a directory"],
        ),
    ] {
        let (code, stdout, stderr) = outcome(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert_eq!(stdout, "", "{arguments:?}");
        for word in words {
            assert!(stderr.contains(word), "{word} in {stderr}");
        }
    }
}

#[test]
fn unknown_key_is_told_with_file_line_and_nearest() {
    let file = File::new(
        "unknown-key",
        "[node]\nshards = 2\n\n[limits]\nkeepalive_max = \"1h\"\n",
    );
    let expected = format!(
        "tidegate: {}:5:1: limits.keepalive_max: no such key; did you mean limits.keep_alive_max?\n",
        file.path()
    );
    for command in ["run", "check"] {
        let (code, _, stderr) = outcome(&[command, "--config", file.path()]);
        assert_eq!((code, &stderr), (Some(2), &expected));
    }
}

#[test]
fn every_example_is_accepted_by_check() {
    let examples = examples();
    assert!(examples.iter().any(|path| path.ends_with("minimal.toml")));
    for path in examples {
        let path = path.to_str().unwrap();
        let (code, stdout, stderr) = outcome(&["check", "--config", path]);
        assert_eq!(code, Some(0), "{path}: {stderr}");
        assert!(
            stdout.starts_with(&format!("{path} can be run.")),
            "{stdout}"
        );
    }
}

#[test]
fn check_says_who_set_what() {
    let file = File::new("check", "[node]\nshards = 2\n");
    let mut command = tidegate(&["check", "--json", "--config", file.path()]);
    let (code, stdout, stderr) = outcome_of(command.env("TIDEGATE__LOG__LEVEL", "debug"));
    assert_eq!(code, Some(0), "{stderr}");
    let checked: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(checked["shards"], 2);
    assert_eq!(
        checked["settings"]["node.shards"]["from"],
        format!("{}:2:10", file.path())
    );
    assert_eq!(
        checked["settings"]["log.level"]["from"],
        "TIDEGATE__LOG__LEVEL"
    );
    assert_eq!(checked["settings"]["log.level"]["value"], "\"debug\"");
    assert_eq!(checked["settings"]["log.format"]["from"], "default");
}

#[test]
fn busy_admin_port_exits_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, _, stderr) = outcome(&[
        "run",
        "--listen",
        "mqtt://127.0.0.1:0",
        "--admin",
        &addr,
        "--shards",
        "1",
    ]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains(&format!("cannot listen on the admin address {addr}")),
        "{stderr}"
    );
}

#[test]
fn busy_listener_port_exits_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let url = format!("mqtt://{addr}");
    let (code, _, stderr) = outcome(&[
        "run",
        "--listen",
        &url,
        "--admin",
        "127.0.0.1:0",
        "--shards",
        "1",
    ]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains(&format!("cannot listen on {addr}")),
        "{stderr}"
    );
}

#[test]
fn ready_line_names_the_bound_addresses() {
    let gateway = Gateway::start(&["--listen", "mqtt://[::1]:0"]);
    assert_eq!(gateway.ready["event"], "ready");
    assert_eq!(gateway.ready["shards"], 2);
    assert_eq!(gateway.ready["listeners"].as_array().unwrap().len(), 2);
    for index in 0..2 {
        assert_eq!(gateway.ready["listeners"][index]["protocol"], "mqtt");
        let addr = gateway.addr(&format!("/listeners/{index}/addr"));
        assert_ne!(addr.port(), 0);
        TcpStream::connect(addr).unwrap();
    }
    assert_ne!(gateway.admin().port(), 0);
}

#[test]
fn people_read_a_line_a_listener_and_then_ready() {
    let mut command = tidegate(&["run", "--shards", "1", "--admin", "127.0.0.1:0"]);
    command.args([
        "--listen",
        "mqtt://127.0.0.1:0",
        "--listen",
        "mqtt://127.0.0.1:0",
    ]);
    let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.map(Result::unwrap).take(3).collect();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for line in &lines[..2] {
        assert!(line.starts_with("listening on mqtt://127.0.0.1:"), "{line}");
    }
    assert!(lines[2].starts_with("ready"), "{lines:?}");
}

#[test]
fn both_drivers_serve_metrics_and_health() {
    for io in ["ring", "epoll"] {
        let gateway = Gateway::start(&["--io", io]);
        let admin = gateway.admin();
        assert!(http(admin, "GET", "/healthz").starts_with("HTTP/1.1 200 "));
        assert!(http(admin, "GET", "/readyz").starts_with("HTTP/1.1 200 "));

        let page = http(admin, "GET", "/metrics");
        assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("content-type: text/plain"));
        for line in [
            "tidegate_shards_answering 2",
            "tidegate_bytes_received_total 0",
            "tidegate_subscriptions{shard=\"1\"} 0",
            "tidegate_mailbox_depth{shard=\"0\"} 0",
            "tidegate_messages_dropped_total{reason=\"queue_full\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
        assert!(page.contains("\nprocess_resident_memory_bytes "));
    }
}

#[test]
fn what_is_not_there_is_a_problem_document() {
    let gateway = Gateway::start(&[]);
    for (method, path, status, allow) in [
        ("GET", "/nothing", 404, false),
        ("POST", "/metrics", 405, true),
    ] {
        let answer = http(gateway.admin(), method, path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(
            head.contains("content-type: application/problem+json"),
            "{head}"
        );
        assert_eq!(head.contains("allow: GET,HEAD"), allow, "{head}");
        let problem: Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], status);
    }
}

#[test]
fn silent_http_clients_do_not_keep_others_waiting() {
    let gateway = Gateway::start(&[]);
    let silent: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(gateway.admin()).unwrap())
        .collect();
    assert!(http(gateway.admin(), "GET", "/readyz").starts_with("HTTP/1.1 200 "));
    drop(silent);
}

#[test]
fn an_endless_header_is_refused() {
    let gateway = Gateway::start(&[]);
    let mut stream = TcpStream::connect(gateway.admin()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let header = format!("GET /metrics HTTP/1.1\r\nx: {}", "y".repeat(64 * 1024));
    // The gateway may close while we still write.
    let _ = stream.write_all(header.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
}

#[test]
fn sigterm_and_sigint_drain_and_exit_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = Gateway::start(&[]);
        let _idle = TcpStream::connect(gateway.addr("/listeners/0/addr")).unwrap();
        gateway.signal(signal);
        assert_eq!(gateway.exit_code(), Some(0));
    }
}

/// `timeout` signals the process and then its group.
#[test]
fn an_echo_of_the_signal_does_not_spoil_the_drain() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = Gateway::start(&[]);
        gateway.signal(signal);
        gateway.signal(signal);
        assert_eq!(gateway.exit_code(), Some(0));
    }
}

#[test]
fn sighup_is_survived() {
    let mut gateway = Gateway::start(&[]);
    gateway.signal(Signal::HUP);
    assert!(http(gateway.admin(), "GET", "/readyz").starts_with("HTTP/1.1 200 "));
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn systemd_is_told() {
    let folder = std::env::temp_dir().join(format!("tidegate-notify-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut text = [0; 64];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };

    let mut command = tidegate(&["run", "--listen", "mqtt://127.0.0.1:0", "--json"]);
    command
        .args(["--admin", "127.0.0.1:0", "--shards", "1"])
        .env("NOTIFY_SOCKET", &path);
    let mut gateway = Gateway::start_as(&mut command);
    assert_eq!(told().trim_end(), "READY=1");
    gateway.signal(Signal::TERM);
    assert_eq!(told().trim_end(), "STOPPING=1");
    assert_eq!(gateway.exit_code(), Some(0));
    std::fs::remove_dir_all(folder).unwrap();
}
