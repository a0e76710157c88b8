//! From a place on the upstream to a bucket and a key, as Transfer Family maps home directories.

use crate::config;
use crate::ftp::Place;

/// Where the name of the user goes.
const USER: &str = "${user}";
/// The longest key (Amazon S3 User Guide, "Naming Amazon S3 objects").
const LONGEST_KEY: usize = 1024;

/// An object of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Object {
    /// The bucket's name.
    pub bucket: String,
    /// Its whole key.
    pub key: String,
}

/// All that is known of where directories are.
#[derive(Debug)]
pub(super) struct Directories {
    home: Option<String>,
    /// The longest path first.
    directories: Vec<config::VerifyDirectory>,
}

impl Directories {
    pub(super) fn new(config: &config::Verify) -> Self {
        let mut directories = config.directories.clone();
        directories.sort_by_key(|directory| std::cmp::Reverse(names(&directory.path).count()));
        Self { home: config.home.clone(), directories }
    }

    /// Where a file of this user is, if that is certain.
    pub(super) fn object(&self, user: &[u8], place: &Place) -> Option<Object> {
        let path = std::str::from_utf8(&place.path).ok()?;
        let path = match place.from_home {
            true => format!("{}/{path}", for_user(self.home.as_deref()?, user)?),
            false => path.into(),
        };
        let path: Vec<&str> = names(&path).collect();
        for directory in &self.directories {
            // One that cannot be told for this user might be the right one.
            let below = for_user(&directory.path, user)?;
            let below: Vec<&str> = names(&below).collect();
            let Some(rest) = path.strip_prefix(&*below) else { continue };
            let key = for_user(&directory.prefix, user)? + &rest.join("/");
            let good = !rest.is_empty() && key.len() <= LONGEST_KEY;
            return good.then(|| Object { bucket: directory.bucket.clone(), key });
        }
        None
    }
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// The text with the user's name in it; nothing if that name could be more than one directory's.
fn for_user(text: &str, user: &[u8]) -> Option<String> {
    if !text.contains(USER) {
        return Some(text.into());
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(byte);
    let good = user.iter().all(plain) && !matches!(user, b"" | b"." | b"..");
    good.then(|| text.replace(USER, &String::from_utf8_lossy(user)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn directories(home: Option<&str>, directories: &[(&str, &str, &str)]) -> Directories {
        let directory = |&(path, bucket, prefix): &(&str, &str, &str)| config::VerifyDirectory {
            path: path.into(),
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        Directories::new(&config::Verify {
            home: home.map(str::to_owned),
            wait: Duration::from_secs(1),
            directories: directories.iter().map(directory).collect(),
        })
    }

    #[test]
    fn the_longest_path_that_fits_counts() {
        let logical = &[
            ("/", "files", "home/${user}/"),
            ("/shared/in", "shared", ""),
            ("/shared", "shared", "all/"),
        ];
        let at_home = directories(Some("/"), logical);
        let by_path = &[("/files", "files", "")];
        let below = directories(Some("/files/home/${user}"), by_path);
        let of_each = directories(None, &[("/", "files", ""), ("/own/${user}", "own", "")]);
        let lost = directories(None, logical);
        for (directories, user, from_home, path, expected) in [
            (&at_home, "ann", false, "a.txt", Some("files home/ann/a.txt")),
            (&at_home, "ann", true, "a/b.txt", Some("files home/ann/a/b.txt")),
            (&at_home, "ann", false, "shared/in/x", Some("shared x")),
            (&at_home, "ann", false, "shared/out/x", Some("shared all/out/x")),
            (&at_home, "ann", false, "sharedfile", Some("files home/ann/sharedfile")),
            (&at_home, "ann", false, "shared/in", None),
            (&at_home, "../bob", false, "a.txt", None),
            (&at_home, "..", false, "a.txt", None),
            (&at_home, "../bob", false, "shared/in/x", Some("shared x")),
            (&below, "ann", true, "a.txt", Some("files home/ann/a.txt")),
            (&below, "ann", false, "files/b.txt", Some("files b.txt")),
            (&below, "ann", false, "other/b.txt", None),
            (&of_each, "ann", false, "own/ann/x", Some("own x")),
            (&of_each, "a b", false, "own/a b/x", None),
            (&lost, "ann", true, "a.txt", None),
            (&lost, "ann", false, "a.txt", Some("files home/ann/a.txt")),
        ] {
            let place = Place { from_home, path: path.into() };
            let object = directories.object(user.as_bytes(), &place);
            let shown = object.map(|Object { bucket, key }| format!("{bucket} {key}"));
            assert_eq!(shown.as_deref(), expected, "{user} {from_home} {path}");
        }
    }

    #[test]
    fn a_key_that_s3_cannot_have_is_none() {
        let directories = directories(None, &[("/", "files", "")]);
        for (path, fits) in
            [(vec![b'x'; 1024], true), (vec![b'x'; 1025], false), (vec![255], false)]
        {
            let place = Place { from_home: false, path };
            assert_eq!(directories.object(b"ann", &place).is_some(), fits);
        }
    }
}
