//! Canaries: the small files that a round-trip probe sends through FTP into the bucket. Each has a
//! name and a content that no other has, on whatever node, in whatever process.

use crate::lock::lock;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// How every canary's name starts; the node's name follows.
const PREFIX: &str = ".ftpgate-probe-";
/// Hexadecimal digits at the end of a name: 16 of the process, 8 of the canary.
const DIGITS: usize = 24;
/// The most bytes of a node's name in it: names of files are limited to 255 almost everywhere.
const NODE_NAME: usize = 150;
/// What line-end and character-set conversions, end-of-file marks and telnet would change.
const DELICATE: &[u8] = b"\r\n\n\r\0\x1a\xff\xff\xf4\xc3\xa4\xe4\t \r";
/// Random bytes after that.
const RANDOM: usize = 500;

/// Makes one process's canaries and knows those that are under way. Clones share that.
#[derive(Debug, Clone)]
pub(super) struct Canaries {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What the names of this node's canaries start with.
    prefix: String,
    process: u64,
    made: AtomicU32,
    under_way: Mutex<HashSet<String>>,
}

/// One canary, under way until it is dropped.
#[derive(Debug)]
pub(super) struct Canary {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
    inner: Arc<Inner>,
}

impl Canaries {
    pub(super) fn new(node: &str) -> Self {
        Self {
            inner: Arc::new(Inner {
                prefix: format!("{PREFIX}{}-", file_name(node)),
                process: fastrand::u64(..),
                made: AtomicU32::new(0),
                under_way: Mutex::default(),
            }),
        }
    }

    pub(super) fn make(&self) -> Canary {
        let inner = &self.inner;
        let number = inner.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{:016x}{number:08x}", inner.prefix, inner.process);
        let content = [
            name.as_bytes(),
            DELICATE,
            &std::array::from_fn::<u8, RANDOM, _>(|_| fastrand::u8(..)),
        ]
        .concat();
        inner.under_way().insert(name.clone());
        Canary { name, content, inner: Arc::clone(inner) }
    }

    /// What the names of this node's canaries start with; another node's may start so, too.
    pub(super) fn prefix(&self) -> &str {
        &self.inner.prefix
    }

    /// Whether this is the name of a canary of this node that no probe here waits for any more.
    pub(super) fn is_left_over(&self, name: &str) -> bool {
        let digits = name.strip_prefix(&self.inner.prefix);
        let is_own = digits.is_some_and(|digits| {
            digits.len() == DIGITS
                && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        });
        is_own && !self.inner.under_way().contains(name)
    }
}

impl Inner {
    fn under_way(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        lock(&self.under_way)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.inner.under_way().remove(&self.name);
    }
}

/// The node's name in characters that every server takes in a file's name. Different names stay
/// different.
fn file_name(node: &str) -> String {
    let mut name = String::new();
    for byte in node.bytes() {
        if name.len() + 3 > NODE_NAME {
            break;
        }
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => name.push(byte.into()),
            byte => name.push_str(&format!("_{byte:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_are_unique() {
        let (here, there) = (Canaries::new("node-a"), Canaries::new("node-a"));
        let canaries = [here.make(), here.make(), there.make(), there.make()];
        let names: HashSet<&str> = canaries.iter().map(|canary| &*canary.name).collect();
        let contents: HashSet<&[u8]> = canaries.iter().map(|canary| &*canary.content).collect();
        assert_eq!((names.len(), contents.len()), (4, 4));
    }

    #[test]
    fn a_name_is_fit_for_any_server() {
        for node in ["node a/b\\..", "ノード", "", &"x".repeat(1000), "a\r\nDELE b"] {
            let canary = Canaries::new(node).make();
            assert!(canary.name.len() <= 255, "{}", canary.name);
            assert!(
                canary
                    .name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)),
                "{}",
                canary.name
            );
        }
    }

    #[test]
    fn only_this_nodes_own_canaries_that_nobody_waits_for_are_left_over() {
        let canaries = Canaries::new("a");
        let canary = canaries.make();
        assert!(!canaries.is_left_over(&canary.name), "under way");
        let name = canary.name.clone();
        drop(canary);
        assert!(canaries.is_left_over(&name));
        let earlier = Canaries::new("a").make();
        assert!(canaries.is_left_over(&earlier.name), "of an earlier process");
        let others = ["a-b", "b", "a_", "A", "a-0123456789abcdef01234567", "a-"];
        for node in others {
            let other = Canaries::new(node).make();
            assert!(!canaries.is_left_over(&other.name), "{}", other.name);
        }
        for name in ["", "report.csv", ".ftpgate-probe-a-", ".ftpgate-probe-a-notes", &name[1..]] {
            assert!(!canaries.is_left_over(name), "{name}");
        }
    }
}
