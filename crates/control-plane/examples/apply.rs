//! How long each step of a large apply takes: 5,000 services with 20,000 endpoints, then one more.
//!
//! `cargo run --release -p selvedge-control-plane --example apply [SERVICES]`
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "this is a command")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use selvedge_control_plane::{
    Disk, Effect, Options, SourceFile, Store, VirtualRange, parse, start,
};
use selvedge_model::Generation;

const ENDPOINTS_PER_SERVICE: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let services = std::env::args()
        .nth(1)
        .map_or(Ok(5_000), |text| text.parse())?;
    let folder = std::env::temp_dir().join(format!("selvedge-apply-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let measured = runtime.block_on(measure(services, &folder));
    std::fs::remove_dir_all(&folder)?;
    measured
}

async fn measure(
    services: usize,
    folder: &std::path::Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let (store, restored) = Store::open(Disk::open(folder)?)?;
    let options = Options {
        virtual_range: VirtualRange::DEFAULT,
        floor: Generation(0),
    };
    let (plane, task) = start(store, restored, options);
    tokio::spawn(task);
    for (what, text) in [
        (format!("{services} services"), documents(0..services)),
        ("one more".to_owned(), documents(services..services + 1)),
        ("the same again".to_owned(), documents(0..services)),
    ] {
        let begun = Instant::now();
        let name = "generated".to_owned();
        let parsed = parse(&[SourceFile { name, text }]).map_err(|it| it[0].to_string())?;
        let read = begun.elapsed();
        plane.apply(parsed.documents, Effect::Change).await?;
        report(&what, read, begun.elapsed());
    }
    drop(plane);
    let begun = Instant::now();
    let (_, restored) = Store::open(Disk::open(folder)?)?;
    let objects = restored.objects.iter().count();
    println!("{objects} objects read back in {:?}", begun.elapsed());
    Ok(())
}

fn report(what: &str, read: Duration, all: Duration) {
    println!(
        "{what}: read in {read:?}, compiled and stored in {:?}",
        all - read
    );
}

fn documents(numbers: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    for number in numbers {
        let _ = writeln!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: s{number}\nspec:\n  ports:\n  \
             - name: http\n    port: 80\n---\napiVersion: discovery.k8s.io/v1\n\
             kind: EndpointSlice\nmetadata:\n  name: s{number}-a\n  labels:\n    \
             kubernetes.io/service-name: s{number}\naddressType: IPv4\nports:\n- name: http\n  \
             port: 8080\nendpoints:"
        );
        for endpoint in 0..ENDPOINTS_PER_SERVICE {
            let (high, low) = (number / 256, number % 256);
            let _ = writeln!(text, "- addresses: [10.{high}.{low}.{}]", endpoint + 1);
        }
    }
    text
}
