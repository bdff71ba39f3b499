//! The portal-gateway program.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    common::process::main::<portal_gateway::Gateway>()
}
