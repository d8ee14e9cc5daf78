//! Judging a set of documents alone, where no agent runs.

use std::collections::BTreeMap;

use selvedge_model::{Diagnostic, Generation};

use crate::address::VirtualRange;
use crate::compile::{ConditionReason, Facts, compile};
use crate::document::{Parsed, SourceFile, parse};
use crate::objects::Objects;

/// Reads and compiles a set as if it were the whole configuration. Cgroups that Workloads name are
/// not looked for, since they may be those of another host.
pub fn check(files: &[SourceFile], virtual_range: VirtualRange) -> Result<Parsed, Vec<Diagnostic>> {
    let parsed = parse(files)?;
    let mut objects = Objects::default();
    objects.apply(parsed.documents.clone(), Generation(1), virtual_range)?;
    let facts = Facts {
        generation: Generation(1),
        virtual_range,
        cgroups: &BTreeMap::new(),
    };
    let compiled = compile(objects.documents(), facts)?;
    let dangling = compiled
        .conditions
        .into_iter()
        .filter(|condition| condition.reason == ConditionReason::ServiceMissing);
    let dangling: Vec<_> = dangling.map(|condition| condition.diagnostic).collect();
    if dangling.is_empty() {
        Ok(parsed)
    } else {
        Err(dangling)
    }
}
