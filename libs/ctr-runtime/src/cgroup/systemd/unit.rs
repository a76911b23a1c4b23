// SPDX-License-Identifier: Apache-2.0
//! Which unit a container is to be, from `cgroupsPath` and annotations.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use super::{Property, annotation};
use crate::cgroup::CgroupError;
use crate::cgroup::plan::check_path;

/// The unit that a container is to be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitPlan {
    /// Its name and whose it is.
    #[serde(flatten)]
    pub unit: Unit,
    /// The slice that it is in.
    pub slice: String,
    /// What people are shown.
    pub description: String,
    /// What annotations set.
    #[serde(serialize_with = "as_object")]
    pub(crate) properties: Vec<Property>,
}

/// The unit that a container is: how its systemd knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unit {
    /// Its name, of a scope.
    pub name: String,
    /// Whether it is the user's systemd that has it, not the system's.
    pub user: bool,
    /// The cgroup below that of the unit where the container's processes are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subgroup: Option<PathBuf>,
}

fn as_object<S: Serializer>(properties: &[Property], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(properties.iter().map(|(name, value)| (name, value)))
}

/// An id is one of those that are valid.
pub(crate) fn plan(
    path: Option<&Path>,
    id: &str,
    user: bool,
    annotations: Option<&HashMap<String, String>>,
) -> Result<UnitPlan, CgroupError> {
    let text = path.map(Path::to_string_lossy);
    let parts: Vec<&str> = text.as_deref().map_or(vec!["", "ctr", id], |text| text.split(':').collect());
    let [slice, prefix, name] = parts[..] else {
        return Err(CgroupError::UnitPath { path: text.unwrap_or_default().into_owned() });
    };
    let refuse = |name: &str, rule| Err(CgroupError::UnitName { name: name.to_owned(), rule });
    if name.ends_with(".slice") {
        return refuse(name, "a container is a scope: a slice holds no processes");
    }
    let unit = format!("{prefix}-{name}.scope");
    if !is_unit_name(&unit) {
        return refuse(&unit, "a unit's name is made of at most 255 letters, digits and : - _ . \\ @");
    }
    let slice = match slice {
        "" if user => "user.slice",
        "" => "system.slice",
        "-" => "-.slice",
        slice => slice,
    };
    if slice_path(slice).is_none() {
        return refuse(slice, "a slice's name is words with single dashes between them, and .slice at the end");
    }
    let annotations = annotations.into_iter().flatten();
    let subgroup = annotations.clone().find(|(key, value)| *key == "run.oci.systemd.subgroup" && !value.is_empty());
    let subgroup = subgroup.map(|(key, value)| below(key, value)).transpose()?;
    Ok(UnitPlan {
        unit: Unit { name: unit, user, subgroup },
        slice: slice.to_owned(),
        description: format!("container {id}"),
        properties: annotation::properties(annotations)?,
    })
}

impl UnitPlan {
    /// Where its processes are, below the root of its systemd.
    pub(crate) fn path(&self) -> PathBuf {
        let scope = slice_path(&self.slice).unwrap_or_default().join(&self.unit.name);
        self.unit.subgroup.iter().fold(scope, |scope, subgroup| scope.join(subgroup))
    }
}

impl Unit {
    /// The directory of the unit itself, in a hierarchy where the container's is `path`.
    pub(crate) fn directory<'a>(&self, path: &'a Path) -> &'a Path {
        let levels = self.subgroup.as_deref().map_or(0, |subgroup| subgroup.components().count());
        path.ancestors().nth(levels).unwrap_or(path)
    }
}

/// The value of an annotation that names a cgroup below another.
pub(crate) fn below(annotation: &str, value: &str) -> Result<PathBuf, CgroupError> {
    let refuse = |rule| CgroupError::Annotation { name: annotation.to_owned(), value: value.to_owned(), rule };
    check_path(Path::new(value)).map_err(refuse)
}

fn is_unit_name(name: &str) -> bool {
    name.len() <= 255 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
}

/// Where a slice's cgroup is (systemd.slice(5)): `a-b.slice` is in `a.slice`.
pub(crate) fn slice_path(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice").filter(|_| is_unit_name(slice))?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    let mut path = PathBuf::new();
    let mut prefix = String::new();
    for word in name.split('-') {
        if word.is_empty() {
            return None;
        }
        path.push(format!("{prefix}{word}.slice"));
        prefix.push_str(word);
        prefix.push('-');
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(path: &str, user: bool) -> Result<(String, String), String> {
        let plan = plan(Some(Path::new(path)).filter(|path| path.as_os_str() != ""), "web-1", user, None);
        plan.map(|plan| (plan.slice.clone(), plan.path().display().to_string())).map_err(|error| error.to_string())
    }

    #[test]
    fn slices_are_nested_by_their_names() {
        for (slice, path) in [
            ("system.slice", Some("system.slice")),
            ("a-b-c.slice", Some("a.slice/a-b.slice/a-b-c.slice")),
            ("-.slice", Some("")),
            ("a--b.slice", None),
            ("-a.slice", None),
            ("a-.slice", None),
            (".slice", None),
            ("a.scope", None),
            ("a/b.slice", None),
            ("", None),
        ] {
            assert_eq!(slice_path(slice), path.map(PathBuf::from), "{slice}");
        }
    }

    #[test]
    fn a_path_is_slice_prefix_and_name() {
        for (path, user, slice, place) in [
            ("", false, "system.slice", "system.slice/ctr-web-1.scope"),
            ("", true, "user.slice", "user.slice/ctr-web-1.scope"),
            ("machine.slice:libpod:abc", false, "machine.slice", "machine.slice/libpod-abc.scope"),
            (":cri:x", true, "user.slice", "user.slice/cri-x.scope"),
            ("-:a:b", false, "-.slice", "a-b.scope"),
            (
                "kubepods-pod_1.slice:crio:c",
                false,
                "kubepods-pod_1.slice",
                "kubepods.slice/kubepods-pod_1.slice/crio-c.scope",
            ),
        ] {
            assert_eq!(planned(path, user), Ok((slice.to_owned(), place.to_owned())), "{path}");
        }
    }

    #[test]
    fn other_paths_are_refused() {
        let long = format!(":a:{}", "x".repeat(255));
        for (path, part) in [
            ("/system.slice/x", "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups"),
            ("a:b", "slice:prefix:name"),
            ("a:b:c:d", "slice:prefix:name"),
            ("x:b:c", "a slice's name"),
            ("a--b.slice:b:c", "a slice's name"),
            ("a.slice:b:../c", "a unit's name"),
            (":b:c+d", "a unit's name"),
            (":b:c.slice", "a slice holds no processes"),
            (&long, "at most 255"),
        ] {
            let error = planned(path, false).expect_err(path);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_subgroup_stays_below_its_unit() {
        let with = |value: &str| {
            let annotations = HashMap::from([("run.oci.systemd.subgroup".to_owned(), value.to_owned())]);
            plan(None, "a", false, Some(&annotations))
        };
        let nested = with("/x//y").expect("a plan");
        assert_eq!(nested.path(), Path::new("system.slice/ctr-a.scope/x/y"));
        let directory = nested.unit.directory(Path::new("/sys/fs/cgroup/system.slice/ctr-a.scope/x/y"));
        assert_eq!(directory, Path::new("/sys/fs/cgroup/system.slice/ctr-a.scope"));
        assert_eq!(with("").expect("a plan").unit.subgroup, None);
        for bad in ["..", "a/../b", "/", "a\nb"] {
            let error = with(bad).expect_err(bad).to_string();
            assert!(error.contains("run.oci.systemd.subgroup"), "{error}");
        }
    }

    #[test]
    fn a_plan_is_json() {
        let annotations = HashMap::from([
            ("org.systemd.property.TasksMax".to_owned(), "uint64 9".to_owned()),
            ("org.systemd.property.Documentation".to_owned(), "['man:x']".to_owned()),
            ("other".to_owned(), "x".to_owned()),
        ]);
        let plan = plan(None, "a", false, Some(&annotations)).expect("a plan");
        let expected = json!({
            "name": "ctr-a.scope", "user": false, "slice": "system.slice", "description": "container a",
            "properties": {"Documentation": ["man:x"], "TasksMax": 9}
        });
        assert_eq!(serde_json::to_value(&plan).expect("serialisable"), expected);
    }
}
