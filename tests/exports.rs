//! What the built library shows to the loader.

mod common;

use std::collections::BTreeSet;

use common::{exported, library, stdout};

const EXPORTS: [&str; 22] = [
    "TSSslSessionCacheAttach",
    "TSSslSessionCacheClear",
    "TSSslSessionCacheConfigLoad",
    "TSSslSessionCacheConfigSet",
    "TSSslSessionCacheDetach",
    "TSSslSessionCacheLogSet",
    "TSSslSessionCacheStatGet",
    "TSSslSessionCacheStatsText",
    "TSSslSessionGet",
    "TSSslSessionGetBuffer",
    "TSSslSessionHookAdd",
    "TSSslSessionHookRemove",
    "TSSslSessionInsert",
    "TSSslSessionInsertBuffer",
    "TSSslSessionRemove",
    "TSSslTicketKeyFileLoad",
    "TSSslTicketKeyUpdate",
    "_Z15TSSslSessionGetPK14TSSslSessionID",
    "_Z18TSSslSessionInsertPK14TSSslSessionIDP17tsapi_ssl_sessionP13tsapi_ssl_obj",
    "_Z18TSSslSessionRemovePK14TSSslSessionID",
    "_Z20TSSslTicketKeyUpdatePci",
    "_Z21TSSslSessionGetBufferPK14TSSslSessionIDPcPi",
];

#[test]
fn exactly_the_intended_names() {
    assert_eq!(exported(), BTreeSet::from(EXPORTS.map(String::from)));
}

#[test]
fn no_exported_name_is_called_by_the_library() {
    let relocations = stdout(
        "readelf",
        [
            "--relocs".as_ref(),
            "--wide".as_ref(),
            library().as_os_str(),
        ],
    );
    let called: Vec<&str> = relocations
        .lines()
        .filter(|line| line.contains("TSSsl"))
        .collect();
    assert_eq!(called, Vec::<&str>::new());
}

#[test]
fn soname_and_shared_openssl() {
    let dynamic = stdout("readelf", ["--dynamic".as_ref(), library().as_os_str()]);
    assert!(
        dynamic.contains("Library soname: [libtssession.so.0]"),
        "{dynamic}"
    );
    assert!(
        dynamic.contains("Shared library: [libssl.so.3]"),
        "{dynamic}"
    );
    assert!(
        dynamic.contains("Shared library: [libcrypto.so.3]"),
        "{dynamic}"
    );
}
