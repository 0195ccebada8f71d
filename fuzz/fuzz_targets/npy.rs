#![no_main]

#[path = "../inputs.rs"]
#[allow(dead_code)]
mod inputs;

// One place an input, for all of them take six times as long. Inputs of one length share theirs, so
// that a change within an array can be followed by the next.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    inputs::npy_in(bytes.len() % (inputs::REPLACED.len() + 1), bytes);
});
