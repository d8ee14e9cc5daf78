//! Whatever the proxy says, the agent does not panic, and what it takes it could say itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use selvedge_feed::{Decoder, MAX_TO_AGENT_BYTES, ToAgent};

fuzz_target!(|input: &[u8]| {
    let mut decoder = Decoder::new(MAX_TO_AGENT_BYTES);
    decoder.push(input);
    while let Ok(Some(message)) = decoder.next_message() {
        if let Ok(message) = ToAgent::decode(message) {
            let frame = message.clone().encode();
            assert_eq!(ToAgent::decode(&frame[4..]), Ok(message));
        }
    }
});
