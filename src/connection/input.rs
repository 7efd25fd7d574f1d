//! The bytes of one read, eaten from the front and handed out without copying.

/// What one read brought, as far as it is not consumed yet.
#[derive(Debug)]
pub struct Input<'i> {
    rest: &'i mut [u8],
}

impl<'i> Input<'i> {
    /// All of `bytes` is still to be consumed.
    pub fn new(bytes: &'i mut [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is left.
    pub fn bytes(&self) -> &[u8] {
        self.rest
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes the next bytes out, `len_max` at most. They outlive this value: only the read buffer is borrowed.
    pub fn take(&mut self, len_max: usize) -> &'i mut [u8] {
        let len = len_max.min(self.rest.len());
        let (front, rest) = std::mem::take(&mut self.rest).split_at_mut(len);
        self.rest = rest;
        front
    }

    /// Takes all that is left.
    pub fn take_all(&mut self) -> &'i mut [u8] {
        std::mem::take(&mut self.rest)
    }
}
