// SPDX-License-Identifier: Apache-2.0
//! What each way of writing a mount means.

use clap::Parser;

use super::*;
use crate::default_spec::default_spec;

fn args(flags: &[&str]) -> Args {
    Args::try_parse_from([&["ctr-bundle"], flags].concat()).unwrap()
}

fn one(flags: &[&str]) -> Result<Value, String> {
    let mounts = wanted(&args(flags)).map_err(|error| error.to_line())?;
    assert_eq!(mounts.len(), 1);
    Ok(mounts[0].to_json())
}

fn mount(kind: &str, source: &str, destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": source, "options": options})
}

#[test]
fn binds_are_recursive_and_private_unless_told_otherwise() {
    let bind = |options: &[&str]| mount("bind", "/etc", "/x", options);
    for (flags, options) in [
        (["-v", "/etc:/x"], &["rbind", "rprivate"][..]),
        (["-v", "/etc:/x:ro"], &["rbind", "rprivate", "ro"]),
        (["--volume", "/etc:/a/..//x/:ro,nosuid,rslave"], &["rbind", "ro", "nosuid", "rslave"]),
        (["--mount", "type=bind,src=/etc,dst=/x"], &["rbind", "rprivate"]),
        (["--mount", "type=bind,source=/etc,target=/x,readonly"], &["rbind", "rprivate", "ro"]),
        (["--mount", "source=/etc,destination=/x,readonly=false,noexec"], &["rbind", "rprivate", "rw", "noexec"]),
        (["--mount", "type=bind,src=/etc,dst=/x,options=bind:ro"], &["rprivate", "bind", "ro"]),
        (["--mount", "type=bind,src=/etc,dst=/x,bind-propagation=shared"], &["rbind", "shared"]),
    ] {
        assert_eq!(one(&flags), Ok(bind(options)), "{flags:?}");
    }
    let here = std::env::current_dir().unwrap();
    assert_eq!(one(&["-v", "./src:/x"]).unwrap()["source"], here.join("src").to_str().unwrap());
}

#[test]
fn other_types_pass_their_options_on() {
    assert_eq!(
        one(&["--mount", "type=tmpfs,dst=/x,tmpfs-size=1M,tmpfs-mode=700,nodev"]),
        Ok(mount("tmpfs", "tmpfs", "/x", &["size=1048576", "mode=700", "nodev"]))
    );
    assert_eq!(
        one(&["--mount", "type=nfs,src=host:/export,dst=/x,nfsvers=4"]),
        Ok(mount("nfs", "host:/export", "/x", &["nfsvers=4"]))
    );
}

#[test]
fn a_tmpfs_has_dockers_defaults() {
    let tmpfs = |options: &[&str]| mount("tmpfs", "tmpfs", "/x", options);
    assert_eq!(one(&["--tmpfs", "/x"]), Ok(tmpfs(&["nosuid", "nodev", "noexec", "mode=1777"])));
    assert_eq!(
        one(&["--tmpfs", "/x:exec,size=1g,mode=755"]),
        Ok(tmpfs(&["nosuid", "nodev", "exec", "size=1g", "mode=755"]))
    );
}

#[test]
fn what_cannot_be_mounted_is_misuse() {
    for flags in [
        ["-v", "/etc"],
        ["-v", "/etc:x"],
        ["-v", "/etc:/"],
        ["-v", "/etc:/x/.."],
        ["-v", "name:/x"],
        ["-v", "/etc:/x:ro:rw"],
        ["-v", "/etc:/x:z"],
        ["-v", "/etc:/x:size=1"],
        ["-v", "/does/not/exist:/x"],
        ["--mount", "type=bind,dst=/x"],
        ["--mount", "type=bind,src=/etc"],
        ["--mount", "type=volume,src=v,dst=/x"],
        ["--mount", "type=bind,src=/etc,dst=/x,"],
        ["--mount", "type=bind,src=/etc,dst=/x,bind-propagation=frob"],
        ["--tmpfs", "x"],
    ] {
        let error = one(&flags).expect_err(&format!("{flags:?}"));
        assert!(error.starts_with(flags[0]) || error.starts_with("--volume"), "{error}");
    }
    assert!(wanted(&args(&["-v", "/etc:/x", "--tmpfs", "/x/"])).is_err());
}

#[test]
fn parents_are_mounted_first_and_defaults_give_way() {
    let flags = ["-v", "/etc:/x/y", "-v", "/usr:/x", "--tmpfs", "/dev/shm:size=1m", "-v", "/sys:/sys"];
    let mut spec = default_spec("default", "id");
    add_mounts(&mut spec, &wanted(&args(&flags)).unwrap());
    let destinations: Vec<&str> =
        spec["mounts"].as_array().unwrap().iter().map(|mount| mount["destination"].as_str().unwrap()).collect();
    assert_eq!(destinations, ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/x", "/sys", "/x/y", "/dev/shm"]);
}

#[test]
fn the_hosts_network_brings_its_names() {
    let destinations = |flags: &[&str]| -> Vec<String> {
        wanted(&args(flags)).unwrap().into_iter().map(|mount| mount.destination).collect()
    };
    assert!(destinations(&[]).is_empty());
    if Path::new("/etc/hosts").exists() && Path::new("/etc/resolv.conf").exists() {
        assert_eq!(destinations(&["--net", "host"]), ["/etc/hosts", "/etc/resolv.conf"]);
        assert_eq!(destinations(&["--net", "host", "-v", "/etc:/etc"]), ["/etc"]);
        let mounts = wanted(&args(&["--net", "host"])).unwrap();
        assert_eq!(mounts[0].to_json(), mount("bind", "/etc/hosts", "/etc/hosts", &["rbind", "rprivate", "ro"]));
    }
}

#[test]
fn shared_memory_has_a_size_or_is_the_hosts() {
    let shm = |flags: &[&str]| {
        let mut spec = default_spec("default", "id");
        set_shm(&mut spec, &args(flags)).map_err(|error| error.to_line())?;
        Ok::<Value, String>(mount_on(&mut spec, "/dev/shm").unwrap().clone())
    };
    let options = json!(["nosuid", "noexec", "nodev", "mode=1777", "size=1048576"]);
    assert_eq!(shm(&["--shm-size", "1M"]).unwrap()["options"], options);
    assert_eq!(shm(&["--ipc", "host"]).unwrap()["type"], "bind");
    assert!(shm(&["--ipc", "host", "--shm-size", "1M"]).is_err());
    assert!(shm(&["--shm-size", "x"]).is_err());
}

#[test]
fn the_root_is_made_read_only_by_the_runtime() {
    let mut spec = default_spec("default", "id");
    set_read_only(&mut spec, &args(&[]));
    assert_eq!(spec["root"], json!({"path": "rootfs"}));
    set_read_only(&mut spec, &args(&["--read-only"]));
    assert_eq!(spec["root"], json!({"path": "rootfs", "readonly": true}));
}
