// SPDX-License-Identifier: Apache-2.0
//! The command line: runc's, and that of the pipeline.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, FromArgMatches, Parser, Subcommand};
use ctr_cli::StateArgs;
use ctr_runtime::cgroup::Manager;

use crate::called;
use crate::criu::{Checkpoint, Restore};
use crate::events::Events;
use crate::update::Update;

/// Open Container Initiative runtime, and the end of the ctr pipeline
///
/// Without a command, ctr-run reads a record from standard input and runs its bundle in the foreground.
#[derive(Debug, Parser)]
#[command(name = "ctr-run", display_name = called::name(), version = version(), disable_version_flag = true)]
#[command(max_term_width = 100, help_template = called::help("- {about-with-newline}"))]
#[command(mut_arg("state_dir", |arg| arg.global(false)), mut_arg("namespace", |arg| arg.global(false)))]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Print version
    #[arg(short = 'V', short_alias = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

// The later lines are what callers of runc and crun look for.
fn version() -> String {
    // The commit, where scripts/build knows it.
    let commit = option_env!("CTR_COMMIT").filter(|commit| !commit.is_empty());
    let commit = commit.map(|commit| format!("\ncommit: {commit}")).unwrap_or_default();
    let features = "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +JSON";
    format!("version {}{commit}\nspec: 1.3.0\n{features}", env!("CARGO_PKG_VERSION"))
}

#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Directory of the containers' states [default: $CTR_RUN_ROOT, /run/ctr-run]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Write messages to a file as well, or to journald:NAME or syslog:NAME
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Form of the messages there: text or json
    #[arg(long, value_name = "FORM", default_value = "text", value_parser = ["text", "json"])]
    pub(crate) log_format: String,
    /// Which messages: error, warning, info or debug
    #[arg(long, value_name = "LEVEL", value_parser = ["error", "warning", "info", "debug"])]
    pub(crate) log_level: Option<String>,
    /// Log what is done, as --log-level debug does
    #[arg(long)]
    pub(crate) debug: bool,
    /// Print where the time went as JSON on standard error, at the end
    #[arg(long)]
    pub(crate) timing: bool,
    /// Who makes the containers' cgroups: cgroupfs, systemd or disabled [default: cgroupfs]
    #[arg(long, value_name = "MANAGER", value_parser = ["cgroupfs", "systemd", "disabled"])]
    pub(crate) cgroup_manager: Option<String>,
    /// The same as --cgroup-manager systemd
    #[arg(long, overrides_with = "cgroup_manager")]
    pub(crate) systemd_cgroup: bool,
    /// Accepted for compatibility; it is detected
    #[arg(long, value_name = "MODE", hide = true)]
    pub(crate) rootless: Option<String>,
}

impl Global {
    /// Who is to make a container's cgroup.
    pub(crate) fn manager(&self) -> Manager {
        let named = self.cgroup_manager.as_deref().and_then(Manager::parse);
        named.unwrap_or(if self.systemd_cgroup { Manager::Systemd } else { Manager::default() })
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Pipeline {
    #[command(flatten)]
    pub(crate) state: StateArgs,
    /// Read the record from a file, and leave standard input to the container
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Remove the bundle when the container has ended
    #[arg(long)]
    pub(crate) rm: bool,
}

impl Pipeline {
    /// An option of these that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        [
            ("--state-dir", self.state.state_dir.is_some()),
            ("--namespace", self.state.namespace.is_some()),
            ("--record", self.record.is_some()),
            ("--rm", self.rm),
        ]
        .into_iter()
        .find_map(|(option, given)| given.then_some(option))
    }
}

thread_local! {
    // The one command to know, while there is one.
    static ONLY: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Calls a function to which no other command is known than the first one that is named among the words.
pub(crate) fn with_only_command<T>(words: &[OsString], parse: impl FnOnce() -> T) -> T {
    ONLY.set(words.iter().skip(1).find_map(|word| Command::NAMES.iter().find(|name| word == **name)).copied());
    let result = parse();
    ONLY.set(None);
    result
}

// The options of a command are set out only when it is the one that was given: those of all the others
// would take longer than everything else before a start.
macro_rules! commands {
    ($($name:ident($args:ty): $word:literal, $about:literal;)+) => {
        #[derive(Debug)]
        pub(crate) enum Command {
            $(#[doc = $about] $name($args),)+
        }

        impl Command {
            const NAMES: &[&str] = &[$($word),+];
        }

        impl Subcommand for Command {
            fn augment_subcommands(mut program: clap::Command) -> clap::Command {
                let only = ONLY.get();
                $(if only.is_none_or(|only| only == $word) {
                    program = program.subcommand(clap::Command::new($word).about($about).defer(|command| {
                        let command = <$args as clap::Args>::augment_args(command).about($about);
                        command.help_template(called::help(concat!($word, " - ", $about, "\n")))
                    }));
                })+
                program
            }

            fn augment_subcommands_for_update(program: clap::Command) -> clap::Command {
                Self::augment_subcommands(program)
            }

            fn has_subcommand(name: &str) -> bool {
                matches!(name, $($word)|+)
            }
        }

        impl FromArgMatches for Command {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                match matches.subcommand() {
                    $(Some(($word, given)) => <$args>::from_arg_matches(given).map(Self::$name),)+
                    _ => Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand)),
                }
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                Self::from_arg_matches(matches).map(|command| *self = command)
            }
        }
    };
}

commands! {
    Create(Create): "create", "Create a container; start runs its program";
    Start(Id): "start", "Run the program of a created container";
    State(Id): "state", "Print a container's state as JSON";
    Kill(Kill): "kill", "Send a signal to a container's first process";
    Delete(Delete): "delete", "Delete a container that does not run";
    Run(Run): "run", "Create a container and run its program";
    Exec(Exec): "exec", "Execute another process in a container";
    List(List): "list", "List the containers";
    Ps(Ps): "ps", "List a container's processes";
    Pause(Id): "pause", "Freeze a container's processes";
    Resume(Id): "resume", "Thaw a container's processes";
    Update(Update): "update", "Change a container's limits";
    Events(Events): "events", "Print what a container uses, and when it runs out of memory, as lines of JSON";
    Mounts(Mounts): "mounts", "Give a running container mounts, or take them away";
    Checkpoint(Checkpoint): "checkpoint", "Write a container to images, and end it";
    Restore(Restore): "restore", "Make a container of the images of a checkpoint";
    Spec(Spec): "spec", "Write a config.json to begin with";
    Features(Features): "features", "Print what this runtime can do as JSON";
    Plan(Plan): "plan", "Print what create would do as JSON, and do nothing";
}

#[derive(Debug, clap::Args)]
pub(crate) struct Features {}

#[derive(Debug, clap::Args)]
pub(crate) struct Id {
    /// The container's id
    pub(crate) id: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Mounts {
    /// add or remove
    #[arg(value_name = "ACTION", value_parser = ["add", "remove"])]
    pub(crate) action: String,
    /// The container's id
    pub(crate) id: String,
    /// File with the mounts as JSON, as config.json has them
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The container's id
    pub(crate) id: String,
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Config to take instead of the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Unix socket that is sent the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Unix socket that is sent a descriptor of the first process
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// File that is written the pid of the first process
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Move the root over / instead of pivoting to it, for roots on a ramdisk
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Pass N descriptors from 3 up to the container
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Return once the program runs
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keep the container when it has ended
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do not adopt orphaned processes of the container
    #[arg(long)]
    pub(crate) no_subreaper: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Kill {
    /// The container's id
    pub(crate) id: String,
    /// Name or number of the signal
    #[arg(default_value = "TERM")]
    pub(crate) signal: String,
    /// Signal all processes of the container
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Signal all containers whose ids match: ID is an extended regular expression
    #[arg(short, long)]
    pub(crate) regex: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// The container's id
    pub(crate) id: String,
    /// Kill it first if it runs; no failure if it does not exist
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Delete all containers whose ids match: ID is an extended regular expression
    #[arg(short, long)]
    pub(crate) regex: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// The container's id, the program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_names = ["ID", "ARG"])]
    pub(crate) words: Vec<String>,
    /// File with the process as JSON
    #[arg(short, long, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Environment variable, NAME=VALUE; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Allocate a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// User and group, UID[:GID]
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Supplementary group; may be repeated
    #[arg(short = 'g', long, value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// Add a capability; may be repeated
    #[arg(short, long, value_name = "CAPABILITY")]
    pub(crate) cap: Vec<String>,
    /// Set no-new-privileges, or with false unset it
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_new_privs: Option<bool>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// Return once the process runs
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Unix socket that is sent a descriptor of the process
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// File that is written the pid of the process
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Unix socket that is sent the master of the terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Pass N descriptors from 3 up to the process
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Execute it even though the container is paused
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Run it in an existing cgroup below the container's; may be repeated for controllers of cgroup v1
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    pub(crate) cgroup: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// table or json
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    pub(crate) format: String,
    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ps {
    /// table or json
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    pub(crate) format: String,
    /// The container's id, and options for ps [default: -ef]
    #[arg(trailing_var_arg = true, required = true, value_names = ["ID", "PS-OPTION"])]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Spec {
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Write one for a runtime without root
    #[arg(long)]
    pub(crate) rootless: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// The container's id
    #[arg(default_value = "container")]
    pub(crate) id: String,
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Config to take instead of the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
