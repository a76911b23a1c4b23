// SPDX-License-Identifier: Apache-2.0
//! `ctr-pull`: images from registries and layouts into the content store.

use ctr_tests::registry::Fault;
use ctr_tests::{Image, Layer, Need, Registry, World, need};
use serde_json::{Value, json};

fn image() -> Image {
    Image::new([Layer::new().file("a", "one"), Layer::new().file("b", "two")])
}

fn pull(world: &World, reference: &str) -> Value {
    world.tool("ctr-pull").arg(reference).run().success().json()
}

#[test]
fn prints_a_record_of_what_it_has_verified() {
    let (world, registry, blobs) = (World::create(), Registry::start(), image().blobs());
    registry.add("demo/app", "v1", &blobs);
    let record = pull(&world, &registry.reference("demo/app:v1"));
    assert_eq!(record["ctr"], 1);
    assert_eq!(record["stateDir"], json!(world.state()));
    assert_eq!(record["namespace"], "default");
    let found = &record["image"];
    assert_eq!(found["reference"], registry.reference("demo/app:v1"));
    assert_eq!(found["manifest"]["digest"], blobs.manifest.to_string());
    assert_eq!(found["config"]["digest"], blobs.config.to_string());
    let layers: Vec<String> = blobs.layers.iter().map(ToString::to_string).collect();
    let digests: Vec<_> = found["layers"].as_array().unwrap().iter().map(|layer| &layer["digest"]).collect();
    assert_eq!(json!(digests), json!(layers));
    let diff_ids: Vec<String> = image().layers().iter().map(|layer| layer.diff_id().to_string()).collect();
    assert_eq!(found["diffIds"], json!(diff_ids));
    assert_eq!(found["platform"]["os"], "linux");
}

#[test]
fn what_it_stores_is_an_image_layout() {
    let (world, registry, blobs) = (World::create(), Registry::start(), image().blobs());
    registry.add("demo/app", "v1", &blobs);
    pull(&world, &registry.reference("demo/app:v1"));
    for (digest, blob) in &blobs.by_digest {
        let stored = world.state().join("image/blobs/sha256").join(digest.hex());
        assert_eq!(&std::fs::read(stored).unwrap(), blob);
    }
    assert_eq!(world.files("image/blobs/sha256").len(), blobs.by_digest.len());
    let layout: Value =
        serde_json::from_slice(&std::fs::read(world.state().join("image/oci-layout")).unwrap()).unwrap();
    assert_eq!(layout["imageLayoutVersion"], "1.0.0");
    assert_eq!(world.files("ingest"), Vec::<String>::new());
}

#[test]
fn skopeo_reads_the_store_in_place() {
    need!(Need::Program("skopeo"));
    let (world, registry, blobs) = (World::create(), Registry::start(), image().blobs());
    registry.add("demo/app", "v1", &blobs);
    let reference = registry.reference("demo/app:v1");
    pull(&world, &reference);
    let layout = format!("oci:{}:{reference}", world.state().join("image").display());
    let inspected = world.program("skopeo").args(["inspect", &layout]).run().success();
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(inspected["Digest"], blobs.manifest.to_string());
}

#[test]
fn a_second_pull_moves_no_blob() {
    let (world, registry) = (World::create(), Registry::start());
    registry.add("demo/app", "v1", &image().blobs());
    let first = pull(&world, &registry.reference("demo/app:v1"));
    let moved = registry.blob_requests();
    assert_eq!(moved, 3);
    assert_eq!(pull(&world, &registry.reference("demo/app:v1")), first);
    assert_eq!(registry.blob_requests(), moved);
}

#[test]
fn a_second_image_moves_only_the_layers_it_adds() {
    let (world, registry) = (World::create(), Registry::start());
    registry.add("demo/app", "v1", &image().blobs());
    registry.add("demo/app", "v2", &Image::new([Layer::new().file("a", "one"), Layer::new().file("c", "")]).blobs());
    pull(&world, &registry.reference("demo/app:v1"));
    let moved = registry.blob_requests();
    pull(&world, &registry.reference("demo/app:v2"));
    assert_eq!(registry.blob_requests() - moved, 2, "a config and a layer");
}

#[test]
fn a_moved_tag_is_followed() {
    let (world, registry) = (World::create(), Registry::start());
    registry.add("demo/app", "v1", &image().blobs());
    pull(&world, &registry.reference("demo/app:v1"));
    let moved = Image::new([Layer::new().file("new", "")]).blobs();
    registry.add("demo/app", "v1", &moved);
    let record = pull(&world, &registry.reference("demo/app:v1"));
    assert_eq!(record["image"]["manifest"]["digest"], moved.manifest.to_string());
    let index: Value = serde_json::from_slice(&std::fs::read(world.state().join("image/index.json")).unwrap()).unwrap();
    let reference = json!(registry.reference("demo/app:v1"));
    let named = |manifest: &&Value| manifest["annotations"]["org.opencontainers.image.ref.name"] == reference;
    assert_eq!(index["manifests"].as_array().unwrap().iter().filter(named).count(), 1, "{index:#}");
}

#[test]
fn a_digest_names_an_image_too() {
    let (world, registry, blobs) = (World::create(), Registry::start(), image().blobs());
    registry.add("demo/app", "v1", &blobs);
    let record = pull(&world, &registry.reference(&format!("demo/app@{}", blobs.manifest)));
    assert_eq!(record["image"]["manifest"]["digest"], blobs.manifest.to_string());
}

#[test]
fn an_index_is_searched_for_the_platform() {
    let (world, registry) = (World::create(), Registry::start());
    let theirs = Image::new([Layer::new().file("other", "")]).architecture("mips64le").blobs();
    let ours = image().blobs();
    let here = ctr_tests::image::architecture();
    registry.add_index("demo/app", "v1", &[(("linux", "mips64le"), &theirs), (("linux", here), &ours)]);
    let reference = registry.reference("demo/app:v1");
    assert_eq!(pull(&world, &reference)["image"]["manifest"]["digest"], ours.manifest.to_string());
    let other = world.tool("ctr-pull").args(["--platform", "linux/mips64le", &reference]).run();
    let other = other.success().json();
    assert_eq!(other["image"]["manifest"]["digest"], theirs.manifest.to_string());
    world.tool("ctr-pull").args(["--platform", "linux/sparc64", &reference]).run().fails(3, &["linux/sparc64"]);
}

#[test]
fn dockers_media_types_are_understood() {
    let (world, registry) = (World::create(), Registry::start());
    let blobs = image().blobs_with(|manifest| {
        manifest["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
        manifest["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
        }
    });
    registry.add("demo/app", "v1", &blobs);
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    registry.add_manifest("demo/app", "v1", docker, blobs.by_digest[&blobs.manifest].clone());
    let record = pull(&world, &registry.reference("demo/app:v1"));
    assert_eq!(record["image"]["manifest"]["mediaType"], docker);
    let record = record.to_string();
    world.tool("ctr-unpack").stdin(record).run().success();
}

#[test]
fn references_come_from_standard_input_and_answers_in_order() {
    let (world, registry) = (World::create(), Registry::start());
    for tag in ["v1", "v2", "v3"] {
        registry.add("demo/app", tag, &Image::new([Layer::new().file(tag, "")]).blobs());
    }
    let references = ["v3", "v1", "v2"].map(|tag| registry.reference(&format!("demo/app:{tag}")));
    for args in [vec![], vec!["-"]] {
        let pulled = world.tool("ctr-pull").args(args).stdin(references.join("\n")).run().success();
        let named: Vec<Value> = pulled.json_lines().iter().map(|record| record["image"]["reference"].clone()).collect();
        assert_eq!(json!(named), json!(references));
    }
}

#[test]
fn one_unknown_reference_does_not_stop_the_others() {
    let (world, registry) = (World::create(), Registry::start());
    registry.add("demo/app", "v1", &image().blobs());
    let known = registry.reference("demo/app:v1");
    let references = format!("{}\n{known}\n", registry.reference("demo/nothing:v1"));
    let pulled = world.tool("ctr-pull").stdin(references).run().fails(3, &["demo/nothing:v1"]);
    assert_eq!(pulled.json()["image"]["reference"], known);
}

#[test]
fn a_layout_is_a_source_too() {
    let world = World::create();
    let reference = world.layout("app", &image());
    let record = pull(&world, &reference);
    assert_eq!(record["image"]["manifest"]["digest"], image().blobs().manifest.to_string());
    let only = reference.strip_suffix(":app").unwrap();
    assert_eq!(pull(&world, only)["image"]["manifest"], record["image"]["manifest"]);
    world.tool("ctr-pull").arg(format!("{only}:other")).run().fails(3, &["other"]);
    world.tool("ctr-pull").arg("oci:/nowhere/at/all:x").run().fails(3, &["/nowhere/at/all"]);
}

#[test]
fn a_name_belongs_to_its_namespace_and_blobs_to_all() {
    let (world, registry) = (World::create(), Registry::start());
    registry.add("demo/app", "v1", &image().blobs());
    let reference = registry.reference("demo/app:v1");
    pull(&world, &reference);
    let moved = registry.blob_requests();
    let other = world.tool("ctr-pull").args(["--namespace", "team", &reference]).run().success().json();
    assert_eq!(other["namespace"], "team");
    assert_eq!(registry.blob_requests(), moved);
}

fn docker_config(world: &World, host: &str, auth: &str) {
    let dir = world.dir().join("home/.docker");
    std::fs::create_dir_all(&dir).unwrap();
    let config = json!({ "auths": { host: { "auth": auth } } });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn basic_credentials_come_from_dockers_file() {
    let (world, registry) = (World::create(), Registry::start());
    registry.add("demo/app", "v1", &image().blobs());
    registry.require_basic("user", "pass");
    let reference = registry.reference("demo/app:v1");
    world.tool("ctr-pull").arg(&reference).run().fails(5, &["demo/app"]);
    docker_config(&world, &registry.host(), "dXNlcjp3cm9uZw==");
    world.tool("ctr-pull").arg(&reference).run().fails(5, &["demo/app"]);
    docker_config(&world, &registry.host(), "dXNlcjpwYXNz");
    pull(&world, &reference);
}

#[test]
fn a_bearer_token_is_fetched_with_and_without_credentials() {
    let (world, registry) = (World::create(), Registry::start());
    registry.add("demo/app", "v1", &image().blobs());
    registry.require_bearer(None);
    pull(&world, &registry.reference("demo/app:v1"));
    let tokens = |registry: &Registry| registry.requests().iter().filter(|r| r.path == "/token").count();
    assert_eq!(tokens(&registry), 1, "one token serves every request");
    let request = registry.requests().into_iter().find(|request| request.path == "/token").unwrap();
    assert!(request.query.contains("demo") && request.query.contains("pull"), "{}", request.query);

    let (world, registry) = (World::create(), Registry::start());
    registry.add("demo/app", "v1", &image().blobs());
    registry.require_bearer(Some(("user", "pass")));
    let reference = registry.reference("demo/app:v1");
    world.tool("ctr-pull").arg(&reference).run().fails(5, &["demo/app"]);
    docker_config(&world, &registry.host(), "dXNlcjpwYXNz");
    pull(&world, &reference);
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    let (world, registry) = (World::create(), Registry::start());
    let noise: Vec<u8> = (0..400_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let blobs = Image::new([Layer::new().file("big", noise)]).blobs();
    registry.add("demo/app", "v1", &blobs);
    let layer = format!("/blobs/{}", blobs.layers[0]);
    registry.spoil(&layer, [Fault::Cut(300_000), Fault::Cut(200_000)]);
    pull(&world, &registry.reference("demo/app:v1"));
    let requests = registry.requests();
    let ranges: Vec<_> = requests.iter().filter(|r| r.path.ends_with(&layer)).map(|r| r.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=300000-"), Some("bytes=500000-")]);
}

#[test]
fn a_busy_server_is_asked_again() {
    let (world, registry) = (World::create(), Registry::start());
    let blobs = image().blobs();
    registry.add("demo/app", "v1", &blobs);
    registry.spoil("/manifests/", [Fault::Status(429, vec![("Retry-After", "1".into())])]);
    registry.spoil(&blobs.layers[0].to_string(), [Fault::Status(500, vec![]), Fault::Status(503, vec![])]);
    pull(&world, &registry.reference("demo/app:v1"));
}

#[test]
fn two_pulls_at_once_move_every_blob_once() {
    let (world, registry) = (World::create(), Registry::start());
    registry.add("demo/app", "v1", &image().blobs());
    let reference = registry.reference("demo/app:v1");
    let running: Vec<_> = (0..6).map(|_| world.tool("ctr-pull").arg(&reference).spawn()).collect();
    let records: Vec<Value> = running.into_iter().map(|pull| pull.wait().success().json()).collect();
    assert!(records.iter().all(|record| *record == records[0]));
    assert_eq!(registry.blob_requests(), 3);
}
