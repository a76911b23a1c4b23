// SPDX-License-Identifier: Apache-2.0
//! The capabilities of a container's processes.

use ctr_tests::{Need, need};
use serde_json::{Value, json};

use crate::runtime::Scene;

const SHOW: &str = "grep ^Cap /proc/self/status | cut -f 2 | sed 's/^0*//'";

fn scene(script: &str, sets: Value) -> Scene {
    Scene::new(script).edit(|config| {
        config["process"]["capabilities"] = sets;
        config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    })
}

/// Inheritable, permitted, effective, bounding and ambient, as the kernel shows them to a program of root's.
fn sets(inheritable: u64, permitted: u64, bounding: u64, ambient: u64) -> String {
    [inheritable, permitted, permitted, bounding, ambient]
        .map(|set| if set == 0 { "\n".to_owned() } else { format!("{set:x}\n") })
        .concat()
}

const CHOWN: u64 = 1;
const KILL: u64 = 1 << 5;
const AUDIT_WRITE: u64 = 1 << 29;
const SYSLOG: u64 = 1 << 34;

#[test]
fn those_of_no_set_are_none() {
    need!(Need::Root, Need::Busybox);
    for none in [json!({}), json!(null)] {
        assert_eq!(scene(SHOW, none).make(&["run"]).run().success().stdout, sets(0, 0, 0, 0));
    }
}

#[test]
fn unknown_ones_and_those_that_cannot_be_ambient_are_ignored_with_a_warning() {
    need!(Need::Root, Need::Busybox);
    let asked = json!({ "bounding": ["CAP_KILL", "CAP_FUTURE"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"] });
    let ran = scene(SHOW, asked).make(&["run"]).run().success();
    assert_eq!(ran.stdout, sets(KILL, KILL, KILL, KILL));
    for warning in ["\"CAP_FUTURE\" is not known", "can't raise ambient capability CAP_CHOWN: "] {
        assert!(ran.stderr.contains(warning), "{}", ran.stderr);
    }
}

#[test]
fn one_that_the_runtime_lacks_is_ignored_with_a_warning() {
    need!(Need::Root, Need::Busybox, Need::Program("setpriv"));
    let asked = json!({ "bounding": ["CAP_KILL", "CAP_SYSLOG"], "permitted": ["CAP_KILL", "CAP_SYSLOG"],
        "effective": ["CAP_KILL", "CAP_SYSLOG"] });
    let scene = scene(SHOW, asked);
    let lacking = ["setpriv", "--bounding-set", "-syslog", "--"];
    let ran = scene.make(&["run"]).through(&lacking).run().success();
    assert_eq!(ran.stdout, sets(0, KILL, KILL, 0));
    let warning = "ctr-run: warning: ignoring capabilities that this runtime does not have itself: CAP_SYSLOG\n";
    assert_eq!(ran.stderr, warning);
}

#[test]
fn further_processes_have_the_same_and_those_that_are_added() {
    need!(Need::Root, Need::Busybox);
    let scene = scene("exec sleep 1000", json!({}));
    scene.make(&["run", "--detach"]).detaches().run().success();
    assert_eq!(scene.exec(SHOW).run().success().stdout, sets(0, 0, 0, 0));
    let added = ["exec", "--cap", "CAP_KILL", "--cap", "CAP_AUDIT_WRITE", &scene.id, "sh", "-c", SHOW];
    let both = KILL | AUDIT_WRITE;
    assert_eq!(scene.runtime(&added).run().success().stdout, sets(0, both, both, 0));
    scene.delete();

    let asked = json!({ "inheritable": ["CAP_CHOWN", "CAP_SYSLOG"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"], "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SYSLOG"], "ambient": ["CAP_CHOWN"] });
    let scene = self::scene("exec sleep 1000", asked);
    scene.make(&["run", "--detach"]).detaches().run().success();
    let shown = |flags: &[&str]| {
        let (id, script) = (scene.id.as_str(), ["sh", "-c", SHOW]);
        let args: Vec<&str> = ["exec"].iter().chain(flags).chain([&id]).chain(&script).copied().collect();
        scene.runtime(&args).run().success().stdout
    };
    // What is permitted to root's program is what is inheritable or bounding.
    let inheritable = CHOWN | SYSLOG;
    let all = KILL | CHOWN | SYSLOG;
    let first = shown(&[]);
    assert!(first.starts_with(&format!("{inheritable:x}\n")) && first.ends_with(&format!("{all:x}\n{CHOWN:x}\n")));
    assert_eq!(shown(&["--cap", "CAP_SYSLOG"]), sets(inheritable, all, all, CHOWN | SYSLOG));
    scene.delete();
}
