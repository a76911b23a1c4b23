// SPDX-License-Identifier: Apache-2.0
//! `exec`: the process that its flags, or a file, describe.

use std::process::ExitCode;

use ctr_cli::Error;
use ctr_record::ErrorKind;
use ctr_runtime::cgroup::CgroupBelow;
use ctr_runtime::plan::ProcessPlan;
use ctr_runtime::{Container, ExecOptions, capability, spec};

use crate::args::Exec;
use crate::called;

/// Executes a process in a container.
pub(crate) fn perform(container: &Container, args: &Exec) -> Result<ExitCode, Error> {
    let options = ExecOptions {
        process: process(container, args)?,
        detach: args.detach,
        console_socket: args.console_socket.clone(),
        pidfd_socket: args.pidfd_socket.clone(),
        pid_file: args.pid_file.clone(),
        preserve_fds: args.preserve_fds,
        ignore_paused: args.ignore_paused,
        cgroup: CgroupBelow::parse(&args.cgroup)?,
    };
    let status = ctr_runtime::exec(container, options).map_err(|error| called::failed("exec", error))?;
    Ok(ExitCode::from(status))
}

// A file says it all, but for what runc takes from the container then; flags change the process that the container was made with.
fn process(container: &Container, args: &Exec) -> Result<ProcessPlan, Error> {
    if let Some(path) = &args.process {
        let (mut process, warnings) = spec::load_process(path)?;
        warnings.iter().for_each(ctr_runtime::warn);
        if let Some(first) = container.config()?.process() {
            spec::complete_process(&mut process, first);
        }
        return Ok(ProcessPlan::new(&process)?);
    }
    // Some write `exec ID -- PROGRAM`; nobody's program is called that.
    let program = args.words.iter().skip(1).skip_while(|word| *word == "--").cloned().collect::<Vec<_>>();
    if program.is_empty() {
        return Err(Error::misuse("exec needs a program, or --process FILE"));
    }
    let mut process =
        container.config()?.process().clone().ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "the container's config has no process to take defaults from")
        })?;
    process.set_args(Some(program));
    process.set_terminal(Some(args.tty));
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some(user) = &args.user {
        let (uid, gid) = parse_user(user)?;
        process.user_mut().set_uid(uid);
        if let Some(gid) = gid {
            process.user_mut().set_gid(gid);
        }
    }
    if !args.additional_gids.is_empty() {
        let mut groups = process.user().additional_gids().clone().unwrap_or_default();
        groups.extend(&args.additional_gids);
        process.user_mut().set_additional_gids(Some(groups));
    }
    if args.no_new_privs.is_some() {
        process.set_no_new_privileges(args.no_new_privs);
    }
    if args.apparmor.is_some() {
        process.set_apparmor_profile(args.apparmor.clone());
    }
    if args.process_label.is_some() {
        process.set_selinux_label(args.process_label.clone());
    }
    let mut plan = ProcessPlan::new(&process)?;
    for name in &args.cap {
        let number = capability::number(name).ok_or_else(|| Error::misuse(format!("unknown capability {name:?}")))?;
        plan.capabilities.add(number);
    }
    Ok(plan)
}

// Digits only: a name, or a number with something after it, is never root by mistake (CVE-2026-30892).
fn parse_user(user: &str) -> Result<(u32, Option<u32>), Error> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().filter(|id| *id != u32::MAX)
    };
    let parsed = match user.split_once(':') {
        None => number(user).map(|uid| (uid, None)),
        Some((uid, gid)) => number(uid).zip(number(gid)).map(|(uid, gid)| (uid, Some(gid))),
    };
    parsed.ok_or_else(|| Error::misuse(format!("{user:?} is not UID[:GID]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cve_2026_30892_a_user_is_all_digits() {
        assert_eq!(parse_user("1000").unwrap(), (1000, None));
        assert_eq!(parse_user("0:5").unwrap(), (0, Some(5)));
        for bad in ["", "1x", " 1", "1 ", "+1", "-1", "root", "1:", ":1", "1:2:3", "4294967295", "4294967296"] {
            assert!(parse_user(bad).is_err(), "{bad:?}");
        }
    }
}
