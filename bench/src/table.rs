//! Tables for the terminal.

use crate::measurement::{Chart, Value};

/// Lays out cells in columns. The first column is aligned to the left, the others to the right.
pub fn columns(lines: &[Vec<String>]) -> String {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut out = String::new();
        for (at, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            match at {
                0 => out += &format!("{cell:<width$}"),
                _ => out += &format!("  {cell:>width$}"),
            }
        }
        text += out.trim_end();
        text.push('\n');
    }
    text
}

/// Formats a number with about three digits.
pub fn number(value: f64) -> String {
    match value {
        _ if value == 0.0 => "0".to_owned(),
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ if value >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

fn cell(value: Option<Value>) -> String {
    let Some(Value { value, low, high }) = value else {
        return "-".to_owned();
    };
    match (low, high) {
        (None, None) => number(value),
        (low, high) => format!(
            "{} [{}..{}]",
            number(value),
            low.map_or(String::new(), number),
            high.map_or(String::new(), number)
        ),
    }
}

/// Returns a chart as a table. Behind the values of each other candidate stands how many times better
/// the first one is.
pub fn of_chart(chart: &Chart) -> String {
    let has_target = chart.rows.iter().any(|row| row.target.is_some());
    let mut head = vec![format!("{}, {}", chart.unit, chart.better)];
    for (at, candidate) in chart.candidates.iter().enumerate() {
        head.push(candidate.clone());
        if at > 0 {
            head.push("ratio".to_owned());
        }
    }
    if has_target {
        head.push("target".to_owned());
    }
    let mut lines = vec![head];
    for row in &chart.rows {
        let first = row.values[0];
        let mut line = vec![row.name.clone()];
        for (at, value) in row.values.iter().enumerate() {
            line.push(cell(*value));
            if at > 0 {
                let both = first.zip(*value);
                let ratio = both.and_then(|(a, b)| chart.better.ratio(a.value, b.value));
                line.push(ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}x")));
            }
        }
        if has_target {
            let target = row.target.as_ref();
            line.push(target.map_or(String::new(), ToString::to_string));
        }
        lines.push(line);
    }
    format!(
        "{}\n{}(ratio: above 1, {} is better)\n",
        chart.title,
        columns(&lines),
        chart.candidates[0]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::read;

    #[test]
    fn a_chart_becomes_a_table() {
        let line = |row: &str, candidate: &str, value: f64, more: &str| {
            format!(
                r#"{{"chart":"a","title":"A","row":"{row}","candidate":"{candidate}","value":{value},"unit":"ns","better":"lower"{more}}}"#
            )
        };
        let lines = [
            line("get", "one", 20.0, r#","low":19,"high":30,"target":2"#),
            line("get", "two", 50.0, ""),
            line("put", "one", 120.0, ""),
        ];
        let charts = read(lines.join("\n").as_bytes()).unwrap();
        let want = "\
A
ns, lower is better                one   two  ratio  target
get                  20.0 [19.0..30.0]  50.0  2.50x       2
put                                120     -      -
(ratio: above 1, one is better)
";
        assert_eq!(of_chart(&charts[0]), want);
    }
}
