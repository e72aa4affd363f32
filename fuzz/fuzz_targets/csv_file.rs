#![no_main]
//! CSV files of images, written in every way and damaged: see `src/csv_file.rs`.

libfuzzer_sys::fuzz_target!(|input: lenet_fuzz::csv_file::Input| input.run());
