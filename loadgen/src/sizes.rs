//! How long messages are: one length, a choice of several, or anything between two.

use std::fmt;
use std::str::FromStr;

use corewire::connection::Random;

use crate::units::{parse_count, parse_size};

/// Lengths of messages, fixed by origin and number, so that a receiver knows them too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    text: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Fixed(usize),
    Between(usize, usize),
    /// Each with its weight.
    Choice {
        weighted: Vec<(usize, u64)>,
        weight_sum: u64,
    },
}

impl Sizes {
    /// The length of message `number` of `origin`.
    pub(crate) fn len_of(&self, origin: u32, number: u64) -> usize {
        match &self.rule {
            Rule::Fixed(len) => *len,
            Rule::Between(low, high) => low + draw(origin, number, (high - low) as u64 + 1) as usize,
            Rule::Choice { weighted, weight_sum } => {
                let mut left = draw(origin, number, *weight_sum);
                for &(len, weight) in weighted {
                    if left < weight {
                        return len;
                    }
                    left -= weight;
                }
                unreachable!("what was drawn is below the sum of the weights");
            }
        }
    }

    /// The longest that is ever sent.
    pub(crate) fn max(&self) -> usize {
        match &self.rule {
            Rule::Fixed(len) => *len,
            Rule::Between(_, high) => *high,
            Rule::Choice { weighted, .. } => weighted.iter().map(|&(len, _)| len).max().unwrap_or(0),
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    /// `64`, `64-1k`, `64,1k` or, with weights, `64:90,16k:10`.
    fn from_str(text: &str) -> Result<Self, String> {
        let rule = if let Some((low, high)) = text.split_once('-') {
            let (low, high) = (parse_size(low)?, parse_size(high)?);
            if low > high {
                return Err(format!("`{text}` begins above its end"));
            }
            Rule::Between(low, high)
        } else if text.contains([',', ':']) {
            let weighted: Result<Vec<_>, String> = text.split(',').map(weighted).collect();
            let weighted = weighted?;
            let weight_sum = weighted.iter().map(|&(_, weight)| weight).sum();
            if weight_sum == 0 {
                return Err(format!("all weights of `{text}` are zero"));
            }
            Rule::Choice { weighted, weight_sum }
        } else {
            Rule::Fixed(parse_size(text)?)
        };
        let sizes = Self { text: text.to_owned(), rule };
        if sizes.max() > SIZE_MAX {
            return Err(format!("`{text}` is more than {SIZE_MAX} bytes, the most this tool sends in a message"));
        }
        Ok(sizes)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn weighted(part: &str) -> Result<(usize, u64), String> {
    match part.split_once(':') {
        Some((len, weight)) => Ok((parse_size(len)?, parse_count(weight)?.min(u64::from(u32::MAX)))),
        None => Ok((parse_size(part)?, 1)),
    }
}

/// A number below `bound` that depends on nothing but origin and number.
fn draw(origin: u32, number: u64, bound: u64) -> u64 {
    Random::new(number ^ u64::from(origin) << 40).below(bound)
}

/// Largest message in bytes.
pub(crate) const SIZE_MAX: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_keep_their_rule() {
        let between: Sizes = "64-1k".parse().unwrap();
        assert!((0..1000).map(|n| between.len_of(1, n)).all(|len| (64..=1024).contains(&len)));
        let choice: Sizes = "64:90,16k:10".parse().unwrap();
        let large = (0..10_000).filter(|&n| choice.len_of(7, n) == 16_384).count();
        assert!((800..1200).contains(&large), "{large} of 10,000");
        assert_eq!(choice.max(), 16_384);
        assert_eq!("1M".parse::<Sizes>().unwrap().len_of(0, 0), 1 << 20);
        assert_eq!("64,64".parse::<Sizes>().unwrap().len_of(0, 5), 64);
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "x", "1k-64", "64:0,1k:0", "1G", "64,,1k", "64:x", "-5"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }
}
