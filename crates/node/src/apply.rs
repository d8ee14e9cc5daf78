//! Brings the intent maps to what an [`Intent`] says, so that a connect at any moment meets either
//! the old set of endpoints of a service or the new one, never a mixture.

use std::collections::BTreeMap;

use libbpf_rs::{MapCore, MapFlags};
use selvedge_model::Drift;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi;
use crate::error::Error;
use crate::intent::{self, Intent, ServiceIntent};
use crate::kernel::Kernel;

/// The intent maps as last written, mirrored.
#[derive(Default)]
pub(crate) struct Applied {
    intent: Intent,
    /// The version of each service port's endpoint set.
    versions: BTreeMap<abi::ServiceKey, u8>,
}

impl Applied {
    /// Reads what the maps hold, as left by an agent before this one.
    pub(crate) fn read(kernel: &Kernel) -> Result<Self, Error> {
        let mut applied = Self::default();
        let endpoints: BTreeMap<abi::EndpointKey, abi::Endpoint> = entries(kernel, "endpoints")?;
        for (key, service) in entries::<abi::ServiceKey, abi::Service>(kernel, "services")? {
            let slots = (0..service.endpoints)
                .filter_map(|slot| endpoints.get(&endpoint_key(&key, &service, slot)).copied());
            let it = ServiceIntent {
                id: service.id,
                flags: service.flags,
                endpoints: slots.collect(),
            };
            applied.intent.services.insert(key, it);
            applied.versions.insert(key, service.version);
        }
        applied.intent.workloads = entries(kernel, "workloads")?;
        applied.intent.limits = entries(kernel, "limits")?;
        applied.intent.published = entries(kernel, "published")?;
        applied.intent.mesh_names = entries(kernel, "mesh_names")?;
        Ok(applied)
    }

    /// Writes the difference between what is there and `wanted`. Workloads and limits come before
    /// the services that need them, and go after. True if workloads are published now that were not:
    /// they may have listeners already.
    pub(crate) fn apply(&mut self, kernel: &Kernel, wanted: Intent) -> Result<bool, Error> {
        let is_published = |workload: &abi::Workload| workload.flags & abi::WORKLOAD_PUBLISHED != 0;
        let publishes_more = wanted.workloads.iter().any(|(cgroup, workload)| {
            let before = self.intent.workloads.get(cgroup);
            is_published(workload) && !before.is_some_and(is_published)
        });
        put(
            kernel,
            "workloads",
            &mut self.intent.workloads,
            &wanted.workloads,
        )?;
        put(kernel, "limits", &mut self.intent.limits, &wanted.limits)?;
        put(
            kernel,
            "mesh_names",
            &mut self.intent.mesh_names,
            &wanted.mesh_names,
        )?;
        for (key, service) in &wanted.services {
            if self.intent.services.get(key) != Some(service) {
                self.put_service(kernel, key, service)?;
            }
        }
        put(
            kernel,
            "published",
            &mut self.intent.published,
            &wanted.published,
        )?;
        take(
            kernel,
            "published",
            &mut self.intent.published,
            &wanted.published,
        )?;
        let gone: Vec<abi::ServiceKey> = self
            .intent
            .services
            .keys()
            .filter(|key| !wanted.services.contains_key(key))
            .copied()
            .collect();
        for key in gone {
            self.take_service(kernel, &key)?;
        }
        take(
            kernel,
            "mesh_names",
            &mut self.intent.mesh_names,
            &wanted.mesh_names,
        )?;
        take(kernel, "limits", &mut self.intent.limits, &wanted.limits)?;
        take(
            kernel,
            "workloads",
            &mut self.intent.workloads,
            &wanted.workloads,
        )?;
        Ok(publishes_more)
    }

    /// The new set of endpoints is written beside the old one, then the service is switched to it in
    /// one update, then the old one is removed. A connect that read the service just before finds
    /// its slots gone at worst, and draws again.
    fn put_service(
        &mut self,
        kernel: &Kernel,
        key: &abi::ServiceKey,
        wanted: &ServiceIntent,
    ) -> Result<(), Error> {
        let before = self.intent.services.get(key).map(|it| self.entry(key, it));
        let same_endpoints = self
            .intent
            .services
            .get(key)
            .is_some_and(|it| it.endpoints == wanted.endpoints);
        let version = self.versions.get(key).copied().unwrap_or(0);
        let version = if same_endpoints {
            version
        } else {
            version.wrapping_add(1)
        };
        self.versions.insert(*key, version);
        let after = self.entry(key, wanted);
        if !same_endpoints {
            for (slot, endpoint) in wanted.endpoints.iter().enumerate() {
                update(
                    kernel,
                    "endpoints",
                    &endpoint_key(key, &after, slot as u32),
                    endpoint,
                )?;
            }
        }
        update(kernel, "services", key, &after)?;
        self.intent.services.insert(*key, wanted.clone());
        match before {
            Some(before) if !same_endpoints => remove_endpoints(kernel, key, &before),
            _ => Ok(()),
        }
    }

    fn take_service(&mut self, kernel: &Kernel, key: &abi::ServiceKey) -> Result<(), Error> {
        let Some(gone) = self.intent.services.remove(key) else {
            return Ok(());
        };
        let entry = self.entry(key, &gone);
        delete(kernel, "services", key)?;
        remove_endpoints(kernel, key, &entry)
    }

    fn entry(&self, key: &abi::ServiceKey, service: &ServiceIntent) -> abi::Service {
        abi::Service {
            id: service.id,
            endpoints: service.endpoints.len() as u32,
            version: self.versions.get(key).copied().unwrap_or(0),
            flags: service.flags,
            pad: 0,
        }
    }

    /// Where the maps differ from what was last written: somebody else changed them.
    pub(crate) fn drift(&self, kernel: &Kernel) -> Result<Vec<Drift>, Error> {
        let found = Self::read(kernel)?.intent;
        let mut drift = Vec::new();
        let shown = intent::shown;
        compare(
            "services",
            &self.intent.services,
            &found.services,
            shown,
            &mut drift,
        );
        let number = |key: &u64| key.to_string();
        compare(
            "workloads",
            &self.intent.workloads,
            &found.workloads,
            number,
            &mut drift,
        );
        compare(
            "mesh_names",
            &self.intent.mesh_names,
            &found.mesh_names,
            number,
            &mut drift,
        );
        compare(
            "limits",
            &self.intent.limits,
            &found.limits,
            u32::to_string,
            &mut drift,
        );
        let port = |key: &abi::PublishedKey| format!("{}/{}", u16::from_be(key.port), key.protocol);
        compare(
            "published",
            &self.intent.published,
            &found.published,
            port,
            &mut drift,
        );
        drift.truncate(64);
        Ok(drift)
    }
}

fn compare<K: Ord, V: PartialEq>(
    map: &str,
    wanted: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    shown: impl Fn(&K) -> String,
    drift: &mut Vec<Drift>,
) {
    let mut note = |key: &K, difference: &str| {
        let place = format!("{map} {}", shown(key));
        drift.push(Drift {
            place,
            difference: difference.to_owned(),
        });
    };
    for (key, value) in wanted {
        match found.get(key) {
            None => note(key, "missing in the kernel"),
            Some(other) if other != value => note(key, "differs in the kernel"),
            Some(_) => {}
        }
    }
    for key in found.keys().filter(|key| !wanted.contains_key(key)) {
        note(key, "only in the kernel");
    }
}

fn endpoint_key(key: &abi::ServiceKey, service: &abi::Service, slot: u32) -> abi::EndpointKey {
    abi::EndpointKey {
        service: service.id,
        slot,
        port: key.port,
        protocol: key.protocol,
        version: service.version,
    }
}

fn remove_endpoints(
    kernel: &Kernel,
    key: &abi::ServiceKey,
    service: &abi::Service,
) -> Result<(), Error> {
    for slot in 0..service.endpoints {
        delete(kernel, "endpoints", &endpoint_key(key, service, slot))?;
    }
    Ok(())
}

fn put<K, V>(
    kernel: &Kernel,
    map: &'static str,
    mirror: &mut BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
) -> Result<(), Error>
where
    K: Ord + Copy + IntoBytes + Immutable,
    V: PartialEq + Copy + IntoBytes + Immutable,
{
    for (key, value) in wanted {
        if mirror.get(key) != Some(value) {
            update(kernel, map, key, value)?;
            mirror.insert(*key, *value);
        }
    }
    Ok(())
}

fn take<K, V>(
    kernel: &Kernel,
    map: &'static str,
    mirror: &mut BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
) -> Result<(), Error>
where
    K: Ord + Copy + IntoBytes + Immutable,
{
    let gone: Vec<K> = mirror
        .keys()
        .filter(|key| !wanted.contains_key(key))
        .copied()
        .collect();
    for key in gone {
        delete(kernel, map, &key)?;
        mirror.remove(&key);
    }
    Ok(())
}

pub(crate) fn update<K, V>(
    kernel: &Kernel,
    map: &'static str,
    key: &K,
    value: &V,
) -> Result<(), Error>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    kernel
        .map(map)
        .update(key.as_bytes(), value.as_bytes(), MapFlags::ANY)
        .map_err(Error::map("write", map))
}

pub(crate) fn delete<K: IntoBytes + Immutable>(
    kernel: &Kernel,
    map: &'static str,
    key: &K,
) -> Result<(), Error> {
    match kernel.map(map).delete(key.as_bytes()) {
        Err(error) if error.kind() != libbpf_rs::ErrorKind::NotFound => {
            Err(Error::map("delete from", map)(error))
        }
        _ => Ok(()),
    }
}

/// Everything in a map. Entries that go while it is read may be missing.
pub(crate) fn entries<K, V>(kernel: &Kernel, map: &'static str) -> Result<BTreeMap<K, V>, Error>
where
    K: Ord + FromBytes + KnownLayout + Immutable,
    V: FromBytes + KnownLayout + Immutable,
{
    let handle = kernel.map(map);
    let mut all = BTreeMap::new();
    for key in handle.keys() {
        let value = handle
            .lookup(&key, MapFlags::ANY)
            .map_err(Error::map("read", map))?;
        let Some(value) = value else { continue };
        // The kernel gives exactly the sizes that loading has checked.
        if let (Ok(key), Ok(value)) = (K::read_from_bytes(&key), V::read_from_bytes(&value)) {
            all.insert(key, value);
        }
    }
    Ok(all)
}
