//! Memory for secrets: whole pages straight from the system, kept out of core dumps.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use zeroize::Zeroize;

use super::system;

/// A mapping of its own, zero at first. Nothing of it comes into a core dump, if the system
/// knows how to leave pages out (Linux 3.4).
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is this value's alone, whatever thread has it.
unsafe impl Send for Mapping {}
// SAFETY: a shared mapping is only read.
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
        new.advise(libc::MADV_DONTDUMP);
        Some(new)
    }

    /// Makes it longer, somewhere else maybe; advice stays. `false` when the system has no memory
    /// for that.
    fn grow(&mut self, len: usize) -> bool {
        let start = self.start.as_ptr().cast();
        // SAFETY: the mapping is this value's alone, and as `self` is borrowed mutably, there is no
        // reference into it.
        let moved = unsafe { libc::mremap(start, self.len, len, libc::MREMAP_MAYMOVE) };
        match NonNull::new(moved.cast()) {
            Some(start) if moved != libc::MAP_FAILED => {
                (self.start, self.len) = (start, len);
                true
            }
            _ => false,
        }
    }

    fn advise(&self, advice: libc::c_int) {
        // SAFETY: the range is this mapping; the advice given here changes no content.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, advice) };
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is so long and lives as long as `self`, and nobody writes to it
        // meanwhile.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody can have a reference into the mapping any more.
        let done = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len.max(1)) };
        if done != 0 {
            // It split one of the system's ranges, of which there are enough. What is lost is
            // the address space only.
            system::wipe(self.bytes_mut());
        }
    }
}

/// Bytes of which there can come to be more. The system wipes them at the end.
#[derive(Default)]
pub struct Pages(Option<Mapping>);

impl Pages {
    /// Makes sure that there are so many bytes; what comes to those there are is zero. `false` when
    /// the system has no memory for them: nothing has changed.
    pub fn grow(&mut self, len: usize) -> bool {
        let Some(len) = len.max(1).checked_next_multiple_of(page_size()) else {
            return false;
        };
        match &mut self.0 {
            Some(mapping) => mapping.len >= len || mapping.grow(len),
            None => {
                self.0 = Mapping::new(len);
                // A huge page would be cleared in one go, under a lock of the cache, and stay
                // resident for the sake of a few sessions.
                self.0.as_ref().is_some_and(|mapping| {
                    mapping.advise(libc::MADV_NOHUGEPAGE);
                    true
                })
            }
        }
    }
}

impl Pages {
    /// Gives the memory of whole pages from this byte on back to the system: they are zero then. Returns
    /// the first byte of them; `None` when nothing has changed.
    pub fn give_back_from(&mut self, from: usize) -> Option<usize> {
        let from = from.checked_next_multiple_of(page_size())?;
        let mapping = self.0.as_mut()?;
        let rest = mapping.bytes_mut().get_mut(from..)?;
        // SAFETY: the range is the rest of this mapping, in whole pages, and any content is valid.
        let done =
            unsafe { libc::madvise(rest.as_mut_ptr().cast(), rest.len(), libc::MADV_DONTNEED) };
        (done == 0).then_some(from)
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], Mapping::bytes)
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], Mapping::bytes_mut)
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
        self.0.bytes()
    }
}

impl DerefMut for SecretBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
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
        let mut pages = Pages::default();
        for len in [4096, 1 << 20] {
            assert!(pages.grow(len));
            assert!(
                flags(pages.as_ptr()).contains(" dd ") && flags(pages.as_ptr()).contains(" nh ")
            );
            assert!(flags(&raw const pages[pages.len() - 1]).contains(" dd "));
        }
        let bytes = SecretBytes::new(48).unwrap();
        let flags = flags(bytes.as_ptr());
        assert!(flags.contains(" dd ") && flags.contains(" lo "), "{flags}");
    }

    #[test]
    fn pages_that_grow_keep_what_is_in_them() {
        let mut pages = Pages::default();
        assert!(pages.is_empty() && pages.grow(1));
        pages.fill(7);
        let len = pages.len();
        assert!(pages.grow(len * 100));
        assert!(pages[..len].iter().all(|byte| *byte == 7));
        assert!(pages[len..].iter().all(|byte| *byte == 0));
        assert!(pages.len() >= len * 100);
        let len = pages.len();
        assert!(!pages.grow(usize::MAX) && !pages.grow(1 << 60));
        assert!(pages.len() == len && pages[0] == 7 && pages.grow(0));
        let page = page_size();
        pages.fill(7);
        assert_eq!(pages.give_back_from(page + 1), Some(2 * page));
        assert!(pages[..2 * page].iter().all(|byte| *byte == 7));
        assert!(pages[2 * page..].iter().all(|byte| *byte == 0));
        assert_eq!(pages.give_back_from(len + 1), None);
        assert_eq!(Pages::default().give_back_from(0), None);
    }
}
