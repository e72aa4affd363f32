#![no_main]
//! Pairs of IDX files, plain and gzipped: see `src/idx_file.rs`.

libfuzzer_sys::fuzz_target!(|input: lenet_fuzz::idx_file::Input| input.run());
