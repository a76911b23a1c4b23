// SPDX-License-Identifier: Apache-2.0
//! `update`: new limits from flags, or from a file as in config.json.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ctr_cli::{Context, Error, tell};
use ctr_record::ErrorKind;
use ctr_runtime::Container;
use serde_json::{Value, json};

use crate::quantity;

/// The command's arguments. As in runc an empty string is no value.
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Update {
    /// The container's id
    id: String,
    /// File with the new limits, as linux.resources of config.json; - is standard input
    #[arg(short, long, value_name = "FILE", default_value = "", hide_default_value = true)]
    resources: String,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT", default_value = "", hide_default_value = true)]
    blkio_weight: String,
    /// Period of the CPU quota in microseconds
    #[arg(long, value_name = "MICROSECONDS", default_value = "", hide_default_value = true)]
    cpu_period: String,
    /// CPU time in a period in microseconds, -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", default_value = "", hide_default_value = true)]
    cpu_quota: String,
    /// CPU time that may be saved up in microseconds
    #[arg(long, value_name = "MICROSECONDS", default_value = "", hide_default_value = true)]
    cpu_burst: String,
    /// CPU shares, 2 to 262144
    #[arg(long, value_name = "SHARES", default_value = "", hide_default_value = true)]
    cpu_share: String,
    /// Period of the realtime limit in microseconds, on cgroup v1
    #[arg(long, value_name = "MICROSECONDS", default_value = "", hide_default_value = true)]
    cpu_rt_period: String,
    /// Realtime CPU time in a period in microseconds, on cgroup v1
    #[arg(long, value_name = "MICROSECONDS", default_value = "", hide_default_value = true)]
    cpu_rt_runtime: String,
    /// CPUs to run on, as 0-2,7
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    cpuset_cpus: String,
    /// Memory nodes to use, as 0-1
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    cpuset_mems: String,
    /// 1 to run only when nobody else wants the CPU, else 0
    #[arg(long, value_name = "0|1", default_value = "", hide_default_value = true)]
    cpu_idle: String,
    /// Limit of memory in bytes or with a unit as in 100M, -1 for none
    #[arg(long, value_name = "SIZE", default_value = "", hide_default_value = true)]
    memory: String,
    /// Memory that is reserved, or the soft limit
    #[arg(long, value_name = "SIZE", default_value = "", hide_default_value = true)]
    memory_reservation: String,
    /// Limit of memory and swap together, -1 for none
    #[arg(long, value_name = "SIZE", default_value = "", hide_default_value = true)]
    memory_swap: String,
    /// Number of processes and threads, -1 for no limit
    #[arg(long, value_name = "COUNT", default_value = "", hide_default_value = true)]
    pids_limit: String,
    /// Schema of the L3 cache (Intel RDT)
    #[arg(long, value_name = "SCHEMA", default_value = "", hide_default_value = true)]
    l3_cache_schema: String,
    /// Schema of memory bandwidth (Intel RDT)
    #[arg(long, value_name = "SCHEMA", default_value = "", hide_default_value = true)]
    mem_bw_schema: String,
    /// Obsolete
    #[arg(long, value_name = "SIZE", default_value = "", hide = true)]
    kernel_memory: String,
    /// Obsolete
    #[arg(long, value_name = "SIZE", default_value = "", hide = true)]
    kernel_memory_tcp: String,
}

/// How the value of a flag is read.
type Parse = fn(&str) -> Option<Value>;

impl Update {
    /// Which container it is about.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The flags that are limits, with their places in `linux.resources`.
    fn flags(&self) -> [(&'static str, &str, [&'static str; 2], Parse); 16] {
        [
            ("blkio-weight", &self.blkio_weight, ["blockIO", "weight"], number::<u16>),
            ("cpu-period", &self.cpu_period, ["cpu", "period"], number::<u64>),
            ("cpu-quota", &self.cpu_quota, ["cpu", "quota"], number::<i64>),
            ("cpu-burst", &self.cpu_burst, ["cpu", "burst"], number::<u64>),
            ("cpu-share", &self.cpu_share, ["cpu", "shares"], number::<u64>),
            ("cpu-rt-period", &self.cpu_rt_period, ["cpu", "realtimePeriod"], number::<u64>),
            ("cpu-rt-runtime", &self.cpu_rt_runtime, ["cpu", "realtimeRuntime"], number::<i64>),
            ("cpuset-cpus", &self.cpuset_cpus, ["cpu", "cpus"], list),
            ("cpuset-mems", &self.cpuset_mems, ["cpu", "mems"], list),
            ("cpu-idle", &self.cpu_idle, ["cpu", "idle"], number::<i64>),
            ("memory", &self.memory, ["memory", "limit"], size),
            ("memory-reservation", &self.memory_reservation, ["memory", "reservation"], size),
            ("memory-swap", &self.memory_swap, ["memory", "swap"], size),
            ("pids-limit", &self.pids_limit, ["pids", "limit"], number::<i64>),
            ("kernel-memory", &self.kernel_memory, ["memory", "kernel"], size),
            ("kernel-memory-tcp", &self.kernel_memory_tcp, ["memory", "kernelTCP"], size),
        ]
    }
}

fn number<T: std::str::FromStr + Into<Value>>(text: &str) -> Option<Value> {
    text.parse::<T>().ok().map(Into::into)
}

fn list(text: &str) -> Option<Value> {
    Some(text.into())
}

fn size(text: &str) -> Option<Value> {
    quantity::parse_memory(text).map(Into::into)
}

/// Changes a container's limits.
pub(crate) fn perform(container: &Container, args: &Update) -> Result<(), Error> {
    container.update(resources(args)?)?;
    if !args.l3_cache_schema.is_empty() || !args.mem_bw_schema.is_empty() {
        container.update_intel_rdt(&args.l3_cache_schema, &args.mem_bw_schema)?;
    }
    Ok(())
}

/// The new limits as JSON. As in runc, a file has them all.
fn resources(args: &Update) -> Result<Value, Error> {
    let given = args.flags().into_iter().filter(|(_, text, ..)| !text.is_empty());
    if !args.resources.is_empty() {
        let ignored: Vec<String> = given.map(|(name, ..)| format!("--{name}")).collect();
        if !ignored.is_empty() {
            tell(&format!("ctr-run: --resources has all limits: {} ignored", ignored.join(" ")));
        }
        return read(&args.resources);
    }
    let mut resources = json!({});
    for (name, text, [group, member], parse) in given {
        let value = parse(text).ok_or_else(|| Error::misuse(format!("invalid value for {name}: {text:?}")))?;
        if member.starts_with("kernel") {
            tell(&format!("ctr-run: --{name} is obsolete and ignored"));
            continue;
        }
        resources[group][member] = value;
    }
    Ok(resources)
}

fn read(file: &str) -> Result<Value, Error> {
    const LIMIT: u64 = 1 << 20;
    let (name, source): (&str, Box<dyn Read>) = match file {
        "-" => ("standard input", Box::new(std::io::stdin())),
        path => (path, Box::new(File::open(Path::new(path)).unable_to(|| format!("open {path}"))?)),
    };
    let mut bytes = Vec::new();
    source.take(LIMIT).read_to_end(&mut bytes).unable_to(|| format!("read {name}"))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::new(ErrorKind::Invalid, format!("unable to read resources from {name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Command;
    use crate::golang;

    fn parsed(line: &str) -> Result<Value, String> {
        let words = format!("ctr-run update {line}").split(' ').map(std::ffi::OsString::from).collect();
        let Ok(args) = golang::parse(words) else { panic!("{line}") };
        match args.command {
            Some(Command::Update(update)) => resources(&update).map_err(|error| error.to_line()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_are_members_of_the_resources() {
        for (line, expected) in [
            ("x", json!({})),
            ("--memory 100M --memory-swap -1 x", json!({"memory": {"limit": 100 << 20, "swap": -1}})),
            ("x -memory=-1", json!({"memory": {"limit": -1}})),
            ("x --memory-reservation 1g", json!({"memory": {"reservation": 1 << 30}})),
            ("--cpu-quota -1 --cpu-period 50000 x", json!({"cpu": {"period": 50_000, "quota": -1}})),
            ("--cpu-share 5 --cpu-burst 0 --cpu-idle 1 x", json!({"cpu": {"burst": 0, "shares": 5, "idle": 1}})),
            ("--cpu-rt-period 6 --cpu-rt-runtime 5 x", json!({"cpu": {"realtimePeriod": 6, "realtimeRuntime": 5}})),
            ("--cpuset-cpus 0-1 --cpuset-mems 0 x", json!({"cpu": {"cpus": "0-1", "mems": "0"}})),
            ("--pids-limit 0 --blkio-weight 500 x", json!({"blockIO": {"weight": 500}, "pids": {"limit": 0}})),
            ("--kernel-memory 5 --kernel-memory-tcp -1 x", json!({})),
            ("--memory= x", json!({})),
        ] {
            assert_eq!(parsed(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn a_value_that_is_none_is_named() {
        for (line, name) in [
            ("--memory lots x", "memory"),
            ("--memory -2 x", "memory"),
            ("--cpu-period -1 x", "cpu-period"),
            ("--cpu-quota 1.5 x", "cpu-quota"),
            ("--blkio-weight 70000 x", "blkio-weight"),
            ("--pids-limit many x", "pids-limit"),
        ] {
            let error = parsed(line).expect_err(line);
            assert!(error.contains(&format!("invalid value for {name}: ")), "{error}");
        }
    }
}
