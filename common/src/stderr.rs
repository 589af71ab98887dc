//! Log lines for stderr, where a host has no function for them.

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file that stderr was when the library was loaded: device and inode; 0 and 0: none.
static AT_LOAD: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Notes what stderr is, for [`write()`].
pub fn note() {
    if let Some(file) = stderr_that_survives_exec() {
        AT_LOAD[0].store(file.st_dev, Ordering::Relaxed);
        AT_LOAD[1].store(file.st_ino, Ordering::Relaxed);
    }
}

/// What stderr is. Where a host has closed it, the next file that it opens has its number, which
/// most libraries open so that no exec passes it on: that is none. What a process begins with,
/// and what dup2 and freopen put in its place, is passed on.
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

/// Whether stderr is for log lines: never if there was none when the library was loaded, and not
/// if it has become a connection since.
fn is_for_lines() -> bool {
    let at_load = AT_LOAD.each_ref().map(|it| it.load(Ordering::Relaxed));
    at_load != [0, 0]
        && stderr_that_survives_exec().is_some_and(|file| {
            at_load == [file.st_dev, file.st_ino] || file.st_mode & libc::S_IFMT != libc::S_IFSOCK
        })
}

/// Writes a line to stderr, if that is for lines, in one piece and without a lock: another thread
/// may have held one when this process was forked. If nobody reads stderr any more, the
/// signal that the kernel sends is not for the host to die of.
pub fn write(line: &[u8]) {
    if !is_for_lines() {
        return;
    }
    // SAFETY: the sets are initialized before they are read; the pointer and the
    // length are those of `line`. A failure has nobody to tell.
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
