// SPDX-License-Identifier: Apache-2.0
//! Images and configs that attack the runtime: one test per published flaw of one, that a runtime with
//! the flaw fails.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ctr_tests::layer::Entry;
use ctr_tests::{Layer, Need, Tool, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};
use crate::runtime_mounts::add_mount;

fn without_mount(config: &mut Value, destination: &str) {
    config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != destination);
}

// With a program that is /proc/self/exe, or a script for it, the kernel runs the runtime itself inside the
// container, and who holds its file can write to it once it has ended.
#[test]
fn cve_2019_5736_the_runtimes_file_cannot_be_written_from_inside() {
    need!(Need::Root, Need::Busybox);
    let script = Layer::new().with(Entry::file("script", "#!/proc/self/exe --version\n").mode(0o755));
    // A runtime that is not linked statically needs its libraries.
    let libraries = ["/lib", "/lib64", "/usr/lib"].iter().filter(|dir| Path::new(dir).is_dir());
    let volumes: Vec<String> = libraries.map(|dir| format!("{dir}:{dir}:ro")).collect();
    let flags: Vec<&str> = volumes.iter().flat_map(|volume| ["--volume", volume]).collect();
    for program in [json!(["/proc/self/exe", "--help"]), json!(["/script"])] {
        let scene = Scene::of(Some(script.clone()), &flags, "exec sleep 1000");
        // A copy of its own, which no other test runs.
        let copy = scene.world.dir().join("ctr-run");
        fs::copy(ctr_tests::tool::bin_dir().join("ctr-run"), &copy).unwrap();
        // There it waits with what it has to say.
        let _full = full_fifo(&scene.world.dir().join("full"));
        let runtime = |args: &[&str]| {
            let line = scene.world.program("sh").args(["-c", "exec \"$@\" 1<> full", "sh"]).arg(&copy).args(args);
            line.detaches().run().success();
        };
        runtime(&["run", "--detach", "--bundle", text(&scene.bundle), &scene.id]);
        let process = json!({ "cwd": "/", "args": program, "env": ["PATH=/bin"] });
        let (file, pid_file) = (scene.world.dir().join("process.json"), scene.world.dir().join("pid"));
        fs::write(&file, process.to_string()).unwrap();
        runtime(&["exec", "--detach", "--process", text(&file), "--pid-file", text(&pid_file), &scene.id]);
        let executed = hold_executable(&fs::read_to_string(&pid_file).unwrap(), &copy);
        scene.delete();

        scene.rewrite(|config| config["process"]["args"] = program);
        runtime(&["run", "--detach", "--bundle", text(&scene.bundle), "--pid-file", text(&pid_file), &scene.id]);
        let ran = hold_executable(&fs::read_to_string(&pid_file).unwrap(), &copy);
        scene.delete();

        for held in [executed, ran] {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
            assert!(fs::read(&path).unwrap().starts_with(b"\x7fELF"));
            let error = OpenOptions::new().write(true).open(path).unwrap_err();
            assert!(matches!(error.raw_os_error(), Some(nix::libc::EROFS | nix::libc::EPERM)), "{error}");
        }
    }
}

// A FIFO that takes nothing more as long as it is held.
fn full_fifo(path: &Path) -> File {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut options = OpenOptions::new();
    let mut fifo = options.read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(path).unwrap();
    while fifo.write(&[0; 4096]).is_ok() {}
    fifo
}

// What a process executes, held as an attacker would: beyond the end of the process.
fn hold_executable(pid: &str, runtime: &Path) -> File {
    let path = format!("/proc/{pid}/exe");
    // The program in the container is the runtime, be it in a view or a copy of its file.
    assert_eq!(fs::metadata(&path).unwrap().len(), fs::metadata(runtime).unwrap().len());
    OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(path).unwrap()
}

#[test]
fn cve_2019_16884_nothing_is_mounted_over_proc() {
    need!(Need::Root, Need::Busybox);
    for destination in ["/proc", "/proc/self", "/x/../proc/self/attr", "/proc/sys/kernel"] {
        let scene = Scene::new("true").edit(|config| {
            add_mount(
                config,
                json!({ "destination": destination, "type": "bind", "source": "/tmp", "options": ["bind"] }),
            );
        });
        scene.make(&["run"]).run().fails(1, &["/proc"]);
    }
}

#[test]
fn cve_2019_18837_a_link_in_the_image_leads_a_mount_nowhere_else() {
    need!(Need::Root, Need::Busybox);
    let layer = Layer::new().symlink("up", "../../../../../../../../tmp").symlink("abs", "/tmp");
    for link in ["/up/made", "/abs/made"] {
        let scene =
            Scene::of(Some(layer.clone()), &[], "cat /tmp/made/file && grep -c ' /tmp/made ' /proc/self/mountinfo");
        let name = format!("made-{}", scene.id);
        let volume = scene.world.dir().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), "inside\n").unwrap();
        let scene = scene.edit(|config| {
            let destination = link.replace("made", &name);
            let script = config["process"]["args"][2].as_str().unwrap().replace("made", &name);
            config["process"]["args"][2] = script.into();
            add_mount(
                config,
                json!({ "destination": destination, "type": "bind", "source": volume, "options": ["bind"] }),
            );
        });
        assert_eq!(scene.make(&["run"]).run().success().stdout, "inside\n1\n");
        assert!(!Path::new("/tmp").join(name).exists());
    }
}

#[test]
fn cve_2022_0811_a_sysctl_sets_nothing_of_the_host() {
    need!(Need::Root, Need::Busybox);
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for (name, value) in [
        ("kernel.core_pattern", "|/evil"),
        ("kernel/core_pattern", "|/evil"),
        ("net.../../kernel/core_pattern", "|/evil"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/evil\nx"),
        ("net.ipv4.ip_forward\0", "1"),
        ("kernel.hostname", "evil"),
        ("vm.overcommit_memory", "1"),
    ] {
        let scene = Scene::new("true").edit(|config| config["linux"]["sysctl"] = json!({ name: value }));
        scene.make(&["run"]).run().fails(1, &["sysctl"]);
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
}

#[test]
fn cve_2022_29162_and_2025_27612_nothing_is_inheritable() {
    need!(Need::Root, Need::Busybox);
    let show = "grep -E '^Cap(Inh|Amb)' /proc/self/status";
    let none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n";
    let scene = Scene::new(&format!("{show}; exec sleep 1000"));
    let output = scene.world.dir().join("output");
    let script = format!("exec ctr-run run --detach --bundle {} {} > {}", text(&scene.bundle), scene.id, text(&output));
    scene.world.sh(&script).detaches().run().success();
    assert_eq!(
        scene.runtime(&["exec", "--cap", "CAP_SYS_PTRACE", &scene.id, "sh", "-c", show]).run().success().stdout,
        none
    );
    assert_eq!(scene.runtime(&["exec", "--user", "1000", &scene.id, "sh", "-c", show]).run().success().stdout, none);
    assert_eq!(fs::read_to_string(output).unwrap(), none);
    scene.delete();
}

#[test]
fn cve_2023_27561_and_2025_54867_proc_and_sys_of_the_image_are_no_links() {
    need!(Need::Root, Need::Busybox);
    for name in ["proc", "sys"] {
        for target in ["/elsewhere", "elsewhere", "/", "../../..", "/missing"] {
            let layer = Layer::new().dir("elsewhere").symlink(name, target);
            let scene = Scene::of(Some(layer), &[], "cat /proc/kcore");
            scene.make(&["run"]).run().fails(1, &[&format!("/{name}")]);
        }
    }
}

#[test]
fn cve_2024_21626_no_descriptor_leads_to_the_host() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("ls ../../../../../../..; pwd");
    for fd in 3..16 {
        let scene = &scene;
        let run = |flags: &str| {
            let (bundle, id) = (text(&scene.bundle), &scene.id);
            // Whoever called the runtime has left the host's root open.
            let script = format!("exec {fd}< /; exec ctr-run run {flags} --bundle {bundle} {id}");
            scene.world.program("bash").args(["-c", &script]).run()
        };
        for cwd in [format!("/proc/self/fd/{fd}"), format!("/proc/self/fd/{fd}/etc"), format!("/proc/1/fd/{fd}")] {
            let path = scene.bundle.join("config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config["process"]["cwd"] = cwd.into();
            fs::write(path, config.to_string()).unwrap();
            let failed = run("").fails(1, &["cwd"]);
            assert_eq!(failed.stdout, "");
        }
        // Even one that is passed on deliberately is no way out at the start.
        if fd == 3 {
            assert_eq!(run("--preserve-fds 1").fails(1, &["outside"]).stdout, "");
        }
    }
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    for fd in 3..16 {
        let script = format!("exec {fd}< /; exec ctr-run exec --cwd /proc/self/fd/{fd} {} pwd", scene.id);
        let failed = scene.world.program("bash").args(["-c", &script]).run().fails(255, &["cwd"]);
        assert_eq!(failed.stdout, "");
    }
    scene.delete();
}

#[test]
fn cve_2024_45310_nothing_is_made_outside_the_root() {
    need!(Need::Root, Need::Busybox);
    let probe = format!("/tmp/ctr-45310-{}", std::process::id());
    let layer = Layer::new().symlink("link", &format!("../../../../../../../../../..{probe}"));
    let scene = Scene::of(Some(layer), &[], &format!("cd {probe}; echo *; stat -f -c %T mount")).edit(|config| {
        config["process"]["cwd"] = json!("/link/cwd");
        add_mount(config, json!({ "destination": "/link/mount", "type": "tmpfs", "source": "tmpfs" }));
    });
    // The link dangles; it leads to where the container sees it, which is made.
    assert_eq!(scene.make(&["run"]).run().success().stdout, "cwd mount\ntmpfs\n");
    assert!(!Path::new(&probe).exists());
}

#[test]
fn cve_2025_31133_and_2025_62161_what_masks_a_file_is_the_null_device() {
    need!(Need::Root, Need::Busybox);
    let links = Layer::new().dir("dev").symlink("dev/null", "/etc/passwd");
    let file = Layer::new().dir("dev").file("dev/null", "not the device");
    for layer in [links, file] {
        let scene = Scene::of(Some(layer), &[], "cat /etc/motd").edit(|config| {
            // The image's own /dev, as with a config that mounts nothing there.
            without_mount(config, "/dev");
            config["linux"]["maskedPaths"] = json!(["/etc/motd"]);
        });
        let failed = scene.make(&["run"]).run().fails(1, &["/dev/null"]);
        assert_eq!(failed.stdout, "");
    }
    // In a /dev that is a volume nothing is made, so that only the mask itself can tell.
    for attack in ["ln -s /etc/passwd null", "echo evil > null", "mknod null c 1 5", "mkfifo null", "mkdir null"] {
        let scene = Scene::new("cat /etc/motd");
        let volume = scene.world.dir().join("dev");
        fs::create_dir(&volume).unwrap();
        scene.world.sh(&format!("cd dev && {attack}")).run().success();
        let scene = scene.edit(|config| {
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
            add_mount(config, json!({ "destination": "/dev", "type": "bind", "source": volume, "options": ["rbind"] }));
            config["linux"]["maskedPaths"] = json!(["/etc/motd"]);
        });
        let failed = scene.make(&["run"]).run().fails(1, &["/dev/null"]);
        assert_eq!(failed.stdout, "", "{attack}");
    }
}

// setresuid(2) takes it for "no change", and root stays root.
#[test]
fn the_user_that_is_no_id_is_not_root() {
    need!(Need::Root, Need::Busybox);
    let all = u32::MAX;
    for user in [
        json!({ "uid": all, "gid": 0 }),
        json!({ "uid": 0, "gid": all }),
        json!({ "uid": 1, "gid": 1, "additionalGids": [all] }),
    ] {
        let scene = Scene::new("id").edit(|config| config["process"]["user"] = user);
        assert_eq!(scene.make(&["run"]).run().fails(1, &["user"]).stdout, "");
    }
}

#[test]
fn cve_2026_41579_a_dev_that_is_a_link_has_nothing_made_in_it() {
    need!(Need::Root, Need::Busybox);
    let target = format!("/tmp/ctr-41579-{}", std::process::id());
    fs::create_dir(&target).unwrap();
    fs::write(format!("{target}/ptmx"), "the host's").unwrap();
    for link in [target.clone(), format!("../../../../../../../..{target}")] {
        let scene = Scene::of(Some(Layer::new().symlink("dev", &link)), &[], "true");
        let scene = scene.edit(|config| without_mount(config, "/dev"));
        scene.make(&["run"]).run().fails(1, &["/dev"]);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(format!("{target}/ptmx")).unwrap(), "the host's");
    }
    fs::remove_dir_all(target).unwrap();
}

#[test]
fn an_id_is_no_path() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    for id in ["../evil", "a/b", "/evil", "..", ".", "", "a\nb"] {
        for verb in
            [&["create", "--bundle", text(&scene.bundle)][..], &["state"], &["delete", "--force"], &["exec"], &["kill"]]
        {
            let tool = scene.runtime(verb).args(["--", id]);
            let tool = if verb[0] == "exec" { tool.arg("true") } else { tool };
            tool.run().fails_with_one_line(&["id"]);
        }
    }
    assert!(!scene.world.dir().join("evil").exists());
}

#[test]
fn cve_2021_41103_state_is_for_its_owner_only() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    scene.make(&["create"]).detaches().run().success();
    for dir in [scene.world.run_root(), scene.dir(), scene.world.state()] {
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o077, 0, "{dir:?}");
    }
    scene.delete();
}

#[test]
fn what_waits_to_be_started_holds_its_gate_and_nothing_else_of_the_host() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    scene.make(&["create"]).detaches().run().success();
    let state = scene.runtime(&["state", &scene.id]).run().success().stdout;
    let pid = &serde_json::from_str::<Value>(&state).unwrap()["pid"];
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|fd| fs::read_link(fd.unwrap().path()).unwrap());
    let links: Vec<String> = links.map(|link| link.display().to_string()).collect();
    // The channel to a runtime that is gone, and standard streams.
    let anonymous = |link: &String| link.contains(":[") || link.starts_with("/memfd:") || link == "/dev/null";
    let named: Vec<&String> = links.iter().filter(|link| !anonymous(link)).collect();
    assert_eq!(named, [text(&scene.dir().join("exec.fifo"))], "{links:?}");
    scene.runtime(&["start", &scene.id]).run().success();
    scene.delete();
}

// A descriptor of the runtime's own that has one of the numbers to be preserved: with it the container
// would hold the lock of its own state.
#[test]
fn what_is_preserved_was_given_by_the_caller() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("ls /proc/self/fd; cat <&3");
    scene.make(&["create", "--preserve-fds", "9"]).run().fails(1, &["descriptor 3"]);
    let run = |redirect: &str, count: u32| -> Tool {
        let (bundle, id) = (text(&scene.bundle), &scene.id);
        let script = format!("exec {redirect}; exec ctr-run run --preserve-fds {count} --bundle {bundle} {id}");
        scene.world.program("bash").args(["-c", &script])
    };
    run("3<<< three", 2).run().fails(1, &["descriptor 4"]);
    // The shell's ls has one more: the directory that it reads.
    assert_eq!(run("3<<< three 5<<< five", 1).run().success().stdout, "0\n1\n2\n3\n4\nthree\n");
}
