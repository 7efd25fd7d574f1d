//! RFC 6455 (WebSocket) and RFC 7692 (permessage-deflate) as functions over bytes.
//!
//! Does not know that connections, tasks or sockets exist.
