//! What lies in `deploy/`: it fits the node that it is for. (Dashboard and alerts: the test `metrics`. The judges of systemd,
//! Prometheus and Kubernetes: scripts that `.ci/run` calls where they are installed.)

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fednode_tests::{Node, Port, Spec, process};
use serde_json::{Value, json};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn manifest(name: &str) -> Value {
    let text = fs::read_to_string(deploy().join("kubernetes").join(name)).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A node whose folder is what a kubelet makes of a ConfigMap, and somebody who changes it with `reload.sh`.
struct Cluster {
    node: Node,
    /// What the operator edits.
    edited: tempfile::TempDir,
    /// What the stand-in for kubectl keeps.
    cluster: tempfile::TempDir,
    conf: Value,
}

// === impl Cluster ===

impl Cluster {
    async fn new(faults: &str) -> Self {
        let spec = Spec::new().env("FAILPOINTS", faults);
        let mounted = spec.folder().to_owned();
        let mut conf = spec.conf.clone();
        conf["node"]["data_dir"] = json!(mounted.join("data"));
        let (edited, cluster) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(mounted.join("..first")).unwrap();
        symlink("..first", mounted.join("..data")).unwrap();
        for file in ["conf.yaml", "peers.yaml"] {
            symlink(Path::new("..data").join(file), mounted.join(file)).unwrap();
        }
        fs::write(mounted.join("conf.yaml"), serde_yaml::to_string(&conf).unwrap()).unwrap();
        fs::write(mounted.join("peers.yaml"), "peers: []\n").unwrap();
        fs::copy(mounted.join("peers.yaml"), edited.path().join("peers.yaml")).unwrap();
        symlink(process::binary(), cluster.path().join("fednode")).unwrap();
        let kubectl = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/kubectl");
        symlink(kubectl, cluster.path().join("kubectl")).unwrap();
        let mut node = spec.spawn_as_it_is();
        node.wait_until_it_serves().await;
        Self { node, edited, cluster, conf }
    }

    /// Edits conf.yaml and runs the script on it.
    fn reload(&mut self, edit: impl FnOnce(&mut Value), more: &[&str]) -> Output {
        edit(&mut self.conf);
        let conf = self.edited.path().join("conf.yaml");
        fs::write(conf, serde_yaml::to_string(&self.conf).unwrap()).unwrap();
        let (mounted, mut path) = (self.node.spec().folder(), self.cluster.path().as_os_str().to_owned());
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Command::new(deploy().join("kubernetes/reload.sh"))
            .args(["-n", "federation", "-d"])
            .arg(mounted)
            .args(more)
            .arg(self.edited.path())
            .env("PATH", path)
            .env("CLUSTER", self.cluster.path())
            .env("MOUNTED", mounted)
            .env("FEDNODE_CONFIG", mounted.join("conf.yaml"))
            .env_remove("FEDNODE_SOCKET")
            .output()
            .unwrap()
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.cluster.path().join("calls")).unwrap_or_default()
    }

    async fn generation(&self) -> u64 {
        self.node.status().await["generation"].as_u64().unwrap()
    }
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[tokio::test]
async fn reload_sh_brings_a_change_into_the_node() {
    let mut cluster = Cluster::new("").await;
    let output = cluster.reload(|conf| conf["logging"]["level"] = json!("warn"), &[]);
    assert_eq!(code(&output), Some(0), "{output:?}");
    assert_eq!(cluster.generation().await, 2);
    let audit = cluster.node.audit();
    assert_eq!((&audit[1]["trigger"], &audit[1]["note"]), (&json!("cli"), &json!("reload.sh")));
    assert!(cluster.calls().lines().all(|call| call.starts_with("--namespace=federation ")));
    assert!(cluster.calls().contains("create configmap fednode "), "{}", cluster.calls());
    assert!(String::from_utf8_lossy(&output.stdout).contains("committed: generation 1 -> 2"), "{output:?}");
}

#[tokio::test]
async fn reload_sh_touches_nothing_if_the_node_refuses_the_files() {
    let mut cluster = Cluster::new("").await;
    let output = cluster.reload(|conf| conf["logging"]["level"] = json!("loud"), &[]);
    assert_eq!(code(&output), Some(1), "{output:?}");
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    assert!(String::from_utf8_lossy(&said).contains("logging.level"), "{output:?}");
    assert!(!cluster.calls().contains("apply"), "{}", cluster.calls());
    assert_eq!(cluster.generation().await, 1);
    let left = cluster.calls().lines().filter(|call| call.contains("rm -rf")).count();
    assert_eq!(left, 1, "what was judged is gone");
}

#[tokio::test]
async fn reload_sh_says_that_a_file_does_not_reach_the_pod() {
    let mut cluster = Cluster::new("").await;
    fs::write(cluster.cluster.path().join("subpath"), "").unwrap();
    let output = cluster.reload(|conf| conf["logging"]["level"] = json!("warn"), &["-t", "1"]);
    assert_eq!(code(&output), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("subPath"), "{output:?}");
    assert_eq!(cluster.generation().await, 1);
}

#[tokio::test]
async fn reload_sh_fails_where_the_reload_does() {
    let mut cluster = Cluster::new("logging::prepare=return(error)").await;
    let output = cluster.reload(|conf| conf["logging"]["level"] = json!("warn"), &[]);
    assert_eq!(code(&output), Some(4), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("rolled back"), "{output:?}");
    assert_eq!(cluster.generation().await, 1);
}

#[test]
fn the_configmap_is_a_configuration_and_the_pod_has_what_it_names() {
    let data = manifest("configmap.yaml")["data"].clone();
    let text = data["conf.yaml"].as_str().unwrap();
    let set = manifest("statefulset.yaml");
    let container = &set["spec"]["template"]["spec"]["containers"][0];

    // The pod's folders are here, and its ports are free.
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap();
    let (p2p, admin) = (Port::free(), Port::free());
    let here = text
        .replace("/etc/fednode-key", home)
        .replace("/var/lib/fednode", &format!("{home}/data"))
        .replace("0.0.0.0/tcp/9000", &format!("0.0.0.0/tcp/{}", p2p.address().port()))
        .replace("0.0.0.0/udp/9000", &format!("0.0.0.0/udp/{}", p2p.address().port()))
        .replace("0.0.0.0:9100", &admin.address().to_string());
    fs::write(folder.path().join("conf.yaml"), &here).unwrap();
    fs::write(folder.path().join("peers.yaml"), data["peers.yaml"].as_str().unwrap()).unwrap();
    fs::write(folder.path().join("node.key"), fednode_tests::Keys::generate().private_key).unwrap();
    let output = Command::new(process::binary())
        .args(["check", "--config"])
        .arg(folder.path().join("conf.yaml"))
        .env_remove("FEDNODE_SOCKET")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");

    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| mount.get("subPath").is_none()), "such a copy never changes");
    for path in ["/etc/fednode", "/etc/fednode-key", "/var/lib/fednode", "/tmp"] {
        assert!(mounts.iter().any(|mount| mount["mountPath"] == path), "{path} is not mounted");
    }
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let ports: Vec<_> =
        container["ports"].as_array().unwrap().iter().map(|port| port["containerPort"].as_u64()).collect();
    assert_eq!(ports, [Some(9000), Some(9000), Some(9100)]);
    let grace = set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > 30, "the node may take node.shutdown_timeout for its goodbye");
    let part_of = "app.kubernetes.io/part-of";
    assert_eq!(
        set["spec"]["template"]["metadata"]["labels"][part_of],
        manifest("poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"][part_of]
    );
}
