//! Makes sessions of DER bytes without OpenSSL's decoder where that is possible: the decoder takes
//! longer than all the rest of a lookup.
//!
//! Most sessions of a server differ only in their ID, master secret, time, timeout and host name.
//! Sessions that have all else in common form a class. Of each class one session is kept as a
//! template, decoded and without any of the five. The next session of that class is a duplicate of
//! the template in which the five are set.
//!
//! Sessions that do not fit are decoded: those of TLS 1.3, which contain other random numbers; those
//! with a client certificate or a ticket, each of which would be a class of one; and rare ones.

use std::ffi::{c_int, c_long};
use std::hash::BuildHasher;
use std::ptr;

use foldhash::quality::RandomState;
use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::{SslSession, SslSessionRef};
use smallvec::SmallVec;

use super::bindings::{
    SSL_SESSION_dup, SSL_SESSION_get_ex_data, SSL_SESSION_set_time, SSL_SESSION_set_timeout,
    SSL_SESSION_set1_hostname, SSL_SESSION_set1_id, SSL_SESSION_set1_master_key,
};
use super::der::{Reader, before, tag};
use super::visit::Visit;
use crate::base::alloc::{Shared, Swap};
use crate::base::once::{Once, make_once};
use crate::base::session_id::MAX_LEN;

/// Enough for the cipher suites and protocols of a server with many contexts. Two classes can compete
/// for the same place; see [`Templates::learn`].
const PLACES: usize = 256;

/// A session with what all sessions of one class have in common. Nothing else uses it.
struct Template {
    class: Vec<u8>,
    session: SslSession,
}

/// The templates of this process. They contain no secrets and are never changed, so threads share
/// them, and the end of the process need not free them.
pub struct Templates {
    places: [Swap<Template>; PLACES],
    hasher: RandomState,
}

static TEMPLATES: Once<Templates> = Once::new();

impl Templates {
    /// The templates of this process.
    pub fn global() -> &'static Self {
        make_once(&TEMPLATES, Self::new)
    }

    /// The ones of this process, if there are any.
    pub fn if_made() -> Option<&'static Self> {
        TEMPLATES.get()
    }

    fn new() -> Self {
        Self {
            places: std::array::from_fn(|_| Swap::default()),
            hasher: RandomState::default(),
        }
    }

    /// Makes the session that has these parts. `None`: there is no template for it, or no memory.
    ///
    /// The visit begins before the template is taken and ends after it is released: the last to
    /// release it frees it.
    pub fn make(&self, parts: &Parts<'_>, visit: Visit) -> Option<SslSession> {
        let template = self.place(parts).load();
        let session = match &*template {
            Some(known) if parts.are_of(&known.class) => duplicate(&known.session)?,
            _ => {
                drop(template);
                visit.end_in_success();
                return None;
            }
        };
        drop(template);
        fault!("session duplicated");
        if !parts.set_in(&session) {
            return None;
        }
        visit.end_in_success();
        Some(session)
    }

    /// Keeps a template of a session that was just decoded from these parts.
    pub fn learn(&self, parts: &Parts<'_>, session: &SslSessionRef) {
        let Some(_visit) = Visit::begin() else {
            return;
        };
        let place = self.place(parts);
        // If two classes compete for the place, one session in eight replaces the template, not every
        // one. The ID serves as a random number.
        if place.load().is_some() && parts.id.first().is_none_or(|byte| byte % 8 != 0) {
            return;
        }
        let template = Template::new(parts, session).map(Shared::new);
        if let Some(Ok(template)) = template {
            place.store(Some(template));
        }
    }

    fn place(&self, parts: &Parts<'_>) -> &Swap<Template> {
        // Classes differ in the cipher suite and in all that is optional.
        let [common, optional, _] = parts.class;
        let hash = self.hasher.hash_one((common.last(), optional));
        &self.places[hash as usize % PLACES]
    }
}

impl Template {
    fn new(parts: &Parts<'_>, session: &SslSessionRef) -> Option<Self> {
        // Checked for the session, before it is duplicated, and below for the duplicate.
        if !has_no_ex_data(session) {
            return None;
        }
        let session = duplicate(session)?;
        let blank = Parts {
            id: &[0; MAX_LEN],
            master_key: &[0; MASTER_KEY_LEN],
            host_name: None,
            ..*parts
        };
        let mut class = Vec::new();
        let len = parts.class.iter().map(|part| part.len()).sum();
        class.try_reserve_exact(len).ok()?;
        parts
            .class
            .iter()
            .for_each(|part| class.extend_from_slice(part));
        (has_no_ex_data(&session) && blank.set_in(&session)).then_some(Self { class, session })
    }
}

fn duplicate(session: &SslSessionRef) -> Option<SslSession> {
    // SAFETY: the session is live and does not change during the call; the result is null or one
    // reference to a new session.
    unsafe {
        let copy = SSL_SESSION_dup(session.as_ptr());
        (!copy.is_null()).then(|| SslSession::from_ptr(copy))
    }
}

/// Whether no part of the program attaches data to each new session. If there is no function that
/// duplicates such data, a session and its duplicates would share them, and each would free them.
fn has_no_ex_data(session: &SslSessionRef) -> bool {
    /// More than a program has such parts.
    const MOST: c_int = 1024;
    // SAFETY: reads a pointer; an index that does not exist has none.
    (0..MOST).all(|index| unsafe { SSL_SESSION_get_ex_data(session.as_ptr(), index).is_null() })
}

/// The DER bytes of a session, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    id: &'a [u8],
    master_key: &'a [u8],
    time: c_long,
    timeout: c_long,
    host_name: Option<&'a [u8]>,
    /// Everything else: what is before the ID, what is between the timeout and the host name, and
    /// what is after the host name.
    class: [&'a [u8]; 3],
}

/// TLS 1.2, as the second number of a session has it.
const TLS1_2: &[u8] = &[3, 3];

/// The length of every master secret up to TLS 1.2 (RFC 5246, 8.1).
const MASTER_KEY_LEN: usize = 48;

impl<'a> Parts<'a> {
    /// Takes a session of TLS 1.2 apart; `None` for all others, and if anything about its bytes is
    /// uncommon.
    pub fn of(der: &'a [u8]) -> Option<Self> {
        let mut whole = Reader(der);
        let all = whole.content(tag::SEQUENCE)?;
        let mut rest = Reader(all);
        rest.content(tag::INTEGER)?;
        if rest.content(tag::INTEGER)? != TLS1_2 {
            return None;
        }
        rest.content(tag::OCTET_STRING)?;
        let common = before(all, rest.0);
        let id = rest.content(tag::OCTET_STRING)?;
        let master_key = rest.content(tag::OCTET_STRING)?;
        if master_key.len() != MASTER_KEY_LEN {
            return None;
        }
        let time = rest.number(tag::TIME)?;
        let timeout = rest.number(tag::TIMEOUT)?;
        let optional = rest.0;
        let mut host_name = None;
        let mut class = [common, optional, &[]];
        while let Some(&next) = rest.0.first() {
            let here = rest.0;
            let content = rest.content(next)?;
            match next {
                tag::HOST_NAME => {
                    let name = Reader(content).content(tag::OCTET_STRING)?;
                    // As a C string the name would end there.
                    let has_zero = name.iter().fold(false, |zero, byte| zero | (*byte == 0));
                    if host_name.is_some() || has_zero {
                        return None;
                    }
                    host_name = Some(name);
                    class = [common, before(optional, here), rest.0];
                }
                tag::CONTEXT
                | tag::VERIFY_RESULT
                | tag::FLAGS
                | tag::ALPN
                | tag::FRAGMENT_LEN
                | tag::GROUP => {}
                // Certificates and tickets differ in each session; all others are rare.
                _ => return None,
            }
        }
        whole.0.is_empty().then_some(Self {
            id,
            master_key,
            time,
            timeout,
            host_name,
            class,
        })
    }

    fn are_of(&self, class: &[u8]) -> bool {
        let [a, b, c] = self.class;
        class.len() == a.len() + b.len() + c.len()
            && class.starts_with(a)
            && class[a.len()..].starts_with(b)
            && class.ends_with(c)
    }

    /// Sets the five parts in a session that are not common to its class.
    fn set_in(&self, session: &SslSession) -> bool {
        let session = session.as_ptr();
        let mut c_string = SmallVec::<[u8; 128]>::new();
        let host_name = match self.host_name {
            None => ptr::null(),
            Some(name) => {
                if c_string.try_reserve(name.len() + 1).is_err() {
                    return false;
                }
                c_string.extend_from_slice(name);
                c_string.push(0);
                c_string.as_ptr().cast()
            }
        };
        // SAFETY: the session is live and nothing else uses it; OpenSSL copies what the pointers name.
        unsafe {
            SSL_SESSION_set1_id(session, self.id.as_ptr(), self.id.len() as u32) == 1
                && SSL_SESSION_set1_master_key(
                    session,
                    self.master_key.as_ptr(),
                    self.master_key.len(),
                ) == 1
                && SSL_SESSION_set_time(session, self.time) != 0
                && SSL_SESSION_set_timeout(session, self.timeout) == 1
                && SSL_SESSION_set1_hostname(session, host_name) == 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::session::{Encoded, decode, restore};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    fn value(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = content.len();
        let head = match len {
            0..=0x7f => vec![tag, len as u8],
            0x80..=0xff => vec![tag, 0x81, len as u8],
            _ => [&[tag, 0x82][..], &(len as u16).to_be_bytes()].concat(),
        };
        [head, content.to_vec()].concat()
    }

    fn number(n: i64) -> Vec<u8> {
        let bytes = n.to_be_bytes();
        let zeros = bytes.iter().take(7).take_while(|byte| **byte == 0).count();
        let sign = usize::from(n >= 0 && bytes[zeros] > 0x7f);
        value(tag::INTEGER, &[&vec![0; sign], &bytes[zeros..]].concat())
    }

    /// The DER bytes of sessions of every kind, most of them as a server makes them.
    fn session() -> impl Strategy<Value = Vec<u8>> {
        let certificate = tssession_test_support::certificate().0.to_der().unwrap();
        let octets = |tag, len| {
            vec(any::<u8>(), len)
                .prop_map(move |bytes| value(tag, &value(tag::OCTET_STRING, &bytes)))
        };
        let numbers = |tag, range| -> BoxedStrategy<Vec<u8>> {
            let range: std::ops::Range<i64> = range;
            range.prop_map(move |n| value(tag, &number(n))).boxed()
        };
        let name = "[a-z.]{0,200}"
            .prop_map(|name| value(tag::HOST_NAME, &value(tag::OCTET_STRING, name.as_bytes())));
        let begin = (
            // Version, cipher suite.
            prop_oneof![
                8 => Just((0x0303, [0xc0, 0x2f])),
                2 => Just((0x0303, [0xc0, 0x30])),
                1 => Just((0x0301, [0xc0, 0x13])),
                2 => Just((0x0304, [0x13, 0x01])),
            ],
            prop_oneof![6 => vec(any::<u8>(), 32), 1 => vec(any::<u8>(), 0..34)],
            prop_oneof![6 => vec(any::<u8>(), 48), 1 => vec(any::<u8>(), 0..60)],
            prop_oneof![8 => 1_700_000_000i64..1_800_000_000, 1 => any::<i64>(), 1 => Just(0)],
            prop_oneof![8 => 300i64..90_000, 1 => any::<i64>(), 1 => Just(0)],
        );
        let extras = (
            option::weighted(0.1, Just(value(0xa3, &certificate))),
            option::of(octets(tag::CONTEXT, 0..=32)),
            option::weighted(0.2, numbers(tag::VERIFY_RESULT, 1..80)),
            option::of(name),
            option::weighted(0.05, octets(0xa7, 1..=40)),
            option::weighted(0.05, octets(0xa8, 1..=40)),
            option::weighted(0.1, numbers(0xa9, 1..90_000)),
            option::weighted(0.1, octets(0xaa, 1..=300)),
            option::weighted(0.05, octets(0xac, 1..=40)),
            option::weighted(0.8, numbers(tag::FLAGS, 1..8)),
        );
        let newer = (
            option::weighted(0.1, numbers(0xae, 1..1 << 32)),
            option::weighted(0.1, numbers(0xaf, 1..20_000)),
            option::weighted(0.3, octets(tag::ALPN, 2..=9)),
            option::weighted(0.1, numbers(tag::FRAGMENT_LEN, 1..5)),
            option::weighted(0.1, octets(0xb2, 1..=9)),
        );
        (begin, extras, newer).prop_map(|(begin, extras, newer)| {
            let ((version, cipher), id, master_key, time, timeout) = begin;
            let (peer, context, verify, name, hint, identity, life, ticket, srp, flags) = extras;
            let (age, early, alpn, fragment, data) = newer;
            let mut all = [
                number(1),
                number(version),
                value(tag::OCTET_STRING, &cipher),
                value(tag::OCTET_STRING, &id),
                value(tag::OCTET_STRING, &master_key),
                value(tag::TIME, &number(time)),
                value(tag::TIMEOUT, &number(timeout)),
            ]
            .concat();
            let optional = [
                peer, context, verify, name, hint, identity, life, ticket, srp, flags, age, early,
                alpn, fragment, data,
            ];
            all.extend(optional.into_iter().flatten().flatten());
            value(tag::SEQUENCE, &all)
        })
    }

    fn encoded(session: &SslSessionRef) -> Vec<u8> {
        Encoded::new(session).unwrap().as_bytes().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// Whichever way a session is made, it is the one that was stored. From the second time on it
        /// comes from a template, if it ever does.
        #[test]
        fn a_session_comes_out_as_it_went_in(der in session(), change in option::of((0usize..400, any::<u8>()))) {
            let mut bytes = der;
            if let Some((at, to)) = change {
                let len = bytes.len();
                bytes[at % len] = to;
            }
            let Ok(session) = decode(&bytes) else { return Ok(()) };
            let want = encoded(&session);
            for _ in 0..3 {
                let restored = [restore(&bytes), restore(&want)].map(|all| encoded(&all.unwrap()));
                // OpenSSL replaces a missing time by the current time, which goes on.
                let later = encoded(&decode(&bytes).unwrap());
                for der in restored {
                    prop_assert!(der == want || der == later, "{der:?} is neither {want:?} nor {later:?}");
                }
            }
        }

        #[test]
        fn arbitrary_bytes_are_taken_apart_or_not(bytes in vec(any::<u8>(), 0..80)) {
            Parts::of(&bytes);
        }
    }

    fn plain(id: u8, cipher: u8) -> Vec<u8> {
        let parts = [
            number(1),
            number(0x0303),
            value(tag::OCTET_STRING, &[0xc0, cipher]),
            value(tag::OCTET_STRING, &[id; 32]),
            value(tag::OCTET_STRING, &[id; 48]),
            value(tag::TIME, &number(1_700_000_000 + i64::from(id))),
            value(tag::TIMEOUT, &number(7200)),
            // An empty context and no group: OpenSSL writes both.
            value(tag::CONTEXT, &value(tag::OCTET_STRING, &[])),
            value(tag::GROUP, &number(0)),
        ];
        value(tag::SEQUENCE, &parts.concat())
    }

    /// No other test shows that a template is used at all.
    #[test]
    fn the_second_session_of_a_class_is_made_of_the_template() {
        let templates = Templates::new();
        let make = |der: &[u8]| templates.make(&Parts::of(der).unwrap(), Visit::begin().unwrap());
        let [first, second, other] = [plain(8, 0x2f), plain(16, 0x2f), plain(8, 0x30)];
        assert!(make(&second).is_none());
        templates.learn(&Parts::of(&first).unwrap(), &decode(&first).unwrap());
        let session = make(&second).unwrap();
        assert_eq!(encoded(&session), second);
        assert!(make(&other).is_none());
        // The template contains nothing of the session that it was learnt from.
        let place = templates.place(&Parts::of(&first).unwrap()).load();
        let kept = encoded(&place.as_ref().unwrap().session);
        assert!(!kept.windows(8).any(|bytes| bytes == [8; 8]));
    }
}
