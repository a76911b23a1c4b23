// SPDX-License-Identifier: Apache-2.0
//! What Intel RDT allows a container and what it measures of it, as runc's events tell it.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::RdtGroup;
use crate::RuntimeError;

/// The `intel_rdt` of a statistics event; what the machine does not have is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct RdtStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<L3CacheInfo>,
    /// The line of the whole machine, and that of the container's group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema_root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemBwInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema_root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// All lines of the container's group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// One entry for each domain, of the container's monitoring group if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<MbmStats>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<CmtStats>>,
}

/// What the machine can allocate of its L3 cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct L3CacheInfo {
    pub cbm_mask: String,
    pub min_cbm_bits: u64,
    pub num_closids: u64,
}

/// What the machine can allocate of memory bandwidth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct MemBwInfo {
    pub bandwidth_gran: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_linear: u64,
    pub min_bandwidth: u64,
    pub num_closids: u64,
}

/// Bytes that went between memory and the L3 cache of one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct MbmStats {
    pub mbm_total_bytes: u64,
    pub mbm_local_bytes: u64,
}

/// Bytes in the L3 cache of one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct CmtStats {
    pub llc_occupancy: u64,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl RdtGroup {
    /// Reads what the group allows and what was measured.
    pub fn stats(&self) -> Result<RdtStats, RuntimeError> {
        let root = &self.root.0;
        let (all, own) = (lines(&root.join("schemata"))?, lines(&self.path.join("schemata"))?);
        let mut stats = RdtStats { schemata: own.clone(), ..RdtStats::default() };
        let cache = root.join("info/L3");
        if cache.is_dir() {
            let cbm_mask = lines(&cache.join("cbm_mask"))?.concat();
            let (min_cbm_bits, num_closids) = (number(&cache, "min_cbm_bits")?, number(&cache, "num_closids")?);
            stats.l3_cache_info = Some(L3CacheInfo { cbm_mask, min_cbm_bits, num_closids });
            stats.l3_cache_schema_root = line_of(&all, "L3");
            stats.l3_cache_schema = line_of(&own, "L3");
        }
        let bandwidth = root.join("info/MB");
        if bandwidth.is_dir() {
            stats.mem_bw_info = Some(MemBwInfo {
                bandwidth_gran: number(&bandwidth, "bandwidth_gran")?,
                delay_linear: number(&bandwidth, "delay_linear")?,
                min_bandwidth: number(&bandwidth, "min_bandwidth")?,
                num_closids: number(&bandwidth, "num_closids")?,
            });
            stats.mem_bw_schema_root = line_of(&all, "MB");
            stats.mem_bw_schema = line_of(&own, "MB");
        }
        self.measure(&mut stats)?;
        Ok(stats)
    }

    // Without a monitoring group of its own that of all who share the container's group.
    fn measure(&self, stats: &mut RdtStats) -> Result<(), RuntimeError> {
        let features = self.root.0.join("info/L3_MON/mon_features");
        if !features.exists() {
            return Ok(());
        }
        let features = lines(&features)?;
        let has = |names: &[&str]| features.iter().any(|feature| names.contains(&feature.as_str()));
        let domains = self.monitoring.as_ref().unwrap_or(&self.path).join("mon_data");
        let failed = RuntimeError::io("read", &domains);
        let mut paths: Vec<_> = match fs::read_dir(&domains) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect(),
            Err(error) => return Err(failed(error)),
        };
        paths.sort();
        if has(&["mbm_total_bytes", "mbm_local_bytes"]) {
            let each = paths.iter().map(|path| {
                let (mbm_total_bytes, mbm_local_bytes) =
                    (number(path, "mbm_total_bytes")?, number(path, "mbm_local_bytes")?);
                Ok(MbmStats { mbm_total_bytes, mbm_local_bytes })
            });
            stats.mbm_stats = Some(each.collect::<Result<_, RuntimeError>>()?);
        }
        if has(&["llc_occupancy"]) {
            let each = paths.iter().map(|path| Ok(CmtStats { llc_occupancy: number(path, "llc_occupancy")? }));
            stats.cmt_stats = Some(each.collect::<Result<_, RuntimeError>>()?);
        }
        Ok(())
    }
}

fn lines(path: &Path) -> Result<Vec<String>, RuntimeError> {
    let text = fs::read_to_string(path).map_err(RuntimeError::io("read", path))?;
    Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

/// 0 where the file is not there, or says that the number cannot be had at the moment.
fn number(directory: &Path, file: &str) -> Result<u64, RuntimeError> {
    let path = directory.join(file);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().parse().unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(RuntimeError::io("read", &path)(error)),
    }
}

/// The line of a kind, or of one of its halves for code and data.
fn line_of(lines: &[String], kind: &str) -> Option<String> {
    lines.iter().rfind(|line| line.starts_with(kind)).cloned()
}
