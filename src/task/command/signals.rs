//! A command begins with no signal ignored and none blocked, whatever the service was started with.
#![expect(unsafe_code, reason = "a forked child may use bare system calls alone")]

use std::io;
use std::mem::MaybeUninit;

use nix::libc;

/// The highest number of a signal.
const LAST_SIGNAL: i32 = 64;

/// Those that the C library keeps for its threads, and lets nobody set. A caller without that library may have
/// ignored them.
const LIBC_SIGNALS: [libc::c_int; 2] = [32, 33];

/// Gives all signals of this process, which is about to become another program, their default action, and
/// blocks none. Allocates nothing and takes no lock.
pub(super) fn reset() -> io::Result<()> {
    for signal in 1..=LAST_SIGNAL {
        // Refused for SIGKILL and SIGSTOP, and for those that are the C library's own.
        // SAFETY: a system call.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    for signal in LIBC_SIGNALS {
        let default = [0_u64; 8];
        let size_of_set = LAST_SIGNAL.unsigned_abs() / 8;
        // Refused by a filter of system calls, it stays as it is.
        // SAFETY: all zeros is the default action, and there are more than the kernel reads.
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
    // After the handlers of the service are gone, which a pending signal would run.
    let mut none = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initializes the set that is given to the other.
    let refused = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    match refused {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
