//! `reload.watch: true` and every way in which a file is saved: each save is one reload with the right contents, and no more.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fednode_tests::{Keys, Node, Spec, eventually};
use serde_json::json;

/// A member in a file of its own.
fn text(key: &str) -> String {
    format!("# Ours, see the wiki\npeers:\n  - public_key: \"{key}\"\n# the end\n")
}

/// A way to save a text under a name.
type Save = fn(&Path, &str);

const SAVES: [(&str, Save); 12] = [
    ("nano: emptied and written", in_place),
    ("vim, backupcopy=yes: copied away, emptied and written", vim_in_place),
    ("vim: moved away and written anew", vim_moved),
    ("vim itself", vim_itself),
    ("vim itself, backupcopy=yes", vim_itself_in_place),
    ("sed -i", sed),
    ("cp", cp),
    ("mv from beside", mv),
    ("Ansible's copy: a temporary file beside it, its mode, its owner, renamed", ansible),
    ("rsync: .name.XXXXXX, its mode, its time, renamed", rsync),
    ("git checkout: removed and written anew", git_checkout),
    ("an editor with an atomic save through fsync and a link back", gedit),
];

#[tokio::test]
async fn every_save_of_an_editor_or_a_tool_is_one_reload() {
    let mut spec = Spec::new();
    spec.conf["reload"] = json!({"budget": "10s", "watch": true, "settle": "300ms"});
    spec.write();
    fs::write(spec.peers_path(), text(&Keys::generate().public_key)).expect("the folder can be written");
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    for (name, save) in SAVES {
        let key = Keys::generate().public_key;
        one_reload(&node, name, &key, || save(&node.spec().peers_path(), &text(&key))).await;
    }
    // Twice the same text is not even looked at, whoever saves it.
    let same = fs::read_to_string(node.spec().peers_path()).expect("it is there");
    let lines = node.audit().len();
    ansible(&node.spec().peers_path(), &same);
    let key = Keys::generate().public_key;
    one_reload(&node, "another one after the same text", &key, || mv(&node.spec().peers_path(), &text(&key)))
        .await;
    assert_eq!(node.audit().len(), lines + 1);
    // An order of the node's own is its reload, and no second one.
    let (status, answer) = crate::add(&node, &Keys::generate().public_key).await;
    assert_eq!((status, &answer["outcome"]), (201, &json!("committed")), "{answer:#}");
    let key = Keys::generate().public_key;
    one_reload(&node, "one after an order", &key, || mv(&node.spec().peers_path(), &text(&key))).await;
    assert_eq!(node.audit().len(), lines + 3);
}

#[tokio::test]
async fn a_configmap_that_is_swapped_is_one_reload_of_both_files() {
    let mut spec = Spec::new();
    spec.conf["reload"] = json!({"budget": "10s", "watch": true, "settle": "300ms"});
    let (folder, mut conf) = (spec.folder().to_owned(), spec.conf.clone());
    swap(&folder, 1, &conf.to_string(), &text(&Keys::generate().public_key));
    for name in ["conf.yaml", "peers.yaml"] {
        symlink(Path::new("..data").join(name), folder.join(name)).expect("a link");
    }
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    for version in 2..5 {
        let key = Keys::generate().public_key;
        conf["protocol"] = json!({"max_message_size": 2000 + version});
        let conf = conf.to_string();
        let told = one_reload(&node, "a swap", &key, || swap(&folder, version, &conf, &text(&key))).await;
        assert_eq!(told["note"], "changed: conf.yaml, peers.yaml", "{told:#}");
    }
    // Its next version would undo what a rollback writes: the files are held instead.
    let before = fs::read(folder.join("..data/conf.yaml")).expect("it can be read");
    let outcome = node.client().post("/admin/rollback", &[], Vec::new()).await.expect("the node answers");
    let outcome: serde_json::Value = outcome.json().expect("an outcome");
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    assert_eq!(fs::read(folder.join("..data/conf.yaml")).expect("it can be read"), before);
    let held = node.status().await["held"].clone();
    assert_eq!(held.as_array().map(Vec::len), Some(2), "{held}");
}

/// The save is one line of the audit log, and the member that it brings runs, and no other.
async fn one_reload(node: &Node, name: &str, key: &str, save: impl FnOnce()) -> serde_json::Value {
    let lines = node.audit().len();
    let generation = node.status().await["generation"].as_u64().expect("a number");
    save();
    let what = format!("{name}: a reload");
    let told = eventually(&what, async || node.audit().into_iter().nth(lines)).await;
    assert_eq!(
        (&told["trigger"], &told["outcome"]),
        (&json!("watch"), &json!("committed")),
        "{name}: {told:#}"
    );
    assert_eq!(told["config_generation"], generation + 1, "{name}: {told:#}");
    let status = node.status().await;
    let members: Vec<_> = status["members"].as_array().expect("a list").iter().collect();
    assert!(members.len() == 1 && members[0]["public_key"] == key, "{name}: {members:?}");
    // What the node has not looked at within two settlings is nothing to it; and the next save would find a line too many.
    assert_eq!(node.audit().len(), lines + 1, "{name}");
    told
}

fn beside(path: &Path, name: &str) -> PathBuf {
    path.with_file_name(name)
}

fn in_place(path: &Path, text: &str) {
    let mut file = File::create(path).expect("it can be opened");
    for piece in text.as_bytes().chunks(64) {
        file.write_all(piece).expect("it can be written");
    }
}

fn vim_in_place(path: &Path, text: &str) {
    let (swap, backup) = (beside(path, ".peers.yaml.swp"), beside(path, "peers.yaml~"));
    fs::write(&swap, "b0VIM 9.1").expect("it can be written");
    fs::copy(path, &backup).expect("it can be copied");
    in_place(path, text);
    File::open(path).and_then(|file| file.sync_all()).expect("it can be made durable");
    fs::remove_file(backup).expect("it can be removed");
    fs::remove_file(swap).expect("it can be removed");
}

fn vim_moved(path: &Path, text: &str) {
    let (swap, probe, backup) =
        (beside(path, ".peers.yaml.swp"), beside(path, "4913"), beside(path, "peers.yaml~"));
    fs::write(&swap, "b0VIM 9.1").expect("it can be written");
    // Whether files can be made here.
    fs::write(&probe, "").expect("it can be written");
    fs::remove_file(&probe).expect("it can be removed");
    fs::rename(path, &backup).expect("it can be moved");
    in_place(path, text);
    fs::remove_file(backup).expect("it can be removed");
    fs::remove_file(swap).expect("it can be removed");
}

/// The program, where there is one; else what it does.
fn by_vim(path: &Path, text: &str, backupcopy: &str, instead: Save) {
    let source = beside(path, "text-for-vim");
    fs::write(&source, text).expect("it can be written");
    // Below /tmp it makes no backups by itself.
    let settings = format!("set backupskip= writebackup backupcopy={backupcopy}");
    let read = format!("%!cat {}", source.display());
    let mut vim = Command::new("vim");
    vim.args(["-u", "NONE", "-N", "-es", "-c", &settings, "-c", &read, "-c", "wq"]).arg(path);
    match vim.stdin(Stdio::null()).status() {
        Ok(status) => {
            assert!(status.success(), "vim: {status}");
            assert_eq!(fs::read_to_string(path).expect("it is there"), text, "what vim saved");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "vim: {error}");
            instead(path, text);
        }
    }
}

fn vim_itself(path: &Path, text: &str) {
    by_vim(path, text, "no", vim_moved);
}

fn vim_itself_in_place(path: &Path, text: &str) {
    by_vim(path, text, "yes", vim_in_place);
}

fn run(command: &mut Command) {
    assert!(command.status().expect("the program runs").success(), "{command:?}");
}

fn sed(path: &Path, text: &str) {
    let entry = text.lines().nth(2).expect("an entry");
    run(Command::new("sed").arg("-i").arg(format!("3c\\{entry}")).arg(path));
}

fn cp(path: &Path, text: &str) {
    let source = beside(path, "new.yaml");
    fs::write(&source, text).expect("it can be written");
    run(Command::new("cp").args([&source, path]));
}

fn mv(path: &Path, text: &str) {
    let source = beside(path, "new.yaml");
    fs::write(&source, text).expect("it can be written");
    run(Command::new("mv").args([&source, path]));
}

fn ansible(path: &Path, text: &str) {
    let temp = beside(path, ".ansible_tmp8z2k_peers.yaml");
    fs::write(&temp, text).expect("it can be written");
    fs::set_permissions(&temp, fs::Permissions::from_mode(0o640)).expect("the mode can be set");
    std::os::unix::fs::chown(&temp, Some(rustix::process::geteuid().as_raw()), None).expect("to oneself");
    fs::rename(&temp, path).expect("it can be renamed");
    // It looks once more whether the attributes are right.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("the mode can be set");
}

fn rsync(path: &Path, text: &str) {
    let temp = beside(path, ".peers.yaml.Xq3v9a");
    in_place(&temp, text);
    fs::set_permissions(&temp, fs::Permissions::from_mode(0o644)).expect("the mode can be set");
    // It gives the file the time of its source, which may be long ago.
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    File::options()
        .write(true)
        .open(&temp)
        .and_then(|file| file.set_modified(old))
        .expect("the time can be set");
    fs::rename(&temp, path).expect("it can be renamed");
}

fn git_checkout(path: &Path, text: &str) {
    fs::remove_file(path).expect("it can be removed");
    in_place(path, text);
}

fn gedit(path: &Path, text: &str) {
    let temp = beside(path, ".goutputstream-1A2B3C");
    let mut file = File::create(&temp).expect("it can be opened");
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).expect("it can be written");
    let backup = beside(path, "peers.yaml~");
    let _ = fs::remove_file(&backup);
    fs::hard_link(path, &backup).expect("a link");
    fs::rename(&temp, path).expect("it can be renamed");
    fs::remove_file(backup).expect("it can be removed");
}

/// As a kubelet does it: a new folder, and one link that says which one counts.
fn swap(folder: &Path, version: u32, conf: &str, peers: &str) {
    let data = folder.join(format!("..2024_{version}"));
    fs::create_dir(&data).expect("the folder can be made");
    fs::write(data.join("conf.yaml"), conf).expect("it can be written");
    fs::write(data.join("peers.yaml"), peers).expect("it can be written");
    symlink(format!("..2024_{version}"), folder.join("..data_tmp")).expect("a link");
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("it can be renamed");
    if version > 1 {
        fs::remove_dir_all(folder.join(format!("..2024_{}", version - 1))).expect("it can be removed");
    }
}
