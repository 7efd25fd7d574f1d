//! Who the client is when proxies stand between.

use std::net::{IpAddr, SocketAddr};

use super::Cidr;

/// The address of the client: the rightmost one in `X-Forwarded-For` that is not a trusted proxy's.
///
/// Each proxy appends the address it heard from, so the list is believed from the right and only as long as the one
/// who wrote the entry is trusted; whatever a client wrote itself stands further left and is never reached. `values`
/// are the values of all `X-Forwarded-For` header fields in the order of the head. An entry that is no address ends
/// the walk: the last address that can be believed is the answer. Addresses come back with IPv4-mapped IPv6 written
/// as IPv4.
pub fn client_address<'v>(peer: IpAddr, trusted: &[Cidr], values: impl DoubleEndedIterator<Item = &'v [u8]>) -> IpAddr {
    let mut believed = peer.to_canonical();
    for entry in values.rev().flat_map(|value| value.rsplit(|&byte| byte == b',')) {
        if !trusted.iter().any(|network| network.contains(believed)) {
            break;
        }
        let Some(address) = parse_entry(entry) else {
            break;
        };
        believed = address;
    }
    believed
}

/// An address with or without a port; IPv6 with or without brackets.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(v6) => IpAddr::V6(v6.parse().ok()?),
        None => text.parse().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip())).ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rightmost_untrusted_address_is_the_client() {
        // Peer, values of X-Forwarded-For, client. Trusted are 10.0.0.0/8 and fd00::/8.
        let cases: &[(&str, &[&str], &str)] = &[
            // No proxy: whatever it says about itself is not believed.
            ("192.0.2.1", &[], "192.0.2.1"),
            ("192.0.2.1", &["198.51.100.1"], "192.0.2.1"),
            ("192.0.2.1", &["10.0.0.1"], "192.0.2.1"),
            // One proxy.
            ("10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("::ffff:192.0.2.9", &["192.0.2.1"], "192.0.2.9"),
            // The client wrote the left part itself.
            ("10.0.0.1", &["1.1.1.1, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["10.0.0.7, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["1.1.1.1", "192.0.2.1"], "192.0.2.1"),
            // Two proxies, in one field and in two.
            ("10.0.0.1", &["192.0.2.1, 10.0.0.2"], "192.0.2.1"),
            ("10.0.0.1", &["192.0.2.1", "10.0.0.2"], "192.0.2.1"),
            ("10.0.0.1", &["1.1.1.1,192.0.2.1 ,\t10.0.0.2"], "192.0.2.1"),
            // Everybody is trusted: the furthest is the client.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Ports and brackets.
            ("10.0.0.1", &["192.0.2.1:4711"], "192.0.2.1"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1, [fd00::2]:80"], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1"),
            // What is no address ends the walk.
            ("10.0.0.1", &["192.0.2.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["192.0.2.1,"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1:99999"], "10.0.0.1"),
            ("10.0.0.1", &["[192.0.2.1]"], "10.0.0.1"),
            ("10.0.0.1", &["[2001:db8::1"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1\0"], "10.0.0.1"),
        ];
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for &(peer, values, want) in cases {
            let got = client_address(peer.parse().unwrap(), &trusted, values.iter().map(|value| value.as_bytes()));
            assert_eq!(got, want.parse::<IpAddr>().unwrap(), "{peer} {values:?}");
        }
    }

    #[test]
    fn without_trust_nothing_is_read() {
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(client_address(peer, &[], [&b"192.0.2.1"[..]].into_iter()), peer);
    }
}
