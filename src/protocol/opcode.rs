//! What a frame is for.

/// The opcode of a frame (RFC 6455 §5.2, §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// Goes on with the message that an earlier frame began.
    Continuation,
    /// Begins a message of UTF-8 text.
    Text,
    /// Begins a message of bytes.
    Binary,
    /// Ends the connection (RFC 6455 §5.5.1).
    Close,
    /// Asks for a sign of life (RFC 6455 §5.5.2).
    Ping,
    /// Is a sign of life (RFC 6455 §5.5.3).
    Pong,
}

impl Opcode {
    /// `None` for the ten reserved values (RFC 6455 §5.2).
    #[inline]
    pub const fn from_nibble(nibble: u8) -> Option<Self> {
        Some(match nibble {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// The four bits on the wire.
    #[inline]
    pub const fn to_nibble(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// Whether the frame is about the connection and not part of a message (RFC 6455 §5.5).
    #[inline]
    pub const fn is_control(self) -> bool {
        match self {
            Self::Continuation | Self::Text | Self::Binary => false,
            Self::Close | Self::Ping | Self::Pong => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_round_trips_or_is_refused() {
        let known = (0..=255).filter_map(Opcode::from_nibble).map(Opcode::to_nibble);
        assert!(known.eq([0x0, 0x1, 0x2, 0x8, 0x9, 0xA]));
    }

    #[test]
    fn control_opcodes_have_the_high_bit() {
        for opcode in (0..16).filter_map(Opcode::from_nibble) {
            assert_eq!(opcode.is_control(), opcode.to_nibble() & 0x8 != 0, "{opcode:?}");
        }
    }
}
