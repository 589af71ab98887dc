//! Shows which TLS sessions a server resumes, and where: tssession-doctor(1).

mod check;
mod client;
mod place;
mod show;
mod ticket;
mod tickets;

use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use lexopt::prelude::*;
use openssl::pkey::PKey;
use openssl::x509::X509;

use check::Plan;
use client::Certificate;
use place::{HTTPS, Place};

const HELP: &str = "\
tssession-doctor connects to a TLS server and shows which sessions it resumes: TLS 1.2 by session ID
and by ticket, and TLS 1.3; after a hang-up, with a client certificate, and from each address of a
service at each other address.

Usage: tssession-doctor HOST[:PORT] [--also HOST[:PORT]]... [OPTION]...

  --also HOST[:PORT]   another address of the same service; without PORT, the port of the first one
  --sni NAME           the name for SNI; '' for no SNI. Without this: HOST, if it is a name
  --client-cert FILE   try a client certificate too: PEM, with its chain
  --client-key FILE    its key: PEM, not encrypted
  --timeout SECONDS    the longest time for a connection and for a handshake (5)
  --json               print JSON
  --help, --version

Without PORT, the port is 443. The server's certificate is NOT verified: only resumption is examined.
Exit status: 0 all that the server offers resumes; 1 something does not; 2 the command line or a
file is wrong; 3 there is no connection or no TLS handshake.
";

const DOES_NOT_RESUME: u8 = 1;
const USAGE: u8 = 2;
const NO_HANDSHAKE: u8 = 3;
/// Each address has a letter in the table.
const MOST_ADDRESSES: usize = 26;
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

struct Options {
    places: Vec<Place>,
    name: Option<String>,
    certificate: Option<Certificate>,
    timeout: Duration,
    is_json: bool,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Ok(options)) => options,
        Ok(Err(text)) => return print(&text, 0),
        Err(error) => return fail(USAGE, &error.to_string()),
    };
    let mut addresses = Vec::new();
    for place in &options.places {
        match place.connect(options.timeout) {
            Ok(address) if addresses.contains(&address) => {
                return fail(USAGE, &format!("{address} is given twice"));
            }
            Ok(address) => addresses.push(address),
            Err(error) => return fail(NO_HANDSHAKE, &error),
        }
    }
    let plan = Plan {
        hosts: options.places.into_iter().map(|place| place.host).collect(),
        addresses,
        name: options.name,
        certificate: options.certificate,
        timeout: options.timeout,
    };
    let is_watched = io::stderr().is_terminal();
    // Rewrites one line of a terminal.
    let progress = |text: &str| {
        if is_watched {
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        }
    };
    let result = check::run(&plan, |kind, from, to| {
        progress(&format!("{kind}: {from} -> {to} ..."))
    });
    progress("");
    let report = match result {
        Ok(report) => report,
        Err(why) => return fail(NO_HANDSHAKE, &why),
    };
    let show = if options.is_json {
        show::json
    } else {
        show::table
    };
    let status = if report.all_resume {
        0
    } else {
        DOES_NOT_RESUME
    };
    print(&show(&plan, &report), status)
}

/// The options, or the text that was asked for: the help or the version.
fn options() -> Result<Result<Options, String>, lexopt::Error> {
    let mut arguments = lexopt::Parser::from_env();
    let (mut host, mut also, mut name) = (None, Vec::new(), None);
    let (mut cert, mut key) = (None, None);
    let mut timeout = Duration::from_secs(5);
    let mut is_json = false;
    while let Some(argument) = arguments.next()? {
        match argument {
            Value(text) if host.is_none() => host = Some(text.string()?),
            Long("also") => also.push(arguments.value()?.string()?),
            Long("sni") => name = Some(arguments.value()?.string()?),
            Long("client-cert") => cert = Some(PathBuf::from(arguments.value()?)),
            Long("client-key") => key = Some(PathBuf::from(arguments.value()?)),
            Long("timeout") => timeout = arguments.value()?.parse_with(seconds)?,
            Long("json") => is_json = true,
            Short('h') | Long("help") => return Ok(Err(HELP.to_owned())),
            Short('V') | Long("version") => {
                let version = env!("CARGO_PKG_VERSION");
                return Ok(Err(format!("tssession-doctor {version}\n")));
            }
            _ => return Err(argument.unexpected()),
        }
    }
    let place = |text: String, port| {
        Place::parse(&text, port).ok_or_else(|| format!("\"{text}\" is not HOST[:PORT]"))
    };
    let first = place(host.ok_or("HOST is missing; see --help")?, HTTPS)?;
    let is_name = first.host.parse::<IpAddr>().is_err();
    let name = name.unwrap_or_else(|| {
        let host = first.host.trim_end_matches('.');
        if is_name {
            host.to_owned()
        } else {
            String::new()
        }
    });
    let port = first.port;
    let mut places = vec![first];
    for text in also {
        places.push(place(text, port)?);
    }
    if places.len() > MOST_ADDRESSES {
        return Err(format!("more than {MOST_ADDRESSES} addresses").into());
    }
    let certificate = match (cert, key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(certificate(&cert, &key)?),
        _ => return Err("--client-cert and --client-key must be given together".into()),
    };
    Ok(Ok(Options {
        places,
        name: Some(name).filter(|name| !name.is_empty()),
        certificate,
        timeout,
        is_json,
    }))
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text
        .parse()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number).ok());
    let usable = seconds.filter(|time| !time.is_zero() && *time <= LONGEST_TIMEOUT);
    usable.ok_or("the timeout must be more than 0 and at most 600 seconds")
}

fn certificate(cert: &Path, key: &Path) -> Result<Certificate, String> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let chain = X509::stack_from_pem(&read(cert)?).unwrap_or_default();
    let first = chain
        .first()
        .ok_or_else(|| format!("{}: no certificate in PEM", cert.display()))?;
    // Without this callback OpenSSL asks for the passphrase of an encrypted key.
    let key_of_file =
        PKey::private_key_from_pem_callback(&read(key)?, |_| Ok(0)).map_err(|_| {
            format!(
                "{}: no private key in PEM, or an encrypted one",
                key.display()
            )
        })?;
    if !first
        .public_key()
        .is_ok_and(|public| public.public_eq(&key_of_file))
    {
        return Err(format!(
            "{}: not the key of {}",
            key.display(),
            cert.display()
        ));
    }
    Ok(Certificate {
        chain,
        key: key_of_file,
    })
}

fn fail(status: u8, why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "tssession-doctor: {why}");
    ExitCode::from(status)
}

fn print(text: &str, status: u8) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader of a pipe may stop early.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(USAGE, &format!("cannot write to stdout: {error}"))
        }
        _ => ExitCode::from(status),
    }
}
