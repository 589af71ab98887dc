//! The code that libtssession and libtssession_farm share.
//!
//! * [`boundary`]: what every function that C calls goes through;
//! * [`buffer`]: results that are written to memory of the caller's;
//! * [`code`]: the result of functions that only succeed or fail;
//! * [`log_rate`]: how often log lines of one kind are written;
//! * [`metrics`](mod@metrics): tables of counters, by name and as Prometheus text;
//! * [`secret_file`]: reading a file without leaving copies of it in memory;
//! * [`stderr`]: log lines for a host without log functions;
//! * [`thread`]: what is kept for each thread;
//! * `generate`: the C headers and manual pages, for build scripts;
//! * `faults`: panics on demand, for tests.

#[cfg(not(any(panic = "unwind", doc)))]
compile_error!("the C boundary needs panic = \"unwind\": a panic must not end the host");

pub mod boundary;
pub mod buffer;
pub mod code;
#[cfg(feature = "inject-faults")]
pub mod faults;
#[cfg(feature = "generate")]
pub mod generate;
pub mod log_rate;
pub mod metrics;
pub mod secret_file;
pub mod stderr;
pub mod thread;
