//! The runtime's view of a socket that the shard owns.

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};

use monoio::net::TcpStream;

/// A stream that closes nothing when it goes.
pub(super) struct View(ManuallyDrop<TcpStream>);

impl View {
    /// The socket must outlive the view: the shard closes a socket only when no view of it is in use.
    pub(super) fn new(socket: BorrowedFd<'_>) -> Self {
        // SAFETY: the descriptor is open and, by the rule above, stays so for as long as this view lives. `from_std`
        // turns the value back into a number, and `ManuallyDrop` keeps the view from closing it.
        let stream = unsafe { std::net::TcpStream::from_raw_fd(socket.as_raw_fd()) };
        let stream = TcpStream::from_std(stream).expect("wrapping a descriptor for the ring does not fail");
        Self(ManuallyDrop::new(stream))
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.0
    }

    /// Gives the descriptor up without closing it. No operation may be in flight.
    pub(super) fn release(self) {
        let _ = ManuallyDrop::into_inner(self.0).into_raw_fd();
    }
}
