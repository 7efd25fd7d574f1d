//! What waits to be sent to one peer.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use super::large::LARGE_BYTES_MIN;

/// Bytes that wait to be written, in order: small frames side by side in buffers of its own, large or shared
/// payloads by reference.
///
/// Invariant: `queued_bytes` is the sum of all segments and the tail less `written`, and `written` is less than the
/// length of the first of them (or zero when there is none). No segment is empty; the tail may be.
#[derive(Debug, Default)]
pub struct Outbox {
    segments: VecDeque<Segment>,
    /// Behind all segments: where frames are gathered. Mostly it is all there is, and its capacity is kept.
    tail: Vec<u8>,
    /// Bytes of the first segment that the kernel has taken already.
    written: usize,
    queued_bytes: usize,
    /// The large payload that was written last, until it is [taken](Outbox::take_sent).
    sent: Option<Bytes>,
}

#[derive(Debug)]
enum Segment {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Outbox {
    /// Bytes still to be written.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queued_bytes == 0
    }

    /// Lets `write` append bytes behind what is queued.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.tail.len() >= OWN_SEGMENT_BYTES {
            self.end_tail();
        }
        let before = self.tail.len();
        write(&mut self.tail);
        self.queued_bytes += self.tail.len() - before;
    }

    /// Appends a copy of `bytes`.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        self.append(|buf| buf.extend_from_slice(bytes));
    }

    /// Appends `bytes` by reference, or a copy of them where that is cheaper than a segment.
    pub fn push_shared(&mut self, bytes: Bytes) {
        if bytes.len() < SHARE_BYTES_MIN && !self.tail.is_empty() {
            self.push_copy(&bytes);
        } else if !bytes.is_empty() {
            self.end_tail();
            self.queued_bytes += bytes.len();
            self.segments.push_back(Segment::Shared(bytes));
        }
    }

    /// What was gathered becomes a segment, and another tail begins.
    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.segments.push_back(Segment::Own(std::mem::take(&mut self.tail)));
        }
    }

    /// The bytes to be written next, as far as they lie side by side; empty if nothing waits.
    pub fn front(&self) -> &[u8] {
        &self.segments.front().map_or(&self.tail[..], Segment::bytes)[self.written..]
    }

    /// Fills `slices` with what is to be written next and returns how many were used.
    pub fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let mut skip = self.written;
        let mut used = 0;
        for (slot, bytes) in slices.iter_mut().zip(self.segments.iter().map(Segment::bytes).chain(tail)) {
            *slot = IoSlice::new(&bytes[skip..]);
            skip = 0;
            used += 1;
        }
        used
    }

    /// How many segments wait.
    pub fn segment_count(&self) -> usize {
        self.segments.len() + usize::from(!self.tail.is_empty())
    }

    /// Forgets the next `len` bytes: the kernel has them.
    ///
    /// # Panics
    ///
    /// If `len` is more than [`Outbox::queued_bytes`].
    pub fn advance(&mut self, len: usize) {
        assert!(len <= self.queued_bytes, "{len} bytes written of {} queued", self.queued_bytes);
        self.queued_bytes -= len;
        self.written += len;
        while let Some(first) = self.segments.front() {
            let first_len = first.bytes().len();
            if self.written < first_len {
                return;
            }
            self.written -= first_len;
            match self.segments.pop_front() {
                Some(Segment::Own(buf)) => self.keep(buf),
                Some(Segment::Shared(bytes)) if bytes.len() >= LARGE_BYTES_MIN => self.sent = Some(bytes),
                Some(Segment::Shared(_)) | None => {}
            }
        }
        if self.queued_bytes == 0 {
            self.written = 0;
            let tail = std::mem::take(&mut self.tail);
            self.keep(tail);
        }
    }

    /// Takes everything that waits in `newer` behind what waits here.
    ///
    /// # Panics
    ///
    /// If `newer` is written in part already.
    pub fn append_all(&mut self, newer: &mut Self) {
        assert_eq!(newer.written, 0, "what is newer cannot have been written before what is older");
        self.end_tail();
        newer.end_tail();
        self.queued_bytes += std::mem::take(&mut newer.queued_bytes);
        self.segments.append(&mut newer.segments);
    }

    /// The large payload that was written last, if one was since this was last asked.
    pub fn take_sent(&mut self) -> Option<Bytes> {
        self.sent.take()
    }

    /// Drops all that waits.
    pub fn clear(&mut self) {
        if !self.is_empty() {
            self.advance(self.queued_bytes);
        }
    }

    /// Bytes of memory held beyond the value itself, without payloads that others hold as well. Of a long queue only
    /// the first segments are looked at, and the others taken to be alike.
    pub fn heap_bytes(&self) -> usize {
        let looked_at = self.segments.len().min(SEGMENTS_LOOKED_AT);
        let held: usize = self.segments.iter().take(looked_at).map(Segment::heap_bytes).sum();
        let held = held * self.segments.len() / looked_at.max(1);
        held + self.tail.capacity() + self.segments.capacity() * size_of::<Segment>()
    }

    /// The next tail is gathered in `buf`, if it is not too large to be kept and there is none yet.
    fn keep(&mut self, mut buf: Vec<u8>) {
        if self.tail.capacity() == 0 && buf.capacity() <= OWN_SEGMENT_BYTES {
            buf.clear();
            self.tail = buf;
        }
    }
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(buf) => buf,
            Self::Shared(bytes) => bytes,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Own(buf) => buf.capacity(),
            Self::Shared(bytes) if bytes.is_unique() => bytes.len(),
            Self::Shared(_) => 0,
        }
    }
}

/// Frames are gathered in one buffer until it holds this much; a buffer that grew beyond it is not kept.
const OWN_SEGMENT_BYTES: usize = 64 << 10;

/// More would make counting memory slow: each may be a miss of the cache.
const SEGMENTS_LOOKED_AT: usize = 16;

/// Below this, copying into the buffer that is being filled is cheaper than one more segment in a gathered write.
pub(super) const SHARE_BYTES_MIN: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 16];
        let used = outbox.gather(&mut slices);
        slices[..used].iter().flat_map(|s| s.iter().copied()).collect()
    }

    #[test]
    fn every_cut_of_every_mix_leaves_the_rest_in_order() {
        let large = Bytes::from((0..3000u32).map(|i| i as u8).collect::<Vec<_>>());
        let fill = |outbox: &mut Outbox| {
            outbox.push_copy(b"hello ");
            outbox.push_copy(b"world");
            outbox.push_shared(large.clone());
            outbox.push_shared(Bytes::from_static(b"small after shared"));
            outbox.push_copy(b"!");
        };
        let mut whole = Outbox::default();
        fill(&mut whole);
        let want = contents(&whole);
        assert_eq!(want.len(), whole.queued_bytes());
        for first in (0..=want.len()).step_by(7).chain([want.len()]) {
            let mut outbox = Outbox::default();
            fill(&mut outbox);
            outbox.advance(first);
            assert_eq!(contents(&outbox), want[first..], "after {first}");
            assert_eq!(outbox.queued_bytes(), want.len() - first);
            let rest = outbox.queued_bytes();
            outbox.advance(rest);
            assert!(outbox.is_empty() && outbox.front().is_empty());
            outbox.push_copy(b"again");
            assert_eq!(contents(&outbox), b"again");
        }
    }

    #[test]
    fn what_comes_back_half_written_goes_before_what_came_meanwhile() {
        let shared = Bytes::from(vec![7; 2000]);
        type Fill = fn(&mut Outbox, Bytes);
        let fills: [Fill; 3] = [
            |outbox, _| outbox.push_copy(b"gathered in the tail"),
            |outbox, shared| outbox.push_shared(shared),
            |outbox, shared| {
                outbox.push_shared(shared);
                outbox.push_copy(b"a tail behind a segment");
            },
        ];
        for (older, newer) in fills.iter().flat_map(|older| fills.iter().map(move |newer| (older, newer))) {
            let (mut lent, mut meanwhile) = (Outbox::default(), Outbox::default());
            older(&mut lent, shared.clone());
            newer(&mut meanwhile, shared.clone());
            let mut want = contents(&lent);
            want.extend(contents(&meanwhile));
            lent.advance(3);
            lent.append_all(&mut meanwhile);
            assert_eq!((contents(&lent).as_slice(), meanwhile.queued_bytes()), (&want[3..], 0));
            let rest = lent.queued_bytes();
            assert_eq!(rest, want.len() - 3);
            lent.advance(rest);
            assert!(lent.is_empty() && lent.front().is_empty());
        }
    }

    #[test]
    fn memory_is_what_nobody_else_holds() {
        let shared = Bytes::from(vec![1; 5000]);
        for count in [1, 16, 100] {
            let (mut alone, mut together) = (Outbox::default(), Outbox::default());
            for _ in 0..count {
                alone.push_shared(Bytes::from(vec![1; 5000]));
                together.push_shared(shared.clone());
            }
            let list = alone.segments.capacity() * size_of::<Segment>();
            assert_eq!((alone.heap_bytes(), together.heap_bytes()), (count * 5000 + list, list));
        }
    }

    #[test]
    fn an_emptied_buffer_is_used_again() {
        let mut outbox = Outbox::default();
        outbox.push_copy(&[0; 500]);
        let held = outbox.heap_bytes();
        for _ in 0..10 {
            let queued = outbox.queued_bytes();
            outbox.advance(queued);
            outbox.push_copy(&[0; 500]);
        }
        assert_eq!(outbox.heap_bytes(), held);
    }
}
