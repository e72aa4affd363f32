//! Which images of a dataset go into which of two parts: of each class its share, drawn at random.

use crate::allocation::reserve;
use crate::error::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// For each image whether it is of the first part, which has `fraction` of them. `counts` has the images of each
/// label. No part is empty.
pub fn choose(labels: &[u8], counts: &[u64], fraction: f64, seed: u64) -> Result<Vec<bool>> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::invalid(format!(
            "fraction is {fraction:?}; it must be above 0 and below 1"
        )));
    }
    let shares = shares(counts, fraction);
    let taken: u64 = shares.iter().sum();
    if taken == 0 || taken == labels.len() as u64 {
        return Err(Error::invalid(format!(
            "fraction is {fraction:?}, which leaves one of the parts of {} images empty",
            labels.len()
        )));
    }
    let mut of_first = Vec::new();
    reserve(&mut of_first, labels.len())?;
    of_first.resize(labels.len(), false);
    let mut members = Vec::new();
    for (class, &share) in shares.iter().enumerate().filter(|(_, share)| **share > 0) {
        members.clear();
        reserve(&mut members, counts[class] as usize)?;
        let images = (0..).zip(labels).filter(|(_, label)| usize::from(**label) == class);
        members.extend(images.map(|(i, _)| i as u32));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // So that a class's draw does not depend on the others'.
        rng.set_stream(class as u64);
        members.shuffle(&mut rng);
        members.iter().take(share as usize).for_each(|&i: &u32| of_first[i as usize] = true);
    }
    Ok(of_first)
}

/// How many images of each class the first part has. In all they are `fraction` of the images, rounded; each class has
/// `fraction` of its own, rounded down, and what is then missing goes to those that rounding took most from (Hamilton's
/// method; of equals, the lower one). But a class of two images or more is in both parts.
fn shares(counts: &[u64], fraction: f64) -> Vec<u64> {
    let least = |count: u64| u64::from(count > 1);
    let most = |count: u64| count - least(count);
    let mut shares: Vec<u64> =
        counts.iter().map(|&n| ((n as f64 * fraction) as u64).clamp(least(n), most(n))).collect();
    let all: u64 = counts.iter().sum();
    let wanted = (all as f64 * fraction).round() as u64;
    // Positive where a class would have more.
    let missing = |class: usize, share: u64| counts[class] as f64 * fraction - share as f64;
    while shares.iter().sum::<u64>() != wanted {
        let up = shares.iter().sum::<u64>() < wanted;
        let may_change = |class: &usize| {
            let (n, share) = (counts[*class], shares[*class]);
            if up { share < most(n) } else { share > least(n) }
        };
        let need = |class: &usize| {
            let missing = missing(*class, shares[*class]);
            if up { missing } else { -missing }
        };
        // `max_by` takes the last of equals.
        let neediest =
            (0..counts.len()).rev().filter(may_change).max_by(|a, b| need(a).total_cmp(&need(b)));
        match neediest {
            Some(class) if up => shares[class] += 1,
            Some(class) => shares[class] -= 1,
            // Every class has all that it may have.
            None => break,
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_no_class_is_lost() {
        for (counts, fraction, expected) in [
            (&[10, 10, 10][..], 0.8, &[8, 8, 8][..]),
            (&[5, 5, 5, 5], 0.5, &[3, 3, 2, 2]),
            (&[1, 3, 7], 0.5, &[1, 2, 3]),
            (&[6000, 6000], 1.0 / 3.0, &[2000, 2000]),
            (&[2, 2, 96], 0.9, &[1, 1, 88]),
            (&[2, 2, 96], 0.01, &[1, 1, 1]),
            (&[1, 1, 1, 1], 0.5, &[1, 1, 0, 0]),
            (&[0, 4, 0, 1], 0.5, &[0, 2, 0, 1]),
            (&[1], 0.5, &[1]),
            (&[2], 0.999, &[1]),
        ] {
            assert_eq!(shares(counts, fraction), expected, "{counts:?} {fraction}");
        }
    }
}
