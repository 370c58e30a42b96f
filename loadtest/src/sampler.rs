//! Turns growing counters into points of the charts.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::nanoseconds;
use crate::outcome::{Sample, SAMPLE_PERCENTILES};
use crate::procstat::Usage;

/// Points a chart gets at most, roughly.
const POINTS: u32 = 120;

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading {
    pub(crate) now_ns: u64,
    pub(crate) connected: u64,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) target: Usage,
    pub(crate) own: Usage,
}

/// Keeps the series of one run.
#[derive(Debug)]
pub(crate) struct Sampler {
    interval_ns: u64,
    last: Option<Reading>,
    samples: Vec<Sample>,
}

impl Sampler {
    /// For a run of about `planned`: a point every half second, fewer where that would be many.
    pub(crate) fn new(planned: Duration) -> Sampler {
        let interval =
            (planned / POINTS).clamp(Duration::from_millis(500), Duration::from_secs(60));
        Sampler {
            interval_ns: nanoseconds(interval),
            last: None,
            samples: Vec::new(),
        }
    }

    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        self.last
            .is_none_or(|last| now_ns >= last.now_ns + self.interval_ns)
    }

    /// Adds the point between the last reading and this one; the first reading only starts the
    /// series.
    pub(crate) fn take(&mut self, reading: Reading, latency: &Histogram<u64>) {
        if let Some(last) = self.last.replace(reading) {
            let seconds = (reading.now_ns - last.now_ns) as f64 / 1e9;
            let percent = |now: Usage, then: Usage| {
                (now.cpu_seconds() - then.cpu_seconds()) * 100.0 / seconds
            };
            let at = |percentile| latency.value_at_percentile(percentile) as f64 / 1e3;
            self.samples.push(Sample {
                second: reading.now_ns as f64 / 1e9,
                connected: reading.connected,
                published_per_second: (reading.published - last.published) as f64 / seconds,
                delivered_per_second: (reading.delivered - last.delivered) as f64 / seconds,
                latency_us: (!latency.is_empty()).then(|| SAMPLE_PERCENTILES.map(at)),
                target_cpu_percent: percent(reading.target, last.target),
                target_rss_bytes: reading.target.rss_bytes,
                flooder_cpu_percent: percent(reading.own, last.own),
            });
        }
    }

    pub(crate) fn last(&self) -> Option<&Sample> {
        self.samples.last()
    }

    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::nanosecond_histogram;

    #[test]
    fn counters_become_rates_and_cpu_time_becomes_percent() {
        let mut sampler = Sampler::new(Duration::from_secs(10));
        let mut latency = nanosecond_histogram();
        assert!(sampler.is_due(0));
        sampler.take(Reading::default(), &latency);
        assert!(!sampler.is_due(499_999_999) && sampler.is_due(500_000_000));
        latency.saturating_record(50_000);
        let target = Usage {
            user_seconds: 0.25,
            system_seconds: 0.25,
            rss_bytes: 7,
        };
        let reading = Reading {
            now_ns: 1_000_000_000,
            published: 10,
            delivered: 1_000,
            target,
            ..Reading::default()
        };
        sampler.take(reading, &latency);
        let sample = sampler.last().unwrap();
        assert_eq!(
            (sample.published_per_second, sample.delivered_per_second),
            (10.0, 1_000.0)
        );
        assert_eq!(
            (sample.target_cpu_percent, sample.target_rss_bytes),
            (50.0, 7)
        );
        assert!((sample.latency_us.unwrap()[0] - 50.0).abs() < 0.1);
        assert_eq!(sampler.into_samples().len(), 1);
    }
}
