//! Options from the command line, the environment and a TOML file, with one precedence.
//!
//! Knows nothing that runs: it fills the option structs that each layer defines for itself.
