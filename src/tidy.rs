//! Taste as a test: reads the sources and holds the rules that keep the folders apart.
