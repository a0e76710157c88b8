//! Reads CBOR (RFC 8949) as far as AWS's SDKs write it: what has a JSON equivalent.

use serde_json::{Map, Value};

/// The first item of `bytes`; tags are passed over. Nothing if it is broken.
pub(super) fn read(bytes: &[u8]) -> Option<Value> {
    Reader { rest: bytes }.item().flatten()
}

struct Reader<'a> {
    rest: &'a [u8],
}

/// How many bytes or items follow, or that a break ends them.
enum Length {
    Known(u64),
    UntilBreak,
}

impl<'a> Reader<'a> {
    /// An item, or `Some(None)` for a break.
    fn item(&mut self) -> Option<Option<Value>> {
        let first = self.take(1)?[0];
        let (major, detail) = (first >> 5, first & 31);
        if major == 7 {
            return self.simple(detail);
        }
        let length = self.length(detail)?;
        let value = match (major, length) {
            (0, Length::Known(number)) => number.into(),
            (1, Length::Known(number)) => (-1.0 - number as f64).into(),
            (2 | 3, length) => String::from_utf8(self.string(length)?).ok()?.into(),
            (4, length) => Value::Array(self.items(length, 1)?),
            (5, length) => {
                let items = self.items(length, 2)?;
                let pairs = items.chunks_exact(2);
                let pairs = pairs.map(|pair| Some((pair[0].as_str()?.into(), pair[1].clone())));
                Value::Object(pairs.collect::<Option<Map<_, _>>>()?)
            }
            (6, _) => return self.item(),
            _ => return None,
        };
        Some(Some(value))
    }

    fn simple(&mut self, detail: u8) -> Option<Option<Value>> {
        Some(Some(match detail {
            20 => false.into(),
            21 => true.into(),
            22 | 23 => Value::Null,
            26 => f32::from_be_bytes(self.take(4)?.try_into().ok()?).into(),
            27 => f64::from_be_bytes(self.take(8)?.try_into().ok()?).into(),
            31 => return Some(None),
            _ => return None,
        }))
    }

    fn length(&mut self, detail: u8) -> Option<Length> {
        let size = match detail {
            0..24 => return Some(Length::Known(detail.into())),
            24..28 => 1 << (detail - 24),
            31 => return Some(Length::UntilBreak),
            _ => return None,
        };
        let bytes = self.take(size)?;
        Some(Length::Known(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))))
    }

    fn string(&mut self, length: Length) -> Option<Vec<u8>> {
        match length {
            Length::Known(size) => Some(self.take(size.try_into().ok()?)?.to_vec()),
            Length::UntilBreak => {
                let mut text = String::new();
                while let Some(part) = self.item()? {
                    text += part.as_str()?;
                }
                Some(text.into_bytes())
            }
        }
    }

    /// The items of an array, or `each` times as many of a map.
    fn items(&mut self, length: Length, each: u64) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        match length {
            Length::Known(count) => {
                for _ in 0..count.checked_mul(each)? {
                    items.push(self.item()??);
                }
            }
            Length::UntilBreak => {
                while let Some(item) = self.item()? {
                    items.push(item);
                }
            }
        }
        Some(items)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }
}
