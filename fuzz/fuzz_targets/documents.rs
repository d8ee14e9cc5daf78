//! Configuration of whoever may ask: any text is read and judged, or refused; the agent, which does it
//! as root, neither panics nor takes long.

#![no_main]

use libfuzzer_sys::fuzz_target;
use selvedge_control_plane::{SourceFile, VirtualRange, check};

fuzz_target!(|text: String| {
    let file = SourceFile {
        name: "documents.yaml".to_owned(),
        text,
    };
    if let Err(diagnostics) = check(&[file], VirtualRange::DEFAULT) {
        assert!(!diagnostics.is_empty());
    }
});
