//! Session tickets: the callbacks that encrypt and decrypt them, and their keys.

use std::ffi::{c_char, c_int, c_uchar, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{ptr, slice};

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslSessionRef, SslVersion};
use openssl_sys as ffi;
use openssl_sys::{EVP_CIPHER_CTX, EVP_MAC_CTX, SSL, SSL_SESSION};
use zeroize::Zeroizing;

use super::bindings::{
    OSSL_PARAM_construct_utf8_string, SSL_TICKET_SUCCESS, SSL_TICKET_SUCCESS_RENEW, TicketUse,
};
use super::connection::may_resume;
use super::der::Peer;
use super::lineage::{Life, mark};
use super::link::{count_other_context, link, note_found};
use super::session::Encoded;
use super::visit::Visit;
use crate::base::alloc::NoMemory;
use crate::instance::Instance;
use crate::instance::boundary::callback;
use crate::instance::keys::KeyFileError;
use crate::keys::ring::{KEY_LEN, KeyError, KeyRing, LONGEST_KEY, NAME_LEN, TicketKey};
use crate::report::counters::Counter;

const IV_LEN: usize = 16;

/// Makes sure that there is a ticket key: that of the configured file, or a random one. Fails if
/// there is no memory for the file.
pub fn provide(instance: &Instance) -> Result<(), NoMemory> {
    if instance.keys.ring.current().is_none()
        && let Err(error) = instance.keys.load(None)
        && !matches!(error, KeyFileError::NoneSet)
    {
        // With a random key in the ring, the file would not be read again.
        if error.is_lack_of_memory() {
            return Err(NoMemory);
        }
        log::error!(target: "ssl_session_ticket", "ticket keys: {error}; a random key encrypts tickets");
    }
    ensure_ticket_key(&instance.keys.ring);
    Ok(())
}

/// Called when a ticket was decrypted, or could not be: decides, as for a session with an ID, whether
/// the session in it is resumed.
pub unsafe extern "C" fn decrypted_ticket(
    ssl: *mut SSL,
    session: *mut SSL_SESSION,
    name: *const c_uchar,
    _len: usize,
    status: c_int,
    _arg: *mut c_void,
) -> TicketUse {
    if status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW {
        // There is no session; OpenSSL does the same without a callback.
        return TicketUse::IGNORE_RENEW;
    }
    // SAFETY: OpenSSL passes a live connection and, since it has decrypted the ticket, the 16 bytes of
    // its key's name and a live session.
    callback(|instance| unsafe {
        let name = &*name.cast::<[u8; NAME_LEN]>();
        let keys = instance.keys.ring.current();
        let key = keys.as_ref().and_then(|keys| keys.find(name));
        instance
            .stats
            .count(Counter::ticket_verified(key.map(|(_, place)| place)));
        let session = SslSessionRef::from_ptr(session);
        let peer = || Peer::of(Encoded::new(session).ok()?.as_bytes());
        if !Life::in_ticket(session, &instance.config).is_over() && may_resume(ssl, session, peer) {
            // If it has no mark, its time is still that of its own full handshake.
            mark(session);
            link(ssl, session);
            note_found(ssl, session);
            // Over QUIC the connection does not say that it is TLS 1.3, but the session does.
            if status == SSL_TICKET_SUCCESS && session.protocol_version() != SslVersion::TLS1_3 {
                return TicketUse::USE;
            }
            instance.stats.count(Counter::TicketRenewed);
            return TicketUse::USE_RENEW;
        }
        log::debug!(target: "ssl_session_ticket", "the session in a ticket has expired or is not allowed for this connection; full handshake");
        TicketUse::IGNORE_RENEW
    })
}

/// Called when a ticket is to be encrypted (`encrypt` is 1) or decrypted (0).
pub unsafe extern "C" fn ticket_key(
    ssl: *mut SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut EVP_MAC_CTX,
    encrypt: c_int,
) -> c_int {
    // SAFETY: OpenSSL passes live objects, 16 bytes of name and 16 of initialization
    // vector, both to be written when encrypting.
    callback(|instance| unsafe {
        let name = &mut *name.cast::<[u8; NAME_LEN]>();
        ensure_ticket_key(&instance.keys.ring);
        let keys = instance.keys.ring.current();
        let Some(keys) = keys.as_ref() else { return 0 };
        if encrypt != 0 {
            let iv_bytes = slice::from_raw_parts_mut(iv, IV_LEN);
            *name = *keys.first().name();
            if !fill_with_random(iv_bytes) || !init(keys.first(), iv, cipher, mac, true) {
                return 0;
            }
            instance.stats.count(Counter::TicketCreated);
            let session = ffi::SSL_get_session(ssl);
            if !session.is_null() {
                count_other_context(instance, ssl, SslSessionRef::from_ptr(session));
            }
            log::debug!(target: "ssl_session_ticket", "a ticket is issued");
            return 1;
        }
        let Some((key, place)) = keys.find(name) else {
            instance.stats.count(Counter::TicketNotFound);
            log::debug!(target: "ssl_session_ticket", "the key of a ticket is not active; full handshake");
            return 0;
        };
        if !init(key, iv, cipher, mac, false) {
            return 0;
        }
        log::debug!(target: "ssl_session_ticket", "a ticket is under key {place} (0 encrypts) of {} active keys", keys.count());
        // In TLS 1.3 a ticket is used once (RFC 8446, C.4), so each use gets a new one.
        if place == 0 && ffi::SSL_version(ssl) != ffi::TLS1_3_VERSION {
            1
        } else {
            2
        }
    })
}

/// Gives OpenSSL the key's two secrets.
///
/// # Safety
/// `iv` points to 16 bytes, the contexts are live.
unsafe fn init(
    key: TicketKey<'_>,
    iv: *const c_uchar,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut EVP_MAC_CTX,
    encrypt: bool,
) -> bool {
    let Some(visit) = Visit::begin() else {
        return false;
    };
    let secret = key.hmac_secret();
    let aes_key = key.aes_key();
    // SAFETY: the parameters only live until they are used here, and OpenSSL only
    // reads what their pointers name; the cipher takes a key as long as this one.
    let done = unsafe {
        let params = [
            ffi::OSSL_PARAM_construct_octet_string(
                c"key".as_ptr(),
                secret.as_ptr().cast_mut().cast(),
                secret.len(),
            ),
            OSSL_PARAM_construct_utf8_string(
                c"digest".as_ptr(),
                c"SHA256".as_ptr().cast::<c_char>().cast_mut(),
                0,
            ),
            ffi::OSSL_PARAM_construct_end(),
        ];
        ffi::EVP_MAC_CTX_set_params(mac, params.as_ptr()) == 1
            && ffi::EVP_CipherInit_ex(
                cipher,
                if aes_key.len() == 16 {
                    ffi::EVP_aes_128_cbc()
                } else {
                    ffi::EVP_aes_256_cbc()
                },
                ptr::null_mut(),
                aes_key.as_ptr(),
                iv,
                c_int::from(encrypt),
            ) == 1
    };
    if done {
        visit.end_in_success();
    } else {
        drop(visit);
        say_no_algorithms();
    }
    done
}

/// Logs this once. OpenSSL does not report the library context of an `SSL_CTX`, so ciphers and random
/// bytes are those of the default library context.
#[cold]
fn say_no_algorithms() {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        log::error!(target: "ssl_session_ticket", "no ticket is issued or read: OpenSSL's default library context has no AES-CBC or no HMAC-SHA256");
    }
}

/// Makes a new random key that encrypts tickets from now on. `None`: OpenSSL has no random bytes,
/// which is logged.
pub fn rotate(instance: &Instance) -> Option<Result<usize, KeyError>> {
    instance.keys.ring.prepare_thread();
    // The file first: with a random key in the ring, it would not be read.
    if instance.keys.ring.current().is_none() && provide(instance).is_err() {
        return Some(Err(KeyError::NoMemory));
    }
    let mut random = Zeroizing::new([0; LONGEST_KEY]);
    fill_with_random(random.as_mut_slice()).then(|| instance.keys.rotate(&random))
}

/// Makes a random ticket key if there is none yet.
fn ensure_ticket_key(ring: &KeyRing) {
    ring.fill_if_empty(|| {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        fault!("random ticket key");
        fill_with_random(key.as_mut_slice()).then_some(key)
    });
}

/// If OpenSSL has no random bytes, logs that and returns `false`.
fn fill_with_random(bytes: &mut [u8]) -> bool {
    let done = Visit::begin().is_some_and(|visit| {
        // SAFETY: the pointer and the length are those of `bytes`.
        let done = unsafe { ffi::RAND_bytes(bytes.as_mut_ptr(), bytes.len() as c_int) } == 1;
        if done {
            visit.end_in_success();
        }
        done
    });
    if !done {
        log::error!(target: "ssl_session_ticket", "OpenSSL has no random bytes; no ticket key is made and no ticket is issued");
    }
    done
}
