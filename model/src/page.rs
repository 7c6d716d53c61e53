//! Pages: how much of a list one answer holds.
//!
//! Invariants: a page has at most [`MAX_PAGE`] rows and, unless one row alone is larger, at most
//! [`MAX_PAGE_BYTES`] bytes; and what follows the last row of a page that is not the last is on the
//! next one, also where pages of several shards are merged.

use crate::codec::{Decode, DecodeError, Encode, Reader, check_bounds};

/// Most rows in one answer: bounds the work for one.
pub const MAX_PAGE: u32 = 1_000;
/// Most bytes in one answer: a quarter of the 4 MiB that gRPC clients take unless told otherwise.
pub const MAX_PAGE_BYTES: usize = 1 << 20;

/// Reads how many rows are asked for, 1..=[`MAX_PAGE`].
pub(crate) fn decode_limit(input: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let limit = u32::decode_from(input)?;
    check_bounds("page limit", u64::from(limit), 1, u64::from(MAX_PAGE))?;
    Ok(limit)
}

/// Some rows of a list, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// True if there are more after the last.
    pub more: bool,
}

impl<T: Encode> Page<T> {
    /// The first rows, at most `limit` of them and as many bytes as a page takes.
    pub fn of(rows: impl IntoIterator<Item = T>, limit: u32) -> Self {
        let limit = limit.min(MAX_PAGE) as usize;
        let (mut page, mut bytes) = (Vec::new(), 0_usize);
        for row in rows {
            bytes = bytes.saturating_add(weight(&row));
            if page.len() == limit || (bytes > MAX_PAGE_BYTES && !page.is_empty()) {
                return Self {
                    rows: page,
                    more: true,
                };
            }
            page.push(row);
        }
        Self {
            rows: page,
            more: false,
        }
    }

    /// One page of several, each of another part of the same list, in the order of `key`. Rows after the
    /// end of a page that has more are left out, because rows before them may be missing.
    pub fn merge<K: Ord>(
        pages: impl IntoIterator<Item = Self>,
        limit: u32,
        key: impl Fn(&T) -> K,
    ) -> Self {
        let (mut rows, mut known_to) = (Vec::new(), None::<K>);
        for page in pages {
            if let Some(last) = page.rows.last().filter(|_| page.more).map(&key) {
                known_to = known_to.into_iter().chain([last]).min();
            }
            rows.extend(page.rows);
        }
        rows.sort_by_key(&key);
        let whole = rows.len();
        let known = |row: &T| known_to.as_ref().is_none_or(|known| key(row) <= *known);
        let mut merged = Self::of(rows.into_iter().take_while(known), limit);
        merged.more |= known_to.is_some() || merged.rows.len() < whole;
        merged
    }
}

/// How much of a message a row takes, about: its encoding here and as a message are of one size.
fn weight(row: &impl Encode) -> usize {
    let mut bytes = Vec::new();
    row.encode_into(&mut bytes);
    bytes.len()
}

impl<T: Encode> Encode for Page<T> {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.rows.encode_into(out);
        self.more.encode_into(out);
    }
}

impl<T: Decode> Decode for Page<T> {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            rows: Decode::decode_from(input)?,
            more: Decode::decode_from(input)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: &[u32], more: bool) -> Page<u32> {
        let rows = rows.to_vec();
        Page { rows, more }
    }

    #[test]
    fn a_page_ends_at_its_bounds_and_says_so() {
        assert_eq!(Page::of([1, 2, 3], 3), page(&[1, 2, 3], false));
        assert_eq!(Page::of([1, 2, 3], 2), page(&[1, 2], true));
        let large = || vec!["x".repeat(MAX_PAGE_BYTES / 2 - 100); 3];
        assert_eq!(Page::of(large(), 10).rows.len(), 2);
        assert!(Page::of(large(), 10).more);
        let huge = Page::of(["x".repeat(2 * MAX_PAGE_BYTES), "y".to_owned()], 10);
        assert_eq!((huge.rows.len(), huge.more), (1, true));
    }

    #[test]
    fn merged_pages_leave_no_gap() {
        let merged = Page::merge([page(&[1, 4, 7], true), page(&[2, 9], false)], 10, |row| {
            *row
        });
        assert_eq!(merged, page(&[1, 2, 4, 7], true));
        let merged = Page::merge([page(&[1, 4], false), page(&[2, 9], false)], 3, |row| *row);
        assert_eq!(merged, page(&[1, 2, 4], true));
        let merged = Page::merge([page(&[1], false), page(&[2], false)], 2, |row| *row);
        assert_eq!(merged, page(&[1, 2], false));
    }
}
