//! A host in C, linked with both libraries, with a Redis of its own.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use common::{Redis, WARNINGS, compiler, library_dir, root, run, scratch, source};

#[test]
fn door() {
    let redis = Redis::start();
    let dir = scratch();
    let secret = dir.join("secret");
    fs::write(&secret, [0x5e; 32]).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = format!(
        "farm = \"door\"\nsecrets = [\"secret\"]\n[redis]\nurls = [\"redis://127.0.0.1:{}\"]\n",
        redis.port
    );
    let file = dir.join("farm.toml");
    fs::write(&file, &settings).unwrap();
    let wrong = dir.join("wrong.toml");
    fs::write(&wrong, format!("wrong = 1\n{settings}")).unwrap();

    let program = dir.join("door");
    run(compiler(false)
        .args(WARNINGS)
        .args(["-std=c11", "-D_GNU_SOURCE", "-Wno-unused-function"])
        .arg("-I")
        .arg(root().join("include"))
        .arg("-I")
        .arg(root().join("c_tests"))
        .arg("-o")
        .arg(&program)
        .arg(source("door.c"))
        .arg(root().join("c_tests/tls.c"))
        .arg("-L")
        .arg(library_dir())
        .args(["-ltssession", "-ltssession_farm", "-lssl", "-lcrypto"]));
    let output = run(Command::new(program)
        .args([&file, &wrong])
        .env("LD_LIBRARY_PATH", library_dir()));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let stderr = String::from_utf8(output.stderr).unwrap();
    for line in [
        "ERROR: TSSslSessionFarmStart: the path is NULL\n",
        "ERROR: TSSslSessionFarmStart: /no/such/file.toml: ",
        "/wrong.toml: line 1: wrong: unknown field `wrong`",
        "ERROR: TSSslSessionFarmStart: the farm has been started before\n",
        "ERROR: TSSslSessionFarmStatsText: len_ptr is NULL\n",
        "ERROR: TSSslSessionFarmStatGet: the farm has not been started\n",
        "ERROR: TSSslSessionFarmStatGet: an argument is NULL\n",
        "ERROR: TSSslSessionFarmStatGet: plugin.tssession_farm.nothing: there is no such counter\n",
    ] {
        assert!(stderr.contains(line), "{line:?} is missing in\n{stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}
