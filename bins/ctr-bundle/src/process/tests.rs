// SPDX-License-Identifier: Apache-2.0
//! The image's words and the flags' together.

use clap::Parser;

use super::*;

fn args(flags: &[&str]) -> Args {
    Args::try_parse_from([&["ctr-bundle"], flags].concat()).unwrap()
}

fn image(entrypoint: &[&str], cmd: &[&str], env: &[&str]) -> RunConfig {
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    RunConfig { entrypoint: own(entrypoint), cmd: own(cmd), env: own(env), ..RunConfig::default() }
}

#[test]
fn arguments_follow_dockers_rules() {
    for (entrypoint, cmd, flags, expected) in [
        (&["/e"][..], &["c"][..], &[][..], &["/e", "c"][..]),
        (&[], &["c", "d"], &[], &["c", "d"]),
        (&["/e"], &[], &[], &["/e"]),
        (&["/e"], &["c"], &["--", "x", "-y"], &["/e", "x", "-y"]),
        (&[], &["c"], &["--", "x"], &["x"]),
        (&["/e"], &["c"], &["--arg", "-x", "--arg", "y"], &["/e", "-x", "y"]),
        (&["/e"], &["c"], &["--arg", "x", "--", "y"], &["/e", "x", "y"]),
        (&["/e"], &["c"], &["--entrypoint", "/n"], &["/n"]),
        (&["/e"], &["c"], &["--entrypoint", "/n", "--", "x"], &["/n", "x"]),
        (&["/e"], &["c"], &["--entrypoint", "", "--", "x"], &["x"]),
        (&["/e"], &["c"], &["--entrypoint", ""], &[]),
        (&[], &[], &[], &[]),
    ] {
        let mut spec = json!({});
        set_args(&mut spec, &args(flags), &image(entrypoint, cmd, &[]));
        assert_eq!(spec["process"]["args"], json!(expected), "{entrypoint:?} {cmd:?} {flags:?}");
    }
}

fn env(image_env: &[&str], flags: &[&str]) -> Result<Vec<String>, String> {
    let mut spec = json!({});
    set_env(&mut spec, &args(flags), &image(&[], &[], image_env)).map_err(|error| error.to_line())?;
    Ok(serde_json::from_value(spec["process"]["env"].take()).unwrap())
}

#[test]
fn environment_is_the_images_then_the_flags() {
    let path = format!("PATH={DEFAULT_PATH}");
    assert_eq!(env(&[], &[]).unwrap(), std::slice::from_ref(&path));
    assert_eq!(env(&["PATH=/p", "A=1", "A=2=3", "NONE"], &[]).unwrap(), ["PATH=/p", "A=2=3"]);
    assert_eq!(env(&["PATH=/p", "A=1"], &["-e", "A=", "--env", "B=x y"]).unwrap(), ["PATH=/p", "A=", "B=x y"]);
    assert_eq!(env(&["A=1"], &["--tty"]).unwrap(), ["A=1".to_owned(), path.clone(), "TERM=xterm".into()]);
    assert_eq!(env(&["TERM=vt100", "PATH=/p"], &["--tty"]).unwrap(), ["TERM=vt100", "PATH=/p"]);
    // cargo sets this one for every test.
    let own = std::env::var("CARGO_PKG_NAME").unwrap();
    assert_eq!(
        env(&["PATH=/p"], &["-e", "CARGO_PKG_NAME"]).unwrap(),
        ["PATH=/p".to_owned(), format!("CARGO_PKG_NAME={own}")]
    );
    assert_eq!(env(&["PATH=/p", "NOT_SET_HERE=1"], &["-e", "NOT_SET_HERE"]).unwrap(), ["PATH=/p"]);
    for bad in ["=x", "", "a b=1", "A=\0"] {
        assert!(env(&[], &["-e", bad]).is_err(), "{bad:?}");
    }
    assert!(env(&["A=\0"], &[]).is_err());
}

#[test]
fn environment_files_have_comments_and_come_before_flags() {
    let path = std::env::temp_dir().join(format!("ctr-bundle-env-{}", std::process::id()));
    std::fs::write(&path, "\u{feff}# comment\n\nA=1 # no comment\r\n  B=\"quoted\"\nNOT_SET_HERE\n").unwrap();
    let file = path.to_str().unwrap();
    let expected = ["PATH=/p", "A=1 # no comment", "B=2"];
    assert_eq!(env(&["PATH=/p"], &["-e", "B=2", "--env-file", file]).unwrap(), expected);
    std::fs::write(&path, "A B=1\n").unwrap();
    assert!(env(&[], &["--env-file", file]).unwrap_err().starts_with("unable to use the environment file /"));
    std::fs::remove_file(&path).unwrap();
    assert!(env(&[], &["--env-file", file]).is_err());
}

#[test]
fn the_working_directory_is_absolute() {
    for (flags, working_dir, expected) in [
        (&[][..], "", "/"),
        (&[], "/srv/app", "/srv/app"),
        (&[], "srv/app", "/srv/app"),
        (&["--cwd", "/tmp"], "/srv", "/tmp"),
        (&["-w", "/tmp"], "/srv", "/tmp"),
    ] {
        let (mut spec, image) = (json!({}), RunConfig { working_dir: working_dir.into(), ..RunConfig::default() });
        set_cwd(&mut spec, &args(flags), &image).unwrap();
        assert_eq!(spec["process"]["cwd"], expected);
    }
    assert!(set_cwd(&mut json!({}), &args(&["--cwd", "tmp"]), &RunConfig::default()).is_err());
}

#[test]
fn the_terminal_is_asked_for() {
    let mut spec = json!({});
    set_terminal(&mut spec, &args(&[]));
    assert_eq!(spec, json!({}));
    set_terminal(&mut spec, &args(&["-t"]));
    assert_eq!(spec["process"]["terminal"], true);
}

#[test]
fn a_limit_replaces_the_one_of_its_kind() {
    let rlimits = |flags: &[&str]| {
        let mut spec = json!({"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]}});
        set_rlimits(&mut spec, &args(flags))
            .map_err(|error| error.to_line())
            .map(|()| spec["process"]["rlimits"].take())
    };
    let nofile = |soft: u64, hard: u64| json!({"type": "RLIMIT_NOFILE", "hard": hard, "soft": soft});
    assert_eq!(rlimits(&["--rlimit", "nofile=10:20"]), Ok(json!([nofile(10, 20)])));
    assert_eq!(rlimits(&["--rlimit", "RLIMIT_NOFILE=10"]), Ok(json!([nofile(10, 10)])));
    let core = json!({"type": "RLIMIT_CORE", "hard": u64::MAX, "soft": 0});
    assert_eq!(rlimits(&["--rlimit", "core=0:unlimited"]), Ok(json!([nofile(1024, 1024), core])));
    for bad in ["nofile", "frob=1", "nofile=2:1", "nofile=x", "nofile=", "nofile=+1", "nofile=-1:5"] {
        assert!(rlimits(&["--rlimit", bad]).is_err(), "{bad}");
    }
}
