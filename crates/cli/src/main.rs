//! `selvedge`: the one binary. Here the planes are wired together; they do not know each other.
//!
//! Exit status: 0 done; 1 failed, with the reason on standard error; 2 wrong usage; `run` and
//! `enter` give the program's own status, 128 + n for signal n, 126 and 127 as a shell does.
#![forbid(unsafe_code)]

mod accounts;
mod agent;
mod client;
mod command;
mod host;
mod lock;
mod output;
mod stop;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// A self-driving service mesh for plain Linux.
#[derive(Parser, Debug)]
#[command(name = "selvedge", version, about, max_term_width = 100)]
struct Cli {
    /// Folder of the mesh's sockets.
    #[arg(
        long,
        global = true,
        env = "SELVEDGE_RUN_DIR",
        default_value = "/run/selvedge"
    )]
    run_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start the mesh on this host.
    Up(command::up::UpArgs),
    /// Stop the mesh and leave nothing behind.
    Down(command::down::DownArgs),
    /// Run an unmodified program as a workload of a service.
    Run(command::run::RunArgs),
    /// Put configuration into force.
    Apply(command::apply::ApplyArgs),
    /// Judge configuration without putting it into force.
    Check(command::check::CheckArgs),
    /// Read configuration back.
    Get(command::get::GetArgs),
    /// Remove configuration.
    Delete(command::delete::DeleteArgs),
    /// Show how the mesh is.
    Status(command::status::StatusArgs),
    /// Show who calls whom.
    Graph(command::graph::GraphArgs),
    /// Show what the controllers do and why, and have them stop it.
    Pilot(command::pilot::PilotArgs),
    /// Show a mesh carrying real traffic between unmodified programs.
    Demo(command::demo::DemoArgs),
    /// Measure what the mesh costs on this machine, and what it survives.
    Bench(command::bench::BenchArgs),
    /// Run services and the laws before them in simulated time.
    Sim(command::sim::SimArgs),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Become a workload, then the program (what `run` starts).
    #[command(hide = true)]
    Enter(command::enter::EnterArgs),
    /// Be the proxy (what the agent starts).
    #[command(hide = true)]
    Proxy {
        /// Socket on which the agent listens for the proxy.
        #[arg(long)]
        feed: PathBuf,
    },
    /// Be a client or server that is measured (what `bench` starts).
    #[command(hide = true)]
    BenchWorker {
        /// Socket on which the bench listens for its workers.
        control: PathBuf,
        /// The worker's name.
        name: String,
    },
    /// Make the resolver's sockets (what the agent starts).
    #[command(hide = true)]
    MakeSockets,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The proxy is told of it too, and may be met from elsewhere.
    let run_dir = match std::path::absolute(&cli.run_dir) {
        Ok(run_dir) => run_dir,
        Err(error) => {
            let what = format!(
                "could not make {} an absolute path from the working directory",
                cli.run_dir.display()
            );
            output::print_error(&anyhow::Error::new(error).context(what));
            return ExitCode::FAILURE;
        }
    };
    let run_dir = run_dir.as_path();
    let done = match &cli.command {
        Command::Up(args) => command::up::up(run_dir, args),
        Command::Down(args) => command::down::down(run_dir, args),
        Command::Run(args) => command::run::run(run_dir, args),
        Command::Apply(args) => command::apply::apply(run_dir, args),
        Command::Check(args) => command::check::check(run_dir, args),
        Command::Get(args) => command::get::get(run_dir, args),
        Command::Delete(args) => command::delete::delete(run_dir, args),
        Command::Status(args) => command::status::status(run_dir, args),
        Command::Graph(args) => command::graph::graph(run_dir, args),
        Command::Pilot(args) => command::pilot::pilot(run_dir, args),
        Command::Demo(args) => command::demo::demo(args),
        Command::Bench(args) => command::bench::bench(args),
        Command::Sim(args) => command::sim::sim(args),
        Command::BenchWorker { control, name } => command::bench::worker(control, name),
        Command::Enter(args) => command::enter::enter(run_dir, args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "selvedge", &mut script);
            output::print(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
        }
        Command::Proxy { feed } => command::proxy::proxy(feed),
        Command::MakeSockets => command::proxy::make_sockets(),
    };
    done.unwrap_or_else(|error| {
        output::print_error(&error);
        ExitCode::FAILURE
    })
}
