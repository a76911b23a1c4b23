// SPDX-License-Identifier: Apache-2.0
//! What the verbs print.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use ctr_cli::{Context, Error};
use ctr_record::{Classify, ErrorKind};
use ctr_runtime::{Container, Owners, RuntimeError};
use serde_json::{Value, json};

use crate::args::{List, Ps};

/// Prints JSON for people and programs: indented.
pub(crate) fn print_json(value: &Value) -> Result<(), Error> {
    print(&(serde_json::to_string_pretty(value).expect("string keys") + "\n"))
}

fn print(text: &str) -> Result<(), Error> {
    std::io::stdout().write_all(text.as_bytes()).unable_to(|| "write to standard output")
}

/// The containers that can be read. A state root that nobody named and that is not there has none.
pub(crate) fn containers(root: &Path, named: bool) -> Result<impl Iterator<Item = Container>, Error> {
    let containers = match Container::list(root) {
        Err(error @ RuntimeError::Io { .. }) if error.kind() == ErrorKind::NotFound && !named => None,
        result => Some(result?),
    };
    // One that cannot be read is told, and does not hide the others.
    let readable = |container: Result<Container, RuntimeError>| {
        container.map_err(|error| ctr_cli::render("ctr-run", &error.into())).ok()
    };
    Ok(containers.into_iter().flatten().filter_map(readable))
}

/// Lists the containers.
pub(crate) fn list(root: &Path, named: bool, args: &List) -> Result<(), Error> {
    let containers = containers(root, named)?;
    if args.quiet {
        return print(&containers.map(|container| container.state().id.clone() + "\n").collect::<String>());
    }
    let mut owners = Owners::default();
    if args.format == "json" {
        let states: Vec<Value> = containers.map(|container| container.to_json(&mut owners)).collect();
        // As runc, which prints a nil slice.
        let value = if states.is_empty() { Value::Null } else { json!(states) };
        return print(&(value.to_string() + "\n"));
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for container in containers {
        let ((status, pid), state) = (container.status_and_pid(), container.state());
        let (bundle, created) = (state.bundle.display().to_string(), state.created.to_string());
        let owner = owners.name(state.owner).to_owned();
        rows.push([state.id.clone(), pid.to_string(), status.as_str().to_owned(), bundle, created, owner]);
    }
    print(&table(&rows))
}

fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(11);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$} "));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Lists a container's processes: their pids, or what ps says of them.
pub(crate) fn processes(container: &Container, args: &Ps) -> Result<(), Error> {
    let pids = container.pids()?;
    if args.format == "json" {
        return print(&(json!(pids).to_string() + "\n"));
    }
    let default = ["-ef".to_owned()];
    let options = args.words.get(1..).filter(|options| !options.is_empty()).unwrap_or(&default);
    let output = Command::new("ps").args(options).output().unable_to(|| "run ps")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(ErrorKind::Failed, format!("ps failed: {}", why.trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| Error::misuse("ps prints no column PID with these options"))?;
    let of_container = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let kept: Vec<&str> = std::iter::once(title).chain(lines.filter(of_container)).collect();
    print(&(kept.join("\n") + "\n"))
}
