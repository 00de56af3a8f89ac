//! The `ledgerhook` program: reads its arguments, runs a command, leaves with its exit code.

use std::process::ExitCode;

/// A JSON tree and an envelope are hundreds of small pieces that one thread takes and, often, another gives back. The
/// system's allocator spent nearly half of a router's time on them. Without huge pages (a feature of the crate): with them each
/// thread's few buffers take two megabytes of memory at a time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ledgerhook::cli::main()
}
