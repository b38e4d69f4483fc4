//! What happens to memory between steps.

/// Keeps freed memory in the process, for the next step to use: call it once, before anything large is allocated.
///
/// By default the C library gives large blocks back to the system when they are freed, and the system hands out zeroed
/// pages one fault at a time when the next step asks for the same blocks again: up to a quarter of a step. The most the
/// process holds at one time stays the same; what it holds after that is not given back before it ends.
///
/// Does nothing where the C library is not glibc.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // One arena, because others are limited to blocks of 64 MiB; none of its blocks mapped apart; never trimmed
        // (-1 stands for that); grown in large pieces.
        let options =
            [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, -1), (libc::M_TOP_PAD, 32 << 20)];
        for (option, value) in options {
            // SAFETY: `mallopt` takes two numbers and may be called at any time. An option it refuses stays as it was.
            unsafe { libc::mallopt(option, value) };
        }
    }
}
