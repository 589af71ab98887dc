//! Bar charts: rows below each other, with a bar for each candidate in each row.

use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{
    AsRangedCoord, DefaultFormatting, KeyPointHint, Ranged, ValueFormatter,
};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::measurement::{Chart, Row};
use crate::table::number;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const WIDTH: u32 = 1000;
const BAR: u32 = 16;
const GAP: u32 = 14;
const LINE: u32 = 17;
const TITLE: u32 = 40;
const AXIS: u32 = 52;
/// The width of a letter, which very few exceed.
const LETTER: f64 = 7.2;
const FONT: (&str, u32) = ("sans-serif", 13);

/// The scale is logarithmic if the largest value is more than this many times the smallest.
const LINEAR_UP_TO: f64 = 30.0;

/// Most colour-blind readers can tell these apart (Okabe and Ito's colours, and greys).
const COLORS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(240, 228, 66),
    RGBColor(60, 60, 60),
    RGBColor(150, 150, 150),
    RGBColor(200, 200, 200),
];

fn color(candidate: usize) -> RGBColor {
    COLORS[candidate % COLORS.len()]
}

fn text(x: HPos, y: VPos) -> TextStyle<'static> {
    FONT.into_font().color(&BLACK).pos(Pos::new(x, y))
}

/// The chart as an SVG document.
pub fn svg(chart: &Chart) -> Result<String> {
    let labels: Vec<Vec<String>> = chart.rows.iter().map(|row| wrap(&row.name, 34)).collect();
    let letters = labels.iter().flatten().map(|line| line.chars().count());
    let label_width = (letters.max().unwrap_or(0) as f64 * LETTER) as u32 + 16;
    let legend = legend(&chart.candidates);
    let legend_height = legend.last().map_or(0, |item| item.1) as u32 + LINE + 8;
    let heights: Vec<u32> = labels
        .iter()
        .map(|lines| (chart.candidates.len() as u32 * BAR).max(lines.len() as u32 * LINE) + GAP)
        .collect();
    let plot_height: u32 = heights.iter().sum();
    let height = TITLE + legend_height + plot_height + AXIS;

    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let (title, below) = root.split_vertically(TITLE);
        // A long title gets smaller letters, and is not cut off.
        let size = (f64::from(WIDTH) / chart.title.chars().count().max(1) as f64 / 0.58).min(20.0);
        let style = ("sans-serif", size).into_font().color(&BLACK);
        let style = style.pos(Pos::new(HPos::Center, VPos::Center));
        title.draw(&Text::new(
            chart.title.clone(),
            (WIDTH as i32 / 2, TITLE as i32 / 2),
            style,
        ))?;
        let (top, plot) = below.split_vertically(legend_height);
        draw_legend(&top, &chart.candidates, &legend)?;

        let (low, high) = span(&chart.rows);
        let plot = Plot {
            area: &plot,
            chart,
            labels: &labels,
            heights: &heights,
            label_width,
        };
        if low > 0.0 && high / low > LINEAR_UP_TO {
            let start = 10f64.powf((low * 0.8).log10().floor());
            plot.draw(
                (start..high * 2.5).log_scale(),
                start,
                ", logarithmic scale",
            )?;
        } else {
            let end = if high > 0.0 { high * 1.12 } else { 1.0 };
            plot.draw(0.0..end, 0.0, "")?;
        }
        root.present()?;
    }
    Ok(out)
}

/// Returns the smallest value that is not 0, and the largest.
fn span(rows: &[Row]) -> (f64, f64) {
    let values = rows.iter().flat_map(|row| row.values.iter().flatten());
    values.fold((0.0, 0.0), |(low, high), value| {
        let low = match value.value {
            0.0 => low,
            value if low == 0.0 => value,
            value => value.min(low),
        };
        (low, value.high.unwrap_or(value.value).max(high))
    })
}

/// Breaks a text into lines of at most `most` letters, at spaces if possible.
fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for part in letters.chunks(most) {
            let part: String = part.iter().collect();
            let last = lines.last_mut().expect("there is a line");
            if last.is_empty() {
                *last = part;
            } else if last.chars().count() + 1 + part.chars().count() <= most {
                *last += " ";
                *last += &part;
            } else {
                lines.push(part);
            }
        }
    }
    lines
}

/// The place of each candidate in the legend.
fn legend(candidates: &[String]) -> Vec<(i32, i32)> {
    let (mut x, mut y) = (20, 4);
    let place = |name: &String| {
        let width = (name.chars().count() as f64 * LETTER) as i32 + 42;
        if x > 20 && x + width > WIDTH as i32 {
            (x, y) = (20, y + LINE as i32 + 2);
        }
        let here = (x, y);
        x += width;
        here
    };
    candidates.iter().map(place).collect()
}

fn draw_legend(area: &Area, candidates: &[String], places: &[(i32, i32)]) -> Result<()> {
    for (at, (name, &(x, y))) in candidates.iter().zip(places).enumerate() {
        area.draw(&Rectangle::new(
            [(x, y), (x + 12, y + 12)],
            color(at).filled(),
        ))?;
        area.draw(&Text::new(
            name.clone(),
            (x + 18, y + 6),
            text(HPos::Left, VPos::Center),
        ))?;
    }
    Ok(())
}

struct Plot<'a, 'b> {
    area: &'a Area<'b>,
    chart: &'a Chart,
    labels: &'a [Vec<String>],
    heights: &'a [u32],
    label_width: u32,
}

impl Plot<'_, '_> {
    /// Draws axes, bars and labels. `start` is where the bars begin.
    fn draw<X>(&self, x: X, start: f64, scale: &str) -> Result<()>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
    {
        let total: u32 = self.heights.iter().sum();
        // Downwards, in pixels of the plot.
        let y = Downwards(f64::from(total));
        let mut builder = ChartBuilder::on(self.area);
        builder
            .margin_right(24)
            .x_label_area_size(AXIS)
            .y_label_area_size(self.label_width);
        let mut plot = builder.build_cartesian_2d(x, y)?;
        plot.configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .x_labels(9)
            .x_label_formatter(&|x| number(*x))
            .x_desc(format!(
                "{} ({}{scale})",
                self.chart.unit, self.chart.better
            ))
            .label_style(FONT)
            .axis_desc_style(FONT)
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .draw()?;

        let mut top = 0.0;
        for ((row, lines), &height) in self.chart.rows.iter().zip(self.labels).zip(self.heights) {
            let middle = top + f64::from(height) / 2.0;
            let bars = f64::from(BAR) * row.values.len() as f64;
            for (at, value) in row.values.iter().enumerate() {
                let Some(value) = value else { continue };
                let from = middle - bars / 2.0 + f64::from(BAR) * at as f64;
                let to = from + f64::from(BAR) - 2.0;
                let center = (from + to) / 2.0;
                let end = value.value.max(start);
                plot.draw_series([Rectangle::new(
                    [(start, from), (end, to)],
                    color(at).filled(),
                )])?;
                if value.low.is_some() || value.high.is_some() {
                    let low = value.low.unwrap_or(value.value).max(start);
                    let high = value.high.unwrap_or(value.value).max(start);
                    plot.draw_series([PathElement::new(
                        vec![(low, center), (high, center)],
                        BLACK,
                    )])?;
                }
                let behind = value.high.unwrap_or(end).max(end);
                let (x, y) = plot.backend_coord(&(behind, center));
                self.write(number(value.value), (x + 4, y), HPos::Left)?;
            }
            let (x, y) = plot.backend_coord(&(start, middle));
            let first = y - (lines.len() as i32 - 1) * LINE as i32 / 2;
            for (at, line) in lines.iter().enumerate() {
                let y = first + at as i32 * LINE as i32;
                self.write(line.clone(), (x - 8, y), HPos::Right)?;
            }
            top += f64::from(height);
        }
        Ok(())
    }

    /// Writes a text at a point of the whole picture.
    fn write(&self, words: String, (x, y): (i32, i32), side: HPos) -> Result<()> {
        let (left, top) = self.area.get_base_pixel();
        let at = (x - left, y - top);
        self.area
            .draw(&Text::new(words, at, text(side, VPos::Center)))?;
        Ok(())
    }
}

/// A coordinate that runs from 0 at the top to this value at the bottom.
struct Downwards(f64);

impl Ranged for Downwards {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        // `limit` grows upwards, as the pixels of charts do.
        let (bottom, top) = limit;
        let height = f64::from(bottom - top);
        top + (value / self.0 * height).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        Vec::new()
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.0..self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::read;

    fn chart(values: &[f64]) -> Chart {
        let line = |(at, value): (usize, &f64)| {
            format!(
                r#"{{"chart":"a","title":"A & B","row":"row {at}","candidate":"one","value":{value},"unit":"ns","better":"lower"}}"#
            )
        };
        let lines: Vec<String> = values.iter().enumerate().map(line).collect();
        read(lines.join("\n").as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn the_scale_is_logarithmic_only_where_needed_and_says_so() {
        assert!(!svg(&chart(&[1.0, 29.0])).unwrap().contains("logarithmic"));
        assert!(svg(&chart(&[1.0, 31.0])).unwrap().contains("logarithmic"));
        assert!(svg(&chart(&[0.0, 5.0])).is_ok());
        assert!(svg(&chart(&[0.0])).is_ok());
    }

    #[test]
    fn every_label_is_there() {
        let svg = svg(&chart(&[1.0, 2.0, 3.0])).unwrap();
        for label in ["A &amp; B", "row 0", "row 2", "one", "ns (lower is better)"] {
            assert!(svg.contains(label), "{label}");
        }
    }

    #[test]
    fn long_labels_are_wrapped() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
