//! The portal-gateway program.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    common::process::main::<portal_gateway::Gateway>()
}
