//! Traces that others recorded. The repository contains none of them: their files are read from a
//! directory, in the form in which they are published.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::trace::{self, Trace, Visit};

/// A trace, and the origin of its file.
pub struct Source {
    /// Its name in the charts.
    pub name: &'static str,
    /// What was recorded.
    pub title: &'static str,
    /// The file's name, in the directory and where it is published.
    pub file: &'static str,
    /// The publisher.
    pub from: &'static str,
    format: Format,
}

/// The format of a file after it is unpacked.
#[derive(Clone, Copy)]
enum Format {
    /// Big-endian keys of so many bytes.
    Keys(usize),
    /// One decimal key per line. Other lines are marks for a program.
    Lines,
    /// Each line begins with the first key of a run and the number of keys in it.
    Runs,
    /// Records of 24 bytes: second, key (8 bytes), size, next access (8 bytes); little-endian.
    Records,
}

const CAFFEINE: &str = "github.com/ben-manes/caffeine, simulator/src/main/resources";
const ARC: &str = "github.com/moka-rs/cache-trace, arc";
const LIBCACHESIM: &str = "github.com/cacheMon/libCacheSim, data";

const fn source(
    name: &'static str,
    title: &'static str,
    file: &'static str,
    from: &'static str,
    format: Format,
) -> Source {
    Source {
        name,
        title,
        file,
        from,
        format,
    }
}

/// All traces.
pub const SOURCES: [Source; 12] = [
    source(
        "web07",
        "HTTP requests for product pages of a shop, July 2013",
        "web07.trace.xz",
        CAFFEINE,
        Format::Keys(4),
    ),
    source(
        "web12",
        "HTTP requests for product pages of a shop, December 2013",
        "web12.trace.xz",
        CAFFEINE,
        Format::Keys(4),
    ),
    source(
        "orm-busy",
        "Database objects of a shop at a busy time of the day",
        "orm-busy.trace.xz",
        CAFFEINE,
        Format::Keys(4),
    ),
    source(
        "orm-night",
        "Database objects of a shop at night",
        "orm-night.trace.xz",
        CAFFEINE,
        Format::Keys(4),
    ),
    source(
        "recommendations",
        "Product recommendations for shops",
        "scarab-recs.trace.xz",
        CAFFEINE,
        Format::Keys(8),
    ),
    source(
        "w106",
        "Disk blocks of a virtual machine, a week",
        "w106.trace.xz",
        CAFFEINE,
        Format::Keys(4),
    ),
    source(
        "vault",
        "Lookups of a ledger's vault",
        "trace_vaultservice.gz",
        CAFFEINE,
        Format::Keys(8),
    ),
    source(
        "sprite",
        "File blocks of a client in a network of workstations",
        "sprite.trace.gz",
        CAFFEINE,
        Format::Lines,
    ),
    source(
        "multi3",
        "File blocks of four programs at once",
        "multi3.trace.gz",
        CAFFEINE,
        Format::Lines,
    ),
    source(
        "oltp",
        "Pages of a database, one hour",
        "OLTP.lis.zst",
        ARC,
        Format::Runs,
    ),
    source(
        "p3",
        "Disk blocks of a workstation, several months",
        "P3.lis.zst",
        ARC,
        Format::Runs,
    ),
    source(
        "vm-disk",
        "Disk blocks of a virtual machine, a sample",
        "cloudPhysicsIO.oracleGeneral.bin",
        LIBCACHESIM,
        Format::Records,
    ),
];

impl Source {
    /// The path where its file is expected.
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(self.file)
    }

    /// Reads the trace.
    pub fn read(&self, directory: &Path) -> io::Result<Trace> {
        let keys = keys(&unpacked(&self.path(directory))?, self.format);
        if keys.is_empty() {
            return Err(io::Error::other("no keys in it"));
        }
        let mut numbers = HashMap::new();
        let count = keys.len();
        let visit = |(at, key)| {
            let next = numbers.len() as u32;
            Visit {
                // Few of the files have times, so no session expires.
                time: trace::spread(at, count, trace::DAY / 2),
                client: *numbers.entry(key).or_insert(next),
            }
        };
        let visits = keys.into_iter().enumerate().map(visit).collect();
        Ok(Trace::new(self.name, self.title, trace::DAY, false, visits))
    }
}

/// The content of a file that may be compressed.
fn unpacked(path: &Path) -> io::Result<Vec<u8>> {
    let program = match path.extension().and_then(|end| end.to_str()) {
        Some("gz") => "gzip",
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return std::fs::read(path),
    };
    let output = Command::new(program)
        .arg("-dc")
        .stdin(File::open(path)?)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{program}: {}", output.status)));
    }
    Ok(output.stdout)
}

fn keys(bytes: &[u8], format: Format) -> Vec<u64> {
    let big = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |key, byte| key << 8 | u64::from(*byte))
    };
    let lines = || {
        let lines = bytes.split(|byte| *byte == b'\n');
        lines.filter_map(|line| std::str::from_utf8(line).ok())
    };
    match format {
        Format::Keys(len) => bytes.chunks_exact(len).map(big).collect(),
        Format::Lines => lines()
            .filter_map(|line| line.trim().parse().ok())
            .collect(),
        Format::Runs => {
            let run = |line: &str| {
                let mut words = line.split_whitespace().map_while(|word| word.parse().ok());
                let (first, count): (u64, u64) = (words.next()?, words.next()?);
                Some(first..first + count)
            };
            lines().filter_map(run).flatten().collect()
        }
        Format::Records => {
            let key = |record: &[u8]| record[4..12].iter().rev().copied().collect::<Vec<u8>>();
            bytes
                .chunks_exact(24)
                .map(|record| big(&key(record)))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_gives_its_keys() {
        assert_eq!(
            keys(&[0, 0, 1, 2, 0, 0, 0, 7, 9], Format::Keys(4)),
            [258, 7]
        );
        assert_eq!(keys(b"5\n*\n\n6\r\n5", Format::Lines), [5, 6, 5]);
        assert_eq!(keys(b"10 3 0 0\n4 1 0 1\n", Format::Runs), [10, 11, 12, 4]);
        let record = [&[9; 4][..], &[2, 1, 0, 0, 0, 0, 0, 0], &[9; 12]].concat();
        assert_eq!(keys(&record.repeat(2), Format::Records), [258, 258]);
    }
}
