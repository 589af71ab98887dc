//! Passes any bytes to TSSslSessionInsertBuffer. Accepted bytes come out as DER that OpenSSL decodes to
//! the same session. Refused bytes leave the old entry.
//!
//! SPDX-License-Identifier: Apache-2.0
#![no_main]

use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use tssession::ffi::host::TSSslSessionInsertBuffer;
use tssession::ffi::ts::TSSslSessionGet;
use tssession::ffi::types::TSReturnCode;
use tssession_fuzz::{
    Id, check_lines, decode, encode, end, get_buffer, has_version, now, own, set, stat,
};

/// A low limit, so that short inputs exceed it.
const MAX: usize = 1000;

const OLD: &[u8] = include_bytes!("../seeds/der/tls12");

fn insert(id: &Id, der: &[u8]) -> bool {
    // SAFETY: the ID is live, and the length is that of `der`.
    let result =
        unsafe { TSSslSessionInsertBuffer(id.as_ptr(), der.as_ptr().cast(), der.len() as _) };
    result == TSReturnCode::TS_SUCCESS
}

fn get(id: &Id) -> Option<Vec<u8>> {
    // SAFETY: the ID is live, and the session is ours.
    let session = unsafe { own(TSSslSessionGet(id.as_ptr()).cast()) };
    session.map(|session| encode(&session).expect("what was stored can be encoded"))
}

fuzz_target!(|data: &[u8]| {
    static SETTINGS: Once = Once::new();
    SETTINGS.call_once(|| {
        check_lines(false);
        set(c"tssession.session_cache.max_session_bytes", c"1000");
    });
    // Another ID than that in the session, or one that many inputs contain.
    let id = match data.len() % 2 {
        0 => Id::new(7, b"another", 0),
        _ => Id::new(32, &OLD[15..], 0),
    };
    assert!(insert(&id, OLD));

    let expected = decode(data).filter(|(_, used)| *used == data.len());
    let refused = stat(c"tssession.session_cache.refused");
    let before = now();
    if !insert(&id, data) {
        assert_eq!(stat(c"tssession.session_cache.refused"), refused + 1);
        assert_eq!(get_buffer(&id).as_deref(), Some(OLD));
        if let Some((session, _)) = &expected {
            let der = encode(session).filter(|der| has_version(session) && der.len() <= MAX);
            assert!(der.is_none() || end(session) <= now() + 1, "refused");
        }
        return;
    }

    let (session, _) = expected.expect("accepted, so OpenSSL can decode it");
    // A session without a time gets that of its decoding.
    let later = decode(data).expect("as before").0;
    let ders = [&session, &later].map(|session| encode(session));
    assert!(end(&later) > before);
    if end(&later) <= now() + 10 {
        return;
    }
    let der = get_buffer(&id);
    assert!(der.is_some() && ders.contains(&der));
    let der = der.unwrap_or_default();
    assert!(der.len() <= MAX);
    let (again, used) = decode(&der).expect("OpenSSL can decode what comes out");
    assert_eq!((used, encode(&again).as_ref()), (der.len(), Some(&der)));
    // The first is decoded; the second may be made from a template.
    assert_eq!(get(&id).as_ref(), Some(&der));
    assert_eq!(get(&id).as_ref(), Some(&der));
    // The bytes that came out can be inserted, and come out again.
    assert!(insert(&id, &der));
    assert_eq!(get_buffer(&id), Some(der));
    // SAFETY: reads this thread's error queue.
    assert_eq!(unsafe { openssl_sys::ERR_get_error() }, 0);
});
