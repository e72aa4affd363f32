//! The threads that a model computes on.
//!
//! | room | concern |
//! | --- | --- |
//! | `queue` | work that threads share |
//! | `schedule` | which part of a training step a thread does next |
//! | `pool` | the threads, and a job for them |
//! | `gate` | how a job is handed over and taken back, without a lock |
//! | `event` | waiting: looking for a while, then sleeping |
//! | `sync` | what those two are written with |

mod event;
mod gate;
mod pool;
mod queue;
mod schedule;
mod sync;

pub use gate::Padded;
pub use pool::{Pool, count, lock};
pub use queue::{WorkQueues, next, run};
pub use schedule::{MOST_PIECES, Part, Plan, Schedule, Slot};

#[cfg(test)]
mod tests {
    use super::gate::Padded;
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use std::sync::Mutex;
    use std::thread::yield_now;
    use std::time::Duration;

    /// Every part is done once, after what it needs, whoever is slow.
    #[test]
    fn every_part_is_done_once_and_in_order() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for round in 0..100 {
            let plan = Plan {
                threads: rng.random_range(1..=9),
                chunks: rng.random_range(1..=60),
                chunks_per_slab: rng.random_range(1..=8),
                pieces: rng.random_range(1..=7),
            };
            let slots: Vec<_> = (0..plan.slots()).map(|_| Padded::default()).collect();
            let schedule = Schedule::new(plan, &slots, Duration::from_micros(round % 3 * 10));
            let parts = Mutex::new(Vec::new());
            let note = |begins: bool, part: Part| parts.lock().unwrap().push((begins, part));
            Pool::new(plan.threads).run(plan.threads, &|thread| {
                let mut rng = ChaCha8Rng::seed_from_u64(round + 1000 * thread as u64);
                let mut home = None;
                while let Some(part) = schedule.next(thread, home) {
                    note(true, part);
                    (0..rng.random_range(0..20)).for_each(|_| yield_now());
                    note(false, part);
                    match part {
                        Part::Chunk { slab, .. } => {
                            home = Some(slab);
                            schedule.chunk_done(slab);
                        }
                        Part::Piece { slab, piece, .. } => schedule.piece_done(slab, piece, || {}),
                    }
                }
            });
            check(&plan, &parts.into_inner().unwrap());
        }
    }

    fn check(plan: &Plan, parts: &[(bool, Part)]) {
        let place = |begins, part: &dyn Fn(&Part) -> bool| {
            let mut places = parts.iter().enumerate().filter(|(_, (b, p))| *b == begins && part(p));
            let found = places.next().unwrap_or_else(|| panic!("{plan:?}: a part is missing")).0;
            assert!(places.next().is_none(), "{plan:?}: a part is done twice");
            found
        };
        let slabs = plan.slabs();
        assert_eq!(parts.len(), 2 * (plan.chunks + slabs * plan.pieces));
        for piece in 0..plan.pieces {
            let of = |slab: usize| move |part: &Part| matches!(part, Part::Piece { slab: s, piece: p, .. } if (*s, *p) == (slab, piece));
            let mut ended = vec![];
            for slab in 0..slabs {
                let begin = place(true, &of(slab));
                if slab >= 2 {
                    assert!(ended.iter().all(|&end| end < begin), "{plan:?}: out of order");
                }
                ended.push(place(false, &of(slab)));
                let first = slab * plan.chunks_per_slab;
                for chunk in 0..plan.chunks_per_slab.min(plan.chunks - first) {
                    let end = place(false, &|part| *part == Part::Chunk { slab, chunk });
                    assert!(end < begin, "{plan:?}: a slab was not complete");
                }
            }
            let at = |f: &dyn Fn(bool, bool) -> bool| {
                place(
                    true,
                    &|part| matches!(part, Part::Piece { piece: p, first, last, .. } if *p == piece && f(*first, *last)),
                )
            };
            let (first, last) = (at(&|first, _| first), at(&|_, last| last));
            assert!((0..slabs).all(|slab| (first..=last).contains(&place(true, &of(slab)))));
        }
    }

    #[test]
    fn nobody_waits_for_a_part_that_was_abandoned() {
        let plan = Plan { threads: 4, chunks: 40, chunks_per_slab: 8, pieces: 3 };
        let slots: Vec<_> = (0..plan.slots()).map(|_| Padded::default()).collect();
        let schedule = Schedule::new(plan, &slots, Duration::from_micros(10));
        Pool::new(4).run(4, &|thread| {
            while let Some(part) = schedule.next(thread, None) {
                match part {
                    Part::Chunk { slab: 1, chunk: 2 } => return schedule.abandon(),
                    Part::Chunk { slab, .. } => schedule.chunk_done(slab),
                    Part::Piece { slab, piece, .. } => schedule.piece_done(slab, piece, || {}),
                }
            }
        });
    }

    /// Microseconds of a step's parts, as they were measured on one thread of a Xeon with AVX-512: (chunk of 16 images, a
    /// slab's sum), 28x28 images.
    const MEASURED: (f64, f64) = (262.0, 157.0);

    /// How long a step takes with so many threads, each part taking as long as on one thread, times up to 1.3, as if the threads
    /// had neighbours. No thread runs: the schedule is asked what each would do, in the order of a clock.
    fn simulate(plan: Plan) -> f64 {
        let (chunk, sum) = MEASURED;
        let slots: Vec<_> = (0..plan.slots()).map(|_| Padded::default()).collect();
        let schedule = Schedule::new(plan, &slots, Duration::ZERO);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut homes = vec![None; plan.threads];
        let mut busy: Vec<(f64, usize, Part)> = vec![];
        let mut idle: Vec<usize> = (0..plan.threads).collect();
        let mut now = 0.0;
        loop {
            idle.retain(|&thread| match schedule.find(thread, homes[thread]) {
                None => true,
                Some(part) => {
                    let time = match part {
                        Part::Chunk { .. } => chunk,
                        Part::Piece { .. } => sum / plan.pieces as f64,
                    };
                    busy.push((now + time * rng.random_range(1.0..1.3), thread, part));
                    false
                }
            });
            let first = (0..busy.len()).min_by(|&a, &b| busy[a].0.total_cmp(&busy[b].0));
            let Some(first) = first else { return now };
            let (end, thread, part) = busy.swap_remove(first);
            now = end;
            idle.push(thread);
            match part {
                Part::Chunk { slab, .. } => {
                    homes[thread] = Some(slab);
                    schedule.chunk_done(slab);
                }
                Part::Piece { slab, piece, .. } => schedule.piece_done(slab, piece, || {}),
            }
        }
    }

    /// At most as long as the parts take when they are shared evenly and a long one comes last. docs/benchmarks/scaling.md
    /// has the times.
    #[test]
    fn threads_have_something_to_do() {
        let time = |chunks, threads: usize| {
            let pieces = (4 + 2 * threads).min(20);
            simulate(Plan { threads, chunks, chunks_per_slab: 8, pieces })
        };
        for (threads, small, large) in
            [(2, 1.9, 1.95), (4, 3.8, 3.9), (8, 7.5, 7.6), (16, 14.0, 15.0)]
        {
            let factor = |chunks| time(chunks, 1) / time(chunks, threads);
            let factors = [factor(16), factor(128)];
            assert!(factors[0] > small && factors[1] > large, "{threads} threads: {factors:?}");
        }
        assert!(time(128, 1) / time(128, 64) > 50.0);
    }
}
