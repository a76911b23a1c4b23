// SPDX-License-Identifier: Apache-2.0
//! Limits: memory, processors, processes.

use ctr_cli::Error;
use serde_json::{Value, json};

use crate::args::Args;
use crate::quantity::{decimal, size};

/// The period of the CPU quota, in microseconds.
const CPU_PERIOD: u64 = 100_000;
/// The kernel's smallest quota, in microseconds.
const MIN_QUOTA: u64 = 1000;

/// Sets `linux.cgroupsPath`. Who is not root has a default only where the runtime finds him one: a runtime
/// insists on a path that is given, and does without a cgroup otherwise.
pub(crate) fn set_cgroup_path(spec: &mut Value, args: &Args) {
    match &args.cgroup_path {
        Some(path) => spec["linux"]["cgroupsPath"] = json!(path),
        None if ctr_sys::process::is_root() => {}
        None => {
            if let Some(linux) = spec["linux"].as_object_mut() {
                linux.shift_remove("cgroupsPath");
            }
        }
    }
}

/// Sets the memory limits. The swap limit counts memory and swap together (runtime-spec, `memory.swap`).
pub(crate) fn set_memory(spec: &mut Value, args: &Args) -> Result<(), Error> {
    let memory = args.memory.as_deref().map(|text| size("--memory", text)).transpose()?;
    if let Some(limit) = memory {
        if limit == 0 {
            return Err(Error::misuse("--memory 0 leaves no memory"));
        }
        spec["linux"]["resources"]["memory"]["limit"] = json!(limit);
    }
    let Some(text) = args.memory_swap.as_deref() else { return Ok(()) };
    let swap = match text {
        "-1" => json!(-1),
        text => {
            let both = size("--memory-swap", text)?;
            match memory {
                None => return Err(Error::misuse("--memory-swap needs --memory: it limits both together")),
                Some(limit) if both < limit => {
                    return Err(Error::misuse("--memory-swap is below --memory: it limits both together"));
                }
                Some(_) => json!(both),
            }
        }
    };
    spec["linux"]["resources"]["memory"]["swap"] = swap;
    Ok(())
}

/// Sets quota, shares and set of processors.
pub(crate) fn set_cpu(spec: &mut Value, args: &Args) -> Result<(), Error> {
    if let Some(text) = &args.cpus {
        let quota = decimal(text, 5).filter(|quota| *quota >= MIN_QUOTA && *quota <= i64::MAX as u64);
        let quota = quota.ok_or_else(|| Error::misuse(format!("--cpus {text:?} is not a number from 0.01 on")))?;
        spec["linux"]["resources"]["cpu"]["quota"] = json!(quota);
        spec["linux"]["resources"]["cpu"]["period"] = json!(CPU_PERIOD);
    }
    if let Some(shares) = args.cpu_shares {
        spec["linux"]["resources"]["cpu"]["shares"] = json!(shares);
    }
    if let Some(cpus) = &args.cpuset_cpus {
        let number = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
        let valid = cpus.split(',').all(|range| match range.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
            None => number(range).is_some(),
        });
        if !valid {
            return Err(Error::misuse(format!("--cpuset-cpus {cpus:?} is not a list as 0-2,7 is")));
        }
        spec["linux"]["resources"]["cpu"]["cpus"] = json!(cpus);
    }
    Ok(())
}

/// Sets the number of processes.
pub(crate) fn set_pids(spec: &mut Value, args: &Args) -> Result<(), Error> {
    match args.pids_limit {
        None => {}
        Some(limit) if limit > 0 || limit == -1 => spec["linux"]["resources"]["pids"]["limit"] = json!(limit),
        Some(limit) => {
            return Err(Error::misuse(format!("--pids-limit {limit} is neither a number of processes nor -1")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn resources(flags: &[&str]) -> Result<Value, String> {
        let args = Args::try_parse_from([&["ctr-bundle"], flags].concat()).unwrap();
        let mut spec = json!({"linux": {"resources": {}}});
        set_memory(&mut spec, &args)
            .and_then(|()| set_cpu(&mut spec, &args))
            .and_then(|()| set_pids(&mut spec, &args))
            .map_err(|error| error.to_line())?;
        Ok(spec["linux"]["resources"].take())
    }

    #[test]
    fn each_flag_sets_its_limit() {
        for (flags, expected) in [
            (&[][..], json!({})),
            (&["--memory", "1M"], json!({"memory": {"limit": 1_048_576}})),
            (&["--memory=1M", "--memory-swap=2M"], json!({"memory": {"limit": 1_048_576, "swap": 2_097_152}})),
            (&["--memory-swap", "-1"], json!({"memory": {"swap": -1}})),
            (&["--cpus", "1.5"], json!({"cpu": {"quota": 150_000, "period": 100_000}})),
            (&["--cpus", ".25"], json!({"cpu": {"quota": 25_000, "period": 100_000}})),
            (&["--cpu-shares", "512"], json!({"cpu": {"shares": 512}})),
            (&["--cpuset-cpus", "0-2,7"], json!({"cpu": {"cpus": "0-2,7"}})),
            (&["--pids-limit", "100"], json!({"pids": {"limit": 100}})),
            (&["--pids-limit", "-1"], json!({"pids": {"limit": -1}})),
        ] {
            assert_eq!(resources(flags), Ok(expected), "{flags:?}");
        }
    }

    #[test]
    fn the_cgroup_is_where_the_flag_says() {
        let mut spec = json!({"linux": {"cgroupsPath": "/ctr-x"}});
        set_cgroup_path(&mut spec, &Args::try_parse_from(["ctr-bundle"]).unwrap());
        assert_eq!(spec["linux"].get("cgroupsPath").is_some(), ctr_sys::process::is_root());
        set_cgroup_path(&mut spec, &Args::try_parse_from(["ctr-bundle", "--cgroup-path", "/y"]).unwrap());
        assert_eq!(spec["linux"]["cgroupsPath"], "/y");
    }

    #[test]
    fn impossible_limits_are_misuse() {
        for flags in [
            &["--memory", "0"][..],
            &["--memory", "lots"],
            &["--memory-swap", "1M"],
            &["--memory=2M", "--memory-swap=1M"],
            &["--cpus", "0"],
            &["--cpus", "0.001"],
            &["--cpus", "x"],
            &["--cpuset-cpus", "2-1"],
            &["--cpuset-cpus", "a"],
            &["--cpuset-cpus", ""],
            &["--pids-limit", "0"],
            &["--pids-limit", "-2"],
        ] {
            assert!(resources(flags).is_err(), "{flags:?}");
        }
    }
}
