//! Times as they are told in JSON: RFC 3339, to the millisecond.

use std::time::{Duration, SystemTime};

use serde::Serializer;

/// From 1970 to the last second of the year 9999: RFC 3339 has four digits for a year.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// The text of it; whatever is later counts as the end of the year 9999.
pub(crate) fn text(time: SystemTime) -> String {
    shown(time).to_string()
}

/// Whether it is no later than that.
pub(crate) fn can_tell(time: SystemTime) -> bool {
    time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since <= LATEST)
}

/// For a field.
pub(crate) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&shown(*time))
}

/// For a field that may be empty.
pub(crate) fn serialize_if_any<S: Serializer>(
    time: &Option<SystemTime>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serialize(time, to),
        None => to.serialize_none(),
    }
}

fn shown(time: SystemTime) -> impl std::fmt::Display {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since.min(LATEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_can_be_told() {
        let far = Duration::from_secs(1 << 40);
        for (time, told) in [
            (SystemTime::UNIX_EPOCH, "1970-01-01T00:00:00.000Z"),
            (SystemTime::UNIX_EPOCH - far, "1970-01-01T00:00:00.000Z"),
            (SystemTime::UNIX_EPOCH + LATEST, "9999-12-31T23:59:59.000Z"),
            (SystemTime::UNIX_EPOCH + LATEST + far, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(text(time), told);
        }
    }
}
