// SPDX-License-Identifier: Apache-2.0
//! `ctr-run` with bundles that others have made: umoci's, and those that begin with `runc spec`.

use std::fs;
use std::path::{Path, PathBuf};

use ctr_tests::pty::Terminal;
use ctr_tests::world::busybox_image;
use ctr_tests::{Need, Tool, World, need};
use serde_json::{Value, json};

/// Has umoci make a bundle of the busybox image.
fn unpack(world: &World, flags: &[&str]) -> PathBuf {
    let layout = world.layout("busybox", &busybox_image(None).config("User", json!("app")));
    let bundle = world.dir().join("bundle");
    let image = layout.strip_prefix("oci:").unwrap();
    world.program("umoci").args(["unpack", "--image", image]).args(flags).arg(&bundle).run().success();
    bundle
}

fn edit(bundle: &Path, change: impl FnOnce(&mut Value)) {
    let path = bundle.join("config.json");
    let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

fn run(world: &World, bundle: &Path) -> Tool {
    world.tool("ctr-run").arg("run").arg("--bundle").arg(bundle).arg(world.id("c"))
}

#[test]
fn runs_umocis_bundle() {
    need!(Need::Root, Need::Busybox, Need::Program("umoci"));
    let world = World::create();
    let bundle = unpack(&world, &[]);
    edit(&bundle, |config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", "id -u; cat /etc/greeting"]);
    });
    assert_eq!(run(&world, &bundle).run().success().stdout, "1000\nhello from a container\n");
}

#[test]
fn runs_umocis_bundle_in_a_user_namespace() {
    need!(Need::Root, Need::Busybox, Need::Program("umoci"));
    let world = World::create();
    let bundle = unpack(&world, &["--uid-map", "0:100000:65536", "--gid-map", "0:100000:65536"]);
    // As for runc: the user namespace's root has to reach the bundle.
    let closed = [world.dir().to_owned(), bundle.clone()];
    for dir in closed {
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    edit(&bundle, |config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", "id -u; cat /etc/greeting /proc/self/uid_map"]);
    });
    let said = run(&world, &bundle).run().success().stdout;
    let words: Vec<_> = said.split_whitespace().collect();
    assert_eq!(words, ["1000", "hello", "from", "a", "container", "0", "100000", "65536"]);
}

#[test]
fn runs_a_bundle_of_runc_spec_at_a_terminal() {
    need!(Need::Root, Need::Busybox, Need::Program("umoci"), Need::Program("runc"));
    let world = World::create();
    let rootfs = unpack(&world, &[]).join("rootfs");
    let bundle = world.dir().join("spec");
    fs::create_dir(&bundle).unwrap();
    fs::rename(rootfs, bundle.join("rootfs")).unwrap();
    world.program("runc").arg("spec").dir(&bundle).run().success();
    let mut terminal = Terminal::open(run(&world, &bundle), 33, 77);
    terminal.write("stty size; hostname; touch /x; exit 4\n");
    let (code, screen) = terminal.wait();
    assert_eq!(code, 4, "{screen}");
    for line in ["33 77", "runc", "Read-only file system"] {
        assert!(screen.contains(line), "{screen}");
    }
}

#[test]
fn its_own_spec_runs_under_runc_as_well() {
    need!(Need::Root, Need::Busybox, Need::Program("umoci"), Need::Program("runc"));
    let world = World::create();
    let bundle = unpack(&world, &[]);
    fs::remove_file(bundle.join("config.json")).unwrap();
    world.tool("ctr-run").arg("spec").dir(&bundle).run().success();
    edit(&bundle, |config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", "cat /proc/self/status | grep Cap; mount"]);
    });
    let ours = run(&world, &bundle).run().success().stdout;
    let root = format!("{}", world.dir().join("runc").display());
    let runc = world.program("runc").args(["--root", &root, "run", "--bundle"]).arg(&bundle).arg(world.id("c"));
    let theirs = runc.run().success().stdout;
    let capabilities = |output: &str| output.lines().filter(|line| line.starts_with("Cap")).collect::<String>();
    assert_eq!(capabilities(&ours), capabilities(&theirs));
    // Which of a hybrid machine's hierarchies are shown, and in which order, differs between versions of runc.
    let points = |output: &str| -> Vec<String> {
        let mounts = output.lines().filter(|line| line.contains(" on ") && !line.contains("/sys/fs/cgroup/"));
        mounts.map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect()
    };
    assert_eq!(points(&ours), points(&theirs));
}
