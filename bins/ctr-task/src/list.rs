// SPDX-License-Identifier: Apache-2.0
//! `list`: all containers of a namespace, from their files alone.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use ctr_cli::{Context, Error};
use ctr_record::{TaskStatus, Timestamp};
use ctr_store::task::{Exit, Task, TaskError, TaskState};
use serde::Serialize;

use crate::store::Store;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As a table or as JSON lines [default: a table at a terminal]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Print ids only
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// A container as it is listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    pub(crate) id: String,
    /// 0 once it is gone.
    pub(crate) pid: i32,
    pub(crate) status: TaskStatus,
    /// Whether its supervisor lives, or lived to see its end.
    pub(crate) supervised: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<Timestamp>,
    #[serde(flatten)]
    pub(crate) exit: Option<Exit>,
}

impl Listed {
    /// A task as it is now.
    pub(crate) fn of(task: &Task, state: TaskState) -> Self {
        let running = matches!(state.status, TaskStatus::Running | TaskStatus::Paused);
        Self {
            id: task.file().id.clone(),
            pid: task.file().process.filter(|_| running).map_or(0, |process| process.pid),
            status: state.status,
            supervised: state.supervised || state.exit.is_some(),
            started_at: task.file().started_at,
            exit: state.exit,
        }
    }
}

pub(crate) fn list(store: &Store, args: &Args) -> Result<ExitCode, Error> {
    let ids = store.tasks.ids()?;
    let stdout = io::stdout();
    if args.quiet {
        let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
        stdout.lock().write_all(lines.as_bytes()).unable_to(|| "write to standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut listed = Vec::with_capacity(ids.len());
    let code = crate::store::for_each(&ids, |id| {
        match store.tasks.open(id) {
            Err(TaskError::NotFound { .. }) => {} // deleted since
            task => {
                let task = task?;
                let state = task.state()?;
                listed.push(Listed::of(&task, state));
            }
        }
        Ok(())
    });
    let default = if stdout.is_terminal() { Format::Table } else { Format::Json };
    let text = match args.format.unwrap_or(default) {
        Format::Table => table(&listed),
        Format::Json => json_lines(&listed),
    };
    stdout.lock().write_all(text.as_bytes()).unable_to(|| "write to standard output")?;
    Ok(code)
}

fn json_lines(listed: &[Listed]) -> String {
    let line = |row: &Listed| serde_json::to_string(row).expect("a row has only string keys") + "\n";
    listed.iter().map(line).collect()
}

fn table(listed: &[Listed]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "EXIT", "STARTED"].map(str::to_owned)];
    rows.extend(listed.iter().map(|row| {
        let status = match row.status {
            TaskStatus::Running if !row.supervised => "running, unsupervised",
            status => status.as_str(),
        };
        [
            row.id.clone(),
            if row.pid == 0 { "-".to_owned() } else { row.pid.to_string() },
            status.to_owned(),
            row.exit.as_ref().map_or("-".to_owned(), |exit| exit.exit_status.to_string()),
            row.started_at.map_or("-".to_owned(), |time| time.to_string()[..19].to_owned() + "Z"),
        ]
    }));
    let widths: Vec<usize> = (0..5).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_aligned_columns_and_json_a_line_each() {
        let row = |id: &str, pid, status| Listed {
            id: id.into(),
            pid,
            status,
            supervised: true,
            started_at: None,
            exit: None,
        };
        let mut rows = [row("a", 123, TaskStatus::Running), row("long-name", 0, TaskStatus::Stopped)];
        rows[1].exit = Some(Exit {
            exit_status: 137,
            exited_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            signal: Some(9),
            oom_killed: false,
            dropped_bytes: 0,
        });
        let expected = "\
ID         PID  STATUS   EXIT  STARTED
a          123  running  -     -
long-name  -    stopped  137   -
";
        assert_eq!(table(&rows), expected);
        let lines = json_lines(&rows);
        let second: serde_json::Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
        assert_eq!((&second["exitStatus"], &second["signal"]), (&137.into(), &9.into()));
    }
}
