//! Memory for secrets: whole pages from the system, which core dumps leave out.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use smallvec::SmallVec;
use zeroize::Zeroize;

use super::system;

/// A private mapping, all zero at first. Core dumps do not contain it, if the system can leave
/// pages out (Linux 3.4).
struct Mapping {
    start: NonNull<u8>,
    /// 0: there is no mapping.
    len: usize,
}

impl Default for Mapping {
    fn default() -> Self {
        Self {
            start: NonNull::dangling(),
            len: 0,
        }
    }
}

// SAFETY: the memory belongs to this value alone, on any thread.
unsafe impl Send for Mapping {}
// SAFETY: a shared mapping is only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `None` if the system has no memory for it.
    fn new(len: usize) -> Option<Self> {
        if len == 0 {
            return Some(Self::default());
        }
        // SAFETY: a new mapping touches no other memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
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
        // Memory that refuses the advice is still usable.
        new.advise(libc::MADV_DONTDUMP);
        Some(new)
    }

    /// Makes it longer, and may move it. The advice stays. `false` if the system has no memory.
    fn grow(&mut self, len: usize) -> bool {
        let start = self.start.as_ptr().cast();
        // SAFETY: the mapping belongs to this value alone. `self` is borrowed mutably, so there is
        // no reference into it.
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

    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping, if there is one, has this length and lives as long as `self`. Nobody
        // writes to it meanwhile.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        // SAFETY: nobody can have a reference into the mapping any more.
        let done = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        if done != 0 {
            // Unmapping would have split one of the system's ranges, and there are too many of
            // those. Only address space is lost.
            system::wipe(self.bytes_mut());
        }
    }
}

/// Bytes that can grow. The system wipes them at the end.
#[derive(Default)]
pub struct Pages(Mapping);

impl Pages {
    /// Makes room for so many bytes; added bytes are zero. `false` if the system has no memory:
    /// nothing has changed then.
    pub fn grow(&mut self, len: usize) -> bool {
        let Some(len) = len.max(1).checked_next_multiple_of(page_size()) else {
            return false;
        };
        if self.0.len > 0 {
            return self.0.len >= len || self.0.grow(len);
        }
        let Some(mapping) = Mapping::new(len) else {
            return false;
        };
        // A huge page would be cleared in one go, under a lock of the cache, and would stay
        // resident for a few sessions.
        mapping.advise(libc::MADV_NOHUGEPAGE);
        self.0 = mapping;
        true
    }

    /// Gives whole pages from this byte on back to the system; they are zero then. Returns the
    /// first byte given back, or `None` if nothing has changed.
    pub fn give_back_from(&mut self, from: usize) -> Option<usize> {
        let from = from.checked_next_multiple_of(page_size())?;
        let rest = self.0.bytes_mut().get_mut(from..)?;
        if rest.is_empty() {
            return None;
        }
        // SAFETY: the range is the rest of this mapping, in whole pages, and any content is valid.
        let done =
            unsafe { libc::madvise(rest.as_mut_ptr().cast(), rest.len(), libc::MADV_DONTNEED) };
        (done == 0).then_some(from)
    }
}

impl Deref for Pages {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
}

/// Bytes that are wiped at the end. They are not written to swap space either, within the limit on
/// locked memory.
pub struct SecretBytes(Mapping);

impl SecretBytes {
    /// So many bytes, all zero; `None` if the system has no memory for them.
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

    #[inline]
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

/// A copy of secret bytes, wiped when dropped. Up to 1024 bytes need no allocation.
#[derive(Default)]
pub struct SecretCopy(SmallVec<[u8; 1024]>);

/// A copy needs this many bytes.
pub struct TooSmall {
    /// How many.
    pub needed: usize,
}

impl SecretCopy {
    /// The bytes; empty before the copy.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Makes room for so many bytes; `false` if there is no memory.
    pub fn reserve(&mut self, len: usize) -> bool {
        self.0.try_reserve_exact(len).is_ok()
    }

    /// Copies the bytes if there is room for them. Call it once.
    #[inline]
    pub fn fill(&mut self, from: &[u8]) -> Result<(), TooSmall> {
        if from.len() > self.0.capacity() {
            return Err(TooSmall { needed: from.len() });
        }
        self.0.extend_from_slice(from);
        Ok(())
    }
}

impl Drop for SecretCopy {
    fn drop(&mut self) {
        system::wipe(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's flags of the mapping that contains `start`.
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
