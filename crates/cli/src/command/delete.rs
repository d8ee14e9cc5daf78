//! `selvedge delete`: removes objects. Open connections of a deleted service go on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use selvedge_control_plane::wire::Changed;
use selvedge_control_plane::{ObjectKey, Problem, ProblemKind, SourceFile, parse};

use super::apply::FilesArgs;
use super::get::objects_path;
use crate::client;
use crate::output::{count, print};

/// Arguments of `selvedge delete`.
#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// Kind of the object.
    #[arg(required_unless_present = "paths", requires = "name")]
    kind: Option<String>,
    /// Name of the object.
    name: Option<String>,
    /// Namespace of the object.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Delete every object of these files instead.
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "PATH",
        conflicts_with = "kind"
    )]
    paths: Vec<PathBuf>,
}

/// Deletes the objects. Of several, those that can be are deleted.
pub(crate) fn delete(run_dir: &Path, args: &DeleteArgs) -> anyhow::Result<ExitCode> {
    if let (Some(kind), Some(name)) = (&args.kind, &args.name) {
        let path = objects_path(Some(kind), Some(&args.namespace), Some(name));
        report(&client::delete::<Changed>(run_dir, &path)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut failures = 0;
    for key in keys(args)? {
        let namespace = key.namespace_or_default();
        let kind = key.kind.word();
        let path = objects_path(Some(kind), Some(namespace.as_str()), Some(&key.name));
        match client::delete::<Changed>(run_dir, &path) {
            Ok(change) => report(&change)?,
            Err(error) => {
                eprintln!("selvedge: {error:#}");
                failures += 1;
            }
        }
    }
    if failures > 0 {
        bail!("{} could not be deleted", count(failures, "object"));
    }
    Ok(ExitCode::SUCCESS)
}

fn keys(args: &DeleteArgs) -> Result<Vec<ObjectKey>, Problem> {
    let paths = args.paths.clone();
    let files = FilesArgs { paths }.read()?.into_iter();
    let files = files.map(|file| SourceFile {
        name: file.name,
        text: file.text,
    });
    let parsed = parse(&files.collect::<Vec<_>>()).map_err(|diagnostics| {
        Problem::new(
            ProblemKind::Invalid,
            "the documents are wrong; nothing was deleted",
        )
        .with_diagnostics(&diagnostics)
    })?;
    Ok(parsed
        .documents
        .into_iter()
        .map(|document| document.key)
        .collect())
}

fn report(change: &Changed) -> anyhow::Result<()> {
    print(&format!("{} {}\n", change.object, change.action))
}
