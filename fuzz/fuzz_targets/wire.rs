//! Every endpoint's query and body: nothing panics, and what is read is written and read again as the same.
#![no_main]

mod honest;

use gangline_types::{ClusterId, GpuId, KeyId, Label, ProofId};
use gangline_wire::{Endpoint, ErrorBody, body, endpoints};
use libfuzzer_sys::fuzz_target;

/// Calls one endpoint's types with the text.
struct One<'a> {
    left: u8,
    text: &'a [u8],
}

impl endpoints::Visitor for One<'_> {
    fn visit<E: Endpoint>(&mut self) {
        if self.left != 0 {
            self.left = self.left.wrapping_sub(1);
            return;
        }
        self.left = u8::MAX;
        if let Ok(request) = body::json::<E::Request>(self.text) {
            let written = serde_json::to_vec(&request).expect("a request can be written");
            let again: E::Request = body::json(&written).expect("and read again, with every field known");
            assert_eq!(serde_json::to_vec(&again).expect("and written"), written);
        }
        let _ = body::form::<E::Request>(self.text);
        let _ = serde_json::from_slice::<E::Response>(self.text);
        let _ = serde_urlencoded::from_bytes::<E::Query>(self.text);
    }
}

fn spelled<T: std::str::FromStr + ToString>(text: &str) {
    // The hole: what stands behind an id is not looked at.
    let read = if honest::has_hole() { text.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()) } else { text };
    if let Ok(id) = read.parse::<T>() {
        assert_eq!(id.to_string(), text, "an id with two spellings");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, text)) = data.split_first() else { return };
    endpoints::for_each(&mut One { left: *first, text });
    let _ = serde_json::from_slice::<ErrorBody>(text);
    let Ok(text) = std::str::from_utf8(text) else { return };
    spelled::<GpuId>(text);
    spelled::<ProofId>(text);
    spelled::<ClusterId>(text);
    spelled::<KeyId>(text);
    let cut = Label::lossy(text);
    assert_eq!(Label::new(cut.as_str()).as_ref(), Ok(&cut), "what was made inert is not");
});
