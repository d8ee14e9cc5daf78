//! Whatever a program sends, the resolver answers within the bounds or drops it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use selvedge_feed::{Settings, View};
use selvedge_model::{
    CgroupId, DnsSettings, Label, Port, PortMode, Protocol, Service, ServicePort, Snapshot,
    Workload, WorkloadName,
};
use selvedge_proxy::dns::{Action, Transport, respond};
use selvedge_proxy::{Origin, Table};

const ASKER: CgroupId = CgroupId(1);

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut snapshot = Snapshot::empty();
    let name: selvedge_model::ServiceName = "cart.shop".parse().expect("a name");
    let service = Service {
        name: name.clone(),
        address: [127, 96, 1, 1].into(),
        ports: vec![ServicePort {
            name: Label::new("http").ok(),
            port: Port::MIN,
            protocol: Protocol::Tcp,
            app_protocol: None,
            endpoints: Vec::new(),
 way: selvedge_model::Way::Direct,
        }],
        published: Vec::new(),
        published_udp: Vec::new(),
        connection_limit: None,
        detailed_counters: false,
 requests: None,
    };
    snapshot.services.insert(name.clone(), service);
    let workload = Workload {
        name: WorkloadName {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
        },
        service: name,
        cgroup: ASKER,
        ports: PortMode::Shared,
        dns: DnsSettings {
            search: vec!["corp.example".into()],
            ndots: 2,
            nameservers: Vec::new(),
            shadow_search: true,
        },
    };
    snapshot.workloads.insert(ASKER, workload);
    Table::build(&View {
        snapshot,
        settings: Settings::default(),
    })
});

fuzz_target!(|message: &[u8]| {
    let origin = Some(Origin {
        server: ([192, 0, 2, 53], 53).into(),
        workload: ASKER,
    });
    let mut out = Vec::new();
    for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65_535)] {
        if let Action::Answer(_) = respond(&TABLE, message, origin, transport, &mut out) {
            assert!(out.len() >= 12 && out.len() <= limit.max(message.len()));
            assert_eq!(out[..2], message[..2]);
            assert!(out[2] & 0x80 != 0);
        }
    }
});
