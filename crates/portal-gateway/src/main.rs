//! The portal-gateway program.

fn main() -> std::process::ExitCode {
    common::process::main::<portal_gateway::Gateway>()
}
