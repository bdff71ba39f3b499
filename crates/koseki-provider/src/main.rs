//! The koseki-provider program.

fn main() -> std::process::ExitCode {
    common::process::main::<koseki_provider::Provider>()
}
