//! A page of metrics in the making: names, help texts, labels and values.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::TextEncoder;
use tidegate::shard::snapshot::{LatencyHistogram, LATENCY_BUCKETS_US};

const PREFIX: &str = "tidegate_";
const MICROS: f64 = 1e6;

pub(super) type Labels = Vec<(&'static str, String)>;

pub(super) struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    pub(super) fn new() -> Page {
        Page {
            families: Vec::new(),
        }
    }

    /// Values are exact up to 2^53, as everywhere in Prometheus.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let metrics = samples.into_iter().map(|(labels, value)| {
            let mut counter = Counter::default();
            counter.set_value(value);
            let mut metric = labelled(labels);
            metric.set_counter(counter);
            metric
        });
        self.family(name, help, MetricType::COUNTER, metrics.collect());
    }

    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let metrics = samples.into_iter().map(|(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = labelled(labels);
            metric.set_gauge(gauge);
            metric
        });
        self.family(name, help, MetricType::GAUGE, metrics.collect());
    }

    /// In seconds, as base units want it; counted in microseconds.
    pub(super) fn histogram(&mut self, name: &str, help: &str, counted: &LatencyHistogram) {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(LATENCY_BUCKETS_US.len());
        for (bound_us, count) in LATENCY_BUCKETS_US.iter().zip(counted.counts) {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound_us as f64 / MICROS);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(counted.counts.iter().sum());
        histogram.set_sample_sum(counted.sum_us as f64 / MICROS);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.family(name, help, MetricType::HISTOGRAM, vec![metric]);
    }

    /// Families of another collector, under their own names.
    pub(super) fn add(&mut self, families: Vec<MetricFamily>) {
        self.families.extend(families);
    }

    fn family(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        // A family without a sample is an error to the encoder; it appears with its first label values.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(format!("{PREFIX}{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.families.push(family);
    }

    pub(super) fn text(&self) -> String {
        let encoded = TextEncoder::new().encode_to_string(&self.families);
        encoded.expect("only families with a name and samples are added")
    }
}

fn labelled(labels: Labels) -> Metric {
    let pairs = labels.into_iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    });
    Metric::from_label(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_count_upwards_and_speak_in_seconds() {
        let mut counted = LatencyHistogram {
            sum_us: 2_000_020,
            ..LatencyHistogram::default()
        };
        counted.counts[0] = 2;
        counted.counts[6] = 1;
        counted.counts[LATENCY_BUCKETS_US.len()] = 1;
        let mut page = Page::new();
        page.histogram("turn_seconds", "Turns.", &counted);
        let text = page.text();
        for line in [
            "# TYPE tidegate_turn_seconds histogram",
            "tidegate_turn_seconds_bucket{le=\"0.00001\"} 2",
            "tidegate_turn_seconds_bucket{le=\"0.001\"} 3",
            "tidegate_turn_seconds_bucket{le=\"1\"} 3",
            "tidegate_turn_seconds_bucket{le=\"+Inf\"} 4",
            "tidegate_turn_seconds_sum 2.00002",
            "tidegate_turn_seconds_count 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn large_counters_keep_every_digit() {
        let mut page = Page::new();
        page.counter(
            "bytes_total",
            "Bytes.",
            [(vec![], 9_007_199_254_740_991_u64 as f64)],
        );
        assert!(page
            .text()
            .ends_with("tidegate_bytes_total 9007199254740991\n"));
    }

    #[test]
    fn a_family_without_samples_is_left_out() {
        let mut page = Page::new();
        page.counter("nothing_total", "Nothing.", []);
        assert_eq!(page.text(), "");
    }
}
