//! One pass over a dataset: in what order its images come, how they are seen, and how much they count.

use crate::allocation::reserve;
use crate::augment::{Augmentation, View};
use crate::batch::{Images, Order, Pixels, Targets};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::model::Model;
use crate::standing::Epoch;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// What is left of an epoch.
#[derive(Default)]
pub struct Pass {
    /// Of the whole epoch.
    order: Vec<u32>,
    consumed: usize,
    labels: Vec<u8>,
    views: Option<Vec<View>>,
    weights: Option<Vec<f32>>,
}

impl Pass {
    /// Draws the rest of an epoch. `classes` are the weights of the classes, if they differ.
    pub fn draw(
        &mut self,
        dataset: &Dataset,
        seed: u64,
        epoch: Epoch,
        augmentation: &Augmentation,
        classes: Option<&[f32]>,
    ) -> Result<()> {
        shuffle(&mut self.order, seed, epoch.index, dataset.count())?;
        self.consumed = epoch.consumed as usize;
        let rest = &self.order[self.consumed..];
        self.labels.clear();
        reserve(&mut self.labels, rest.len())?;
        self.labels.extend(rest.iter().map(|&i| dataset.labels()[i as usize]));
        if !augmentation.is_off() {
            let views = self.views.get_or_insert_default();
            views.clear();
            reserve(views, rest.len())?;
            views.extend(rest.iter().map(|&image| augmentation.draw(seed, epoch.index, image)));
        }
        if let Some(classes) = classes {
            let weights = self.weights.get_or_insert_default();
            weights.clear();
            reserve(weights, rest.len())?;
            weights.extend(self.labels.iter().map(|&label| classes[usize::from(label)]));
        }
        Ok(())
    }

    /// Images that are left.
    pub fn count(&self) -> usize {
        self.labels.len()
    }

    pub fn images<'a>(&'a self, model: &Model, dataset: &'a Dataset) -> Images<'a> {
        let indices = &self.order[self.consumed..];
        let order = Order { indices, dataset: dataset.number(), labels: dataset.labels() };
        let images = model.images(Pixels::Byte(dataset.images()));
        Images { order: Some(order), views: self.views.as_deref(), ..images }
    }

    pub fn targets(&self) -> Targets<'_> {
        Targets { labels: &self.labels, weights: self.weights.as_deref() }
    }
}

/// How much an image of each class counts, by the images that each has: from 1 for all, with a balance of 0, to what
/// gives each class that has images the same sum, with a balance of 1: images / (classes * images of the class). The
/// mean over all images is 1. None: all are 1.
pub fn class_weights(counts: &[u64], balance: f64) -> Option<Vec<f32>> {
    if balance == 0.0 {
        return None;
    }
    let images = counts.iter().sum::<u64>() as f64;
    let classes = counts.iter().filter(|&&count| count > 0).count() as f64;
    let weight = |&count: &u64| {
        let even = images / (classes * count.max(1) as f64);
        (1.0 - balance + balance * even) as f32
    };
    Some(counts.iter().map(weight).collect())
}

/// The order of epoch `index`: each epoch has its own stream of the seed's generator, so that an
/// order can be made again without knowing what was drawn before. Stream 0 drew the weights.
fn shuffle(order: &mut Vec<u32>, seed: u64, index: u64, count: usize) -> Result<()> {
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

    #[test]
    fn balanced_classes_count_the_same_and_images_one_in_the_mean() {
        let counts = [95, 0, 0, 5];
        assert_eq!(class_weights(&counts, 0.0), None);
        for balance in [0.3, 1.0] {
            let weights = class_weights(&counts, balance).unwrap();
            let [often, rare] = [weights[0], weights[3]].map(f64::from);
            assert!((95.0 * often + 5.0 * rare - 100.0).abs() < 1e-4);
            assert!((rare - (1.0 - balance + balance * 10.0)).abs() < 1e-6);
        }
        let even = class_weights(&[2, 2, 2], 0.7).unwrap();
        assert_eq!(even[..3], [1.0; 3]);
    }
}
