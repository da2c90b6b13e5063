//! No file of the node is two things at once.

use std::os::unix::fs::symlink;

use super::*;

const ON: (&str, &str) = ("file_output: false", "file_output: true");

/// A folder with everything in it that a node has, and symlinks and hard links to some of it.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("peers.yaml", "peers: []\n");
    for data in ["data", "data/generations"] {
        fs::create_dir(folder.path(data)).unwrap();
    }
    for name in ["node.log", "data/fednode.pid", "data/audit.jsonl", "data/generations/1", "jwt.secret"] {
        folder.write(name, "s".repeat(32));
    }
    for (target, link) in [
        ("conf.yaml", "link.log"),
        ("data/known.yaml", "dangling.log"),
        ("data", "elsewhere"),
        ("rotated.log.3", "linked.yaml"),
    ] {
        symlink(target, folder.path(link)).unwrap();
    }
    folder.write("rotated.log.3", "peers: []\n");
    fs::hard_link(folder.path("peers.yaml"), folder.path("hard.log")).unwrap();
    folder.write("many.log", "");
    folder.write("many.log.1", "");
    fs::hard_link(folder.path("conf.yaml"), folder.path("many.log.2")).unwrap();
    let pipe = folder.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    folder
}

/// The problems of the default file with these edits, and the line of the key that they should stand at.
fn check(edits: &[(&str, &str)], path: &str, piece: &str) {
    let folder = folder();
    let text = folder.edited(edits);
    // The same inode, for the hard links.
    fs::write(folder.path("conf.yaml"), &text).unwrap();
    let problems = folder.rejection();
    let shown = texts(&problems, folder.folder.path()).join("\n");
    let problem = problems.iter().find(|problem| problem.path.as_deref() == Some(path));
    let problem = problem.unwrap_or_else(|| panic!("{edits:?}: {shown}"));
    assert!(shown.contains(piece), "{edits:?}: {piece:?} in {shown}");
    let key = format!(" {}: ", path.rsplit('.').next().unwrap());
    let line = text.lines().position(|line| line.contains(&key)).unwrap() + 1;
    assert_eq!(problem.line, u32::try_from(line).ok(), "{shown}");
    assert!(problem.hint.is_some(), "{shown}");
}

#[test]
fn the_log_is_none_of_the_nodes_own_files() {
    let jwt = ("jwt: null", "jwt: {algorithm: HS256, secret_file: jwt.secret}");
    for (name, piece) in [
        ("conf.yaml", "is this configuration"),
        ("./conf.yaml", "is this configuration"),
        ("data/../conf.yaml", "is this configuration"),
        ("link.log", "is this configuration"),
        ("peers.yaml", "is peers.file"),
        ("hard.log", "is peers.file"),
        ("jwt.secret", "is admin.jwt.secret_file"),
        ("data/admin.sock", "is admin.socket"),
        ("data/fednode.pid", "is the node's own fednode.pid"),
        ("data/fednode.lock", "is the node's own fednode.lock"),
        ("elsewhere/audit.jsonl", "is the node's own audit.jsonl"),
        ("data/audit.jsonl.7", "is the node's own audit.jsonl.7"),
        ("dangling.log", "is the node's own known.yaml"),
        ("data/generations/1", "is the node's own generations/1"),
        ("elsewhere/generations/new/x.log", "is the node's own generations/new/x.log"),
        ("many.log", "rotation would write many.log.2, which is this configuration"),
        ("data", "data is a folder"),
        ("nowhere/", "nowhere/ is a folder"),
        ("pipe", "pipe is no regular file"),
        ("/dev/null", "/dev/null is no regular file"),
        // Which it may be, by way of a link that rotation would put aside.
        ("/dev/stdout", "/dev/stdout is no regular file"),
    ] {
        check(&[ON, jwt, ("file_name: null", &format!("file_name: {name}"))], "logging.file_name", piece);
    }
    let rotated = ("file_name: null", "file_name: rotated.log");
    for (edit, piece) in [
        (
            ("file: peers.yaml", "file: rotated.log.1"),
            "rotation would write rotated.log.1, which is peers.file",
        ),
        (("file: peers.yaml", "file: ./rotated.log.99"), "rotated.log.99, which is peers.file"),
        (
            ("file: peers.yaml", "file: linked.yaml"),
            "rotation would write rotated.log.3, which is peers.file",
        ),
        (("file: peers.yaml", "file: .rotated.log.next"), ".rotated.log.next, which is peers.file"),
        (("socket: admin.sock", "socket: ../rotated.log.2"), "rotated.log.2, which is admin.socket"),
    ] {
        check(&[ON, rotated, edit], "logging.file_name", piece);
    }
}

#[test]
fn the_files_of_the_configuration_are_different_ones() {
    for (name, piece) in [
        ("conf.yaml", "is this configuration already"),
        ("link.log", "is this configuration already"),
        ("data/fednode.pid", "is the node's own fednode.pid already"),
    ] {
        check(&[("file: peers.yaml", &format!("file: {name}"))], "peers.file", piece);
    }
    for (name, piece) in [
        (".", "is a folder"),
        ("..", "is a folder"),
        ("generations", "is a folder"),
        ("run/", "is a folder"),
        ("../conf.yaml", "is this configuration already"),
        ("fednode.pid", "is the node's own fednode.pid already"),
        ("generations/sock", "is the node's own generations/sock already"),
        ("../hard.log", "is peers.file already"),
    ] {
        check(&[("socket: admin.sock", &format!("socket: {name}"))], "admin.socket", piece);
    }
    check(&[("data_dir: data ", "data_dir: node.log ")], "node.data_dir", "node.log is not a folder");

    let folder = folder();
    let line = format!("private_key: \"{}\"", folder.identity.to_text());
    for (name, piece) in [
        ("conf.yaml", "is this configuration already"),
        ("hard.log", "is peers.file already"),
        ("data/known.yaml", "is the node's own known.yaml already"),
    ] {
        folder.conf(&folder.default().replace(&line, &format!("key_file: {name}")));
        let shown = texts(&folder.rejection(), folder.folder.path()).join("\n");
        assert!(shown.contains("node.key_file: ") && shown.contains(piece), "{name}: {shown}");
    }
}

#[test]
fn neighbours_of_the_nodes_files_may_be_logs() {
    for name in [
        "fednode.log",
        "data/node.log",
        "data/audit.jsonl.old",
        "conf.yaml.log",
        "node.log",
        "data/generations.log",
    ] {
        let folder = folder();
        folder.edit(&[ON, ("file_name: null", &format!("file_name: {name}"))]);
        assert_eq!(folder.load().config.logging.file.in_use(), Some(&*folder.path(name)));
    }
    // What is switched off writes nothing.
    let folder = folder();
    folder.edit(&[("file_name: null", "file_name: conf.yaml")]);
    folder.load();
}

#[test]
fn a_name_that_no_file_can_have_is_refused_at_once() {
    let name = "n".repeat(300);
    let log = format!("file_name: {name}.log");
    for (edit, key) in [
        (("file_name: null", &*log), "logging.file_name"),
        (("data_dir: data ", &format!("data_dir: {name} ")), "node.data_dir"),
    ] {
        check(&[edit], key, "longer than the name of a file may be");
    }
}
