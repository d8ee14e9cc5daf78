//! Loading, pinning, attaching and adopting the kernel programs.
//!
//! Everything the programs know is in pinned maps and every attachment is a pinned link, so the
//! kernel path lives on without the agent. Starting again *adopts*: maps are reused, each program
//! is swapped in place under its link, and no connection fails meanwhile. Nothing here decides where
//! traffic goes; read `intent` for that, and `apply` for how it gets into the maps.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use libbpf_rs::{
    Iter, Link, MapCore, MapHandle, MapInfo, Object, ObjectBuilder, OpenObject, PrintLevel,
};
use selvedge_model::{FeatureState, FeatureStatus};

use crate::abi;
use crate::error::Error;
use crate::object::{FEATURES, Feature, Scope};

/// The kernel path of one node.
pub(crate) struct Kernel {
    pins: PathBuf,
    maps: BTreeMap<String, MapHandle>,
    /// Objects that loaded, kept for attaching to cgroups that join later.
    loaded: Vec<(&'static Feature, Object)>,
    status: Vec<FeatureStatus>,
}

impl Kernel {
    /// Loads every feature, reusing the maps that are pinned under `bpffs`, where it is the root of
    /// a bpf file system. Nothing is attached yet.
    pub(crate) fn load(bpffs: &Path) -> Result<Self, Error> {
        // A dot in a name on bpffs is EPERM, so no version number with one.
        let pins = bpffs.join(format!("v{}", abi::LAYOUT));
        refuse_other_layouts(bpffs, &pins)?;
        for folder in ["maps", "links"] {
            let path = pins.join(folder);
            fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        }
        let mut kernel = Self {
            pins,
            maps: BTreeMap::new(),
            loaded: Vec::new(),
            status: Vec::new(),
        };
        for feature in FEATURES {
            kernel.load_feature(feature)?;
        }
        Ok(kernel)
    }

    fn load_feature(&mut self, feature: &'static Feature) -> Result<(), Error> {
        let mut said = String::new();
        let state = match said_by_libbpf(&mut said, || self.load_object(feature)) {
            Ok(object) => {
                self.loaded.push((feature, object));
                FeatureState::Active
            }
            Err(error @ Error::Layout { .. }) => return Err(error),
            Err(error) if feature.essential => {
                let said = format!("{error}: {}", tail(&said));
                return Err(Error::Feature {
                    feature: feature.name,
                    without: feature.without,
                    said,
                });
            }
            Err(error) => FeatureState::Missing {
                reason: format!(
                    "{}; the kernel said: {error}: {}",
                    feature.without,
                    tail(&said)
                ),
            },
        };
        self.status.push(FeatureStatus {
            name: feature.name.to_owned(),
            state,
        });
        Ok(())
    }

    fn load_object(&mut self, feature: &'static Feature) -> Result<Object, Error> {
        let refused = Error::map("load", feature.name);
        let mut builder = ObjectBuilder::default();
        builder
            .name(feature.name)
            .map_err(Error::map("name", feature.name))?;
        let mut open = builder
            .open_memory(feature.object)
            .map_err(Error::map("read", feature.name))?;
        self.share_maps(&mut open)?;
        let object = open.load().map_err(refused)?;
        for map in object.maps() {
            let name = map.name().to_string_lossy().into_owned();
            if !is_private(&name) && !self.maps.contains_key(&name) {
                let handle = MapHandle::try_from(&map).map_err(Error::map("keep", feature.name))?;
                self.maps.insert(name, handle);
            }
        }
        Ok(object)
    }

    /// Points every map of the object at its pin: there already, or made on load.
    fn share_maps(&self, open: &mut OpenObject) -> Result<(), Error> {
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if is_private(&name) {
                continue;
            }
            let path = self.pins.join("maps").join(&name);
            if path.exists() {
                let pinned =
                    MapHandle::from_pinned_path(&path).map_err(Error::map("open", "pinned"))?;
                // libbpf checks nothing when it reuses a map, and the verifier's word for a wrong
                // size is hard to read.
                let found = (pinned.map_type(), pinned.key_size(), pinned.value_size());
                let needed = (map.map_type(), map.key_size(), map.value_size());
                if found != needed {
                    return Err(Error::Layout {
                        map: name,
                        found: format!("{found:?}"),
                        needed: format!("{needed:?}"),
                    });
                }
                map.reuse_pinned_map(&path)
                    .map_err(Error::map("reuse", "pinned"))?;
            }
            map.set_pin_path(&path)
                .map_err(Error::map("pin", "shared"))?;
        }
        Ok(())
    }

    /// Attaches the programs of every loaded feature that belong in `scope` to the cgroup or network
    /// namespace that `target` is open on, under the name `place`; those attached already are
    /// swapped for the ones loaded now.
    pub(crate) fn attach(&mut self, scope: Scope, place: &str, target: &File) -> Result<(), Error> {
        let folder = self.pins.join("links").join(place);
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        for index in 0..self.loaded.len() {
            let (feature, object) = &self.loaded[index];
            if !feature.scopes.contains(&scope) {
                continue;
            }
            let mut said = String::new();
            let attached =
                said_by_libbpf(&mut said, || attach_object(object, scope, &folder, target));
            let Err(error) = attached else { continue };
            let said = format!("{error}: {}", tail(&said));
            if feature.essential {
                return Err(Error::Feature {
                    feature: feature.name,
                    without: feature.without,
                    said,
                });
            }
            let name = feature.name;
            self.lack(name, &said);
        }
        Ok(())
    }

    /// Takes note that a feature does not work, for this reason.
    pub(crate) fn lack(&mut self, name: &str, reason: &str) {
        let feature = FEATURES.iter().find(|it| it.name == name);
        let without = feature.map_or("", |feature| feature.without);
        let state = FeatureState::Missing {
            reason: format!("{without}; {reason}"),
        };
        self.status
            .iter_mut()
            .filter(|it| it.name == name)
            .for_each(|it| it.state = state.clone());
    }

    /// Whether the feature works.
    pub(crate) fn has(&self, name: &str) -> bool {
        let mut status = self.status.iter();
        status.any(|it| it.name == name && it.state == FeatureState::Active)
    }

    /// Detaches what was attached under the name `place`.
    pub(crate) fn detach(&self, place: &str) -> Result<(), Error> {
        let folder = self.pins.join("links").join(place);
        remove_tree(&folder)
    }

    /// The names under which something is attached.
    pub(crate) fn places(&self) -> Result<Vec<String>, Error> {
        let folder = self.pins.join("links");
        let entries = fs::read_dir(&folder).map_err(Error::file("list", &folder))?;
        Ok(entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect())
    }

    /// Runs the iterators that take note of listeners older than the mesh.
    pub(crate) fn seed(&self) -> Result<(), Error> {
        // Iterators over sockets ask for no map; the call wants one all the same.
        self.iterate("seed", "config").map(drop)
    }

    /// Runs the iterators of a feature over a map, and gives what they write; nothing where the feature
    /// does not work.
    pub(crate) fn iterate(
        &self,
        feature: &'static str,
        map: &'static str,
    ) -> Result<Vec<u8>, Error> {
        let failed = || Error::map("run the iterators over", map);
        let mut loaded = self.loaded.iter();
        let mut written = Vec::new();
        let Some((_, object)) = loaded.find(|(it, _)| it.name == feature) else {
            return Ok(written);
        };
        for program in object.progs_mut() {
            let link = program
                .attach_iter(self.map(map).as_fd())
                .map_err(failed())?;
            let mut iterator = Iter::new(&link).map_err(failed())?;
            let drained = std::io::copy(&mut iterator, &mut written);
            drained.map_err(Error::system("iterate over sockets"))?;
        }
        Ok(written)
    }

    /// The map with this name. Every feature shares all maps, and one essential feature has loaded.
    pub(crate) fn map(&self, name: &str) -> &MapHandle {
        self.maps
            .get(name)
            .unwrap_or_else(|| panic!("maps.h has a map `{name}`"))
    }

    /// Each map and what the kernel says of it.
    pub(crate) fn maps(&self) -> impl Iterator<Item = (&str, &MapHandle)> {
        self.maps.iter().map(|(name, map)| (name.as_str(), map))
    }

    /// Every feature and whether it works.
    pub(crate) fn features(&self) -> &[FeatureStatus] {
        &self.status
    }
}

/// What the kernel knows of a map.
pub(crate) fn info(map: &MapHandle) -> Option<libbpf_rs::libbpf_sys::bpf_map_info> {
    Some(MapInfo::new(map.as_fd()).ok()?.info)
}

/// Memory a map takes, in bytes, as the kernel accounts it; 0 where it does not say.
pub(crate) fn memory(map: &MapHandle) -> u64 {
    let path = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    line.and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0)
}

/// Sections that the compiler makes (`.rodata`, `.bss`) belong to one object and hold nothing that
/// outlives it.
fn is_private(map: &str) -> bool {
    map.contains('.')
}

/// A bpf file system holds one layout at a time.
fn refuse_other_layouts(bpffs: &Path, ours: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(bpffs).map_err(Error::file("list", bpffs))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('v') && entry.path() != ours {
            return Err(Error::Layout {
                map: "all of them".to_owned(),
                found: format!("layout {name}"),
                needed: format!("layout v{}", abi::LAYOUT),
            });
        }
    }
    Ok(())
}

fn attach_object(object: &Object, scope: Scope, folder: &Path, target: &File) -> Result<(), Error> {
    for program in object.progs() {
        let name = program.name().to_string_lossy().into_owned();
        let failed = |error| Error::map("attach", "program")(error);
        let pin = folder.join(&name);
        if pin.exists() {
            let mut link = Link::open(&pin).map_err(failed)?;
            // `update_prog` needs a mutable view that `progs()` gives no more than this one does.
            link.update_prog(&program).map_err(failed)?;
            continue;
        }
        let mut link = match scope {
            Scope::Network => attach_mut(object, &name, |it| it.attach_netns(target.as_raw_fd())),
            _ => attach_mut(object, &name, |it| it.attach_cgroup(target.as_raw_fd())),
        }
        .map_err(failed)?;
        link.pin(&pin).map_err(failed)?;
    }
    Ok(())
}

fn attach_mut(
    object: &Object,
    name: &str,
    attach: impl Fn(&libbpf_rs::ProgramMut<'_>) -> libbpf_rs::Result<Link>,
) -> libbpf_rs::Result<Link> {
    let program = object.progs_mut().find(|program| program.name() == name);
    attach(&program.expect("the program was found in this object a moment ago"))
}

/// Removes a folder of pins; what is pinned in it goes with it. A folder that is not there is fine.
pub(crate) fn remove_tree(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::file("remove", folder)(error)),
    }
}

static SAID: Mutex<String> = Mutex::new(String::new());

/// Runs `action` and puts what libbpf printed meanwhile into `said`.
fn said_by_libbpf<T>(said: &mut String, action: impl FnOnce() -> T) -> T {
    /// Enough for the end of a verifier's log.
    const BOUND: usize = 1 << 20;
    let before = libbpf_rs::set_print(Some((PrintLevel::Warn, |_, text| {
        if let Ok(mut said) = SAID.lock()
            && said.len() + text.len() < BOUND
        {
            said.push_str(&text);
        }
    })));
    let result = action();
    libbpf_rs::set_print(before);
    if let Ok(mut all) = SAID.lock() {
        *said = std::mem::take(&mut *all);
    }
    result
}

/// The last lines of a loader's output: that is where the verdict stands.
fn tail(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
