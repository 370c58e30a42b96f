//! The result of a run, as numbers: what `--json` prints and the summary and the report are made
//! of.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Everything a run found out.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) event: &'static str,
    pub(crate) scenario: String,
    /// Whether everything expected came, once and in order, over connections that held.
    pub(crate) ok: bool,
    /// Why not, one sentence each; empty when `ok`.
    pub(crate) failures: Vec<String>,
    pub(crate) load: Load,
    pub(crate) connect: Connect,
    pub(crate) traffic: Option<Traffic>,
    pub(crate) checks: Option<Checks>,
    pub(crate) pings: Pings,
    /// The processes under test, where they run on this host.
    pub(crate) target: Option<TargetUse>,
    pub(crate) flooder: FlooderUse,
    /// Connections that were ready and ended before their time.
    pub(crate) ended: u64,
    /// Why connections failed or ended, by reason.
    pub(crate) closed: BTreeMap<String, u64>,
    /// The first few errors in full.
    pub(crate) errors: Vec<String>,
    #[serde(skip)]
    pub(crate) samples: Vec<Sample>,
}

/// What was asked for.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Load {
    pub(crate) targets: Vec<String>,
    pub(crate) mqtt: &'static str,
    pub(crate) clients: u64,
    pub(crate) publishers: u64,
    pub(crate) qos: u8,
    pub(crate) payload_bytes: u64,
    /// Messages a second over all publishers; `null`: the window decides.
    pub(crate) rate: Option<f64>,
    pub(crate) inflight: u32,
    pub(crate) threads: u32,
    pub(crate) source_addresses: u64,
}

/// Opening the connections.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Connect {
    pub(crate) ready: u64,
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    /// From CONNECT to CONNACK, or to SUBACK where the client subscribes.
    pub(crate) latency_us: Percentiles,
}

/// The measured part of the traffic.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Traffic {
    pub(crate) seconds: f64,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) published_per_second: f64,
    pub(crate) delivered_per_second: f64,
    /// From PUBLISH to delivery; with a rate, from when a delayed PUBLISH was due.
    pub(crate) latency_us: Percentiles,
}

/// The verdict over the whole run, warm-up included.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Checks {
    pub(crate) published: u64,
    /// PUBACK or PUBCOMP; 0 at QoS 0.
    pub(crate) acknowledged: u64,
    pub(crate) expected: u64,
    /// Distinct ones.
    pub(crate) received: u64,
    /// QoS 2 deliveries that never saw their PUBREL.
    pub(crate) unfinished: u64,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) out_of_order: u64,
    /// Of this run, but damaged.
    pub(crate) corrupt: u64,
    /// Of this run, at a client that should not get them.
    pub(crate) unexpected: u64,
    /// Messages of somebody else.
    pub(crate) foreign: u64,
    /// Deliveries that held up a window for the whole loss timeout.
    pub(crate) written_off: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Pings {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) latency_us: Percentiles,
}

/// What the processes under test used.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct TargetUse {
    pub(crate) pids: Vec<u32>,
    /// Over the measured part.
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    pub(crate) cpu_percent: f64,
    pub(crate) cpu_us_per_delivery: Option<f64>,
    pub(crate) cpu_us_per_publish: Option<f64>,
    pub(crate) cpu_us_per_connect: Option<f64>,
    pub(crate) cpu_us_per_ping: Option<f64>,
    pub(crate) rss_bytes_before: u64,
    /// With all connections ready, before traffic.
    pub(crate) rss_bytes_connected: u64,
    pub(crate) rss_bytes_after: u64,
    pub(crate) rss_bytes_per_connection: Option<f64>,
}

/// What the flooder used itself: near 100 % a thread, it was the bottleneck.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct FlooderUse {
    pub(crate) cpu_percent: f64,
    pub(crate) cpu_us_per_delivery: Option<f64>,
    pub(crate) rss_bytes: u64,
}

/// One point of the charts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Since the first connection.
    pub(crate) second: f64,
    pub(crate) connected: u64,
    pub(crate) published_per_second: f64,
    pub(crate) delivered_per_second: f64,
    /// Of the deliveries in this interval; `None` where there were none.
    pub(crate) latency_us: Option<[f64; 3]>,
    pub(crate) target_cpu_percent: f64,
    pub(crate) target_rss_bytes: u64,
    pub(crate) flooder_cpu_percent: f64,
}

/// Which percentiles [`Sample::latency_us`] holds.
pub(crate) const SAMPLE_PERCENTILES: [f64; 3] = [50.0, 99.0, 100.0];

/// Microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    /// From a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Percentiles {
        let at = |percentile| histogram.value_at_percentile(percentile) as f64 / 1e3;
        Percentiles {
            count: histogram.len(),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

/// A histogram of nanoseconds up to ten minutes, three digits exact. Longer times count as ten
/// minutes.
pub(crate) fn nanosecond_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("the bounds are constants")
}

impl Outcome {
    /// Finds what is wrong and sets [`Outcome::ok`].
    pub(crate) fn judge(&mut self) {
        let mut failures = Vec::new();
        let mut fail = |count: u64, text: &str| {
            if count > 0 {
                failures.push(format!("{count} {text}"));
            }
        };
        fail(self.connect.failed, "clients could not connect");
        fail(self.ended, "connections ended before their time");
        fail(
            self.pings.sent.saturating_sub(self.pings.answered),
            "pings never answered",
        );
        if let Some(checks) = &self.checks {
            fail(checks.lost, "deliveries lost");
            // QoS 1 may deliver twice; QoS 0 (at most once) and 2 (exactly once) may not.
            fail(
                if self.load.qos == 1 {
                    0
                } else {
                    checks.duplicates
                },
                "deliveries duplicated",
            );
            fail(checks.out_of_order, "deliveries out of order");
            fail(checks.unfinished, "QoS 2 deliveries never released");
            fail(checks.corrupt, "deliveries damaged");
            fail(
                checks.unexpected,
                "deliveries to a client that should not get them",
            );
            if self.load.qos > 0 {
                fail(
                    checks.published.saturating_sub(checks.acknowledged),
                    "publishes never acknowledged",
                );
            }
            if checks.published == 0 {
                failures.push("nothing was published".to_owned());
            }
        }
        self.ok = failures.is_empty();
        self.failures = failures;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(qos: u8, checks: Checks) -> Outcome {
        let load = Load {
            qos,
            ..Load::default()
        };
        let mut outcome = Outcome {
            load,
            checks: Some(checks),
            ..Outcome::default()
        };
        outcome.judge();
        outcome
    }

    fn clean() -> Checks {
        Checks {
            published: 9,
            acknowledged: 9,
            expected: 9,
            received: 9,
            ..Checks::default()
        }
    }

    #[test]
    fn a_clean_run_is_ok() {
        assert!(outcome(0, clean()).ok);
        assert!(outcome(2, clean()).ok);
    }

    #[test]
    fn every_fault_fails_the_run() {
        for checks in [
            Checks { lost: 1, ..clean() },
            Checks {
                out_of_order: 1,
                ..clean()
            },
            Checks {
                unfinished: 1,
                ..clean()
            },
            Checks {
                corrupt: 1,
                ..clean()
            },
            Checks {
                unexpected: 1,
                ..clean()
            },
            Checks {
                acknowledged: 8,
                ..clean()
            },
            Checks::default(),
        ] {
            assert!(!outcome(1, checks.clone()).ok, "{checks:?}");
        }
        let mut closed = Outcome {
            ended: 1,
            ..Outcome::default()
        };
        closed.judge();
        assert_eq!(closed.failures, ["1 connections ended before their time"]);
    }

    #[test]
    fn only_qos_1_may_deliver_twice() {
        let twice = Checks {
            duplicates: 3,
            ..clean()
        };
        assert!(!outcome(0, twice.clone()).ok);
        assert!(outcome(1, twice.clone()).ok);
        assert_eq!(outcome(2, twice).failures, ["3 deliveries duplicated"]);
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut histogram = nanosecond_histogram();
        (1..=1_000).for_each(|n| histogram.saturating_record(n * 1_000));
        let percentiles = Percentiles::of(&histogram);
        assert_eq!(percentiles.count, 1_000);
        assert!((percentiles.p50 - 500.0).abs() < 1.0 && (percentiles.p99_9 - 999.0).abs() < 2.0);
        histogram.saturating_record(u64::MAX);
        assert!(Percentiles::of(&histogram).max >= 6e8);
    }
}
