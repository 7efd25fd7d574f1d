//! What is wrong with a configuration, and where it was said.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that is wrong with a configuration, in the order in which it was found.
#[derive(Debug)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    /// One `error: …` per problem, each on lines of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}error: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub enum Problem {
    /// The command line has a form that cannot be read; the text says what and shows the usage.
    Usage(String),
    /// The configuration file cannot be read, is no TOML or has a key that does not exist.
    File {
        /// As it was given.
        path: PathBuf,
        /// Counted from 1, where a line is at fault.
        line: Option<usize>,
        /// What is wrong.
        what: String,
    },
    /// An option has a value that it cannot have.
    Value {
        /// Name without dashes.
        option: &'static str,
        /// Who said it.
        source: Source,
        /// What is wrong.
        what: String,
        /// What would be right; may be empty.
        expected: String,
    },
    /// A key of a namespace's table has a value that it cannot have.
    Namespace {
        /// As it stands in the file.
        namespace: String,
        /// Which key.
        key: &'static str,
        /// Where it stands.
        source: Source,
        /// What is wrong.
        what: String,
        /// What would be right; may be empty.
        expected: String,
    },
    /// Two options that are right alone do not fit together.
    Conflict {
        /// Names without dashes, and who said each.
        options: Vec<(&'static str, Source)>,
        /// What is wrong, and how to mend it.
        what: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::File { path, line, what } => match line {
                Some(line) => write!(f, "{}, line {line}: {what}", path.display()),
                None => write!(f, "{}: {what}", path.display()),
            },
            Self::Value { option, source, what, expected } => {
                write_option(f, option, source)?;
                write!(f, ": {what}")?;
                if !expected.is_empty() {
                    write!(f, "\n  expected: {expected}")?;
                }
                Ok(())
            }
            Self::Namespace { namespace, key, source, what, expected } => {
                write!(f, "{source}: {key} of the namespace {namespace}: {what}")?;
                if !expected.is_empty() {
                    write!(f, "\n  expected: {expected}")?;
                }
                Ok(())
            }
            Self::Conflict { options, what } => {
                for (index, (option, source)) in options.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { " and " })?;
                    write_option(f, option, source)?;
                }
                write!(f, ": {what}")
            }
        }
    }
}

/// Who said the value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody: the default.
    Default,
    /// Nobody: it follows from the option named here.
    Follows(&'static str),
    /// A configuration file.
    File {
        /// As it was given.
        path: Arc<Path>,
        /// Counted from 1.
        line: usize,
    },
    /// The variable of this name.
    Environment(String),
    /// The command line.
    CommandLine,
}

impl Source {
    /// Whether somebody said it, as opposed to a default.
    pub fn is_given(&self) -> bool {
        match self {
            Self::Default | Self::Follows(_) => false,
            Self::File { .. } | Self::Environment(_) | Self::CommandLine => true,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Follows(option) => write!(f, "default, follows from {option}"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment(variable) => write!(f, "variable {variable}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// `--name` alone where the reader has just typed it, else with its source.
fn write_option(f: &mut fmt::Formatter<'_>, option: &str, source: &Source) -> fmt::Result {
    match source {
        Source::CommandLine => write!(f, "--{option}"),
        other => write!(f, "--{option} ({other})"),
    }
}
