// SPDX-License-Identifier: Apache-2.0
//! `features` is true: what it lists is gone through here, and works. Mount options and the words of seccomp
//! profiles have files of their own beside this one.

use std::fs;
use std::path::{Path, PathBuf};

use ctr_tests::need::{cannot, repository};
use ctr_tests::{Layer, Need, World, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, add_hook, text};
use crate::runtime_mounts::add_mount;

/// What `ctr-run features` prints.
pub(crate) fn features() -> Value {
    serde_json::from_str(&World::create().tool("ctr-run").arg("features").run().success().stdout).unwrap()
}

/// A list of words in it.
pub(crate) fn words<'a>(features: &'a Value, member: &str) -> Vec<&'a str> {
    let list = features.pointer(member).and_then(Value::as_array).unwrap();
    list.iter().map(|word| word.as_str().unwrap()).collect()
}

/// A static executable for x86_64 of nothing but these instructions.
pub(crate) fn program(instructions: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let length = HEADERS + instructions.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let u16s = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let u32s = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let u64s = |values: &[u64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    // ET_EXEC of EM_X86_64, its entry, one program header and no section.
    file.extend([u16s(&[2, 62]), u32s(&[1]), u64s(&[BASE + HEADERS, 64, 0]), u32s(&[0])].concat());
    file.extend(u16s(&[64, 56, 1, 0, 0, 0]));
    // PT_LOAD of the whole file, readable and executable.
    file.extend([u32s(&[1, 5]), u64s(&[0, BASE, BASE, length, length, 0x1000])].concat());
    file.extend(instructions);
    file
}

#[test]
fn the_oldest_and_the_newest_version_are_taken() {
    need!(Need::Root, Need::Busybox);
    let features = features();
    for member in ["ociVersionMin", "ociVersionMax"] {
        let scene = Scene::new("true").edit(|config| config["ociVersion"] = features[member].clone());
        scene.make(&["run"]).run().success();
    }
}

#[test]
fn every_hook_runs() {
    need!(Need::Root, Need::Busybox);
    let features = features();
    let names = words(&features, "/hooks");
    let scene = Scene::new("true");
    let dir = text(scene.world.dir()).to_owned();
    let scene = scene.edit(|config| {
        names.iter().for_each(|name| add_hook(config, name, &format!("echo {name} >> {dir}/log")));
        // For the one that runs inside.
        add_mount(config, json!({ "destination": dir, "source": dir, "options": ["bind", "rw"] }));
    });
    scene.make(&["run"]).run().success();
    let log = fs::read_to_string(scene.world.dir().join("log")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), names);
}

#[test]
fn every_namespace_is_the_containers_own() {
    need!(Need::Root, Need::Busybox);
    let features = features();
    let kinds = words(&features, "/linux/namespaces");
    let link = |kind: &str| match kind {
        "mount" => "mnt".to_owned(),
        "network" => "net".to_owned(),
        other => other.to_owned(),
    };
    let script: String = kinds.iter().map(|kind| format!("busybox readlink /proc/self/ns/{};", link(kind))).collect();
    let scene = Scene::new(&script).edit(|config| {
        let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (mapping.clone(), mapping);
        config["linux"]["namespaces"] = kinds.iter().map(|kind| json!({ "type": kind })).collect();
    });
    let inside = scene.make(&["run"]).run().success().stdout;
    assert_eq!(inside.lines().count(), kinds.len());
    for (kind, inside) in kinds.iter().zip(inside.lines()) {
        let host = fs::read_link(format!("/proc/self/ns/{}", link(kind))).unwrap();
        assert_ne!(host.to_str(), Some(inside), "{kind}");
    }
}

#[test]
fn every_capability_is_given_by_its_name() {
    need!(Need::Root, Need::Busybox, Need::Program("setpriv"));
    let features = features();
    let scene = Scene::new("exec sleep 1000").edit(|config| {
        config["process"]["capabilities"] = json!({});
        config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    });
    // Another's names in the order of the numbers; it may know of fewer.
    let named = scene.world.program("setpriv").arg("--list-caps").run().success().stdout;
    let listed = words(&features, "/linux/capabilities");
    let named: Vec<String> = named.lines().map(|name| format!("CAP_{}", name.to_ascii_uppercase())).collect();
    assert!(listed.len() > 40 && listed.iter().zip(&named).all(|(ours, theirs)| ours == theirs), "{named:?}");
    scene.make(&["run", "--detach"]).detaches().run().success();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
    let own = u64::from_str_radix(own, 16).unwrap();
    for (number, name) in listed.iter().enumerate() {
        let has = 1_u64 << number;
        let args = ["exec", "--cap", name, &scene.id, "grep", "^CapEff", "/proc/self/status"];
        let given = scene.runtime(&args).run().success().stdout;
        assert_eq!(given, format!("CapEff:\t{:016x}\n", has & own), "{name}");
    }
    scene.delete();
    let lacking: Vec<&&str> =
        listed.iter().enumerate().filter(|(n, _)| own >> n & 1 == 0).map(|(_, name)| name).collect();
    if !lacking.is_empty() {
        cannot(&format!("this root may not give {lacking:?}"));
    }
}

/// Ends with the mode of its memory policy in the lower bits of the code, and its flags in the upper ones.
const GET_MEMPOLICY: &[u8] = &[
    0xb8, 239, 0, 0, 0, // mov eax, SYS_get_mempolicy
    0x48, 0x83, 0xec, 0x10, // sub rsp, 16
    0x48, 0x89, 0xe7, // mov rdi, rsp
    0x31, 0xf6, // xor esi, esi
    0x31, 0xd2, // xor edx, edx
    0x45, 0x31, 0xd2, // xor r10d, r10d
    0x45, 0x31, 0xc0, // xor r8d, r8d
    0x0f, 0x05, // syscall
    0x8b, 0x3c, 0x24, // mov edi, [rsp]
    0x89, 0xf8, // mov eax, edi
    0xc1, 0xef, 0x08, // shr edi, 8
    0x09, 0xc7, // or edi, eax
    0x40, 0x0f, 0xb6, 0xff, // movzx edi, dil
    0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
    0x0f, 0x05, // syscall
];

#[test]
fn every_memory_policy_is_the_containers() {
    need!(Need::Root, Need::Busybox);
    if !Path::new("/proc/self/numa_maps").exists() {
        return cannot("this kernel has no memory policies");
    }
    if std::env::consts::ARCH != "x86_64" {
        return cannot("the program that asks for the policy is x86_64's");
    }
    let features = features();
    let scene =
        Scene::of(Some(Layer::new().program("get", program(GET_MEMPOLICY))), &["--seccomp", "unconfined"], "exec /get");
    let check = |mode: &str, flags: &[&str], expected: i32| {
        let nodes = if matches!(mode, "MPOL_DEFAULT" | "MPOL_LOCAL") { "" } else { "0" };
        let policy = json!({ "mode": mode, "nodes": nodes, "flags": flags });
        scene.rewrite(|config| config["linux"]["memoryPolicy"] = policy);
        let ran = scene.make(&["run"]).run();
        // It was called with a mode, or a flag, that the kernel is too old for.
        if ran.stderr.contains("set the memory policy: invalid argument") {
            return cannot(&format!("this kernel does not know {mode} with {flags:?}"));
        }
        assert_eq!(ran.code(), expected, "{mode} {flags:?}: {ran:?}");
    };
    for mode in words(&features, "/linux/memoryPolicy/modes") {
        let number = match mode {
            "MPOL_DEFAULT" => 0,
            "MPOL_PREFERRED" => 1,
            "MPOL_BIND" => 2,
            "MPOL_INTERLEAVE" => 3,
            "MPOL_LOCAL" => 4,
            "MPOL_PREFERRED_MANY" => 5,
            "MPOL_WEIGHTED_INTERLEAVE" => 6,
            unknown => panic!("{unknown} is listed and not tested"),
        };
        check(mode, &[], number);
    }
    for flag in words(&features, "/linux/memoryPolicy/flags") {
        let bit = match flag {
            "MPOL_F_NUMA_BALANCING" => 0x20,
            "MPOL_F_RELATIVE_NODES" => 0x40,
            "MPOL_F_STATIC_NODES" => 0x80,
            unknown => panic!("{unknown} is listed and not tested"),
        };
        check("MPOL_BIND", &[flag], 2 | bit);
    }
}

#[test]
fn the_annotations_say_what_is_so() {
    let world = World::create();
    let features = features();
    let version = world.tool("ctr-run").arg("--version").run().success().stdout;
    let told = features["annotations"]["ctr.runtime.version"].as_str().unwrap();
    assert!(version.contains(&format!(" {told}")), "{version}");
    for manager in features["annotations"]["ctr.runtime.cgroup.managers"].as_str().unwrap().split(',') {
        world.tool("ctr-run").args(["--cgroup-manager", manager, "list", "-q"]).run().success();
    }
    world.tool("ctr-run").args(["--cgroup-manager", "nonesuch", "list", "-q"]).run().fails(1, &["nonesuch"]);
}

// Docker and podman pass on only annotations that are not told to be unsafe.
#[test]
fn every_annotation_that_is_honoured_is_told_to_be_unsafe_and_no_other() {
    let features = features();
    let told = words(&features, "/potentiallyUnsafeConfigAnnotations");
    let covers = |entry: &str, name: &str| entry == name || entry.ends_with('.') && name.starts_with(entry);
    let mut honoured = Vec::new();
    for file in rust_files(&repository().join("libs/ctr-runtime/src")) {
        let text = fs::read_to_string(file).unwrap();
        let prefixes = ["run.oci.", "org.systemd.property.", "org.criu."];
        let names = text.split('"').filter(|part| prefixes.iter().any(|prefix| part.starts_with(prefix)));
        honoured.extend(names.map(str::to_owned));
    }
    for name in &honoured {
        assert!(told.iter().any(|entry| covers(entry, name)), "{name}");
    }
    for entry in told {
        assert!(honoured.iter().any(|name| covers(entry, name)), "{entry}");
    }
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { rust_files(&path) } else { vec![path] };
    entries.flat_map(below).filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// What is no list of words, and the tests that exercise it.
const ELSEWHERE: [(&str, &str); 14] = [
    ("/linux/cgroup/v1", "each_controller_is_told_what_the_config_says"),
    ("/linux/cgroup/v2", "each_controller_is_told_what_the_config_says"),
    ("/linux/cgroup/systemd", "a_container_is_a_scope_of_systemds"),
    ("/linux/cgroup/systemdUser", "a_container_is_a_scope_of_the_users_systemd"),
    ("/linux/cgroup/rdma", "huge_pages_and_rdma"),
    ("/linux/seccomp/enabled", "every_action_has_its_effect"),
    ("/linux/apparmor/enabled", "a_profile_confines_the_container_and_its_further_processes"),
    ("/linux/selinux/enabled", "labels_are_those_of_processes_and_mounts"),
    ("/linux/intelRdt/enabled", "a_container_has_a_group_of_its_own_that_ends_with_it"),
    ("/linux/intelRdt/schemata", "a_named_group_that_exists_must_have_the_schemata_that_are_asked_for"),
    ("/linux/intelRdt/monitoring", "a_named_group_stays_and_only_the_monitoring_group_ends"),
    ("/linux/mountExtensions/idmap/enabled", "every_mount_option_is_seen_in_a_container"),
    ("/linux/netDevices/enabled", "a_device_is_moved_with_what_was_set_up_of_it"),
    ("/annotations/org.opencontainers.runc.checkpoint.enabled", "a_container_goes_on_where_it_was_checkpointed"),
];

#[test]
fn nothing_is_listed_that_no_test_exercises() {
    let here = [
        "/ociVersionMin",
        "/ociVersionMax",
        "/hooks",
        "/mountOptions",
        "/linux/namespaces",
        "/linux/capabilities",
        "/linux/seccomp/actions",
        "/linux/seccomp/operators",
        "/linux/seccomp/archs",
        "/linux/seccomp/knownFlags",
        "/linux/seccomp/supportedFlags",
        "/linux/memoryPolicy/modes",
        "/linux/memoryPolicy/flags",
        "/annotations/ctr.runtime.version",
        "/annotations/ctr.runtime.cgroup.managers",
        "/potentiallyUnsafeConfigAnnotations",
    ];
    let mut exercised: Vec<String> =
        here.iter().chain(ELSEWHERE.iter().map(|(member, _)| member)).map(|member| (*member).to_owned()).collect();
    let mut listed = Vec::new();
    leaves(&features(), "", &mut listed);
    exercised.sort();
    listed.sort();
    assert_eq!(listed, exercised);
    let sources = ["tests/e2e", "libs"].map(|dir| rust_files(&repository().join(dir))).concat();
    let sources: String = sources.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for (member, test) in ELSEWHERE {
        assert!(
            sources.contains(&format!("#[test]\nfn {test}()"))
                || sources.contains(&format!("#[test]\n    fn {test}()")),
            "{member}: there is no test {test}"
        );
    }
}

fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value.as_object() {
        Some(members) => members.iter().for_each(|(name, value)| leaves(value, &format!("{at}/{name}"), found)),
        None => found.push(at.to_owned()),
    }
}
