//! Where a reader of a topic stands.

/// One life of a topic, as 16 lower-case hexadecimal digits: as a number, JavaScript could not hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// The last publication that somebody has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which life of the topic.
    pub epoch: Epoch,
    /// Publications count from one; zero is before the first. At most [`OFFSET_MAX`].
    pub offset: u64,
}

impl Epoch {
    /// Sixteen lower-case digits and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let is_epoch = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_epoch.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl Position {
    /// An epoch, a dash and decimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, offset) = text.split_once('-')?;
        let is_offset = offset.bytes().all(|byte| byte.is_ascii_digit());
        let offset = offset.parse().ok().filter(|&offset| is_offset && offset <= OFFSET_MAX)?;
        Some(Self { epoch: Epoch::parse(epoch)?, offset })
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.epoch, self.offset)
    }
}

/// The largest whole number that every JSON parser reads exactly (RFC 7493 §2.2).
pub const OFFSET_MAX: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_text_and_back() {
        for (epoch, offset) in [(0, 0), (1, 1), (u64::MAX, OFFSET_MAX), (0xabc, 17)] {
            let position = Position { epoch: Epoch(epoch), offset };
            assert_eq!(Position::parse(&position.to_string()), Some(position));
        }
        let digits = "0123456789abcdef";
        for bad in ["", "-", "0-0", digits, "0123456789ABCDEF-1", "0123456789abcdeg-1", "+123456789abcdef-1"] {
            assert_eq!(Position::parse(bad), None, "{bad}");
        }
        for bad in ["", "+1", "-1", " 1", "1 ", "1.0", "9007199254740992", "99999999999999999999"] {
            assert_eq!(Position::parse(&format!("{digits}-{bad}")), None, "{bad}");
        }
    }
}
