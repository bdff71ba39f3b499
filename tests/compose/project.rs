//! One start of deploy/compose.yaml under a name of its own. Dropped, it is taken down, with its logs when a test failed.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

static NUMBER: AtomicU32 = AtomicU32::new(0);
static STANDING: Mutex<Weak<Project>> = Mutex::new(Weak::new());

/// A compose project.
pub(crate) struct Project {
    name: String,
}

/// What a command came to.
pub(crate) struct Ran {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output, then standard error.
    pub(crate) text: String,
}

impl Project {
    /// Both services with all that they depend on, for tests that change nothing: those that run at the same time share it, and
    /// the last one takes it down.
    pub(crate) fn standing() -> Arc<Self> {
        let mut standing = STANDING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(project) = standing.upgrade() {
            return project;
        }
        let project = Arc::new(Self::up(&["gateway"]));
        *standing = Arc::downgrade(&project);
        project
    }

    /// Brings these services up, and what they depend on; each is started when that is ready. Those that have a health check
    /// are healthy when this returns.
    pub(crate) fn up(services: &[&str]) -> Self {
        assert!(
            env::var("KOSEKI_COMPOSE").is_ok_and(|value| value == "1"),
            "set KOSEKI_COMPOSE=1 where a container engine runs, after `cargo xtask images`"
        );
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let this = Self {
            name: format!("koseki-test-{}-{number}", std::process::id()),
        };
        let up = this.compose(&[&["up", "--detach"], services].concat());
        assert_eq!(up.code, 0, "{}", up.text);
        for service in services {
            this.wait_until_healthy(service);
        }
        this
    }

    /// Looks until the service's own check says that it is healthy; at once where it has none.
    fn wait_until_healthy(&self, service: &str) {
        let mut last = serde_json::Value::Null;
        for _ in 0..600 {
            last = self.inspect(service)[0]["State"]["Health"]["Status"].clone();
            if last.is_null() || last == "healthy" {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
        panic!("{service} is {last}: {}", self.logs(service));
    }

    /// Waits until a one-shot service has ended: its exit code.
    pub(crate) fn wait(&self, service: &str) -> i32 {
        let waited = run(Command::new("docker").args(["wait", &self.container(service)]));
        waited
            .text
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("docker wait: {}", waited.text))
    }

    /// What a service has written.
    pub(crate) fn logs(&self, service: &str) -> String {
        run(Command::new("docker").args(["logs", &self.container(service)])).text
    }

    /// Runs a service's image once more with another command, on the service's networks and volumes.
    pub(crate) fn run(&self, service: &str, command: &[&str]) -> Ran {
        self.compose(&[&["run", "--rm", "--no-deps", "-T", service], command].concat())
    }

    /// Runs the development image on one network of the project, with nothing mounted.
    pub(crate) fn run_on(&self, network: &str, command: &[&str]) -> Ran {
        let network = format!("{}_{network}", self.name);
        run(Command::new("docker")
            .args(["run", "--rm", "--network", &network, "koseki-devkit:dev"])
            .args(command))
    }

    /// Runs a program inside a service's container.
    pub(crate) fn exec(&self, service: &str, command: &[&str]) -> Ran {
        run(Command::new("docker")
            .args(["exec", &self.container(service)])
            .args(command))
    }

    /// Stops a service's container as `compose stop` does.
    pub(crate) fn stop(&self, service: &str) {
        let stopped = self.compose(&["stop", service]);
        assert_eq!(stopped.code, 0, "{}", stopped.text);
    }

    /// Starts it again.
    pub(crate) fn start(&self, service: &str) {
        let started = self.compose(&["start", service]);
        assert_eq!(started.code, 0, "{}", started.text);
    }

    /// The addresses of a service, one for each of its networks.
    pub(crate) fn addresses(&self, service: &str) -> Vec<String> {
        let made = self.inspect(service);
        let networks = made[0]["NetworkSettings"]["Networks"].as_object().unwrap();
        networks
            .values()
            .map(|network| network["IPAddress"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What the engine says about a service's container.
    pub(crate) fn inspect(&self, service: &str) -> serde_json::Value {
        let output = Command::new("docker")
            .args(["inspect", &self.container(service)])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn container(&self, service: &str) -> String {
        let found = self.compose(&["ps", "--all", "--quiet", service]);
        let id = found.text.split_whitespace().next();
        id.unwrap_or_else(|| panic!("{service} has no container: {}", found.text))
            .to_owned()
    }

    fn compose(&self, arguments: &[&str]) -> Ran {
        let mut command = compose_command();
        command
            .args(["--project-name", &self.name, "--file"])
            .arg(compose_file())
            .args(arguments);
        run(&mut command)
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}", self.compose(&["logs", "--no-color"]).text);
        }
        let down = self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "15"]);
        if down.code != 0 {
            println!("{} was not taken down: {}", self.name, down.text);
        }
    }
}

fn compose_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose.yaml")
}

/// `docker compose` where it is, docker-compose otherwise.
fn compose_command() -> Command {
    let plugin = Command::new("docker")
        .args(["compose", "version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if plugin.is_ok_and(|status| status.success()) {
        let mut command = Command::new("docker");
        command.arg("compose");
        command
    } else {
        Command::new("docker-compose")
    }
}

fn run(command: &mut Command) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    Ran {
        code: status.code().unwrap_or(-1),
        text,
    }
}
