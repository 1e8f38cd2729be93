//! Resets signals, so that a command starts with none ignored and none blocked, however the service was started.
#![expect(unsafe_code, reason = "a forked child may use bare system calls alone")]

use std::io;
use std::mem::MaybeUninit;

use nix::libc;

/// The highest number of a signal.
const LAST_SIGNAL: i32 = 64;

/// The signals that the C library reserves for its threads: its functions refuse to set them. A parent that does
/// not use that library may have ignored them.
const LIBC_SIGNALS: [libc::c_int; 2] = [32, 33];

/// Gives all signals their default action and unblocks them, in a child that is about to execute a program.
/// Allocates nothing and takes no lock.
pub(super) fn reset() -> io::Result<()> {
    for signal in 1..=LAST_SIGNAL {
        // The call fails for SIGKILL and SIGSTOP, and for the signals that the C library reserves.
        // SAFETY: a system call.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    for signal in LIBC_SIGNALS {
        let default = [0_u64; 8];
        let size_of_set = LAST_SIGNAL.unsigned_abs() / 8;
        // If a system call filter refuses the call, the signal stays as it is.
        // SAFETY: all zeros is the default action, and the array is longer than what the kernel reads.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                libc::c_ulong::from(size_of_set),
            )
        };
    }
    // Unblocked last: a pending signal would run the service's handler, if that were still set.
    let mut none = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initializes the set that `pthread_sigmask` reads.
    let refused = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    match refused {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
