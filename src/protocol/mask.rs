//! The masking key (RFC 6455 §5.3), applied as wide as the machine allows.

/// Applies the key to a payload, in place. Twice is as never.
#[inline]
pub fn apply(payload: &mut [u8], key: [u8; 4]) {
    if payload.len() <= SHORT_LEN_MAX {
        apply_words(payload, key);
    } else {
        apply_wide(payload, key);
    }
}

/// The key as it applies to what follows after `by` bytes of a payload.
#[inline]
pub const fn rotate(key: [u8; 4], by: usize) -> [u8; 4] {
    // The key's bytes come in the order of memory, so rotating them is the same on every machine.
    u32::from_le_bytes(key).rotate_right(8 * (by % 4) as u32).to_le_bytes()
}

/// Picks the widest registers this machine has. `is_x86_feature_detected!` remembers what it found.
#[cfg(target_arch = "x86_64")]
fn apply_wide(payload: &mut [u8], key: [u8; 4]) {
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the only obligation of `apply_avx512` is that the CPU has AVX-512F, which was just asked.
        unsafe { apply_avx512(payload, key) }
    } else if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the only obligation of `apply_avx2` is that the CPU has AVX2, which was just asked.
        unsafe { apply_avx2(payload, key) }
    } else {
        apply_aligned(payload, key);
    }
}

/// Elsewhere the target's own registers are what there is: NEON on aarch64.
#[cfg(not(target_arch = "x86_64"))]
fn apply_wide(payload: &mut [u8], key: [u8; 4]) {
    apply_aligned(payload, key);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn apply_avx512(payload: &mut [u8], key: [u8; 4]) {
    apply_aligned(payload, key);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn apply_avx2(payload: &mut [u8], key: [u8; 4]) {
    apply_aligned(payload, key);
}

/// A long payload from its first whole cache line on: it stands behind a header of 6, 8 or 14 bytes, and every store
/// that crosses a line costs.
///
/// Inlined into each of its callers, where the compiler makes of it what that caller's registers can do.
#[inline(always)]
fn apply_aligned(payload: &mut [u8], key: [u8; 4]) {
    if payload.len() < ALIGNED_LEN_MIN {
        return apply_words(payload, key);
    }
    // Fewer than a line's bytes, except where an interpreter cannot tell an address: there it is no number at all.
    let head_len = payload.as_ptr().align_offset(LINE_LEN).min(payload.len());
    let (head, rest) = payload.split_at_mut(head_len);
    apply_words(head, key);
    apply_words(rest, rotate(key, head.len()));
}

/// Eight bytes at a time. The loop is this plain so that compilers widen it: with wide registers in reach it runs in
/// those, without them in general ones, which is what short payloads need.
#[inline(always)]
fn apply_words(payload: &mut [u8], key: [u8; 4]) {
    let half = u32::from_ne_bytes(key);
    let wide = u64::from(half) << 32 | u64::from(half);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    // A word is two keys long, so the rest begins with the key's first byte as well.
    let (halves, rest) = rest.as_chunks_mut::<4>();
    for bytes in halves {
        *bytes = (u32::from_ne_bytes(*bytes) ^ half).to_ne_bytes();
    }
    apply_bytes(rest, key);
}

/// The obvious version: the specification, and the twin the tests compare with.
#[inline]
fn apply_bytes(payload: &mut [u8], key: [u8; 4]) {
    for (byte, k) in payload.iter_mut().zip(key.iter().cycle()) {
        *byte ^= k;
    }
}

/// Up to this length a payload is done in words before wide registers would have been chosen.
const SHORT_LEN_MAX: usize = 32;
/// From this length on the way to the next cache line is worth going.
const ALIGNED_LEN_MIN: usize = 2048;
/// A cache line, and the widest register there is.
const LINE_LEN: usize = 64;

// Whoever goes that way must arrive at a whole line.
const _: () = assert!(ALIGNED_LEN_MIN >= 2 * LINE_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    type Way = fn(&mut [u8], [u8; 4]);

    /// Every way there is on this machine, by name.
    fn every_way() -> Vec<(&'static str, Way)> {
        let mut ways: Vec<(&'static str, Way)> = vec![
            ("dispatched", apply),
            ("words", apply_words),
            ("aligned", |payload, key| apply_aligned(payload, key)),
        ];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: AVX2 was just asked for.
            ways.push(("avx2", |payload, key| unsafe { apply_avx2(payload, key) }));
        }
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: AVX-512F was just asked for.
            ways.push(("avx512", |payload, key| unsafe { apply_avx512(payload, key) }));
        }
        ways
    }

    #[test]
    fn the_masked_example_of_rfc_6455_section_5_7() {
        let mut payload = *b"\x7f\x9f\x4d\x51\x58";
        apply(&mut payload, KEY);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn every_way_equals_the_obvious_one_at_every_alignment_and_length() {
        let source: Vec<u8> = (0..100_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        let lengths = (0..=300).chain([1000, 4095, 4096, 4097, 65_537, 99_900]);
        for len in lengths {
            for offset in 0..=64 {
                let mut want = source.clone();
                want.truncate(offset + len + 1);
                let untouched = want.clone();
                apply_bytes(&mut want[offset..offset + len], KEY);
                for (name, way) in every_way() {
                    let mut got = untouched.clone();
                    way(&mut got[offset..offset + len], KEY);
                    assert!(got == want, "{name}, offset {offset}, length {len}");
                }
            }
        }
    }

    #[test]
    fn a_rotated_key_goes_on_where_the_payload_was_cut() {
        let mut whole: Vec<u8> = (0..100).collect();
        apply_bytes(&mut whole, KEY);
        for cut in 0..=100 {
            let mut pieces: Vec<u8> = (0..100).collect();
            let (head, tail) = pieces.split_at_mut(cut);
            apply(head, KEY);
            apply(tail, rotate(KEY, cut));
            assert_eq!(pieces, whole, "cut at {cut}");
        }
        assert_eq!(rotate(KEY, usize::MAX), rotate(KEY, 3));
    }
}
