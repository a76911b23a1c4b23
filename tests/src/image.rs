// SPDX-License-Identifier: Apache-2.0
//! Images made of layers and a config, and image layouts on disk to keep them in.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ctr_record::Digest;
use serde_json::{Value, json};

use crate::layer::{Entry, Layer};

/// An image: blobs by digest, and which of them is the manifest.
#[derive(Clone, Debug)]
pub struct Image {
    layers: Vec<Layer>,
    config: Value,
    architecture: String,
}

/// An image's blobs, ready to be served or stored.
#[derive(Clone, Debug)]
pub struct Blobs {
    /// Every blob, the manifest included.
    pub by_digest: BTreeMap<Digest, Vec<u8>>,
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The digest of the config.
    pub config: Digest,
    /// The digests of the layers, lowest first.
    pub layers: Vec<Digest>,
}

impl Blobs {
    /// The manifest's descriptor.
    pub fn descriptor(&self) -> Value {
        descriptor("application/vnd.oci.image.manifest.v1+json", &self.by_digest[&self.manifest])
    }
}

/// A descriptor of `blob`.
pub fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(blob).to_string(), "size": blob.len() })
}

/// Go's name of this machine's CPU architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

impl Image {
    /// An image of these layers, lowest first, for this machine, with an empty config.
    pub fn new(layers: impl IntoIterator<Item = Layer>) -> Self {
        let architecture = architecture().to_owned();
        Self { layers: layers.into_iter().collect(), config: json!({}), architecture }
    }

    /// A small real image: the busybox of this machine with a few applets, in two layers that exercise
    /// hard links, symbolic links and a whiteout. `extra` goes on top, as a third layer.
    pub fn busybox(busybox: &[u8], extra: Option<Layer>) -> Self {
        let mut base = Layer::new();
        for dir in ["bin", "etc", "proc", "sys", "dev", "root", "usr", "usr/bin"] {
            base = base.dir(dir);
        }
        base = base.with(Entry::dir("tmp").mode(0o1777)).program("bin/busybox", busybox);
        for applet in ["sh", "echo", "cat", "ls", "sleep", "true", "false", "id", "env", "kill", "head", "wc"] {
            // Some unpackers give the file the mode of its last link.
            base = base.with(Entry::hardlink(&format!("bin/{applet}"), "bin/busybox").mode(0o755));
        }
        for applet in ["hostname", "mount", "ps", "stty", "tty", "trap", "dd", "touch", "rm", "mkdir", "grep"] {
            base = base.symlink(&format!("bin/{applet}"), "busybox");
        }
        base = base
            .file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/tmp:/bin/sh\n")
            .file("etc/group", "root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
            .file("etc/motd", "a greeting of the first layer\n")
            .file("etc/draft", "removed by the second layer\n");
        let changes = Layer::new()
            .dir("etc")
            .whiteout("etc/draft")
            .file("etc/motd", "hello from a container\n")
            .symlink("etc/greeting", "motd");
        Self::new([base, changes].into_iter().chain(extra))
            .config("Env", json!(["PATH=/bin:/usr/bin"]))
            .config("Cmd", json!(["cat", "/etc/greeting"]))
    }

    /// Sets a member of the config's `config` object: `Env`, `Cmd`, `User`, ….
    pub fn config(mut self, member: &str, value: Value) -> Self {
        self.config[member] = value;
        self
    }

    /// Makes it an image for another CPU architecture, named as Go does.
    pub fn architecture(self, architecture: &str) -> Self {
        Self { architecture: architecture.to_owned(), ..self }
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The image's blobs, with OCI's media types.
    pub fn blobs(&self) -> Blobs {
        self.blobs_with(|_| {})
    }

    /// The image's blobs, with a manifest that `edit` may spoil.
    pub fn blobs_with(&self, edit: impl FnOnce(&mut Value)) -> Blobs {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| layer.diff_id().to_string()).collect();
        let config = json!({
            "architecture": self.architecture, "os": "linux", "created": "2001-09-09T01:46:40Z",
            "config": self.config, "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        let blobs: Vec<Vec<u8>> = self.layers.iter().map(Layer::blob).collect();
        let layers = self.layers.iter().zip(&blobs);
        let layers: Vec<Value> = layers.map(|(layer, blob)| descriptor(layer.media_type(), blob)).collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        });
        edit(&mut manifest);
        let manifest = manifest.to_string().into_bytes();
        let (manifest_digest, config_digest) = (Digest::of(&manifest), Digest::of(&config));
        let layer_digests = blobs.iter().map(|blob| Digest::of(blob)).collect();
        let all = blobs.into_iter().chain([manifest, config]);
        Blobs {
            by_digest: all.map(|blob| (Digest::of(&blob), blob)).collect(),
            manifest: manifest_digest,
            config: config_digest,
            layers: layer_digests,
        }
    }
}

/// An OCI image layout that images are added to.
#[derive(Debug)]
pub struct LayoutDir {
    path: PathBuf,
    manifests: Vec<Value>,
}

impl LayoutDir {
    /// Makes an empty layout.
    pub fn create(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path.join("blobs/sha256"))?;
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let layout = Self { path: path.to_owned(), manifests: Vec::new() };
        layout.write_index()?;
        Ok(layout)
    }

    /// Adds an image under a name.
    pub fn add(&mut self, name: &str, blobs: &Blobs) -> io::Result<()> {
        for (digest, blob) in &blobs.by_digest {
            fs::write(self.blob(digest), blob)?;
        }
        let mut descriptor = blobs.descriptor();
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture() });
        self.manifests.push(descriptor);
        self.write_index()
    }

    /// The file of a blob.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// The layout's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write_index(&self) -> io::Result<()> {
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": self.manifests,
        });
        fs::write(self.path.join("index.json"), index.to_string())
    }
}
