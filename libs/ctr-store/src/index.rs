// SPDX-License-Identifier: Apache-2.0
//! The names of images: `image/index.json`, which other tools read in place.
//!
//! An entry's name is its annotation `org.opencontainers.image.ref.name`, the full reference, preceded
//! by `NAMESPACE+` in any namespace but `default`. Entries and members of others are kept as they are.
//! Writers take turns by `image/index.lock`; foreign tools that write do not, and lose that race alone.

use std::path::PathBuf;

use ctr_record::{Descriptor, media_type};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{Durability, Lock, StateDir, StoreError, read_bounded, replace_file};

/// The annotation that names an entry (image-spec, "Pre-Defined Annotation Keys").
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A hundred thousand entries.
const LIMIT: u64 = 64 << 20;

/// The names of one namespace.
#[derive(Clone, Debug)]
pub struct ImageIndex {
    path: PathBuf,
    lock: PathBuf,
    prefix: String,
}

/// What giving a name did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The name is new.
    Created,
    /// The name was another image's.
    Updated,
    /// The name was this image's already.
    Unchanged,
}

impl ImageIndex {
    /// Opens the index of a state directory for a namespace, and makes it when it is missing.
    pub fn open(state: &StateDir, namespace: &str) -> Result<Self, StoreError> {
        let directory = state.image();
        let prefix = if namespace == "default" { String::new() } else { format!("{namespace}+") };
        let index = Self { path: directory.join("index.json"), lock: directory.join("index.lock"), prefix };
        if !index.path.exists() {
            state.make(&directory)?;
            index.edit(|_| true)?;
        }
        Ok(index)
    }

    /// The image of a name.
    pub fn find(&self, name: &str) -> Result<Option<Descriptor>, StoreError> {
        Ok(self.list()?.into_iter().find(|(known, _)| known == name).map(|(_, descriptor)| descriptor))
    }

    /// The names and images of the namespace, in the order of the index.
    pub fn list(&self) -> Result<Vec<(String, Descriptor)>, StoreError> {
        let document = self.read()?;
        let entries = document.get("manifests").and_then(Value::as_array).into_iter().flatten();
        Ok(entries
            .filter_map(|entry| {
                let name = self.local_name(ref_name(entry)?)?;
                // Foreign entries may be of digests or shapes that are not known here.
                Some((name.to_owned(), Descriptor::deserialize(entry).ok()?))
            })
            .collect())
    }

    /// Gives a name to an image. Another image that had it keeps its blobs and loses the name.
    pub fn set(&self, name: &str, descriptor: &Descriptor) -> Result<Change, StoreError> {
        let full_name = format!("{}{name}", self.prefix);
        let mut entry = descriptor.clone();
        entry.annotations.insert(REF_NAME.to_owned(), full_name.clone());
        let entry = serde_json::to_value(entry).expect("a descriptor has only string keys");

        // Most names are set to what they are already; that needs no lock.
        if named(&self.read()?, &full_name).eq([&entry]) {
            return Ok(Change::Unchanged);
        }
        let mut change = Change::Created;
        self.edit(|entries| {
            let known = entries.iter().position(|entry| ref_name(entry) == Some(&full_name));
            match known {
                None => entries.push(entry),
                Some(at) => {
                    change = match entries[at].get("digest") == entry.get("digest") {
                        true => Change::Unchanged,
                        false => Change::Updated,
                    };
                    entries[at] = entry;
                    // A name has one image; a second entry would make it ambiguous to other tools.
                    let mut later = 0..;
                    entries.retain(|entry| later.next() <= Some(at) || ref_name(entry) != Some(&full_name));
                }
            }
            true
        })?;
        Ok(change)
    }

    /// Takes a name away. Says whether there was one.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let full_name = format!("{}{name}", self.prefix);
        let mut removed = false;
        self.edit(|entries| {
            let before = entries.len();
            entries.retain(|entry| ref_name(entry) != Some(&full_name));
            removed = entries.len() < before;
            removed
        })?;
        Ok(removed)
    }

    // A registry's name has no +, so what has one before the first / is of another namespace.
    fn local_name<'a>(&self, full_name: &'a str) -> Option<&'a str> {
        let name = full_name.strip_prefix(&self.prefix)?;
        (!name.split('/').next()?.contains('+')).then_some(name)
    }

    fn read(&self) -> Result<Value, StoreError> {
        let text = read_bounded(&self.path, LIMIT)?;
        serde_json::from_slice(&text).map_err(|source| StoreError::Damaged { path: self.path.clone(), source })
    }

    // Reads, changes and replaces the index under its lock, unless `change` says that nothing changed.
    fn edit(&self, change: impl FnOnce(&mut Vec<Value>) -> bool) -> Result<(), StoreError> {
        let _lock = Lock::exclusive(&self.lock)?;
        let document = match self.read() {
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] })
            }
            document => document?,
        };
        let damaged = |source| StoreError::Damaged { path: self.path.clone(), source };
        let mut document = Map::deserialize(document).map_err(damaged)?;
        let entries = document.entry("manifests").or_insert_with(|| json!([])).take();
        let mut entries = Vec::deserialize(entries).map_err(damaged)?;
        if !change(&mut entries) {
            return Ok(());
        }
        document["manifests"] = Value::Array(entries);
        let text = serde_json::to_vec(&document).expect("JSON that was read can be written");
        replace_file(&self.path, &text, Durability::PowerCut)
    }
}

fn ref_name(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

fn named<'a>(document: &'a Value, full_name: &'a str) -> impl Iterator<Item = &'a Value> {
    let entries = document.get("manifests").and_then(Value::as_array).into_iter().flatten();
    entries.filter(move |entry| ref_name(entry) == Some(full_name))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use ctr_record::Digest;

    use super::*;

    struct Scratch(StateDir);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.root());
        }
    }

    fn scratch(name: &str) -> Scratch {
        let root = std::env::temp_dir().join(format!("ctr-store-index-{name}-{}", std::process::id()));
        Scratch(StateDir::open(&root).unwrap())
    }

    fn image(content: &str) -> Descriptor {
        Descriptor::new(media_type::OCI_MANIFEST, Digest::of(content.as_bytes()), content.len() as u64)
    }

    fn text(state: &StateDir) -> String {
        fs::read_to_string(state.image().join("index.json")).unwrap()
    }

    #[test]
    fn a_name_is_created_moved_and_removed() {
        let Scratch(state) = &scratch("names");
        let index = ImageIndex::open(state, "default").unwrap();
        assert_eq!(index.set("r.example/a:1", &image("one")).unwrap(), Change::Created);
        assert_eq!(index.set("r.example/a:1", &image("one")).unwrap(), Change::Unchanged);
        assert_eq!(index.set("r.example/a:1", &image("two")).unwrap(), Change::Updated);
        assert_eq!(index.find("r.example/a:1").unwrap().unwrap().digest, image("two").digest);
        assert_eq!(index.list().unwrap().len(), 1);
        assert!(index.remove("r.example/a:1").unwrap());
        assert!(!index.remove("r.example/a:1").unwrap());
        assert_eq!(index.find("r.example/a:1").unwrap(), None);
    }

    #[test]
    fn namespaces_do_not_see_one_another() {
        let Scratch(state) = &scratch("namespaces");
        let (default, other) = (ImageIndex::open(state, "default").unwrap(), ImageIndex::open(state, "ci").unwrap());
        default.set("r.example/a:1", &image("one")).unwrap();
        other.set("r.example/a:1", &image("two")).unwrap();
        assert_eq!(default.find("r.example/a:1").unwrap().unwrap().digest, image("one").digest);
        assert_eq!(other.find("r.example/a:1").unwrap().unwrap().digest, image("two").digest);
        ImageIndex::open(state, "ci+x").unwrap().set("r.example/a:1", &image("three")).unwrap();
        assert_eq!((default.list().unwrap().len(), other.list().unwrap().len()), (1, 1));
        assert!(text(state).contains("\"ci+r.example/a:1\""));
    }

    #[test]
    fn what_others_wrote_is_kept() {
        let Scratch(state) = &scratch("foreign");
        fs::create_dir_all(state.image()).unwrap();
        let foreign = r#"{"mediaType":"x/y","digest":"blake3:0","size":1,"later":{"z":1,"a":null},"annotations":{"org.opencontainers.image.ref.name":"v1"}}"#;
        let document =
            format!(r#"{{"schemaVersion":2,"later":[1],"manifests":[{foreign}],"annotations":{{"b":"c"}}}}"#);
        fs::write(state.image().join("index.json"), &document).unwrap();
        let index = ImageIndex::open(state, "default").unwrap();
        index.set("r.example/a:1", &image("one")).unwrap();
        assert!(text(state).contains(foreign));
        index.remove("r.example/a:1").unwrap();
        assert_eq!(text(state), document);
        assert_eq!(index.list().unwrap().len(), 0);
    }

    #[test]
    fn an_ambiguous_name_becomes_one() {
        let Scratch(state) = &scratch("ambiguous");
        let index = ImageIndex::open(state, "default").unwrap();
        index.set("r.example/a:1", &image("one")).unwrap();
        index.set("r.example/a:2", &image("two")).unwrap();
        let twice = text(state).replace("a:2", "a:1");
        fs::write(state.image().join("index.json"), twice).unwrap();
        index.set("r.example/a:1", &image("one")).unwrap();
        assert_eq!(index.list().unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_index_is_not_overwritten() {
        let Scratch(state) = &scratch("damaged");
        let index = ImageIndex::open(state, "default").unwrap();
        for damaged in ["", "[]", r#"{"manifests":7}"#] {
            fs::write(state.image().join("index.json"), damaged).unwrap();
            assert!(matches!(index.set("a", &image("one")), Err(StoreError::Damaged { .. })), "{damaged}");
            assert_eq!(text(state), damaged);
        }
    }

    #[test]
    fn parallel_writers_lose_nothing() {
        let Scratch(state) = &scratch("parallel");
        ImageIndex::open(state, "default").unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                scope.spawn(move || {
                    let index = ImageIndex::open(state, "default").unwrap();
                    for n in 0..8 {
                        index.set(&format!("r.example/a:{writer}-{n}"), &image("one")).unwrap();
                    }
                });
            }
        });
        assert_eq!(ImageIndex::open(state, "default").unwrap().list().unwrap().len(), 64);
        assert!(Path::new(&state.image().join("index.lock")).exists());
    }
}
