//! The kosekictl program.

fn main() -> std::process::ExitCode {
    kosekictl::main()
}
