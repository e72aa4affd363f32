#![no_main]
//! Picture files: see `src/picture_file.rs`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lenet_fuzz::picture_file::run(bytes));
