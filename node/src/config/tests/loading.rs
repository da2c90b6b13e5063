//! Files as a whole: bad ones, unchanged ones, generated keys, warnings, what the machine lacks.

use std::net::TcpListener;

use proptest::prelude::*;

use super::*;

fn text_of(rejection: &Rejection, folder: &Folder) -> String {
    texts(&rejection.problems, folder.folder.path()).join("\n")
}

#[test]
fn files_that_cannot_be_used() {
    let folder = Folder::new();
    let cases: &[(&[u8], &str)] = &[
        (b"", "conf.yaml: is empty"),
        (b"node: [\n", "conf.yaml:2:1: is not YAML"),
        (b"node: \xff\n", "conf.yaml:1:7: byte 6 is not UTF-8"),
        (b"just words\n", "conf.yaml:1:1: is a text, not a mapping"),
        (b"a: &a [x]\nb: &b [*a,*a]\n<<: 7\n", "conf.yaml: a merge key `<<` cannot be applied"),
        (b"node: {}\nnode: {}\n", "conf.yaml:2:1: key \"node\" stands here twice"),
    ];
    for (bytes, piece) in cases {
        folder.write("conf.yaml", bytes);
        let error = folder.load_against(None).unwrap_err();
        assert!(text_of(&error, &folder).contains(piece), "{}", text_of(&error, &folder));
    }
    let laughs = (1..10).fold(String::from("a0: &a0 [x, x]\n"), |text, level| {
        format!("{text}a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", "))
    });
    folder.conf(&laughs);
    let error = folder.load_against(None).unwrap_err();
    assert!(text_of(&error, &folder).contains("aliases (`*name`) expand"), "{error}");
    fs::remove_file(folder.path("conf.yaml")).unwrap();
    let error = folder.load_against(None).unwrap_err();
    assert_eq!(text_of(&error, &folder), "conf.yaml: does not exist (create it, or name another one)");
    let large = fs::File::create(folder.path("conf.yaml")).unwrap();
    large.set_len(100 * 1024 * 1024).unwrap();
    let error = folder.load_against(None).unwrap_err();
    assert!(text_of(&error, &folder).contains("is 104857600 bytes large"), "{error}");
}

#[test]
fn a_file_cut_off_before_its_logging_is_refused() {
    let folder = Folder::new();
    let text = folder.default();
    let enough = text.find("format: json").unwrap() + "format: json".len();
    for end in (0..enough).filter(|end| text.is_char_boundary(*end)).step_by(7) {
        folder.conf(&text[..end]);
        let error = folder.load_against(None).expect_err(&text[..end]);
        assert!(!error.problems.is_empty());
    }
}

#[test]
fn problems_of_both_files_come_together() {
    let folder = Folder::new();
    folder.edit(&[("level: info", "level: inof"), ("budget: 2s", "budget: 2")]);
    folder.write("peers.yaml", "peers:\n- public_key: x!\n");
    let shown = texts(&folder.rejection(), folder.folder.path());
    let starts = [
        "conf.yaml:31:10: logging.level: ",
        "conf.yaml:46:11: reload.budget: ",
        "peers.yaml:2:15: peers[0].public_key: ",
    ];
    assert_eq!(shown.len(), starts.len(), "{shown:#?}");
    for (line, start) in shown.iter().zip(starts) {
        assert!(line.starts_with(start), "{line} / {start}");
    }
}

#[test]
fn a_peers_file_that_cannot_be_read_is_told_at_the_key_that_names_it() {
    let folder = Folder::new();
    fs::create_dir(folder.path("peers.yaml")).unwrap();
    let expected =
        "conf.yaml:16:9: peers.file: the file \"peers.yaml\" is not a regular file (name a regular file)";
    assert_eq!(texts(&folder.rejection(), folder.folder.path()), [expected]);
    folder.edit(&[("  file: peers.yaml\n", "")]);
    let shown = texts(&folder.rejection(), folder.folder.path());
    assert!(shown[0].starts_with("conf.yaml:15:1: peers.file: the file \"peers.yaml\" "), "{shown:?}");
}

#[test]
fn a_file_that_has_not_changed_is_the_configuration_that_runs() {
    let folder = Folder::new();
    folder.write("peers.yaml", format!("peers:\n- public_key: {}\n  odd: 1\n", key()));
    let first = folder.load();
    assert_eq!(first.warnings.len(), 1);
    let second = folder.load_against(Some(&first.config)).unwrap();
    assert!(Arc::ptr_eq(&first.config, &second.config));
    assert_eq!(second.warnings, first.warnings);

    // Comments and spelled-out defaults: another text, equal values, every section shared.
    folder.conf(&format!("{}# an afterthought\n", folder.default().replace("  settle: 1s ", "  #")));
    let third = folder.load_against(Some(&first.config)).unwrap().config;
    assert!(!Arc::ptr_eq(&first.config, &third));
    assert_eq!(*first.config, *third);
    assert!(
        Arc::ptr_eq(&first.config.network, &third.network)
            && Arc::ptr_eq(&first.config.reload, &third.reload)
    );
    assert!(Arc::ptr_eq(&first.config.peers.members, &third.peers.members));
    assert!(first.config.changes(&third).is_empty());

    folder.edit(&[("level: info", "level: debug")]);
    let fourth = folder.load_against(Some(&first.config)).unwrap();
    assert!(Arc::ptr_eq(&first.config.peers.members, &fourth.config.peers.members));
    assert_eq!(
        fourth.warnings, first.warnings,
        "the peers file was not parsed again, what is odd in it is still told"
    );
    assert!(!Arc::ptr_eq(&first.config.logging, &fourth.config.logging));
}

#[test]
fn a_snapshot_loads_like_the_files() {
    let folder = Folder::new();
    folder.write("peers.yaml", format!("peers:\n- public_key: {}\n", key()));
    let loaded = folder.load();
    folder.conf("broken: [");
    fs::remove_file(folder.path("peers.yaml")).unwrap();
    let path = folder.path("conf.yaml");
    let again = Config::from_snapshot(&path, loaded.snapshot.clone(), None).unwrap();
    assert_eq!(*again.config, *loaded.config);
    assert_eq!(again.snapshot, loaded.snapshot);
    assert!(!format!("{:?}", again).contains(&folder.identity.to_text()));
}

#[test]
fn a_missing_key_is_generated_and_kept() {
    let folder = Folder::new();
    let text = folder.identity.to_text();
    folder.conf(&folder.default().replace(&text, ""));
    let checked = folder.load();
    assert!(
        checked.warnings.iter().any(|warning| warning.message.contains("will generate one")),
        "{:?}",
        checked.warnings
    );
    assert_eq!(fs::read_to_string(folder.path("conf.yaml")).unwrap(), folder.default().replace(&text, ""));
    assert!(checked.temporary_key, "nobody should tell others of this key");
    assert_ne!(checked.config.identity(), folder.load().config.identity());

    let generate = LoadOptions { generate: true };
    let started = Config::load(&folder.path("conf.yaml"), None, generate).unwrap();
    let written = fs::read_to_string(folder.path("conf.yaml")).unwrap();
    assert_eq!(written, folder.default().replace(&text, &started.config.identity().to_text()));
    assert_eq!(&*started.snapshot.conf, written.as_bytes());
    assert_eq!(*folder.load().config, *started.config);
    assert!(!started.temporary_key && !folder.load().temporary_key);

    // Emptied under a running node it means the old key, and is refused.
    folder.conf(&folder.default().replace(&text, ""));
    let error = Config::load(&folder.path("conf.yaml"), Some(&started.config), generate).unwrap_err();
    assert!(
        text_of(&error, &folder).contains("node.private_key: holds no key, but the node runs with one"),
        "{error}"
    );
}

#[test]
fn a_key_file_is_generated_read_and_watched() {
    let folder = Folder::new();
    let line = format!("private_key: \"{}\"", folder.identity.to_text());
    folder.conf(&folder.default().replace(&line, "key_file: node.key"));
    let first = Config::load(&folder.path("conf.yaml"), None, LoadOptions { generate: true }).unwrap().config;
    let text = fs::read_to_string(folder.path("node.key")).unwrap();
    assert_eq!(text.trim_end(), first.identity().to_text());
    assert_eq!(first.source.named.len(), 1);
    assert!(Arc::ptr_eq(&folder.load_against(Some(&first)).unwrap().config, &first));

    folder.write("node.key", Identity::generate().to_text());
    let error = folder.load_against(Some(&first)).unwrap_err();
    assert!(text_of(&error, &folder).contains("node.key_file: is another key than the one"), "{error}");
}

#[test]
fn a_missing_key_that_could_not_be_kept_is_found_by_check() {
    let folder = Folder::new();
    let line = format!("private_key: \"{}\"", folder.identity.to_text());
    for (name, piece) in [("nowhere/node.key", "No such file"), ("conf.yaml/node.key", "Not a directory")] {
        folder.conf(&folder.default().replace(&line, &format!("key_file: {name}")));
        for generate in [false, true] {
            let error = Config::load(&folder.path("conf.yaml"), None, LoadOptions { generate }).unwrap_err();
            let shown = text_of(&error, &folder);
            assert!(shown.starts_with("conf.yaml:5:"), "{generate}: {shown}");
            assert!(shown.contains("node.key_file: ") && shown.contains(piece), "{generate}: {shown}");
        }
    }
}

#[test]
fn a_start_removes_what_a_killed_one_has_left() {
    let folder = Folder::new();
    let line = format!("private_key: \"{}\"", folder.identity.to_text());
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    for name in ["etc", "keys"] {
        fs::create_dir(folder.path(name)).unwrap();
    }
    folder.write("etc/real.yaml", folder.default().replace(&line, "key_file: keys/node.key"));
    fs::remove_file(folder.path("conf.yaml")).unwrap();
    std::os::unix::fs::symlink("etc/real.yaml", folder.path("conf.yaml")).unwrap();
    let names = |end: String| {
        [format!(".conf.yaml{end}"), format!("etc/.real.yaml{end}"), format!("keys/.node.key{end}")]
    };
    let dead = names(format!(".tmp-{}-1", child.id()));
    // Pid 1 lives.
    let alive = names(".tmp-1-1".to_owned());
    for name in dead.iter().chain(&alive) {
        folder.write(name, "");
    }
    folder.load();
    assert!(dead.iter().all(|name| folder.path(name).exists()), "check touches nothing");
    Config::load(&folder.path("conf.yaml"), None, LoadOptions { generate: true }).unwrap();
    assert!(!dead.iter().any(|name| folder.path(name).exists()));
    assert!(alive.iter().all(|name| folder.path(name).exists()));
    assert!(folder.path("keys/node.key").exists());
}

#[test]
fn what_a_running_node_cannot_change_is_refused() {
    let folder = Folder::new();
    let running = folder.load().config;
    let other = Identity::generate().to_text();
    folder.conf(&folder.default().replace(&folder.identity.to_text(), &other));
    let error = folder.load_against(Some(&running)).unwrap_err();
    let paths: Vec<_> = error.problems.iter().filter_map(|problem| problem.path.as_deref()).collect();
    assert_eq!(paths, ["node.private_key"]);
    assert!(error.problems.iter().all(|problem| problem.message.contains("nothing was changed")));
    assert!(!error.to_string().contains(&other));
}

#[test]
fn odd_things_are_warnings() {
    let folder = Folder::new();
    folder.write("peers.yaml", DEFAULT_PEERS);
    let mut bytes = base64_of(&folder.identity.to_text());
    bytes[63] ^= 1;
    folder.conf(&folder.default().replace(&folder.identity.to_text(), &to_base64(&bytes)));
    folder.write("jwt.secret", "s".repeat(32));
    let text = fs::read_to_string(folder.path("conf.yaml")).unwrap();
    folder.conf(&text.replace("jwt: null", "jwt: {algorithm: HS256, secret_file: jwt.secret}"));
    let mode = |name, mode| fs::set_permissions(folder.path(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("conf.yaml", 0o666);
    mode("jwt.secret", 0o644);
    let loaded = folder.load();
    let shown = texts(&loaded.warnings, folder.folder.path()).join("\n");
    for piece in [
        "conf.yaml:5:16: node.private_key: the public half is not the one",
        "conf.yaml: can be changed by other users (mode 666)",
        "conf.yaml: holds a secret and can be read by other users (mode 666)",
        "admin.jwt.secret_file: jwt.secret can be read by other users (mode 644)",
    ] {
        assert!(shown.contains(piece), "{piece}\n{shown}");
    }
    assert_eq!(loaded.warnings.len(), 4, "{shown}");
    assert_eq!(*loaded.config.identity(), folder.identity);
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

fn to_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn what_the_machine_lacks() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    fs::write(folder.path("file"), "").unwrap();
    folder.edit(&[
        (
            r#"["/ip4/0.0.0.0/tcp/9000", "/ip6/::/tcp/9000"]"#,
            &format!("[/ip4/127.0.0.1/tcp/0, /ip4/0.0.0.0/tcp/{port}, /ip4/192.0.2.1/tcp/1]"),
        ),
        ("data_dir: data ", "data_dir: file/data "),
        ("file_output: false", "file_output: true"),
        ("file_name: null", "file_name: nowhere/node.log"),
    ]);
    let config = folder.load().config;
    let found = resources(&config, None, &[]);
    let shown = texts(&found, folder.folder.path());
    let pieces = [
        format!("conf.yaml:11:37: network.addresses[1]: 0.0.0.0:{port} is in use by another process"),
        "network.addresses[2]: 192.0.2.1 is on no interface of this machine".to_owned(),
        "conf.yaml:7:13: node.data_dir: file is not a folder".to_owned(),
        "logging.file_name: there is no folder nowhere".to_owned(),
    ];
    assert_eq!(shown.len(), pieces.len(), "{shown:#?}");
    for (line, piece) in shown.iter().zip(&pieces) {
        assert!(
            line.replace(&format!("{}/", folder.folder.path().display()), "").contains(piece),
            "{line} / {piece}"
        );
    }
    // Ours on another address of the same port: the node itself makes room.
    let held = [format!("/ip4/127.0.0.1/tcp/{port}"), "/ip4/192.0.2.1/tcp/1".to_owned()]
        .map(|address| net::Held::listening(net::Endpoint::of(&address.parse().unwrap()).unwrap()));
    assert_eq!(resources(&config, None, &held).len(), 2);
    // The probe has not disturbed who holds the port.
    let client = std::net::TcpStream::connect(taken.local_addr().unwrap()).unwrap();
    assert_eq!(taken.accept().unwrap().1, client.local_addr().unwrap());
}

#[test]
fn a_federation_that_is_gone_or_too_large_is_a_warning() {
    let folder = Folder::new();
    let shown = |loaded: &Loaded| texts(&loaded.warnings, folder.folder.path());
    let missing = "conf.yaml:16:9: peers.file: the file \"peers.yaml\" does not exist: the node runs alone (create it, or name another one; `peers: []` in it runs alone on purpose)";
    assert_eq!(shown(&folder.load()), [missing]);
    folder.edit(&[("  file: peers.yaml\n", "")]);
    assert_eq!(shown(&folder.load()), [""; 0], "nobody has asked for one");

    folder.write("peers.yaml", format!("peers:\n- public_key: {}\n- public_key: {}\n", key(), key()));
    let running = folder.load();
    assert_eq!(shown(&running), [""; 0]);
    fs::remove_file(folder.path("peers.yaml")).unwrap();
    let gone = folder.load_against(Some(&running.config)).unwrap();
    let expected = "conf.yaml:15:1: peers.file: the file \"peers.yaml\" is gone: the node runs alone (put it back; to run alone on purpose, write `peers: []` into it)";
    assert_eq!(shown(&gone), [expected]);
    let again = folder.load_against(Some(&gone.config)).unwrap();
    assert!(Arc::ptr_eq(&again.config, &gone.config));
    assert_eq!(again.warnings, gone.warnings, "it is still gone");

    folder.write("peers.yaml", format!("peers:\n- public_key: {}\n- public_key: {}\n", key(), key()));
    folder.edit(&[("{connections: 1024", "{connections: 1")]);
    let expected = "conf.yaml:14:25: network.limits.connections: 1 is less than the 2 members: some stay unconnected (at least 2)";
    assert_eq!(shown(&folder.load()), [expected]);
    folder.edit(&[("{connections: 1024", "{connections: 2")]);
    assert_eq!(shown(&folder.load()), [""; 0]);
}

#[test]
fn the_default_text_is_valid_with_and_without_ipv6() {
    let folder = Folder::new();
    folder.write("peers.yaml", DEFAULT_PEERS);
    let loaded = folder.load();
    assert_eq!(loaded.warnings, []);
    assert_eq!(*loaded.config.identity(), folder.identity);
    folder.conf(&default_config_text(&folder.identity, false));
    let listen = folder.load().config.network.listen.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(listen, ["/ip4/0.0.0.0/tcp/9000"]);

    // Every key that the default text spells out has the default: without them the configuration is the same.
    let spelled = folder.load().config;
    let key = folder.identity.to_text();
    folder.conf(&format!(
        "node: {{private_key: \"{key}\"}}\nnetwork: {{addresses: [/ip4/0.0.0.0/tcp/9000]}}\npeers: {{connection_timeout: 10s}}\nlogging: {{level: info, format: json}}\n"
    ));
    assert_eq!(spelled.changes(&folder.load().config), []);
    assert_eq!(*spelled, *folder.load().config);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = Snapshot { conf: bytes.clone().into(), peers: Some(bytes.into()) };
        let _ = Config::from_snapshot(&folder.path().join("c"), snapshot, None);
    }

    #[test]
    fn no_value_panics(from in 0_usize..40, value in "[ -~]{0,24}") {
        let folder = tempfile::tempdir().unwrap();
        let text = default_config_text(&Identity::generate(), true);
        let lines: Vec<String> = text.lines().enumerate().map(|(index, line)| match line.split_once(": ") {
            Some((key, _)) if index == from + 6 => format!("{key}: {value}"),
            _ => line.to_owned(),
        }).collect();
        let snapshot = Snapshot { conf: lines.join("\n").into_bytes().into(), peers: None };
        let path = folder.path().join("c");
        if let Err(error) = Config::from_snapshot(&path, snapshot, None) {
            prop_assert!(!error.problems.is_empty());
        }
    }
}
