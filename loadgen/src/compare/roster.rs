//! The servers of a comparison: what a plan says of them, and those that have been started.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::figures::Kind;
use crate::observe::Observer;
use crate::spawn::{self, Server};
use crate::target::Target;

/// A server, how it is started and how it is reached.
///
/// In the command, `{port}` stands for a free port, `{mode}` for what it must do with messages, `{cert}` and `{key}`
/// for files, and `$NAME` for a variable of the environment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerPlan {
    pub(super) name: String,
    command: String,
    /// The command for broadcast, if it is another.
    broadcast: Option<String>,
    /// Follows the command where TLS is spoken. Without it, the server speaks none.
    tls: Option<String>,
    #[serde(default = "default_url")]
    url: String,
    /// What it can do. If not given: both with `{mode}` in the command or a `broadcast`, else echo.
    modes: Option<Vec<Mode>>,
    /// Left out, and said so, where it is not to be had.
    #[serde(default)]
    optional: bool,
}

/// What a server does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// It goes back to its sender.
    Echo,
    /// It goes to everybody.
    Broadcast,
}

/// Why a server is not there.
#[derive(Debug)]
pub(super) enum Absent {
    /// It is optional: the sentence is worth a note.
    LeftOut(String),
    /// Nothing can be compared.
    Failed(String),
}

/// A server that has been started, and how it is reached.
pub(super) struct Contestant {
    pub(super) name: String,
    pub(super) mode: Mode,
    pub(super) tls: bool,
    pub(super) url: String,
    pub(super) observer: Observer,
    /// Ends with this value.
    _server: Server,
}

/// Certificate and key that all servers show.
#[derive(Debug)]
pub(super) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    /// A folder to be removed at the end.
    made_in: Option<PathBuf>,
}

impl ServerPlan {
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        let commands = [Some(&self.command), self.broadcast.as_ref()];
        if commands.into_iter().flatten().any(|command| !command.contains("{port}")) {
            return Err(format!("the command of `{}` has no {{port}} to be told where to listen", self.name));
        }
        if self.modes.as_ref().is_some_and(Vec::is_empty) {
            return Err(format!("`{}` has no mode: echo or broadcast", self.name));
        }
        if self.tls.as_ref().is_some_and(|tls| !tls.contains("{cert}") || !tls.contains("{key}")) {
            return Err(format!("tls of `{}` has no {{cert}} and {{key}}", self.name));
        }
        Target::parse(&self.url.replace("{port}", "1")).map(drop).map_err(|error| error.to_string())
    }

    /// Whether it can be given such a case.
    pub(super) fn can(&self, kind: Kind, mode: Mode, tls: bool) -> bool {
        let has_mode = match &self.modes {
            Some(modes) => modes.contains(&mode),
            None => mode == Mode::Echo || self.command.contains("{mode}") || self.broadcast.is_some(),
        };
        if self.url.starts_with("tcp:") {
            // An echo of bytes has no handshake, no broadcast and no TLS.
            return kind == Kind::Echo && !tls;
        }
        has_mode && (!tls || self.tls.is_some())
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// Why it is not there.
    pub(super) fn start(
        &self,
        mode: Mode,
        certificate: Option<&Certificate>,
        core: Option<usize>,
    ) -> Result<Contestant, Absent> {
        self.try_start(mode, certificate, core).map_err(|reason| {
            let reason = format!("{}: {reason}", self.name);
            if self.optional { Absent::LeftOut(reason) } else { Absent::Failed(reason) }
        })
    }

    fn try_start(
        &self,
        mode: Mode,
        certificate: Option<&Certificate>,
        core: Option<usize>,
    ) -> Result<Contestant, String> {
        let port = spawn::free_port()?.to_string();
        let command = self.command_line(mode, certificate, &port)?;
        let url = self.url.replace("{port}", &port);
        let url = if certificate.is_some() { url.replacen("ws:", "wss:", 1) } else { url };
        let target = Target::parse(&url).map_err(|error| error.to_string())?;
        let address = target.resolve(false).map_err(|error| error.to_string())?;
        let mut server = Server::start(&command, core)?;
        server.wait_until_it_listens(address, START_LIMIT)?;
        let observer = Observer::new(server.pid())?;
        Ok(Contestant { name: self.name.clone(), mode, tls: certificate.is_some(), url, observer, _server: server })
    }

    fn command_line(&self, mode: Mode, certificate: Option<&Certificate>, port: &str) -> Result<String, String> {
        let command = match (mode, &self.broadcast) {
            (Mode::Broadcast, Some(broadcast)) => broadcast,
            (Mode::Broadcast, None) | (Mode::Echo, _) => &self.command,
        };
        let name = match mode {
            Mode::Echo => "echo",
            Mode::Broadcast => "broadcast",
        };
        let mut command = expand(command, |name| std::env::var(name).ok())?;
        if let (Some(certificate), Some(tls)) = (certificate, &self.tls) {
            command = format!("{command} {tls}")
                .replace("{cert}", &certificate.cert.display().to_string())
                .replace("{key}", &certificate.key.display().to_string());
        }
        Ok(command.replace("{port}", port).replace("{mode}", name))
    }
}

impl Certificate {
    /// What the plan names, or one of our own for 127.0.0.1.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub(super) fn get(named: Option<&(PathBuf, PathBuf)>) -> Result<Self, String> {
        if let Some((cert, key)) = named {
            for path in [cert, key] {
                crate::commands::read_file(path)?;
            }
            return Ok(Self { cert: cert.clone(), key: key.clone(), made_in: None });
        }
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])
            .map_err(|error| format!("no certificate can be made: {error}"))?;
        let folder = std::env::temp_dir().join(format!("corewire-load-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
        let write = |name: &str, pem: String| {
            let path = folder.join(name);
            crate::commands::write_file(&path, &pem).map(|()| path)
        };
        let (cert, key) = (write("cert.pem", made.cert.pem())?, write("key.pem", made.signing_key.serialize_pem())?);
        Ok(Self { cert, key, made_in: Some(folder) })
    }

    #[cfg(test)]
    fn paths(&self) -> [&std::path::Path; 2] {
        [&self.cert, &self.key]
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        if let Some(folder) = &self.made_in {
            // It lies where files are forgotten.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Puts variables in the place of `$NAME`.
///
/// # Errors
///
/// The name of one that is not set.
fn expand(command: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = command;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, behind) = rest.split_at(len);
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&variable(name).ok_or_else(|| format!("the variable {name} is not set"))?);
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn default_url() -> String {
    "ws://127.0.0.1:{port}/".to_owned()
}

/// For a server to come up.
const START_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> ServerPlan {
        toml::from_str(&format!("name = 'x'\n{text}")).unwrap()
    }

    #[test]
    fn commands_are_filled_in() {
        let both = server("command = 'x {mode} --port {port}'\ntls = '-c {cert} -k {key}'");
        let certificate = Certificate { cert: "/c".into(), key: "/k".into(), made_in: None };
        assert_eq!(both.command_line(Mode::Broadcast, None, "7").unwrap(), "x broadcast --port 7");
        let with_tls = both.command_line(Mode::Echo, Some(&certificate), "7").unwrap();
        assert_eq!(with_tls, "x echo --port 7 -c /c -k /k");
        let two = server("command = 'x {port}'\nbroadcast = 'y {port}'");
        assert_eq!(two.command_line(Mode::Echo, None, "7").unwrap(), "x 7");
        assert_eq!(two.command_line(Mode::Broadcast, None, "7").unwrap(), "y 7");
    }

    #[test]
    fn variables_are_filled_in_or_missed_by_name() {
        let variable = |name: &str| (name == "UWS_ECHO").then(|| "/opt/uws echo".to_owned());
        assert_eq!(expand("$UWS_ECHO --port {port} 5$", variable).unwrap(), "/opt/uws echo --port {port} 5$");
        assert!(expand("$NONE/x", variable).unwrap_err().contains("NONE is not set"));
    }

    #[test]
    fn what_a_server_can_do() {
        let (echo, both) = (server("command = 'x {port}'"), server("command = 'x {mode} {port}'"));
        let told = server("command = 'x {mode} {port}'\nmodes = ['echo']\ntls = '{cert} {key}'");
        let floor = server("command = 'x {port}'\nurl = 'tcp://127.0.0.1:{port}'");
        let cases = [
            (&echo, Kind::Echo, Mode::Echo, false, true),
            (&echo, Kind::Fanout, Mode::Broadcast, false, false),
            (&echo, Kind::Storm, Mode::Echo, true, false),
            (&both, Kind::Fanout, Mode::Broadcast, false, true),
            (&told, Kind::Fanout, Mode::Broadcast, false, false),
            (&told, Kind::Storm, Mode::Echo, true, true),
            (&floor, Kind::Echo, Mode::Echo, false, true),
            (&floor, Kind::Storm, Mode::Echo, false, false),
            (&floor, Kind::Idle, Mode::Echo, false, false),
        ];
        for (server, kind, mode, tls, want) in cases {
            assert_eq!(server.can(kind, mode, tls), want, "{server:?} {kind:?} {tls}");
        }
        assert!(server("command = 'x'").check().unwrap_err().contains("{port}"));
        assert!(server("command = 'x {port}'\ntls = 'x'").check().unwrap_err().contains("{cert}"));
        assert!(server("command = 'x {port}'\nurl = 'x'").check().is_err());
    }

    #[test]
    fn an_optional_server_is_left_out_and_another_is_an_error() {
        let wants = "command = '$COREWIRE_LOAD_NO_SUCH_VARIABLE {port}'";
        let Err(Absent::LeftOut(note)) = server(&format!("{wants}\noptional = true")).start(Mode::Echo, None, None)
        else {
            panic!("nothing is there to be started")
        };
        assert!(note.contains("COREWIRE_LOAD_NO_SUCH_VARIABLE is not set"), "{note}");
        assert!(matches!(server(wants).start(Mode::Echo, None, None), Err(Absent::Failed(_))));
    }

    #[test]
    fn a_certificate_is_made_and_removed() {
        let certificate = Certificate::get(None).unwrap();
        let [cert, key] = certificate.paths().map(PathBuf::from);
        assert!(std::fs::read_to_string(&cert).unwrap().contains("BEGIN CERTIFICATE"));
        assert!(std::fs::read_to_string(&key).unwrap().contains("PRIVATE KEY"));
        drop(certificate);
        assert!(!cert.exists() && !key.exists());
        assert!(Certificate::get(Some(&("/none".into(), "/none".into()))).is_err());
    }
}
