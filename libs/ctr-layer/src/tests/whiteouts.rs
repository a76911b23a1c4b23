// SPDX-License-Identifier: Apache-2.0
//! Whiteouts and opaque directories, for an overlay and in a plain directory, in every order.

use super::*;

fn opaque_mark(name: &str) -> Layer {
    Layer::default().file(&format!("{name}/.wh..wh..opq"), "")
}

fn concat(layers: &[&Layer]) -> Layer {
    Layer(layers.iter().flat_map(|layer| layer.0.iter().copied()).collect())
}

/// Applies the pieces of a layer in this order and in the opposite one: the outcome must be the same.
fn both_orders(pieces: &[Layer], check: impl Fn(Layer)) {
    check(concat(&pieces.iter().collect::<Vec<_>>()));
    check(concat(&pieces.iter().rev().collect::<Vec<_>>()));
}

/// A layer as it lies on disk, above one that has something everywhere.
fn overlay(layer: Layer) -> Vec<String> {
    let scratch = Scratch::create();
    let (low, root) = (scratch.root("low"), scratch.root("r"));
    let files = ["a/b/c", "b", "c", "d/a", "d/gone", "o/a", "o/sub/b", "x/low"];
    files.iter().fold(Layer::default(), |layer, name| layer.file(name, "")).apply_to(&low, OVERLAY).unwrap();
    layer.apply_on(&root, &[&low], OVERLAY).unwrap();
    list(&root)
}

#[test]
fn become_devices_and_attributes() {
    needs_root!();
    let layer = Layer::default().dir("d").file("d/.wh.gone", "").dir("o").file("o/.wh..wh..opq", "").file("o/f", "x");
    assert_eq!(overlay(layer), ["d/", "d/gone whiteout", "o/ opaque", "o/f = x"]);
}

#[test]
fn make_the_directory_they_are_in() {
    needs_root!();
    assert_eq!(overlay(Layer::default().file("a/b/.wh.c", "")), ["a/", "a/b/", "a/b/c whiteout"]);
    assert_eq!(overlay(opaque_mark("a/b")), ["a/", "a/b/ opaque"]);
}

#[test]
fn that_hide_nothing_leave_nothing() {
    let layer =
        Layer::default().file(".wh.none", "").file("no/where/.wh.x", "").file("b/.wh.x", "").file("d/.wh.x", "");
    assert_eq!(overlay(layer), ["d/"]);
    let layer = Layer::default().file("d", "own").file("d/.wh.gone", "").file(".wh.a", "").file("a/b/.wh.c", "");
    assert_eq!(overlay(layer), ["a whiteout", "d = own"]);
}

#[test]
fn of_any_type_are_whiteouts() {
    needs_root!();
    let layer = Layer::default()
        .dir(".wh.a")
        .symlink(".wh.b", "x")
        .hardlink(".wh.c", "nowhere")
        .add(Header::new(b'0', ".wh.d").content(b"content"));
    assert_eq!(overlay(layer), ["a whiteout", "b whiteout", "c whiteout", "d whiteout"]);
}

#[test]
fn without_a_name_are_invalid() {
    for bad in [".wh.", ".wh..", ".wh...", "d/.wh.."] {
        let scratch = Scratch::create();
        for (root, target) in [("o", OVERLAY), ("f", Target::Flatten)] {
            let line = invalid(Layer::default().file(bad, "").apply_to(&scratch.root(root), target));
            assert_eq!(line, format!("entry {bad:?}: not a valid whiteout"));
        }
    }
}

#[test]
fn never_hide_what_their_own_layer_has() {
    needs_root!();
    for (own, expected) in [
        (Layer::default().file("x", "new"), vec!["x = new"]),
        (Layer::default().symlink("x", "new"), vec!["x -> new"]),
        // The directory is new: it shows nothing of one that is below.
        (Layer::default().dir("x").file("x/y", ""), vec!["x/ opaque", "x/y = "]),
        (Layer::default().file("x/y", ""), vec!["x/ opaque", "x/y = "]),
    ] {
        both_orders(&[own, Layer::default().file(".wh.x", "")], |layer| assert_eq!(overlay(layer), expected));
    }
}

#[test]
fn in_an_opaque_directory_are_left_out() {
    needs_root!();
    let whiteouts = Layer::default().file("o/.wh.a", "").dir("o/sub").file("o/sub/.wh.b", "").file("o/keep", "");
    both_orders(&[opaque_mark("o"), whiteouts], |layer| {
        assert_eq!(overlay(layer), ["o/ opaque", "o/keep = ", "o/sub/"]);
    });
    // The same where a whiteout of the directory makes it opaque.
    let whiteouts = Layer::default().dir("o").file("o/.wh.a", "");
    both_orders(&[Layer::default().file(".wh.o", ""), whiteouts], |layer| {
        assert_eq!(overlay(layer), ["o/ opaque"]);
    });
    // Elsewhere they stay.
    both_orders(&[opaque_mark("o"), Layer::default().file("d/.wh.a", "")], |layer| {
        assert_eq!(overlay(layer), ["d/", "d/a whiteout", "o/ opaque"]);
    });
}

#[test]
fn opaque_says_nothing_of_what_is_no_directory() {
    needs_root!();
    let own = Layer::default().file("x", "own").file("b", "own");
    both_orders(&[own, opaque_mark("x"), opaque_mark("b")], |layer| assert_eq!(overlay(layer), ["b = own", "x = own"]));
    assert_eq!(overlay(Layer(opaque_mark("b").0)), [""; 0]);
}

#[test]
fn an_opaque_root_is_reported() {
    needs_root!();
    let scratch = Scratch::create();
    let root = scratch.root("r");
    let layer = Layer::default().file(".wh.a", "").file(".wh..wh..opq", "").file("b", "");
    let applied = layer.apply_to(&root, OVERLAY).unwrap();
    assert!(applied.opaque_root);
    assert_eq!(list(&root), ["b = "]);
    assert!(opaque(&root));
}

/// A plain directory with a lower layer in it.
fn lower(scratch: &Scratch) -> PathBuf {
    let root = scratch.root("r");
    Layer::default()
        .file("d/a", "low")
        .file("d/b", "low")
        .file("d/sub/c", "low")
        .file("d/sub/deep/e", "low")
        .file("f", "low")
        .symlink("s", "d")
        .apply_to(&root, Target::Flatten)
        .unwrap();
    root
}

fn flattened(layer: Layer) -> Vec<String> {
    let scratch = Scratch::create();
    let root = lower(&scratch);
    layer.apply_to(&root, Target::Flatten).unwrap();
    list(&root)
}

#[test]
fn delete_in_a_plain_directory() {
    let layer = Layer::default().file(".wh.f", "").file("d/.wh.sub", "").file(".wh.none", "").file("no/.wh.ne", "");
    assert_eq!(flattened(layer), ["d/", "d/a = low", "d/b = low", "s -> d"]);
    assert_eq!(flattened(opaque_mark("d")), ["d/", "f = low", "s -> d"]);
    assert_eq!(flattened(Layer::default().file(".wh..wh..opq", "")), [""; 0]);
    // The parent of a whiteout may be a symlink, and what it hides is never followed.
    assert_eq!(
        flattened(Layer::default().file("s/.wh.sub", "").file("s/.wh.a", "")),
        ["d/", "d/b = low", "f = low", "s -> d"]
    );
    assert!(flattened(Layer::default().file(".wh.s", "")).contains(&"d/a = low".to_owned()));
}

#[test]
fn delete_only_what_is_from_below_in_whatever_order() {
    let own = Layer::default().file("d/b", "own").file("d/sub/new", "own").dir("d/empty");
    let expected = ["d/", "d/b = own", "d/empty/", "d/sub/", "d/sub/new = own", "f = low", "s -> d"];
    both_orders(&[own.clone(), opaque_mark("d")], |layer| assert_eq!(flattened(layer), expected));
    both_orders(&[own, Layer::default().file(".wh.d", "")], |layer| assert_eq!(flattened(layer), expected));
    // The directory of this layer takes the place of the one below.
    let own = Layer::default().dir("d").file("d/x", "own");
    both_orders(&[own, Layer::default().file(".wh.d", "")], |layer| {
        assert_eq!(flattened(layer), ["d/", "d/x = own", "f = low", "s -> d"]);
    });
    let own = Layer::default().file("f", "own");
    both_orders(&[own, Layer::default().file(".wh.f", "")], |layer| {
        assert!(flattened(layer).contains(&"f = own".to_owned()));
    });
    // Once more, when it has nothing left to do.
    both_orders(&[opaque_mark("d"), opaque_mark("d/sub"), Layer::default().file(".wh.d", "")], |layer| {
        assert_eq!(flattened(layer), ["f = low", "s -> d"]);
    });
}

#[test]
fn replacing_in_a_plain_directory() {
    let layer = Layer::default().file("d", "file now").dir("f").file("s/x", "");
    // `s` led to `d`, which is a file now: the way to `s/x` is made anew.
    assert_eq!(flattened(layer), ["d/", "d/x = ", "f/", "s -> d"]);
    assert_eq!(flattened(Layer::default().dir("s").file("s/x", "")).last().unwrap(), "s/x = ");
    let layer = Layer::default().file("d/a", "new");
    assert!(flattened(layer).contains(&"d/a = new".to_owned()));
}

#[test]
fn hard_links_of_lower_layers_are_cut_by_a_new_file() {
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default().file("a", "low").hardlink("b", "a").apply_to(&root, Target::Flatten).unwrap();
    Layer::default().file("a", "new").apply_to(&root, Target::Flatten).unwrap();
    assert_eq!(list(&root), ["a = new", "b = low"]);
    Layer::default().hardlink("c", "b").apply_to(&root, Target::Flatten).unwrap();
    assert_eq!(list(&root), ["a = new", "b = low", "c = low"]);
}

// GHSA-rp3h-jf77-q9p4: each opaque mark walked all that its directory holds.
#[test]
fn ghsa_rp3h_jf77_q9p4_a_thousand_marks_are_one_walk() {
    let mut layer = Layer::default().dir("d");
    for i in 0..3000 {
        layer = layer.file(&format!("d/{i}"), "");
    }
    for _ in 0..20_000 {
        layer = layer.file("d/.wh..wh..opq", "").file(".wh.d", "");
    }
    // 3000 names looked at 40,000 times would take minutes, and the test run would be stopped.
    let scratch = Scratch::create();
    let root = lower(&scratch);
    layer.apply_to(&root, Target::Flatten).unwrap();
    assert_eq!(fs::read_dir(root.join("d")).unwrap().count(), 3000);
}
