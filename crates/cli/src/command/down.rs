//! `selvedge down`: stops the mesh and leaves nothing behind.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use selvedge_control_plane::wire::{DownReply, DownRequest, DownWorkloads};

use crate::client;
use crate::lock::Lock;
use crate::output::print;
use crate::stop::{self, Settings};

/// Arguments of `selvedge down`.
#[derive(Args, Debug)]
#[command(
    after_help = "While workloads run, one of --stop and --detach says what becomes of them."
)]
pub(crate) struct DownArgs {
    /// End the workloads that run.
    #[arg(long, conflicts_with = "detach")]
    stop: bool,
    /// Let the workloads that run go on without the mesh.
    #[arg(long)]
    detach: bool,
    /// Keep what was applied, for the next `up`.
    #[arg(long)]
    keep_state: bool,
}

impl DownArgs {
    fn request(&self) -> DownRequest {
        let workloads = match (self.stop, self.detach) {
            (true, _) => DownWorkloads::Stop,
            (_, true) => DownWorkloads::Detach,
            _ => DownWorkloads::Refuse,
        };
        DownRequest {
            workloads,
            keep_state: self.keep_state,
        }
    }
}

/// Stops the mesh through its agent or, where there is none, in its place.
pub(crate) fn down(run_dir: &Path, args: &DownArgs) -> anyhow::Result<ExitCode> {
    let request = args.request();
    if !rustix::process::geteuid().is_root() {
        bail!("only root can stop the mesh.\nTry: sudo selvedge down");
    }
    let reply = match client::post(run_dir, "/v1/down", &request) {
        Ok(reply) => {
            // It answers just before it ends.
            Lock::wait_until_free(run_dir);
            reply
        }
        Err(error) if client::is_absent(&error) => without_agent(run_dir, request)?,
        Err(error) => return Err(error),
    };
    tell(&reply)?;
    Ok(ExitCode::SUCCESS)
}

fn without_agent(run_dir: &Path, request: DownRequest) -> anyhow::Result<DownReply> {
    let Some(settings) = Settings::read(run_dir)? else {
        bail!("no mesh is up in {}", run_dir.display());
    };
    let _lock = Lock::take(run_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let _state = (!request.keep_state)
            .then(|| settings.hold_state())
            .transpose()?;
        let reply = stop::make_way(&settings, request.workloads).await;
        let reply = reply?;
        stop::remove(&settings, request.keep_state).await?;
        Ok(reply)
    })
}

fn tell(reply: &DownReply) -> anyhow::Result<()> {
    if !reply.stopped.is_empty() {
        print(&format!("ended: {}\n", reply.stopped.join(", ")))?;
    }
    if !reply.detached.is_empty() {
        print(&format!(
            "run on without the mesh: {}\n",
            reply.detached.join(", ")
        ))?;
    }
    print("the mesh is down\n")
}
