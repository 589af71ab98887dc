//! Makes tables and charts of measurements: reads a line for each from standard input (see
//! [`tssession_bench::measurement::Measurement`]), prints a table for each chart, and writes the
//! chart to DIRECTORY/NAME.svg.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, io};

use tssession_bench::{chart, measurement, table};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1);
    let (Some(folder), None) = (args.next().map(PathBuf::from), args.next()) else {
        return Err("usage: report DIRECTORY <MEASUREMENTS".into());
    };
    let charts = measurement::read(io::stdin().lock()).map_err(|bad| bad.to_string())?;
    if charts.is_empty() {
        return Err("there are no measurements on standard input".into());
    }
    fs::create_dir_all(&folder)?;
    for chart in &charts {
        println!("{}", table::of_chart(chart));
        let path = folder.join(format!("{}.svg", chart.name));
        fs::write(&path, chart::svg(chart)?)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        eprintln!("report: wrote {}", path.display());
    }
    Ok(())
}
