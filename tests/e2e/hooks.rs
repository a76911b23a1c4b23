// SPDX-License-Identifier: Apache-2.0
//! Hooks: what each is told, where it runs, and what becomes of the container when it fails.

use std::fs;

use ctr_tests::{Need, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, add_hook, text};

fn state_in(scene: &Scene, file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(scene.world.dir().join(file)).unwrap()).unwrap()
}

#[test]
fn each_is_told_the_state_as_it_is_seen_where_it_runs() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    let dir = text(scene.world.dir()).to_owned();
    let names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let scene = scene.edit(|config| {
        for name in names {
            add_hook(config, name, &format!("cat > {dir}/{name}"));
        }
        add_hook(config, "startContainer", "cat > /told");
        config["process"]["args"] = json!(["sleep", "1000"]);
    });
    scene.make(&["create", "--pid-file", &format!("{dir}/pid")]).detaches().run().success();
    let pid = fs::read_to_string(format!("{dir}/pid")).unwrap();
    let pid: i32 = pid.parse().unwrap();
    scene.runtime(&["start", &scene.id]).run().success();
    let inside = fs::read_to_string(format!("/proc/{pid}/root/told")).unwrap();
    fs::write(scene.world.dir().join("startContainer"), inside).unwrap();
    scene.delete();
    for (name, status, pid) in [
        ("prestart", "creating", json!(pid)),
        ("createRuntime", "creating", json!(pid)),
        ("createContainer", "creating", json!(1)),
        ("startContainer", "created", json!(1)),
        ("poststart", "running", json!(pid)),
        ("poststop", "stopped", Value::Null),
    ] {
        let told = state_in(&scene, name);
        let (bundle, id) = (json!(scene.bundle), json!(scene.id));
        assert_eq!((&told["status"], &told["pid"], &told["bundle"]), (&json!(status), &pid, &bundle), "{name}");
        assert_eq!(told["id"], id, "{name}");
    }
}

#[test]
fn each_runs_in_the_bundle_the_root_or_the_programs_directory() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("cat /told");
    let dir = text(scene.world.dir()).to_owned();
    let scene = scene.edit(|config| {
        for name in ["prestart", "createRuntime", "poststart", "poststop"] {
            add_hook(config, name, &format!("pwd > {dir}/{name}"));
        }
        // The host's files by their paths, the container's by where it is.
        add_hook(config, "createContainer", &format!("ls bin > {dir}/createContainer; test -d {dir}"));
        add_hook(config, "startContainer", "pwd > /told");
        config["process"]["cwd"] = json!("/usr");
    });
    assert_eq!(scene.make(&["run"]).run().success().stdout, "/usr\n");
    for name in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(fs::read_to_string(format!("{dir}/{name}")).unwrap().trim(), text(&scene.bundle), "{name}");
    }
    assert!(fs::read_to_string(format!("{dir}/createContainer")).unwrap().contains("busybox"));
}

// As those that bring a graphics card's libraries do.
#[test]
fn what_they_mount_before_the_root_is_changed_is_in_the_container() {
    need!(Need::Root, Need::Busybox, Need::Program("nsenter"));
    let scene = Scene::new("cat /etc/from-runtime /etc/from-container");
    let dir = text(scene.world.dir()).to_owned();
    let rootfs = scene.bundle.join("rootfs");
    for name in ["from-runtime", "from-container"] {
        fs::write(scene.world.dir().join(name), format!("{name}\n")).unwrap();
    }
    let scene = scene.edit(|config| {
        let target = format!("{}/etc/from-runtime", rootfs.display());
        let mount = format!("touch {target}; mount --bind {dir}/from-runtime {target}");
        let script = format!("p=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -m -t $p sh -c '{mount}'");
        add_hook(config, "createRuntime", &script);
        let script = format!("touch ./etc/from-container; mount --bind {dir}/from-container ./etc/from-container");
        add_hook(config, "createContainer", &script);
    });
    assert_eq!(scene.make(&["run"]).run().success().stdout, "from-runtime\nfrom-container\n");
}

#[test]
fn one_that_starts_the_container_has_the_programs_environment_unless_it_has_its_own() {
    need!(Need::Root, Need::Busybox);
    let hook = |env: Value| {
        Scene::new("cat /told").edit(|config| {
            config["process"]["env"] = json!(["PATH=/bin", "ONE=two"]);
            let args = ["sh", "-c", "echo $ONE $OWN $HOME > /told"];
            config["hooks"]["startContainer"] = json!([{ "path": "/bin/sh", "args": args, "env": env }]);
        })
    };
    assert_eq!(hook(json!([])).make(&["run"]).run().success().stdout, "two /root\n");
    assert_eq!(hook(json!(["OWN=1"])).make(&["run"]).run().success().stdout, "1\n");
}

#[test]
fn one_that_fails_is_told_by_number_with_what_it_said() {
    need!(Need::Root, Need::Busybox);
    for name in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let scene = Scene::new("exec sleep 1000").edit(|config| {
            let script = |script: &str| json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
            config["hooks"][name] = json!([script("echo ignored"), script("echo no; echo good >&2; exit 3")]);
        });
        let words = [format!("error running {name} hook #1: /bin/sh failed with status 3: no; good")];
        scene.make(&["run"]).run().fails(1, &[&words[0]]);
    }
}

#[test]
fn the_container_stops_when_one_fails_after_its_start() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000").edit(|config| add_hook(config, "poststart", "exit 1"));
    scene.make(&["create"]).detaches().run().success();
    scene.runtime(&["start", &scene.id]).run().fails(1, &["error running poststart hook #0"]);
    let state = scene.runtime(&["state", &scene.id]).run().success().stdout;
    assert!(state.contains("\"stopped\""), "{state}");
    scene.delete();
}

#[test]
fn the_last_ones_run_when_the_container_is_gone_and_only_warn() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    let (dir, probe) = (text(scene.world.dir()).to_owned(), text(&scene.dir()).to_owned());
    let scene = scene.edit(|config| {
        let script = |script: String| json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
        config["hooks"]["poststop"] =
            json!([script(format!("test ! -e {probe} && exit 5")), script(format!("echo ran > {dir}/second"))]);
    });
    let ran = scene.make(&["run"]).run().success();
    assert!(ran.stderr.contains("error running poststop hook #0: /bin/sh failed with status 5"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(format!("{dir}/second")).unwrap(), "ran\n");
}

#[test]
fn one_that_hangs_is_ended_in_its_time() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true").edit(|config| {
        config["hooks"]["createRuntime"] = json!([{ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }]);
    });
    scene.make(&["run"]).run().fails(1, &["error running createRuntime hook #0", "did not end within 1 s"]);
    let scene = scene.edit(|config| config["hooks"]["createRuntime"][0]["timeout"] = json!(0));
    scene.make(&["run"]).run().fails(1, &["timeout must be greater than zero"]);
}

#[test]
fn none_runs_for_a_profile_that_no_kernel_takes() {
    need!(Need::Root, Need::Busybox);
    let equal = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]);
    let contradicting = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": equal},
        {"names": ["read"], "action": "SCMP_ACT_LOG", "args": equal},
    ]});
    for hooked in [false, true] {
        let scene = Scene::new("true");
        let dir = text(scene.world.dir()).to_owned();
        let scene = scene.edit(|config| {
            config["linux"]["seccomp"] = contradicting.clone();
            for name in ["createRuntime", "createContainer", "poststop"].into_iter().filter(|_| hooked) {
                add_hook(config, name, &format!("touch {dir}/ran"));
            }
        });
        let ran = scene.make(&["create"]).run();
        assert!(ran.code() != 0 && ran.stderr.contains("rules for read contradict"), "{ran:?}");
        assert!(!fs::exists(format!("{dir}/ran")).unwrap());
        // Nothing is left, so that the next one is refused for the same reason.
        assert!(scene.make(&["create"]).run().stderr.contains("rules for read contradict"));
        assert!(scene.runtime(&["state", &scene.id]).run().code() != 0);
    }
}

#[test]
fn their_output_goes_where_the_annotations_say() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    let dir = text(scene.world.dir()).to_owned();
    let scene = scene.edit(|config| {
        config["annotations"]["run.oci.hooks.stdout"] = json!(format!("{dir}/out"));
        config["annotations"]["run.oci.hooks.stderr"] = json!(format!("{dir}/err"));
        for name in ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
            add_hook(config, name, &format!("echo {name}; echo {name} >&2"));
        }
    });
    let ran = scene.make(&["run"]).run().success();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    let expected = "createRuntime\ncreateContainer\nstartContainer\npoststart\npoststop\n";
    for file in ["out", "err"] {
        assert_eq!(fs::read_to_string(format!("{dir}/{file}")).unwrap(), expected);
    }
}
