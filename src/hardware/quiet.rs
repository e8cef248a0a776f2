//! Silences the TPM software stack's own log, which goes to standard error and would name handles and return codes there.
//!
//! The stack reads `TSS2_LOG` from the C environment at its first message. Setting a variable is only sound while no other
//! thread exists, so it is done before `main`, by the dynamic loader's list of initializers.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};

unsafe extern "C" {
    // POSIX setenv.
    fn setenv(name: *const c_char, value: *const c_char, overwrite: c_int) -> c_int;
}

extern "C" fn silence() {
    // SAFETY: runs once, before main, while the process has a single thread; both strings are NUL-terminated and static.
    // Overwriting: at its louder levels the stack prints what it sends and receives, and no log of ours holds a secret.
    unsafe {
        setenv(c"TSS2_LOG".as_ptr(), c"all+NONE".as_ptr(), 1);
    }
}

// SAFETY: the loader calls every entry of .init_array as a C function; `silence` takes no arguments, cannot unwind, and
// depends on nothing but libc, which the loader initializes first.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = silence;

/// Names the initializer, so that the linker keeps this object file.
pub(crate) fn keep() {
    std::hint::black_box(&BEFORE_MAIN);
}
