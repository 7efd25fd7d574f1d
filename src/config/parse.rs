//! Values as people write them: sizes, counts, durations, core lists, origins, networks.
//!
//! Every function answers with the value or with a sentence that says what is wrong.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::http::Cidr;
use crate::rate::Rate;

/// Bytes: `65536`, `64k`, `64KiB`, `1M`, `16MiB`, `2G`. Powers of 1024; digits may be grouped with `_`.
pub(super) fn size(text: &str, range: &RangeInclusive<u64>) -> Result<usize, String> {
    let (digits, unit) = split_unit(text);
    let shift = match unit {
        "" | "B" => 0,
        "k" | "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "kB" | "KB" | "MB" | "GB" => {
            let prefix = &unit[..1];
            return Err(format!(
                "`{unit}` may mean powers of 1000 or of 1024; write {digits}{prefix} or {digits}{}iB for 1024",
                prefix.to_uppercase()
            ));
        }
        _ => return Err(not_a("size", text)),
    };
    let bytes = number(digits).ok_or_else(|| not_a("size", text))?;
    let bytes = bytes.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is larger than any size"))?;
    within(bytes, range, text, show_size).and_then(|bytes| {
        usize::try_from(bytes).map_err(|_| format!("`{text}` is larger than this machine can address"))
    })
}

/// How [`size`] is written back: in the largest unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// A number of things: `10000`, `10k`, `2M`. Powers of 1000; digits may be grouped with `_`.
pub(super) fn count(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let (digits, unit) = split_unit(text);
    let factor = match unit {
        "" => 1,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        _ => return Err(not_a("count", text)),
    };
    let count = number(digits).and_then(|n| n.checked_mul(factor)).ok_or_else(|| not_a("count", text))?;
    within(count, range, text, |n| n.to_string())
}

/// A span of time: `500ms`, `10s`, `5m`, `1h 30m`. Only `0` may do without a unit.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>, zero_allowed: bool) -> Result<Duration, String> {
    if text.bytes().all(|b| b.is_ascii_digit()) && number(text).is_some_and(|n| n > 0) {
        return Err(format!("`{text}` has no unit; write {text}s for seconds or {text}ms"));
    }
    let span = humantime::parse_duration(text).map_err(|_| not_a("duration", text))?;
    if span.is_zero() && zero_allowed {
        return Ok(span);
    }
    within(span, range, text, show_duration)
}

/// How [`duration`] is written back.
pub(super) fn show_duration(span: Duration) -> String {
    if span.is_zero() { "0".to_owned() } else { humantime::format_duration(span).to_string() }
}

/// How often: `20` or `20/s`, `30/m`, `100/h`; zero for no limit.
pub(super) fn rate(text: &str) -> Result<Option<Rate>, String> {
    let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        unit => return Err(format!("`{unit}` is not a unit of time here; s, m and h are")),
    };
    let count = self::count(count.trim(), &(0..=u32::MAX.into())).map_err(|_| not_a("rate", text))? as u32;
    if count == 0 {
        return Ok(None);
    }
    Rate::new(count, Duration::from_secs(seconds), count)
        .map(Some)
        .map_err(|_| format!("`{text}` is more than can be counted"))
}

/// How [`rate`] is written back.
pub(super) fn show_rate(rate: Option<&Rate>) -> String {
    let Some(rate) = rate else { return "0".to_owned() };
    let unit = match rate.period().as_secs() {
        1 => "s",
        60 => "m",
        _ => "h",
    };
    format!("{}/{unit}", rate.count())
}

/// CPU numbers: `0-3,6`. Ascending when it returns.
pub(super) fn cores(text: &str) -> Result<Vec<usize>, String> {
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (core(first), core(last)) else {
            return Err(format!("`{part}` is neither a core nor a range of cores"));
        };
        if first > last {
            return Err(format!("the range `{part}` runs backwards"));
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    match cores.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("core {} is listed twice", pair[0])),
        None => Ok(cores),
    }
}

/// How [`cores`] is written back.
pub(super) fn show_cores(cores: &[usize]) -> String {
    cores
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect::<Vec<_>>()
        .join(",")
}

/// Permission bits in octal: `660`, `0660` or `0o660`.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o777 && !digits.starts_with('+') => Ok(mode),
        Ok(_) => Err(format!("`{text}` sets bits beyond 777")),
        Err(_) => Err(format!("`{text}` is not an octal number")),
    }
}

/// An origin as browsers send it (RFC 6454 §6.2): lower case, no default port. `null` stands for itself.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if lower == "null" {
        return Ok(lower);
    }
    let Some((scheme, host)) = lower.split_once("://") else {
        return Err(format!("`{text}` has no scheme; perhaps https://{text}"));
    };
    if host.contains('*') {
        return Err(format!("`{text}`: patterns are not supported; name each origin, or '*' for all"));
    }
    if let Some((host, _)) = host.split_once(['/', '?', '#']) {
        return Err(format!("`{text}` has a path; an origin ends after the host: {scheme}://{host}"));
    }
    let plausible = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if scheme.is_empty() || host.is_empty() || !host.bytes().all(plausible) {
        return Err(format!("`{text}` is not an origin"));
    }
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let host = host.strip_suffix(default_port).unwrap_or(host);
    Ok(format!("{scheme}://{host}"))
}

/// A network, `10.0.0.0/8`, or a single address.
pub(super) fn network(text: &str) -> Result<Cidr, String> {
    let network: Cidr =
        text.parse().map_err(|error| format!("`{text}` is neither an address nor a network: {error}"))?;
    let typed = text.split_once('/').and_then(|(address, _)| address.parse::<IpAddr>().ok());
    match typed {
        Some(typed) if typed.to_canonical() != network.network() => {
            Err(format!("`{text}` has bits outside its mask; perhaps {network}"))
        }
        Some(_) | None => Ok(network),
    }
}

/// The known name that `typed` was probably meant to be.
pub(super) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.replace('_', "-").to_ascii_lowercase();
    let (distance, name) =
        known.map(|name| (edit_distance(&typed, name), name)).min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.len() / 4).then_some(name)
}

/// Insertions, deletions and replacements that make `b` of `a`.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits_len = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'_').count();
    let (digits, unit) = text.split_at(digits_len);
    (digits, unit.trim_start())
}

fn number(digits: &str) -> Option<u64> {
    let digits = digits.replace('_', "");
    if digits.starts_with('+') {
        return None;
    }
    digits.parse().ok()
}

fn core(text: &str) -> Option<usize> {
    let core = usize::try_from(number(text.trim())?).ok()?;
    (core < CORES_MAX).then_some(core)
}

fn within<T: PartialOrd + Copy>(
    value: T,
    range: &RangeInclusive<T>,
    text: &str,
    show: impl Fn(T) -> String,
) -> Result<T, String> {
    if value < *range.start() {
        Err(format!("`{text}` is less than {}", show(*range.start())))
    } else if value > *range.end() {
        Err(format!("`{text}` is more than {}", show(*range.end())))
    } else {
        Ok(value)
    }
}

fn not_a(what: &str, text: &str) -> String {
    format!("`{text}` is not a {what}")
}

/// The largest machine that Linux can be built for (`CONFIG_NR_CPUS` on x86-64).
const CORES_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: RangeInclusive<u64> = 0..=u64::MAX;

    #[test]
    fn sizes() {
        let cases: &[(&str, Option<usize>)] = &[
            ("0", Some(0)),
            ("125", Some(125)),
            ("64k", Some(65_536)),
            ("64K", Some(65_536)),
            ("64KiB", Some(65_536)),
            ("1M", Some(1 << 20)),
            ("16 MiB", Some(16 << 20)),
            ("2G", Some(2 << 30)),
            ("131_072", Some(131_072)),
            ("", None),
            ("k", None),
            ("-1", None),
            ("+1", None),
            ("1.5M", None),
            ("16MB", None),
            ("16 kB", None),
            ("64q", None),
            ("64é", None),
            ("99999999999999999999", None),
            ("18446744073709551615G", None),
        ];
        for &(text, want) in cases {
            assert_eq!(size(text, &ANY).ok(), want, "{text}");
        }
        assert!(size("124", &(125..=200)).expect_err("below").contains("less than 125"));
        assert!(size("1k", &(125..=200)).expect_err("above").contains("more than 200"));
        assert!(size("16MB", &ANY).expect_err("ambiguous").contains("16MiB"));
        assert!(size("16kB", &ANY).expect_err("ambiguous").contains("16KiB"));
    }

    #[test]
    fn sizes_are_shown_as_they_are_read() {
        for bytes in [0, 1, 125, 1023, 1024, 1025, 65_536, 1 << 20, 3 << 29, 4 << 30] {
            assert_eq!(size(&show_size(bytes), &ANY), Ok(bytes as usize));
        }
    }

    #[test]
    fn counts_are_decimal() {
        let cases: &[(&str, Option<u64>)] = &[
            ("1", Some(1)),
            ("10k", Some(10_000)),
            ("2M", Some(2_000_000)),
            ("1_000", Some(1_000)),
            ("10KiB", None),
            ("ten", None),
            ("", None),
        ];
        for &(text, want) in cases {
            assert_eq!(count(text, &ANY).ok(), want, "{text}");
        }
    }

    #[test]
    fn durations() {
        let range = Duration::from_millis(1)..=Duration::from_secs(3600);
        let cases: &[(&str, bool, Option<u64>)] = &[
            ("500ms", false, Some(500)),
            ("10s", false, Some(10_000)),
            ("5m", false, Some(300_000)),
            ("1m 30s", false, Some(90_000)),
            ("0", true, Some(0)),
            ("0s", true, Some(0)),
            ("0", false, None),
            ("10", true, None),
            ("2h", true, None),
            ("-1s", true, None),
            ("soon", true, None),
            ("", true, None),
        ];
        for &(text, zero_allowed, want) in cases {
            let got = duration(text, &range, zero_allowed).ok();
            assert_eq!(got, want.map(Duration::from_millis), "{text}");
        }
        let bare = duration("10", &range, true).expect_err("no unit");
        assert!(bare.contains("10s"), "{bare}");
    }

    #[test]
    fn rates() {
        let cases: &[(&str, Option<&str>)] = &[
            ("20", Some("20/s")),
            ("20/s", Some("20/s")),
            ("1k / m", Some("1000/m")),
            ("7/h", Some("7/h")),
            ("0", Some("0")),
            ("0/m", Some("0")),
            ("", None),
            ("/s", None),
            ("20/d", None),
            ("-1", None),
            ("1.5/s", None),
            ("5M", None),
            ("4294967296", None),
        ];
        for &(text, want) in cases {
            assert_eq!(rate(text).ok().map(|rate| show_rate(rate.as_ref())).as_deref(), want, "{text}");
        }
        assert!(rate("20/d").expect_err("no unit").contains("s, m and h"));
    }

    #[test]
    fn core_lists() {
        let cases: &[(&str, Option<&[usize]>, &str)] = &[
            ("0", Some(&[0]), "0"),
            ("0-3,6", Some(&[0, 1, 2, 3, 6]), "0-3,6"),
            ("6, 0-1", Some(&[0, 1, 6]), "0-1,6"),
            ("3-3", Some(&[3]), "3"),
            ("8191", Some(&[8191]), "8191"),
            ("8192", None, ""),
            ("0-99999999999", None, ""),
            ("3-1", None, ""),
            ("0-2,1", None, ""),
            ("0,,1", None, ""),
            ("", None, ""),
            ("a", None, ""),
            ("-1", None, ""),
            ("1-", None, ""),
        ];
        for &(text, want, shown) in cases {
            let got = cores(text).ok();
            assert_eq!(got.as_deref(), want, "{text}");
            if let Some(cores) = got {
                assert_eq!(show_cores(&cores), shown);
            }
        }
    }

    #[test]
    fn modes() {
        for (text, want) in [("660", Some(0o660)), ("0660", Some(0o660)), ("0o600", Some(0o600)), ("0", Some(0))] {
            assert_eq!(mode(text).ok(), want, "{text}");
        }
        for text in ["1777", "680", "rw", "", "+66", "-1"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn origins() {
        let cases: &[(&str, Result<&str, &str>)] = &[
            ("https://example.com", Ok("https://example.com")),
            ("HTTPS://Example.COM:443", Ok("https://example.com")),
            ("http://localhost:3000", Ok("http://localhost:3000")),
            ("http://[::1]:80", Ok("http://[::1]")),
            ("capacitor://localhost", Ok("capacitor://localhost")),
            ("null", Ok("null")),
            ("example.com", Err("perhaps https://example.com")),
            ("https://example.com/", Err("https://example.com")),
            ("https://example.com/app", Err("has a path")),
            ("https://*.example.com", Err("patterns")),
            ("https://", Err("not an origin")),
            ("https://a b", Err("not an origin")),
        ];
        for &(text, want) in cases {
            match (origin(text), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, want) => panic!("{text}: {got:?}, wanted {want:?}"),
            }
        }
    }

    #[test]
    fn networks() {
        for (text, want) in [("10.0.0.0/8", "10.0.0.0/8"), ("127.0.0.1", "127.0.0.1/32"), ("fd00::/8", "fd00::/8")] {
            assert_eq!(network(text).expect(text).to_string(), want);
        }
        assert!(network("10.0.0.1/8").expect_err("bits").contains("10.0.0.0/8"));
        assert!(network("10.0.0.0/33").is_err());
        assert!(network("proxy").is_err());
    }

    #[test]
    fn a_typing_error_finds_its_option_and_nonsense_finds_none() {
        let known = ["listen", "max-message-bytes", "ping-interval"];
        let find = |typed| nearest(typed, known.into_iter());
        assert_eq!(find("lisen"), Some("listen"));
        assert_eq!(find("max_message_bytes"), Some("max-message-bytes"));
        assert_eq!(find("ping-intervall"), Some("ping-interval"));
        assert_eq!(find("colour"), None);
    }
}
