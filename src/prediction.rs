//! From logits to what a model says: probabilities, a class, a loss. A mirrored model's logits are two rows an image,
//! its own and its mirror image's, and its probabilities are the mean of both softmaxes, each with the temperature.

use crate::batch::argmax;

/// The logits of one image.
pub struct Rows<'a> {
    pub own: &'a mut [f32],
    /// Of its mirror image.
    pub mirrored: Option<&'a mut [f32]>,
}

/// The rows of each of `n` images in logits (1 or 2, n, classes), of which the second half, if there is one, is of
/// the mirror images.
pub fn rows(logits: &mut [f32], n: usize, classes: usize) -> impl Iterator<Item = Rows<'_>> {
    let (own, mirrored) = logits.split_at_mut(n * classes);
    let mut mirrored = mirrored.chunks_exact_mut(classes);
    own.chunks_exact_mut(classes).map(move |own| Rows { own, mirrored: mirrored.next() })
}

impl Rows<'_> {
    /// Makes the logits in `own` probabilities, and gives the most probable class, the first one among equals.
    pub fn classify(&mut self, temperature: f64) -> usize {
        let class = argmax(self.own);
        softmax(self.own, temperature);
        let Some(mirrored) = &mut self.mirrored else { return class };
        softmax(mirrored, temperature);
        for (p, q) in self.own.iter_mut().zip(&**mirrored) {
            *p = 0.5 * (*p + q);
        }
        argmax(self.own)
    }

    /// The most probable class. The logits are used up.
    pub fn class(&mut self, temperature: f64) -> usize {
        if self.mirrored.is_none() { argmax(self.own) } else { self.classify(temperature) }
    }

    /// -log of the probability of this class, in f64, so that no probability is too small for it.
    pub fn loss(&self, class: usize, temperature: f64) -> f64 {
        let own = log_probability(self.own, class, temperature);
        let Some(mirrored) = &self.mirrored else { return -own };
        let mirrored = log_probability(mirrored, class, temperature);
        let largest = own.max(mirrored);
        -(largest + (0.5 * ((own - largest).exp() + (mirrored - largest).exp())).ln())
    }
}

/// log softmax(logits / temperature)[label].
fn log_probability(logits: &[f32], label: usize, temperature: f64) -> f64 {
    let scaled = |logit: f32| f64::from(logit) / temperature;
    let largest = scaled(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (scaled(logit) - largest).exp()).sum();
    scaled(logits[label]) - (sum.ln() + largest)
}

/// softmax(row / temperature), in place; the largest logit is subtracted first, so nothing overflows.
fn softmax(row: &mut [f32], temperature: f64) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let temperature = temperature as f32;
    let mut sum = 0.0;
    for x in &mut *row {
        *x = ((*x - largest) / temperature).exp();
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirrored_models_answer_is_the_mean_of_two() {
        let mut logits = [0.0, 2.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0];
        let mut both = rows(&mut logits, 2, 2);
        // 0.119 and 0.881, and the mirror image's 0.982 and 0.018.
        let mut first = both.next().unwrap();
        assert!((first.loss(0, 1.0) + (0.5f64 * (0.119203 + 0.982014)).ln()).abs() < 1e-5);
        assert_eq!(first.classify(1.0), 0);
        assert!((first.own[0] - 0.550608).abs() < 1e-5);
        let mut second = both.next().unwrap();
        assert!((second.loss(1, 1.0) - std::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!((second.classify(1.0), &*second.own), (0, &[0.5, 0.5][..]));
        assert!(both.next().is_none());
    }

    #[test]
    fn a_probability_below_the_range_of_float_has_a_loss() {
        let mut logits = [0.0, 1000.0, 0.0, 900.0];
        let loss = rows(&mut logits, 1, 2).next().unwrap().loss(0, 1.0);
        assert!((loss - (900.0 + std::f64::consts::LN_2)).abs() < 1e-9, "{loss}");
        let loss = rows(&mut logits, 1, 2).next().unwrap().loss(0, 2.0);
        assert!((loss - (450.0 + std::f64::consts::LN_2)).abs() < 1e-9, "{loss}");
    }

    #[test]
    fn softmax_of_large_logits_is_finite() {
        let mut row = [1e30, -1e30, 1e30];
        softmax(&mut row, 1.0);
        assert_eq!(row, [0.5, 0.0, 0.5]);
    }
}
