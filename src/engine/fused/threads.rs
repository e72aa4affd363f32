//! Sharing work among threads that live no longer than the call.
//!
//! So a model that is idle has no thread, nothing needs to be joined when it is freed, and fork()
//! finds none. Which thread does which job decides nothing: jobs write to places of their own.

use std::sync::{Mutex, PoisonError};

/// By which the panic hook knows our threads.
pub const THREAD_NAME: &str = "lenet";

/// How many threads may compute: as told, or as many as affinity and cgroup give this process.
pub fn count(num_threads: u32) -> usize {
    match num_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n as usize,
    }
}

/// Runs all jobs on this thread and up to `threads` - 1 others. Where the system refuses a thread,
/// fewer do the same.
pub fn share<J: FnOnce() + Send>(threads: usize, jobs: Vec<J>) {
    let others = threads.min(jobs.len()).saturating_sub(1);
    let jobs: Vec<Mutex<Option<J>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let work = || {
        for job in &jobs {
            let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(job) = job {
                job();
            }
        }
    };
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..others {
            let thread = std::thread::Builder::new().name(THREAD_NAME.into());
            match thread.spawn_scoped(scope, work) {
                Ok(thread) => threads.push(thread),
                Err(_) => break,
            }
        }
        work();
        // Joined one by one, because the scope alone does not wait for the system's thread to end.
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_job_is_done_once() {
        for threads in [1, 2, 5] {
            for n in [0, 1, 7] {
                let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                let add = |count: &AtomicUsize| _ = count.fetch_add(1, Ordering::Relaxed);
                share(threads, counts.iter().map(|count| move || add(count)).collect());
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }
}
