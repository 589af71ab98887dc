//! What OpenSSL has and openssl-sys does not declare, each with the version that introduced it.

use std::ffi::{c_char, c_int, c_long, c_uchar, c_uint, c_ulong, c_void};

use openssl_sys::{
    ASN1_TIME, BIO, EVP_CIPHER_CTX, EVP_MAC_CTX, OSSL_PARAM, SSL, SSL_CIPHER, SSL_CTX, SSL_METHOD,
    SSL_SESSION, X509, X509_STORE_CTX, X509_VERIFY_PARAM,
};
use tssession_common::boundary::Fallback;

// From crypto.h.
pub const CRYPTO_EX_INDEX_SSL: c_int = 0;
pub const CRYPTO_EX_INDEX_SSL_CTX: c_int = 1;
pub const CRYPTO_EX_INDEX_SSL_SESSION: c_int = 2;
/// No error is queued if this fails.
pub const OPENSSL_INIT_BASE_ONLY: u64 = 0x40000;
// From err.h and sslerr.h.
pub const ERR_LIB_SSL: c_int = 20;
pub const ERR_R_MALLOC_FAILURE: c_int = 256;
pub const SSL_R_UNEXPECTED_EOF_WHILE_READING: c_int = 294;
// From bio.h.
pub const BIO_CTRL_EOF: c_int = 2;
pub const BIO_FLAGS_SHOULD_RETRY: c_int = 8;
// From ssl.h; openssl-sys has only the number of the setter.
pub const SSL_CTRL_GET_SESS_CACHE_MODE: c_int = 45;
pub const SSL_CTRL_CERT_FLAGS: c_int = 99; // 1.0.2
pub const SSL_CTRL_GET_VERIFY_CERT_STORE: c_int = 137; // 3.0
pub const SSL_OP_NO_ANTI_REPLAY: u64 = 1 << 24;
pub const SSL_TICKET_SUCCESS: c_int = 5;
pub const SSL_TICKET_SUCCESS_RENEW: c_int = 6;
// From ssl3.h and dtls1.h: the first byte of every version of TLS, and of DTLS.
pub const SSL3_VERSION_MAJOR: c_int = 0x03;
pub const DTLS1_VERSION_MAJOR: c_int = 0xfe;

// From quic.h, since 3.2.
pub const OSSL_QUIC1_VERSION: c_int = 1;

/// What OpenSSL does with a ticket: `SSL_TICKET_RETURN` in ssl.h.
#[repr(transparent)]
pub struct TicketUse(c_int);

impl TicketUse {
    /// A full handshake, and a new ticket.
    pub const IGNORE_RENEW: Self = Self(2);
    pub const USE: Self = Self(3);
    pub const USE_RENEW: Self = Self(4);
}

impl Fallback for TicketUse {
    const FALLBACK: Self = Self::IGNORE_RENEW;
}

pub type VerifyCallback = unsafe extern "C" fn(c_int, *mut X509_STORE_CTX) -> c_int;
pub type NewSession = unsafe extern "C" fn(*mut SSL, *mut SSL_SESSION) -> c_int;
pub type GetSession =
    unsafe extern "C" fn(*mut SSL, *const c_uchar, c_int, *mut c_int) -> *mut SSL_SESSION;
pub type RemoveSession = unsafe extern "C" fn(*mut SSL_CTX, *mut SSL_SESSION);
pub type DecryptedTicket = unsafe extern "C" fn(
    *mut SSL,
    *mut SSL_SESSION,
    *const c_uchar,
    usize,
    c_int,
    *mut c_void,
) -> TicketUse;
pub type TicketKeys = unsafe extern "C" fn(
    *mut SSL,
    *mut c_uchar,
    *mut c_uchar,
    *mut EVP_CIPHER_CTX,
    *mut EVP_MAC_CTX,
    c_int,
) -> c_int;

unsafe extern "C" {
    pub fn ASN1_TIME_diff(
        days: *mut c_int,
        seconds: *mut c_int,
        from: *const ASN1_TIME,
        to: *const ASN1_TIME,
    ) -> c_int; // 1.0.2
    pub fn BIO_test_flags(bio: *const BIO, flags: c_int) -> c_int; // 0.9.8
    pub fn ERR_peek_error() -> c_ulong; // 0.9
    pub fn ERR_set_mark() -> c_int; // 0.9.8
    pub fn ERR_pop_to_mark() -> c_int; // 0.9.8
    pub fn OPENSSL_init_crypto(options: u64, settings: *const c_void) -> c_int; // 1.1.0
    pub fn CRYPTO_clear_free(ptr: *mut c_void, len: usize, file: *const c_char, line: c_int); // 1.1.0
    pub fn OSSL_PARAM_construct_utf8_string(
        key: *const c_char,
        buf: *mut c_char,
        bsize: usize,
    ) -> OSSL_PARAM; // 3.0
    pub fn SSL_get_options(ssl: *const SSL) -> u64; // 1.1.0, of 64 bits since 3.0
    pub fn SSL_SESSION_dup(session: *const SSL_SESSION) -> *mut SSL_SESSION; // 1.1.1
    pub fn SSL_SESSION_get_ex_data(session: *const SSL_SESSION, index: c_int) -> *mut c_void; // 0.9
    pub fn SSL_SESSION_set_ex_data(
        session: *mut SSL_SESSION,
        index: c_int,
        value: *mut c_void,
    ) -> c_int; // 0.9
    pub fn SSL_state_string(ssl: *const SSL) -> *const c_char; // 0.9
    pub fn SSL_SESSION_set1_id(session: *mut SSL_SESSION, id: *const c_uchar, len: c_uint)
    -> c_int; // 1.1.0
    // 0.9, deprecated since 3.4, which has those with `_ex`. A `c_long` is a `time_t` of 64 bits.
    #[cfg_attr(has_time_ex, link_name = "SSL_SESSION_get_time_ex")]
    pub fn SSL_SESSION_get_time(session: *const SSL_SESSION) -> c_long;
    #[cfg_attr(has_time_ex, link_name = "SSL_SESSION_set_time_ex")]
    pub fn SSL_SESSION_set_time(session: *mut SSL_SESSION, time: c_long) -> c_long;
    pub fn SSL_SESSION_set_timeout(session: *mut SSL_SESSION, timeout: c_long) -> c_long; // 0.9
    pub fn SSL_SESSION_set1_master_key(
        session: *mut SSL_SESSION,
        key: *const c_uchar,
        len: usize,
    ) -> c_int; // 1.1.1
    pub fn SSL_SESSION_set1_hostname(session: *mut SSL_SESSION, name: *const c_char) -> c_int; // 1.1.1
    pub fn SSL_SESSION_get0_peer(session: *mut SSL_SESSION) -> *mut X509; // 1.0.1
    pub fn SSL_SESSION_get0_cipher(session: *const SSL_SESSION) -> *const SSL_CIPHER; // 1.1.0
    pub fn SSL_SESSION_get0_ticket_appdata(
        session: *mut SSL_SESSION,
        data: *mut *mut c_void,
        len: *mut usize,
    ) -> c_int; // 1.1.1
    pub fn SSL_SESSION_set1_ticket_appdata(
        session: *mut SSL_SESSION,
        data: *const c_void,
        len: usize,
    ) -> c_int; // 1.1.1
    pub fn X509_STORE_CTX_get0_param(ctx: *const X509_STORE_CTX) -> *mut X509_VERIFY_PARAM; // 0.9.8
    pub fn X509_STORE_CTX_set_default(ctx: *mut X509_STORE_CTX, name: *const c_char) -> c_int; // 0.9.8
    pub fn X509_STORE_CTX_set_flags(ctx: *mut X509_STORE_CTX, flags: c_ulong); // 0.9.8
    pub fn X509_STORE_CTX_set_verify_cb(ctx: *mut X509_STORE_CTX, verify: VerifyCallback); // 0.9
    pub fn X509_VERIFY_PARAM_set1(
        to: *mut X509_VERIFY_PARAM,
        from: *const X509_VERIFY_PARAM,
    ) -> c_int; // 0.9.8
    pub fn SSL_get_client_random(ssl: *const SSL, out: *mut c_uchar, len: usize) -> usize; // 1.1.0
    pub fn SSL_get_verify_callback(ssl: *const SSL) -> Option<VerifyCallback>; // 0.9
    pub fn SSL_has_matching_session_id(ssl: *const SSL, id: *const c_uchar, len: c_uint) -> c_int; // 0.9
    pub fn SSL_SESSION_get0_id_context(
        session: *const SSL_SESSION,
        len: *mut c_uint,
    ) -> *const c_uchar; // 1.1.0
    pub fn SSL_CTX_sess_get_new_cb(ctx: *mut SSL_CTX) -> Option<NewSession>; // 0.9.8
    pub fn SSL_CTX_sess_get_get_cb(ctx: *mut SSL_CTX) -> Option<GetSession>; // 0.9.8
    pub fn SSL_CTX_sess_get_remove_cb(ctx: *mut SSL_CTX) -> Option<RemoveSession>; // 0.9.8
    pub fn SSL_CTX_get_ssl_method(ctx: *const SSL_CTX) -> *const SSL_METHOD; // 1.1.1
    #[cfg_attr(has_time_ex, link_name = "SSL_CTX_flush_sessions_ex")]
    pub fn SSL_CTX_flush_sessions(ctx: *mut SSL_CTX, time: c_long);
    pub fn SSL_CTX_get_timeout(ctx: *const SSL_CTX) -> c_long; // 0.9
    pub fn SSL_CTX_set_timeout(ctx: *mut SSL_CTX, timeout: c_long) -> c_long; // 0.9
    pub fn SSL_CTX_set_tlsext_ticket_key_evp_cb(
        ctx: *mut SSL_CTX,
        callback: Option<TicketKeys>,
    ) -> c_int; // 3.0
    pub fn SSL_CTX_set_session_ticket_cb(
        ctx: *mut SSL_CTX,
        generate: Option<unsafe extern "C" fn(*mut SSL, *mut c_void) -> c_int>,
        decrypt: Option<DecryptedTicket>,
        arg: *mut c_void,
    ) -> c_int; // 1.1.1
    pub fn X509_get0_notAfter(certificate: *const X509) -> *const ASN1_TIME; // 1.1.0
}
