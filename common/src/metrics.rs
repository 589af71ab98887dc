//! Tables of counters and gauges: read by name, one after the other, or as text in the format
//! of Prometheus (version 0.0.4).

use std::fmt::{self, Display, Write};
use std::iter::Sum;

/// What a metric is made of: `C` names a counter, `G` a gauge.
#[derive(Clone, Copy, Debug)]
pub enum Value<C: 'static, G> {
    /// The sum of these counters.
    Counters(&'static [C]),
    /// A counter for each value of a label; together they are the metric.
    ByLabel(&'static str, &'static [(&'static str, C)]),
    /// A number of the moment.
    Gauge(G),
}

/// A number that others can read.
#[derive(Debug)]
pub struct Metric<C: 'static, G> {
    /// Its name, with dots.
    pub name: &'static str,
    /// What it is made of.
    pub value: Value<C, G>,
    /// One line of explanation.
    pub help: &'static str,
}

/// A metric's name as Prometheus has them.
struct Underscored(&'static str);

impl Display for Underscored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = self.0.chars().map(|c| if c == '.' { '_' } else { c });
        letters.try_for_each(|letter| f.write_char(letter))
    }
}

/// A table of metrics, and where their numbers come from.
pub struct Numbers<'a, C: 'static, G, N> {
    /// The table.
    pub metrics: &'a [Metric<C, G>],
    /// Reads a counter.
    pub counter: &'a dyn Fn(C) -> N,
    /// Reads a gauge.
    pub gauge: &'a dyn Fn(G) -> N,
}

impl<C: Copy, G: Copy, N: Copy + Display + Sum> Numbers<'_, C, G, N> {
    fn whole(&self, value: Value<C, G>) -> N {
        match value {
            Value::Counters(counters) => counters.iter().map(|c| (self.counter)(*c)).sum(),
            Value::ByLabel(_, parts) => parts.iter().map(|part| (self.counter)(part.1)).sum(),
            Value::Gauge(gauge) => (self.gauge)(gauge),
        }
    }

    /// A metric by its name, or one part of it by that and the value of its label:
    /// `NAME.LABEL`.
    pub fn by_name(&self, name: &str) -> Option<N> {
        self.metrics.iter().find_map(|metric| {
            let rest = name.strip_prefix(metric.name)?;
            if rest.is_empty() {
                return Some(self.whole(metric.value));
            }
            let (label, Value::ByLabel(_, parts)) = (rest.strip_prefix('.')?, metric.value) else {
                return None;
            };
            let (_, counter) = parts.iter().find(|(value, _)| *value == label)?;
            Some((self.counter)(*counter))
        })
    }

    /// Calls `show` with the name and the value of each metric, and then of each part that it
    /// has, with the value of its label.
    pub fn each(&self, mut show: impl FnMut(&'static str, Option<&'static str>, N)) {
        for Metric { name, value, .. } in self.metrics {
            show(name, None, self.whole(*value));
            if let Value::ByLabel(_, parts) = value {
                for (part, counter) in *parts {
                    show(name, Some(part), (self.counter)(*counter));
                }
            }
        }
    }

    /// Writes all metrics as text: their names with `_` for `.`, and parts under their label.
    pub fn write_text(&self, out: &mut impl Write) -> fmt::Result {
        for Metric { name, value, help } in self.metrics {
            let name = Underscored(name);
            let kind = match value {
                Value::Gauge(_) => "gauge",
                _ => "counter",
            };
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
            let Value::ByLabel(label, parts) = value else {
                writeln!(out, "{name} {}", self.whole(*value))?;
                continue;
            };
            for (part, counter) in *parts {
                writeln!(
                    out,
                    "{name}{{{label}=\"{part}\"}} {}",
                    (self.counter)(*counter)
                )?;
            }
        }
        Ok(())
    }
}
