//! Whether a step takes as long after 20,000 of them as at first, on data that has long been learnt: gradients become so
//! small there that optimizer averages could become subnormal, and some CPUs are slow with those.
//!
//! `cargo bench --bench long_training`. Prints, for every 2,000 steps, the median time of a step, the loss, and the
//! share of averages that are subnormal.

use lenet::ffi::*;
use safetensors::SafeTensors;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::time::Instant;

const STEPS: usize = 20_000;
const PERIOD: usize = 2_000;
const BATCH: usize = 64;
const SIDE: usize = 28;

fn main() {
    println!("   steps  us a step        loss  subnormal averages");
    let (images, labels) = made_data();
    // SAFETY: each pointer is of a live place of ours, as lenet.h asks for it.
    unsafe {
        let (mut options, mut model) = (MaybeUninit::uninit(), null_mut());
        let size = size_of::<lenet_options>();
        ok(lenet_options_init(options.as_mut_ptr(), size, LENET_PRESET_MODERN));
        ok(lenet_create(options.as_ptr(), &mut model));
        for period in 1..=STEPS / PERIOD {
            let (mut times, mut loss) = (Vec::with_capacity(PERIOD), 0.0);
            for _ in 0..PERIOD {
                let start = Instant::now();
                let (images, labels) = (images.as_ptr(), labels.as_ptr());
                ok(lenet_train_batch_u8(model, images, labels, BATCH, &mut loss));
                times.push(start.elapsed());
            }
            times.sort();
            println!(
                "{:8}  {:9.1}  {loss:10.2e}  {:.4}",
                period * PERIOD,
                times[PERIOD / 2].as_secs_f64() * 1e6,
                subnormal_share(model)
            );
        }
        lenet_free(model);
    }
}

fn ok(status: lenet_status) {
    assert_eq!(status, LENET_OK);
}

/// Images of ten classes that differ by where a bright square is.
fn made_data() -> (Vec<u8>, Vec<u8>) {
    let labels: Vec<u8> = (0..BATCH).map(|i| (i % 10) as u8).collect();
    let mut images = vec![0; BATCH * SIDE * SIDE];
    for (i, image) in images.chunks_exact_mut(SIDE * SIDE).enumerate() {
        let (row, column) = (8 * (i % 10 / 4), 7 * (i % 10 % 4));
        for y in row..row + 6 {
            image[y * SIDE + column..][..6].fill(200 + (i % 50) as u8);
        }
    }
    (images, labels)
}

/// # Safety
/// A model that lives.
unsafe fn subnormal_share(model: *const lenet_model) -> f64 {
    let mut length = 0;
    // SAFETY: NULL and 0 ask for the length.
    ok(unsafe { lenet_save_buffer(model, null_mut(), 0, &mut length) });
    let mut bytes = vec![0; length];
    // SAFETY: room for that length.
    ok(unsafe { lenet_save_buffer(model, bytes.as_mut_ptr(), length, &mut length) });
    let tensors = SafeTensors::deserialize(&bytes).expect("what lenet saves can be read");
    let averages = tensors.iter().filter(|(name, _)| name.starts_with("optimizer."));
    let floats: Vec<f32> = averages
        .flat_map(|(_, tensor)| tensor.data().chunks_exact(4))
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
        .collect();
    floats.iter().filter(|x| x.is_subnormal()).count() as f64 / floats.len() as f64
}
