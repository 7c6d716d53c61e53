//! The picture: latency against throughput, both systems in one frame, as SVG.
//!
//! Invariant: it shows the medians that the table shows, and nothing else.

mod axis;

use std::fmt::Write as _;

use self::axis::Axis;
use crate::{
    bench::{Book, Runs},
    quantity::{HANDOVERS, PAIR_P50, PAIR_P99, PAIRS, Quantity, WAIT_P50, WAIT_P99},
    scenario::Scenario,
};

/// Size of the whole, in pixels.
const SIZE: (f64, f64) = (1180.0, 600.0);
/// Of the frame of one panel: the rest is for titles, labels and the legend.
const FRAME: (f64, f64) = (480.0, 400.0);
/// The upper edge of the frames.
const TOP: f64 = 110.0;
/// The left edges of the frames.
const LEFT: [f64; 2] = [80.0, 660.0];
/// Colours by the order of peers: they differ in lightness, too.
const COLOURS: [&str; 2] = ["#1a5fb4", "#e66100"];

/// One of the two frames.
struct Panel {
    title: &'static str,
    across: Quantity,
    across_label: &'static str,
    /// Half of the clients' times are below.
    p50: Quantity,
    /// 99 of 100 are.
    p99: Quantity,
    shows: fn(Scenario) -> bool,
}

const PANELS: [Panel; 2] = [
    Panel {
        title: "Distinct locks: lock and unlock",
        across: PAIRS,
        across_label: "pairs a second",
        p50: PAIR_P50,
        p99: PAIR_P99,
        shows: |scenario| matches!(scenario, Scenario::Distinct(_)),
    },
    Panel {
        title: "One hot lock: wait until granted",
        across: HANDOVERS,
        across_label: "hand-overs a second",
        p50: WAIT_P50,
        p99: WAIT_P99,
        shows: |scenario| matches!(scenario, Scenario::Hot(_)),
    },
];

/// A point: throughput, half of the times, 99 of 100 of them, and how many clients made it.
struct Point {
    across: f64,
    p50: f64,
    p99: f64,
    clients: usize,
}

impl Panel {
    fn points(&self, book: &Book, peer: &str) -> Vec<Point> {
        let shown = |runs: &&Runs| runs.peer == peer && (self.shows)(runs.scenario);
        let mut points: Vec<Point> = book
            .all()
            .iter()
            .filter(shown)
            .map(|runs| Point {
                across: runs.median(self.across.of),
                p50: runs.median(self.p50.of),
                p99: runs.median(self.p99.of),
                clients: runs.scenario.clients(),
            })
            .collect();
        points.sort_by_key(|point| point.clients);
        points
    }
}

/// Draws the medians of these peers; `note` says how they came about.
#[must_use]
pub fn draw(book: &Book, peers: &[&str], note: &str) -> String {
    let mut svg = Svg::default();
    let (width, height) = SIZE;
    svg.line(format_args!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13" fill="#222">"##
    ));
    svg.line(format_args!(
        r##"<rect width="{width}" height="{height}" fill="#fff"/>"##
    ));
    svg.text(
        LEFT[0],
        34.0,
        r##"font-size="20" font-weight="bold""##,
        "Latency against throughput",
    );
    svg.text(LEFT[0], 56.0, r##"fill="#555""##, note);
    legend(&mut svg, book, peers);
    for (panel, left) in PANELS.iter().zip(LEFT) {
        draw_panel(&mut svg, panel, left, book, peers);
    }
    svg.line(format_args!("</svg>"));
    svg.text
}

fn legend(svg: &mut Svg, book: &Book, peers: &[&str]) {
    let mut left = LEFT[0];
    let y = SIZE.1 - 22.0;
    let coloured = peers.iter().zip(COLOURS);
    for (peer, colour) in coloured.filter(|(peer, _)| book.has(peer)) {
        for (label, dash) in [("p50", ""), ("p99", DASHED)] {
            svg.line(format_args!(
                r#"<path d="M{left} {}h34" stroke="{colour}" stroke-width="2.5" fill="none"{dash}/>"#,
                y - 4.0
            ));
            svg.text(left + 42.0, y, "", &format!("{peer} {label}"));
            left += 150.0;
        }
    }
    let how = "numbers: clients; both axes are logarithmic; right and down is better";
    svg.text(LEFT[1], y, r##"fill="#555""##, how);
}

const DASHED: &str = r#" stroke-dasharray="6 5""#;

fn draw_panel(svg: &mut Svg, panel: &Panel, left: f64, book: &Book, peers: &[&str]) {
    let series: Vec<Vec<Point>> = peers.iter().map(|peer| panel.points(book, peer)).collect();
    let points = || series.iter().flatten();
    let across = Axis::over(points().map(|point| point.across), left, FRAME.0);
    let down = Axis::over(
        points().flat_map(|point| [point.p50, point.p99]),
        TOP + FRAME.1,
        -FRAME.1,
    );
    let (Some(across), Some(down)) = (across, down) else {
        return;
    };
    svg.text(
        left,
        TOP - 14.0,
        r#"font-size="15" font-weight="bold""#,
        panel.title,
    );
    grid(svg, &across, &down, left);
    let middle = left + FRAME.0 / 2.0;
    let below = TOP + FRAME.1;
    svg.text(
        middle,
        below + 42.0,
        r#"text-anchor="middle""#,
        panel.across_label,
    );
    let (x, y) = (left - 52.0, TOP + FRAME.1 / 2.0);
    let turned = format!(r#"text-anchor="middle" transform="rotate(-90 {x} {y})""#);
    svg.text(x, y, &turned, "milliseconds");
    for (points, colour) in series.iter().zip(COLOURS) {
        if !points.is_empty() {
            curves(svg, &across, &down, points, colour);
        }
    }
}

fn grid(svg: &mut Svg, across: &Axis, down: &Axis, left: f64) {
    let (width, height) = FRAME;
    let bottom = TOP + height;
    for tick in across.ticks() {
        let x = across.place(tick.value);
        let colour = grid_colour(tick.is_decade);
        svg.line(format_args!(
            r#"<path d="M{x:.1} {TOP}v{height}" stroke="{colour}"/>"#
        ));
        let label = shown(tick.value);
        svg.text(x, bottom + 18.0, r#"text-anchor="middle""#, &label);
    }
    for tick in down.ticks() {
        let y = down.place(tick.value);
        let colour = grid_colour(tick.is_decade);
        svg.line(format_args!(
            r#"<path d="M{left} {y:.1}h{width}" stroke="{colour}"/>"#
        ));
        let label = shown(tick.value);
        svg.text(left - 8.0, y + 4.5, r#"text-anchor="end""#, &label);
    }
    svg.line(format_args!(
        r##"<rect x="{left}" y="{TOP}" width="{width}" height="{height}" fill="none" stroke="#888"/>"##
    ));
}

const fn grid_colour(is_decade: bool) -> &'static str {
    if is_decade { "#bbb" } else { "#e6e6e6" }
}

fn curves(svg: &mut Svg, across: &Axis, down: &Axis, points: &[Point], colour: &str) {
    let placed = |of: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        let points = points.iter();
        let placed = points.map(|point| (across.place(point.across), down.place(of(point))));
        placed.collect()
    };
    let (p50, p99) = (placed(|point| point.p50), placed(|point| point.p99));
    curve(svg, &p99, colour, DASHED, "#fff");
    curve(svg, &p50, colour, "", colour);
    for ((point, (x, low)), (_, high)) in points.iter().zip(&p50).zip(&p99) {
        // Between the two, which is clear of both curves.
        let style = format!(r#"font-size="12" font-weight="bold" fill="{colour}""#);
        let label = point.clients.to_string();
        svg.text(x + 7.0, f64::midpoint(*low, *high) + 4.0, &style, &label);
    }
}

fn curve(svg: &mut Svg, points: &[(f64, f64)], colour: &str, dash: &str, fill: &str) {
    let path: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1} {y:.1}"))
        .collect();
    svg.line(format_args!(
        r#"<path d="M{}" stroke="{colour}" stroke-width="2.5" fill="none"{dash}/>"#,
        path.join("L")
    ));
    for (x, y) in points {
        svg.line(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="2"/>"#
        ));
    }
}

/// A tick's label: whole from 1 on.
fn shown(value: f64) -> String {
    if value >= 1_000.0 {
        let thousands = value / 1_000.0;
        format!("{thousands}k")
    } else {
        let rounded = (value * 1_000.0).round() / 1_000.0;
        rounded.to_string()
    }
}

/// The text of the picture.
#[derive(Default)]
struct Svg {
    text: String,
}

impl Svg {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _infallible = writeln!(self.text, "{line}");
    }

    fn text(&mut self, x: f64, y: f64, style: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.line(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" {style}>{text}</text>"#
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        counters::Counters,
        load::{Measured, Times},
        usage::Usage,
    };

    #[test]
    fn faster_is_further_right_and_sooner_is_further_down() {
        let mut book = Book::default();
        for (peer, pairs, nanos) in [("lockstep", 8_000, 1_000_000), ("etcd", 400, 9_000_000)] {
            let mut times = Times::new_with_bounds(1_000, 60_000_000_000, 3).unwrap();
            times.record_n(nanos, pairs).unwrap();
            let measured = Measured {
                seconds: 1.0,
                pairs: times.clone(),
                waits: times,
                usage: Usage::default(),
                counters: Counters::default(),
            };
            book.record(peer, Scenario::Distinct(64), measured);
        }
        let svg = draw(&book, &["lockstep", "etcd"], "a < b");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
        let filled = |colour: &str| {
            let line = svg
                .lines()
                .find(|line| {
                    line.starts_with("<circle") && line.contains(&format!("fill=\"{colour}\""))
                })
                .unwrap();
            let number = |name: &str| -> f64 {
                let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
                rest.split_once('"').unwrap().0.parse().unwrap()
            };
            (number("cx"), number("cy"))
        };
        let (lockstep, etcd) = (filled(COLOURS[0]), filled(COLOURS[1]));
        assert!(
            lockstep.0 > etcd.0 && lockstep.1 > etcd.1,
            "{lockstep:?} {etcd:?}"
        );
        assert!(
            !svg.contains("One hot lock"),
            "a panel without points is left out"
        );
    }
}
