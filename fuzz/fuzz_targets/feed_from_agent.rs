//! Whatever the feed socket says, the proxy neither panics nor takes what is unsound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use selvedge_feed::{
    Decoder, MAX_METRICS_BYTES, MAX_TO_PROXY_BYTES, MetricsAnswer, SocketList, Subscription, ToProxy,
};

fuzz_target!(|input: &[u8]| {
    let _ = SocketList::decode(input);
    let mut decoder = Decoder::new(MAX_TO_PROXY_BYTES);
    let mut subscription = Subscription::new();
    let mut metrics = MetricsAnswer::default();
    decoder.push(input);
    while let Ok(Some(message)) = decoder.next_message() {
        match ToProxy::decode(message) {
            Ok(ToProxy::Update(update)) => drop(subscription.on_update(update)),
            Ok(ToProxy::Metrics(part)) => {
                if let Ok(Some(text)) = metrics.on_part(part) {
                    assert!(text.len() <= MAX_METRICS_BYTES);
                }
            }
            _ => {}
        }
    }
});
