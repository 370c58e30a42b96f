//! What is seen while a run goes on: one live line on a terminal, else a line every few seconds.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::outcome::Sample;
use crate::summary::{bytes, count, microseconds};

const TERMINAL_INTERVAL_NS: u64 = 250_000_000;
const LINE_INTERVAL_NS: u64 = 5_000_000_000;

/// Shows progress on stderr.
pub(crate) struct Progress {
    scenario: &'static str,
    clients: u64,
    /// Only on a terminal.
    bar: Option<ProgressBar>,
    quiet: bool,
    next_ns: u64,
}

impl Progress {
    pub(crate) fn new(scenario: &'static str, clients: u64, quiet: bool) -> Progress {
        let on_terminal = !quiet && io::stderr().is_terminal();
        let bar = on_terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {elapsed} {msg}")
                    .expect("a constant template"),
            );
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        // The first line may come at once only where it is overwritten.
        let next_ns = if on_terminal { 0 } else { LINE_INTERVAL_NS };
        Progress {
            scenario,
            clients,
            bar,
            quiet,
            next_ns,
        }
    }

    pub(crate) fn show(&mut self, now_ns: u64, activity: &str, sample: Option<&Sample>) {
        if self.quiet || now_ns < self.next_ns {
            return;
        }
        let interval = if self.bar.is_some() {
            TERMINAL_INTERVAL_NS
        } else {
            LINE_INTERVAL_NS
        };
        self.next_ns = now_ns + interval;
        let text = line(activity, self.clients, sample);
        match &self.bar {
            Some(bar) => bar.set_message(format!("{} {text}", self.scenario)),
            // Progress nobody can read is no reason to stop.
            None => drop(writeln!(
                io::stderr(),
                "{:5.1}s {} {text}",
                now_ns as f64 / 1e9,
                self.scenario
            )),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(activity: &str, clients: u64, sample: Option<&Sample>) -> String {
    let Some(sample) = sample else {
        return activity.to_owned();
    };
    let mut text = format!(
        "{activity} · {} of {} connected",
        count(sample.connected as f64),
        count(clients as f64)
    );
    if sample.delivered_per_second > 0.0 || sample.published_per_second > 0.0 {
        text += &format!(
            " · {}/s out · {}/s in",
            count(sample.published_per_second),
            count(sample.delivered_per_second)
        );
    }
    if let Some([p50, p99, _]) = sample.latency_us {
        text += &format!(" · p50 {} p99 {}", microseconds(p50), microseconds(p99));
    }
    if sample.target_rss_bytes > 0 {
        text += &format!(
            " · target {:.0}% CPU, {}",
            sample.target_cpu_percent,
            bytes(sample.target_rss_bytes as f64)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_grows_with_what_is_known() {
        assert_eq!(line("connecting", 10, None), "connecting");
        let mut sample = Sample {
            connected: 10,
            ..Sample::default()
        };
        assert_eq!(
            line("holding", 10, Some(&sample)),
            "holding · 10 of 10 connected"
        );
        sample.delivered_per_second = 20_000.0;
        sample.latency_us = Some([40.0, 180.0, 900.0]);
        let text = line("publishing", 10, Some(&sample));
        assert!(
            text.contains("20,000/s in") && text.contains("p50 40 us p99 180 us"),
            "{text}"
        );
    }
}
