//! `/metrics`: the shards' own numbers, copied out at each scrape, in Prometheus' words.
//!
//! Shards count in plain integers that they alone write; nothing is counted twice and no counter is shared.

mod page;
mod shards;

use std::sync::Mutex;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, MetricFamily};
use rustix::time::{clock_gettime, ClockId};
use tidegate::node::NodeControl;
use tidegate::shard::snapshot::ShardSnapshot;

use page::Page;

/// How long a scrape waits for a stuck shard. Prometheus itself waits 10 s.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Metrics {
    control: NodeControl,
    shards: u16,
    /// The last answer of every shard, by shard. A stuck shard keeps its old numbers, since a sum of counters that
    /// goes down would look like a restart.
    latest: Mutex<Vec<ShardSnapshot>>,
}

impl Metrics {
    pub(crate) fn new(control: NodeControl, shards: u16) -> Metrics {
        Metrics {
            control,
            shards,
            latest: Mutex::new(Vec::new()),
        }
    }

    /// The whole page. Blocks for as long as the slowest shard takes, at most [`SNAPSHOT_TIMEOUT`].
    pub(crate) fn page(&self) -> String {
        let answers = self.control.snapshots(SNAPSHOT_TIMEOUT);
        let answering = answers.len();
        let mut latest = self
            .latest
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        remember(&mut latest, answers);

        let mut page = Page::new();
        shards::add(&mut page, &latest);
        drop(latest);
        add_process(&mut page, self.shards, answering);
        page.text()
    }
}

fn remember(latest: &mut Vec<ShardSnapshot>, answers: Vec<ShardSnapshot>) {
    for answer in answers {
        match latest.iter_mut().find(|old| old.shard == answer.shard) {
            Some(old) => *old = answer,
            None => latest.push(answer),
        }
    }
    latest.sort_unstable_by_key(|snapshot| snapshot.shard);
}

/// What is the process's and not one shard's.
fn add_process(page: &mut Page, shards: u16, answering: usize) {
    page.gauge(
        "shards",
        "Shards of this process.",
        [(vec![], f64::from(shards))],
    );
    page.gauge(
        "shards_answering",
        "Shards that answered this scrape in time; the numbers of the others are those of their last answer.",
        [(vec![], answering as f64)],
    );
    page.counter(
        "log_lines_dropped_total",
        "Log lines dropped because standard error was not read fast enough.",
        [(vec![], crate::logging::dropped_total() as f64)],
    );
    let build = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", env!("TIDEGATE_COMMIT").to_owned()),
        ("target", env!("TIDEGATE_TARGET").to_owned()),
    ];
    page.gauge(
        "build_info",
        "Always 1; the labels say what is running.",
        [(build, 1.0)],
    );
    page.add(process_families());
}

/// What the process collector knows, with CPU time as fine as the kernel keeps it: the collector counts whole
/// seconds, in which an idle gateway and a busy one look alike for a minute.
fn process_families() -> Vec<MetricFamily> {
    let mut families = ProcessCollector::for_self().collect();
    let used = clock_gettime(ClockId::ProcessCPUTime);
    for family in families
        .iter_mut()
        .filter(|family| family.name() == "process_cpu_seconds_total")
    {
        let mut counter = Counter::default();
        counter.set_value(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
        for metric in family.mut_metric().iter_mut() {
            metric.set_counter(counter.clone());
        }
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(shard: u16, bytes_received_total: u64) -> ShardSnapshot {
        ShardSnapshot {
            shard,
            bytes_received_total,
            ..ShardSnapshot::default()
        }
    }

    #[test]
    fn a_silent_shard_keeps_its_last_numbers() {
        let mut latest = Vec::new();
        remember(&mut latest, vec![snapshot(1, 10), snapshot(0, 5)]);
        remember(&mut latest, vec![snapshot(0, 6)]);
        let seen: Vec<_> = latest
            .iter()
            .map(|s| (s.shard, s.bytes_received_total))
            .collect();
        assert_eq!(seen, [(0, 6), (1, 10)]);
    }

    #[test]
    fn the_process_tells_about_itself() {
        let mut page = Page::new();
        add_process(&mut page, 2, 1);
        let text = page.text();
        for line in [
            "tidegate_shards 2\n",
            "tidegate_shards_answering 1\n",
            "\nprocess_open_fds ",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.contains("tidegate_build_info{version=\""), "{text}");
        // Far less than a second, which the collector alone would tell as 0.
        let cpu = text
            .lines()
            .find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
        assert!(cpu.unwrap().parse::<f64>().unwrap() > 0.0, "{text}");
    }
}
