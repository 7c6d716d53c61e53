//! Spans of time as people write and read them.
//!
//! Invariant: what is written by [`show`] is short, never precise; what is read by [`parse`] is exact.

use std::time::{Duration, SystemTime};

/// Reads `500ms`, `10s`, `2m`, `1h`; more than zero.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let help = || format!("{text:?} is not a span of time: write 500ms, 10s, 2m or 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(help)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| help())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(help()),
    };
    let millis = number.checked_mul(millis).ok_or_else(help)?;
    if millis == 0 {
        return Err(help());
    }
    Ok(Duration::from_millis(millis))
}

/// Writes the two largest units at most: `850ms`, `12s`, `3m05s`, `2h10m`, `4d03h`.
pub(crate) fn show(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        86_400.. => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// How long ago, by this machine's clock; a time to come is no time ago.
pub(crate) fn show_age(since: SystemTime) -> String {
    show(since.elapsed().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_exactly() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "0s",
            "1.5s",
            "-1s",
            "10 s",
            "99999999999999999999s",
            "1d",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn spans_are_shown_short() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (59_999, "59s"),
            (185_000, "3m05s"),
            (7_800_000, "2h10m"),
            (356_400_000, "4d03h"),
        ] {
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
    }
}
