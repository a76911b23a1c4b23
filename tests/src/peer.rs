// SPDX-License-Identifier: Apache-2.0
//! Programs of others that run beside a test: Debian's docker-registry.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::world::World;

/// How a docker-registry is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Asks for these basic credentials, user and password.
    pub login: Option<(&'static str, &'static str)>,
    /// Speaks https, with the certificate that [`DockerRegistry::authority`] vouches for.
    pub tls: bool,
}

/// A running docker-registry, empty at first; it ends when it is dropped.
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    host: String,
    authority: String,
}

impl DockerRegistry {
    /// Starts one on a free port of 127.0.0.1, its files in a world. The test must need `docker-registry`,
    /// `htpasswd` for a login, and `openssl` for TLS.
    pub fn start(world: &World, setup: Setup) -> Self {
        let dir = world.dir().join("docker-registry");
        fs::create_dir(&dir).expect("one registry per world");
        let path = |name: &str| dir.join(name).to_str().expect("the world's name is ASCII").to_owned();
        let host = free_address();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n",
            path("data")
        );
        config += &match setup.tls {
            false => format!("http: {{addr: '{host}'}}\n"),
            true => {
                let (key, certificate) = (path("key"), path("certificate"));
                make_certificates(world, &dir);
                format!("http: {{addr: '{host}', tls: {{certificate: {certificate}, key: {key}}}}}\n")
            }
        };
        if let Some((user, password)) = setup.login {
            let line = world.program("htpasswd").args(["-nbB", user, password]).run().success().stdout;
            fs::write(path("htpasswd"), line).expect("the world is writable");
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path("htpasswd"));
        }
        fs::write(path("config.yml"), config).expect("the world is writable");
        let mut server = world.program("docker-registry").args(["serve", &path("config.yml")]);
        let server = server.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = server.spawn().expect("the test needs it");
        let registry = Self { child, host, authority: path("authority") };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.host).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not start");
            thread::sleep(Duration::from_millis(10));
        }
        registry
    }

    /// `HOST:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The file with the certificate of who signed this registry's.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Pushes an image, as skopeo names it, with flags for skopeo; returns the reference to pull it by.
    pub fn push(&self, world: &World, image: &str, name: &str, flags: &[&str]) -> String {
        let reference = format!("{}/{name}", self.host);
        let tool = world.program("skopeo").args(["copy", "--insecure-policy", "--dest-tls-verify=false"]).args(flags);
        tool.args([image, &format!("docker://{reference}")]).run().success();
        reference
    }
}

// An authority of the test's own, and a certificate for 127.0.0.1 that it has signed.
fn make_certificates(world: &World, dir: &Path) {
    let openssl = |args: &str| {
        let elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        world.program("openssl").arg("req").args(elliptic).args(args.split(' ')).dir(dir).run().success();
    };
    openssl("-x509 -subj /CN=authority -days 2 -keyout authority.key -out authority");
    openssl("-subj /CN=registry -keyout key -out request");
    fs::write(dir.join("extensions"), "subjectAltName=IP:127.0.0.1\n").expect("the world is writable");
    let sign = "x509 -req -in request -CA authority -CAkey authority.key -days 2 -extfile extensions -out certificate";
    world.program("openssl").args(sign.split(' ')).dir(dir).run().success();
}

// Another program may take the port in between; then the registry does not start, and says so.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").to_string()
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
