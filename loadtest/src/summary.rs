//! The result in words, for people; `--json` prints the same numbers for programs.

use std::fmt::{self, Write};

use crate::outcome::{Checks, Outcome, Percentiles, TargetUse};

/// The summary as it is printed to stdout.
pub(crate) fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = write_summary(outcome, &mut text);
    text
}

fn write_summary(outcome: &Outcome, out: &mut String) -> fmt::Result {
    write_head(outcome, out)?;
    write_connect(outcome, out)?;
    if let Some(traffic) = &outcome.traffic {
        writeln!(
            out,
            "traffic    {} published ({}/s), {} delivered ({}/s) in {:.1} s",
            count(traffic.published as f64),
            count(traffic.published_per_second),
            count(traffic.delivered as f64),
            count(traffic.delivered_per_second),
            traffic.seconds
        )?;
        writeln!(out, "latency    {}", percentiles(&traffic.latency_us))?;
    }
    if outcome.pings.sent > 0 && outcome.traffic.is_none() {
        let pings = &outcome.pings;
        writeln!(
            out,
            "pings      {} of {} answered; {}",
            pings.answered,
            pings.sent,
            percentiles(&pings.latency_us)
        )?;
    }
    if let Some(checks) = &outcome.checks {
        write_checks(outcome, checks, out)?;
    }
    match &outcome.target {
        Some(target) => write_target(target, out)?,
        None => writeln!(
            out,
            "target     not on this host, or not visible: name it with --pid"
        )?,
    }
    write_flooder(outcome, out)?;
    write_verdict(outcome, out)
}

fn write_head(outcome: &Outcome, out: &mut String) -> fmt::Result {
    let load = &outcome.load;
    write!(
        out,
        "{}    {} clients, MQTT {}",
        outcome.scenario,
        count(load.clients as f64),
        load.mqtt
    )?;
    if load.publishers > 0 {
        write!(
            out,
            ", {} publishing, QoS {}, {} B",
            count(load.publishers as f64),
            load.qos,
            load.payload_bytes
        )?;
        match load.rate {
            Some(rate) => write!(out, ", {}/s", count(rate))?,
            None => write!(out, ", {} in flight each", load.inflight)?,
        }
    }
    writeln!(out, " → {}", load.targets.join(" "))
}

fn write_connect(outcome: &Outcome, out: &mut String) -> fmt::Result {
    let connect = &outcome.connect;
    write!(
        out,
        "connect    {} ready in {:.2} s ({}/s)",
        count(connect.ready as f64),
        connect.seconds,
        count(connect.per_second)
    )?;
    if connect.failed > 0 {
        write!(out, ", {} FAILED", connect.failed)?;
    }
    writeln!(out, "; {}", percentiles(&connect.latency_us))
}

fn write_checks(outcome: &Outcome, checks: &Checks, out: &mut String) -> fmt::Result {
    write!(
        out,
        "checks     {} expected, {} received: {} lost, {} duplicates, {} out of order",
        count(checks.expected as f64),
        count(checks.received as f64),
        checks.lost,
        checks.duplicates,
        checks.out_of_order
    )?;
    if outcome.load.qos > 0 {
        write!(
            out,
            "; {} of {} acknowledged",
            count(checks.acknowledged as f64),
            count(checks.published as f64)
        )?;
    }
    for (number, what) in [
        (checks.unfinished, "never released"),
        (checks.corrupt, "damaged"),
        (checks.unexpected, "unexpected"),
        (checks.foreign, "from others"),
        (checks.written_off, "held up a window for the loss timeout"),
    ] {
        if number > 0 {
            write!(out, "; {number} {what}")?;
        }
    }
    writeln!(out)
}

fn write_target(target: &TargetUse, out: &mut String) -> fmt::Result {
    let pids: Vec<_> = target.pids.iter().map(u32::to_string).collect();
    write!(
        out,
        "target     pid {}: {:.0}% CPU",
        pids.join(", "),
        target.cpu_percent
    )?;
    write!(
        out,
        " ({:.2} s user, {:.2} s system)",
        target.user_seconds, target.system_seconds
    )?;
    for (cost, what) in [
        (target.cpu_us_per_delivery, "delivery"),
        (target.cpu_us_per_publish, "publish"),
        (target.cpu_us_per_connect, "connect"),
        (target.cpu_us_per_ping, "ping"),
    ] {
        if let Some(cost) = cost {
            write!(out, ", {cost:.2} us a {what}")?;
        }
    }
    write!(
        out,
        "\nmemory     {} before, {} connected, {} after",
        bytes(target.rss_bytes_before as f64),
        bytes(target.rss_bytes_connected as f64),
        bytes(target.rss_bytes_after as f64)
    )?;
    if let Some(each) = target.rss_bytes_per_connection {
        write!(out, "; {} a connection", bytes(each))?;
    }
    writeln!(out)
}

fn write_flooder(outcome: &Outcome, out: &mut String) -> fmt::Result {
    let flooder = &outcome.flooder;
    write!(out, "flooder    {:.0}% CPU", flooder.cpu_percent)?;
    if let Some(cost) = flooder.cpu_us_per_delivery {
        write!(out, ", {cost:.2} us a delivery")?;
    }
    if flooder.cpu_percent > 95.0 * f64::from(outcome.load.threads) {
        write!(
            out,
            " (it was the bottleneck: rates and latencies are its own)"
        )?;
    }
    writeln!(out)
}

fn write_verdict(outcome: &Outcome, out: &mut String) -> fmt::Result {
    for (reason, number) in &outcome.closed {
        writeln!(out, "closed     {number} × {reason}")?;
    }
    for error in &outcome.errors {
        writeln!(out, "error      {error}")?;
    }
    if outcome.ok {
        writeln!(out, "ok")
    } else {
        writeln!(out, "FAILED     {}", outcome.failures.join(", "))
    }
}

fn percentiles(p: &Percentiles) -> String {
    if p.count == 0 {
        return "nothing measured".to_owned();
    }
    let [p50, p90, p99, p99_9, max] = [p.p50, p.p90, p.p99, p.p99_9, p.max].map(microseconds);
    format!("p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}, max {max}")
}

/// A duration given in microseconds, with a unit that fits.
pub(crate) fn microseconds(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// Bytes with a binary unit.
pub(crate) fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1_024.0 => format!("{bytes:.0} B"),
        bytes if bytes < 1_048_576.0 => format!("{:.1} KiB", bytes / 1_024.0),
        bytes => format!("{:.1} MiB", bytes / 1_048_576.0),
    }
}

/// A number without decimals and with thousands set apart; small ones keep one decimal.
pub(crate) fn count(number: f64) -> String {
    if number < 10.0 && number.fract() > 0.05 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Load, Traffic};

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(0.0), "0");
        assert_eq!(count(2.5), "2.5");
        assert_eq!(count(999.0), "999");
        assert_eq!(count(1_234_567.0), "1,234,567");
        assert_eq!(microseconds(40.4), "40 us");
        assert_eq!(microseconds(1_800.0), "1.80 ms");
        assert_eq!(microseconds(2_500_000.0), "2.50 s");
        assert_eq!(bytes(1_536.0), "1.5 KiB");
    }

    #[test]
    fn a_failed_run_says_what_failed() {
        let mut outcome = Outcome {
            scenario: "p2p".to_owned(),
            load: Load {
                clients: 2,
                publishers: 2,
                ..Load::default()
            },
            traffic: Some(Traffic::default()),
            checks: Some(Checks {
                published: 9,
                expected: 9,
                received: 7,
                lost: 2,
                ..Checks::default()
            }),
            ..Outcome::default()
        };
        outcome.closed.insert("connection reset".to_owned(), 3);
        outcome.errors.push("flood-7: connection reset".to_owned());
        outcome.judge();
        let text = text(&outcome);
        for part in [
            "2 lost",
            "3 × connection reset",
            "flood-7: connection reset",
            "FAILED     2 deliveries lost",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn a_clean_run_says_ok() {
        let mut outcome = Outcome::default();
        outcome.judge();
        assert!(text(&outcome).ends_with("\nok\n"));
    }
}
