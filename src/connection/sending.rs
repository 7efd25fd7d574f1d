//! From messages to bytes: frame headers, masking, compression, and frames that many peers share
//! (RFC 6455 §5.2, §5.3; RFC 7692 §7.2.1).

use bytes::{BufMut, Bytes, BytesMut};

use super::extra::{self, Extra};
use super::outbox::{Outbox, SHARE_BYTES_MIN};
use super::receiving::{Compression, Terms};
use super::workspace::{DEFLATE_LEVEL, WINDOW_BITS_MAX, WINDOW_BITS_MIN, Workspace};
use crate::protocol::MessageKind;
use crate::protocol::Opcode;
use crate::protocol::deflate::{Deflater, worth_deflating};
use crate::protocol::frame::{self, FrameHeader, HEADER_LEN_MAX, Role};
use crate::protocol::mask;

/// The payload of a message to be sent.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// Copied when it is queued.
    Borrowed(&'a [u8]),
    /// Kept by reference until it is written, if it is large.
    Shared(Bytes),
}

impl Body<'_> {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    /// The bytes, copied if they are borrowed.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Self::Shared(bytes) => bytes,
        }
    }
}

/// How messages go out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Framing {
    /// In frames (RFC 6455 §5.2).
    Frames(Terms),
    /// As they are, in a stream.
    Nothing,
}

/// Queues a message of a stream.
pub(super) fn as_it_is(body: Body<'_>, outbox: &mut Outbox) {
    match body {
        Body::Borrowed(bytes) => outbox.push_copy(bytes),
        Body::Shared(bytes) => outbox.push_shared(bytes),
    }
}

/// Queues a data message.
pub(super) fn message(
    slot: &mut Option<Box<Extra>>,
    terms: Terms,
    kind: MessageKind,
    body: Body<'_>,
    outbox: &mut Outbox,
    workspace: &mut Workspace,
) {
    let opcode = opcode_of(kind);
    if let Some(ours) = terms.ours().filter(|_| worth_deflating(body.bytes().len())) {
        let mut deflated = std::mem::take(&mut workspace.deflated);
        deflated.clear();
        deflate(slot, ours, body.bytes(), &mut deflated, workspace);
        // A message that does not shrink goes as it is, unless the peer's window has it already (RFC 7692 §7.2.1).
        if deflated.len() < body.bytes().len() || ours.context_takeover {
            frame_out(terms.role, opcode, true, &deflated, outbox, workspace);
            workspace.deflated = deflated;
            return;
        }
        workspace.deflated = deflated;
    }
    match body {
        // A client's frame is masked, so its payload cannot be shared.
        Body::Shared(bytes) if terms.role == Role::Server && bytes.len() >= SHARE_BYTES_MIN => {
            let (header, header_len) = header(opcode, false, None, bytes.len());
            outbox.push_copy(&header[..header_len]);
            outbox.push_shared(bytes);
        }
        body => frame_out(terms.role, opcode, false, body.bytes(), outbox, workspace),
    }
}

/// Queues one unfragmented frame.
pub(super) fn frame_out(
    role: Role,
    opcode: Opcode,
    rsv1: bool,
    payload: &[u8],
    outbox: &mut Outbox,
    workspace: &mut Workspace,
) {
    let mask = match role {
        Role::Server => None,
        Role::Client => Some(workspace.random.mask_key()),
    };
    let (header, header_len) = header(opcode, rsv1, mask, payload.len());
    outbox.append(|buf| {
        let payload_start = buf.len() + header_len;
        // All of the array and a cut: a copy whose length the compiler knows is no call.
        buf.reserve(HEADER_LEN_MAX + payload.len());
        buf.extend_from_slice(&header);
        buf.truncate(payload_start);
        buf.extend_from_slice(payload);
        if let Some(key) = mask {
            mask::apply(&mut buf[payload_start..], key);
        }
    });
}

fn deflate(
    slot: &mut Option<Box<Extra>>,
    ours: Compression,
    payload: &[u8],
    out: &mut Vec<u8>,
    workspace: &mut Workspace,
) {
    if ours.context_takeover {
        let deflater = extra::ensure(slot, workspace).deflater.get_or_insert_with(|| {
            let bits = ours.window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
            Box::new(Deflater::new(bits, DEFLATE_LEVEL))
        });
        deflater.deflate(payload, out, true);
    } else {
        workspace.shared_deflater(ours.window_bits).deflate(payload, out, false);
    }
}

fn header(opcode: Opcode, rsv1: bool, mask: Option<[u8; 4]>, payload_len: usize) -> ([u8; HEADER_LEN_MAX], usize) {
    let mut bytes = [0; HEADER_LEN_MAX];
    let header = FrameHeader { fin: true, rsv1, opcode, mask, payload_len: payload_len as u64 };
    let len = frame::encode_header(&header, &mut bytes);
    (bytes, len)
}

fn opcode_of(kind: MessageKind) -> Opcode {
    match kind {
        MessageKind::Text => Opcode::Text,
        MessageKind::Binary => Opcode::Binary,
    }
}

/// One message on its way to many peers: encoded at most once per encoding, and shared.
pub struct Broadcast {
    kind: MessageKind,
    payload: Bytes,
    plain: Option<Bytes>,
    /// By window bits from 9 to 15, for peers without context takeover. `Some(None)`: did not shrink.
    deflated: [Option<Option<Bytes>>; 7],
}

impl Broadcast {
    /// Nothing is encoded yet.
    pub fn new(kind: MessageKind, payload: Bytes) -> Self {
        Self { kind, payload, plain: None, deflated: Default::default() }
    }

    /// Bytes of payload.
    #[expect(clippy::len_without_is_empty, reason = "an empty message is a message like any other")]
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// What streams get.
    pub(super) fn payload(&self) -> Bytes {
        self.payload.clone()
    }

    /// Queues this message to one peer.
    pub(super) fn queue(
        &mut self,
        slot: &mut Option<Box<Extra>>,
        terms: Terms,
        outbox: &mut Outbox,
        workspace: &mut Workspace,
    ) {
        // A client's frames are masked with a key each, and a compressor with context makes each frame unique.
        let unique = terms.role == Role::Client || terms.ours().is_some_and(|ours| ours.context_takeover);
        if unique {
            let body = Body::Shared(self.payload.clone());
            return message(slot, terms, self.kind, body, outbox, workspace);
        }
        let frame = match terms.ours().filter(|_| worth_deflating(self.payload.len())) {
            Some(ours) => self.deflated_frame(ours.window_bits, workspace),
            None => self.plain_frame(),
        };
        outbox.push_shared(frame);
    }

    fn plain_frame(&mut self) -> Bytes {
        let (kind, payload) = (self.kind, &self.payload);
        self.plain.get_or_insert_with(|| shared_frame(opcode_of(kind), false, payload)).clone()
    }

    fn deflated_frame(&mut self, window_bits: u8, workspace: &mut Workspace) -> Bytes {
        let bits = window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        let index = usize::from(bits - WINDOW_BITS_MIN);
        if self.deflated[index].is_none() {
            let mut out = std::mem::take(&mut workspace.deflated);
            out.clear();
            workspace.shared_deflater(bits).deflate(&self.payload, &mut out, false);
            let frame = (out.len() < self.payload.len()).then(|| shared_frame(opcode_of(self.kind), true, &out));
            self.deflated[index] = Some(frame);
            workspace.deflated = out;
        }
        match &self.deflated[index] {
            Some(Some(frame)) => frame.clone(),
            Some(None) | None => self.plain_frame(),
        }
    }
}

fn shared_frame(opcode: Opcode, rsv1: bool, payload: &[u8]) -> Bytes {
    let (header, header_len) = header(opcode, rsv1, None, payload.len());
    let mut frame = BytesMut::with_capacity(header_len + payload.len());
    frame.put_slice(&header[..header_len]);
    frame.put_slice(payload);
    frame.freeze()
}
