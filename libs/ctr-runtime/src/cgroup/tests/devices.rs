// SPDX-License-Identifier: Apache-2.0
//! Device policies in force: what a process in the cgroup can open.

use super::*;

#[test]
fn devices_are_refused_in_the_cgroup() {
    let Some(hierarchies) = skip("devices_are_refused_in_the_cgroup", |_| None) else { return };
    let scratch = create(&hierarchies, "devices");
    let try_devices = |expected: &[(&str, bool)]| {
        for (device, works) in expected {
            let procs: Vec<String> =
                scratch.0.directories().map(|(_, path)| path.join("cgroup.procs").display().to_string()).collect();
            let script = format!("for f in {}; do echo $$ > $f; done; exec true < {device}", procs.join(" "));
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(script).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            assert_eq!(shell.status().expect("a shell").success(), *works, "{device}");
        }
    };
    let devices = |rules: Value| planned("devices", json!({"devices": rules})).devices;
    try_devices(&[("/dev/zero", true), ("/dev/kmsg", true)]);
    let strict = devices(json!([{"allow": false, "access": "rwm"}]));
    scratch.0.restrict_devices(&strict, false).expect("a policy");
    try_devices(&[("/dev/zero", true), ("/dev/urandom", true), ("/dev/kmsg", false)]);
    let more = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11}]);
    scratch.0.restrict_devices(&devices(more), false).expect("a policy in the place of another");
    try_devices(&[("/dev/kmsg", true), ("/dev/zero", true)]);
    let all_but_one = json!([{"allow": true, "type": "a"}, {"allow": false, "type": "c", "major": 1, "minor": 11}]);
    scratch.0.restrict_devices(&devices(all_but_one), false).expect("a policy");
    try_devices(&[("/dev/kmsg", false), ("/dev/zero", true)]);
    let all = devices(json!([{"allow": true, "type": "a", "access": "rwm"}]));
    scratch.0.restrict_devices(&all, false).expect("no restriction");
    try_devices(&[("/dev/kmsg", true)]);
}

/// The policy alone, on the v2 hierarchy: also where v1 decides over devices otherwise.
#[test]
fn device_programs_are_attached_and_replaced() {
    let needs = |found: &Hierarchies| (found.mode() == Mode::V1).then_some("no cgroup v2");
    let Some(hierarchies) = skip("device_programs_are_attached_and_replaced", needs) else { return };
    let scratch = create(&hierarchies, "program");
    let v2 = scratch.0.v2_path().expect("v2").to_owned();
    let cgroup = Cgroup::try_from(BTreeMap::from([(String::new(), v2.clone())])).expect("a path");
    let opens = |device: &str| {
        let script = format!("echo $$ > {}/cgroup.procs; exec true < {device}", v2.display());
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).stdin(Stdio::null()).stderr(Stdio::null()).status().expect("a shell").success()
    };
    let attached = || {
        let directory = control::open_directory(&v2).expect("a directory");
        ctr_sys::bpf::attached_device_programs(std::os::fd::AsFd::as_fd(&directory)).expect("permitted").len()
    };
    let policy = |rules: Value| planned("program", json!({"devices": rules})).devices;
    match cgroup.restrict_devices(&policy(json!([])), false) {
        Err(CgroupError::DeviceProgram { source, .. }) if source.raw_os_error() == Some(libc::EPERM) => {
            return eprintln!("SKIP device_programs_are_attached_and_replaced: bpf(2) is not permitted");
        }
        result => result.expect("a program"),
    }
    assert!(opens("/dev/zero") && !opens("/dev/kmsg"));
    let kmsg = json!([{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]);
    cgroup.restrict_devices(&policy(kmsg), false).expect("a program in the place of another");
    assert!(opens("/dev/zero") && opens("/dev/kmsg"));
    assert_eq!(attached(), 1);
    let all = json!([{"allow": true, "type": "a", "access": "rwm"}]);
    cgroup.restrict_devices(&policy(all), false).expect("no program");
    assert_eq!(attached(), 0);
}
