//! Sessions out of DER bytes, without OpenSSL's decoder where that is possible: it takes
//! longer than all the rest of a lookup.
//!
//! Most sessions of a server differ in their ID, master secret, time, timeout and host name
//! only. All that they have in common is a class. Of each class one session is kept,
//! decoded and without any of the five, as a template; the next of that class is a duplicate
//! of it in which the five are set.
//!
//! What does not fit is decoded as ever: TLS 1.3 sessions, which have random numbers of
//! their own, sessions with a client certificate or a ticket, which are of a class
//! each, and whatever is rare.

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

/// Enough for the cipher suites and protocols of a server with many contexts. Two classes may
/// want the same place; see [`Templates::learn`].
const PLACES: usize = 256;

/// A session nobody else has: what all of one class have in common.
struct Template {
    class: Vec<u8>,
    session: SslSession,
}

/// The templates of this process. They hold no secrets and are never changed, so threads
/// share them; nothing need free them when the process ends.
pub struct Templates {
    places: [Swap<Template>; PLACES],
    hasher: RandomState,
}

static TEMPLATES: Once<Templates> = Once::new();

impl Templates {
    /// The ones of this process.
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

    /// The session that these are the parts of. `None`: there is no template for it, or
    /// no memory.
    ///
    /// The visit is from before the template is taken until it is let go of: whoever does that
    /// last, frees it.
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
        // Where two classes compete, not each session in turn is to drive the other out; the
        // ID is a random number at hand.
        if place.load().is_some() && parts.id.first().is_none_or(|byte| byte % 8 != 0) {
            return;
        }
        let template = Template::new(parts, session).map(Shared::new);
        if let Some(Ok(template)) = template {
            place.store(Some(template));
        }
    }

    fn place(&self, parts: &Parts<'_>) -> &Swap<Template> {
        // What classes differ in: the cipher suite, and all that is optional.
        let [common, optional, _] = parts.class;
        let hash = self.hasher.hash_one((common.last(), optional));
        &self.places[hash as usize % PLACES]
    }
}

impl Template {
    fn new(parts: &Parts<'_>, session: &SslSessionRef) -> Option<Self> {
        // Of the session, before it is duplicated, and of the duplicate, which may have got some.
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
    // SAFETY: the session is live and not changed meanwhile; the result is null or one
    // reference to a new session.
    unsafe {
        let copy = SSL_SESSION_dup(session.as_ptr());
        (!copy.is_null()).then(|| SslSession::from_ptr(copy))
    }
}

/// Whether no part of the program hangs data of its own to each new session. If that has
/// no function to duplicate them, a session and its duplicates would share one datum, and
/// each would free it.
fn has_no_ex_data(session: &SslSessionRef) -> bool {
    /// More than programs have of such parts.
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
    /// Everything else: what stands before the ID, and behind the timeout before the host name
    /// and after it.
    class: [&'a [u8]; 3],
}

/// TLS 1.2, as in the second number of a session.
const TLS1_2: &[u8] = &[3, 3];

/// The length of every master secret up to TLS 1.2 (RFC 5246, 8.1).
const MASTER_KEY_LEN: usize = 48;

impl<'a> Parts<'a> {
    /// Takes a session of TLS 1.2 apart; `None` for every other, and where there is anything
    /// uncommon about its bytes.
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
                    // As a C string it would be another.
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
                // Certificates and tickets differ each time, and what else there is, is rare.
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

    /// Sets in a session what is not common to its class.
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
        // SAFETY: the session is live and nobody else's; OpenSSL copies what the pointers name.
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

    /// The DER bytes of sessions of every kind, most of them such that a server makes them.
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

        /// Whichever way a session is made, it is the one that was stored: the second time
        /// it comes from a template if it ever does.
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
                // OpenSSL puts the time of day in the place of none, and it goes on.
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

    /// That a template is used at all, nothing else shows.
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
        // It holds nothing of the session that it was learnt from.
        let place = templates.place(&Parts::of(&first).unwrap()).load();
        let kept = encoded(&place.as_ref().unwrap().session);
        assert!(!kept.windows(8).any(|bytes| bytes == [8; 8]));
    }
}
