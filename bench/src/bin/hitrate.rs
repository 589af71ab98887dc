//! Measures how many handshakes each eviction policy saves: replays synthetic traces of clients, and
//! recorded traces of other caches, in the library's cache, in other policies, and in the caches of two
//! other crates. The recorded ones are read from the directory TRACES, if there is one: see [`SOURCES`].
//!
//! Writes the measurements to DIRECTORY/hitrate.jsonl, for `report`, and prints a verdict.
//!
//! The synthetic traces are made from fixed seeds, and are always the same. Some caches choose the shard of a
//! session by a hash with a random key, so their hit rates vary by a tenth or two of a point between
//! runs.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, thread};

use tssession_bench::contest::{
    BUCKET_FIFO, COPIED, LRU, ONLINE, OPTIMUM, REPLICATED, optimum, play,
};
use tssession_bench::measurement::{Better, Measurement, Target};
use tssession_bench::recorded::SOURCES;
use tssession_bench::table;
use tssession_bench::trace::{self, Trace};

/// Cache sizes in percent of the clients.
const SIZES: [usize; 5] = [1, 3, 10, 30, 50];

/// The CPU time that a resumed handshake saves the server, in microseconds.
const SAVED: [(&str, f64); 2] = [("ECDSA P-256", 140.0), ("RSA-2048", 450.0)];

/// To be behind the best of the others by this many points is still a success.
const TOLERANCE: f64 = 0.5;

/// One size of one trace.
struct Case<'a> {
    trace: &'a Trace,
    percent: usize,
    entries: usize,
}

impl Case<'_> {
    fn name(&self) -> String {
        format!("{} % ({} entries)", self.percent, self.entries)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hitrate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1);
    let mut path = || args.next().map(PathBuf::from);
    let (Some(folder), directory, None) = (path(), path(), path()) else {
        return Err("usage: hitrate DIRECTORY [TRACES]".into());
    };
    let start = Instant::now();
    let mut traces = trace::all();
    if let Some(directory) = directory {
        traces.extend(recorded(&directory)?);
    }
    for trace in &traces {
        let (visits, clients) = (trace.visits.len(), trace.clients);
        eprintln!(
            "hitrate: {}: {visits} visits, {clients} clients",
            trace.name
        );
    }
    let case = |(trace, percent): (_, usize)| {
        let trace: &Trace = trace;
        Case {
            trace,
            percent,
            // A multiple of 256, so that every candidate can divide it evenly among its shards.
            entries: (trace.clients * percent / 100).next_multiple_of(256),
        }
    };
    let pairs = traces
        .iter()
        .flat_map(|trace| SIZES.map(|percent| (trace, percent)));
    let cases: Vec<Case> = pairs.map(case).collect();
    let rates = contest(&cases);

    fs::create_dir_all(&folder)?;
    let path = folder.join("hitrate.jsonl");
    let mut out = BufWriter::new(File::create(&path)?);
    for measurement in measurements(&cases, &rates) {
        serde_json::to_writer(&mut out, &measurement)?;
        writeln!(out)?;
    }
    out.into_inner()?;
    println!("{}", verdict(&cases, &rates));
    let seconds = start.elapsed().as_secs();
    eprintln!("hitrate: wrote {} after {seconds} s", path.display());
    Ok(())
}

/// The recorded traces whose files are there. Names those that are missing.
fn recorded(directory: &Path) -> Result<Vec<Trace>, Box<dyn Error>> {
    let mut traces = Vec::new();
    for source in &SOURCES {
        let path = source.path(directory);
        if path.exists() {
            let trace = source.read(directory);
            traces.push(trace.map_err(|error| format!("{}: {error}", path.display()))?);
        } else {
            eprintln!("hitrate: no {}; it is from {}", path.display(), source.from);
        }
    }
    if traces.is_empty() {
        return Err(format!("no trace in {}", directory.display()).into());
    }
    Ok(traces)
}

/// The hit rates of a case in percent: those of [`ONLINE`], and that of the optimum.
type Rates = [f64; ONLINE.len() + 1];

/// Replays every case in every candidate, on all processors.
fn contest(cases: &[Case]) -> Vec<Rates> {
    let rates = Mutex::new(vec![Rates::default(); cases.len()]);
    let jobs = cases.len() * (ONLINE.len() + 1);
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                return;
            }
            let (at, candidate) = (job / (ONLINE.len() + 1), job % (ONLINE.len() + 1));
            let Case { trace, entries, .. } = cases[at];
            let start = Instant::now();
            let (name, hits) = match ONLINE.get(candidate) {
                Some((name, new)) => (*name, play(trace, &mut *new(entries))),
                None => (OPTIMUM, optimum(trace, entries)),
            };
            let rate = hits as f64 / trace.visits.len() as f64 * 100.0;
            let seconds = start.elapsed().as_secs_f64();
            eprintln!(
                "hitrate: {} {}: {name} {rate:.2} % in {seconds:.1} s",
                trace.name,
                cases[at].name()
            );
            rates.lock().expect("no thread panics")[at][candidate] = rate;
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
    rates.into_inner().expect("no thread panics")
}

/// Returns the best of the online candidates that are not the library's.
fn best_other(rates: &Rates) -> (&'static str, f64) {
    let others = ONLINE.iter().zip(rates).skip(1);
    let others = others
        .map(|((name, _), rate)| (*name, *rate))
        .filter(|(name, _)| ![COPIED, REPLICATED].contains(name));
    others
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .expect("there are others")
}

fn rate_of(rates: &Rates, name: &str) -> f64 {
    let at = ONLINE.iter().position(|candidate| candidate.0 == name);
    rates[at.expect("a candidate's name")]
}

fn measurements(cases: &[Case], rates: &[Rates]) -> Vec<Measurement> {
    let mut all = Vec::new();
    for (case, rates) in cases.iter().zip(rates) {
        let names = ONLINE.iter().map(|candidate| candidate.0).chain([OPTIMUM]);
        for (name, &rate) in names.zip(rates) {
            all.push(Measurement {
                chart: format!("hitrate-{}", case.trace.name),
                title: format!("Hit rate. {}", case.trace.title),
                row: case.name(),
                candidate: name.to_owned(),
                value: rate,
                unit: "% of the handshakes".to_owned(),
                better: Better::Higher,
                low: None,
                high: None,
                target: Some(Target::Text(format!(
                    "{:.2}",
                    best_other(rates).1 - TOLERANCE
                ))),
            });
            for (key, saved) in SAVED {
                all.push(Measurement {
                    chart: format!("cpu-saved-{}", case.trace.name),
                    title: format!("CPU time saved. {}", case.trace.title),
                    row: format!("{}, {key}: a hit saves {saved} us", case.name()),
                    candidate: name.to_owned(),
                    value: rate / 100.0 * saved,
                    unit: "us for each handshake".to_owned(),
                    better: Better::Higher,
                    low: None,
                    high: None,
                    target: None,
                });
            }
        }
    }
    all
}

/// Compares the first candidate with the others, in points of the hit rate.
fn verdict(cases: &[Case], rates: &[Rates]) -> String {
    let head = [
        "workload, cache size",
        ONLINE[0].0,
        "best other",
        "",
        "minus best",
        "minus LRU",
        "minus ATS FIFO",
        "minus optimum",
        "minus copied",
        "minus replicated",
        "",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let mut missed = 0;
    for (case, rates) in cases.iter().zip(rates) {
        let own = rates[0];
        let (name, best) = best_other(rates);
        let lru = own - rate_of(rates, LRU);
        let ats = own - rate_of(rates, BUCKET_FIFO);
        let [copied, replicated] = [COPIED, REPLICATED].map(|name| own - rate_of(rates, name));
        let mut faults = Vec::new();
        if own < best - TOLERANCE {
            faults.push("behind the best");
        }
        if ats < 0.0 {
            faults.push("behind ATS FIFO");
        }
        if case.trace.flood && lru <= 0.0 {
            faults.push("not ahead of LRU");
        }
        if copied.max(replicated) > TOLERANCE {
            faults.push("worse when replicated");
        }
        missed += usize::from(!faults.is_empty());
        lines.push(vec![
            format!("{} {} %", case.trace.name, case.percent),
            format!("{own:.2}"),
            format!("{best:.2}"),
            name.to_owned(),
            format!("{:+.2}", own - best),
            format!("{lru:+.2}"),
            format!("{ats:+.2}"),
            format!("{:+.2}", own - rates[ONLINE.len()]),
            format!("{copied:+.2}"),
            format!("{replicated:+.2}"),
            if faults.is_empty() {
                "ok".to_owned()
            } else {
                format!("MISSED: {}", faults.join(", "))
            },
        ]);
    }
    format!(
        "Hit rates in percent of all handshakes, differences in points\n{}\
         Targets: at most {TOLERANCE} points behind the best other one, never behind ATS FIFO, \
         ahead of LRU in a flood, at most {TOLERANCE} points worse when a plugin copies every new \
         session.\n{}",
        table::columns(&lines),
        match missed {
            0 => "All reached.".to_owned(),
            n => format!("Missed in {n} of {} rows.", cases.len()),
        }
    )
}
