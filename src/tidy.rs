//! Taste as a test: reads the sources and holds the rules that keep the folders apart.
//!
//! What it reads is text, not syntax: tests and comments are left out, and what stands behind `crate::` or at the
//! beginning of a path counts as an import.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// One folder, or file, below `src`: which of its neighbours and which crates it may name.
struct Room {
    name: &'static str,
    neighbours: &'static [&'static str],
    crates: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room { name: "ids", neighbours: &[], crates: &[] },
    Room { name: "http", neighbours: &[], crates: &["httparse", "bytes"] },
    // The opening handshake is an HTTP request, so the protocol reads request heads.
    Room {
        name: "protocol",
        neighbours: &["http"],
        crates: &["bytes", "flate2", "httparse", "sha1", "base64", "simdutf8"],
    },
    // rustls has a module of the name aws_lc_rs.
    Room { name: "tls", neighbours: &[], crates: &["rustls", "bytes", "aws_lc_rs"] },
    Room { name: "connection", neighbours: &["protocol", "http", "tls"], crates: &["bytes"] },
    Room { name: "rate", neighbours: &["connection"], crates: &[] },
    Room {
        name: "auth",
        neighbours: &[],
        crates: &["aws_lc_rs", "base64", "jsonwebtoken", "rustls_pki_types", "serde", "serde_json"],
    },
    Room { name: "wire", neighbours: &["protocol"], crates: &["serde", "serde_json"] },
    Room { name: "topics", neighbours: &["rate"], crates: &["bytes"] },
    Room { name: "metrics", neighbours: &[], crates: &[] },
    Room { name: "mesh", neighbours: &["ids", "metrics"], crates: &["bytes", "rtrb", "crossbeam_queue"] },
    // Of the connection a handler sees only values: how it ended, why nothing was queued, what is to be sent.
    Room {
        name: "handler",
        neighbours: &["protocol", "http", "ids", "connection", "tls", "topics"],
        crates: &["bytes"],
    },
    Room { name: "backend", neighbours: &["handler", "ids", "topics"], crates: &[] },
    Room {
        name: "builtin",
        neighbours: &["auth", "backend", "handler", "http", "protocol", "rate", "topics", "wire"],
        crates: &["bytes"],
    },
    Room {
        name: "shard",
        neighbours: &["connection", "handler", "http", "ids", "mesh", "metrics", "protocol", "tls", "topics"],
        crates: &["bytes", "monoio", "io_uring", "rustix", "socket2"],
    },
    Room {
        name: "control",
        neighbours: &[
            "auth", "builtin", "config", "handler", "mesh", "metrics", "protocol", "server", "topics", "wire",
        ],
        crates: &[
            "aws_lc_rs",
            "axum",
            "base64",
            "bytes",
            "http_body_util",
            "hyper",
            "hyper_util",
            "rustix",
            "serde",
            "serde_json",
            "tokio",
        ],
    },
    Room {
        name: "webhooks",
        neighbours: &["backend", "ids", "metrics", "topics"],
        crates: &[
            "aws_lc_rs",
            "base64",
            "bytes",
            "http_body_util",
            "hyper",
            "hyper_rustls",
            "hyper_util",
            "rustls",
            "rustls_native_certs",
            "serde",
            "serde_json",
            "tokio",
        ],
    },
    Room {
        name: "config",
        neighbours: &["auth", "backend", "connection", "http", "rate", "server", "topics", "webhooks"],
        crates: &["clap", "humantime", "toml", "tracing_subscriber"],
    },
    Room {
        name: "server",
        neighbours: &["connection", "handler", "http", "mesh", "metrics", "protocol", "shard", "tls", "topics"],
        crates: &["bytes", "core_affinity"],
    },
    Room {
        name: "startup",
        neighbours: &[
            "backend", "builtin", "config", "control", "handler", "metrics", "protocol", "reload", "server", "tls",
            "topics", "webhooks",
        ],
        crates: &["rustix", "signal_hook"],
    },
    Room {
        name: "reload",
        neighbours: &["auth", "builtin", "config", "control", "server", "tls", "webhooks"],
        crates: &[],
    },
    Room { name: "main", neighbours: &["config"], crates: &["core_affinity", "libmimalloc_sys", "mimalloc"] },
];

/// Crates that anybody may name.
const EVERYWHERE: &[&str] = &["std", "core", "thiserror", "tracing"];

/// What a shard decides, it decides without sockets, a runtime or a clock.
const STATE_MUST_NOT_NAME: &[&str] = &["monoio", "io_uring", "rustix", "socket2", "std::os", "std::net::Tcp"];

/// Where the clock may be read. Everybody else is told what time it is.
const CLOCK_READERS: &[&str] = &[
    "shard/clock.rs",
    "control/",
    "server",
    "startup.rs",
    "webhooks/delivery.rs",
    "webhooks/http.rs",
    "webhooks/proxy.rs",
];

/// Where atomics may stand: what crosses cores, and what others read, of whom the kernel is one.
const ATOMIC_USERS: &[&str] = &["mesh/", "metrics.rs", "shard/ring/", "webhooks/figures.rs", "webhooks/gate.rs"];

/// Where `unsafe` may stand, and how often at most.
const UNSAFE_USERS: &[(&str, usize)] =
    &[("main.rs", 1), ("protocol/mask.rs", 2), ("shard/ring/buffers.rs", 6), ("shard/ring/mod.rs", 2)];

/// Files longer than the aim, with the length they must not outgrow. Lower a number when its file shrinks.
const LONG_FILES: &[(&str, usize)] = &[];
const FILE_LINES_AIM: usize = 560;

#[test]
fn every_folder_names_only_what_it_may_know() {
    let names: Vec<_> = ROOMS.iter().map(|room| room.name).collect();
    for source in sources() {
        let Some(room) = ROOMS.iter().find(|room| room.name == source.room) else {
            assert!(source.room == "lib", "{}: is in no room of the table", source.path);
            continue;
        };
        for neighbour in source.neighbours() {
            let known = neighbour == room.name || room.neighbours.contains(&&*neighbour);
            assert!(known || !names.contains(&&*neighbour), "{}: must not know {neighbour}", source.path);
        }
        for name in source.crates() {
            let known = room.crates.contains(&&*name) || EVERYWHERE.contains(&&*name);
            assert!(known, "{}: must not name the crate {name}", source.path);
        }
    }
}

#[test]
fn shard_state_names_no_socket_runtime_or_clock() {
    for source in sources().iter().filter(|source| source.path.starts_with("shard/state")) {
        for name in STATE_MUST_NOT_NAME {
            assert!(!source.code.contains(name), "{}: must not name {name}", source.path);
        }
    }
}

#[test]
fn the_clock_is_read_where_code_drives() {
    for source in sources() {
        let reads = ["Instant::now", "SystemTime::now", ".elapsed()"].iter().any(|call| source.code.contains(call));
        assert!(!reads || source.is_one_of(CLOCK_READERS), "{}: must be told what time it is", source.path);
    }
}

#[test]
fn atomics_stand_where_cores_meet() {
    for source in sources() {
        let uses = source.code.contains("sync::atomic");
        assert!(!uses || source.is_one_of(ATOMIC_USERS), "{}: has no business with atomics", source.path);
    }
}

#[test]
fn unsafe_stands_where_it_was_argued() {
    for source in sources() {
        let count = source.words().filter(|&word| word == "unsafe").count();
        let allowed = UNSAFE_USERS.iter().find(|(path, _)| *path == source.path).map_or(0, |(_, count)| *count);
        assert!(count <= allowed, "{}: {count} times unsafe, {allowed} allowed", source.path);
    }
}

#[test]
fn no_file_grows_without_end() {
    for source in sources() {
        let lines = source.code.lines().count();
        let listed = LONG_FILES.iter().find(|(path, _)| *path == source.path).map(|(_, lines)| *lines);
        let most = listed.unwrap_or(FILE_LINES_AIM);
        assert!(lines <= most, "{}: {lines} lines of code, {most} at most: give a neighbour some", source.path);
    }
}

#[test]
fn no_name_in_these_tables_is_stale() {
    let sources = sources();
    let paths: BTreeSet<_> = sources.iter().map(|source| &*source.path).collect();
    let files = UNSAFE_USERS.iter().chain(LONG_FILES).map(|(path, _)| *path);
    for path in files.chain(CLOCK_READERS.iter().chain(ATOMIC_USERS).copied()) {
        assert!(paths.iter().any(|source| source.starts_with(path)), "{path} is in a table but not in the tree");
    }
    let rooms: BTreeMap<_, _> = sources.iter().map(|source| (&*source.room, &*source.path)).collect();
    for room in ROOMS {
        assert!(rooms.contains_key(room.name), "{} is in the table but not in the tree", room.name);
    }
}

#[test]
fn the_reader_of_imports_is_not_fooled() {
    let source =
        Source::new("shard/x.rs", "use crate::{mesh::Post, http};\nuse rustix::io;\nlet x = crate::tls::new();\n");
    assert_eq!(source.neighbours(), BTreeSet::from(["mesh", "http", "tls"].map(String::from)));
    assert_eq!(source.crates(), BTreeSet::from(["rustix".to_owned()]));
    let source =
        Source::new("http/y.rs", "let a = 1; // use monoio::x\n#[cfg(test)]\nmod tests { use monoio::net; }\n");
    assert!(source.crates().is_empty());
    assert_eq!(Source::new("mesh/mod.rs", "").room, "mesh");
}

/// A file below `src`, without its comments and tests.
struct Source {
    /// Below `src`.
    path: String,
    /// The folder below `src`, or the file's own stem.
    room: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code: String = code.lines().map(|line| without_comment(line).to_owned() + "\n").collect();
        let room = path.split_once('/').map_or(path.trim_end_matches(".rs"), |(folder, _)| folder);
        Self { path: path.to_owned(), room: room.to_owned(), code }
    }

    fn is_one_of(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.code.split(|c: char| !c.is_alphanumeric() && c != '_')
    }

    /// What stands behind `crate::` or, in the binary, `corewire::`.
    fn neighbours(&self) -> BTreeSet<String> {
        let roots = ["crate::", "corewire::"];
        let paths = roots.iter().flat_map(|root| self.code.split(root).skip(1));
        paths.flat_map(first_names).collect()
    }

    /// First names of all `use` declarations that are not ours, and crates named by a path within code.
    fn crates(&self) -> BTreeSet<String> {
        let ours = ["crate", "self", "super", "corewire"];
        let uses = self.code.lines().filter_map(|line| {
            let line = line.trim_start();
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("use ")?.split([':', ';', ' ']).next().map(str::to_owned)
        });
        let named = ROOMS.iter().flat_map(|room| room.crates).filter(|name| {
            let path = format!("{name}::");
            self.code.match_indices(&path).any(|(at, _)| !continues_a_path(&self.code[..at]))
        });
        let modules: BTreeSet<_> =
            self.code.lines().filter_map(|line| line.trim_start().strip_suffix(';')?.split_once("mod ")).collect();
        let is_module = |name: &str| modules.iter().any(|(_, module)| *module == name);
        // An item that was imported a line above may be used as a path too: `use Stage::Open`.
        let is_type = |name: &str| name.starts_with(|c: char| c.is_uppercase());
        uses.chain(named.map(|name| (*name).to_owned()))
            .filter(|name| !ours.contains(&&**name) && !is_module(name) && !is_type(name))
            .collect()
    }
}

/// The first segments of a path, or of each path of a braced group.
fn first_names(rest: &str) -> Vec<String> {
    let name = |path: &str| path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
    match rest.strip_prefix('{').and_then(|group| group.split_once('}')) {
        Some((group, _)) => group.split(',').filter_map(name).filter(|name| !name.is_empty()).collect(),
        None => name(rest).into_iter().collect(),
    }
}

fn continues_a_path(before: &str) -> bool {
    before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}

/// Good enough for this tree: a `//` in a string would hide code behind it, and no line here has both.
fn without_comment(line: &str) -> &str {
    match line.find("//") {
        Some(at) if !line[..at].contains('"') => &line[..at],
        Some(_) | None => line,
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 40, "only {} sources were found: is this the right folder?", found.len());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_some_and(|name| name != "tests.rs" && name != "tidy.rs")
        {
            let text = fs::read_to_string(&path).expect("the file is readable");
            let below = path.strip_prefix(root).expect("it was found below the root");
            found.push(Source::new(&below.to_string_lossy(), &text));
        }
    }
}
