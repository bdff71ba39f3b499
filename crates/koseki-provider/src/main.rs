//! The koseki-provider program.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    common::process::main::<koseki_provider::Provider>()
}
