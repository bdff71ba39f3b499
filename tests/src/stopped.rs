//! A process that is stopped (SIGSTOP): it says nothing, and its connections stay.

use devkit::process::Service;
use rustix::process::{Pid, Signal, kill_process};

/// A service that is stopped; it goes on when this is dropped.
pub struct Stopped(Pid);

impl Stopped {
    /// Stops it.
    pub fn new(service: &Service) -> Self {
        let pid = i32::try_from(service.id().unwrap()).unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may be gone.
        let _ = kill_process(self.0, Signal::CONT);
    }
}
