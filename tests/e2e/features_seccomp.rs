// SPDX-License-Identifier: Apache-2.0
//! Every word of a seccomp profile that `features` lists, loaded into the kernel with what it does there.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ctr_tests::need::cannot;
use ctr_tests::{Layer, Need, Outcome, need};
use nix::libc;
use serde_json::{Value, json};

use crate::features::{features, program, words};
use crate::runtime::Scene;
use crate::seccomp_listener::{Agent, socket};

/// kill(2) with 0 for the signal, by the shell itself, which catches SIGSYS.
const TRY: &str = "trap 'echo trapped' SYS; kill -0 1 2>&1 && echo allowed";

fn with_profile(scene: Scene, profile: Value) -> Scene {
    scene.edit(|config| config["linux"]["seccomp"] = profile)
}

/// Runs a script with one rule beside those of the usual profile, which allows calls by name.
fn run_with(script: &str, rule: &Value) -> Outcome {
    let scene = Scene::new(script);
    let socket = socket(&scene);
    let scene = scene.edit(|config| {
        let profile = &mut config["linux"]["seccomp"];
        for allowed in profile["syscalls"].as_array_mut().unwrap() {
            allowed["names"].as_array_mut().unwrap().retain(|name| !rule["names"].as_array().unwrap().contains(name));
        }
        profile["syscalls"].as_array_mut().unwrap().retain(|allowed| allowed["names"] != json!([]));
        profile["syscalls"].as_array_mut().unwrap().push(rule.clone());
        profile["listenerPath"] = json!(socket);
    });
    let agent = (rule["action"] == "SCMP_ACT_NOTIFY").then(|| Agent::start(&scene, &socket));
    let ran = scene.make(&["run"]).run();
    agent.map(Agent::end);
    ran
}

#[test]
fn every_action_has_its_effect() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    for action in words(&features(), "/linux/seccomp/actions") {
        let (calls, script) = match action {
            "SCMP_ACT_NOTIFY" => (json!(["mkdir", "mkdirat"]), "mkdir /tmp/made 2>&1"),
            _ => (json!(["kill"]), TRY),
        };
        let mut rule = json!({ "names": calls, "action": action });
        if action == "SCMP_ACT_ERRNO" {
            rule["errnoRet"] = json!(libc::ECHILD);
        }
        let run = || run_with(script, &rule);
        let ran = if action == "SCMP_ACT_LOG" { logged("code=0x7ffc0000", run) } else { run() };
        let (code, said) = match action {
            "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" => (0, "allowed\n"),
            "SCMP_ACT_ERRNO" => (1, "sh: can't kill pid 1: No child processes\n"),
            "SCMP_ACT_TRACE" => (1, "sh: can't kill pid 1: Function not implemented\n"),
            "SCMP_ACT_NOTIFY" => (1, "mkdir: can't create directory '/tmp/made': No medium found\n"),
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_KILL_PROCESS" => (128 + libc::SIGSYS, ""),
            // The kernel leaves the number of the call for its answer.
            "SCMP_ACT_TRAP" => (ran.code(), "trapped\n"),
            unknown => panic!("{unknown} is listed and not tested"),
        };
        assert!(ran.stdout.ends_with(said), "{action}: {ran:?}");
        assert_eq!(ran.code(), code, "{action}: {ran:?}");
    }
}

#[test]
fn every_operator_compares_as_it_is_called() {
    need!(Need::Root, Need::Busybox);
    // 0b...01110, 0b...01111 and 0b...10000
    let script = "for p in 9998 9999 10000; do kill -0 $p 2>&1 | sed 's/.*: //'; done";
    for operator in words(&features(), "/linux/seccomp/operators") {
        let refused = match operator {
            "SCMP_CMP_NE" => [true, false, true],
            "SCMP_CMP_LT" => [true, false, false],
            "SCMP_CMP_LE" => [true, true, false],
            "SCMP_CMP_EQ" => [false, true, false],
            "SCMP_CMP_GE" => [false, true, true],
            "SCMP_CMP_GT" => [false, false, true],
            "SCMP_CMP_MASKED_EQ" => [true, false, false],
            unknown => panic!("{unknown} is listed and not tested"),
        };
        let mut condition = json!({ "index": 0, "op": operator, "value": 9999 });
        if operator == "SCMP_CMP_MASKED_EQ" {
            (condition["value"], condition["valueTwo"]) = (json!(0b11), json!(0b10));
        }
        let rule =
            json!({ "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ECHILD, "args": [condition] });
        let scene = with_profile(Scene::new(script), json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
        let expected =
            refused.map(|refused| if refused { "No child processes\n" } else { "No such process\n" }).concat();
        assert_eq!(scene.make(&["run"]).run().success().stdout, expected, "{operator}");
    }
}

/// Calls getppid(2) as programs of an architecture do, and ends with the errno.
fn caller(call: &[u8]) -> Vec<u8> {
    // CALL; neg eax; mov edi, eax; mov eax, SYS_exit; syscall
    program(&[call, &[0xf7, 0xd8, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]].concat())
}

#[test]
fn every_architecture_may_be_named_and_those_of_this_machine_are_filtered() {
    need!(Need::Root, Need::Busybox);
    let features = features();
    let listed = words(&features, "/linux/seccomp/archs");
    let refuse = |architectures: &[&str]| {
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": [
            { "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77 } ] })
    };
    for arch in &listed {
        with_profile(Scene::new("true"), refuse(&[arch])).make(&["run"]).run().success();
    }
    if std::env::consts::ARCH != "x86_64" {
        return cannot("the programs that call are x86_64's");
    }
    let callers = [
        ("SCMP_ARCH_X86_64", &[0xb8, 110, 0, 0, 0, 0x0f, 0x05]), // mov eax, 110; syscall
        ("SCMP_ARCH_X32", &[0xb8, 110, 0, 0, 0x40, 0x0f, 0x05]), // the same with x32's bit
        ("SCMP_ARCH_X86", &[0xb8, 64, 0, 0, 0, 0xcd, 0x80]),     // mov eax, 64; int 0x80
    ];
    let codes = |architectures: &[&str]| {
        let layer = callers.iter().fold(Layer::new(), |layer, (arch, call)| layer.program(arch, caller(*call)));
        let script = callers.map(|(arch, _)| format!("/{arch}; echo $?;")).concat();
        let scene = with_profile(Scene::of(Some(layer), &[], &script), refuse(architectures));
        let ran = scene.make(&["run"]).run().success();
        ran.stdout.lines().map(|line| line.parse().unwrap()).collect::<Vec<i32>>()
    };
    let killed = 128 + libc::SIGSYS;
    assert_eq!(codes(&listed)[..2], [77, 77]);
    assert_eq!(codes(&["SCMP_ARCH_X86_64"])[..2], [77, killed]);
    let (x86, without) = (codes(&listed)[2], codes(&["SCMP_ARCH_X86_64"])[2]);
    if x86 == 128 + libc::SIGSEGV {
        return cannot("this kernel runs no 32-bit programs");
    }
    assert_eq!((x86, without), (77, killed));
}

#[test]
fn every_flag_that_is_supported_is_loaded() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    let features = features();
    let (known, supported) =
        (words(&features, "/linux/seccomp/knownFlags"), words(&features, "/linux/seccomp/supportedFlags"));
    assert!(supported.iter().all(|flag| known.contains(flag)), "{supported:?}");
    for flag in known {
        let action = match flag {
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => "SCMP_ACT_NOTIFY",
            "SECCOMP_FILTER_FLAG_TSYNC" | "SECCOMP_FILTER_FLAG_SPEC_ALLOW" | "SECCOMP_FILTER_FLAG_LOG" => {
                "SCMP_ACT_ERRNO"
            }
            unknown => panic!("{unknown} is listed and not tested"),
        };
        let scene = Scene::new("mkdir /tmp/made 2> /dev/null || grep ^Seccomp_filters /proc/self/status");
        let socket = socket(&scene);
        let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": [flag], "listenerPath": socket,
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": action }] });
        let scene = with_profile(scene, profile);
        let run = || {
            let agent = (action == "SCMP_ACT_NOTIFY").then(|| Agent::start(&scene, &socket));
            let ran = scene.make(&["run"]).run();
            agent.map(Agent::end);
            ran
        };
        if !supported.contains(&flag) {
            assert_ne!(run().code(), 0, "{flag}");
            continue;
        }
        // What is refused is logged with this flag alone.
        let ran = if flag == "SECCOMP_FILTER_FLAG_LOG" { logged("code=0x50000", run) } else { run() };
        assert_eq!(ran.success().stdout, "Seccomp_filters:\t1\n", "{flag}");
    }
}

/// Runs what the kernel is to log with `text`.
fn logged(text: &str, run: impl Fn() -> Outcome) -> Outcome {
    let log = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
    let log = log.ok().filter(|mut log| log.seek(SeekFrom::End(0)).is_ok());
    // A kernel without auditing says nothing, and one that has auditd says it to that.
    let options = fs::read_to_string("/proc/cmdline").unwrap();
    let off = !Path::new("/proc/self/loginuid").exists() || options.split_whitespace().any(|word| word == "audit=0");
    let heard = !off && !Path::new("/run/auditd.pid").exists();
    let Some(mut log) = log.filter(|_| heard) else {
        cannot("what the kernel logs cannot be read");
        return run();
    };
    let (mut said, mut record) = (String::new(), [0; 8192]);
    // It says so somewhat later, and nothing for a while when there is much to say.
    for _ in 0..5 {
        let ran = run();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            while let Ok(length) = log.read(&mut record) {
                said += &String::from_utf8_lossy(&record[..length]);
            }
            if said.lines().any(|line| line.contains("type=1326") && line.contains(text)) {
                return ran;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    panic!("{text}: {said}");
}
