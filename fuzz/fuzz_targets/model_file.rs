#![no_main]
//! Model files, damaged in every way: see `src/model_file/mod.rs`.

libfuzzer_sys::fuzz_target!(|input: lenet_fuzz::model_file::Input| input.run());
