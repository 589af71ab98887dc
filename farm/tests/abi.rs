//! Compares the ABI of the farm's header with `abi/*.xml`.

use tssession_test_support::FARM;

#[test]
fn the_abi_is_that_of_the_baseline() {
    FARM.api().check(&FARM.baseline());
}
