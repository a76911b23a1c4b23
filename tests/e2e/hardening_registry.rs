// SPDX-License-Identifier: Apache-2.0
//! Registries that lie, break or are not there: one clear line, the right code, nothing half-made.

use std::time::Duration;

use ctr_tests::image::{Blobs, descriptor};
use ctr_tests::registry::Fault;
use ctr_tests::{Image, Layer, Outcome, Registry, World};
use serde_json::json;

struct Scene {
    world: World,
    registry: Registry,
    blobs: Blobs,
}

impl Scene {
    fn new() -> Self {
        let blobs = Image::new([Layer::new().file("a", "one"), Layer::new().file("b", "two")]).blobs();
        let scene = Self { world: World::create(), registry: Registry::start(), blobs };
        scene.registry.add("demo/app", "v1", &scene.blobs);
        scene
    }

    fn layer_path(&self) -> String {
        format!("/blobs/{}", self.blobs.layers[0])
    }

    fn pull(&self) -> Outcome {
        self.world.tool("ctr-pull").arg(self.registry.reference("demo/app:v1")).run()
    }

    /// The image has no name, and no blob of it is there under a digest that it does not have.
    fn nothing_is_half_made(&self) {
        let index = std::fs::read_to_string(self.world.state().join("image/index.json")).unwrap_or_default();
        assert!(!index.contains("demo/app"), "{index}");
        for file in self.world.files("image/blobs/sha256") {
            let blob = std::fs::read(self.world.state().join("image/blobs/sha256").join(&file)).unwrap();
            assert_eq!(ctr_record::Digest::of(&blob).hex(), file);
        }
        assert_eq!(self.world.files("image/blobs/sha256").iter().filter(|f| f.contains('.')).count(), 0);
    }
}

#[test]
fn an_unknown_reference_is_not_found() {
    let scene = Scene::new();
    let reference = scene.registry.reference("demo/app:v2");
    scene.world.tool("ctr-pull").arg(&reference).run().fails(3, &["ctr-pull: unable to", &reference]);
    scene.nothing_is_half_made();
}

#[test]
fn what_is_no_reference_is_named() {
    let world = World::create();
    world.tool("ctr-pull").arg("UPPER case").run().fails(6, &["UPPER case"]);
}

#[test]
fn a_registry_that_is_down_is_a_temporary_failure() {
    let scene = Scene::new();
    let reference = scene.registry.reference("demo/app:v1");
    drop(scene.registry);
    scene.world.tool("ctr-pull").arg(&reference).run().fails(75, &[&reference, "refused"]);
}

#[test]
fn a_server_that_always_fails_is_given_up() {
    let scene = Scene::new();
    scene.registry.spoil(&scene.layer_path(), vec![Fault::Status(503, vec![]); 100]);
    scene.pull().fails(75, &["demo/app:v1", "503"]);
    scene.nothing_is_half_made();
}

#[test]
fn rejects_a_blob_with_the_wrong_digest() {
    let scene = Scene::new();
    let mut wrong = scene.blobs.by_digest[&scene.blobs.layers[0]].clone();
    *wrong.last_mut().unwrap() ^= 1;
    scene.registry.spoil(&scene.layer_path(), vec![Fault::Body(wrong); 100]);
    scene.pull().fails(6, &["demo/app:v1", &scene.blobs.layers[0].to_string()]);
    scene.nothing_is_half_made();
    // What is wrong is of no use to the next pull; a good layer that was on its way is.
    let of_layer = |path: &&String| path.contains(scene.blobs.layers[0].hex());
    assert_eq!(scene.world.files("ingest").iter().filter(of_layer).count(), 0);
}

#[test]
fn rejects_a_blob_that_is_too_short() {
    let scene = Scene::new();
    let short = scene.blobs.by_digest[&scene.blobs.layers[0]][..20].to_vec();
    scene.registry.spoil(&scene.layer_path(), vec![Fault::Body(short); 100]);
    let outcome = scene.pull();
    assert!(matches!(outcome.code(), 6 | 75), "{}", outcome.stderr);
    outcome.fails_with_one_line(&["demo/app:v1"]);
    scene.nothing_is_half_made();
}

#[test]
fn rejects_a_blob_that_is_always_cut() {
    let scene = Scene::new();
    scene.registry.spoil(&scene.layer_path(), vec![Fault::Cut(0); 100]);
    scene.pull().fails(75, &["demo/app:v1"]);
    scene.nothing_is_half_made();
}

#[test]
fn rejects_a_blob_that_is_too_long() {
    let scene = Scene::new();
    let mut long = scene.blobs.by_digest[&scene.blobs.layers[0]].clone();
    long.push(0);
    scene.registry.spoil(&scene.layer_path(), vec![Fault::Body(long); 100]);
    scene.pull().fails(6, &["demo/app:v1"]);
    scene.nothing_is_half_made();
}

#[test]
fn an_endless_blob_is_not_read_to_its_end() {
    let scene = Scene::new();
    scene.registry.spoil(&scene.layer_path(), vec![Fault::Endless; 100]);
    scene.pull().fails(6, &["demo/app:v1"]);
    scene.nothing_is_half_made();
}

#[test]
fn an_endless_manifest_is_not_read_to_its_end() {
    let scene = Scene::new();
    scene.registry.spoil("/manifests/", vec![Fault::Endless; 100]);
    scene.pull().fails(6, &["demo/app:v1"]);
    scene.nothing_is_half_made();
}

#[test]
fn a_server_that_falls_silent_can_be_interrupted() {
    let scene = Scene::new();
    scene.registry.spoil(&scene.layer_path(), vec![Fault::Stall; 100]);
    let running = scene.world.tool("ctr-pull").arg(scene.registry.reference("demo/app:v1")).spawn();
    while scene.registry.blob_requests() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(running.wait().code(), 128 + 2);
    scene.nothing_is_half_made();
}

#[test]
fn rejects_a_manifest_that_is_not_the_one_asked_for_by_digest() {
    let scene = Scene::new();
    let other = Image::new([Layer::new().file("other", "")]).blobs();
    scene.registry.spoil("/manifests/", vec![Fault::Body(other.by_digest[&other.manifest].clone()); 100]);
    let reference = scene.registry.reference(&format!("demo/app@{}", scene.blobs.manifest));
    scene.world.tool("ctr-pull").arg(&reference).run().fails(6, &[&reference]);
    scene.nothing_is_half_made();
}

// CVE-2021-41190: one document that is a manifest to one reader and an index to another.
#[test]
fn rejects_a_document_that_is_manifest_and_index_at_once() {
    let scene = Scene::new();
    let (repository, tag, manifest) = ("demo/app", "v1", "application/vnd.oci.image.manifest.v1+json");
    let both = scene.blobs.by_digest[&scene.blobs.manifest].clone();
    let mut both: serde_json::Value = serde_json::from_slice(&both).unwrap();
    both["manifests"] = json!([]);
    scene.registry.add_manifest(repository, tag, manifest, both.to_string().into_bytes());
    scene.pull().fails(6, &["demo/app:v1"]);

    let scene = Scene::new();
    let index = "application/vnd.oci.image.index.v1+json";
    let plain = scene.blobs.by_digest[&scene.blobs.manifest].clone();
    scene.registry.add_manifest(repository, tag, index, plain);
    scene.pull().fails(6, &["demo/app:v1"]);
    scene.nothing_is_half_made();
}

#[test]
fn rejects_a_manifest_whose_sizes_are_not_true() {
    let scene = Scene::new();
    let lying = Image::new([Layer::new().file("a", "one")]).blobs_with(|manifest| {
        manifest["layers"][0]["size"] = json!(5);
    });
    scene.registry.add("demo/app", "v1", &lying);
    scene.pull().fails(6, &["demo/app:v1"]);
    scene.nothing_is_half_made();
}

#[test]
fn rejects_a_digest_that_is_a_path() {
    let scene = Scene::new();
    let hostile = Image::new([Layer::new()]).blobs_with(|manifest| {
        manifest["layers"][0]["digest"] = json!("sha256:../../../../tmp/escape");
    });
    scene.registry.add("demo/app", "v1", &hostile);
    scene.pull().fails(6, &["demo/app:v1"]);
    scene.nothing_is_half_made();
}

#[test]
fn a_manifest_of_the_old_schema_is_named_as_such() {
    let scene = Scene::new();
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let manifest = json!({ "schemaVersion": 1, "name": "demo/app", "fsLayers": [], "history": [] });
    scene.registry.add_manifest("demo/app", "v1", old, manifest.to_string().into_bytes());
    scene.pull().fails(6, &["demo/app:v1", "schema"]);
}

#[test]
fn a_redirect_to_another_host_gets_no_credentials() {
    let scene = Scene::new();
    let other = Registry::start_on("127.0.0.2:0").unwrap();
    other.add("demo/app", "v1", &scene.blobs);
    scene.registry.require_bearer(None);
    for layer in &scene.blobs.layers {
        let target = format!("http://{}/v2/demo/app/blobs/{layer}", other.host());
        scene.registry.spoil(&layer.to_string(), [Fault::Status(307, vec![("Location", target)])]);
    }
    scene.pull().success();
    let requests = other.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.header("authorization"), None, "{request:?}");
    }
}

// CVE-2026-48978: the registry chooses where the credentials are sent.
#[test]
fn a_token_server_without_tls_on_another_machine_is_not_asked() {
    let scene = Scene::new();
    // An address that never answers: asking it would take longer than the test may.
    let challenge = "Bearer realm=\"http://192.0.2.1/token\",service=\"x\"".to_owned();
    scene.registry.spoil("/v2/", vec![Fault::Status(401, vec![("WWW-Authenticate", challenge)]); 100]);
    scene.pull().fails_with_one_line(&["demo/app:v1", "192.0.2.1"]);
    scene.nothing_is_half_made();
}

#[test]
fn a_config_that_contradicts_its_manifest_is_invalid() {
    let scene = Scene::new();
    let config = json!({ "architecture": ctr_tests::image::architecture(), "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [] } });
    let config = config.to_string().into_bytes();
    let mismatched = Image::new([Layer::new()]).blobs_with(|manifest| {
        manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json", &config);
    });
    scene.registry.add("demo/app", "v1", &mismatched);
    scene.registry.add_blob(config);
    scene.pull().fails(6, &["demo/app:v1"]);
    scene.nothing_is_half_made();
}
