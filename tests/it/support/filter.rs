//! Processes to which a system call is refused.
#![expect(
    unsafe_code,
    reason = "a filter is set between fork and exec, by bare system calls"
)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc::{self, c_long, c_ulong, sock_filter, sock_fprog};

/// Makes the command start under a seccomp filter that refuses this system call with this error.
pub fn refuse(command: &mut Command, call: c_long, error: i32) -> &mut Command {
    let refuse = libc::SECCOMP_RET_ERRNO | u32::try_from(error).unwrap();
    let number = u32::try_from(call).unwrap();
    let [load, jump, end] = [
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    ]
    .map(|code| u16::try_from(code).unwrap());
    let step = |code, jf, k| sock_filter { code, jt: 0, jf, k };
    let mut steps = [
        step(load, 0, 0),
        step(jump, 1, number),
        step(end, 0, refuse),
        step(end, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let filter = sock_fprog {
            len: 4,
            filter: steps.as_mut_ptr(),
        };
        let (one, none): (c_ulong, c_ulong) = (1, 0);
        // SAFETY: two system calls; the filter outlives them.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, none, none, none) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) == 0
        };
        installed.then_some(()).ok_or_else(io::Error::last_os_error)
    };
    // SAFETY: it makes only system calls, which is allowed between fork and exec.
    unsafe { command.pre_exec(install) }
}
