//! Workloads of clients that come and go, made from a seed.

use std::collections::HashSet;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, LogNormal, Zipf};

const HOUR: u32 = 3600;
pub(crate) const DAY: u32 = 24 * HOUR;

/// One handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The second.
    pub time: u32,
    /// The client that comes.
    pub client: u32,
}

/// All handshakes of a workload, in the order of time.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its name in the charts.
    pub name: &'static str,
    /// What happens in it.
    pub title: &'static str,
    /// The lifetime of a session in seconds.
    pub lifetime: u32,
    /// How many different clients there are, without those that come only once by design.
    pub clients: usize,
    /// Whether many of the sessions are never used again, by design.
    pub flood: bool,
    /// The handshakes.
    pub visits: Vec<Visit>,
}

/// Clients that come only once by design are numbered from here on.
const PASSERS_BY: u32 = 1 << 31;

impl Trace {
    pub(crate) fn new(
        name: &'static str,
        title: &'static str,
        lifetime: u32,
        flood: bool,
        visits: Vec<Visit>,
    ) -> Self {
        let all = visits.iter().map(|visit| visit.client);
        let regular: HashSet<u32> = all.filter(|&client| client < PASSERS_BY).collect();
        Self {
            name,
            title,
            lifetime,
            clients: regular.len(),
            flood,
            visits,
        }
    }
}

/// Makes every workload.
pub fn all() -> Vec<Trace> {
    vec![
        Trace::new(
            "zipf-0.8",
            "Zipf 0.8: 100 000 clients, some come more often",
            DAY,
            false,
            zipf(1, 0.8, 1_500_000, DAY),
        ),
        Trace::new(
            "zipf-1.0",
            "Zipf 1.0: 100 000 clients, some come much more often",
            DAY,
            false,
            zipf(2, 1.0, 1_500_000, DAY),
        ),
        Trace::new(
            "return",
            "Clients that return after a log-normal time (median 20 min, sigma 2), 2 h lifetime",
            2 * HOUR,
            false,
            returning(3, 100_000),
        ),
        Trace::new(
            "flood",
            "Flood: every other handshake is a client's that never returns; the others Zipf 1.0",
            2 * HOUR,
            true,
            flood(4, 750_000, 6 * HOUR),
        ),
        Trace::new(
            "daily",
            "Three days of a daily cycle, clients change within two days, 24 h lifetime",
            DAY,
            false,
            daily(5, 50_000, 1_500_000),
        ),
    ]
}

/// The time of visit `at`, if `count` visits are spread evenly.
pub(crate) fn spread(at: usize, count: usize, seconds: u32) -> u32 {
    (at as u64 * u64::from(seconds) / count as u64) as u32
}

/// Draws clients. The n-th comes in proportion to 1 / n to the `exponent`.
fn popular(clients: u32, exponent: f64) -> impl Fn(&mut SmallRng) -> u32 {
    let zipf = Zipf::new(f64::from(clients), exponent).expect("a sound distribution");
    move |rng| zipf.sample(rng) as u32 - 1
}

fn zipf(seed: u64, exponent: f64, count: usize, seconds: u32) -> Vec<Visit> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let draw = popular(100_000, exponent);
    let visit = |at| Visit {
        time: spread(at, count, seconds),
        client: draw(&mut rng),
    };
    (0..count).map(visit).collect()
}

/// Every client returns after times of its own, mostly soon and sometimes very late, during 24
/// hours.
fn returning(seed: u64, clients: u32) -> Vec<Visit> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let pause = LogNormal::new((20.0 * 60.0f64).ln(), 2.0).expect("a sound distribution");
    let mut visits = Vec::new();
    for client in 0..clients {
        let mut time = rng.random_range(0.0..f64::from(6 * HOUR));
        while time < f64::from(DAY) {
            visits.push(Visit {
                time: time as u32,
                client,
            });
            time += pause.sample(&mut rng);
        }
    }
    visits.sort_by_key(|visit| visit.time);
    visits
}

/// A normal population. Each of its visits is followed by one of a client that never returns.
fn flood(seed: u64, count: usize, seconds: u32) -> Vec<Visit> {
    let normal = zipf(seed, 1.0, count, seconds);
    let both = normal
        .iter()
        .zip(PASSERS_BY..)
        .flat_map(|(&visit, client)| {
            let passer_by = Visit { client, ..visit };
            [visit, passer_by]
        });
    both.collect()
}

/// Three days, with nine times as much traffic at the height of the day as at night. Popularity
/// belongs to a place. Every two days another client takes over a place, each place at its own
/// moment.
fn daily(seed: u64, places: u32, count: usize) -> Vec<Visit> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let draw = popular(places, 0.9);
    let mut moments: Vec<u32> = (0..places)
        .map(|place| (u64::from(place) * u64::from(2 * DAY) / u64::from(places)) as u32)
        .collect();
    moments.shuffle(&mut rng);
    let mut times: Vec<u32> = Vec::with_capacity(count);
    while times.len() < count {
        let time = rng.random_range(0..3 * DAY);
        let phase = f64::from(time) / f64::from(DAY) * std::f64::consts::TAU;
        if rng.random_bool((1.0 - 0.8 * phase.cos()) / 1.8) {
            times.push(time);
        }
    }
    times.sort_unstable();
    let visit = |time| {
        let place = draw(&mut rng);
        let generation = (time + moments[place as usize]) / (2 * DAY);
        Visit {
            time,
            client: generation * places + place,
        }
    };
    times.into_iter().map(visit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_trace_again() {
        assert_eq!(zipf(9, 1.0, 1000, 60), zipf(9, 1.0, 1000, 60));
        assert_ne!(zipf(9, 1.0, 1000, 60), zipf(8, 1.0, 1000, 60));
        assert_eq!(daily(9, 100, 1000), daily(9, 100, 1000));
        assert_eq!(returning(9, 10), returning(9, 10));
    }

    #[test]
    fn time_goes_forwards() {
        for visits in [flood(1, 1000, 60), daily(1, 100, 1000), returning(1, 10)] {
            assert!(visits.is_sorted_by_key(|visit| visit.time));
        }
    }

    #[test]
    fn half_of_a_flood_comes_once() {
        let trace = Trace::new("", "", 60, true, flood(1, 1000, 60));
        let once = trace.visits.iter().filter(|v| v.client >= PASSERS_BY);
        assert_eq!((trace.visits.len(), once.count()), (2000, 1000));
        assert!(trace.clients < 1000);
    }
}
