//! What an origin or a load had to do with each request, a line each.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Most lines of a record; what comes later is only counted.
const MOST_LINES: u64 = 10_000_000;

/// A file of lines, written once a turn: a turn's lines are on their way to the disk together.
#[derive(Debug)]
pub(crate) struct Record {
    file: File,
    path: PathBuf,
    fresh: Vec<u8>,
    lines: u64,
    left_out: u64,
}

impl Record {
    /// Begins a record; an older one of that name is gone.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path)
            .with_context(|| format!("cannot create the record {}", path.display()))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            fresh: Vec::new(),
            lines: 0,
            left_out: 0,
        })
    }

    /// Puts a line of words.
    pub(crate) fn put(&mut self, words: &[&[u8]]) {
        if self.lines == MOST_LINES {
            self.left_out += 1;
            return;
        }
        self.lines += 1;
        for (number, word) in words.iter().enumerate() {
            if number > 0 {
                self.fresh.push(b' ');
            }
            self.fresh.extend_from_slice(word);
        }
        self.fresh.push(b'\n');
    }

    /// Writes what was put since the last time.
    pub(crate) fn write(&mut self) -> anyhow::Result<()> {
        if !self.fresh.is_empty() {
            let written = self.file.write_all(&self.fresh);
            written.with_context(|| format!("cannot write the record {}", self.path.display()))?;
            self.fresh.clear();
        }
        Ok(())
    }

    /// Lines that had no room any more.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }
}
