//! What the targets share: the input of a run, arguments for C, and sessions.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::asn1::Asn1Time;
use openssl::ssl::{SslSession, SslSessionRef};
use openssl::x509::X509Ref;
use tssession::ffi::host::{
    TS_SSL_SESSION_CACHE_LOG_DEBUG, TS_SSL_SESSION_CACHE_LOG_ERROR, TSSslSessionCacheConfigSet,
    TSSslSessionCacheLogSet, TSSslSessionCacheStatGet,
};
use tssession::ffi::ts::TSSslSessionGetBuffer;
use tssession::ffi::types::{TSCont, TSReturnCode, TSSslSessionID};

/// The bytes of a run, from which a target takes values. After the last byte, every value is 0.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Returns whether no byte is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// Takes `len` bytes, or fewer if fewer are left.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Takes a length of two bytes, and so many bytes.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = u16::from_le_bytes(self.array());
        self.take(len.into())
    }

    /// Takes a number: a small one, one at the limits of a type, or any.
    pub fn number(&mut self) -> i64 {
        const EDGES: [i64; 8] = [
            i64::MIN,
            i64::MAX,
            i32::MIN as i64,
            i32::MAX as i64,
            i32::MAX as i64 + 1,
            u32::MAX as i64,
            u32::MAX as i64 + 1,
            1 << 62,
        ];
        match self.byte() {
            small @ 0..=239 => i64::from(small) - 8,
            edge @ 240..=247 => EDGES[usize::from(edge - 240)],
            248..=251 => i64::from(i16::from_le_bytes(self.array())),
            252..=255 => i64::from_le_bytes(self.array()),
        }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}

/// A session ID for C. Its memory ends behind the bytes of the ID, or behind the length if that is
/// invalid.
pub struct Id {
    /// The ID begins `shift` bytes into this memory, so it may not be aligned.
    memory: Box<[u8]>,
    shift: usize,
}

impl Id {
    /// Makes an ID of this length. A valid one gets these bytes, filled up with zeros.
    pub fn new(len: usize, bytes: &[u8], shift: usize) -> Self {
        let mut memory = vec![0; shift];
        memory.extend_from_slice(&len.to_ne_bytes());
        if len <= 32 {
            memory.extend((0..len).map(|at| bytes.get(at).copied().unwrap_or(0)));
        }
        Self {
            memory: memory.into_boxed_slice(),
            shift,
        }
    }

    /// Returns the pointer to pass to C.
    pub fn as_ptr(&self) -> *const TSSslSessionID {
        self.memory[self.shift..].as_ptr().cast()
    }
}

/// Sets a record, which must succeed.
pub fn set(name: &CStr, value: &CStr) {
    // SAFETY: both are C strings.
    let result = unsafe { TSSslSessionCacheConfigSet(name.as_ptr(), value.as_ptr()) };
    assert_eq!(result, TSReturnCode::TS_SUCCESS, "{name:?}");
}

/// Returns a counter, which must exist.
pub fn stat(name: &CStr) -> i64 {
    let mut value = -1;
    // SAFETY: the name is a C string, and `value` is writable.
    let result = unsafe { TSSslSessionCacheStatGet(name.as_ptr(), &mut value) };
    assert_eq!(result, TSReturnCode::TS_SUCCESS, "{name:?}");
    value
}

/// Returns the DER under an ID, with the C function. Asks for the size first.
pub fn get_buffer(id: &Id) -> Option<Vec<u8>> {
    let mut len: c_int = -1;
    // SAFETY: the ID is live, and the buffers have the given lengths.
    unsafe {
        let needed = TSSslSessionGetBuffer(id.as_ptr(), ptr::null_mut(), &mut len);
        assert!(needed >= 0 && len == 0);
        let mut buffer = vec![0; needed as usize];
        len = needed;
        let again = TSSslSessionGetBuffer(id.as_ptr(), buffer.as_mut_ptr().cast(), &mut len);
        // It may have expired in between.
        assert!(again == needed && len == needed || again == 0 && len == 0);
        (again > 0).then_some(buffer)
    }
}

/// Decodes bytes with OpenSSL. Returns the session, and the number of bytes that it used.
pub fn decode(der: &[u8]) -> Option<(SslSession, usize)> {
    let mut end = der.as_ptr();
    // SAFETY: the pointer and the length are those of `der`; the result is null or one
    // reference to a new session.
    let session = unsafe {
        let session = openssl_sys::d2i_SSL_SESSION(ptr::null_mut(), &mut end, der.len() as _);
        openssl_sys::ERR_clear_error();
        (!session.is_null()).then(|| SslSession::from_ptr(session))?
    };
    Some((session, end.addr() - der.as_ptr().addr()))
}

/// Returns the DER of a session, if OpenSSL can encode it.
pub fn encode(session: &SslSessionRef) -> Option<Vec<u8>> {
    // SAFETY: the session is live, and the second call has the room that the first asked for.
    unsafe {
        let len = openssl_sys::i2d_SSL_SESSION(session.as_ptr(), ptr::null_mut());
        openssl_sys::ERR_clear_error();
        let mut der = vec![0; usize::try_from(len).ok().filter(|len| *len > 0)?];
        let written = openssl_sys::i2d_SSL_SESSION(session.as_ptr(), &mut der.as_mut_ptr());
        assert_eq!(written, len);
        Some(der)
    }
}

/// Returns the second at which a session ends: after its timeout, or after the longest allowed time
/// (docs/guide/settings.md). The life of a session dated in the future begins now, as that of the seeds until
/// 2038.
pub fn end(session: &SslSessionRef) -> i64 {
    unsafe extern "C" {
        fn SSL_SESSION_get0_peer(session: *mut openssl_sys::SSL_SESSION) -> *mut openssl_sys::X509;
    }
    const DAY: i64 = 24 * 3600;
    // SAFETY: the session is live.
    unsafe {
        let most = match openssl_sys::SSL_SESSION_get_protocol_version(session.as_ptr()) {
            openssl_sys::TLS1_3_VERSION => 7 * DAY,
            _ => DAY,
        };
        let own = openssl_sys::SSL_SESSION_get_time(session.as_ptr())
            .min(now())
            .saturating_add(openssl_sys::SSL_SESSION_get_timeout(session.as_ptr()).min(most));
        let certificate = SSL_SESSION_get0_peer(session.as_ptr());
        if certificate.is_null() {
            return own;
        }
        // It ends with its certificate; one whose end cannot be read has ended.
        let end = X509Ref::from_ptr(certificate).not_after();
        let left = Asn1Time::days_from_now(0).and_then(|now| now.diff(end));
        left.map_or(0, |left| {
            own.min(now() + i64::from(left.days) * DAY + i64::from(left.secs))
        })
    }
}

/// Returns whether the version of a session is one of TLS or DTLS.
pub fn has_version(session: &SslSessionRef) -> bool {
    // SAFETY: the session is live.
    let version = unsafe { openssl_sys::SSL_SESSION_get_protocol_version(session.as_ptr()) };
    [0x03, 0xfe].contains(&(version >> 8))
}

/// The wall clock.
pub fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs() as i64
}

/// Checks every line that the library logs from now on, with debug lines or errors only. Without debug
/// lines, lookups take a shorter path.
pub fn check_lines(debug: bool) {
    let level = if debug {
        TS_SSL_SESSION_CACHE_LOG_DEBUG
    } else {
        TS_SSL_SESSION_CACHE_LOG_ERROR
    };
    // SAFETY: the function is static, and does not use the pointer.
    let result = unsafe { TSSslSessionCacheLogSet(Some(check_line), ptr::null_mut(), level) };
    assert_eq!(result, TSReturnCode::TS_SUCCESS);
}

unsafe extern "C" fn check_line(
    contp: TSCont,
    level: c_int,
    tag: *const c_char,
    line: *const c_char,
) {
    // SAFETY: both are C strings during the call.
    let (tag, line) = unsafe { (CStr::from_ptr(tag), CStr::from_ptr(line)) };
    let (tag, line) = (tag.to_str().unwrap(), line.to_str().unwrap());
    assert!(contp.is_null() && (1..=3).contains(&level) && tag.starts_with("ssl"));
    assert!(!line.is_empty() && line.len() < 2100 && !line.contains(char::is_control));
}

/// Returns the bytes before the first 0 as a C string.
pub fn c_string(bytes: &[u8]) -> CString {
    let len = bytes.iter().position(|byte| *byte == 0);
    CString::new(&bytes[..len.unwrap_or(bytes.len())]).expect("has no 0")
}

/// Takes ownership of a session that the library returned.
///
/// # Safety
/// The caller owns the session.
pub unsafe fn own(session: *mut c_void) -> Option<SslSession> {
    // SAFETY: passed on to the caller.
    (!session.is_null()).then(|| unsafe { SslSession::from_ptr(session.cast()) })
}
