//! `selvedge demo`: programs that nobody changed, connected by the kernel, in a few acts.
//!
//! nginx, a Python web app under gunicorn and Redis, each with its ordinary configuration, call each
//! other by name; `curl` and `wrk` are the outside. What the acts claim is checked: a claim that does
//! not hold ends the demo with an error. It plays in a folder and a mesh of its own, beside whatever
//! runs already, and removes both. Read next: `demo/acts.rs`, then `demo/stage.rs`.

mod acts;
mod footprint;
mod interrupt;
mod load;
mod pilot;
mod plain;
mod program;
mod requests;
mod stage;
mod summary;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::bail;
use rustix::process::geteuid;

use self::acts::Pace;
use self::interrupt::Interrupted;
use self::stage::Stage;

/// Prints a line; a reader that has gone away ends nothing.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let mut output = std::io::stdout().lock();
        let _reader_is_gone = writeln!(output, $($text)*);
    }};
}
use say;

/// What a shell reports of a program that was ended by SIGINT.
const INTERRUPTED: u8 = 130;

/// What the demo needs, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 5] = [
    ("nginx", "nginx"),
    ("redis-server", "redis-server"),
    ("gunicorn", "gunicorn"),
    ("curl", "curl"),
    ("wrk", "wrk"),
];
/// What the web app imports.
const MODULES: [(&str, &str); 2] = [("flask", "python3-flask"), ("redis", "python3-redis")];

/// Show a mesh carrying real traffic between unmodified programs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// What to play: `pilot` shows limits that follow from an objective; all the rest without it.
    #[arg(value_enum)]
    play: Option<Play>,
    /// Stay up at the end, until Ctrl-C, and say what to try.
    #[arg(long)]
    keep: bool,
    /// Play for a few seconds only: the plot is the same, the figures mean little.
    #[arg(long, hide = true)]
    brief: bool,
}

/// A play beside the usual one.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Play {
    /// A service loses half of its capacity while more is asked of it.
    Pilot,
}

/// Plays the demo and removes everything it has made.
pub(crate) fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    if !geteuid().is_root() {
        bail!("the demo loads programs into the kernel, which needs root; try: sudo selvedge demo");
    }
    find_programs()?;
    let mut stage = Stage::build()?;
    let played = match (args.play, args.brief) {
        (None, true) => acts::play(&mut stage, &Pace::BRIEF, args.keep),
        (None, false) => acts::play(&mut stage, &Pace::FULL, args.keep),
        (Some(Play::Pilot), true) => pilot::play(&mut stage, &pilot::Pace::BRIEF, false),
        (Some(Play::Pilot), false) => pilot::play(&mut stage, &pilot::Pace::FULL, true),
    };
    let cleared = stage.clear();
    match played {
        Err(error) if error.is::<Interrupted>() => {
            cleared?;
            say!("\nInterrupted; nothing is left behind.");
            Ok(ExitCode::from(INTERRUPTED))
        }
        Err(error) => {
            if let Err(left) = cleared {
                eprintln!("selvedge: while cleaning up: {left:#}");
            }
            Err(error)
        }
        Ok(()) => {
            cleared?;
            say!("\nNothing is left behind.");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Where programs are looked for. Servers are in `/usr/sbin`, which `su` does not put into `PATH`.
fn program_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

fn find_programs() -> anyhow::Result<()> {
    let path = program_path();
    let is_there =
        |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let has_module = |module: &str| {
        let python = std::process::Command::new("/usr/bin/python3")
            .args(["-c", &format!("import {module}")])
            .output();
        python.is_ok_and(|output| output.status.success())
    };
    let mut missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(name, _)| !is_there(name))
        .collect();
    missing.extend(MODULES.iter().filter(|(name, _)| !has_module(name)));
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    bail!(
        "the demo runs real programs, and these are missing: {}; try: apt-get install {}",
        names.join(", "),
        packages.join(" ")
    )
}
