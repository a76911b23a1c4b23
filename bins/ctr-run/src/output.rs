// SPDX-License-Identifier: Apache-2.0
//! What the verbs print.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

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

/// What `look` sees of the containers that can be read. A state root that nobody named and that is not there has none.
pub(crate) fn survey<T: Send>(
    root: &Path,
    named: bool,
    look: impl Fn(Container) -> T + Sync,
) -> Result<impl Iterator<Item = T>, Error> {
    let seen = match Container::survey(root, look) {
        Err(error @ RuntimeError::Io { .. }) if error.kind() == ErrorKind::NotFound && !named => Vec::new(),
        result => result?,
    };
    // One that cannot be read is told, and does not hide the others.
    let readable = |seen: Result<T, RuntimeError>| seen.map_err(|error| ctr_cli::render("ctr-run", &error.into())).ok();
    Ok(seen.into_iter().filter_map(readable))
}

/// Lists the containers.
pub(crate) fn list(root: &Path, named: bool, args: &List) -> Result<(), Error> {
    if args.quiet {
        let lines = survey(root, named, |container| container.state().id.clone() + "\n")?;
        return print(&lines.collect::<String>());
    }
    let owners = Mutex::new(Owners::default());
    let owners = || owners.lock().unwrap_or_else(PoisonError::into_inner);
    if args.format == "json" {
        let states = survey(root, named, |container| {
            let owner = owners().name(container.state().owner).to_owned();
            container.to_json(&owner)
        })?;
        let states: Vec<Value> = states.collect();
        // As runc, which prints a nil slice.
        let value = if states.is_empty() { Value::Null } else { json!(states) };
        return print(&(value.to_string() + "\n"));
    }
    let title = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = survey(root, named, |container| {
        let ((status, pid), state) = (container.status_and_pid(), container.state());
        let (bundle, created) = (state.bundle.display().to_string(), state.created.to_string());
        let owner = owners().name(state.owner).to_owned();
        [state.id.clone(), pid.to_string(), status.as_str().to_owned(), bundle, created, owner]
    })?;
    print(&table(&std::iter::once(title).chain(rows).collect::<Vec<_>>()))
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
