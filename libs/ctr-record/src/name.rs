// SPDX-License-Identifier: Apache-2.0
//! Names that become directory names: container ids and namespaces.

/// A name that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("{name:?} is not a valid {what}: {rule}")]
pub struct InvalidName {
    what: &'static str,
    name: String,
    rule: &'static str,
}

/// Checks a container id by runc's rule, bounded so that it fits a file name.
pub fn check_container_id(name: &str) -> Result<(), InvalidName> {
    check("container id", name, 200)
}

/// Checks a namespace's name.
pub fn check_namespace(name: &str) -> Result<(), InvalidName> {
    check("namespace", name, 76)
}

fn check(what: &'static str, name: &str, max: usize) -> Result<(), InvalidName> {
    let error = |rule| InvalidName { what, name: name.chars().take(100).collect(), rule };
    if name.is_empty() || name == "." || name == ".." {
        return Err(error("it must not be empty, . or .."));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+.-".contains(&b)) {
        return Err(error("only letters, digits and _ + . - may occur"));
    }
    if name.len() > max {
        return Err(error("it is too long"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_their_directory() {
        for good in ["a", "web-1", "A_b+c.d", "..."] {
            assert!(check_container_id(good).is_ok(), "{good}");
        }
        let long = "x".repeat(201);
        for bad in ["", ".", "..", "a/b", "../x", "a b", "é", "a\n", &long] {
            assert!(check_container_id(bad).is_err(), "{bad}");
        }
    }
}
