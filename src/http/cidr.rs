//! Networks in CIDR notation (RFC 4632): which neighbours are proxies of ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: every address whose first `prefix_len` bits are those of `network`.
///
/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) and its IPv4 address are the same address here: which of the two
/// a peer has depends on the listener only. Otherwise a network has members of its own family only, so `::/0` does
/// not contain `10.0.0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    network: IpAddr,
    prefix_len: u8,
}

/// What is wrong with a network's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before the slash is no IP address.
    #[error("{0:?} is not an IP address")]
    Address(String),
    /// The part behind the slash is no number of bits that the address has.
    #[error("{0:?} is not a prefix length for that address")]
    PrefixLen(String),
}

impl Cidr {
    /// Whether the address belongs to this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => mask_v4(address, self.prefix_len) == network,
            (IpAddr::V6(network), IpAddr::V6(address)) => mask_v6(address, self.prefix_len) == network,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Its first address.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// How many bits all its addresses share.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Bits of `address` behind the prefix are cleared: `10.0.0.1/8` is `10.0.0.0/8`.
    fn new(address: IpAddr, prefix_len: u8) -> Self {
        match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(inner)) if prefix_len >= MAPPED_PREFIX_LEN => {
                Self::new(IpAddr::V4(inner), prefix_len - MAPPED_PREFIX_LEN)
            }
            (IpAddr::V4(v4), _) => Self { network: IpAddr::V4(mask_v4(v4, prefix_len)), prefix_len },
            (IpAddr::V6(v6), _) => Self { network: IpAddr::V6(mask_v6(v6, prefix_len)), prefix_len },
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// Reads `10.0.0.0/8`, `fd00::/8`, or a lone address, which is a network of one.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address(address.into()))?;
        let prefix_len_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match prefix {
            None => prefix_len_max,
            Some(prefix) => parse_prefix_len(prefix)
                .filter(|&prefix_len| prefix_len <= prefix_len_max)
                .ok_or_else(|| CidrError::PrefixLen(prefix.into()))?,
        };
        Ok(Self::new(address, prefix_len))
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

/// Digits only: `u8::from_str` alone would also take `+8`.
fn parse_prefix_len(text: &str) -> Option<u8> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn mask_v4(address: Ipv4Addr, prefix_len: u8) -> Ipv4Addr {
    // A shift by the whole width has no result: a prefix of no bits keeps no bits.
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

fn mask_v6(address: Ipv6Addr, prefix_len: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

/// Bits before the IPv4 address in an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2).
const MAPPED_PREFIX_LEN: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_strangers() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], &["11.0.0.0", "9.255.255.255", "::1"]),
            ("10.0.0.1/8", &["10.9.9.9"], &["11.0.0.1"]),
            ("0.0.0.0/0", &["1.2.3.4", "255.255.255.255"], &["::1"]),
            ("192.0.2.7", &["192.0.2.7", "::ffff:192.0.2.7"], &["192.0.2.6", "192.0.2.8"]),
            ("192.0.2.6/31", &["192.0.2.6", "192.0.2.7"], &["192.0.2.5", "192.0.2.8"]),
            ("::1", &["::1"], &["::2", "127.0.0.1"]),
            ("fd00::/8", &["fd00::1", "fdff::"], &["fe00::1", "fc00::1"]),
            ("::/0", &["::1", "2001:db8::1"], &["10.0.0.1", "::ffff:10.0.0.1"]),
            ("::ffff:10.0.0.0/104", &["10.1.2.3", "::ffff:10.1.2.3"], &["11.0.0.1"]),
        ];
        for &(network, members, strangers) in cases {
            let network: Cidr = network.parse().unwrap();
            for member in members {
                assert!(network.contains(member.parse().unwrap()), "{network} has {member}");
            }
            for stranger in strangers {
                assert!(!network.contains(stranger.parse().unwrap()), "{network} has not {stranger}");
            }
        }
    }

    #[test]
    fn every_prefix_length_holds_its_own_network_and_not_the_next() {
        for prefix_len in 1..=32 {
            let network = Cidr::new(IpAddr::V4(Ipv4Addr::from_bits(0)), prefix_len);
            let last = ((1u64 << (32 - prefix_len)) - 1) as u32;
            assert!(network.contains(IpAddr::V4(Ipv4Addr::from_bits(last))), "{network}");
            assert!(
                !network.contains(IpAddr::V4(Ipv4Addr::from_bits(last.wrapping_add(1).max(1 << (32 - prefix_len))))),
                "{network}"
            );
        }
        for prefix_len in 1..=128u8 {
            let network = Cidr::new(IpAddr::V6(Ipv6Addr::from_bits(0)), prefix_len);
            assert!(!network.contains(IpAddr::V6(Ipv6Addr::from_bits(1 << (128 - prefix_len)))), "{network}");
        }
    }

    #[test]
    fn text_that_is_no_network_is_refused_by_its_part() {
        let address = |text: &str| CidrError::Address(text.into());
        let prefix_len = |text: &str| CidrError::PrefixLen(text.into());
        let cases = [
            ("", address("")),
            ("/8", address("")),
            ("10.0.0/8", address("10.0.0")),
            ("localhost", address("localhost")),
            ("[::1]/8", address("[::1]")),
            ("10.0.0.0/", prefix_len("")),
            ("10.0.0.0/33", prefix_len("33")),
            ("10.0.0.0/+8", prefix_len("+8")),
            ("10.0.0.0/-1", prefix_len("-1")),
            ("10.0.0.0/8/8", prefix_len("8/8")),
            ("::/129", prefix_len("129")),
            ("::/256", prefix_len("256")),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Cidr>(), Err(want), "{text:?}");
        }
    }

    #[test]
    fn text_round_trips() {
        for text in ["10.0.0.0/8", "fd00::/8", "::1/128", "0.0.0.0/0"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
    }
}
