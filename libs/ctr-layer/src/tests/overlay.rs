// SPDX-License-Identifier: Apache-2.0
//! Layers over layers: what is implied comes from below, and the kernel's overlay shows what is meant.

use std::os::unix::fs::MetadataExt;

use super::*;

/// Layers applied each to its own directory, lowest first, each with those below it.
fn stack(scratch: &Scratch, layers: &[Layer]) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let root = scratch.root(&i.to_string());
        let lowers: Vec<&Path> = roots.iter().rev().map(PathBuf::as_path).collect();
        layer.clone().apply_on(&root, &lowers, OVERLAY).unwrap();
        roots.push(root);
    }
    roots
}

fn top(layers: &[Layer]) -> Vec<String> {
    let scratch = Scratch::create();
    list(stack(&scratch, layers).last().unwrap())
}

/// The directory as the kernel shows it, or why it does not.
pub(super) fn mounted(roots: &[PathBuf]) -> Result<Vec<String>, std::io::Error> {
    let context = ctr_sys::mount::FsContext::open("overlay")?;
    let lowers: Vec<&str> = roots.iter().rev().map(|root| root.to_str().unwrap()).collect();
    context.set_string("lowerdir", &lowers.join(":"))?;
    let mount = context.mount(0)?;
    Ok(list(Path::new(&format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount)))))
}

#[test]
fn implied_parents_are_as_they_are_below() {
    needs_root!();
    let scratch = Scratch::create();
    let base = Layer::default()
        .add(Header::new(b'5', "./").mode(0o711).mtime(10))
        .add(Header::new(b'5', "etc").mode(0o2750).owner(1, 2).mtime(20).xattr("user.x", b"1"))
        .add(Header::new(b'5', "etc/conf.d").mode(0o700).mtime(30));
    let middle = Layer::default().add(Header::new(b'5', "etc").mode(0o755).owner(3, 4).mtime(40));
    let roots = stack(&scratch, &[base, middle, Layer::default().file("etc/conf.d/new", "")]);
    let shown = |path: &Path| {
        let stat = fs::metadata(path).unwrap();
        (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime())
    };
    assert_eq!(shown(&roots[2]), (0o711, 0, 0, 10));
    assert_eq!(shown(&roots[2].join("etc")), (0o755, 3, 4, 40));
    assert_eq!(shown(&roots[2].join("etc/conf.d")), (0o700, 0, 0, 30));
    let etc = File::open(roots[1].join("etc")).unwrap();
    assert_eq!(ctr_sys::xattr::get(etc.as_fd(), b"user.x").unwrap(), None);
}

#[test]
fn what_is_hidden_below_implies_nothing() {
    needs_root!();
    let base = Layer::default().add(Header::new(b'5', "d").mode(0o700)).add(Header::new(b'5', "d/e").mode(0o700));
    for hiding in [
        Layer::default().file(".wh.d", ""),
        Layer::default().file("d", ""),
        Layer::default().dir("d").file("d/.wh..wh..opq", ""),
        Layer::default().file("d/.wh.e", ""),
    ] {
        let scratch = Scratch::create();
        let roots = stack(&scratch, &[base.clone(), hiding, Layer::default().file("d/e/f", "")]);
        assert_eq!(fs::metadata(roots[2].join("d/e")).unwrap().mode() & 0o777, 0o755);
    }
    // Nor does what this layer hides itself.
    let scratch = Scratch::create();
    let roots = stack(&scratch, &[base, Layer::default().file(".wh.d", "").file("d/e/f", "")]);
    assert_eq!(list(&roots[1]), ["d/ opaque", "d/e/", "d/e/f = "]);
    assert_eq!(fs::metadata(roots[1].join("d/e")).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn a_symlink_below_is_followed_and_not_hidden() {
    let base = Layer::default()
        .dir("usr")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("usr/lib/back", "../../etc")
        .dir("etc");
    assert_eq!(top(&[base.clone(), Layer::default().file("lib/new", "")]), ["usr/", "usr/lib/", "usr/lib/new = "]);
    let back = Layer::default().file("lib/back/new", "");
    assert_eq!(top(&[base.clone(), back]), ["etc/", "etc/new = ", "usr/", "usr/lib/"]);
    // Through a symlink of this layer and one below.
    let both = Layer::default().symlink("way", "/lib/back").file("way/new", "");
    assert_eq!(top(&[base.clone(), both]), ["etc/", "etc/new = ", "usr/", "usr/lib/", "way -> /lib/back"]);
    // A directory under the symlink's own name replaces it.
    assert_eq!(top(&[base, Layer::default().dir("lib").file("lib/new", "")]), ["lib/", "lib/new = "]);
}

#[test]
fn a_symlink_loop_below_is_invalid() {
    let scratch = Scratch::create();
    let base = stack(&scratch, &[Layer::default().symlink("a", "b").symlink("b", "a")]);
    let layer = Layer::default().file("a/f", "");
    let line = invalid(layer.apply_on(&scratch.root("r"), &[&base[0]], OVERLAY));
    assert_eq!(line, r#"entry "a/f": too many symlinks on the way to it"#);
}

#[test]
fn link_targets_are_copied_up() {
    needs_root!();
    let scratch = Scratch::create();
    let base = Layer::default()
        .add(Header::new(b'5', "d").mtime(5))
        .add(Header::new(b'0', "d/f").mode(0o4711).owner(1, 2).mtime(6).xattr("user.x", b"1").content(b"low"))
        .symlink("d/s", "f")
        .add(Header::new(b'3', "d/null").device(1, 3))
        .symlink("way", "d");
    let layer = Layer::default()
        .hardlink("link", "d/f")
        .hardlink("way/other", "way/f")
        .hardlink("s", "d/s")
        .hardlink("n", "d/null");
    let roots = stack(&scratch, &[base, layer]);
    let expected =
        ["d/", "d/f = low", "d/null device 1:3", "d/other = low", "d/s -> f", "link = low", "n device 1:3", "s -> f"];
    assert_eq!(list(&roots[1]), expected);
    let stat = fs::metadata(roots[1].join("link")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime(), stat.nlink()), (0o4711, 1, 2, 6, 3));
    assert_eq!(fs::metadata(roots[1].join("d")).unwrap().mtime(), 5);
    let file = File::open(roots[1].join("link")).unwrap();
    assert_eq!(ctr_sys::xattr::get(file.as_fd(), b"user.x").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn hidden_link_targets_are_not_copied_up() {
    needs_root!();
    let base = Layer::default().dir("d").file("d/f", "low");
    for hiding in [Layer::default().file("d/.wh.f", ""), Layer::default().file("d/.wh..wh..opq", "")] {
        let scratch = Scratch::create();
        let roots = stack(&scratch, &[base.clone(), hiding.clone()]);
        let above = Layer::default().hardlink("l", "d/f");
        let line = invalid(above.clone().apply_on(&scratch.root("above"), &[&roots[1], &roots[0]], OVERLAY));
        assert_eq!(line, r#"entry "l": the link target "d/f" does not exist"#);
        let own = Layer([hiding.0, above.0].concat());
        let line = invalid(own.apply_on(&scratch.root("own"), &[&roots[0]], OVERLAY));
        assert_eq!(line, r#"entry "l": the link target "d/f" does not exist"#);
    }
}

#[test]
fn the_kernel_shows_what_the_layers_mean() {
    needs_root!();
    let scratch = Scratch::create();
    let layers = [
        Layer::default()
            .file("keep", "1")
            .file("gone", "1")
            .file("d/a", "1")
            .file("d/b", "1")
            .file("o/x", "1")
            .file("w/x", "1")
            .file("t", "1"),
        Layer::default()
            .file(".wh.gone", "")
            .file("d/.wh.a", "")
            .file("o/.wh..wh..opq", "")
            .file("o/.wh.y", "")
            .file("o/new", "2")
            .file(".wh.w", "")
            .file("w/sub/y", "2")
            .file("w/sub/.wh.z", "")
            .dir("t")
            .file("t/u", "2"),
        Layer::default().file("d/a", "3").hardlink("d/c", "keep"),
    ];
    let roots = stack(&scratch, &layers);
    let shown = match mounted(&roots) {
        Ok(shown) => shown,
        Err(error) => {
            println!("SKIP the_kernel_shows_what_the_layers_mean: no overlay: {error}");
            return;
        }
    };
    let expected = [
        "d/",
        "d/a = 3",
        "d/b = 1",
        "d/c = 1",
        "keep = 1",
        "o/",
        "o/new = 2",
        "t/",
        "t/u = 2",
        "w/",
        "w/sub/",
        "w/sub/y = 2",
    ];
    let shown: Vec<&str> = shown.iter().map(|line| line.trim_end_matches(" opaque")).collect();
    assert_eq!(shown, expected);
    let flat = scratch.root("flat");
    for layer in layers {
        layer.apply_to(&flat, Target::Flatten).unwrap();
    }
    assert_eq!(list(&flat), expected);
}

// Should this ever fail, whoever mounts layers need no longer leave out those below such a root.
#[test]
fn the_kernel_does_not_heed_an_opaque_root() {
    needs_root!();
    let scratch = Scratch::create();
    let roots =
        stack(&scratch, &[Layer::default().file("a", ""), Layer::default().file(".wh..wh..opq", "").file("b", "")]);
    match mounted(&roots) {
        Ok(shown) => assert_eq!(shown, ["a = ", "b = "]),
        Err(error) => println!("SKIP the_kernel_does_not_heed_an_opaque_root: no overlay: {error}"),
    }
}
