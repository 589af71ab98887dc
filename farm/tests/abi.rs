//! The ABI of the farm's header, beside `abi/*.xml`.

mod common;

use common::abi::{Api, Header};
use common::{baseline, library, soname_of};

#[test]
fn the_abi_is_that_of_the_baseline() {
    let api = Api {
        headers: vec![
            Header::read("ts.h", false),
            Header::read("ssl_session_farm.h", true),
        ],
        soname: soname_of(&library()),
    };
    api.check(&baseline());
}
