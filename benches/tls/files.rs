//! What is moved, and where to: all in memory, so that no disk is measured.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{bytes, number};

/// The files of one run.
pub(crate) struct Files {
    /// What the servers serve.
    pub(crate) root: PathBuf,
    /// The file as it is on the wire, and as servers keep it.
    pub(crate) binary: Pair,
    /// The same for text: CRLF on the wire, LF in files.
    pub(crate) text: Pair,
    /// Where downloads go.
    pub(crate) download: PathBuf,
    _directory: TempDir,
}

/// One content at both ends.
pub(crate) struct Pair {
    pub(crate) wire: PathBuf,
    pub(crate) stored: PathBuf,
}

impl Files {
    pub(crate) fn new(mib: u64) -> Self {
        let directory = TempDir::with_prefix_in("ftpgate-bench-", "/dev/shm").unwrap();
        let path = |name: &str| directory.path().join(name);
        let root = path("root");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(&root).unwrap();
        let binary = bytes(1, 1 << 20);
        let lines = lines();
        let crlf = lines.replace('\n', "\r\n");
        let wire = |name: &str| root.join(name);
        let files = Self {
            binary: Pair { wire: wire("binary"), stored: wire("binary") },
            text: Pair { wire: path("crlf"), stored: wire("text") },
            download: path("download"),
            root,
            _directory: directory,
        };
        repeat(&binary, mib, &files.binary.stored);
        repeat(lines.as_bytes(), mib, &files.text.stored);
        repeat(crlf.as_bytes(), mib, &files.text.wire);
        files
    }
}

/// Lines of 40 to 120 characters, a MiB in all.
fn lines() -> String {
    let mut text = String::with_capacity((1 << 20) + 128);
    let mut seed = 0;
    while text.len() < 1 << 20 {
        seed += 1;
        let length = 40 + number(seed, 81);
        text.extend(bytes(seed, length).iter().map(|byte| char::from(b' ' + byte % 95)));
        text.push('\n');
    }
    text.truncate((1 << 20) - 1);
    text.push('\n');
    text
}

fn repeat(content: &[u8], times: u64, path: &Path) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    (0..times).for_each(|_| file.write_all(content).unwrap());
    file.flush().unwrap();
}

/// Panics unless both files hold the same.
pub(crate) fn assert_same(one: &Path, other: &Path) {
    let open = |path: &Path| BufReader::with_capacity(1 << 18, File::open(path).unwrap());
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    let what = format!("{} and {}", one.display(), other.display());
    assert_eq!(length(one), length(other), "{what}");
    let (mut one, mut other) = (open(one), open(other));
    let (mut left, mut right) = (vec![0; 1 << 18], vec![0; 1 << 18]);
    loop {
        let count = one.read(&mut left).unwrap();
        if count == 0 {
            return;
        }
        other.read_exact(&mut right[..count]).unwrap();
        assert!(left[..count] == right[..count], "{what} differ");
    }
}
