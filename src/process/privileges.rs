//! Who the service is: started by root, it can become a user with fewer rights, once it has opened what
//! only root can.

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

/// A user with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    name: String,
    user: Uid,
    group: Gid,
    /// All of them, the one above as well.
    groups: Vec<Gid>,
}

/// Why the service can't become that user.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nobody has that name.
    #[error("there is no user {0:?}")]
    NoSuchUser(String),
    /// No group has that name.
    #[error("there is no group {0:?}")]
    NoSuchGroup(String),
    /// A number that the system knows no user by.
    #[error("the system knows no user {0}, nor which group is its own: give --group as well")]
    NoGroup(Uid),
    /// Only root may.
    #[error("only root can become user {wanted:?}, and this is {actual}")]
    NotRoot {
        /// The user's name, as it was given.
        wanted: String,
        /// Who asked.
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
    /// The user of that name or number, in `group` if one is given and in its own otherwise, and in
    /// what other groups the system has it in.
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

    /// Opens a file, which becomes this user's. What is not a plain file stays whose it is. Does not wait
    /// for a FIFO's reader, nor, when it is open, for anything else (`O_NONBLOCK`).
    ///
    /// # Errors
    /// When it can't be opened, or root would give away something by it that is somebody else's: the
    /// user may be at home in the directory, and have put there a link to anything.
    pub fn open(&self, options: &mut OpenOptions, path: &Path) -> io::Result<File> {
        if self.user == geteuid() {
            return options.open(path);
        }
        use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
        let file = options
            .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
            .open(path)
            .map_err(|error| match error.raw_os_error() {
                Some(nix::libc::ELOOP) => not_given("it is a symbolic link"),
                _ => error,
            })?;
        if self.is_to_be_given(&file)? {
            self.give(&file)?;
        }
        Ok(file)
    }

    /// Whether root has to give this user the file, to make it the user's.
    ///
    /// # Errors
    /// When root would give away something that is somebody else's.
    pub fn is_to_be_given(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        let owner = Uid::from_raw(metadata.uid());
        let is_given = (owner, metadata.gid()) == (self.user, self.group.as_raw());
        if is_given || self.user == geteuid() || !metadata.is_file() {
            return Ok(false);
        }
        if owner != self.user && !owner.is_root() {
            return Err(not_given("it is another user's"));
        }
        if metadata.nlink() > 1 {
            return Err(not_given("it has another name as well"));
        }
        Ok(true)
    }

    /// Makes what is open this user's.
    ///
    /// # Errors
    /// When that is refused.
    pub fn give(&self, open: impl AsFd) -> io::Result<()> {
        let (user, group) = (self.user.as_raw(), self.group.as_raw());
        // By `chownat`, as `fchown` knows no descriptors that are a place alone (`O_PATH`).
        let (user, group) = (
            Some(OwnerId::from_raw(user)),
            Some(GroupId::from_raw(group)),
        );
        Ok(chownat(open, "", user, group, AtFlags::EMPTY_PATH)?)
    }

    /// Becomes this user, all threads of this process, for good.
    ///
    /// # Errors
    /// When the system refuses it: the process must end then, as it may be half-way.
    pub fn assume(&self) -> Result<(), IdentityError> {
        if !geteuid().is_root() {
            // It is ours already: see `of`.
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

    /// What it is called, for the log.
    #[must_use]
    pub fn describe(&self) -> String {
        let groups: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        format!("user {} in groups {}", self.name, groups.join(", "))
    }
}

fn not_given(why: &str) -> io::Error {
    let text = format!("{why}, and root does not give such a one away (--user)");
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// The number, and what else the system knows of the user.
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

/// Who this process is, for people.
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
    fn a_user_or_group_that_is_not_there_is_named() {
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
    fn who_one_is_already_one_can_become_without_being_root() {
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
