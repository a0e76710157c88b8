//! The name of a batch: when its first line was recorded, which process wrote it, and which of its
//! batches it is. It tells them apart for ever, and sorts them by age.

use std::fmt::Write as _;
use std::time::SystemTime;

use humantime::parse_rfc3339;

use crate::rfc3339;

const SUFFIX: &str = ".jsonl";
/// `20261128T070551.123Z`
const TIME: usize = 20;

/// `20261128T070551.123Z-0123456789abcdef-000001.jsonl`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(String);

impl Name {
    /// `process` is a number that no two processes share, by chance.
    pub(super) fn new(time: SystemTime, process: u64, number: u32) -> Self {
        let time = rfc3339::text(time).replace(['-', ':'], "");
        Self(format!("{time}-{process:016x}-{number:06}{SUFFIX}"))
    }

    /// Nothing if a file of that name is none of ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = Self(name.into());
        let rest = name.0.strip_suffix(SUFFIX)?.get(TIME..)?;
        let plain = |byte: u8| byte == b'-' || byte.is_ascii_hexdigit();
        name.time()?;
        (rest.starts_with('-') && rest.bytes().all(plain)).then_some(name)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// When its first line was recorded.
    pub(super) fn time(&self) -> Option<SystemTime> {
        let [year, month, day] = self.day()?;
        let at = |range| self.0.get(range);
        let (hour, minute, rest) = (at(9..11)?, at(11..13)?, at(13..TIME)?);
        (at(8..9)? == "T")
            .then(|| parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{rest}")).ok())?
    }

    /// Its key in the bucket, below this prefix. What does not belong into keys is left out of the
    /// node's name: two nodes may look alike then, but their batches do not.
    pub(super) fn key(&self, prefix: &str, node: &str) -> String {
        let plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
        let mut key = prefix.to_owned();
        key.extend(node.chars().map(|char| if plain(char) { char } else { '_' }));
        for part in self.day().into_iter().flatten() {
            // Writing to a string always succeeds.
            let _ = write!(key, "/{part}");
        }
        key + "/" + &self.0
    }

    fn day(&self) -> Option<[&str; 3]> {
        Some([self.0.get(0..4)?, self.0.get(4..6)?, self.0.get(6..8)?])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_tells_its_time_and_its_key() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_467_894_123);
        let name = Name::new(time, 0xabc, 7);
        assert_eq!(name.as_str(), "20261123T210454.123Z-0000000000000abc-000007.jsonl");
        assert_eq!(Name::parse(name.as_str()).as_ref(), Some(&name));
        assert_eq!(name.time(), Some(time));
        assert_eq!(
            name.key("ftpgate/audit/", "gateway a/../b"),
            format!("ftpgate/audit/gateway_a_.._b/2026/11/23/{}", name.as_str())
        );
    }

    #[test]
    fn names_sort_by_age() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_467_894);
        let later = time + Duration::from_millis(1);
        let mut names = vec![Name::new(later, 1, 1), Name::new(time, 2, 10), Name::new(time, 2, 9)];
        names.sort();
        assert_eq!(names, [Name::new(time, 2, 9), Name::new(time, 2, 10), Name::new(later, 1, 1)]);
    }

    #[test]
    fn a_file_of_another_name_is_none_of_ours() {
        for name in [
            "",
            "lost+found",
            "notes.jsonl",
            "20261123T210454.123Z-0000000000000abc-000007.json",
            "20261323T210454.123Z-0000000000000abc-000007.jsonl",
            "20261123 210454.123Z-0000000000000abc-000007.jsonl",
            "20261123T210454.123Z-../../etc/passwd.jsonl",
            "20261123T210454.123Zx0000000000000abc-000007.jsonl",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}.jsonl",
        ] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }
}
