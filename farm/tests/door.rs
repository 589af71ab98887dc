//! A host in C, linked with both libraries, with a separate Redis.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use tssession_test_support::{
    Redis, assert_logged, compile_source, execute, library_dir, root, run, scratch,
};

#[test]
fn door() {
    let redis = Redis::start();
    let settings = redis.settings() + "timeout = 10\n[ticket_keys]\nlease = 2\n";
    let file = scratch().join("farm.toml");
    fs::write(&file, &settings).unwrap();
    // It accepts connections, and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let silent_file = scratch().join("silent.toml");
    fs::write(&silent_file, settings.replace(&redis.url, &url)).unwrap();
    let wrong = scratch().join("wrong.toml");
    fs::write(&wrong, format!("wrong = 1\n{settings}")).unwrap();

    let program = scratch().join("door");
    let c_tests = root().join("c_tests");
    run(compile_source("farm/tests/c/door.c")
        .args(["-Wno-unused-function", "-rdynamic"])
        .arg("-I")
        .arg(&c_tests)
        .arg(c_tests.join("tls.c"))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(library_dir())
        .args(["-ltssession", "-ltssession_farm", "-lssl", "-lcrypto"]));
    let stderr = execute(Command::new(program).args([&file, &wrong, &silent_file]));
    let lines = [
        "ERROR: TSSslSessionFarmStart: config_file is NULL\n",
        "ERROR: TSSslSessionFarmStart: /no/such/file.toml: ",
        "/wrong.toml: line 1: wrong: unknown field `wrong`",
        "ERROR: TSSslSessionFarmStart: this process is a member of a farm already\n",
        "ERROR: TSSslSessionFarmPrepare: config_file is NULL\n",
        "/farm.toml.linked: No such file or directory",
        "ERROR: TSSslSessionFarmStatsText: len_ptr is NULL; nothing is written\n",
        "ERROR: TSSslSessionFarmStatGet: the farm has not been started\n",
        "ERROR: TSSslSessionFarmStart: the thread farm-keys cannot be started\n",
        "ERROR: TSSslSessionFarmStart: the thread farm-publish cannot be started\n",
        "ERROR: TSSslSessionFarmStart: the thread farm-read cannot be started\n",
        "ERROR: TSSslSessionFarmStart: the host refuses the hook for TLS sessions\n",
        "ERROR: TSSslSessionFarmStatGet: the farm runs in the parent process\n",
        "ERROR: TSSslSessionFarmStatGet: name or value is NULL; no counter is read\n",
        "ERROR: TSSslSessionFarmStatusText: len_ptr is NULL; nothing is written\n",
        "ERROR: TSSslSessionFarmRotate: the farm has not been started\n",
        "NOTE: farm rotate: a new key is made; it starts to encrypt in ",
        "ERROR: farm rotate: no key is made: the newest key does not encrypt yet\n",
        "ERROR: TSSslSessionFarmStatGet: plugin.tssession_farm.nothing: there is no such counter\n",
    ];
    assert_logged(&stderr, &lines);
}
