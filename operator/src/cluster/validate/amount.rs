//! Sizes and times as Kubernetes' users write them.
//!
//! Invariant: what is not understood is not guessed: the answer is none.

use std::time::Duration;

/// The suffixes of sizes, and what they stand for.
const SUFFIXES: [(&str, u64); 11] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("", 1),
];

/// A size in bytes, rounded up: `10Gi`, `1.5G`, `1073741824`.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|sign| sign.is_ascii_digit());
    if !is_number(whole) || (number.contains('.') && !is_number(part)) || part.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if part.is_empty() {
        return Some(whole);
    }
    let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let part = part
        .parse::<u128>()
        .ok()?
        .checked_mul(u128::from(factor))?
        .div_ceil(scale);
    whole.checked_add(u64::try_from(part).ok()?)
}

/// A time: `0`, `30s`, `1h30m`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|sign: char| !sign.is_ascii_digit())?);
        let mut signs = after.chars();
        let seconds = match signs.next()? {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(seconds)?)?;
        rest = signs.as_str();
    }
    (!text.is_empty()).then_some(Duration::from_secs(total))
}
