//! The OpenSSL that the library was built with, and the one that it runs with.

use std::ffi::{CStr, c_ulong, c_void};
use std::fmt;
use std::ops::Range;

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslSessionRef;
use openssl_sys as ffi;
use openssl_sys::SSL_CTX;

use super::bindings::{SSL_CTX_get_ssl_method, SSL_SESSION_get0_cipher};
use crate::base::once::{Once, make_once};
use crate::base::system::addresses_of_file;

/// Displays the version of the library, and those of OpenSSL at build time and at run time.
#[derive(Clone, Copy)]
pub struct Versions {
    runs_with: &'static CStr,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "libtssession {}, built with OpenSSL {}, runs with {}",
            env!("CARGO_PKG_VERSION"),
            env!("TSSESSION_OPENSSL"),
            self.runs_with.to_str().unwrap_or("an unknown one"),
        )
    }
}

/// The versions of the library and of OpenSSL.
pub fn versions() -> Versions {
    // SAFETY: can be called at any time; the result is a string that lives forever.
    let runs_with = unsafe { CStr::from_ptr(ffi::OpenSSL_version(ffi::OPENSSL_VERSION)) };
    Versions { runs_with }
}

/// Whether a context belongs to the OpenSSL that the library calls. A process can have several, for
/// example one that is linked into the host, or one in the wheel of a Python package.
///
/// # Safety
/// `ctx` is a live `SSL_CTX` of any OpenSSL.
pub unsafe fn is_of_this_openssl(ctx: *const SSL_CTX) -> bool {
    // SAFETY: reads one pointer near the start of the context; a context of another version has
    // something else there.
    is_in_this_openssl(unsafe { SSL_CTX_get_ssl_method(ctx) }.cast())
}

/// As [`is_of_this_openssl`], for a session. `true` for a session without a cipher suite, which shows
/// no difference.
pub fn is_session_of_this_openssl(session: &SslSessionRef) -> bool {
    // SAFETY: as above.
    let cipher = unsafe { SSL_SESSION_get0_cipher(session.as_ptr()) };
    cipher.is_null() || is_in_this_openssl(cipher.cast())
}

/// Whether this address is in one of OpenSSL's static tables.
fn is_in_this_openssl(address: *const c_void) -> bool {
    static LIBSSL: Once<Range<usize>> = Once::new();
    let libssl = LIBSSL.get().unwrap_or_else(|| {
        // This takes the loader's lock: do not wait for it while one of ours is held. The address is
        // that of a table, because the address of a function can be that of a stub in the program.
        // SAFETY: takes nothing; the result is a static table.
        let found = addresses_of_file(unsafe { ffi::TLS_server_method() }.cast());
        make_once(&LIBSSL, || found)
    });
    libssl.contains(&address.addr())
}

/// Whether this OpenSSL, if it has no memory for its table, leaves a session on the list of its cache
/// but releases the reference: up to 3.4 it does.
pub fn leaves_failed_sessions_on_list() -> bool {
    const MINOR: c_ulong = 20;
    // SAFETY: takes nothing, and can be called at any time.
    unsafe { ffi::OpenSSL_version_num() >> MINOR < 0x305 }
}
