//! Debug lines, which an operator switches on by their tags while the server runs.

use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use crate::{Debug, find_in_process, text};

/// `TSIsDebugTagSet`, in version 9.
type IsTagSet = unsafe extern "C" fn(tag: *const c_char) -> c_int;
/// `DbgCtl::print`, a static function of the class that replaces it in version 10.
type Print = unsafe extern "C" fn(
    tag: *const c_char,
    file: *const c_char,
    function: *const c_char,
    line: c_int,
    format: *const c_char,
    ...
);
/// The function of that class that returns the state of a tag.
type NewReference = unsafe extern "C" fn(tag: *const c_char) -> *const TagState;

/// `std::pair<char const *const, bool>`: the server writes the `bool` while it runs.
#[repr(C)]
struct TagState {
    tag: *const c_char,
    is_on: AtomicBool,
}

const PRINT: &CStr = c"_ZN6DbgCtl5printEPKcS1_S1_iS1_z";
const NEW_REFERENCE: &CStr = c"_ZN6DbgCtl14_new_referenceEPKc";
const MODE: &CStr = c"_ZN6DbgCtl12_config_modeE";

/// The C++ names of the members of the class that are used.
pub const DEBUG_NAMES: [&str; 3] = [text(PRINT), text(NEW_REFERENCE), text(MODE)];

/// A tag of debug lines.
#[derive(Clone, Copy)]
pub struct DebugTag {
    tag: &'static CStr,
    way: Way,
}

#[derive(Clone, Copy)]
enum Way {
    /// Functions with C names. Without `is_set`, `debug` itself decides what is wanted.
    C {
        debug: Debug,
        is_set: Option<IsTagSet>,
    },
    /// What the inline functions of `DbgCtl` do is done here.
    Cxx {
        print: Print,
        state: &'static TagState,
        mode: &'static AtomicI32,
    },
}

// SAFETY: all that it refers to is there forever, and is atomic or never written.
unsafe impl Send for DebugTag {}
// SAFETY: as above.
unsafe impl Sync for DebugTag {}

impl DebugTag {
    /// `None`: the process has no debug lines.
    pub fn find(tag: &'static CStr) -> Option<Self> {
        // SAFETY: these are the types that Traffic Server declares them with. The state of a tag
        // stays until the reference is released, which is never done.
        unsafe {
            if let Some(debug) = find_in_process::<Debug>(c"TSDebug") {
                let is_set = find_in_process(c"TSIsDebugTagSet");
                let way = Way::C { debug, is_set };
                return Some(Self { tag, way });
            }
            let print = find_in_process(PRINT)?;
            let new: NewReference = find_in_process(NEW_REFERENCE)?;
            let mode: *const AtomicI32 = find_in_process(MODE)?;
            let way = Way::Cxx {
                print,
                state: new(tag.as_ptr()).as_ref()?,
                mode: &*mode,
            };
            Some(Self { tag, way })
        }
    }

    /// Whether the operator wants these lines. (In version 10 an operator can want those of certain
    /// clients only; that counts as no.)
    pub fn is_wanted(&self) -> bool {
        match self.way {
            Way::C { is_set: None, .. } => true,
            Way::C {
                is_set: Some(is_set),
                ..
            } => {
                // SAFETY: the server's function takes a C string, and keeps nothing.
                unsafe { is_set(self.tag.as_ptr()) != 0 }
            }
            Way::Cxx { state, mode, .. } => {
                mode.load(Ordering::Relaxed) & 1 != 0 && state.is_on.load(Ordering::Relaxed)
            }
        }
    }

    /// Writes a line. Ask [`DebugTag::is_wanted`] first: some servers write the line in any case.
    pub fn write(&self, line: &CStr) {
        let (tag, format, line) = (self.tag.as_ptr(), c"%s".as_ptr(), line.as_ptr());
        // SAFETY: the server's functions take C strings, a printf format and what that names:
        // one C string. They keep nothing.
        unsafe {
            match self.way {
                Way::C { debug, .. } => debug(tag, format, line),
                Way::Cxx { print, .. } => {
                    print(tag, c"tssession".as_ptr(), c"".as_ptr(), 0, format, line)
                }
            }
        }
    }
}
