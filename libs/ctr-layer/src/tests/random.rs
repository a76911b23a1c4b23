// SPDX-License-Identifier: Apache-2.0
//! Random layers, against a model, against the kernel's overlay, and cut and bent at random.

use std::collections::BTreeMap;

use super::*;

/// A small generator: xorshift64*. A failure names its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn name(&mut self) -> String {
        let depth = 1 + self.below(3);
        (0..depth).map(|_| ["a", "b", "c"][self.below(3) as usize]).collect::<Vec<_>>().join("/")
    }
}

/// What a stack of layers means, by the words of the specification: a map of names, and for each layer
/// first all that it takes away, then all that it adds.
#[derive(Clone, Default)]
struct Model(BTreeMap<String, Node>);

#[derive(Clone, PartialEq)]
enum Node {
    Directory,
    File(String),
}

#[derive(Debug)]
enum Operation {
    Directory(String),
    File(String, String),
    Whiteout(String),
    Opaque(String),
}

impl Model {
    fn remove_below(&mut self, name: &str) {
        self.0.retain(|other, _| !other.starts_with(&format!("{name}/")));
    }

    fn add(&mut self, name: &str, node: Node) {
        for (slash, _) in name.match_indices('/') {
            self.0.insert(name[..slash].to_owned(), Node::Directory);
        }
        if node != Node::Directory || self.0.get(name) != Some(&Node::Directory) {
            self.remove_below(name);
        }
        self.0.insert(name.to_owned(), node);
    }

    fn apply(&mut self, operations: &[Operation]) {
        for operation in operations {
            match operation {
                Operation::Whiteout(name) => {
                    self.remove_below(name);
                    self.0.remove(name);
                }
                Operation::Opaque(name) => self.remove_below(name),
                _ => {}
            }
        }
        for operation in operations {
            match operation {
                Operation::Directory(name) => self.add(name, Node::Directory),
                Operation::File(name, content) => self.add(name, Node::File(content.clone())),
                // A converted whiteout needs the directories above it; a deleting one does not.
                Operation::Whiteout(_) | Operation::Opaque(_) => {}
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        let line = |(name, node): (&String, &Node)| match node {
            Node::Directory => format!("{name}/"),
            Node::File(content) => format!("{name} = {content}"),
        };
        let mut lines: Vec<String> = self.0.iter().map(line).collect();
        lines.sort();
        lines
    }
}

// Operations of one layer that do not contradict one another in kind: a name is a directory or a file
// throughout, as what two entries of one name mean depends on their order.
fn operations(random: &mut Random) -> Vec<Operation> {
    let mut kinds: BTreeMap<String, bool> = BTreeMap::new();
    let mut operations = Vec::new();
    for _ in 0..random.below(9) {
        let name = random.name();
        let is_directory = random.below(2) == 0;
        let parents_fit = name.match_indices('/').all(|(slash, _)| kinds.get(&name[..slash]) != Some(&false));
        let has_children = kinds.keys().any(|other| other.starts_with(&format!("{name}/")));
        match random.below(4) {
            0 if parents_fit => operations.push(Operation::Whiteout(name)),
            1 if parents_fit && kinds.get(&name) != Some(&false) => operations.push(Operation::Opaque(name)),
            2 | 3
                if parents_fit
                    && kinds.get(&name).is_none_or(|kind| *kind == is_directory)
                    && (is_directory || !has_children) =>
            {
                for (slash, _) in name.match_indices('/') {
                    kinds.insert(name[..slash].to_owned(), true);
                }
                kinds.insert(name.clone(), is_directory);
                operations.push(match is_directory {
                    true => Operation::Directory(name),
                    false => Operation::File(name, random.below(1000).to_string()),
                });
            }
            _ => {}
        }
    }
    operations
}

fn layer(operations: &[Operation]) -> Layer {
    operations.iter().fold(Layer::default(), |layer, operation| match operation {
        Operation::Directory(name) => layer.dir(name),
        Operation::File(name, content) => layer.file(name, content),
        Operation::Whiteout(name) => match name.rsplit_once('/') {
            Some((parent, base)) => layer.file(&format!("{parent}/.wh.{base}"), ""),
            None => layer.file(&format!(".wh.{name}"), ""),
        },
        Operation::Opaque(name) => layer.file(&format!("{name}/.wh..wh..opq"), ""),
    })
}

#[test]
fn plain_directories_hold_what_the_layers_mean() {
    for seed in 1..=200_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let scratch = Scratch::create();
        let root = scratch.root("r");
        let mut model = Model::default();
        for number in 0..4 {
            let operations = operations(&mut random);
            model.apply(&operations);
            layer(&operations).apply_to(&root, Target::Flatten).unwrap();
            let mut lines = list(&root);
            lines.sort();
            assert_eq!(lines, model.lines(), "seed {seed}, layer {number}");
        }
    }
}

#[test]
fn the_kernels_overlay_shows_the_files_that_the_layers_mean() {
    needs_root!();
    for seed in 1..=100_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let scratch = Scratch::create();
        let (mut model, mut roots): (_, Vec<PathBuf>) = (Model::default(), Vec::new());
        for number in 0..4 {
            let operations = operations(&mut random);
            model.apply(&operations);
            let root = scratch.root(&number.to_string());
            let lowers: Vec<&Path> = roots.iter().rev().map(PathBuf::as_path).collect();
            layer(&operations).apply_on(&root, &lowers, OVERLAY).unwrap();
            roots.push(root);
        }
        let shown = match super::overlay::mounted(&roots) {
            Ok(shown) => shown,
            Err(error) => {
                println!("SKIP the_kernels_overlay_shows_the_files_that_the_layers_mean: no overlay: {error}");
                return;
            }
        };
        assert!(!shown.iter().any(|line| line.ends_with(" whiteout")), "seed {seed}: {shown:?}");
        // Directories that only a whiteout needed are seen too: of those, the model knows nothing.
        let files = |lines: Vec<String>| {
            let mut files: Vec<_> = lines.into_iter().filter(|line| line.contains(" = ")).collect();
            files.sort();
            files
        };
        assert_eq!(files(shown.clone()), files(model.lines()), "seed {seed}");
        for directory in model.lines().iter().filter(|line| line.ends_with('/')) {
            assert!(shown.iter().any(|line| line.trim_end_matches(" opaque") == directory), "seed {seed}: {directory}");
        }
    }
}

// Whatever the bytes are, the outcome is an error or a tree, and nothing outside of the root changes.
#[test]
fn bent_layers_end_in_an_error_or_a_tree() {
    let layer = Layer::default()
        .dir("d")
        .file("d/f", "content")
        .symlink("d/s", "../../outside")
        .hardlink("d/h", "d/f")
        .file("d/.wh.w", "")
        .add(Header::new(b'0', "x").pax("path", b"long/name").xattr("user.a", b"1").content(b"x"))
        .add(Header::new(b'0', "sparse").pax("GNU.sparse.size", b"9").pax("GNU.sparse.map", b"1,2").content(b"ab"))
        .file("d/s/e", "")
        .end();
    for seed in 1..=500_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = layer.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = [0, b'0', b'/', b'.', 0xff, random.below(256) as u8][random.below(6) as usize];
        }
        // With a right checksum, so that more than that is tried.
        for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
            let sum = block.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) });
            let sum = format!("{:06o}\0 ", sum.sum::<u32>());
            block[148..156].copy_from_slice(sum.as_bytes());
        }
        let scratch = Scratch::create();
        fs::create_dir(scratch.0.join("outside")).unwrap();
        let target = if random.below(2) == 0 { OVERLAY } else { Target::Flatten };
        let _ = apply_bytes(bytes, &scratch.root("r"), &[], target);
        let above = fs::read_dir(&scratch.0).unwrap().count();
        assert_eq!((above, list(&scratch.0.join("outside")).len()), (2, 0), "seed {seed}");
    }
}
