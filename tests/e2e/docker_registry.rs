// SPDX-License-Identifier: Apache-2.0
//! `ctr-pull` against Debian's docker-registry, with images that skopeo has pushed.

use ctr_tests::peer::{DockerRegistry, Setup};
use ctr_tests::{Image, Layer, Need, World, need};
use serde_json::json;

fn image() -> Image {
    Image::new([Layer::new().file("a", "one"), Layer::new().file("b", "two")])
}

#[test]
fn pulls_what_skopeo_pushed_in_both_formats() {
    need!(Need::Program("docker-registry"), Need::Program("skopeo"));
    let world = World::create();
    let registry = DockerRegistry::start(&world, Setup::default());
    let layout = world.layout("app", &image());
    for (format, media_type) in [
        ("oci", "application/vnd.oci.image.manifest.v1+json"),
        ("v2s2", "application/vnd.docker.distribution.manifest.v2+json"),
    ] {
        let reference = registry.push(&world, &layout, &format!("demo/{format}:v1"), &["--format", format]);
        let record = world.tool("ctr-pull").arg(&reference).run().success().json();
        assert_eq!(record["image"]["manifest"]["mediaType"], media_type);
        assert_eq!(record["image"]["diffIds"].as_array().unwrap().len(), 2);
        if format == "v2s2" {
            continue; // in a layout, skopeo of this age sees only images of OCI's own type
        }
        let stored = format!("oci:{}:{reference}", world.state().join("image").display());
        world.program("skopeo").args(["inspect", &stored]).run().success();
        let again = world.dir().join(format);
        world
            .program("skopeo")
            .args(["copy", "--insecure-policy", &stored])
            .arg(format!("dir:{}", again.display()))
            .run()
            .success();
    }
    world.tool("ctr-pull").arg(format!("{}/demo/other", registry.host())).run().fails(3, &["demo/other"]);
}

#[test]
fn logs_in_with_basic_credentials() {
    need!(Need::Program("docker-registry"), Need::Program("skopeo"), Need::Program("htpasswd"));
    let world = World::create();
    let registry = DockerRegistry::start(&world, Setup { login: Some(("user", "pass")), ..Setup::default() });
    let layout = world.layout("app", &image());
    let reference = registry.push(&world, &layout, "demo/app:v1", &["--dest-creds=user:pass"]);
    world.tool("ctr-pull").arg(&reference).run().fails(5, &[&reference]);
    let config = world.dir().join("auth.json");
    std::fs::write(&config, json!({ "auths": { registry.host(): { "auth": "dXNlcjpwYXNz" } } }).to_string()).unwrap();
    world.tool("ctr-pull").arg(&reference).env("REGISTRY_AUTH_FILE", &config).run().success();
}

#[test]
fn trusts_the_authority_it_is_given_and_no_other() {
    need!(Need::Program("docker-registry"), Need::Program("skopeo"), Need::Program("openssl"));
    let world = World::create();
    let registry = DockerRegistry::start(&world, Setup { tls: true, ..Setup::default() });
    let reference = registry.push(&world, &world.layout("app", &image()), "demo/app:v1", &[]);
    world.tool("ctr-pull").arg(&reference).run().fails_with_one_line(&[&reference]);
    world.tool("ctr-pull").args(["--ca", registry.authority(), &reference]).run().success();
}
