//! Closes the descriptors that a forked process has inherited, by whichever way the kernel allows. Nothing here
//! allocates or takes a lock.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};

use nix::libc;
use rustix::fs::{Mode, OFlags, RawDir, open};
use rustix::process::{Resource, getrlimit};

/// Where the kernel lists this process's descriptors.
const DESCRIPTOR_LIST: &CStr = c"/proc/self/fd";

/// Descriptors from this number on are not closed if neither `close_range` nor the list is available.
const MAX_DESCRIPTORS: RawFd = 1 << 20;

/// Closes all descriptors except `keep`.
///
/// # Safety
/// Nothing in this process may use any of the others afterwards.
pub(super) unsafe fn close_all_but(keep: RawFd) {
    // Seccomp filters older than `close_range` refuse it with EPERM, old kernels with ENOSYS.
    // SAFETY: as the caller says.
    unsafe {
        if !close_by_range(keep) && !close_by_list(keep) {
            close_by_number(keep);
        }
    }
}

unsafe fn close_by_range(keep: RawFd) -> bool {
    let keep = u32::try_from(keep).unwrap_or(u32::MAX);
    let below = keep.checked_sub(1).map(|last| (0, last));
    let above = keep.checked_add(1).map(|first| (first, u32::MAX));
    let mut ranges = [below, above].into_iter().flatten();
    // By number: an old C library has no `close_range`.
    // SAFETY: as the caller says.
    ranges.all(|(first, last)| unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 })
}

unsafe fn close_by_list(keep: RawFd) -> bool {
    // Frees a descriptor for opening the list, however many are open.
    for descriptor in 0..=2 {
        // SAFETY: as the caller says.
        unsafe { close_unless(descriptor, keep) };
    }
    let Ok(list) = open(
        DESCRIPTOR_LIST,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    ) else {
        return false;
    };
    let own = list.as_raw_fd();
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&list, &mut buffer);
    while let Some(entry) = entries.next() {
        let Ok(entry) = entry else { return false };
        let name = entry.file_name().to_str().ok();
        if let Some(descriptor) = name.and_then(|name| name.parse().ok())
            && descriptor != own
        {
            // The kernel lists descriptors by number, so closing one does not disturb the iteration.
            // SAFETY: as the caller says.
            unsafe { close_unless(descriptor, keep) };
        }
    }
    true
}

unsafe fn close_by_number(keep: RawFd) {
    // The hard limit, since the soft limit may have been higher when a descriptor was opened.
    let limit = getrlimit(Resource::Nofile).maximum;
    let limit = limit.and_then(|limit| RawFd::try_from(limit).ok());
    for descriptor in 0..limit.map_or(MAX_DESCRIPTORS, |limit| limit.min(MAX_DESCRIPTORS)) {
        // SAFETY: as the caller says.
        unsafe { close_unless(descriptor, keep) };
    }
}

unsafe fn close_unless(descriptor: RawFd, keep: RawFd) {
    if descriptor != keep {
        // SAFETY: as the caller says.
        unsafe { libc::close(descriptor) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Whether a forked child could still write to `keep` after closing the others, and whether any other
    /// was still open.
    fn left_by(close: unsafe fn(RawFd)) -> [bool; 2] {
        let (mut told, mut tell) = std::io::pipe().unwrap();
        let others: Vec<_> = (0..100).map(|_| std::io::pipe().unwrap()).collect();
        // SAFETY: the child makes system calls alone, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: nothing uses what is closed.
            unsafe { close(tell.as_raw_fd()) };
            let others = others
                .iter()
                .flat_map(|(one, other)| [one.as_raw_fd(), other.as_raw_fd()]);
            // SAFETY: a system call that changes nothing.
            let is_open = |descriptor| unsafe { libc::fcntl(descriptor, libc::F_GETFD) } != -1;
            let open = [0, 1, 2, told.as_raw_fd()]
                .into_iter()
                .chain(others)
                .any(is_open);
            let wrote = tell.write_all(&[u8::from(open)]);
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(i32::from(wrote.is_err())) }
        }
        drop(tell);
        let mut said = Vec::new();
        told.read_to_end(&mut said).unwrap();
        // SAFETY: a system call; the child is ours.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        [said.len() == 1, said == [1]]
    }

    #[test]
    fn each_way_closes_all_but_the_one() {
        unsafe fn by_range(keep: RawFd) {
            // SAFETY: as the caller says.
            unsafe { close_by_range(keep) };
        }
        unsafe fn by_list(keep: RawFd) {
            // SAFETY: as the caller says.
            unsafe { close_by_list(keep) };
        }
        for close in [by_range, by_list, close_by_number, close_all_but] {
            assert_eq!(left_by(close), [true, false]);
        }
    }
}
