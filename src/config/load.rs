//! Merges the sources: command line over environment over file over default.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::command_line::{self, CommandLine, Parsed};
use super::namespaces::{self, NamespaceSources};
use super::options::{Draft, Fallback, Input, OPTIONS, OptionSpec};
use super::{Config, ConfigError, Problem, Source, check, file, parse};

/// What a command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Print this text (the help or the version) and exit with 0.
    Print(String),
    /// Print the warnings and [`Loaded::to_toml`], and exit with 0.
    Check(Loaded),
    /// Run the server.
    Run(Loaded),
}

/// A configuration that has passed all checks, and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// What to do.
    pub config: Config,
    /// What is allowed but probably not meant; sentences for the operator.
    pub warnings: Vec<String>,
    pub(super) sources: Sources,
    /// In the order of [`Config::namespaces`].
    pub(super) namespace_sources: NamespaceSources,
}

impl Config {
    /// Reads and merges all sources, and checks the result.
    ///
    /// `args` starts with the program's name. `env` answers with the value of a variable. `read_file` is asked for the
    /// configuration file and for the TLS files, so that a file that cannot be read is found before anything starts.
    pub fn from_sources(
        args: impl Iterator<Item = OsString>,
        env: impl Fn(&str) -> Option<String>,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Invocation, ConfigError> {
        let line = match command_line::parse(args)? {
            Parsed::Print(text) => return Ok(Invocation::Print(text)),
            Parsed::Options(line) => line,
        };
        let check_config = line.check_config;
        let loaded = load(line, &env, &read_file)?;
        Ok(if check_config { Invocation::Check(loaded) } else { Invocation::Run(loaded) })
    }
}

impl Loaded {
    /// Who said the value of an option, by its name without dashes.
    pub fn source(&self, option: &str) -> &Source {
        self.sources.get(option)
    }

    /// The cores to run on: those that were asked for, or all of `allowed`, which is the process's affinity mask.
    ///
    /// Refuses a core outside `allowed`, whether it does not exist or is denied to this process.
    pub fn choose_cores(&self, allowed: &[usize]) -> Result<Vec<usize>, ConfigError> {
        let Some(wanted) = &self.config.cores else {
            return Ok(allowed.to_vec());
        };
        let denied: Vec<usize> = wanted.iter().copied().filter(|core| !allowed.contains(core)).collect();
        if denied.is_empty() {
            return Ok(wanted.clone());
        }
        let noun = if denied.len() == 1 { "core" } else { "cores" };
        Err(ConfigError::from(Problem::Value {
            option: "cores",
            source: self.source("cores").clone(),
            what: format!("{noun} {} cannot be used by this process", parse::show_cores(&denied)),
            expected: format!("cores among {}", parse::show_cores(allowed)),
        }))
    }
}

/// The texts that a source gave for one option; at least one.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) texts: Vec<String>,
    pub(super) source: Source,
}

/// Who said the value of each option.
#[derive(Debug)]
pub(super) struct Sources(Vec<(&'static str, Source)>);

impl Sources {
    pub(super) fn get(&self, option: &str) -> &Source {
        let found = self.0.iter().find(|(name, _)| *name == option);
        found.map_or(&Source::Default, |(_, source)| source)
    }

    pub(super) fn set(&mut self, option: &'static str, source: Source) {
        self.0.retain(|(name, _)| *name != option);
        self.0.push((option, source));
    }
}

/// One text as the values of an option: a list where the option is repeatable.
pub(super) fn split(spec: &OptionSpec, text: &str) -> Vec<String> {
    if spec.repeatable { text.split(',').map(|part| part.trim().to_owned()).collect() } else { vec![text.to_owned()] }
}

fn load(
    line: CommandLine,
    env: &dyn Fn(&str) -> Option<String>,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let (path, from_file) = match config_path(line.config, env) {
        Some((path, told_by)) => {
            let contents = read_config(&path, &told_by, read_file, &mut problems);
            (path, contents)
        }
        None => Default::default(),
    };

    let mut draft = Draft::new(line.command);
    let mut sources = Sources(Vec::new());
    for spec in OPTIONS {
        let given = take(&line.given, spec)
            .or_else(|| from_env(spec, env))
            .or_else(|| take(&from_file.options, spec))
            .or_else(|| default(spec));
        let Some(given) = given else { continue };
        match apply(spec, &given, &mut draft) {
            Ok(()) => sources.set(spec.name, given.source),
            Err(problem) => problems.push(problem),
        }
    }
    let (namespaces, namespace_sources) = namespaces::build(&path, from_file.namespaces, &mut problems);
    draft.config.namespaces = namespaces;
    // What spans several options is judged only when each is right alone: else one mistake is told twice.
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }

    let warnings = check::finish(&mut draft, &mut sources, read_file, &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    Ok(Loaded { config: draft.config, warnings, sources, namespace_sources })
}

fn take(given: &[(&'static str, Given)], spec: &OptionSpec) -> Option<Given> {
    let found = given.iter().find(|(name, _)| *name == spec.name)?;
    Some(found.1.clone())
}

fn from_env(spec: &OptionSpec, env: &dyn Fn(&str) -> Option<String>) -> Option<Given> {
    let variable = spec.variable();
    let text = env(&variable).filter(|text| !text.is_empty())?;
    Some(Given { texts: split(spec, &text), source: Source::Environment(variable) })
}

fn default(spec: &OptionSpec) -> Option<Given> {
    match spec.default {
        Fallback::Value(text) | Fallback::Following(text, _) => {
            Some(Given { texts: split(spec, text), source: Source::Default })
        }
        Fallback::Unset(_) => None,
    }
}

fn apply(spec: &'static OptionSpec, given: &Given, draft: &mut Draft) -> Result<(), Problem> {
    let outcome = match given.texts.is_empty() {
        true => Err("the list is empty".to_owned()),
        false => (spec.set)(draft, &Input::new(spec, &given.texts)),
    };
    outcome.map_err(|what| Problem::Value {
        option: spec.name,
        source: given.source.clone(),
        what: name_the_value(what, given),
        expected: spec.accepts.describe(),
    })
}

/// A sentence that does not quote the value gets it in front.
fn name_the_value(what: String, given: &Given) -> String {
    match given.texts.as_slice() {
        [text] if !what.contains(&format!("`{text}`")) => format!("`{text}`: {what}"),
        _ => what,
    }
}

/// The configuration file and who named it.
fn config_path(from_line: Option<PathBuf>, env: &dyn Fn(&str) -> Option<String>) -> Option<(PathBuf, Source)> {
    let from_env = || {
        let path = env(CONFIG_VARIABLE).filter(|path| !path.is_empty())?;
        Some((PathBuf::from(path), Source::Environment(CONFIG_VARIABLE.to_owned())))
    };
    from_line.map(|path| (path, Source::CommandLine)).or_else(from_env)
}

fn read_config(
    path: &Path,
    told_by: &Source,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
    problems: &mut Vec<Problem>,
) -> file::Contents {
    match read_file(path) {
        Ok(text) => file::read(path, &text, problems),
        Err(error) => {
            problems.push(Problem::Value {
                option: "config",
                source: told_by.clone(),
                what: format!("cannot read {}: {error}", path.display()),
                expected: String::new(),
            });
            file::Contents::default()
        }
    }
}

const CONFIG_VARIABLE: &str = "COREWIRE_CONFIG";

#[cfg(test)]
mod tests;
