//! Disks, folders and neighbours that refuse: a clear error, a node that is up, and everything well when the cause is gone.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fednode_tests::{Arms, Keys, Node, Spec, eventually};
use serde_json::{Value, json};

use crate::{ADDRESS, WRITTEN, add, code, leftovers, node, sleeper};

/// Somebody who may do nothing here.
const NOBODY: u32 = 65534;

/// An order is refused with these words and nothing is changed; once the cause is gone, it is carried out.
async fn refused_and_then_done(node: &Node, status: u16, words: &[&str], mend: impl FnOnce()) {
    let path = node.spec().peers_path();
    let (before, generation) =
        (fs::read(&path).expect("it is there"), node.status().await["generation"].clone());
    let key = Keys::generate().public_key;
    let (told, answer) = add(node, &key).await;
    let text = answer["error"].as_str().unwrap_or_default();
    assert_eq!((told, &answer["status"]), (status, &json!("error")), "{answer:#}");
    assert!(text.contains(&path.display().to_string()), "no place: {text}");
    for word in words {
        assert!(text.contains(word), "'{word}' is not told: {text}");
    }
    assert_eq!(fs::read(&path).expect("it is there"), before);
    let now = node.status().await;
    assert_eq!((&now["generation"], &now["state"]), (&generation, &json!("idle")));
    mend();
    let (told, answer) = add(node, &key).await;
    assert_eq!((told, &answer["outcome"]), (201, &json!("committed")), "{answer:#}");
    assert_eq!(leftovers(node.spec().folder()), Vec::<std::path::PathBuf>::new());
}

/// A node of somebody who is not root, whatever the tests run as.
async fn node_of_nobody() -> Node {
    let spec = Spec::new();
    if !rustix::process::geteuid().is_root() {
        return node(spec).await;
    }
    // The folder of the test's own program may be closed to others.
    let binary = spec.folder().join("fednode");
    let source = fednode_tests::process::binary();
    let installed = Command::new("install").args(["-m", "755"]).args([&source, &binary]).status();
    assert!(installed.expect("install runs").success());
    let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
    let spec = spec.binary(&binary).wrapped(&["setpriv", &user, &group, "--clear-groups"]);
    chown(spec.folder(), Some(NOBODY), Some(NOBODY)).expect("root may");
    let mut spec = spec;
    spec.conf["reload"] = json!({"budget": "20s"});
    spec.write();
    fs::write(spec.peers_path(), WRITTEN).expect("the folder can be written");
    for path in [spec.conf_path(), spec.peers_path()] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    node
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode can be set");
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_to() {
    let node = node_of_nobody().await;
    let folder = node.spec().folder().to_owned();
    mode(&folder, 0o555);
    refused_and_then_done(&node, 500, &["Permission denied", "write permission on the folder"], || {
        mode(&folder, 0o755)
    })
    .await;
    // The file itself: a save needs only the folder, a look needs the file.
    let path = node.spec().peers_path();
    mode(&path, 0o000);
    let (told, answer) = add(&node, &Keys::generate().public_key).await;
    let text = answer["error"].as_str().unwrap_or_default();
    assert_eq!(told, 500, "{answer:#}");
    assert!(
        text.contains("peers.yaml")
            && text.contains("Permission denied")
            && text.contains("(let the node's user read it"),
        "{text}"
    );
    mode(&path, 0o644);
    assert_eq!(add(&node, &Keys::generate().public_key).await.0, 201);
}

#[tokio::test]
async fn what_is_known_waits_for_a_folder_and_is_told_once() {
    // A save is due every 100 ms.
    let mut spec = Spec::new().env("FAILPOINTS_PATIENCE", "100");
    let arms = Arms::beside(spec.folder());
    spec = spec.env(Arms::VARIABLE, &arms.folder().display().to_string());
    let node = node(spec).await;
    let file = node.data_dir().join("known.yaml");
    eventually("it is saved", async || file.exists().then_some(())).await;
    let told = "what is known is not kept";
    for fault in ["return(full)", "return(error)"] {
        let before = node.log().matches(told).count();
        let well = node.log().matches("what is known is kept again").count();
        // The same reason at every try: a folder has the backup's name, and a person has taken the file away.
        fs::remove_file(&file).expect("it is there");
        arms.arm("known::write", fault);
        eventually("it is told", async || (node.log().matches(told).count() > before).then_some(())).await;
        eventually("it is kept again", async || {
            (node.log().matches("what is known is kept again").count() > well).then_some(())
        })
        .await;
        eventually("it is there", async || file.exists().then_some(())).await;
        arms.clear();
    }
    // For good: many saves fail for one reason, and that is told once.
    let backup = node.data_dir().join("known.yaml.backup");
    let before = node.log().matches(told).count();
    fs::remove_file(&backup).expect("it is there");
    fs::create_dir(&backup).expect("it can be made");
    fs::remove_file(&file).expect("it is there");
    eventually("it is told", async || (node.log().matches(told).count() > before).then_some(())).await;
    for _ in 0..3 {
        // A try has passed each time that the point is hit.
        arms.arm("known::backup", "sleep(1)");
        eventually("it is tried again", async || arms.was_hit("known::backup").then_some(())).await;
        arms.clear();
    }
    assert_eq!(node.log().matches(told).count(), before + 1);
    assert!(node.log().contains("a folder has this name"), "the remedy");
    assert_eq!(node.status().await["state"], "idle");
    fs::remove_dir(&backup).expect("it is empty");
    eventually("it is kept", async || file.exists().then_some(())).await;
}

#[tokio::test]
async fn a_full_disk() {
    let spec = Spec::new();
    let arms = Arms::beside(spec.folder());
    let node = node(spec.env(Arms::VARIABLE, &arms.folder().display().to_string())).await;
    for point in ["atomic::write", "atomic::sync", "peers_file::write", "peers_file::exchanged"] {
        arms.clear();
        arms.arm(point, "return(full)");
        refused_and_then_done(&node, 500, &["make room on the file system"], || {}).await;
        assert!(arms.was_hit(point), "{point}");
    }
}

/// A real one, where a namespace of mounts can be had (as root, or by a user namespace), and else the command that a full disk gives.
#[tokio::test]
async fn a_file_system_that_is_full_or_read_only() {
    let namespace: &[&str] = if rustix::process::geteuid().is_root() {
        &["unshare", "--mount"]
    } else {
        &["unshare", "--user", "--map-root-user", "--mount"]
    };
    let mut spec = Spec::new();
    let room = spec.folder().join("room");
    fs::create_dir(&room).expect("the folder can be made");
    let mount = format!("mount -t tmpfs -o size=16k room {}", room.display());
    let possible = Command::new(namespace[0]).args(&namespace[1..]).args(["sh", "-c", &mount]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        // Nothing can be mounted here: the write itself says what a full and a read-only one would say, in `a_full_disk` and
        // `a_folder_that_may_not_be_written_to`, which always run.
        eprintln!("no mounts here");
        return;
    }
    let script = format!("{mount} && printf 'peers: []\\n' > {}/peers.yaml && exec \"$@\"", room.display());
    let wrapper: Vec<&str> = namespace.iter().copied().chain(["sh", "-c", &script, "sh"]).collect();
    spec.conf["peers"]["file"] = json!("room/peers.yaml");
    let node = spec.wrapped(&wrapper).start().await;
    let inside = Path::new("/proc").join(node.pid().as_raw_nonzero().to_string()).join("root");
    let inside = inside.join(room.strip_prefix("/").expect("it is absolute"));
    let enter = |command: &str| {
        let pid = node.pid().as_raw_nonzero().to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &pid, "--mount"]);
        if !rustix::process::geteuid().is_root() {
            nsenter.args(["--user", "--preserve-credentials"]);
        }
        let status = nsenter.args(["sh", "-c", command]).status().expect("nsenter runs");
        assert!(status.success(), "{command}");
    };
    let (full, room) =
        (format!("dd if=/dev/zero of={}/rest bs=4k 2>/dev/null; true", room.display()), room.display());
    for (spoil, mend, words) in [
        (full, format!("rm {room}/rest"), "make room on the file system"),
        (
            format!("mount -o remount,ro {room}"),
            format!("mount -o remount,rw {room}"),
            "the file system is read-only",
        ),
    ] {
        let before = fs::read(inside.join("peers.yaml")).expect("it is there");
        enter(&spoil);
        let key = Keys::generate().public_key;
        let (told, answer) = add(&node, &key).await;
        let text = answer["error"].as_str().unwrap_or_default();
        assert_eq!(told, 500, "{answer:#}");
        assert!(text.contains(words) && text.contains("room/peers.yaml"), "{text}");
        assert_eq!(fs::read(inside.join("peers.yaml")).expect("it is there"), before);
        assert_eq!(node.status().await["state"], "idle");
        enter(&mend);
        let (told, answer) = add(&node, &key).await;
        assert_eq!((told, &answer["outcome"]), (201, &json!("committed")), "{answer:#}");
    }
    assert_eq!(leftovers(&inside), Vec::<std::path::PathBuf>::new());
}

/// Somebody who has locked the folder by flock(1), and sits on it until its stdin ends.
fn holder(folder: &Path) -> Child {
    let mut command = Command::new("flock");
    command.arg("--close").arg(folder).args(["sh", "-c", "echo held; read _"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("flock runs");
    let mut said = [0; 5];
    child.stdout.as_mut().expect("it is piped").read_exact(&mut said).expect("it says so");
    assert_eq!(&said, b"held\n");
    child
}

#[tokio::test]
async fn a_neighbour_who_never_lets_go_is_named_and_one_who_dies_holds_nothing() {
    let node = node(Spec::new().env("FAILPOINTS_PATIENCE", "700")).await;
    let mut neighbour = holder(node.spec().folder());
    let pid = format!("pid {}, flock", neighbour.id());
    // The command line without a node is told the same.
    let told = sleeper(node.spec()).env("FAILPOINTS_PATIENCE", "100").cli(&[
        "peers",
        "add",
        &Keys::generate().public_key,
        ADDRESS,
    ]);
    assert_eq!(code(&told), Some(1));
    assert!(String::from_utf8_lossy(&told.stderr).contains(&pid), "{told:?}");
    refused_and_then_done(&node, 503, &["locked for 0.7 s", &pid, "try again"], || {
        // With SIGKILL: what it held is free in that moment.
        neighbour.kill().expect("it lives");
        neighbour.wait().expect("it ends");
    })
    .await;
}

#[tokio::test]
async fn a_configmap_is_not_written_to() {
    let spec = Spec::new();
    let folder = spec.folder().to_owned();
    let node = node(spec).await;
    fs::create_dir(folder.join("..2024_1")).expect("the folder can be made");
    fs::rename(folder.join("peers.yaml"), folder.join("..2024_1/peers.yaml")).expect("it can be moved");
    symlink("..2024_1", folder.join("..data")).expect("a link");
    symlink("..data/peers.yaml", folder.join("peers.yaml")).expect("a link");
    let key = Keys::generate().public_key;
    let (told, answer) = add(&node, &key).await;
    assert_eq!(told, 409, "{answer:#}");
    let by_cli = node.spec().cli(&["peers", "add", &key, ADDRESS]);
    assert_eq!(code(&by_cli), Some(1), "{by_cli:?}");
    let asleep = sleeper(node.spec()).cli(&["peers", "add", &key, ADDRESS]);
    assert_eq!(code(&asleep), Some(1), "{asleep:?}");
    for text in [
        answer["error"].as_str().unwrap_or_default(),
        &String::from_utf8_lossy(&by_cli.stderr),
        &String::from_utf8_lossy(&asleep.stderr),
    ] {
        assert!(
            text.contains("ConfigMap") && text.contains("peers.file") && text.contains("peers.yaml"),
            "{text}"
        );
    }
    let mut said = String::new();
    let read = File::open(node.spec().peers_path()).and_then(|mut file| file.read_to_string(&mut said));
    assert_eq!((read.is_ok(), said.as_str()), (true, WRITTEN));
    assert_eq!(node.status().await["members"], Value::Array(vec![]));
}
