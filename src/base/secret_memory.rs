//! Memory for secrets: whole pages straight from the system, kept out of core dumps.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroize;

/// A mapping of its own, zero at first. Nothing of it comes into a core dump, if the system
/// knows how to leave pages out (Linux 3.4).
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is this value's alone, whatever thread has it.
unsafe impl Send for Mapping {}
// SAFETY: sharing it gives no access to the memory; those who do give access see to that.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `None` when the system has no memory for it.
    fn new(len: usize) -> Option<Self> {
        // SAFETY: a new mapping touches no other memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len.max(1),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = NonNull::new(start.cast())?;
        let new = Self { start, len };
        // What cannot be advised is memory all the same.
        new.advise(0, libc::MADV_DONTDUMP);
        Some(new)
    }

    /// Advises the system about the bytes from `from` on, which is at a page's start.
    fn advise(&self, from: usize, advice: libc::c_int) -> bool {
        // SAFETY: the range is part of this mapping, whose memory is used through atomics
        // and raw bytes only: any content is valid.
        unsafe {
            libc::madvise(
                self.start.as_ptr().add(from).cast(),
                self.len - from,
                advice,
            ) == 0
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody can have a reference into the mapping any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len.max(1)) };
    }
}

/// The words of one cache line.
pub type Line = [AtomicU64; 8];

/// Memory that threads share, in lines.
pub struct Lines(Mapping);

impl Lines {
    /// So many lines, all zero; `None` when the system has no memory for them.
    pub fn new(count: usize) -> Option<Self> {
        let mapping = Mapping::new(count.checked_mul(size_of::<Line>())?)?;
        // A huge page would be cleared in one go, under a lock of the cache, and stay
        // resident for the sake of a few sessions.
        mapping.advise(0, libc::MADV_NOHUGEPAGE);
        Some(Self(mapping))
    }

    /// Gives the memory of the lines from `from` on back to the system. They are zero then.
    pub fn discard(&self, from: usize) {
        let start = from * size_of::<Line>();
        let whole_pages = start.next_multiple_of(page_size()).min(self.0.len);
        let (_, lines) = self.split_at(from);
        let kept = lines.iter().take((whole_pages - start) / size_of::<Line>());
        kept.flatten()
            .for_each(|word| word.store(0, Ordering::Relaxed));
        if whole_pages < self.0.len && !self.0.advise(whole_pages, libc::MADV_DONTNEED) {
            let words = lines.iter().flatten();
            words.for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        let count = self.0.len / size_of::<Line>();
        // SAFETY: the mapping is so long, aligned to pages, lives as long as `self`, and any
        // content is valid for atomic words.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr().cast(), count) }
    }
}

/// Bytes that are wiped at the end. They are not written to swap space either, as far as the
/// limit on locked memory goes.
pub struct SecretBytes(Mapping);

impl SecretBytes {
    /// So many bytes, all zero; `None` when the system has no memory for them.
    pub fn new(len: usize) -> Option<Self> {
        let mapping = Mapping::new(len)?;
        // SAFETY: locking changes nothing that is in the memory. Beyond the limit it fails, and
        // the memory is as good as any other.
        unsafe { libc::mlock(mapping.start.as_ptr().cast(), mapping.len) };
        Some(Self(mapping))
    }
}

impl Deref for SecretBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is so long and lives as long as `self`, and nobody writes
        // to it meanwhile.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.len) }
    }
}

impl DerefMut for SecretBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.len) }
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({})", self.0.len)
    }
}

fn page_size() -> usize {
    // SAFETY: may be called at any time.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(1 << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says of the mapping that `start` is in.
    fn flags(start: *const u8) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().unwrap().split_once('-');
            let hex = |text| usize::from_str_radix(text, 16).ok();
            if let Some((Some(from), Some(to))) = range.map(|(from, to)| (hex(from), hex(to))) {
                inside = (from..to).contains(&start.addr());
            }
            if let Some(flags) = line.strip_prefix("VmFlags:")
                && inside
            {
                return format!("{flags} ");
            }
        }
        panic!("{start:?} is not mapped");
    }

    #[test]
    fn no_secret_is_dumped_and_bytes_are_locked() {
        let lines = Lines::new(64).unwrap();
        assert!(flags(lines.as_ptr().cast()).contains(" dd "));
        let bytes = SecretBytes::new(48).unwrap();
        let flags = flags(bytes.as_ptr());
        assert!(flags.contains(" dd ") && flags.contains(" lo "), "{flags}");
    }

    #[test]
    fn what_is_discarded_is_zero_and_the_rest_stays() {
        for (count, from) in [
            (256, 0),
            (256, 1),
            (256, 64),
            (256, 100),
            (256, 255),
            (3, 1),
            (0, 0),
        ] {
            let lines = Lines::new(count).unwrap();
            assert_eq!(lines.len(), count);
            let fill = |word: &AtomicU64| word.store(7, Ordering::Relaxed);
            lines.iter().flatten().for_each(fill);
            lines.discard(from);
            for (at, word) in lines
                .iter()
                .enumerate()
                .flat_map(|(at, line)| line.iter().map(move |word| (at, word)))
            {
                let expected = if at < from { 7 } else { 0 };
                assert_eq!(
                    word.load(Ordering::Relaxed),
                    expected,
                    "{count} {from} {at}"
                );
            }
        }
    }
}
