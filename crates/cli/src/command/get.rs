//! `selvedge get`: reads objects back.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use selvedge_control_plane::wire::ObjectList;
use serde_json::{Value, json};

use crate::client;
use crate::output::{OutputArgs, Table, count};

/// Arguments of `selvedge get`.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// Kind of object, as service, workload, httproute, trafficpolicy; all kinds without it.
    kind: Option<String>,
    /// Name of one object.
    #[arg(requires = "kind")]
    name: Option<String>,
    /// Only objects of this namespace.
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Gets the objects.
pub(crate) fn get(run_dir: &Path, args: &GetArgs) -> anyhow::Result<ExitCode> {
    let path = objects_path(
        args.kind.as_deref(),
        args.namespace.as_deref(),
        args.name.as_deref(),
    );
    let list: ObjectList = client::get(run_dir, &path)?;
    // One object that was asked for by name is printed as such; everything else as a list, which
    // can be applied again as it is.
    let value = match (&args.name, &list.items[..]) {
        (Some(_), [object]) => object.clone(),
        _ => json!({"apiVersion": "v1", "kind": "List", "items": list.items}),
    };
    args.output.print(&value, |_| table(&list.items))?;
    Ok(ExitCode::SUCCESS)
}

/// The resource that selects objects. What is no name is escaped, so that it selects nothing.
pub(crate) fn objects_path(
    kind: Option<&str>,
    namespace: Option<&str>,
    name: Option<&str>,
) -> String {
    let parts = [("kind", kind), ("namespace", namespace), ("name", name)];
    let parts = parts.into_iter().filter_map(|(key, value)| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let value = value?.chars().map(|c| if plain(c) { c } else { '~' });
        Some(format!("{key}={}", value.collect::<String>()))
    });
    format!("/v1/objects?{}", parts.collect::<Vec<_>>().join("&"))
}

fn table(items: &[Value]) -> String {
    let mut table = Table::new(&["KIND", "NAMESPACE", "NAME", "VERSION", "OWNER", "SAYS"]);
    for item in items {
        let metadata = &item["metadata"];
        table.row([
            text(&item["kind"]),
            text(&metadata["namespace"]),
            text(&metadata["name"]),
            text(&metadata["resourceVersion"]),
            text(&item["status"]["owner"]),
            says(item),
        ]);
    }
    if table.is_empty() {
        return "there are no objects\n".to_owned();
    }
    table.into_text()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The gist of an object in one line, and whatever is incomplete about it.
fn says(item: &Value) -> String {
    let spec = &item["spec"];
    let mut says = match item["kind"].as_str() {
        Some("Service") => {
            let ports = list(&spec["ports"], |port| {
                format!("{}/{}", text(&port["port"]), text(&port["protocol"]))
            });
            format!("{} {ports}", text(&spec["clusterIP"]))
        }
        Some("EndpointSlice") => {
            let endpoints = list(&item["endpoints"], |it| list(&it["addresses"], text));
            format!(
                "{}: {endpoints}",
                text(&item["metadata"]["labels"][SERVICE_LABEL])
            )
        }
        Some("Workload") => {
            let place = ["cgroup", "systemdUnit", "address"].map(|field| &spec[field]);
            let place = place.into_iter().find(|place| !place.is_null());
            format!(
                "{} at {}",
                text(&spec["service"]),
                place.map(text).unwrap_or_default()
            )
        }
        Some("Gateway") => list(&spec["listeners"], |listener| {
            format!("{}:{}", text(&listener["name"]), listener["port"])
        }),
        Some("HTTPRoute" | "TCPRoute") => {
            let rules = spec["rules"].as_array().map_or(0, Vec::len);
            let parents = list(&spec["parentRefs"], |parent| text(&parent["name"]));
            format!("{parents}: {}", count(rules, "rule"))
        }
        Some("TrafficPolicy") => {
            let said = SAID_BY_POLICIES;
            let said = said.into_iter().filter(|field| !spec[*field].is_null());
            let targets = list(&spec["targetRefs"], |target| text(&target["name"]));
            format!("{targets}: {}", said.collect::<Vec<_>>().join(", "))
        }
        Some("ServiceObjective") => {
            let targets = list(&spec["targetRefs"], |target| text(&target["name"]));
            let (tail, mode) = (text(&spec["latency"]["p95"]), text(&spec["mode"]));
            format!("{targets}: p95 {tail}, {mode}")
        }
        Some("RunPermission") => {
            format!("{} rules", spec["rules"].as_array().map_or(0, Vec::len))
        }
        _ => String::new(),
    };
    for condition in item["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        says.push_str(&format!(" [{}]", text(&condition["type"])));
    }
    says
}

/// What a TrafficPolicy may say something about.
const SAID_BY_POLICIES: [&str; 8] = [
    "balancing",
    "limits",
    "timeouts",
    "retry",
    "retryBudget",
    "ejection",
    "counters",
    "resolver",
];
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Items shown of a list; the rest is counted.
const SHOWN: usize = 4;

fn list(value: &Value, show: impl Fn(&Value) -> String) -> String {
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    let mut shown: Vec<_> = items.iter().take(SHOWN).map(show).collect();
    if items.len() > SHOWN {
        shown.push(format!("... {} more", items.len() - SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_hold_nothing_that_needs_escaping() {
        assert_eq!(objects_path(None, None, None), "/v1/objects?");
        let path = objects_path(Some("svc"), Some("a&b c"), Some("x?y"));
        assert_eq!(path, "/v1/objects?kind=svc&namespace=a~b~c&name=x~y");
    }

    #[test]
    fn every_kind_says_its_gist() {
        let service = json!({
            "kind": "Service", "metadata": {"name": "a", "namespace": "d", "resourceVersion": "3"},
            "spec": {"clusterIP": "127.96.0.1", "ports": [{"port": 80, "protocol": "TCP"}]},
            "status": {"owner": "api", "conditions": [{"type": "BalancedPerConnection"}]},
        });
        let want = "KIND     NAMESPACE  NAME  VERSION  OWNER  SAYS\n\
                    Service  d          a     3        api    \
                    127.96.0.1 80/TCP [BalancedPerConnection]\n";
        assert_eq!(table(&[service]), want);
        let workload = json!({"kind": "Workload", "spec": {"service": "a", "cgroup": "/x"}});
        assert_eq!(says(&workload), "a at /x");
        let route = json!({"kind": "HTTPRoute", "spec": {
            "parentRefs": [{"name": "a"}, {"name": "b"}], "rules": [{}],
        }});
        assert_eq!(says(&route), "a, b: 1 rule");
        let slice = json!({"kind": "EndpointSlice", "endpoints": (0..6).map(|n| {
            json!({"addresses": [format!("10.0.0.{n}")]})
        }).collect::<Vec<_>>()});
        assert_eq!(
            says(&slice),
            "-: 10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3, ... 2 more"
        );
    }
}
