//! Claims: whatever the moment of a power loss, the last generation or the one before it is there,
//! and a generation that was reported as saved is; a failed save leaves the one before; damage is
//! found and passed over.
use std::collections::BTreeMap;

use super::*;
use crate::address::VirtualRange;
use crate::document::{SourceFile, parse};

/// Files that live in memory, with what a disk would hold of them after a power loss.
#[derive(Clone, Default)]
struct Fragile {
    /// Content by inode: as programs see it, and as it was last synced.
    contents: Vec<(Vec<u8>, Vec<u8>)>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    /// Changes of names since the folder was last synced, in order.
    unsynced: Vec<NameChange>,
    /// Operations until every further one fails; `None` is never.
    left: Option<usize>,
    /// Whether only the one operation fails, as on a full disk, or power is gone for good.
    recovers: bool,
}

#[derive(Clone)]
enum NameChange {
    Set(String, usize),
    Remove(String),
}

impl Fragile {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) if self.recovers => {
                self.left = None;
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(0) => Err(io::ErrorKind::BrokenPipe.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change(&mut self, change: NameChange) {
        Self::play(&mut self.names, &change);
        self.unsynced.push(change);
    }

    fn play(names: &mut BTreeMap<String, usize>, change: &NameChange) {
        match change {
            NameChange::Set(name, inode) => names.insert(name.clone(), *inode),
            NameChange::Remove(name) => names.remove(name),
        };
    }

    /// What may be found after a power loss: the first `reached` unsynced changes of names have
    /// reached the disk, and of unsynced content `tear` quarters.
    fn after_power_loss(&self, reached: usize, tear: usize) -> Self {
        let mut names = self.synced_names.clone();
        for change in &self.unsynced[..reached] {
            Self::play(&mut names, change);
        }
        let contents = self.contents.iter().map(|(seen, synced)| {
            let found = if seen == synced {
                seen
            } else {
                &seen[..seen.len() * tear / 4].to_vec()
            };
            (found.clone(), found.clone())
        });
        let contents = contents.collect();
        Self {
            contents,
            synced_names: names.clone(),
            names,
            ..Self::default()
        }
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for Fragile {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.contents[self.inode(name)?].0.clone())
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let done = self.step();
        let inode = self.names.get(name).copied().unwrap_or(self.contents.len());
        if inode == self.contents.len() {
            self.contents.push(Default::default());
            self.change(NameChange::Set(name.to_owned(), inode));
        }
        // A write that fails has got half way.
        let written = if done.is_ok() {
            bytes
        } else {
            &bytes[..bytes.len() / 2]
        };
        self.contents[inode].0 = written.to_vec();
        done
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.step()?;
        let inode = self.inode(name)?;
        self.contents[inode].1 = self.contents[inode].0.clone();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        let inode = self.inode(from)?;
        // One atomic change to the disk, two to the map; the name that leaves does not matter.
        self.change(NameChange::Set(to.to_owned(), inode));
        self.change(NameChange::Remove(from.to_owned()));
        Ok(())
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        self.step()?;
        self.synced_names = self.names.clone();
        self.unsynced.clear();
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.step()?;
        self.inode(name)?;
        self.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }
}

/// Objects that differ by generation, so that each is recognised.
fn objects(generation: u64) -> Objects {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s{generation}}}\n\
         spec: {{ports: [{{port: 80}}]}}\n"
    );
    let file = SourceFile {
        name: "f".to_owned(),
        text,
    };
    let mut objects = Objects::default();
    let documents = parse(&[file]).unwrap().documents;
    objects
        .apply(documents, Generation(generation), VirtualRange::DEFAULT)
        .unwrap();
    objects
}

/// The generation that loads, which must hold its own objects.
fn loaded(files: Fragile) -> u64 {
    let (_, restored) = Store::open(files).unwrap();
    let generation = restored.generation.0;
    let names: Vec<_> = restored
        .objects
        .documents()
        .map(|d| d.key.name.clone())
        .collect();
    let want = if generation == 0 {
        vec![]
    } else {
        vec![format!("s{generation}")]
    };
    assert_eq!(
        names, want,
        "generation {generation} holds another's objects"
    );
    generation
}

#[test]
fn a_power_loss_at_any_moment_loses_nothing_that_was_saved() {
    const GENERATIONS: u64 = 7;
    let mut moments = 0;
    for cut in 0.. {
        let (mut store, _) = Store::open(Fragile {
            left: Some(cut),
            ..Fragile::default()
        })
        .unwrap();
        let saved = |generation: &u64| {
            store
                .save(Generation(*generation), &objects(*generation))
                .is_ok()
        };
        let done = (1..=GENERATIONS).take_while(saved).count() as u64;
        for reached in 0..=store.files.unsynced.len() {
            for tear in 0..=4 {
                let found = loaded(store.files.after_power_loss(reached, tear));
                assert!(
                    (done..=done + 1).contains(&found),
                    "cut {cut}: {done} saved, {found}"
                );
                moments += 1;
            }
        }
        if done == GENERATIONS {
            assert!(moments > 200, "only {moments} moments were tried");
            return;
        }
    }
}

#[test]
fn a_failed_save_leaves_the_generation_before_and_the_next_one_works() {
    // A save is four operations and one removal; the first five of generation 6 are tried.
    for at in 0..4 {
        let (mut store, _) = Store::open(Fragile::default()).unwrap();
        for generation in 1..6 {
            store
                .save(Generation(generation), &objects(generation))
                .unwrap();
        }
        store.files.left = Some(at);
        store.files.recovers = true;
        store.save(Generation(6), &objects(6)).unwrap_err();
        assert_eq!(
            loaded(store.files.clone()),
            5,
            "after operation {at} failed"
        );
        store.save(Generation(6), &objects(6)).unwrap();
        assert_eq!(loaded(store.files.clone()), 6);
        assert_eq!(store.files.names.len(), KEPT);
    }
}

#[test]
fn damage_is_found_and_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let (mut store, _) = Store::open(Disk::open(&path).unwrap()).unwrap();
    for generation in 1..=3 {
        store
            .save(Generation(generation), &objects(generation))
            .unwrap();
    }
    let newest = path.join("generation-00000000000000000003.state");
    let whole = std::fs::read(&newest).unwrap();
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 0x20;
        assert!(
            decode("f", Generation(3), &bytes).is_err(),
            "byte {position}"
        );
    }
    std::fs::write(&newest, &whole[..whole.len() - 1]).unwrap();
    let (_, restored) = Store::open(Disk::open(&path).unwrap()).unwrap();
    assert_eq!(restored.generation, Generation(2));
    assert_eq!(restored.left_out.len(), 1);

    for generation in 1..=3 {
        let file = path.join(format!("generation-{generation:020}.state"));
        std::fs::write(file, "selvedge-state 2 of another version\n").unwrap();
    }
    let error = Store::open(Disk::open(&path).unwrap()).unwrap_err();
    assert!(
        matches!(error, StoreError::Unreadable { count: 3, .. }),
        "{error}"
    );
    assert_eq!(
        std::fs::read_dir(&path).unwrap().count(),
        3,
        "they are kept"
    );
}

#[test]
fn a_folder_is_emptied_of_what_is_ours() {
    let mut files = Fragile::default();
    let ours = [
        "generation-00000000000000000001.state",
        "generation-00000000000000000001.state.aside",
        UNFINISHED,
    ];
    for file in ours.iter().chain(&["notes.txt"]) {
        files.write(file, b"x").unwrap();
    }
    Store::remove_all(&mut files).unwrap();
    assert_eq!(files.list().unwrap(), ["notes.txt"]);
}

#[test]
fn an_object_that_is_not_understood_is_set_aside_and_the_others_are_there() {
    let (mut store, _) = Store::open(Fragile::default()).unwrap();
    let mut both = objects(1);
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {}\n".to_owned();
    let file = SourceFile {
        name: "f".to_owned(),
        text,
    };
    let documents = parse(&[file]).unwrap().documents;
    both.apply(documents, Generation(1), VirtualRange::DEFAULT)
        .unwrap();
    store.save(Generation(1), &both).unwrap();
    let file = "generation-00000000000000000001.state";
    let written = String::from_utf8(store.files.read(file).unwrap()).unwrap();
    let (_, body) = written.split_once('\n').unwrap();
    let later = body.replacen("clusterIP", "clusterUP", 1);
    let later = header(Generation(1), later.as_bytes()) + &later;
    store.files.write(file, later.as_bytes()).unwrap();
    let (store, restored) = Store::open(store.files).unwrap();
    assert_eq!(restored.objects.documents().count(), 1);
    let [StoreError::Incompatible { first, .. }] = &restored.left_out[..] else {
        panic!("{restored:?}")
    };
    assert!(first.message.contains("clusterUP"), "{first}");
    let aside = store.files.read(&format!("{file}.aside")).unwrap();
    assert_eq!(aside, later.as_bytes());
}
