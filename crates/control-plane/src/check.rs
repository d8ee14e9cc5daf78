//! Judging a set of documents alone, where no agent runs.

use std::collections::BTreeMap;

use selvedge_model::{Diagnostic, Generation};

use selvedge_resilience::planner::Plan;

use crate::address::VirtualRange;
use crate::compile::{ConditionReason, Facts, compile};
use crate::document::{Parsed, SourceFile, parse};
use crate::objects::Objects;

/// Reads and compiles a set as if it were the whole configuration. Cgroups that Workloads name are
/// not looked for, since they may be those of another host.
pub fn check(files: &[SourceFile], virtual_range: VirtualRange) -> Result<Parsed, Vec<Diagnostic>> {
    let mut parsed = parse(files)?;
    let mut objects = Objects::default();
    objects.apply(parsed.documents.clone(), Generation(1), virtual_range)?;
    let facts = Facts {
        generation: Generation(1),
        virtual_range,
        cgroups: &BTreeMap::new(),
        plan: &Plan::default(),
    };
    let compiled = compile(objects.documents(), facts)?;
    let mut dangling = Vec::new();
    for condition in compiled.conditions {
        match condition.reason {
            ConditionReason::ServiceMissing => dangling.push(condition.diagnostic),
            reason if reason.is_mistake() => parsed.warnings.push(condition.diagnostic),
            _ => {}
        }
    }
    if dangling.is_empty() {
        Ok(parsed)
    } else {
        Err(dangling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: String) -> Result<usize, Vec<String>> {
        let name = "f".to_owned();
        let checked = check(&[SourceFile { name, text }], VirtualRange::DEFAULT);
        let errors = |errors: Vec<Diagnostic>| errors.iter().map(ToString::to_string).collect();
        checked.map(|parsed| parsed.documents.len()).map_err(errors)
    }

    /// The examples of the page on configuration are one configuration, and it is right.
    #[test]
    fn the_documented_examples_are_right() {
        let page = include_str!("../../../docs/configuration.md");
        let examples = page.lines().map(|line| match line.strip_prefix("    ") {
            Some(example) if example.starts_with("apiVersion") => format!("---\n{example}\n"),
            Some(example) => format!("{example}\n"),
            None => "\n".to_owned(),
        });
        assert_eq!(judge(examples.collect()), Ok(13));
    }

    #[test]
    fn a_match_that_gets_no_request_is_warned_of() {
        let service =
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
        let route = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\n\
                     spec:\n  parentRefs: [{kind: Service, name: a}]\n  rules:\n  \
                     - backendRefs: [{name: a, port: 80}]\n  \
                     - matches: [{path: {type: RegularExpression, value: /x.*}}]\n    \
                     backendRefs: [{name: a, port: 80}]\n";
        let file = SourceFile {
            name: "f".to_owned(),
            text: format!("{service}{route}"),
        };
        let warnings = check(&[file], VirtualRange::DEFAULT).unwrap().warnings;
        let [warning] = &warnings[..] else {
            panic!("{warnings:?}");
        };
        assert_eq!(
            (warning.path.as_str(), warning.origin.line),
            ("spec.rules[1].matches[0]", 13)
        );
        assert!(
            warning.message.contains("HTTPRoute r.default, rules[0]"),
            "{warning}"
        );
    }

    /// Mistakes within the set, which no host and no moment can mend.
    #[test]
    fn what_a_set_lacks_by_itself_is_warned_of() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n\
                    ---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
                    metadata: {name: r}\nspec:\n  \
                    parentRefs: [{kind: Service, name: a}, {name: edge}]\n  rules:\n  \
                    - backendRefs: [{name: a, port: 81}]\n  \
                    - filters: [{type: RequestRedirect, requestRedirect: {path: {type: \
                    ReplaceFullPath, replaceFullPath: /x}}}]\n    timeouts: {request: 1s}\n    \
                    matches: [{path: {value: /x}}]\n";
        let file = SourceFile {
            name: "f".to_owned(),
            text: text.to_owned(),
        };
        let warnings = check(&[file], VirtualRange::DEFAULT).unwrap().warnings;
        let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        for part in ["Gateway", "port 81", "RequestRedirect"] {
            let found = warnings.iter().filter(|warning| warning.contains(part));
            assert_eq!(found.count(), 1, "{part}: {warnings:#?}");
        }
    }

    #[test]
    fn a_set_that_refers_to_nothing_is_wrong_alone() {
        let text = "apiVersion: selvedge.dev/v1alpha1\nkind: Workload\nmetadata: {name: w}\n\
                    spec:\n  service: none\n  cgroup: /not/there\n";
        let want = "f:5: Workload default/w: spec.service: there is no service none.default";
        assert_eq!(judge(text.to_owned()), Err(vec![want.to_owned()]));
    }
}
