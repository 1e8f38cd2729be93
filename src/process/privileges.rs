//! The service's user: a service that root has started can become another user once it has opened the files that
//! only root can open.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, getgrouplist, setgid, setgroups, setuid,
};
use rustix::fs::{AtFlags, chownat};
use rustix::process::{Gid as GroupId, Uid as OwnerId};

/// A user and its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    name: String,
    user: Uid,
    group: Gid,
    /// All groups, including the primary one.
    groups: Vec<Gid>,
}

/// Why the service can't become that user.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no user of that name.
    #[error("there is no user {0:?}")]
    NoSuchUser(String),
    /// There is no group of that name.
    #[error("there is no group {0:?}")]
    NoSuchGroup(String),
    /// The system knows no user with that number, so the group is unknown.
    #[error("the system knows no user {0}, nor which group is its own: give --group as well")]
    NoGroup(Uid),
    /// Only root can become another user.
    #[error("only root can become user {wanted:?}, and this is {actual}")]
    NotRoot {
        /// The user's name, as it was given.
        wanted: String,
        /// The user of this process.
        actual: String,
    },
    /// The system's list of users can't be read, or a change was refused.
    #[error("can't become user {0:?}: {1}")]
    System(String, Errno),
    /// The user could become root again.
    #[error("can't become user {0:?}: it could become root again")]
    Reversible(String),
}

impl Identity {
    /// The user of that name or number, with `group` as its primary group, or its own one if none is given, and the
    /// other groups that the system lists for it.
    ///
    /// # Errors
    /// When there is no such user or group, or this process can't become it.
    pub fn of(user: &str, group: Option<&str>) -> Result<Self, IdentityError> {
        let refused = |errno| IdentityError::System(user.to_owned(), errno);
        let (uid, entry) = find_user(user).map_err(refused)?;
        let uid = uid.ok_or_else(|| IdentityError::NoSuchUser(user.to_owned()))?;
        let group = match (group, &entry) {
            (Some(group), _) => find_group(group)
                .map_err(refused)?
                .ok_or_else(|| IdentityError::NoSuchGroup(group.to_owned()))?,
            (None, Some(entry)) => entry.gid,
            (None, None) => return Err(IdentityError::NoGroup(uid)),
        };
        let groups = match &entry {
            Some(entry) => groups_of(&entry.name, group).map_err(refused)?,
            None => vec![group],
        };
        let identity = Self {
            name: user.to_owned(),
            user: uid,
            group,
            groups,
        };
        if geteuid().is_root() || identity.is_ours() {
            return Ok(identity);
        }
        Err(IdentityError::NotRoot {
            wanted: identity.name,
            actual: this_user(),
        })
    }

    /// Whether this process is that user already.
    fn is_ours(&self) -> bool {
        geteuid() == self.user && getegid() == self.group
    }

    /// Opens a file, and gives it to this user if it is a regular file. Waits neither for a FIFO's reader nor, once
    /// it is open, for anything else (`O_NONBLOCK`).
    ///
    /// # Errors
    /// When it can't be opened, or root would give away another user's file: if the user can write to the
    /// directory, it may have put a link to any file there.
    pub fn open(&self, options: &mut OpenOptions, path: &Path) -> io::Result<File> {
        if self.user == geteuid() {
            return options.open(path);
        }
        use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
        let file = options
            .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
            .open(path)
            .map_err(|error| match error.raw_os_error() {
                Some(nix::libc::ELOOP) => refuse_to_give("it is a symbolic link"),
                _ => error,
            })?;
        if self.must_be_given(&file)? {
            self.give(&file)?;
        }
        Ok(file)
    }

    /// Whether root must give the file to this user: it is a regular file, and not the user's yet.
    ///
    /// # Errors
    /// When root would give away another user's file.
    pub fn must_be_given(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        let owner = Uid::from_raw(metadata.uid());
        let is_theirs = (owner, metadata.gid()) == (self.user, self.group.as_raw());
        if is_theirs || self.user == geteuid() || !metadata.is_file() {
            return Ok(false);
        }
        if owner != self.user && !owner.is_root() {
            return Err(refuse_to_give("it is another user's"));
        }
        if metadata.nlink() > 1 {
            return Err(refuse_to_give("it has another name as well"));
        }
        Ok(true)
    }

    /// Gives the open file to this user.
    ///
    /// # Errors
    /// When that is refused.
    pub fn give(&self, open: impl AsFd) -> io::Result<()> {
        let (user, group) = (self.user.as_raw(), self.group.as_raw());
        // By `chownat`, since `fchown` refuses descriptors of `O_PATH`.
        let (user, group) = (
            Some(OwnerId::from_raw(user)),
            Some(GroupId::from_raw(group)),
        );
        Ok(chownat(open, "", user, group, AtFlags::EMPTY_PATH)?)
    }

    /// Makes all threads of this process run as this user, irrevocably.
    ///
    /// # Errors
    /// When the system refuses it. The process must exit then, since it may have changed only its groups.
    pub fn assume(&self) -> Result<(), IdentityError> {
        if !geteuid().is_root() {
            // This process is that user already: see `of`.
            return Ok(());
        }
        let refused = |errno| IdentityError::System(self.name.clone(), errno);
        // In this order: only root may change groups.
        setgroups(&self.groups).map_err(refused)?;
        setgid(self.group).map_err(refused)?;
        setuid(self.user).map_err(refused)?;
        if !self.user.is_root() && setuid(Uid::from_raw(0)).is_ok() {
            return Err(IdentityError::Reversible(self.name.clone()));
        }
        Ok(())
    }

    /// The user and its groups, for the log.
    #[must_use]
    pub fn describe(&self) -> String {
        let groups: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        format!("user {} in groups {}", self.name, groups.join(", "))
    }
}

fn refuse_to_give(why: &str) -> io::Error {
    let text = format!("{why}, and root does not give such a one away (--user)");
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// The user's number, and its entry in the system's list of users.
fn find_user(name: &str) -> Result<(Option<Uid>, Option<User>), Errno> {
    if let Some(user) = User::from_name(name)? {
        return Ok((Some(user.uid), Some(user)));
    }
    let Ok(number) = name.parse().map(Uid::from_raw) else {
        return Ok((None, None));
    };
    Ok((Some(number), User::from_uid(number)?))
}

fn find_group(name: &str) -> Result<Option<Gid>, Errno> {
    let group = Group::from_name(name)?.map(|group| group.gid);
    Ok(group.or_else(|| name.parse().map(Gid::from_raw).ok()))
}

fn groups_of(name: &str, group: Gid) -> Result<Vec<Gid>, Errno> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    getgrouplist(&name, group)
}

/// The user of this process, for messages.
#[must_use]
pub fn this_user() -> String {
    let uid = geteuid();
    let known = User::from_uid(uid).ok().flatten();
    known.map_or_else(
        || format!("user {uid}"),
        |user| format!("user {:?}", user.name),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_or_group_is_named() {
        let error = Identity::of("no such user", None).unwrap_err();
        assert_eq!(error.to_string(), r#"there is no user "no such user""#);
        let error = Identity::of("root", Some("no such group")).unwrap_err();
        assert_eq!(error.to_string(), r#"there is no group "no such group""#);
        let error = Identity::of("4294967000", None).unwrap_err();
        assert!(error.to_string().contains("give --group"), "{error}");
    }

    #[test]
    fn names_and_numbers_mean_the_same() {
        let (uid, gid) = (geteuid(), getegid());
        let by_number = Identity::of(&uid.to_string(), Some(&gid.to_string())).unwrap();
        let name = User::from_uid(uid).unwrap().unwrap().name;
        let by_name = Identity::of(&name, None).unwrap();
        assert_eq!(by_name.user, by_number.user);
        assert!(by_name.groups.contains(&gid) && by_number.groups.contains(&gid));
    }

    #[test]
    fn a_process_can_become_its_own_user_without_being_root() {
        let (uid, gid) = (geteuid(), getegid());
        let identity = Identity::of(&uid.to_string(), Some(&gid.to_string())).unwrap();
        assert!(identity.is_ours());
        if !uid.is_root() {
            assert!(identity.assume().is_ok());
            let error = Identity::of("root", None).unwrap_err();
            assert!(error.to_string().contains("only root"), "{error}");
        }
    }
}
