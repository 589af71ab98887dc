//! Measurements: each is a line of JSON, and charts are made of them.

use std::fmt;
use std::io::BufRead;

use serde::{Deserialize, Serialize};

/// One measurement; one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The chart that it belongs to. It is also the name of the chart's file, so it has only
    /// letters, digits, `-`, `_` and `.`.
    pub chart: String,
    /// The chart's title.
    pub title: String,
    /// What was measured.
    pub row: String,
    /// Whose result it is. In a chart, the others are compared with the first candidate.
    pub candidate: String,
    /// The result.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// The lower end of the spread of several results, such as their lower quartile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// The upper end of that spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// The target. It is only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
}

impl Better {
    /// How many times better `first` is than `other`: above 1 if it is better, below 1 if it is
    /// worse. `None` if the divisor is 0.
    pub fn ratio(self, first: f64, other: f64) -> Option<f64> {
        let (over, under) = match self {
            Self::Lower => (other, first),
            Self::Higher => (first, other),
        };
        (under > 0.0).then_some(over / under)
    }
}

impl fmt::Display for Better {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lower => "lower is better",
            Self::Higher => "higher is better",
        })
    }
}

/// A target, as a number or in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// A number.
    Number(f64),
    /// Words.
    Text(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A result with its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// The result.
    pub value: f64,
    /// The lower end of the spread.
    pub low: Option<f64>,
    /// The upper end of the spread.
    pub high: Option<f64>,
}

/// One row of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The target.
    pub target: Option<Target>,
    /// For each candidate of the chart, its result if it has one.
    pub values: Vec<Option<Value>>,
}

/// Measurements that are shown together. Rows and candidates are in the order in which they were
/// first named.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// The name, also of its file.
    pub name: String,
    /// The title.
    pub title: String,
    /// The unit of the values.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// The candidates.
    pub candidates: Vec<String>,
    /// What was measured.
    pub rows: Vec<Row>,
}

/// Why the input is invalid.
#[derive(Debug)]
pub struct BadLine {
    /// The number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// Reads a measurement from each line. Empty lines are ignored.
pub fn read(input: impl BufRead) -> Result<Vec<Chart>, BadLine> {
    let mut charts = Vec::new();
    for (at, line) in input.lines().enumerate() {
        let bad = |reason| BadLine {
            line: at + 1,
            reason,
        };
        let line = line.map_err(|error| bad(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let measurement = serde_json::from_str(&line).map_err(|error| bad(error.to_string()))?;
        add(&mut charts, measurement).map_err(bad)?;
    }
    Ok(charts)
}

impl Measurement {
    fn check(&self) -> Result<(), String> {
        let (chart, numbers) = (&self.chart, [Some(self.value), self.low, self.high]);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if chart.is_empty() || chart.starts_with('.') || !chart.chars().all(allowed) {
            return Err(format!("{chart:?} cannot be the name of a file"));
        }
        if numbers.iter().flatten().any(|n| !n.is_finite() || *n < 0.0) {
            return Err("a number is negative or not finite".to_owned());
        }
        if self.low.is_some_and(|low| low > self.value)
            || self.high.is_some_and(|high| high < self.value)
        {
            return Err("the value is not between low and high".to_owned());
        }
        Ok(())
    }
}

fn add(charts: &mut Vec<Chart>, measurement: Measurement) -> Result<(), String> {
    measurement.check()?;
    let Measurement {
        chart,
        title,
        row,
        candidate,
        value,
        unit,
        better,
        low,
        high,
        target,
    } = measurement;
    let at = charts.iter().position(|known| known.name == chart);
    let at = at.unwrap_or_else(|| {
        charts.push(Chart {
            name: chart.clone(),
            title: title.clone(),
            unit: unit.clone(),
            better,
            candidates: Vec::new(),
            rows: Vec::new(),
        });
        charts.len() - 1
    });
    let known = &mut charts[at];
    if (&known.title, &known.unit, known.better) != (&title, &unit, better) {
        return Err(format!(
            "chart {chart} had another title, unit or direction before"
        ));
    }
    let column = position_or_push(
        &mut known.candidates,
        |name| *name == candidate,
        || candidate.clone(),
    );
    let line = position_or_push(
        &mut known.rows,
        |known| known.name == row,
        || Row {
            name: row.clone(),
            target: None,
            values: Vec::new(),
        },
    );
    let columns = known.candidates.len();
    for row in &mut known.rows {
        row.values.resize(columns, None);
    }
    let known = &mut known.rows[line];
    let place = &mut known.values[column];
    if place.is_some() {
        return Err(format!("{candidate} has a value for {row:?} already"));
    }
    *place = Some(Value { value, low, high });
    known.target = known.target.take().or(target);
    Ok(())
}

fn position_or_push<T>(
    all: &mut Vec<T>,
    is_it: impl FnMut(&T) -> bool,
    new: impl FnOnce() -> T,
) -> usize {
    all.iter().position(is_it).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(row: &str, candidate: &str, value: &str) -> String {
        format!(
            r#"{{"chart":"a-1","title":"A","row":"{row}","candidate":"{candidate}","value":{value},"unit":"ns","better":"lower"}}"#
        )
    }

    #[test]
    fn lines_become_charts_in_the_order_of_first_mention() {
        let lines = [
            line("get", "one", "2"),
            String::new(),
            line("put", "two", "3.5"),
            line("get", "two", "4"),
            line("put", "one", "0").replace(r#""unit""#, r#""low":0,"high":9,"target":1.5,"unit""#),
            line("get", "one", "1").replace("a-1", "b"),
        ];
        let charts = read(lines.join("\n").as_bytes()).unwrap();
        assert_eq!(charts.len(), 2);
        let chart = &charts[0];
        assert_eq!(chart.candidates, ["one", "two"]);
        let values = |row: usize| -> Vec<f64> {
            let values = chart.rows[row].values.iter();
            values.map(|value| value.unwrap().value).collect()
        };
        assert_eq!(chart.rows[0].name, "get");
        assert_eq!(values(0), [2.0, 4.0]);
        assert_eq!(values(1), [0.0, 3.5]);
        assert_eq!(chart.rows[0].target, None);
        assert_eq!(chart.rows[1].target, Some(Target::Number(1.5)));
        assert_eq!(chart.rows[1].values[0].unwrap().high, Some(9.0));
    }

    #[test]
    fn a_value_that_is_missing_is_none() {
        let lines = [line("get", "one", "2"), line("put", "two", "3")].join("\n");
        let charts = read(lines.as_bytes()).unwrap();
        assert_eq!(charts[0].rows[0].values.len(), 2);
        assert_eq!(charts[0].rows[0].values[1], None);
        assert_eq!(charts[0].rows[1].values[0], None);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let good = line("get", "one", "2");
        for bad in [
            "nonsense".to_owned(),
            "{}".to_owned(),
            good.clone(),
            line("put", "one", "-1"),
            line("put", "one", "1e999"),
            line("put", "one", "\"1\""),
            line("put", "one", "1").replace("a-1", "../a"),
            line("put", "one", "1").replace("a-1", ""),
            line("put", "one", "1").replace("\"ns\"", "\"us\""),
            line("put", "one", "1").replace("lower", "less"),
            line("put", "one", "1").replace("\"unit\"", "\"extra\":1,\"unit\""),
            line("put", "one", "1").replace("\"unit\"", "\"low\":2,\"unit\""),
        ] {
            let error = read(format!("{good}\n\n{bad}\n").as_bytes()).unwrap_err();
            assert_eq!(error.line, 3, "{bad}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let measurement = Measurement {
            chart: "a".to_owned(),
            title: "A \"quoted\" title".to_owned(),
            row: "r".to_owned(),
            candidate: "c".to_owned(),
            value: 1.25,
            unit: "%".to_owned(),
            better: Better::Higher,
            low: Some(1.0),
            high: None,
            target: Some(Target::Text("best".to_owned())),
        };
        let line = serde_json::to_string(&measurement).unwrap();
        assert_eq!(
            serde_json::from_str::<Measurement>(&line).unwrap(),
            measurement
        );
        assert!(!line.contains("high\":null"));
    }

    #[test]
    fn a_ratio_above_one_speaks_for_the_first() {
        assert_eq!(Better::Lower.ratio(10.0, 20.0), Some(2.0));
        assert_eq!(Better::Higher.ratio(10.0, 20.0), Some(0.5));
        assert_eq!(Better::Higher.ratio(10.0, 0.0), None);
        assert_eq!(Better::Lower.ratio(0.0, 3.0), None);
        assert_eq!(Better::Lower.ratio(3.0, 0.0), Some(0.0));
    }
}
