//! The `corewire` command as its user meets it: what it prints, where, and its exit status.

#![cfg(feature = "cli")]

use std::process::{Command, Output};

fn corewire(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corewire"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COREWIRE_") {
            command.env_remove(name);
        }
    }
    command.args(args).output().expect("corewire runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn help_and_version_go_to_stdout() {
    for (args, want) in [
        (["-h"], "--max-message-bytes"),
        (["--help"], "COREWIRE_MAX_MESSAGE_BYTES"),
        (["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = corewire(&args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(text(&output.stdout).contains(want), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_wrong_option_is_told_on_stderr_with_status_2() {
    for args in [
        &["--nonsense"][..],
        &["nonsense"],
        &["--idle-timeout", "10"],
        &["--tls-cert", "/none"],
        &["--config", "/none"],
        &["--check-config", "--cores", "8191"],
    ] {
        let output = corewire(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{args:?}");
    }
}

#[test]
fn check_config_prints_a_file_on_stdout_and_warnings_on_stderr() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/corewire.toml");
    let output = corewire(&["--check-config", "--config", example, "--unix-mode", "600"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("unix-mode = \"600\"  # command line\n"));
    assert!(text(&output.stdout).contains("corewire.toml, line "));
    assert!(text(&output.stderr).starts_with("warning: --unix-mode has no effect"));
}
