// SPDX-License-Identifier: Apache-2.0
//! Layers that attack, named after the advisories that taught them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

/// A directory beside the layer's root with a file that no layer may touch.
struct Victim {
    scratch: Scratch,
    outside: PathBuf,
}

impl Victim {
    fn create() -> Self {
        let scratch = Scratch::create();
        let outside = scratch.0.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "untouched").unwrap();
        fs::set_permissions(outside.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        Self { scratch, outside }
    }

    /// Applies layers in order, in both ways, and looks whether anything happened outside of the root.
    fn survives(&self, layers: &[Layer]) -> Vec<Vec<Result<Applied, Error>>> {
        let before = self.state();
        let mut results = Vec::new();
        for (name, target) in [("overlay", OVERLAY), ("flatten", Target::Flatten)] {
            let root = self.scratch.root(name);
            results.push(layers.iter().map(|layer| layer.clone().apply_to(&root, target)).collect());
            assert_eq!(self.state(), before);
            let parent = File::open(&self.scratch.0).unwrap();
            ctr_sys::tree::remove(parent, name.as_bytes()).unwrap();
        }
        assert_eq!(list(&self.scratch.0), ["outside/", "outside/secret = untouched"]);
        results
    }

    fn state(&self) -> (Vec<String>, u32, u32, i64, u64) {
        let stat = fs::metadata(self.outside.join("secret")).unwrap();
        let directory = fs::metadata(&self.outside).unwrap();
        (list(&self.outside), stat.mode(), directory.mode(), directory.mtime(), stat.nlink())
    }

    fn path(&self, name: &str) -> String {
        self.outside.join(name).to_str().unwrap().to_owned()
    }
}

fn all_fail(results: Vec<Vec<Result<Applied, Error>>>, message: &str) {
    for result in results {
        let line = invalid(result.into_iter().last().unwrap());
        assert!(line.contains(message), "{line}");
    }
}

#[test]
fn a_name_that_leads_out_is_refused_by_name() {
    let victim = Victim::create();
    for name in ["../outside/secret", "a/../../outside/secret", "/../outside/secret", "..", "a/.wh./../../../x"] {
        let results = victim.survives(&[Layer::default().file(name, "overwritten")]);
        all_fail(results, &format!("entry {name:?}: the name leads out of the layer"));
    }
    all_fail(victim.survives(&[Layer::default().file("../outside/.wh.secret", "")]), "leads out of the layer");
}

#[test]
fn a_hard_link_that_leads_out_is_refused_by_name() {
    let victim = Victim::create();
    for target in ["../outside/secret", "/../outside/secret", "a/../../outside/secret"] {
        all_fail(victim.survives(&[Layer::default().hardlink("l", target)]), "leads out of the layer");
    }
}

// CVE-2026-50163 (oras-go): the target was checked as a path in the root and linked as one of the host.
#[test]
fn cve_2026_50163_hard_links_are_made_beneath_the_root() {
    let victim = Victim::create();
    let absolute = victim.path("secret");
    all_fail(victim.survives(&[Layer::default().hardlink("l", &absolute)]), "does not exist");
    // The name of something in the working directory of this process.
    all_fail(victim.survives(&[Layer::default().hardlink("l", "Cargo.toml")]), "does not exist");
}

// CVE-2018-15664, RUSTSEC-2021-0080, CVE-2025-11395: through a symlink that the layer itself brings.
#[test]
fn rustsec_2021_0080_symlinks_lead_to_places_in_the_root() {
    let victim = Victim::create();
    let absolute = victim.path("");
    for target in [absolute.trim_end_matches('/'), "../outside", "../../../../../../../../../../", "/proc/self/root"] {
        victim.survives(&[Layer::default().symlink("out", target).file("out/secret", "overwritten")]);
        victim.survives(&[Layer::default().symlink("out", target).dir("out/new/deep")]);
        victim.survives(&[Layer::default().symlink("out", target).file("out/.wh.secret", "")]);
        victim.survives(&[Layer::default().symlink("out", target).file("out/.wh..wh..opq", "")]);
        victim.survives(&[Layer::default().symlink("out", target).hardlink("l", "out/secret")]);
        victim.survives(&[Layer::default().symlink("out", target).file("x", "").hardlink("out/l", "x")]);
        victim.survives(&[Layer::default().symlink("out", target).symlink("out/l", "x")]);
        // The same in a later layer, when the symlink is already on disk.
        victim.survives(&[Layer::default().symlink("out", target), Layer::default().file("out/secret", "overwritten")]);
        victim.survives(&[Layer::default().symlink("out", target), Layer::default().file("out/.wh..wh..opq", "")]);
        victim.survives(&[Layer::default().symlink("a", target).symlink("b", "a/..").file("b/outside/secret", "x")]);
    }
}

// RUSTSEC-2018-0002 (tar): a link, then a file of the same name, which is written through the link.
#[test]
fn rustsec_2018_0002_a_file_is_never_written_through_a_link() {
    let victim = Victim::create();
    let secret = victim.path("secret");
    for results in victim.survives(&[Layer::default().symlink("l", &secret).file("l", "overwritten")]) {
        assert!(results[0].is_ok());
    }
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default().file("a", "first").hardlink("b", "a").file("b", "second").apply_to(&root, OVERLAY).unwrap();
    assert_eq!(list(&root), ["a = first", "b = second"]);
}

// CVE-2026-33056 (tar), CVE-2021-32760 (containerd): a directory of a symlink's name, whose mode,
// owner and times are then given to what the symlink leads to.
#[test]
fn cve_2026_33056_metadata_never_follows_a_symlink() {
    let victim = Victim::create();
    let outside = victim.path("");
    let outside = outside.trim_end_matches('/');
    let directory = || Header::new(b'5', "l").mode(0o777).mtime(7);
    for layers in [
        vec![Layer::default().symlink("l", outside).add(directory())],
        vec![Layer::default().symlink("l", outside), Layer::default().add(directory())],
        vec![Layer::default().add(directory()).symlink("l", outside)],
        vec![Layer::default().add(Header::new(b'2', "l").target(outside).mode(0o777).mtime(7))],
        vec![Layer::default().symlink("l", outside).add(Header::new(b'6', "l").mode(0o777))],
    ] {
        victim.survives(&layers);
    }
}

// CVE-2021-29136 (umoci): the root itself becomes a symlink, and the next layer is applied elsewhere.
#[test]
fn cve_2021_29136_the_root_stays_a_directory() {
    let victim = Victim::create();
    let outside = victim.path("");
    for name in [".", "/", "./", "", "/.", "x/.."] {
        for header in [
            Header::new(b'2', name).target(&outside),
            Header::new(b'1', name).target("x"),
            Header::new(b'0', name).content(b"x"),
            Header::new(b'6', name),
        ] {
            let results = victim.survives(&[Layer::default().add(header)]);
            all_fail(results, "the root of the layer can only be a directory");
        }
    }
}

// CVE-2025-62518 (tokio-tar) and CVE-2026-33055 (tar): the size in a PAX record against that of the
// header. Where the two differ, a reader that takes the wrong one finds other entries than Go does.
#[test]
fn cve_2025_62518_the_size_of_pax_always_wins() {
    for header_size in [0, 512, 1024, 5] {
        let inner = Layer::default().file("smuggled", "!").0;
        let mut header = Header::new(b'0', "outer").pax("size", inner.len().to_string().as_bytes()).content(&inner);
        header.block.set_size(header_size);
        let scratch = Scratch::create();
        let root = scratch.root("r");
        Layer::default().add(header).file("after", "").apply_to(&root, OVERLAY).unwrap();
        let names: Vec<_> = list(&root).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(names, ["after", "outer"], "header size {header_size}");
        assert_eq!(fs::read(root.join("outer")).unwrap(), inner);
    }
}

// GHSA-3cv2-h65g-fgmm and RUSTSEC-2026-0112 (tar, tokio-tar): PAX records applied to the extension
// header between them and their file.
#[test]
fn rustsec_2026_0112_pax_is_of_the_next_file_only() {
    let scratch = Scratch::create();
    let root = scratch.root("r");
    let pax = Header::new(b'0', "").pax("size", b"3").pax("mtime", b"7").pax;
    Layer::default()
        .add(Header::new(b'x', "PaxHeaders").content(&pax))
        .add(Header::new(b'L', "././@LongLink").content(b"a-name-of-28-bytes-as-it-is\0"))
        .add(Header::new(b'0', "short").content(b"abc"))
        .add(Header::new(b'0', "next").content(b"12345"))
        .apply_to(&root, OVERLAY)
        .unwrap();
    assert_eq!(list(&root), ["a-name-of-28-bytes-as-it-is = abc", "next = 12345"]);
    assert_eq!(fs::metadata(root.join("a-name-of-28-bytes-as-it-is")).unwrap().mtime(), 7);
    assert_eq!(fs::metadata(root.join("next")).unwrap().mtime(), 1_600_000_000);
}

// CVE-2023-25153 and the like: memory as an image asks for it.
#[test]
fn extended_headers_are_bounded() {
    for type_flag in [b'x', b'L', b'K'] {
        let mut header = Header::new(type_flag, "big");
        header.block.set_size(u64::from(u32::MAX));
        let scratch = Scratch::create();
        let line = invalid(Layer::default().add(header).apply_to(&scratch.root("r"), OVERLAY));
        assert!(line.ends_with("the extended headers are larger than the limit of 1048576 bytes"), "{line}");
    }
}

#[test]
fn sizes_that_are_none_are_invalid() {
    let mut negative = Header::new(b'0', "f");
    negative.block.as_old_mut().size = [0xff; 12];
    let mut huge = Header::new(b'0', "f");
    huge.block.as_old_mut().size = *b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff";
    let mut endless = Header::new(b'0', "f");
    endless.block.as_old_mut().size = *b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    let records = ["-1", "9223372036854775808", "1e3", " 1"];
    let pax = records.map(|size| Header::new(b'0', "f").pax("size", size.as_bytes()));
    for header in [negative, huge, endless].into_iter().chain(pax) {
        let scratch = Scratch::create();
        invalid(Layer::default().add(header).apply_to(&scratch.root("r"), OVERLAY));
    }
}

// A whiteout must not be a way out either, nor may one hide the directory it is in.
#[test]
fn whiteouts_stay_where_they_are() {
    let victim = Victim::create();
    for name in [".wh..", ".wh...", "a/.wh..", ".wh."] {
        all_fail(victim.survives(&[Layer::default().file(name, "")]), "not a valid whiteout");
    }
}

// Directories deeper than there are descriptors, made through a symlink that saves the long names.
#[test]
fn depth_without_end_is_invalid_and_no_crash() {
    let mut layer = Layer::default();
    let step = ["d"; 1000].join("/");
    let mut at = String::new();
    for i in 0..6 {
        layer = layer.file(&format!("{at}{step}/f"), "");
        layer = layer.symlink(&format!("s{i}"), &format!("{at}{step}"));
        at = format!("s{i}/");
    }
    let layer = layer.file("s5/.wh..wh..opq", "").file("d/.wh..wh..opq", "").file(".wh.x", "");
    for target in [OVERLAY, Target::Flatten] {
        let scratch = Scratch::create();
        let low = scratch.root("low");
        Layer::default().file("x", "").apply_to(&low, target).unwrap();
        let line = invalid(layer.clone().apply_on(&scratch.root("r"), &[&low], target));
        assert!(line.ends_with(": directories are nested too deep"), "{line}");
    }
}

// What the kernel refuses is told with the entry's name, and is the layer's fault.
#[test]
fn names_that_no_file_system_holds_are_invalid() {
    let scratch = Scratch::create();
    let name = "n".repeat(256);
    let line = invalid(Layer::default().file(&name, "").apply_to(&scratch.root("r"), OVERLAY));
    assert!(line.starts_with("entry \"nnnn") && line.len() < 320, "{line}");
}
