//! The entry points: `TSPluginInit` for ATS, and the functions of `<ts/ssl_session_farm.h>` for
//! all other hosts.
//!
//! The doc comments are the text of that header.

#![allow(non_snake_case)] // The names are the C API's.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use tssession_common::buffer::{none_stored, write_text};
use tssession_common::code::TSReturnCode;
use tssession_common::metrics::Numbers;
use tssession_common::{boundary, stderr};

use crate::boundary::guard;
use crate::config::Config;
use crate::host::per_process::{Taken, Turn, watch_forks};
use crate::host::{Host, hear_of_orders, register};
use crate::orders;
use crate::start::{member, start};

extern "C" fn at_load() {
    boundary::take_panics_over();
    stderr::note();
}

/// Run by the loader.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;

/// Held by the thread that starts a member.
static STARTING: Turn = Turn::new();

/// What the plugin starts with once ATS is ready. Null or a box; stored and taken in one step, so
/// that a forked child has all of it or nothing.
static WAITING: AtomicPtr<(Config, Host)> = AtomicPtr::new(ptr::null_mut());

/// What [`TSSslSessionFarmPrepare`] read last, and its path. As [`WAITING`].
static PREPARED: AtomicPtr<(PathBuf, Config)> = AtomicPtr::new(ptr::null_mut());

fn prepare(prepared: Option<(PathBuf, Config)>) -> Option<(PathBuf, Config)> {
    let prepared = prepared.map_or(ptr::null_mut(), |prepared| {
        Box::into_raw(Box::new(prepared))
    });
    let before = PREPARED.swap(prepared, Ordering::AcqRel);
    // SAFETY: null, or from a box, which is taken once.
    (!before.is_null()).then(|| *unsafe { Box::from_raw(before) })
}

/// What was prepared, if it is of this path; otherwise what the file says now.
fn settings(path: &Path) -> Result<Config, String> {
    match prepare(None) {
        Some((of, config)) if of == path => Ok(config),
        other => {
            prepare(other);
            Config::read(path)
        }
    }
}

/// Fails if another thread has the turn: does not wait for it.
fn take_turn() -> Result<Taken<'static>, &'static str> {
    if !watch_forks() {
        return Err("no memory to register the fork handlers");
    }
    STARTING.take().ok_or("another thread is starting the farm")
}

fn is_started() -> bool {
    !WAITING.load(Ordering::Relaxed).is_null() || member().is_ok()
}

/// Makes this process a member of a farm.
///
/// The members of a farm share TLS sessions and session-ticket keys between machines through
/// Redis. config_file is the path of the file of settings; farm.example.toml shows all settings.
///
/// The sessions and keys are those of libtssession. The call loads it if the process has not;
/// attach contexts to it as usual (TSSslSessionCacheAttach). In Traffic Server, name
/// libtssession_farm.so and the file in plugin.config instead of calling this function.
///
/// The call waits until the farm's ticket keys are active, but no longer than twice redis.timeout.
/// Without an answer from Redis the process continues alone, and joins when Redis answers.
///
/// # Returns
/// TS_SUCCESS if the process is a member now, otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if config_file is NULL, the file cannot be read and was not read before
/// (TSSslSessionFarmPrepare), a setting is not valid (the log line
/// names it), a function of the host is missing, a thread cannot be started, another thread is in
/// this call, or the process is a member already. An error is logged and nothing changes: the call
/// can be repeated.
///
/// # Threads
/// Any thread can call it at any time. It starts threads that end with the process: call it
/// after a fork, not before one. A forked child of a member is not a member; it can become one
/// by this call.
///
/// # Safety
/// `config_file` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionFarmStart(config_file: *const c_char) -> TSReturnCode {
    guard(|| {
        if config_file.is_null() {
            return Err("config_file is NULL".into());
        }
        let _turn = take_turn()?;
        if is_started() {
            return Err("this process is a member of a farm already".into());
        }
        // For a Traffic Server in which the plugin has not done it.
        hear_of_orders(orders::answer);
        let host = Host::find().map_err(|error| error.to_string())?;
        // SAFETY: the caller vouches for the string.
        let config = settings(unsafe { path(config_file) })?;
        start(config, host)?;
        Ok(TSReturnCode::TS_SUCCESS)
    })
}

/// Reads the settings of a farm, and the files that they name, for a later start.
///
/// A host that gives up the right to read these files, or the directory that they are in, calls this
/// function first. The next call of TSSslSessionFarmStart with the same config_file, in this
/// process or in a forked child, uses what was read and opens none of these files. Each process
/// uses it for one start, also for one that fails; a second call of this function replaces it.
/// Until then the secrets are in this process's memory, and in that of its forked children.
///
/// The call starts no thread and no connection.
///
/// # Returns
/// TS_SUCCESS if everything was read and is valid, otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if config_file is NULL, a file cannot be read, a setting is not valid (the line
/// names it), or another thread is starting the farm. An error is logged, and what was read
/// before is kept.
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Safety
/// `config_file` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionFarmPrepare(config_file: *const c_char) -> TSReturnCode {
    guard(|| {
        if config_file.is_null() {
            return Err("config_file is NULL".into());
        }
        let _turn = take_turn()?;
        // SAFETY: the caller vouches for the string.
        let path = unsafe { path(config_file) };
        prepare(Some((path.to_owned(), Config::read(path)?)));
        Ok(TSReturnCode::TS_SUCCESS)
    })
}

/// Writes all counters of the farm as text in the format of Prometheus.
///
/// The function works like TSSslSessionCacheStatsText. On entry *len_ptr is the space in buffer,
/// in bytes; on return it is the number of bytes stored. Text that does not fit is truncated;
/// there is no NUL at its end. If buffer is NULL or the space is 0 or less, nothing is stored and
/// *len_ptr becomes 0. Each counter has its name with "_" for ".", and its causes have a label.
///
/// # Returns
/// The size of the whole text in bytes. If it is greater than *len_ptr, the text was truncated.
/// The text can grow between a call that asks for its size and the next one.
///
/// # Errors
/// 0 if the process is not a member of a farm, or if len_ptr is NULL (an error is logged).
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Source
/// Text-based format of Prometheus, version 0.0.4.
///
/// # Safety
/// `len_ptr` is null or readable and writable; `buffer` is null or has as many bytes as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionFarmStatsText(
    buffer: *mut c_char,
    len_ptr: *mut c_int,
) -> c_int {
    let needed = guard(|| {
        if len_ptr.is_null() {
            return Err("len_ptr is NULL; nothing is written".into());
        }
        let counters = member().ok().map(|member| &member.counters);
        // SAFETY: the caller vouches for the pointers.
        Ok(unsafe {
            write_text(buffer, len_ptr, |text| {
                counters.map_or(Ok(()), |counters| counters.write_stats(text))
            })
        })
    });
    // SAFETY: as above.
    unsafe { none_stored(len_ptr, needed) }
}

/// Writes one line about this member: who leads, whether Redis answers, and what was exchanged.
///
/// On entry *len_ptr is the space in buffer, in bytes; on return it is the number of bytes
/// stored. A line that does not fit is truncated; there is no NUL and no line break at its end.
/// If buffer is NULL or the space is 0 or less, nothing is stored and *len_ptr becomes 0. In
/// Traffic Server, "traffic_ctl plugin msg tssession 'farm status'" writes the line to diags.log.
///
/// # Returns
/// The size of the whole line in bytes. If it is greater than *len_ptr, the line was truncated.
///
/// # Errors
/// 0 if the process is not a member of a farm, or if len_ptr is NULL (an error is logged).
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Safety
/// `len_ptr` is null or readable and writable; `buffer` is null or has as many bytes as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionFarmStatusText(
    buffer: *mut c_char,
    len_ptr: *mut c_int,
) -> c_int {
    let needed = guard(|| {
        if len_ptr.is_null() {
            return Err("len_ptr is NULL; nothing is written".into());
        }
        let status = member().map_or_else(|_| String::new(), orders::status);
        // SAFETY: the caller vouches for the pointers.
        Ok(unsafe { write_text(buffer, len_ptr, |text| text.write_str(&status)) })
    });
    // SAFETY: as above.
    unsafe { none_stored(len_ptr, needed) }
}

/// Orders a new ticket key for the farm, if this member leads.
///
/// The member makes the key within a second, and all members receive it. It starts to encrypt
/// after the time that the setting ticket_keys.spread gives. Older keys decrypt for their
/// lifetime. A log line reports that the key was made or why it was not: the newest key does not
/// encrypt yet, a key that still decrypts would have to be dropped, or Redis does not answer. In
/// Traffic Server, "traffic_ctl plugin msg tssession 'farm rotate'" does the same.
///
/// # Returns
/// TS_SUCCESS if this member leads and accepts the order, otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if another member leads (the log line names it), no member leads, ticket keys are not
/// shared, or the process is not a member of a farm. An error is logged and the keys are
/// unchanged.
///
/// # Threads
/// Any thread can call it at any time.
#[unsafe(no_mangle)]
pub extern "C" fn TSSslSessionFarmRotate() -> TSReturnCode {
    guard(|| {
        orders::rotate(member()?)?;
        Ok(TSReturnCode::TS_SUCCESS)
    })
}

/// Reads one counter of the farm.
///
/// name is the name of a counter, for example "plugin.tssession_farm.published". If a counter is
/// divided by cause, each part can be read too, for example
/// "plugin.tssession_farm.refused.forged".
///
/// # Returns
/// TS_SUCCESS, with the count in *value; otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if there is no such counter, an argument is NULL, or the process is not a member of
/// a farm. An error is logged and *value stays as it is.
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Safety
/// `name` is null or a C string; `value` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionFarmStatGet(
    name: *const c_char,
    value: *mut i64,
) -> TSReturnCode {
    guard(|| {
        if name.is_null() || value.is_null() {
            return Err("name or value is NULL; no counter is read".into());
        }
        let member = member()?;
        // SAFETY: the caller vouches for the string.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        let found = member.counters.stat(&name);
        let found = found.ok_or_else(|| format!("{name}: there is no such counter"))?;
        // SAFETY: the caller vouches for the pointer.
        unsafe { value.write_unaligned(found) };
        Ok(TSReturnCode::TS_SUCCESS)
    })
}

/// ATS calls this when it loads the plugin: `libtssession_farm.so FILE` in plugin.config.
/// `<ts/ts.h>`, the header of plugins, declares it.
///
/// # Safety
/// `argv` has `argc` C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSPluginInit(argc: c_int, argv: *const *const c_char) {
    // Before anything that can panic: a server ends itself if a plugin has not registered.
    let registered = register();
    guard(|| {
        registered.map_err(|error| error.to_string())?;
        hear_of_orders(orders::answer);
        let host = Host::find().map_err(|error| error.to_string())?;
        if argc != 2 {
            return Err(
                "plugin.config must name exactly one file of settings after libtssession_farm.so"
                    .into(),
            );
        }
        let _turn = take_turn()?;
        if is_started() {
            return Err("plugin.config names the plugin twice; only the first line counts".into());
        }
        // SAFETY: the host vouches for its arguments.
        let path = unsafe { path(*argv.add(1)) };
        let config = Config::read(&host.resolve(path))?;
        let when_ready = || {
            guard(|| {
                let _turn = take_turn()?;
                let waiting = WAITING.swap(ptr::null_mut(), Ordering::Acquire);
                if !waiting.is_null() {
                    // SAFETY: the pointer is from a box and is taken once.
                    let (config, host) = *unsafe { Box::from_raw(waiting) };
                    start(config, host)?;
                }
                Ok(())
            });
        };
        if host.call_when_ready(when_ready) {
            let waiting = Box::into_raw(Box::new((config, host)));
            WAITING.store(waiting, Ordering::Release);
        } else {
            start(config, host)?;
        }
        Ok(())
    });
}

/// # Safety
/// `path` is a C string that lives as long as it is used.
unsafe fn path<'a>(path: *const c_char) -> &'a Path {
    // SAFETY: passed on to the caller.
    Path::new(OsStr::from_bytes(
        unsafe { CStr::from_ptr(path) }.to_bytes(),
    ))
}
