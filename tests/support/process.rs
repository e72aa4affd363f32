//! This process as the system sees it; apart from the rest, which the fuzz targets share and which needs no libc.

/// Threads of this process.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Asserts that `works` is true in a forked child, which ends with it.
#[track_caller]
pub fn works_in_a_child(works: impl FnOnce() -> bool) {
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let works = works();
        unsafe { libc::_exit(if works { 0 } else { 1 }) };
    }
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "in the child");
}
