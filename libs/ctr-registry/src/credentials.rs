// SPDX-License-Identifier: Apache-2.0
//! Whose name and password a registry is shown: a login given by the caller, or the files in which
//! podman and docker keep theirs, and the helpers that these name.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ctr_record::Reference;
use serde::Deserialize;

use crate::{Error, base64, helper};

const FILE_LIMIT: u64 = 1 << 20;

/// Where to look for credentials.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    given: Option<(String, Login)>,
    files: Vec<PathBuf>,
    // Named by the user, so its absence is an error.
    required: bool,
}

/// What proves who one is.
#[derive(Clone, PartialEq)]
pub(crate) enum Login {
    /// A name and a password.
    Password { user: String, password: String },
    /// What the token server takes in place of both.
    IdentityToken(String),
    /// What the registry takes as it is.
    RegistryToken(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Credentials {
    /// No credentials at all.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Those of the user's files: `$REGISTRY_AUTH_FILE` alone if it is set, else podman's
    /// `containers/auth.json` below `$XDG_RUNTIME_DIR` and `$XDG_CONFIG_HOME`, then docker's
    /// `config.json` in `$DOCKER_CONFIG` or `~/.docker`. They are read when a registry asks for them.
    pub fn from_env() -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(file) = set("REGISTRY_AUTH_FILE") {
            return Self { given: None, files: vec![file], required: true };
        }
        let home = set("HOME");
        let below_home = |path| home.as_ref().map(|home| home.join(path));
        let runtime = set("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
        let config = set("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let config = config.map(|dir| dir.join("containers/auth.json"));
        let docker = set("DOCKER_CONFIG").or_else(|| below_home(".docker")).map(|dir| dir.join("config.json"));
        Self { given: None, files: [runtime, config, docker].into_iter().flatten().collect(), required: false }
    }

    /// Adds a login for one registry, named as in [`Reference::domain`]. It is tried before any file.
    pub fn with_login(mut self, domain: &str, user: &str, password: &str) -> Self {
        self.given = Some((domain.to_owned(), Login::new(user, password)));
        self
    }

    /// The login for a reference's registry. Reads files and may run a helper, so it may block.
    pub(crate) fn find(&self, reference: &Reference) -> Result<Option<Login>, Error> {
        if let Some((domain, login)) = &self.given
            && domain == reference.domain()
        {
            return Ok(Some(login.clone()));
        }
        for path in &self.files {
            let error = |source| Error::CredentialsFile { path: path.clone(), source };
            let file = match read(path) {
                Ok(text) => serde_json::from_slice::<AuthFile>(&text)
                    .map_err(|e| error(io::Error::new(io::ErrorKind::InvalidData, e)))?,
                Err(e) if e.kind() == io::ErrorKind::NotFound && !self.required => continue,
                Err(e) => return Err(error(e)),
            };
            if let Some(login) = file.find(reference)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_LIMIT).read_to_end(&mut text)?;
    Ok(text)
}

impl Login {
    /// A helper's or file's pair; the name `<token>` marks an identity token.
    pub(crate) fn new(user: &str, password: &str) -> Self {
        match user {
            "<token>" => Self::IdentityToken(password.to_owned()),
            user => Self::Password { user: user.to_owned(), password: password.to_owned() },
        }
    }
}

// docker's config.json and podman's auth.json, which is the same with finer keys.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Option<Entry>>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl AuthFile {
    fn find(&self, reference: &Reference) -> Result<Option<Login>, Error> {
        let domain = reference.domain();
        // Helpers and docker's files know Docker Hub by the address of its first API.
        let server = if domain == "docker.io" { "https://index.docker.io/v1/" } else { domain };
        let named = self.cred_helpers.get(domain).or_else(|| self.cred_helpers.get(server));
        if let Some(helper) = named {
            return helper::get(helper, server);
        }
        if let Some(login) = self.auths_entry(reference).and_then(Entry::login) {
            return Ok(Some(login));
        }
        match self.creds_store.as_str() {
            "" => Ok(None),
            store => helper::get(store, server),
        }
    }

    // The most specific key wins: registry/namespace/image, registry/namespace, registry.
    fn auths_entry(&self, reference: &Reference) -> Option<&Entry> {
        let full = format!("{}/{}", reference.domain(), reference.path());
        let mut name = full.as_str();
        loop {
            if let Some(Some(entry)) = self.auths.get(name) {
                return Some(entry);
            }
            match name.rsplit_once('/') {
                Some((parent, _)) => name = parent,
                None => break,
            }
        }
        self.auths.iter().find(|(key, _)| registry_of(key) == reference.domain()).and_then(|(_, entry)| entry.as_ref())
    }
}

// The registry that a key in docker's form names: https://HOST/v1/.
fn registry_of(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let host = match bare {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key,
    };
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

impl Entry {
    fn login(&self) -> Option<Login> {
        if !self.registrytoken.is_empty() {
            return Some(Login::RegistryToken(self.registrytoken.clone()));
        }
        if !self.identitytoken.is_empty() {
            return Some(Login::IdentityToken(self.identitytoken.clone()));
        }
        if self.auth.is_empty() {
            return (!self.username.is_empty()).then(|| Login::new(&self.username, &self.password));
        }
        let pair = String::from_utf8(base64::decode(&self.auth)?).ok()?;
        let (user, password) = pair.split_once(':')?;
        Some(Login::new(user, password.trim_end_matches('\0')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"auths":{
        "https://index.docker.io/v1/":{"auth":"aHViOnNlY3JldA=="},
        "r.example":{"auth":"cjpvbmU="},
        "r.example/team":{"auth":"cjp0d286Mw"},
        "https://s.example/v2/":{"username":"s","password":"four"},
        "t.example":{"identitytoken":"idt","auth":"PHRva2VuPjo="},
        "u.example":{},
        "v.example":null}}"#;

    fn find(reference: &str) -> Option<Login> {
        let file: AuthFile = serde_json::from_str(FILE).unwrap();
        file.find(&reference.parse().unwrap()).unwrap()
    }

    fn password(user: &str, password: &str) -> Option<Login> {
        Some(Login::Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn the_most_specific_entry_wins() {
        assert_eq!(find("redis"), password("hub", "secret"));
        assert_eq!(find("r.example/app"), password("r", "one"));
        assert_eq!(find("r.example/team/app"), password("r", "two:3"));
        assert_eq!(find("r.example/teamster/app"), password("r", "one"));
        assert_eq!(find("s.example/app"), password("s", "four"));
        assert_eq!(find("t.example/app"), Some(Login::IdentityToken("idt".to_owned())));
    }

    #[test]
    fn another_host_gets_nothing() {
        for reference in ["r.example:5000/app", "a.r.example/app", "u.example/app", "v.example/app", "example/app:1"] {
            let expected = if reference.starts_with("example") { password("hub", "secret") } else { None };
            assert_eq!(find(reference), expected, "{reference}");
        }
    }

    #[test]
    fn a_given_login_is_for_its_registry_only() {
        let credentials = Credentials::anonymous().with_login("r.example", "u", "p");
        assert_eq!(credentials.find(&"r.example/app".parse().unwrap()).unwrap(), password("u", "p"));
        assert_eq!(credentials.find(&"s.example/app".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn logins_are_not_printed() {
        let credentials = Credentials::anonymous().with_login("r.example", "u", "hunter2");
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let files = vec![PathBuf::from("/nonexistent/auth.json")];
        let reference: Reference = "r.example/app".parse().unwrap();
        let named = Credentials { given: None, files: files.clone(), required: true };
        assert!(matches!(named.find(&reference), Err(Error::CredentialsFile { .. })));
        let usual = Credentials { given: None, files, required: false };
        assert!(usual.find(&reference).unwrap().is_none());
    }
}
