// SPDX-License-Identifier: Apache-2.0
//! Limits in force: what the kernel has after they were written.

use super::*;

#[test]
fn memory_is_limited_up_and_down() {
    let Some(hierarchies) = skip("memory_is_limited_up_and_down", |_| None) else { return };
    let scratch = create(&hierarchies, "memory");
    if !scratch.has("memory", "memory") {
        return eprintln!("SKIP memory_is_limited_up_and_down: no memory controller");
    }
    let memory = || scratch.read("memory", "memory.limit_in_bytes", "memory.max");
    let on_v1 = scratch.0.v1_path("memory").is_some();
    let swap_file = if on_v1 { "memory.memsw.limit_in_bytes" } else { "memory.swap.max" };
    let swap = scratch.0.path_of("memory").expect("a directory").join(swap_file).exists();
    const MB: i64 = 1 << 20;
    // up and down, together and alone: each order of the two writes is wrong once
    for (limit, both) in [(100, 200), (300, 400), (50, 50), (60, 300), (10, 20)] {
        let resources =
            if swap { json!({"limit": limit * MB, "swap": both * MB}) } else { json!({"limit": limit * MB}) };
        scratch.apply(json!({"memory": resources})).expect("limits");
        assert_eq!(memory(), (limit * MB).to_string());
        if swap {
            let expected = if on_v1 { both } else { both - limit };
            assert_eq!(scratch.read("memory", swap_file, swap_file), (expected * MB).to_string());
        }
    }
    scratch.apply(json!({"memory": {"limit": -1, "reservation": 5 * MB}})).expect("no limit");
    assert!(memory() == "max" || memory().parse::<u64>().expect("a number") > 1 << 60);
    assert_eq!(scratch.read("memory", "memory.soft_limit_in_bytes", "memory.low"), (5 * MB).to_string());
}

#[test]
fn a_limit_below_use_says_so() {
    let Some(hierarchies) = skip("a_limit_below_use_says_so", |_| None) else { return };
    let scratch = create(&hierarchies, "below");
    if !scratch.has("memory", "memory") {
        return eprintln!("SKIP a_limit_below_use_says_so: no memory controller");
    }
    assert!(scratch.fill_memory("below", 8));
    let result = scratch.apply(json!({"memory": {"limit": 1 << 20, "checkBeforeUpdate": true}}));
    fs::remove_file("/dev/shm/ctr-test-below").expect("it was made");
    // with swap the kernel finds room
    if let Err(error) = result {
        assert!(matches!(error, CgroupError::BelowUse { .. }), "{error}");
    } else {
        assert!(fs::read_to_string("/proc/swaps").expect("readable").lines().count() > 1);
    }
}

#[test]
fn cpu_time_is_limited_in_either_order() {
    let Some(hierarchies) = skip("cpu_time_is_limited_in_either_order", |_| None) else { return };
    let scratch = create(&hierarchies, "cpu");
    if !scratch.has("cpu", "cpu") {
        return eprintln!("SKIP cpu_time_is_limited_in_either_order: no cpu controller");
    }
    let quota = || {
        if scratch.0.v1_path("cpu").is_none() {
            return scratch.read("cpu", "", "cpu.max");
        }
        let quota = scratch.read("cpu", "cpu.cfs_quota_us", "").replace("-1", "max");
        format!("{quota} {}", scratch.read("cpu", "cpu.cfs_period_us", ""))
    };
    for (cpu, expected) in [
        (json!({"quota": 50_000, "period": 100_000}), "50000 100000"),
        (json!({"quota": 900_000, "period": 1_000_000}), "900000 1000000"),
        (json!({"period": 20_000}), "900000 20000"),
        (json!({"quota": 3000}), "3000 20000"),
        (json!({"quota": -1}), "max 20000"),
        (json!({"period": 50_000}), "max 50000"),
        (json!({"quota": 0, "period": 0}), "max 50000"),
    ] {
        scratch.apply(json!({"cpu": cpu})).expect("limits");
        assert_eq!(quota(), expected, "{cpu}");
    }
    scratch.apply(json!({"cpu": {"shares": 512}})).expect("shares");
    assert_eq!(scratch.read("cpu", "cpu.shares", "cpu.weight"), if scratch.0.on_v1("cpu") { "512" } else { "59" });
    // idle refuses shares: both must succeed whichever is in force
    scratch.apply(json!({"cpu": {"shares": 1024, "idle": 1}})).expect("idle");
    assert_eq!(scratch.read("cpu", "cpu.idle", "cpu.idle"), "1");
    scratch.apply(json!({"cpu": {"shares": 2048, "idle": 0}})).expect("busy again");
    assert_eq!(scratch.read("cpu", "cpu.shares", "cpu.weight"), if scratch.0.on_v1("cpu") { "2048" } else { "174" });
}

#[test]
fn processes_and_processors_are_limited() {
    let Some(hierarchies) = skip("processes_and_processors_are_limited", |_| None) else { return };
    let scratch = create(&hierarchies, "pids");
    if scratch.has("pids", "pids") {
        for (limit, value) in [(20, "20"), (-1, "max"), (0, "1")] {
            scratch.apply(json!({"pids": {"limit": limit}})).expect("limits");
            assert_eq!(scratch.read("pids", "pids.max", "pids.max"), value);
        }
    }
    if scratch.has("cpuset", "cpuset") {
        scratch.apply(json!({"cpu": {"cpus": "0", "mems": "0"}})).expect("limits");
        assert_eq!(scratch.read("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
        assert_eq!(scratch.read("cpuset", "cpuset.mems", "cpuset.mems"), "0");
        let error = scratch.apply(json!({"cpu": {"cpus": "4000"}})).expect_err("no such processor");
        assert!(matches!(&error, CgroupError::Write { .. }), "{error}");
        assert!(error.to_string().contains("\"4000\"") && error.to_string().contains("cpuset.cpus"), "{error}");
    }
}

#[test]
fn huge_pages_are_limited() {
    let Some(hierarchies) = skip("huge_pages_are_limited", |_| None) else { return };
    let scratch = create(&hierarchies, "hugetlb");
    let known = Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists();
    if !known || !scratch.has("hugetlb", "hugetlb") {
        return eprintln!("SKIP huge_pages_are_limited: no hugetlb controller, or no pages of 2 MB");
    }
    scratch.apply(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]})).expect("limits");
    let value = scratch.read("hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max");
    assert_eq!(value, (4 << 20).to_string());
    let error = scratch.apply(json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]})).expect_err("no such size");
    assert!(matches!(error, CgroupError::MissingFile { .. }), "{error}");
}

#[test]
fn block_io_is_throttled() {
    let Some(hierarchies) = skip("block_io_is_throttled", |_| None) else { return };
    let scratch = create(&hierarchies, "io");
    let disk = fs::read_dir("/sys/block").into_iter().flatten().flatten().find_map(|entry| {
        let disk = entry.file_name().into_string().ok().filter(|name| !name.starts_with("zram"))?;
        fs::read_to_string(format!("/sys/block/{disk}/dev")).ok()
    });
    let Some((major, minor)) = disk.as_deref().and_then(|dev| dev.trim().split_once(':')) else {
        return eprintln!("SKIP block_io_is_throttled: no disk");
    };
    if !scratch.has("blkio", "io") {
        return eprintln!("SKIP block_io_is_throttled: no io controller");
    }
    let device = |rate: u64| {
        let number = |text: &str| text.parse::<i64>().expect("a number");
        json!({"blockIO": {"throttleReadBpsDevice": [{"major": number(major), "minor": number(minor), "rate": rate}]}})
    };
    let read = || scratch.read("blkio", "blkio.throttle.read_bps_device", "io.max");
    scratch.apply(device(1 << 20)).expect("limits");
    assert!(read().contains("1048576"), "{}", read());
    scratch.apply(device(0)).expect("no limit");
    assert!(!read().contains("1048576"), "{}", read());
}

#[test]
fn unified_files_are_written_verbatim() {
    let needs = |found: &Hierarchies| (!matches!(found.mode(), Mode::V2 | Mode::Hybrid)).then_some("no cgroup v2");
    let Some(hierarchies) = skip("unified_files_are_written_verbatim", needs) else { return };
    let scratch = create(&hierarchies, "unified");
    scratch.apply(json!({"unified": {"cgroup.max.depth": "3"}})).expect("a file that is always there");
    let v2 = scratch.0.v2_path().expect("v2");
    assert_eq!(fs::read_to_string(v2.join("cgroup.max.depth")).expect("readable"), "3\n");

    let error = scratch.apply(json!({"unified": {"nonsense.max": "1"}})).expect_err("no such controller");
    assert!(error.to_string().contains("nonsense controller is not available"), "{error}");
    let error = scratch.apply(json!({"unified": {"cgroup.nonsense": "1"}})).expect_err("no such file");
    assert!(matches!(error, CgroupError::MissingFile { .. }), "{error}");
    if hierarchies.mode() == Mode::V2 && scratch.has("", "pids") {
        scratch.apply(json!({"pids": {"limit": 5}, "unified": {"pids.max": "7"}})).expect("limits");
        assert_eq!(scratch.read("pids", "", "pids.max"), "7");
    }
}

#[test]
fn a_missing_controller_is_named() {
    let Some(hierarchies) = skip("a_missing_controller_is_named", |_| None) else { return };
    let scratch = create(&hierarchies, "missing");
    // v2 alone, whose controllers v1 has, as where only v2 is mounted later
    let bare = Cgroup {
        paths: scratch.0.paths.iter().filter(|(name, _)| name.is_empty()).map(owned).collect(),
        unit: None,
        inner: None,
    };
    let has_memory = |path| controllers::enable(path, &["memory"], &mut Vec::new()).expect("readable") == ["memory"];
    if let Some(v2) = bare.v2_path().filter(|path| !has_memory(path)) {
        let error = bare.apply(&limits(json!({"memory": {"limit": 1 << 20}}))).expect_err("no controller");
        let CgroupError::MissingController { controller, file, path } = &error else { panic!("{error}") };
        assert_eq!((controller.as_str(), file.as_str(), path.as_path()), ("memory", "memory.max", v2));
    }
    let error = Cgroup::none().apply(&limits(json!({"pids": {"limit": 1}}))).expect_err("no cgroup");
    assert!(matches!(&error, CgroupError::NoCgroup { file } if file == "pids.max"), "{error}");
    Cgroup::none().apply(&limits(json!({}))).expect("nothing to limit");
}

fn owned((name, path): (&String, &PathBuf)) -> (String, PathBuf) {
    (name.clone(), path.clone())
}

#[test]
fn memory_that_ran_out_is_counted() {
    let Some(hierarchies) = skip("memory_that_ran_out_is_counted", |_| None) else { return };
    let scratch = create(&hierarchies, "oom");
    if !scratch.has("memory", "memory") {
        assert_eq!(scratch.0.oom_kills().expect("no count"), None);
        return eprintln!("SKIP memory_that_ran_out_is_counted: no memory controller");
    }
    assert_eq!(scratch.0.oom_kills().expect("a count"), Some(0));
    scratch.apply(json!({"memory": {"limit": 4 << 20, "swap": 4 << 20}})).expect("limits");
    let filled = scratch.fill_memory("oom", 64);
    fs::remove_file("/dev/shm/ctr-test-oom").expect("it was made");
    assert!(!filled);
    assert_eq!(scratch.0.oom_kills().expect("a count"), Some(1));
}
