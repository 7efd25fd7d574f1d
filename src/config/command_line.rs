//! The command line and its help, made from the table of options.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::load::{Given, split};
use super::options::{Accepts, Fallback, OPTIONS, OptionSpec};
use super::{Command, Problem, Source};

/// What the command line says.
pub(super) enum Parsed {
    /// Text for stdout: the help or the version.
    Print(String),
    /// Options to merge with those of the other sources.
    Options(CommandLine),
}

/// A command line without help or version.
pub(super) struct CommandLine {
    pub(super) command: Command,
    pub(super) config: Option<PathBuf>,
    pub(super) check_config: bool,
    pub(super) given: Vec<(&'static str, Given)>,
}

/// Reads a command line whose first item is the program's name.
pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Result<Parsed, Problem> {
    let mut matches = match definition().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return print_or_refuse(&error),
    };
    let command = match matches.get_one::<String>("command").map(String::as_str) {
        Some("echo") => Command::Echo,
        Some("broadcast") => Command::Broadcast,
        _ => Command::Serve,
    };
    Ok(Parsed::Options(CommandLine {
        command,
        config: matches.remove_one("config"),
        check_config: matches.get_flag("check-config"),
        given: OPTIONS.iter().filter_map(|spec| given(spec, &mut matches)).collect(),
    }))
}

fn print_or_refuse(error: &clap::Error) -> Result<Parsed, Problem> {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Parsed::Print(text)),
        _ => {
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            Err(Problem::Usage(text.trim_end().to_owned()))
        }
    }
}

fn given(spec: &'static OptionSpec, matches: &mut ArgMatches) -> Option<(&'static str, Given)> {
    let values = matches.remove_many::<String>(spec.name)?;
    let given = Given { texts: values.flat_map(|text| split(spec, &text)).collect(), source: Source::CommandLine };
    Some((spec.name, given))
}

fn definition() -> clap::Command {
    clap::Command::new("corewire")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A WebSocket server for Linux: one io_uring runtime per core")
        .before_help(COMMANDS)
        .after_help(SHORT_NOTES)
        .after_long_help(LONG_NOTES)
        .override_usage("corewire [COMMAND] [OPTIONS]")
        .help_template("{about}\n\nUsage: {usage}\n\n{before-help}{all-args}{after-help}")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(Arg::new("command").value_name("COMMAND").hide(true).value_parser(["serve", "echo", "broadcast"]))
        .args(OPTIONS.iter().map(argument))
        .args(general())
}

fn argument(spec: &'static OptionSpec) -> Arg {
    let default = spec.default.describe();
    let (default_label, repeat) = match (spec.default, spec.repeatable) {
        (Fallback::Value("0"), _) => (zero_meaning(spec).unwrap_or(default), ""),
        (_, true) => (default, "; may be repeated"),
        (_, false) => (default, ""),
    };
    let short = format!("{}{repeat} [default: {default_label}]", spec.help);
    let mut long = format!("{}{repeat}.", spec.help);
    if !spec.more.is_empty() {
        long = format!("{long} {}", spec.more);
    }
    let accepts = match &spec.accepts {
        Accepts::Size(_) | Accepts::Count(..) | Accepts::Span(..) => {
            format!("[range: {}] ", spec.accepts.unit_and_range())
        }
        Accepts::Word(_) | Accepts::Form(_) => String::new(),
    };
    long = format!("{long}\n{accepts}[default: {default}]\n[env: {}]", spec.variable());
    let action = if spec.repeatable { ArgAction::Append } else { ArgAction::Set };
    let arg = if spec.is_switch() {
        Arg::new(spec.name).num_args(0..=1).require_equals(true).default_missing_value("on")
    } else {
        Arg::new(spec.name)
    };
    arg.long(spec.name)
        .value_name(spec.value_name)
        .help_heading(spec.group.title())
        .action(action)
        .help(short)
        .long_help(long)
}

/// What a default of zero means.
fn zero_meaning(spec: &OptionSpec) -> Option<&'static str> {
    match &spec.accepts {
        Accepts::Count(_, zero) | Accepts::Span(_, zero) => *zero,
        Accepts::Size(_) | Accepts::Word(_) | Accepts::Form(_) => None,
    }
}

/// What is no option of the server and therefore stands in no file.
fn general() -> [Arg; 4] {
    [
        Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("TOML file with any of the options above [env: COREWIRE_CONFIG]"),
        Arg::new("check-config")
            .long("check-config")
            .action(ArgAction::SetTrue)
            .help("Check everything, print each effective value with its source, and exit"),
        Arg::new("help").long("help").short('h').action(ArgAction::Help).help("Print help; -h is shorter than --help"),
        Arg::new("version").long("version").short('V').action(ArgAction::Version).help("Print the version"),
    ]
    .map(|arg| arg.help_heading("General"))
}

const COMMANDS: &str = "\
Commands:
  serve      Topics for clients of any kind, with a page to try it at / (the default)
  echo       Every message goes back to its sender
  broadcast  Every message goes to every connection on every core, its sender included";

const SHORT_NOTES: &str = "`corewire --help` tells more about each option, its range and its variable.";

const LONG_NOTES: &str = "\
Where options come from:
  Each option is also a key of the file, without the dashes, and a variable: --idle-timeout 1m is \
idle-timeout = \"1m\" in the file and COREWIRE_IDLE_TIMEOUT=1m in the environment. The command line wins \
over the environment, the environment over the file, the file over the default.
  A list is taken whole from the winner. Options that may be repeated take a comma-separated list as well, \
in the file also an array. An empty variable counts as not set.

Values:
  Sizes      65536, 64k, 64KiB, 1M, 16MiB, 2G: bytes, powers of 1024
  Durations  500ms, 10s, 5m, 1h 30m; 0 where its meaning is given
  Counts     500, 10k, 2M: powers of 1000

Examples:
  corewire
  corewire echo --listen 0.0.0.0:8080 --cores 0-3
  corewire --listen 0.0.0.0:443 --tls-cert fullchain.pem --tls-key privkey.pem --origin https://example.com
  corewire --listen 0.0.0.0:8080 --trusted-proxy 10.0.0.0/8 --drain-delay 10s
  corewire --listen unix:/run/corewire.sock --unix-mode 666
  corewire --config /etc/corewire.toml --check-config

Exit status: 0 after a clean stop, 1 when the server cannot start or fails, 2 when an option is wrong.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn both_helps_document_every_option() {
        let unwrapped = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let short = unwrapped(definition().render_help().to_string());
        let long = unwrapped(definition().render_long_help().to_string());
        for spec in OPTIONS {
            let flag = match spec.is_switch() {
                true => format!("--{}[=<{}>]", spec.name, spec.value_name),
                false => format!("--{} <{}>", spec.name, spec.value_name),
            };
            assert!(short.contains(&flag), "{flag} in -h");
            assert!(long.contains(&flag), "{flag} in --help");
            let documented = format!("[default: {}] [env: {}]", spec.default.describe(), spec.variable());
            assert!(long.contains(&documented), "{flag}: {documented}");
            assert!(short.contains(spec.help), "{flag}");
            assert!(short.contains(spec.group.title()), "{flag}");
        }
    }
}
