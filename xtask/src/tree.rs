//! The source tree as the rules see it: every file with its path, size and text, read once.
//!
//! What building makes (`target`) and what belongs to git is left out. Read next: `tidy.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing written by us.
const NOT_SOURCE: [&str; 5] = ["target", ".git", ".cache", "artifacts", "__pycache__"];

pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// In order of their paths.
    pub(crate) files: Vec<File>,
}

pub(crate) struct File {
    /// Relative to the root, with `/` between its parts.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// Nothing for a file that is no UTF-8.
    pub(crate) text: Option<String>,
}

/// The folder above `xtask`.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

impl Tree {
    pub(crate) fn read(root: &Path) -> std::io::Result<Self> {
        let mut files = Vec::new();
        read_folder(root, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let root = root.to_path_buf();
        Ok(Self { root, files })
    }

    /// The texts of files whose path ends so, each with its path.
    pub(crate) fn texts<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |file| file.path.ends_with(ending))
            .filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        let file = self.files.iter().find(|file| file.path == path)?;
        file.text.as_deref()
    }

    /// Whether there is such a file or folder.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files
            .iter()
            .any(|file| match file.path.strip_prefix(path) {
                Some(rest) => path.is_empty() || rest.is_empty() || rest.starts_with('/'),
                None => false,
            })
    }
}

fn read_folder(root: &Path, folder: &str, files: &mut Vec<File>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() {
            name.clone()
        } else {
            format!("{folder}/{name}")
        };
        let kind = entry.file_type()?;
        if kind.is_dir() && !NOT_SOURCE.contains(&name.as_str()) {
            read_folder(root, &path, files)?;
        } else if kind.is_file() {
            let content = fs::read(entry.path())?;
            let bytes = content.len() as u64;
            files.push(File {
                path,
                bytes,
                text: String::from_utf8(content).ok(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
impl Tree {
    /// A tree made of these files, to try rules on.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| File {
            path: (*path).to_owned(),
            bytes: text.len() as u64,
            text: Some((*text).to_owned()),
        });
        Self {
            root: PathBuf::new(),
            files: files.collect(),
        }
    }
}
