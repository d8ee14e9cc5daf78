//! `selvedge pilot replay`: derives the decisions of a journal again.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use selvedge_control_plane::{Reader, segments};
use selvedge_model::{JournalEvent, Limited};
use selvedge_resilience::{Replay, Replayed};
use serde::Serialize;

use crate::output::{OutputArgs, Tone, count, toned};

/// Differences that are told one by one.
const MOST_TOLD: usize = 20;

/// Arguments of `selvedge pilot replay`.
#[derive(Args, Debug)]
#[command(
    after_help = "A journal is a folder of segments, by default journal/ in the state folder of `up`.\n\
    Exit status: 0 every decision follows, 1 some do not, or none could be derived."
)]
pub(super) struct ReplayArgs {
    /// Segments of a journal, in their order, or a folder of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a replay came to.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplayReply {
    segments: usize,
    limits: usize,
    /// Decisions that follow from what is written, bit for bit.
    equal: u64,
    differing: u64,
    /// Decisions whose controller's state is not in these segments.
    unfounded: u64,
    /// Places where entries are missing.
    gaps: u64,
    /// Bytes that a crash left in pieces.
    torn: u64,
    differences: Vec<Difference>,
}

#[derive(Debug, Serialize)]
struct Difference {
    number: u64,
    recorded: u32,
    derived: u32,
}

pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in &args.files {
        if path.is_dir() {
            files.extend(segments(path)?.into_iter().map(|segment| segment.path));
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        bail!(
            "there is no segment of a journal in what was named; \
             they are in journal/ of the state folder of `selvedge up`, which root may read"
        );
    }
    let mut replaying = Replaying::default();
    for file in &files {
        let read = replaying.read(file);
        read?;
    }
    let reply = replaying.into_reply();
    args.output.print(&reply, text)?;
    Ok(match (reply.differing, reply.equal) {
        (0, 1..) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

#[derive(Debug, Default)]
struct Replaying {
    replay: Replay,
    reply: ReplayReply,
    limits: BTreeSet<Limited>,
    /// The number of the entry to come.
    next: Option<u64>,
}

impl Replaying {
    fn read(&mut self, file: &std::path::Path) -> anyhow::Result<()> {
        self.reply.segments += 1;
        let mut reader = Reader::open(file)?;
        while let Some(part) = reader.next_part()? {
            if self.next.is_some_and(|next| next != part.number) {
                self.reply.gaps += 1;
                self.replay.on_gap();
            }
            self.next = Some(part.number + part.entries.len() as u64);
            for (number, entry) in (part.number..).zip(&part.entries) {
                self.limits.insert(entry.about.clone());
                let replayed = self.replay.on_entry(entry);
                self.note(number, &entry.event, replayed);
            }
        }
        self.reply.torn += reader.torn();
        Ok(())
    }

    fn note(&mut self, number: u64, event: &JournalEvent, replayed: Replayed) {
        match (replayed, event) {
            (Replayed::Equal, _) => self.reply.equal += 1,
            (Replayed::Unfounded, _) => self.reply.unfounded += 1,
            (Replayed::Differs(derived), JournalEvent::Decided { decision, .. }) => {
                self.reply.differing += 1;
                if self.reply.differences.len() < MOST_TOLD {
                    self.reply.differences.push(Difference {
                        number,
                        recorded: decision.limit,
                        derived: derived.limit,
                    });
                }
            }
            (Replayed::Differs(_) | Replayed::Undecided, _) => {}
        }
    }

    fn into_reply(self) -> ReplayReply {
        ReplayReply {
            limits: self.limits.len(),
            ..self.reply
        }
    }
}

/// Writing to a String does not fail, so the outcome of `writeln!` is left aside below.
fn text(reply: &ReplayReply) -> String {
    let mut text = String::new();
    let segments = count(reply.segments, "segment");
    let limits = count(reply.limits, "limit");
    let _ = writeln!(
        text,
        "{} decisions of {limits} in {segments} follow from what is written, bit for bit",
        reply.equal
    );
    let mut poor = |number: u64, what: &str| {
        if number > 0 {
            let line = format!("{number} {what}");
            let _ = writeln!(text, "{}", toned(&line, Tone::Poor));
        }
    };
    poor(
        reply.unfounded,
        "have a controller whose state is not in these segments, or a law that is only there to compare with",
    );
    poor(reply.gaps, "places at which entries are missing");
    poor(
        reply.torn,
        "bytes at the end are of a part that was not written whole",
    );
    if reply.differing > 0 {
        let line = format!("{} do NOT follow:", reply.differing);
        let _ = writeln!(text, "{}", toned(&line, Tone::Bad));
    }
    for it in &reply.differences {
        let Difference {
            number,
            recorded,
            derived,
        } = it;
        let _ = writeln!(text, "  {number}: {recorded} is written, {derived} follows");
    }
    text
}
