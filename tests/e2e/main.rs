// SPDX-License-Identifier: Apache-2.0
//! The tools as users run them: one file per behaviour, one test per claim.

mod bundle;
mod caller_bundle;
mod caller_containerd;
mod caller_podman;
mod capabilities;
mod checkpoint;
mod checkpoint_options;
mod cli;
mod container;
mod debian;
mod docker_registry;
mod events;
mod features;
mod features_mounts;
mod features_seccomp;
mod full_disk;
mod hardening_input;
mod hardening_layer;
mod hardening_races;
mod hardening_registry;
mod hardening_runtime;
mod harness;
mod hooks;
mod interrupted;
mod killed;
mod killed_runtime;
mod net_device;
mod pipeline;
mod process;
mod pull;
mod repair;
mod restore;
mod run;
mod runtime;
mod runtime_cgroup;
mod runtime_cli;
mod runtime_drop_in;
mod runtime_errors;
mod runtime_exec;
mod runtime_hot_mount;
mod runtime_idmap;
mod runtime_join;
mod runtime_lifecycle;
mod runtime_mount_sources;
mod runtime_mounts;
mod runtime_plan;
mod runtime_resources;
mod runtime_rootless;
mod runtime_service;
mod runtime_speed;
mod runtime_systemd;
mod runtime_update;
mod runtime_usage;
mod sched;
mod seccomp_listener;
mod security_modules;
mod shim;
mod systemd;
mod task;
mod unpack;
mod verbs;

#[test]
fn every_file_of_this_directory_is_a_part_of_it() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e");
    let main = std::fs::read_to_string(dir.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        assert!(module == "main" || main.contains(&format!("\nmod {module};\n")), "{name} is forgotten");
    }
}
