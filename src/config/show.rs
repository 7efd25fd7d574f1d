//! The effective configuration as a TOML file that can be loaded again.

use std::fmt::Write as _;

use super::options::{NAMESPACE_KEYS, OPTIONS, Shown};
use super::{Command, Loaded, Source, namespaces};

impl Loaded {
    /// Every option with its value and who said it, as TOML.
    ///
    /// Loaded as a file it gives the same configuration, but for the command, which no file holds, and for secrets.
    pub fn to_toml(&self) -> String {
        let command = match self.config.command {
            Command::Serve => "serve",
            Command::Echo => "echo",
            Command::Broadcast => "broadcast",
        };
        let mut text = format!("# corewire {command}\n");
        let mut group = None;
        for spec in OPTIONS {
            if group.replace(spec.group) != Some(spec.group) {
                let _ = write!(text, "\n# {}\n", spec.group.title());
            }
            let source = self.source(spec.name);
            let _ = match (spec.get)(&self.config) {
                Shown::Unset => writeln!(text, "# {} is not set: {}", spec.name, spec.default.describe()),
                Shown::Hidden => writeln!(text, "# {} is set, and not shown here  # {source}", spec.name),
                Shown::List(values) if values.is_empty() => {
                    writeln!(text, "# {} is not set: {}", spec.name, spec.default.describe())
                }
                Shown::Text(value) => {
                    writeln!(text, "{} = {}  # {source}", spec.name, quoted(&value))
                }
                Shown::Number(value) => writeln!(text, "{} = {value}  # {source}", spec.name),
                Shown::List(values) => {
                    let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
                    writeln!(text, "{} = [{}]  # {source}", spec.name, values.join(", "))
                }
            };
        }
        self.write_namespaces(&mut text);
        text
    }

    /// Tables, which stand behind everything that belongs to none.
    fn write_namespaces(&self, text: &mut String) {
        text.push_str("\n# Namespaces\n");
        for (namespace, sources) in self.config.namespaces.iter().zip(&self.namespace_sources) {
            let _ = writeln!(text, "\n[namespace.{}]", quoted(namespaces::shown_name(namespace)));
            for key in NAMESPACE_KEYS {
                let follows_demo = namespace.name.is_empty() && self.config.demo && key.name == "publish";
                let source = match sources.get(key.name) {
                    _ if follows_demo => &Source::Follows("demo"),
                    source => source.unwrap_or(&Source::Default),
                };
                let value = match (key.get)(namespace) {
                    Shown::Number(value) => value.to_string(),
                    Shown::Text(value) => quoted(&value),
                    Shown::Unset | Shown::Hidden | Shown::List(_) => {
                        unreachable!("no key of a namespace has such a value")
                    }
                };
                let _ = writeln!(text, "{} = {value}  # {source}", key.name);
            }
        }
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
