//! One visit to a server: a handshake, with or without a session to resume.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    self, HandshakeError, ShutdownState, Ssl, SslContext, SslMethod, SslOptions, SslSession,
    SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use serde::Serialize;

/// How long to wait for a ticket in TLS 1.3, which comes after the handshake.
const TICKET_WAIT: Duration = Duration::from_secs(1);
/// How long to wait until the server closes too. Most servers do so at once.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// The ways to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Tls12Id,
    Tls12Ticket,
    Tls13,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Tls12Id, Self::Tls12Ticket, Self::Tls13];

    pub fn protocol(self) -> &'static str {
        if self == Self::Tls13 {
            "TLS 1.3"
        } else {
            "TLS 1.2"
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12Id => "TLS 1.2, session ID",
            Self::Tls12Ticket => "TLS 1.2, ticket",
            Self::Tls13 => "TLS 1.3",
        })
    }
}

/// A client certificate with its chain, and its key.
pub struct Certificate {
    pub chain: Vec<X509>,
    pub key: PKey<Private>,
}

/// Why there is nothing to resume.
pub enum Trouble {
    /// The server does not do this, or not for this client.
    NotOffered(String),
    Failed(String),
}

impl From<ErrorStack> for Trouble {
    fn from(error: ErrorStack) -> Self {
        Self::Failed(error.to_string())
    }
}

pub struct Visit {
    /// From the TCP connection to the end of the handshake.
    pub took: Duration,
    pub is_resumed: bool,
    /// The session that the server gave.
    pub session: Option<SslSession>,
}

/// A client that resumes in one way.
pub struct Client {
    pub kind: Kind,
    pub has_certificate: bool,
    context: SslContext,
    /// What OpenSSL's callback has received in the current visit.
    given: Arc<Mutex<Option<SslSession>>>,
    name: Option<String>,
    timeout: Duration,
}

impl Client {
    pub fn new(
        kind: Kind,
        certificate: Option<&Certificate>,
        name: Option<String>,
        timeout: Duration,
    ) -> Result<Self, ErrorStack> {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        let version = match kind {
            Kind::Tls13 => SslVersion::TLS1_3,
            Kind::Tls12Id | Kind::Tls12Ticket => SslVersion::TLS1_2,
        };
        context.set_min_proto_version(Some(version))?;
        context.set_max_proto_version(Some(version))?;
        if kind == Kind::Tls12Id {
            context.set_options(SslOptions::NO_TICKET);
        }
        // Only resumption is examined, also of servers with a weak certificate.
        context.set_verify(SslVerifyMode::NONE);
        context.set_security_level(0);
        if let Some(Certificate { chain, key }) = certificate {
            context.set_certificate(&chain[0])?;
            for authority in &chain[1..] {
                context.add_extra_chain_cert(authority.clone())?;
            }
            context.set_private_key(key)?;
            context.check_private_key()?;
        }
        let given = Arc::new(Mutex::new(None));
        let receiver = Arc::clone(&given);
        context
            .set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        context
            .set_new_session_callback(move |_, session| *receiver.lock().unwrap() = Some(session));
        Ok(Self {
            kind,
            has_certificate: certificate.is_some(),
            context: context.build(),
            given,
            name,
            timeout,
        })
    }

    /// `offered` must be a session that this client received. If `hangs_up`, the client closes TCP
    /// without a close_notify.
    pub fn visit(
        &self,
        address: SocketAddr,
        offered: Option<&SslSession>,
        hangs_up: bool,
    ) -> Result<Visit, Trouble> {
        let tcp = TcpStream::connect_timeout(&address, self.timeout)
            .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
            .map_err(|error| Trouble::Failed(format!("cannot connect: {error}")))?;
        *self.given.lock().unwrap() = None;
        let ssl = self.start(offered)?;
        let start = Instant::now();
        let wire = Wire {
            tcp,
            deadline: start + self.timeout,
            given: Arc::clone(&self.given),
        };
        let mut stream = ssl.connect(wire).map_err(|error| match error {
            HandshakeError::SetupFailure(error) => error.into(),
            HandshakeError::Failure(at) | HandshakeError::WouldBlock(at) => {
                self.explain(at.error(), at.ssl().peer_certificate().is_some())
            }
        })?;
        let took = start.elapsed();
        let is_resumed = stream.ssl().session_reused();
        let after = if self.kind == Kind::Tls13 && !is_resumed {
            self.wait_for_ticket(&mut stream)
        } else {
            Ok(())
        };
        let session = self.given.lock().unwrap().take();
        stream.get_mut().deadline = Instant::now() + CLOSE_WAIT;
        if !hangs_up {
            let _ = stream.shutdown();
        }
        // Without this, OpenSSL never offers the session of a connection that hung up.
        stream.set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
        // A server that removes the session at the end of the connection does so before it closes.
        if offered.is_none() {
            stream.get_mut().wait_for_close();
        }
        after.map(|()| Visit {
            took,
            is_resumed,
            session,
        })
    }

    fn start(&self, offered: Option<&SslSession>) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(&self.context)?;
        if let Some(name) = &self.name {
            ssl.set_hostname(name)?;
        }
        if let Some(session) = offered {
            // SAFETY: the session belongs to this context, as `visit` demands.
            unsafe { ssl.set_session(session)? };
        }
        Ok(ssl)
    }

    /// Waits for a ticket. In TLS 1.3 a server reports only now that it refuses the client's
    /// certificate, or requires one.
    fn wait_for_ticket(&self, stream: &mut SslStream<Wire>) -> Result<(), Trouble> {
        stream.get_mut().deadline = Instant::now() + TICKET_WAIT.min(self.timeout);
        let mut ignored = [0; 4096];
        loop {
            match stream.ssl_read(&mut ignored) {
                Ok(length) if length > 0 => {}
                Err(error) if alert_or_error(&error) > ALERTS => {
                    return Err(self.explain(&error, true));
                }
                _ => return Ok(()),
            }
        }
    }

    /// `has_shown_its_own`: whether the server got as far as its own certificate.
    fn explain(&self, error: &ssl::Error, has_shown_its_own: bool) -> Trouble {
        let refused = || {
            Trouble::NotOffered(
                "the server requires a client certificate: use --client-cert".to_owned(),
            )
        };
        let what = match (alert_or_error(error), error.io_error()) {
            (ALERT_PROTOCOL_VERSION | UNSUPPORTED_PROTOCOL | WRONG_SSL_VERSION, _) => {
                let protocol = self.kind.protocol();
                return Trouble::NotOffered(format!("{protocol} is not offered by the server"));
            }
            (ALERT_CERTIFICATE_REQUIRED, _) => return refused(),
            // TLS 1.2 has no alert for a missing certificate.
            (ALERT_HANDSHAKE_FAILURE | ALERT_BAD_CERTIFICATE, _)
                if has_shown_its_own && !self.has_certificate =>
            {
                return refused();
            }
            (0, Some(io)) if io.kind() == ErrorKind::TimedOut => {
                format!("it took longer than {} s", self.timeout.as_secs_f32())
            }
            (0, Some(io)) => io.to_string(),
            (0 | UNEXPECTED_EOF, None) => "the server closed the connection".to_owned(),
            _ => {
                let error = error.ssl_error().and_then(|stack| stack.errors().first());
                error
                    .and_then(|error| error.reason())
                    .unwrap_or("unknown error")
                    .to_owned()
            }
        };
        Trouble::Failed(format!("the handshake failed: {what}"))
    }
}

// Reasons of OpenSSL's errors (openssl/sslerr.h). A received alert is 1000 plus its number.
const UNSUPPORTED_PROTOCOL: i32 = 258;
const WRONG_SSL_VERSION: i32 = 266;
const UNEXPECTED_EOF: i32 = 294;
const ALERTS: i32 = 1000;
const ALERT_HANDSHAKE_FAILURE: i32 = 1040;
const ALERT_BAD_CERTIFICATE: i32 = 1042;
const ALERT_PROTOCOL_VERSION: i32 = 1070;
const ALERT_CERTIFICATE_REQUIRED: i32 = 1116;

/// The reason of an error; 0 if it is not an error of TLS.
fn alert_or_error(error: &ssl::Error) -> i32 {
    let first = error.ssl_error().and_then(|stack| stack.errors().first());
    first.map_or(0, |error| error.reason_code())
}

/// A TCP connection with a deadline for all that is read and written, even if the server sends a byte
/// at a time.
struct Wire {
    tcp: TcpStream,
    deadline: Instant,
    given: Arc<Mutex<Option<SslSession>>>,
}

impl Wire {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }

    fn wait_for_close(&mut self) {
        let _ = self.tcp.shutdown(Shutdown::Write);
        let mut ignored = [0; 4096];
        while self.read(&mut ignored).is_ok_and(|length| length > 0) {}
    }
}

/// A socket reports a timeout as `WouldBlock`, after which OpenSSL wants to try again.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The ticket has arrived: end the read that waits for it.
        if self.given.lock().unwrap().is_some() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.tcp.set_read_timeout(self.left()?)?;
        self.tcp.read(buffer).map_err(timed_out)
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(self.left()?)?;
        self.tcp.write(buffer).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
