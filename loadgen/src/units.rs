//! Sizes, counts, rates and spans of time as people write them: `64k`, `1M`, `10k`, `500ms`. And back.

use std::time::Duration;

/// A number of bytes. `k`, `M` and `G` are powers of 1024, as memory is counted: `64k` is 65,536.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let trimmed = text.trim().trim_end_matches("iB").trim_end_matches('B');
    let bytes = parse_scaled(trimmed, 1024).ok_or_else(|| format!("`{text}` is no size: try 64, 1k, 64k or 1M"))?;
    usize::try_from(bytes).map_err(|_| format!("`{text}` is more than this machine can address"))
}

/// A number of things. `k`, `M` and `G` are powers of 1000: `10k` is 10,000.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    parse_scaled(text.trim(), 1000).ok_or_else(|| format!("`{text}` is no count: try 200, 10k or 1M"))
}

/// A number of things, one at least.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub(crate) fn parse_positive(text: &str) -> Result<u64, String> {
    match parse_count(text)? {
        0 => Err("it must be 1 at least".to_owned()),
        count => Ok(count),
    }
}

/// A length of time: `10s`, `500ms`, `2m`, `1h`; a bare number counts seconds.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no span of time: try 10s, 500ms or 2m");
    let trimmed = text.trim();
    let digits_len = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits_len);
    let seconds_each = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds_each).map_err(|_| wrong())
}

/// A share: `20%` or `0.2`.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    let trimmed = text.trim();
    let share = match trimmed.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => trimmed.parse(),
    };
    match share {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is no share: try 20% or 0.2")),
    }
}

/// Digits with at most one point, and a letter; exact, because counts must be.
fn parse_scaled(text: &str, base: u64) -> Option<u64> {
    let (number, power) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1),
        b'M' => (&text[..text.len() - 1], 2),
        b'G' => (&text[..text.len() - 1], 3),
        _ => (text, 0),
    };
    let scale = base.pow(power);
    let number: String = number.chars().filter(|&c| c != '_').collect();
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(scale),
        Some((whole, fraction)) if power > 0 && !fraction.is_empty() && fraction.len() <= 9 => {
            let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
            let fraction_of = 10_u64.pow(fraction.len() as u32);
            whole.checked_add(fraction.parse::<u64>().ok()?.checked_mul(scale)? / fraction_of)
        }
        Some(_) => None,
    }
}

/// A time with three digits that mean something.
pub(crate) fn show_ns(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// Bytes in the largest unit that leaves a number of one or more.
pub(crate) fn show_bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// A count with commas.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_counts_decimal() {
        let cases = [("64", 64, 64), ("1k", 1024, 1000), ("64k", 65_536, 64_000), ("1M", 1_048_576, 1_000_000)];
        for (text, size, count) in cases {
            assert_eq!(parse_size(text), Ok(size), "{text}");
            assert_eq!(parse_count(text), Ok(count), "{text}");
        }
        assert_eq!(parse_size("1.5k"), Ok(1536));
        assert_eq!(parse_size("16KiB"), Ok(16_384));
        assert_eq!(parse_count("2.5k"), Ok(2500));
        assert_eq!(parse_count("10_000"), Ok(10_000));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "k", "-1", "1x", "1.5", "1.k", "99999999999999999999", "99999999999G", "1e3", "0x10"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
        assert!(parse_positive("0").is_err());
        for text in ["", "s", "1d", "-1s", "1e99", "1.2.3s"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        for text in ["", "120%", "-1%", "2", "x"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_and_shares() {
        let spans = [("10s", 10_000), ("500ms", 500), ("2m", 120_000), ("1.5s", 1500), ("3", 3000), ("1h", 3_600_000)];
        for (text, millis) in spans {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_share("20%"), Ok(0.2));
        assert_eq!(parse_share("0.2"), Ok(0.2));
    }

    #[test]
    fn shown_with_three_digits() {
        let cases = [(0, "0 ns"), (999, "999 ns"), (1_500, "1.50 µs"), (99_940, "99.9 µs"), (12_345_678, "12.3 ms")];
        for (ns, want) in cases {
            assert_eq!(show_ns(ns), want);
        }
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_count(12), "12");
        assert_eq!(show_bytes(1536), "1.5 KiB");
    }
}
