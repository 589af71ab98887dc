//! The C boundary. The exported functions are in [`ts`] (the five of the manual
//! page), [`cxx`] (the same under C++ names), [`host`] (for the owner of the
//! `SSL_CTX`) and [`plugin`] (for Traffic Server). They only translate. No code of the library
//! calls them: in a host that defines the same names, the call would land in the host.

#![allow(non_camel_case_types, non_snake_case)] // The names are the C API's.

pub mod cxx;
pub mod host;
pub mod plugin;
mod sessions;
pub mod ts;
pub mod types;
