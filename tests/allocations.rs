//! What a small message costs the allocator: nothing, once the pools of a core are warm. Counted at the allocator.
//!
//! What is asserted is what is true, no more: a message that a read cuts within its payload is put together in a
//! buffer of its own, which is one allocation (and one more for each time it grows), handed to the application.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use corewire::connection::{Body, Broadcast, Connection, Event, Input, Limits, Tick, Workspace};
use corewire::protocol::deflate::Agreement;
use corewire::protocol::frame::{HEADER_LEN_MAX, encode_header};
use corewire::protocol::{FrameHeader, MessageKind, Opcode, Role, mask};

/// Passes everything on to the system, and counts what this thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all methods pass their arguments on unchanged to `System`, which keeps the contract of `GlobalAlloc`; the
// count is a thread-local without destructor or allocation, so it can be touched inside an allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps `alloc`'s contract towards us, and we ask for the same layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: `at` came from `System` with this layout, as the caller promises and `alloc` did.
        unsafe { System.realloc(at, layout, new_size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System` with this layout, as the caller promises and `alloc` did.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One connection on a core whose buffers are its driver's: one to read into, one that stands for the socket.
struct Echo {
    connection: Connection,
    workspace: Workspace,
    read: Vec<u8>,
    socket: Vec<u8>,
}

impl Echo {
    fn new(deflate: Option<Agreement>) -> Self {
        let mut workspace = Workspace::new(Limits::default(), 1);
        let connection = Connection::established(Role::Server, deflate, &mut workspace, NOW);
        Self { connection, workspace, read: vec![0; 64 << 10], socket: Vec::with_capacity(64 << 10) }
    }

    /// One read, and an echo of whatever it completes.
    fn read(&mut self, wire: &[u8]) {
        let Self { connection, workspace, read, .. } = self;
        let bytes = &mut read[..wire.len()];
        bytes.copy_from_slice(wire);
        let mut input = Input::new(bytes);
        while let Some(event) = connection.poll_event(&mut input, workspace, NOW) {
            let Event::Message(message) = event else { continue };
            connection.send(message.kind(), Body::Borrowed(message.bytes()), workspace).expect("room");
        }
        connection.end_input(&mut input, workspace);
    }

    /// Empties the queue; answers how many bytes were in it.
    fn write(&mut self) -> usize {
        self.socket.clear();
        while let Some(outbox) = self.connection.poll_transmit() {
            self.socket.extend_from_slice(outbox.front());
            let len = outbox.front().len();
            outbox.advance(len);
        }
        self.connection.transmitted(&mut self.workspace);
        self.socket.len()
    }

    /// Allocations per echo, after some to warm up. `cut`: where a read ends within the frame, if it does.
    fn allocations_per_echo(&mut self, wire: &[u8], cut: Option<usize>) -> f64 {
        let mut echo = || {
            let (head, tail) = wire.split_at(cut.unwrap_or(0));
            if !head.is_empty() {
                self.read(head);
                assert_eq!(self.write(), 0);
            }
            self.read(tail);
            assert!(self.write() > 0, "an echo");
        };
        (0..WARM_UP).for_each(|_| echo());
        let before = ALLOCATIONS.get();
        // There are many cuts.
        let echoes = if cut.is_none() { 10_000 } else { 1000 };
        (0..echoes).for_each(|_| echo());
        (ALLOCATIONS.get() - before) as f64 / f64::from(echoes)
    }
}

#[test]
fn whole_messages_allocate_nothing() {
    for (opcode, payload_len) in SMALL {
        let wire = frame(opcode, payload_len);
        assert_eq!(Echo::new(None).allocations_per_echo(&wire, None), 0.0, "{opcode:?}, {payload_len} bytes");
    }
}

#[test]
fn many_messages_in_one_read_allocate_nothing() {
    let wire = [frame(Opcode::Text, 20), frame(Opcode::Ping, 20), frame(Opcode::Binary, 300)].concat().repeat(20);
    assert_eq!(Echo::new(None).allocations_per_echo(&wire, None), 0.0);
}

#[test]
fn a_message_cut_within_its_header_allocates_nothing() {
    for (opcode, payload_len) in SMALL {
        let wire = frame(opcode, payload_len);
        for cut in 1..wire.len() - payload_len {
            let per_echo = Echo::new(None).allocations_per_echo(&wire, Some(cut));
            assert_eq!(per_echo, 0.0, "{opcode:?}, {payload_len} bytes, cut at {cut}");
        }
    }
}

#[test]
fn a_message_cut_within_its_payload_allocates_the_buffer_it_is_put_together_in() {
    for (opcode, payload_len) in SMALL.into_iter().filter(|(_, payload_len)| *payload_len > 1) {
        let wire = frame(opcode, payload_len);
        let header_len = wire.len() - payload_len;
        for cut in [header_len + 1, header_len + payload_len / 2, wire.len() - 1] {
            let per_echo = Echo::new(None).allocations_per_echo(&wire, Some(cut));
            // The first piece, and growth when the second does not fit beside it.
            assert!((1.0..=2.0).contains(&per_echo), "{opcode:?}, {payload_len} bytes, cut at {cut}: {per_echo}");
        }
    }
}

#[test]
fn a_broadcast_allocates_nothing_per_subscriber() {
    for deflate in [None, Some(SHARED)] {
        for payload_len in [16, 300, 5000] {
            let mut workspace = Workspace::new(Limits::default(), 1);
            let mut subscribers: Vec<Connection> =
                (0..1000).map(|_| Connection::established(Role::Server, deflate, &mut workspace, NOW)).collect();
            let mut publish = || {
                let before = ALLOCATIONS.get();
                let mut broadcast = Broadcast::new(MessageKind::Text, vec![b'x'; payload_len].into());
                for connection in &mut subscribers {
                    connection.send_broadcast(&mut broadcast, &mut workspace).expect("room");
                }
                let allocations = ALLOCATIONS.get() - before;
                for connection in &mut subscribers {
                    while let Some(outbox) = connection.poll_transmit() {
                        let len = outbox.queued_bytes();
                        outbox.advance(len);
                    }
                    connection.transmitted(&mut workspace);
                }
                allocations
            };
            (0..3).for_each(|_| {
                publish();
            });
            // The payload, the frame, and what makes each shareable: as many for a thousand as for one.
            let allocations = publish();
            assert!(allocations <= 4, "{allocations} for {payload_len} bytes, {deflate:?}");
        }
    }
}

#[test]
fn control_frames_allocate_nothing() {
    let mut echo = Echo::new(None);
    let wire = frame(Opcode::Ping, 125);
    for cut in [0, 1, 5] {
        let per_echo = echo.allocations_per_echo(&wire, Some(cut));
        assert_eq!(per_echo, 0.0, "cut at {cut}");
    }
}

#[test]
fn a_compressed_message_allocates_only_the_buffer_it_is_inflated_in() {
    let mut far = Workspace::new(Limits::default(), 2);
    let mut client = Connection::established(Role::Client, Some(SHARED), &mut far, NOW);
    let text = "{\"compressed\":true}".repeat(20);
    client.send(MessageKind::Text, Body::Borrowed(text.as_bytes()), &mut far).expect("room");
    let wire = client.poll_transmit().expect("a frame").front().to_vec();
    let mut echo = Echo::new(Some(SHARED));
    assert_eq!(echo.allocations_per_echo(&wire, None), 1.0);
}

/// A client's frame.
fn frame(opcode: Opcode, payload_len: usize) -> Vec<u8> {
    let key = [1, 2, 3, 4];
    let header = FrameHeader { fin: true, rsv1: false, opcode, mask: Some(key), payload_len: payload_len as u64 };
    let mut bytes = [0; HEADER_LEN_MAX];
    let header_len = encode_header(&header, &mut bytes);
    let mut wire = bytes[..header_len].to_vec();
    wire.resize(header_len + payload_len, b'x');
    mask::apply(&mut wire[header_len..], key);
    wire
}

const SMALL: [(Opcode, usize); 10] = [
    (Opcode::Text, 0),
    (Opcode::Text, 1),
    (Opcode::Text, 64),
    (Opcode::Text, 125),
    (Opcode::Text, 1024),
    (Opcode::Binary, 0),
    (Opcode::Binary, 64),
    (Opcode::Binary, 125),
    (Opcode::Binary, 126),
    (Opcode::Binary, 4096),
];

/// Context is kept by neither: what the server negotiates unless it is told otherwise.
const SHARED: Agreement = Agreement {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
    server_window_was_offered: false,
};

const NOW: Tick = Tick(1000);
const WARM_UP: usize = 10;
