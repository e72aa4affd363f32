#![no_main]
//! Sequences of calls: see `src/calls/mod.rs`.

libfuzzer_sys::fuzz_target!(|input: lenet_fuzz::calls::Input| input.run());
