//! One pass over a dataset: in what order.

use crate::allocation::reserve;
use crate::error::Result;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The order of epoch `index`: each epoch has its own stream of the seed's generator, so that an
/// order can be made again without knowing what was drawn before. Stream 0 drew the weights.
pub fn shuffle(order: &mut Vec<u32>, seed: u64, index: u64, count: usize) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index + 1);
    order.clear();
    reserve(order, count)?;
    order.extend(0..count as u32);
    order.shuffle(&mut rng);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_is_its_own_permutation() {
        let shuffled = |seed, index| {
            let mut order = vec![7];
            shuffle(&mut order, seed, index, 1000).unwrap();
            order
        };
        let first = shuffled(3, 0);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        assert_eq!(first, shuffled(3, 0));
        assert_ne!(first, shuffled(3, 1));
        assert_ne!(first, shuffled(4, 0));
    }
}
