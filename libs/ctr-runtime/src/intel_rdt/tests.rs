// SPDX-License-Identifier: Apache-2.0
//! Groups in a tree that looks like resctrl, where the kernel's part is the test's.

use super::*;

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("ctr-resctrl-{name}-{}", std::process::id()));
        for dir in ["info/L3", "info/MB", "mon_groups"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let tree = Self(root);
        tree.populate("");
        tree
    }

    /// What the kernel makes in a new group.
    fn populate(&self, group: &str) {
        let dir = self.0.join(group);
        fs::write(dir.join("schemata"), "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n").unwrap();
        fs::write(dir.join("tasks"), "").unwrap();
        fs::create_dir_all(dir.join("mon_groups")).unwrap();
    }

    /// What it takes away with a group.
    fn empty(&self, group: &str) {
        let dir = self.0.join(group);
        fs::remove_file(dir.join("schemata")).unwrap();
        fs::remove_file(dir.join("tasks")).unwrap();
        fs::remove_dir_all(dir.join("mon_groups")).unwrap();
    }

    fn group(&self, plan: &RdtPlan) -> Result<RdtGroup, RuntimeError> {
        Resctrl(self.0.clone()).group(plan, "web")
    }

    fn schemata(&self, group: &str) -> String {
        fs::read_to_string(self.0.join(group).join("schemata")).unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn plan(group: Option<&str>, schemata: &[&str], monitoring: bool) -> RdtPlan {
    let schemata = schemata.iter().map(|line| line.to_string()).collect();
    RdtPlan { group: group.map(str::to_owned), schemata, monitoring }
}

#[test]
fn a_container_has_a_group_of_its_own_that_ends_with_it() {
    let tree = Tree::new("own");
    let plan = plan(None, &["L3:0=f", "MB:0=20", "L2:0=1"], false);
    let mut group = tree.group(&plan).unwrap();
    assert!(group.make().unwrap() && group.own);
    tree.populate("web");
    fs::write(tree.0.join("web/schemata"), "").unwrap();
    group.write_schemata(&plan.schemata).unwrap();
    assert_eq!(tree.schemata("web"), "L3:0=f\nMB:0=20\nL2:0=1\n");
    assert_eq!(group.entrances().unwrap().len(), 1);
    tree.empty("web");
    group.remove().unwrap();
    assert!(!tree.0.join("web").exists());
    group.remove().unwrap();
}

#[test]
fn a_group_that_was_there_stays() {
    let tree = Tree::new("there");
    fs::create_dir(tree.0.join("web")).unwrap();
    tree.populate("web");
    let plan = plan(None, &[], false);
    let mut group = tree.group(&plan).unwrap();
    group.establish(&plan).unwrap();
    assert!(!group.own);
    group.remove().unwrap();
    assert!(tree.0.join("web/tasks").exists());
}

#[test]
fn a_named_group_stays_and_only_the_monitoring_group_ends() {
    let tree = Tree::new("named");
    let gold = plan(Some("gold"), &["L3:0=f"], true);
    let mut group = tree.group(&gold).unwrap();
    make_dir(&group.path).unwrap();
    tree.populate("gold");
    assert!(!group.make().unwrap());
    let monitoring = tree.0.join("gold/mon_groups/web");
    assert!(monitoring.is_dir());
    fs::write(monitoring.join("tasks"), "").unwrap();
    assert_eq!(group.entrances().unwrap().len(), 2);
    fs::remove_file(monitoring.join("tasks")).unwrap();
    group.remove().unwrap();
    assert!(!monitoring.exists() && tree.0.join("gold/tasks").exists());
}

#[test]
fn a_named_group_that_exists_must_have_the_schemata_that_are_asked_for() {
    let tree = Tree::new("compare");
    for group in ["gold", ""] {
        let _ = make_dir(&tree.0.join(group));
        tree.populate(group);
    }
    for name in ["gold", "/"] {
        let establish = |schemata: &[&str]| {
            let plan = plan(Some(name), schemata, false);
            tree.group(&plan).unwrap().establish(&plan).map_err(|error| error.to_string())
        };
        establish(&["L3:0=07FF;1=7ff", "MB:1=100"]).unwrap();
        establish(&[]).unwrap();
        let error = establish(&["L3:0=ff"]).unwrap_err();
        assert!(error.contains("has 7ff for L3:0, not ff"), "{error}");
        assert!(establish(&["L2:0=1"]).unwrap_err().contains("has nothing for L2:0"));
    }
    assert_eq!(tree.schemata("gold"), "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n");
}

#[test]
fn a_named_group_without_schemata_has_to_exist() {
    let tree = Tree::new("absent");
    let error = tree.group(&plan(Some("gold"), &[], false)).unwrap_err().to_string();
    assert!(error.contains("clos dir") && error.contains("gold"), "{error}");
}

#[test]
fn a_new_group_that_cannot_have_its_schemata_is_not_left() {
    let tree = Tree::new("failed");
    for name in [Some("gold"), None] {
        // the kernel makes no file here
        let plan = plan(name, &["MB:0=20"], false);
        tree.group(&plan).unwrap().establish(&plan).unwrap_err();
        assert!(!tree.0.join(name.unwrap_or("web")).exists());
    }
}

#[test]
fn what_the_kernel_complains_of_is_told() {
    let tree = Tree::new("complaint");
    let plan = plan(None, &["MB:0=20"], false);
    let mut group = tree.group(&plan).unwrap();
    group.make().unwrap();
    fs::write(tree.0.join("info/last_cmd_status"), "MB value is out of range\n").unwrap();
    let error = group.write_schemata(&plan.schemata).unwrap_err().to_string();
    assert!(error.contains("MB value is out of range") && error.contains("schemata"), "{error}");
    fs::remove_dir(tree.0.join("info/MB")).unwrap();
    let error = group.write_schemata(&plan.schemata).unwrap_err().to_string();
    assert!(error.contains("Intel RDT/MBA is not enabled"), "{error}");
}

#[test]
fn processes_that_run_are_added_one_by_one() {
    let tree = Tree::new("add");
    let plan = plan(Some("/"), &[], false);
    tree.group(&plan).unwrap().add(&[5, 7]).unwrap();
    assert_eq!(fs::read_to_string(tree.0.join("tasks")).unwrap(), "7");
}

#[test]
fn what_is_allowed_and_measured_is_told() {
    let tree = Tree::new("stats");
    let group = tree.group(&plan(Some("/"), &[], true)).unwrap();
    let domain = tree.0.join("mon_groups/web/mon_data/mon_L3_00");
    for dir in [&domain, &tree.0.join("info/L3_MON")] {
        fs::create_dir_all(dir).unwrap();
    }
    for (file, text) in [
        ("info/L3/cbm_mask", "7ff\n"),
        ("info/L3/min_cbm_bits", "2\n"),
        ("info/L3/num_closids", "16\n"),
        ("info/MB/bandwidth_gran", "10\n"),
        ("info/MB/min_bandwidth", "10\n"),
        ("info/MB/num_closids", "8\n"),
        ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\n"),
        ("mon_groups/web/mon_data/mon_L3_00/llc_occupancy", "5\n"),
        ("mon_groups/web/mon_data/mon_L3_00/mbm_total_bytes", "Unavailable\n"),
    ] {
        fs::write(tree.0.join(file), text).unwrap();
    }
    let expected = serde_json::json!({
        "l3_cache_info": {"cbm_mask": "7ff", "min_cbm_bits": 2, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=7ff;1=7ff", "l3_cache_schema": "L3:0=7ff;1=7ff",
        "mem_bw_info": {"bandwidth_gran": 10, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0=100;1=100", "mem_bw_schema": "MB:0=100;1=100",
        "schemata": ["MB:0=100;1=100", "L3:0=7ff;1=7ff"],
        "mbm_stats": [{"mbm_total_bytes": 0, "mbm_local_bytes": 0}], "cmt_stats": [{"llc_occupancy": 5}],
    });
    assert_eq!(serde_json::to_value(group.stats().unwrap()).unwrap(), expected);
}
