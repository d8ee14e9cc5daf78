//! Claim: no input that a fuzzer found worth keeping makes the feed panic. The committed corpora are
//! read as the fuzz targets do.

use std::fs;
use std::path::{Path, PathBuf};

use selvedge_feed::{
    Decoder, MAX_TO_AGENT_BYTES, MAX_TO_PROXY_BYTES, MetricsAnswer, Subscription, ToAgent, ToProxy,
};

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let inputs: Vec<_> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs
}

#[test]
fn feed_from_agent() {
    let mut understood = 0;
    for (path, input) in corpus("feed_from_agent") {
        let mut decoder = Decoder::new(MAX_TO_PROXY_BYTES);
        let mut subscription = Subscription::new();
        let mut metrics = MetricsAnswer::default();
        decoder.push(&input);
        while let Ok(Some(message)) = decoder.next_message() {
            match ToProxy::decode(message) {
                Ok(ToProxy::Update(update)) => {
                    understood += u32::from(subscription.on_update(update).is_ok());
                }
                Ok(ToProxy::Metrics(part)) => {
                    understood += u32::from(metrics.on_part(part).is_ok())
                }
                Ok(_) => understood += 1,
                Err(error) => println!("{}: {error}", path.display()),
            }
        }
    }
    assert!(understood >= 4, "the corpus has good messages too");
}

#[test]
fn feed_from_proxy() {
    let mut understood = 0;
    for (path, input) in corpus("feed_from_proxy") {
        let mut decoder = Decoder::new(MAX_TO_AGENT_BYTES);
        decoder.push(&input);
        while let Ok(Some(message)) = decoder.next_message() {
            match ToAgent::decode(message) {
                Ok(_) => understood += 1,
                Err(error) => println!("{}: {error}", path.display()),
            }
        }
    }
    assert!(understood >= 4, "the corpus has good messages too");
}
