//! A line chart as SVG: a few series over time, one axis.

use std::fmt::{self, Write};

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 24.0;
/// Horizontal lines of the grid, beside the one at 0.
const STEPS: u32 = 4;

pub(super) struct Chart {
    pub(super) title: &'static str,
    /// How values read on the axis.
    pub(super) show: fn(f64) -> String,
    pub(super) lines: Vec<Line>,
}

pub(super) struct Line {
    pub(super) name: &'static str,
    /// Second and value.
    pub(super) points: Vec<(f64, f64)>,
}

impl Chart {
    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let top = round_up(points().map(|(_, value)| *value).fold(0.0, f64::max));
        let end = points().map(|(second, _)| *second).fold(1.0, f64::max);
        writeln!(out, "<h2>{}</h2>", self.title)?;
        writeln!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            self.title
        )?;
        self.write_grid(top, end, out)?;
        for (number, line) in self.lines.iter().enumerate() {
            self.write_line(number, line, top, end, out)?;
        }
        writeln!(out, "</svg>")
    }

    fn write_grid(&self, top: f64, end: f64, out: &mut String) -> fmt::Result {
        for step in 0..=STEPS {
            let value = top * f64::from(step) / f64::from(STEPS);
            let y = y(value, top);
            writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                (self.show)(value)
            )?;
        }
        for quarter in 0..=4 {
            let second = end * f64::from(quarter) / 4.0;
            let (x, y) = (x(second, end), HEIGHT - 6.0);
            writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{second:.0} s</text>"
            )?;
        }
        Ok(())
    }

    fn write_line(
        &self,
        number: usize,
        line: &Line,
        top: f64,
        end: f64,
        out: &mut String,
    ) -> fmt::Result {
        write!(out, "<polyline class=\"line c{number}\" points=\"")?;
        for (second, value) in &line.points {
            write!(out, "{:.1},{:.1} ", x(*second, end), y(*value, top))?;
        }
        let x = LEFT + 4.0 + 90.0 * number as f64;
        writeln!(
            out,
            "\"/><text class=\"k{number}\" x=\"{x:.0}\" y=\"12\">{}</text>",
            line.name
        )
    }
}

fn x(second: f64, end: f64) -> f64 {
    LEFT + second / end * (WIDTH - LEFT - RIGHT)
}

fn y(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)
}

/// The next of 1, 2, 4, 6, 8 or 10 times a power of ten, so that the grid has round numbers; at
/// least 1.
fn round_up(value: f64) -> f64 {
    if value <= 1.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0];
    steps
        .into_iter()
        .map(|step| step * power)
        .find(|top| *top >= value)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, top) in [
            (0.0, 1.0),
            (0.3, 1.0),
            (1.5, 2.0),
            (100.0, 100.0),
            (101.0, 200.0),
            (8_500.0, 10_000.0),
        ] {
            assert_eq!(round_up(value), top, "{value}");
        }
    }

    #[test]
    fn every_point_lies_within_the_picture() {
        let points = (0..50).map(|n| (f64::from(n), f64::from(n * n))).collect();
        let chart = Chart {
            title: "t",
            show: |value| value.to_string(),
            lines: vec![Line { name: "l", points }],
        };
        let mut svg = String::new();
        chart.write(&mut svg).unwrap();
        let points = svg
            .split("points=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        for point in points.split_whitespace() {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!(
                (LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y),
                "{point}"
            );
        }
    }
}
