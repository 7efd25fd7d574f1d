//! From bytes to messages: frames cut anywhere, fragments, UTF-8, inflation (RFC 6455 §5, §8.1; RFC 7692 §7.2.2).

use super::extra::{self, Extra};
use super::input::Input;
use super::large::{LargeBuffer, LargeBuffers};
use super::workspace::{WINDOW_BITS_MAX, Workspace};
use crate::protocol::Opcode;
use crate::protocol::Violation;
use crate::protocol::deflate::{Agreement, InflateError, Inflater};
use crate::protocol::frame::{self, FrameHeader, FrameRules, HEADER_LEN_MAX, Role, WholeFrame};
use crate::protocol::mask;
use crate::protocol::utf8::{self, Utf8Stream};
use crate::protocol::{Message, MessageKind, Payload};

/// A frame or message that a read cut, kept until the next one.
#[derive(Default)]
pub(super) struct Receiving {
    /// The first bytes of a header.
    header: [u8; HEADER_LEN_MAX],
    header_len: usize,
    frame: Option<Frame>,
    /// A data message of which some fragment or part of one has arrived.
    message: Option<Assembly>,
    /// Payload of a control frame that a read cut; never more than 125 bytes (RFC 6455 §5.5).
    control: Vec<u8>,
}

/// A frame whose payload is arriving.
#[derive(Clone, Copy)]
struct Frame {
    fin: bool,
    rsv1: bool,
    opcode: Opcode,
    /// Turned so that its first byte belongs to the next byte of payload.
    key: [u8; 4],
    left: u64,
}

impl Frame {
    /// What is left of it, as far as memory goes.
    fn left_len(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }
}

/// A message whose frames are arriving.
struct Assembly {
    kind: MessageKind,
    compressed: bool,
    fragments: u32,
    utf8: Utf8Stream,
    /// Grows with what arrived, never with what was announced.
    data: Data,
}

/// The bytes of a message whose frames are arriving.
enum Data {
    Small(Vec<u8>),
    /// Much had arrived, and much was to come.
    Large(LargeBuffer),
}

/// What is agreed with the peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) role: Role,
    pub(super) deflate: Option<Agreement>,
}

/// How one direction is compressed.
#[derive(Clone, Copy)]
pub(super) struct Compression {
    pub(super) context_takeover: bool,
    pub(super) window_bits: u8,
}

impl Terms {
    /// How we compress (RFC 7692 §7.1: each side's parameters carry its name).
    pub(super) fn ours(self) -> Option<Compression> {
        self.deflate.map(|agreement| match self.role {
            Role::Server => by_server(agreement),
            Role::Client => by_client(agreement),
        })
    }

    /// How the peer compresses.
    pub(super) fn theirs(self) -> Option<Compression> {
        self.deflate.map(|agreement| match self.role {
            Role::Server => by_client(agreement),
            Role::Client => by_server(agreement),
        })
    }
}

fn by_server(agreement: Agreement) -> Compression {
    Compression {
        context_takeover: !agreement.server_no_context_takeover,
        window_bits: agreement.server_max_window_bits,
    }
}

fn by_client(agreement: Agreement) -> Compression {
    Compression {
        context_takeover: !agreement.client_no_context_takeover,
        window_bits: agreement.client_max_window_bits,
    }
}

/// What a whole frame brought.
pub(super) enum Received<'i> {
    Message(Message<'i>),
    Ping(Payload<'i>),
    Pong(Payload<'i>),
    Close(Payload<'i>),
}

impl Receiving {
    pub(super) fn is_idle(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Bytes of memory held beyond the value itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.control.capacity() + self.message.as_ref().map_or(0, |message| message.data.capacity())
    }
}

/// Consumes input until a frame has something to tell or the input is used up.
pub(super) fn poll<'i>(
    slot: &mut Option<Box<Extra>>,
    terms: Terms,
    input: &mut Input<'i>,
    workspace: &mut Workspace,
) -> Result<Option<Received<'i>>, Violation> {
    if let Some(message) = poll_whole(slot, terms, input, workspace)? {
        return Ok(Some(Received::Message(message)));
    }
    while !input.is_empty() {
        let frame = match slot.as_mut().and_then(|extra| extra.receiving.frame.take()) {
            Some(frame) => frame,
            None => match read_header(slot, terms, input, workspace)? {
                Some(header) => {
                    // An empty frame is whole as soon as its header is.
                    begin(slot.as_deref(), &header, workspace)?
                }
                None => return Ok(None),
            },
        };
        if let Some(received) = read_payload(slot, terms, frame, input, workspace)? {
            return Ok(Some(received));
        }
    }
    Ok(None)
}

/// A message that comes whole in one frame while nothing else is under way. It is unmasked and checked, and that is all
/// there is to do. `None`: what comes is something else.
#[inline]
fn poll_whole<'i>(
    slot: &Option<Box<Extra>>,
    terms: Terms,
    input: &mut Input<'i>,
    workspace: &Workspace,
) -> Result<Option<Message<'i>>, Violation> {
    let idle = slot.as_ref().is_none_or(|extra| extra.receiving.is_idle());
    if !idle || terms.role != Role::Server {
        return Ok(None);
    }
    let limits = &workspace.limits;
    let fits = |frame: &WholeFrame| frame.payload_len <= limits.frame_bytes_max.min(limits.message_bytes_max);
    let Some(frame) = frame::decode_whole(input.bytes()).filter(fits) else { return Ok(None) };
    input.take(frame.header_len);
    let payload = input.take(frame.payload_len);
    mask::apply(payload, frame.key);
    if frame.kind == MessageKind::Text {
        utf8::validate(payload).map_err(|_| Violation::InvalidUtf8)?;
    }
    Ok(Some(Message::new(frame.kind, Payload::Borrowed(payload))))
}

/// The next header: straight from the input, or stitched together with the bytes kept from earlier reads.
fn read_header(
    slot: &mut Option<Box<Extra>>,
    terms: Terms,
    input: &mut Input<'_>,
    workspace: &mut Workspace,
) -> Result<Option<FrameHeader>, Violation> {
    let rules = FrameRules {
        role: terms.role,
        rsv1_allowed: terms.deflate.is_some(),
        frame_bytes_max: workspace.limits.frame_bytes_max as u64,
    };
    let kept_len = slot.as_ref().map_or(0, |extra| extra.receiving.header_len);
    if kept_len == 0 {
        if let Some((header, len)) = frame::decode_header(input.bytes(), &rules)? {
            input.take(len);
            return Ok(Some(header));
        }
        let rest = input.take_all();
        let receiving = &mut extra::ensure(slot, workspace).receiving;
        receiving.header[..rest.len()].copy_from_slice(rest);
        receiving.header_len = rest.len();
        return Ok(None);
    }
    let receiving = &mut extra::ensure(slot, workspace).receiving;
    let fresh_len = input.bytes().len().min(HEADER_LEN_MAX - kept_len);
    let seen_len = kept_len + fresh_len;
    receiving.header[kept_len..seen_len].copy_from_slice(&input.bytes()[..fresh_len]);
    match frame::decode_header(&receiving.header[..seen_len], &rules)? {
        Some((header, len)) => {
            receiving.header_len = 0;
            input.take(len - kept_len);
            Ok(Some(header))
        }
        None => {
            receiving.header_len = seen_len;
            input.take(fresh_len);
            Ok(None)
        }
    }
}

/// Checks a header against the message under way (RFC 6455 §5.4) and the limits, before any of its payload is kept.
fn begin(extra: Option<&Extra>, header: &FrameHeader, workspace: &Workspace) -> Result<Frame, Violation> {
    if !header.opcode.is_control() {
        let limits = &workspace.limits;
        let message = extra.and_then(|extra| extra.receiving.message.as_ref());
        let earlier = match (message, header.opcode) {
            (None, Opcode::Continuation) => return Err(Violation::UnexpectedContinuation),
            (Some(message), Opcode::Continuation) => {
                if message.fragments >= limits.fragments_max {
                    return Err(Violation::TooManyFragments);
                }
                message.data.len()
            }
            (Some(_), _) => return Err(Violation::InterleavedMessage),
            (None, _) => 0,
        };
        if header.payload_len > (limits.message_bytes_max - earlier.min(limits.message_bytes_max)) as u64 {
            return Err(Violation::MessageTooBig);
        }
    }
    Ok(Frame {
        fin: header.fin,
        rsv1: header.rsv1,
        opcode: header.opcode,
        key: header.mask.unwrap_or_default(),
        left: header.payload_len,
    })
}

fn read_payload<'i>(
    slot: &mut Option<Box<Extra>>,
    terms: Terms,
    mut frame: Frame,
    input: &mut Input<'i>,
    workspace: &mut Workspace,
) -> Result<Option<Received<'i>>, Violation> {
    let payload = input.take(frame.left_len());
    if terms.role == Role::Server {
        mask::apply(payload, frame.key);
    }
    frame.left -= payload.len() as u64;
    let whole = frame.left == 0;
    if !whole {
        frame.key = mask::rotate(frame.key, payload.len());
        extra::ensure(slot, workspace).receiving.frame = Some(frame);
    }
    if frame.opcode.is_control() {
        Ok(control(slot, frame.opcode, payload, whole, workspace))
    } else {
        data(slot, terms, frame, payload, workspace)
    }
}

fn control<'i>(
    slot: &mut Option<Box<Extra>>,
    opcode: Opcode,
    payload: &'i [u8],
    whole: bool,
    workspace: &mut Workspace,
) -> Option<Received<'i>> {
    let kept = slot.as_ref().is_some_and(|extra| !extra.receiving.control.is_empty());
    let payload = if whole && !kept {
        Payload::Borrowed(payload)
    } else {
        let kept = &mut extra::ensure(slot, workspace).receiving.control;
        kept.extend_from_slice(payload);
        if !whole {
            return None;
        }
        Payload::Owned(std::mem::take(kept))
    };
    match opcode {
        Opcode::Ping => Some(Received::Ping(payload)),
        Opcode::Pong => Some(Received::Pong(payload)),
        Opcode::Close => Some(Received::Close(payload)),
        Opcode::Continuation | Opcode::Text | Opcode::Binary => unreachable!("only control frames come here"),
    }
}

fn data<'i>(
    slot: &mut Option<Box<Extra>>,
    terms: Terms,
    frame: Frame,
    payload: &'i [u8],
    workspace: &mut Workspace,
) -> Result<Option<Received<'i>>, Violation> {
    let whole = frame.left == 0;
    let under_way = slot.as_ref().is_some_and(|extra| extra.receiving.message.is_some());
    if whole && frame.fin && !under_way {
        return finish(slot, terms, kind_of(frame.opcode), frame.rsv1, Payload::Borrowed(payload), workspace).map(Some);
    }
    let message = extra::ensure(slot, workspace).receiving.message.get_or_insert_with(|| Assembly::new(frame));
    message.push(payload, frame.left_len(), &mut workspace.large)?;
    if whole { end_frame(slot, terms, frame, workspace) } else { Ok(None) }
}

/// The last byte of a data frame has arrived that did not come alone.
fn end_frame<'i>(
    slot: &mut Option<Box<Extra>>,
    terms: Terms,
    frame: Frame,
    workspace: &mut Workspace,
) -> Result<Option<Received<'i>>, Violation> {
    let message = slot.as_mut().and_then(|extra| extra.receiving.message.as_mut()).expect("a part of it was kept");
    message.fragments += 1;
    if !frame.fin {
        return Ok(None);
    }
    let message = slot.as_mut().and_then(|extra| extra.receiving.message.take()).expect("it was filled just above");
    if message.checks_utf8() {
        message.utf8.finish().map_err(|_| Violation::InvalidUtf8)?;
        return Ok(Some(Received::Message(Message::new(message.kind, message.data.into_payload()))));
    }
    finish(slot, terms, message.kind, message.compressed, message.data.into_payload(), workspace).map(Some)
}

/// Room for some of what is to come of the frame under way, behind what has arrived of its message. To be asked if
/// [`has_much_to_come`].
pub(super) fn message_buffer<'a>(extra: &'a mut Extra, buffers: &mut LargeBuffers) -> Option<&'a mut [u8]> {
    let left = extra.receiving.frame?.left_len();
    Some(extra.receiving.message.as_mut()?.data.large(left, buffers).room(left, buffers))
}

/// Whether [`message_buffer`] is worth asking.
pub(super) fn has_much_to_come(extra: &Extra) -> bool {
    let receiving = &extra.receiving;
    let begun = receiving.message.as_ref().is_some_and(|message| is_much(message.data.len()));
    begun && receiving.frame.is_some_and(|frame| is_much(frame.left_len()) && !frame.opcode.is_control())
}

fn is_much(len: usize) -> bool {
    len >= DIRECT_BYTES_MIN
}

/// `len` bytes were received to the beginning of what [`message_buffer`] gave.
pub(super) fn received_in_place(
    slot: &mut Option<Box<Extra>>,
    terms: Terms,
    len: usize,
    workspace: &mut Workspace,
) -> Result<Option<Received<'static>>, Violation> {
    let receiving = &mut slot.as_mut().expect("it gave the buffer").receiving;
    let (Some(frame), Some(message)) = (&mut receiving.frame, &mut receiving.message) else {
        unreachable!("the buffer was that of a message with a frame under way");
    };
    let checks_utf8 = message.checks_utf8();
    let Data::Large(data) = &mut message.data else { unreachable!("the buffer was that of a large message") };
    let fresh = data.received(len);
    if terms.role == Role::Server {
        mask::apply(fresh, frame.key);
    }
    if checks_utf8 {
        message.utf8.push(fresh).map_err(|_| Violation::InvalidUtf8)?;
    }
    frame.left -= len as u64;
    frame.key = mask::rotate(frame.key, len);
    let frame = *frame;
    if frame.left > 0 {
        return Ok(None);
    }
    receiving.frame = None;
    end_frame(slot, terms, frame, workspace)
}

/// A message whose bytes are all there: inflates it, checks text that was not checked on the way.
fn finish<'i>(
    slot: &mut Option<Box<Extra>>,
    terms: Terms,
    kind: MessageKind,
    compressed: bool,
    payload: Payload<'i>,
    workspace: &mut Workspace,
) -> Result<Received<'i>, Violation> {
    let payload = match terms.theirs() {
        Some(theirs) if compressed => Payload::Owned(inflate(slot, theirs, payload.bytes(), workspace)?),
        Some(_) | None => payload,
    };
    if kind == MessageKind::Text {
        utf8::validate(payload.bytes()).map_err(|_| Violation::InvalidUtf8)?;
    }
    Ok(Received::Message(Message::new(kind, payload)))
}

fn inflate(
    slot: &mut Option<Box<Extra>>,
    theirs: Compression,
    compressed: &[u8],
    workspace: &mut Workspace,
) -> Result<Vec<u8>, Violation> {
    let message_bytes_max = workspace.limits.message_bytes_max;
    let mut out = Vec::new();
    let result = if theirs.context_takeover {
        let inflater = extra::ensure(slot, workspace)
            .inflater
            .get_or_insert_with(|| Box::new(Inflater::new(theirs.window_bits.min(WINDOW_BITS_MAX))));
        inflater.inflate(compressed, &mut out, message_bytes_max, true)
    } else {
        workspace.shared_inflater().inflate(compressed, &mut out, message_bytes_max, false)
    };
    match result {
        Ok(()) => Ok(out),
        Err(InflateError::TooBig) => Err(Violation::MessageTooBig),
        Err(InflateError::Corrupt) => Err(Violation::DeflateCorrupt),
    }
}

impl Assembly {
    fn new(frame: Frame) -> Self {
        Self {
            kind: kind_of(frame.opcode),
            compressed: frame.rsv1,
            fragments: 0,
            utf8: Utf8Stream::default(),
            data: Data::Small(Vec::new()),
        }
    }

    /// Plain text is checked as it arrives, so that it fails at the first bad byte (RFC 6455 §8.1).
    fn checks_utf8(&self) -> bool {
        self.kind == MessageKind::Text && !self.compressed
    }

    /// Appends `payload`; `left` bytes of its frame are to come.
    fn push(&mut self, payload: &[u8], left: usize, buffers: &mut LargeBuffers) -> Result<(), Violation> {
        if self.checks_utf8() {
            self.utf8.push(payload).map_err(|_| Violation::InvalidUtf8)?;
        }
        self.data.push(payload, left, buffers);
        Ok(())
    }
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::Large(large) => large.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.capacity(),
            Self::Large(large) => large.capacity(),
        }
    }

    fn push(&mut self, payload: &[u8], left: usize, buffers: &mut LargeBuffers) {
        match self {
            Self::Large(large) => large.push(payload),
            // It would only be copied a second time.
            Self::Small(bytes) if bytes.is_empty() && is_much(payload.len()) && is_much(left) => {
                *self = Self::Large(LargeBuffer::begin(payload, left, buffers));
            }
            Self::Small(bytes) => bytes.extend_from_slice(payload),
        }
    }

    /// The large buffer, made if there is none yet.
    fn large(&mut self, left: usize, buffers: &mut LargeBuffers) -> &mut LargeBuffer {
        if let Self::Small(bytes) = self {
            *self = Self::Large(LargeBuffer::begin(bytes, left, buffers));
        }
        match self {
            Self::Large(large) => large,
            Self::Small(_) => unreachable!("it became large a line above"),
        }
    }

    fn into_payload(self) -> Payload<'static> {
        match self {
            Self::Small(bytes) => Payload::Owned(bytes),
            Self::Large(large) => Payload::Shared(large.into_bytes()),
        }
    }
}

/// What must have arrived of a message, and be still to come of its frame, for reads straight into its buffer.
const DIRECT_BYTES_MIN: usize = 32 << 10;

fn kind_of(opcode: Opcode) -> MessageKind {
    match opcode {
        Opcode::Text => MessageKind::Text,
        Opcode::Binary => MessageKind::Binary,
        Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {
            unreachable!("a message begins with a data opcode; `begin` refused everything else")
        }
    }
}
