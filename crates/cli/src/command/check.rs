//! `selvedge check`: judges documents without putting them into force.
//!
//! Beside the configuration in force where an agent runs, since documents may refer to it; alone
//! where none does.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use selvedge_control_plane::wire::{ApplyFile, ApplyMode, ApplyReply, ApplyRequest};
use selvedge_control_plane::{Problem, ProblemKind, SourceFile, VirtualRange};

use super::apply::FilesArgs;
use crate::client;
use crate::output::{count, print, warnings_text};

/// Arguments of `selvedge check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Judge the documents alone, also where an agent runs.
    #[arg(long)]
    alone: bool,
}

/// Checks the files.
pub(crate) fn check(run_dir: &Path, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let files = args.files.read()?;
    if args.alone {
        check_alone(files, "alone")?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = ApplyRequest {
        files,
        mode: ApplyMode::Check,
    };
    match client::post::<ApplyReply>(run_dir, "/v1/apply", &request) {
        Ok(reply) => {
            eprint!("{}", warnings_text(&reply.warnings));
            report(reply.changes.len(), "beside the configuration in force")?;
        }
        Err(error) if client::is_absent(&error) => {
            check_alone(request.files, "alone, since no agent runs here")?;
        }
        Err(error) => return Err(error),
    }
    Ok(ExitCode::SUCCESS)
}

fn check_alone(files: Vec<ApplyFile>, how: &str) -> anyhow::Result<()> {
    let files = files.into_iter().map(|file| SourceFile {
        name: file.name,
        text: file.text,
    });
    let files: Vec<_> = files.collect();
    let parsed = selvedge_control_plane::check(&files, VirtualRange::DEFAULT);
    let parsed = parsed.map_err(|diagnostics| {
        let what = count(diagnostics.len(), "error");
        Problem::new(ProblemKind::Invalid, what).with_diagnostics(&diagnostics)
    })?;
    let warnings: Vec<_> = parsed.warnings.iter().map(Into::into).collect();
    eprint!("{}", warnings_text(&warnings));
    report(parsed.documents.len(), how)
}

fn report(objects: usize, how: &str) -> anyhow::Result<()> {
    let what = if objects == 1 {
        "1 object is right"
    } else {
        "all objects are right"
    };
    print(&format!("{what} ({objects} judged {how})\n"))
}
