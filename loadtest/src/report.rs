//! `--report`: one self-contained page of charts, drawn as inline SVG; no script, no outside
//! resource.

mod chart;

use std::fmt::{self, Write};

use crate::outcome::{Outcome, Percentiles, Sample};
use crate::summary;
use chart::{Chart, Line};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b2733;--dim:#66788a;--grid:#d9e0e6;--paper:#fff;--ok:#1a7f4b;--bad:#b3261e}\
@media(prefers-color-scheme:dark){:root{--ink:#e4eaf0;--dim:#93a4b5;--grid:#33414f;--paper:#151c23;--ok:#4cc38a;--bad:#ff8a80}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:64rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .3rem}.dim{color:var(--dim)}\
.ok{color:var(--ok);font-weight:600}.bad{color:var(--bad);font-weight:600}\
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.15rem 1rem .15rem 0;text-align:right;font-variant-numeric:tabular-nums}\
td:first-child,th:first-child{text-align:left}th{color:var(--dim);font-weight:500}\
pre{overflow-x:auto;padding:.8rem;border:1px solid var(--grid);border-radius:6px;font-size:13px}\
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:var(--dim)}.grid{stroke:var(--grid)}\
.line{fill:none;stroke-width:1.8}.c0{stroke:#2f7ed8}.c1{stroke:#e07b1a}.c2{stroke:#8a5bd0}.k0{fill:#2f7ed8!important}.k1{fill:#e07b1a!important}.k2{fill:#8a5bd0!important}";

/// The whole page.
pub(crate) fn page(outcome: &Outcome) -> String {
    let mut page = String::new();
    // Writing to a `String` cannot fail.
    let _ = write_page(outcome, &mut page);
    page
}

fn write_page(outcome: &Outcome, out: &mut String) -> fmt::Result {
    let title = format!("tidegate-flood {}", escape(&outcome.scenario));
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    )?;
    write_verdict(outcome, out)?;
    write_percentiles(outcome, out)?;
    for chart in charts(outcome) {
        chart.write(out)?;
    }
    writeln!(
        out,
        "<h2>Summary</h2>\n<pre>{}</pre>",
        escape(&summary::text(outcome))
    )?;
    writeln!(out, "</body></html>")
}

fn write_verdict(outcome: &Outcome, out: &mut String) -> fmt::Result {
    let targets = escape(&outcome.load.targets.join(" "));
    writeln!(
        out,
        "<p class=\"dim\">{} clients → {targets}</p>",
        summary::count(outcome.load.clients as f64)
    )?;
    if outcome.ok {
        writeln!(
            out,
            "<p class=\"ok\">Everything expected came, once and in order.</p>"
        )
    } else {
        writeln!(
            out,
            "<p class=\"bad\">Failed: {}.</p>",
            escape(&outcome.failures.join(", "))
        )
    }
}

fn write_percentiles(outcome: &Outcome, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "<h2>Latency</h2>\n<table><tr><th></th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th><th>count</th></tr>"
    )?;
    let traffic = outcome
        .traffic
        .as_ref()
        .map(|traffic| ("publish to delivery", &traffic.latency_us));
    let fixed = [
        ("connect", &outcome.connect.latency_us),
        ("ping", &outcome.pings.latency_us),
    ];
    for (name, percentiles) in traffic
        .into_iter()
        .chain(fixed)
        .filter(|(_, p)| p.count > 0)
    {
        write_row(name, percentiles, out)?;
    }
    writeln!(out, "</table>")
}

fn write_row(name: &str, p: &Percentiles, out: &mut String) -> fmt::Result {
    write!(out, "<tr><td>{name}</td>")?;
    for value in [p.p50, p.p90, p.p99, p.p99_9, p.max] {
        write!(out, "<td>{}</td>", summary::microseconds(value))?;
    }
    writeln!(out, "<td>{}</td></tr>", summary::count(p.count as f64))
}

fn charts(outcome: &Outcome) -> Vec<Chart> {
    let series = |name, value: &dyn Fn(&Sample) -> Option<f64>| Line {
        name,
        points: outcome
            .samples
            .iter()
            .filter_map(|sample| Some((sample.second, value(sample)?)))
            .collect(),
    };
    let latency =
        |which: usize| move |sample: &Sample| sample.latency_us.map(|latency| latency[which]);
    let mut charts = Vec::new();
    if outcome.traffic.is_some() {
        charts.push(Chart {
            title: "Messages a second",
            show: summary::count,
            lines: vec![
                series("delivered", &|sample| Some(sample.delivered_per_second)),
                series("published", &|sample| Some(sample.published_per_second)),
            ],
        });
        charts.push(Chart {
            title: "Latency over time",
            show: summary::microseconds,
            lines: vec![
                series("p50", &latency(0)),
                series("p99", &latency(1)),
                series("max", &latency(2)),
            ],
        });
    } else {
        let lines = vec![series("connected", &|sample| Some(sample.connected as f64))];
        charts.push(Chart {
            title: "Connections",
            show: summary::count,
            lines,
        });
    }
    let mut cpu = vec![series("flooder", &|sample| {
        Some(sample.flooder_cpu_percent)
    })];
    if outcome.target.is_some() {
        cpu.insert(
            0,
            series("target", &|sample| Some(sample.target_cpu_percent)),
        );
    }
    charts.push(Chart {
        title: "CPU, percent of one core",
        show: summary::count,
        lines: cpu,
    });
    if outcome.target.is_some() {
        let lines = vec![series("resident", &|sample| {
            Some(sample.target_rss_bytes as f64)
        })];
        charts.push(Chart {
            title: "Memory of the target",
            show: summary::bytes,
            lines,
        });
    }
    charts
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Checks, TargetUse, Traffic};

    fn outcome() -> Outcome {
        let sample = |second| Sample {
            second,
            delivered_per_second: 1_000.0 * second,
            latency_us: Some([40.0, 90.0, 300.0]),
            target_rss_bytes: 5 << 20,
            ..Sample::default()
        };
        Outcome {
            scenario: "fanout".to_owned(),
            traffic: Some(Traffic {
                latency_us: Percentiles {
                    count: 9,
                    p50: 40.0,
                    max: 1_500.0,
                    ..Percentiles::default()
                },
                ..Traffic::default()
            }),
            checks: Some(Checks {
                published: 1,
                lost: 1,
                ..Checks::default()
            }),
            target: Some(TargetUse::default()),
            errors: vec!["<script>".to_owned()],
            samples: (0..10).map(|second| sample(f64::from(second))).collect(),
            ..Outcome::default()
        }
    }

    #[test]
    fn the_page_is_self_contained_and_shows_all_charts() {
        let mut outcome = outcome();
        outcome.judge();
        let page = page(&outcome);
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(page.contains("1.50 ms") && page.contains("Failed: 1 deliveries lost"));
        for outside in ["http://", "https://", "<script", "src=", "url("] {
            assert!(!page.contains(outside), "{outside} stands in the page");
        }
        assert!(page.contains("&lt;script&gt;"));
    }

    #[test]
    fn a_run_without_samples_still_makes_a_page() {
        let page = page(&Outcome::default());
        assert!(page.contains("</html>") && !page.contains("NaN") && !page.contains("inf"));
    }
}
