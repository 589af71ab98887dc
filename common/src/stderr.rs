//! Log lines on stderr, for a host without log functions.

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file that stderr was when the library was loaded: device and inode, or 0 and 0 for none.
static AT_LOAD: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Notes the file that stderr is, for [`write()`].
pub fn note() {
    if let Some(file) = stderr_that_survives_exec() {
        AT_LOAD[0].store(file.st_dev, Ordering::Relaxed);
        AT_LOAD[1].store(file.st_ino, Ordering::Relaxed);
    }
}

/// The file that stderr is, if an exec would pass it on. If a host has closed stderr, the next file
/// that it opens gets its number. Most libraries open files so that no exec passes them on: such a
/// file is not stderr. The stderr that a process begins with is passed on, and so is a file that dup2
/// or freopen puts in its place.
fn stderr_that_survives_exec() -> Option<libc::stat> {
    // SAFETY: a structure of numbers, which is written to; the rest only asks.
    unsafe {
        let mut file = mem::zeroed();
        let flags = libc::fcntl(libc::STDERR_FILENO, libc::F_GETFD);
        (flags >= 0
            && flags & libc::FD_CLOEXEC == 0
            && libc::fstat(libc::STDERR_FILENO, &mut file) == 0)
            .then_some(file)
    }
}

/// Whether log lines can go to stderr: never if there was no stderr when the library was loaded, and
/// not if it has become a connection since.
fn is_for_lines() -> bool {
    let at_load = AT_LOAD.each_ref().map(|it| it.load(Ordering::Relaxed));
    at_load != [0, 0]
        && stderr_that_survives_exec().is_some_and(|file| {
            at_load == [file.st_dev, file.st_ino] || file.st_mode & libc::S_IFMT != libc::S_IFSOCK
        })
}

/// Writes a line to stderr, if lines can go there. Writes it in one piece and without a lock, because
/// another thread may have held a lock when this process was forked. If stderr is a pipe that has no
/// reader any more, the signal of the kernel does not reach the host.
pub fn write(line: &[u8]) {
    if !is_for_lines() {
        return;
    }
    // SAFETY: the sets are initialized before they are read; the pointer and the length are those of
    // `line`. A failure cannot be reported anywhere.
    unsafe {
        let mut pipe = mem::zeroed();
        let mut before = mem::zeroed();
        let mut pending = mem::zeroed();
        libc::sigemptyset(&mut pipe);
        libc::sigaddset(&mut pipe, libc::SIGPIPE);
        libc::sigpending(&mut pending);
        let was_pending = libc::sigismember(&pending, libc::SIGPIPE) == 1;
        libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, &mut before);
        let written = libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        if written < 0 && *libc::__errno_location() == libc::EPIPE && !was_pending {
            let at_once = mem::zeroed();
            libc::sigtimedwait(&pipe, ptr::null_mut(), &at_once);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
    }
}
