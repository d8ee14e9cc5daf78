//! `selvedge apply`: puts documents into force, all or none.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use selvedge_control_plane::wire::{ApplyFile, ApplyMode, ApplyReply, ApplyRequest};
use selvedge_control_plane::{Problem, ProblemKind, read_files};

use crate::client;
use crate::output::{OutputArgs, warnings_text};

/// Arguments of `selvedge apply`.
#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) files: FilesArgs,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// `-f`, as every command that reads documents has it.
#[derive(Args, Debug)]
pub(crate) struct FilesArgs {
    /// File of documents, folder of such files, or - for standard input; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

impl FilesArgs {
    /// Reads the files, for a request.
    pub(crate) fn read(&self) -> Result<Vec<ApplyFile>, Problem> {
        let files = read_files(&self.paths).map_err(|diagnostics| {
            Problem::new(ProblemKind::Invalid, "not every file could be read")
                .with_diagnostics(&diagnostics)
        })?;
        let files = files.into_iter();
        Ok(files
            .map(|file| ApplyFile {
                name: file.name,
                text: file.text,
            })
            .collect())
    }
}

/// Applies the files.
pub(crate) fn apply(run_dir: &Path, args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let request = ApplyRequest {
        files: args.files.read()?,
        mode: if args.dry_run {
            ApplyMode::DryRun
        } else {
            ApplyMode::Apply
        },
    };
    let reply: ApplyReply = client::post(run_dir, "/v1/apply", &request)?;
    eprint!("{}", warnings_text(&reply.warnings));
    args.output
        .print(&reply, |reply| changes_text(reply, args.dry_run))?;
    Ok(ExitCode::SUCCESS)
}

fn changes_text(reply: &ApplyReply, dry_run: bool) -> String {
    let changes = reply.changes.iter();
    let mut text: String = changes
        .map(|change| format!("{} {}\n", change.object, change.action))
        .collect();
    text.push_str(&match dry_run {
        true => format!(
            "nothing was changed; this would be generation {}\n",
            reply.generation
        ),
        false => format!("generation {} is in force\n", reply.generation),
    });
    text
}
