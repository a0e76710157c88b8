//! The file is there wholly or not at all, and takes nobody else's place unless it is told to.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process;

use crate::cli::node::Trouble;

/// Everybody may read it: no password is in it.
const MODE: u32 = 0o644;

/// Writes a new file, or another one in its place with `force`.
pub(super) fn write(path: &Path, text: &str, force: bool) -> Result<(), Trouble> {
    let temporary = beside(path);
    // What an earlier run of the same number has left.
    let _ = fs::remove_file(&temporary);
    let written = fill(&temporary, text).and_then(|()| {
        if force {
            fs::rename(&temporary, path)
        } else {
            // Unlike a rename it fails if there is one by now.
            fs::hard_link(&temporary, path)
        }
    });
    // After a rename there is none.
    let _ = fs::remove_file(&temporary);
    let written = written.and_then(|()| File::open(directory(path))?.sync_all());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        io::ErrorKind::NotFound => Trouble::Refused(format!(
            "{}: there is no such directory: make it first",
            directory(path).display()
        )),
        io::ErrorKind::PermissionDenied => Trouble::Refused(format!(
            "{}: you may not write there: run this as root, or name another file with --output",
            path.display()
        )),
        _ => Trouble::Refused(format!("{}: {error}", path.display())),
    })
}

/// It is there, and stays as it is.
pub(super) fn exists(path: &Path) -> Trouble {
    Trouble::Refused(format!(
        "{} is there already: --force replaces it, and --output names another file",
        path.display()
    ))
}

fn fill(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    // Whatever the umask: the service has a user of its own.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A name in the same directory that nobody else has.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    directory(path).join(format!(".{name}.{}", process::id()))
}

fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_appears_meanwhile_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ftpgate.toml");
        fs::write(&path, "theirs").unwrap();
        fs::write(beside(&path), "left behind by who had our number").unwrap();
        let Err(Trouble::Refused(why)) = write(&path, "ours", false) else { panic!() };
        assert!(why.contains("--force"), "{why}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert!(write(&path, "ours", true).is_ok());
        assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
