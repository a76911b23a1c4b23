// SPDX-License-Identifier: Apache-2.0
//! Records in from standard input, records out to standard output.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

use ctr_record::{ErrorKind, Record};
use serde::Serialize;

use crate::{Context, Error, StateArgs, render};

/// The longest record: an image of 10,000 layers fits, a stream of noise does not fill the memory.
const MAX_LINE: u64 = 16 << 20;

/// The records on standard input, one a line; empty lines are skipped.
pub fn read_records() -> Result<impl Iterator<Item = Result<Record, Error>>, Error> {
    Ok(read_lines("a record")?.map(|line| Ok(Record::parse(&line?)?)))
}

/// The lines on standard input, for tools that take other things than records too; empty ones are skipped.
pub fn read_lines(expected: &'static str) -> Result<impl Iterator<Item = Result<String, Error>>, Error> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Error::misuse(format!("{expected} is expected on standard input, which is a terminal")));
    }
    Ok(lines(stdin.lock()).map(|line| line.unable_to(|| "read standard input")))
}

/// The one record on standard input; more or fewer are an error.
pub fn single_record() -> Result<Record, Error> {
    let mut records = read_records()?;
    let record = records.next().ok_or_else(no_record)??;
    match records.next() {
        None => Ok(record),
        Some(_) => Err(Error::new(ErrorKind::Invalid, "more than one record on standard input")
            .with_hint("ctr-sched COMMAND runs a command once per record")),
    }
}

/// What a tool says that was to be given a record and got none.
pub fn no_record() -> Error {
    Error::new(ErrorKind::Invalid, "no record on standard input").with_hint("the tool before this one may have failed")
}

/// Passes each record on standard input through `filter` and prints the result, in order.
///
/// A record that fails is reported and left out; the others go on. The exit code is the first failure's.
/// No record at all is a failure too: most shells keep only the status of a pipeline's last program, so the
/// failure of the first one has to travel down.
pub fn filter_records(
    tool: &str,
    state: &StateArgs,
    mut filter: impl FnMut(Record) -> Result<Vec<Record>, Error>,
) -> Result<ExitCode, Error> {
    let mut code = ExitCode::SUCCESS;
    let mut records = read_records()?.peekable();
    if records.peek().is_none() {
        return Err(no_record());
    }
    for record in records {
        let results = record.and_then(|record| {
            state.check(&record)?;
            filter(record)
        });
        match results {
            Ok(records) => records.iter().try_for_each(emit)?,
            Err(error) => {
                let failed = render(tool, &error);
                code = if code == ExitCode::SUCCESS { failed } else { code };
            }
        }
    }
    Ok(code)
}

/// Prints a value as one line of JSON, at once: the next tool may be waiting for it.
pub fn emit<T: Serialize>(value: &T) -> Result<(), Error> {
    let mut line = serde_json::to_vec(value).expect("what is printed has only string keys");
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&line).and_then(|()| stdout.flush()).unable_to(|| "write to standard output")
}

fn lines(mut input: impl BufRead) -> impl Iterator<Item = std::io::Result<String>> {
    // After a failed read there is no telling where the next line begins.
    let mut failed = false;
    std::iter::from_fn(move || {
        while !failed {
            let mut line = String::new();
            match input.by_ref().take(MAX_LINE).read_line(&mut line) {
                Err(error) => {
                    failed = true;
                    return Some(Err(error));
                }
                Ok(0) => return None,
                Ok(n) if n as u64 == MAX_LINE && !line.ends_with('\n') => {
                    failed = true;
                    let message = "a line is longer than 16 MiB";
                    return Some(Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message)));
                }
                Ok(_) if line.trim().is_empty() => {}
                Ok(_) => return Some(Ok(line)),
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_are_skipped_and_the_last_needs_no_newline() {
        let all: Vec<String> = lines(&b"\na\n\n \nb"[..]).map(Result::unwrap).collect();
        assert_eq!(all, ["a\n", "b"]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let noise = std::io::BufReader::new(std::io::repeat(b'x'));
        let mut lines = lines(noise);
        assert!(lines.next().unwrap().is_err());
        assert!(lines.next().is_none());
    }
}
