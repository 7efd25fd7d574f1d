//! TLS as one more layer without I/O: ciphertext in, plaintext out.
//!
//! Knows neither sockets nor who speaks inside.
