//! Tables of counters and gauges, which are read by name, one after the other, or as text in the
//! format of Prometheus (version 0.0.4).

use std::fmt::{self, Display, Write};
use std::iter::Sum;

/// The parts of a metric. `C` names a counter, `G` a gauge.
#[derive(Clone, Copy, Debug)]
pub enum Value<C: 'static, G> {
    /// The sum of these counters.
    Counters(&'static [C]),
    /// A counter for each value of a label; the metric is their sum.
    ByLabel(&'static str, &'static [(&'static str, C)]),
    /// A current number.
    Gauge(G),
}

/// A number that is reported.
#[derive(Debug)]
pub struct Metric<C: 'static, G> {
    /// Its name, with dots.
    pub name: &'static str,
    /// Its parts.
    pub value: Value<C, G>,
    /// Its explanation, one line.
    pub help: &'static str,
}

/// Makes a table: `NAME = VALUE, HELP;` for each metric.
#[macro_export]
macro_rules! metrics {
    ($($name:literal = $value:expr, $help:literal;)*) => {
        &[$($crate::metrics::Metric { name: $name, value: $value, help: $help }),*]
    };
}

/// A metric's name in the form of Prometheus.
struct Underscored(&'static str);

impl Display for Underscored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = self.0.chars().map(|c| if c == '.' { '_' } else { c });
        letters.try_for_each(|letter| f.write_char(letter))
    }
}

/// The source of the numbers in a table of metrics.
pub trait Numbers {
    /// The type that names a counter.
    type Counter: Copy + 'static;
    /// The type that names a gauge.
    type Gauge: Copy + 'static;
    /// The type of the numbers.
    type Number: Display + Sum;

    /// The table.
    const METRICS: &'static [Metric<Self::Counter, Self::Gauge>];

    /// Reads a counter.
    fn counter(&self, counter: Self::Counter) -> Self::Number;

    /// Reads a gauge.
    fn gauge(&self, gauge: Self::Gauge) -> Self::Number;

    /// The value of a metric as a whole.
    fn whole(&self, value: &Value<Self::Counter, Self::Gauge>) -> Self::Number {
        match value {
            Value::Counters(counters) => counters.iter().map(|c| self.counter(*c)).sum(),
            Value::ByLabel(_, parts) => parts.iter().map(|part| self.counter(part.1)).sum(),
            Value::Gauge(gauge) => self.gauge(*gauge),
        }
    }

    /// The value of the metric of this name, or of a part of it: the name, a dot and the value of the
    /// label.
    fn stat(&self, name: &str) -> Option<Self::Number> {
        Self::METRICS.iter().find_map(|metric| {
            let rest = name.strip_prefix(metric.name)?;
            if rest.is_empty() {
                return Some(self.whole(&metric.value));
            }
            let (label, Value::ByLabel(_, parts)) = (rest.strip_prefix('.')?, &metric.value) else {
                return None;
            };
            let (_, counter) = parts.iter().find(|(value, _)| *value == label)?;
            Some(self.counter(*counter))
        })
    }

    /// Calls `show` with the name and the value of each metric, and then with those of each of its
    /// parts and the value of its label.
    fn each_stat(&self, mut show: impl FnMut(&'static str, Option<&'static str>, Self::Number)) {
        for Metric { name, value, .. } in Self::METRICS {
            show(name, None, self.whole(value));
            if let Value::ByLabel(_, parts) = value {
                for (part, counter) in *parts {
                    show(name, Some(part), self.counter(*counter));
                }
            }
        }
    }

    /// Writes all metrics as text: their names with `_` for `.`, and parts with their label.
    fn write_stats(&self, out: &mut impl Write) -> fmt::Result {
        for Metric { name, value, help } in Self::METRICS {
            let name = Underscored(name);
            let kind = match value {
                Value::Gauge(_) => "gauge",
                _ => "counter",
            };
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
            let Value::ByLabel(label, parts) = value else {
                writeln!(out, "{name} {}", self.whole(value))?;
                continue;
            };
            for (part, counter) in *parts {
                writeln!(
                    out,
                    "{name}{{{label}=\"{part}\"}} {}",
                    self.counter(*counter)
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a counter is its name; the value of a gauge is 100 plus its name.
    struct Named;

    impl Numbers for Named {
        type Counter = u8;
        type Gauge = u8;
        type Number = u32;

        const METRICS: &'static [Metric<u8, u8>] = metrics! {
            "a.hit" = Value::Counters(&[1, 2]), "Hits.";
            "a.miss" = Value::ByLabel("cause", &[("absent", 20), ("expired", 30)]), "Misses.";
            "a.hits" = Value::Gauge(7), "All.";
        };

        fn counter(&self, counter: u8) -> u32 {
            counter.into()
        }

        fn gauge(&self, gauge: u8) -> u32 {
            100 + u32::from(gauge)
        }
    }

    #[test]
    fn a_metric_is_the_sum_of_its_parts() {
        for (name, value) in [
            ("a.hit", Some(3)),
            ("a.hits", Some(107)),
            ("a.miss", Some(50)),
            ("a.miss.absent", Some(20)),
            ("a.miss.expired", Some(30)),
            ("a.miss.", None),
            ("a.miss.other", None),
            ("a.missabsent", None),
            ("a.hit.absent", None),
            ("a.hits.", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(Named.stat(name), value, "{name}");
        }
    }

    #[test]
    fn each_is_shown_with_its_parts_behind_it() {
        let mut shown = Vec::new();
        Named.each_stat(|name, part, number| shown.push((name, part, number)));
        let expected = [
            ("a.hit", None, 3),
            ("a.miss", None, 50),
            ("a.miss", Some("absent"), 20),
            ("a.miss", Some("expired"), 30),
            ("a.hits", None, 107),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_text_has_parts_in_the_place_of_the_whole() {
        let mut text = String::new();
        Named.write_stats(&mut text).unwrap();
        let expected = "# HELP a_hit Hits.\n# TYPE a_hit counter\na_hit 3\n\
                        # HELP a_miss Misses.\n# TYPE a_miss counter\n\
                        a_miss{cause=\"absent\"} 20\na_miss{cause=\"expired\"} 30\n\
                        # HELP a_hits All.\n# TYPE a_hits gauge\na_hits 107\n";
        assert_eq!(text, expected);
    }
}
