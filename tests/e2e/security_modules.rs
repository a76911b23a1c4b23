// SPDX-License-Identifier: Apache-2.0
//! AppArmor profiles and SELinux labels where the kernel has them: what a process is confined by, and what is
//! said of a profile or a label that there is none of.

use std::fs;
use std::path::PathBuf;

use ctr_tests::need::cannot;
use ctr_tests::{Need, World, need};
use serde_json::{Value, json};

use crate::runtime::Scene;
use crate::runtime_mounts::USER_NAMESPACE;

/// A profile that the kernel has until the test's end.
struct Profile {
    name: String,
    file: PathBuf,
}

impl Profile {
    /// Loads one that allows everything but to read `/denied`; else why not.
    fn load(world: &World) -> Result<Self, String> {
        let enabled = fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
        if !enabled || !fs::exists("/sys/kernel/security/apparmor/.load").unwrap_or(false) {
            return Err("AppArmor is not enabled in this kernel".into());
        }
        let (name, file) = (world.id("profile"), world.dir().join("profile"));
        let rules = "file, capability, network, mount, umount, signal, ptrace, unix, deny /denied rwx,";
        let flags = "flags=(attach_disconnected,mediate_deleted)";
        fs::write(&file, format!("profile {name} {flags} {{\n  {}\n}}\n", rules.replace(", ", ",\n  "))).unwrap();
        let profile = Self { name, file };
        profile.parse(world, "--replace");
        Ok(profile)
    }

    fn parse(&self, world: &World, action: &str) {
        world.program("apparmor_parser").args([action, "--skip-cache"]).arg(&self.file).run().success();
    }
}

macro_rules! need_apparmor {
    ($world:ident, $profile:ident) => {
        need!(Need::Root, Need::Busybox, Need::Program("apparmor_parser"));
        let $world = World::create();
        let $profile = match Profile::load(&$world) {
            Ok(profile) => profile,
            Err(reason) => return cannot(&reason),
        };
    };
}

/// What a process says of itself, and whether it may read a file that the profile denies.
const SHOW: &str = "cat /proc/self/attr/current; cat /denied 2>&1 || true";

fn confined(name: &str) -> String {
    format!("{name} (enforce)\ncat: can't open '/denied': Permission denied\n")
}

fn scene(flags: &[&str], script: &str, profile: &str) -> Scene {
    let layer = ctr_tests::Layer::new().file("denied", "secret\n");
    Scene::of(Some(layer), flags, script).edit(|config| config["process"]["apparmorProfile"] = json!(profile))
}

#[test]
fn a_profile_confines_the_container_and_its_further_processes() {
    need_apparmor!(world, profile);
    for flags in [&[][..], &USER_NAMESPACE] {
        let ran = scene(flags, SHOW, &profile.name).make(&["run"]).run().success();
        assert_eq!(ran.stdout, confined(&profile.name));
    }
    let running = scene(&[], "exec sleep 1000", &profile.name);
    running.make(&["run", "--detach"]).detaches().run().success();
    assert_eq!(running.exec(SHOW).run().success().stdout, confined(&profile.name));
    let exec = |flags: &[&str]| running.runtime(&[&["exec"], flags, &[&running.id, "sh", "-c", SHOW]].concat()).run();
    let free = exec(&["--apparmor", "unconfined"]).success().stdout;
    assert_eq!(free, "unconfined\nsecret\n");
    let missing = exec(&["--apparmor", "nonesuch"]);
    assert_eq!(missing.code(), 255);
    assert!(missing.stderr.contains("AppArmor profile \"nonesuch\""), "{}", missing.stderr);
    running.delete();
    profile.parse(&world, "--remove");
}

#[test]
fn a_profile_that_is_not_loaded_is_named() {
    need_apparmor!(world, profile);
    profile.parse(&world, "--remove");
    let scene = scene(&[], "true", &profile.name);
    scene.make(&["run"]).run().fails(1, &["apply the AppArmor profile", &profile.name]);
    assert!(!scene.dir().exists());
    // No profile is none, and not the one that is called so.
    scene.rewrite(|config| config["process"]["apparmorProfile"] = json!(""));
    scene.make(&["run"]).run().success();
}

/// Why there are no labels here.
fn no_labels() -> Option<&'static str> {
    match fs::exists("/sys/fs/selinux/enforce") {
        Ok(true) => None,
        _ => Some("SELinux is not enabled in this kernel"),
    }
}

const LABEL: &str = "system_u:system_r:unconfined_t:s0";
const MOUNT_LABEL: &str = "system_u:object_r:tmp_t:s0";

#[test]
fn labels_are_those_of_processes_and_mounts() {
    need!(Need::Root, Need::Busybox);
    if let Some(reason) = no_labels() {
        return cannot(reason);
    }
    let script = "cat /proc/self/attr/current; echo; grep -c \"context=.*tmp_t\" /proc/mounts; exec sleep 1000";
    let labelled = |config: &mut Value| {
        config["process"]["selinuxLabel"] = json!(LABEL);
        config["linux"]["mountLabel"] = json!(MOUNT_LABEL);
    };
    let scene = Scene::new(script).edit(labelled);
    let running = scene.make(&["run"]).spawn();
    let said = running.wait_for_output("\n");
    assert!(said.starts_with(LABEL), "{said}");
    let said = scene.exec("cat /proc/self/attr/current").run().success().stdout;
    assert!(said.starts_with(LABEL), "{said}");
    let flags = ["exec", "--process-label", "system_u:system_r:nonesuch_t:s0", &scene.id, "true"];
    let refused = scene.runtime(&flags).run();
    assert_eq!(refused.code(), 255);
    assert!(refused.stderr.contains("label") && refused.stderr.contains("nonesuch_t"), "{}", refused.stderr);
    scene.delete();
    let ended = running.wait();
    let mounts: u32 = ended.stdout.lines().nth(1).unwrap().parse().unwrap();
    assert!(mounts >= 2, "{}", ended.stdout);
}
