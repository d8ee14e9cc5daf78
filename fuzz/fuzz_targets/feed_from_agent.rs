//! Whatever the feed socket says, the proxy neither panics nor takes what is unsound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use selvedge_feed::{Decoder, MAX_TO_PROXY_BYTES, SocketList, Subscription, ToProxy};

fuzz_target!(|input: &[u8]| {
    let _ = SocketList::decode(input);
    let mut decoder = Decoder::new(MAX_TO_PROXY_BYTES);
    let mut subscription = Subscription::new();
    decoder.push(input);
    while let Ok(Some(message)) = decoder.next_message() {
        if let Ok(ToProxy::Update(update)) = ToProxy::decode(message) {
            let _ = subscription.on_update(update);
        }
    }
});
