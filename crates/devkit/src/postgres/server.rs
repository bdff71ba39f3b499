use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::PostgresError;

/// Runs the server, waits until whoever started it closes the pipe or is gone, and takes the server down at once.
const SUPERVISOR: &str = "\
    \"$0\" -D \"$1\" >\"$2\" 2>&1 </dev/null & \
    server=$!; \
    read -r answer; \
    kill -QUIT $server 2>/dev/null; wait $server; \
    [ \"$answer\" = keep ] || rm -rf \"$3\"";

/// Settings of a test's server: as durable as in production, and small.
const SETTINGS: &str = "\
    listen_addresses = '127.0.0.1'\n\
    unix_socket_directories = ''\n\
    max_connections = 300\n\
    shared_buffers = 256MB\n\
    max_wal_size = 2GB\n\
    fsync = on\n\
    full_page_writes = on\n\
    synchronous_commit = on\n\
    password_encryption = 'scram-sha-256'\n\
    log_min_messages = warning\n";

/// A running server. Dropped, or when its process is killed, it is taken down and its folder removed.
pub struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    password: String,
    role_password: String,
    running: Mutex<Option<(Child, ChildStdin)>>,
}

impl Cluster {
    /// The server of this process, for all of its tests.
    ///
    /// # Errors
    /// When there is no PostgreSQL, or it does not start.
    pub fn shared() -> Result<Arc<Self>, PostgresError> {
        static SHARED: OnceLock<Mutex<Option<Arc<Cluster>>>> = OnceLock::new();
        let shared = SHARED.get_or_init(Mutex::default);
        let mut shared = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(cluster) = &*shared {
            return Ok(cluster.clone());
        }
        let cluster = Arc::new(Self::start()?);
        *shared = Some(cluster.clone());
        Ok(cluster)
    }

    /// Starts a server of its own.
    ///
    /// # Errors
    /// When there is no PostgreSQL, or it does not start.
    pub fn start() -> Result<Self, PostgresError> {
        let programs = programs().ok_or(PostgresError::Missing)?;
        let user = other_user();
        let folder = tempfile::Builder::new()
            .prefix("koseki-pg-")
            .tempdir()
            .map_err(io("making a folder"))?;
        let this = Self {
            password: secret(),
            role_password: secret(),
            folder,
            programs,
            user,
            port: free_port()?,
            running: Mutex::default(),
        };
        this.initialise()?;
        this.start_again()?;
        Ok(this)
    }

    /// The superuser's URL of a database.
    pub(super) fn superuser_url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{}/{database}",
            self.password, self.port
        )
    }

    pub(super) fn role_password(&self) -> &str {
        &self.role_password
    }

    /// The TCP port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it says.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// A database as SQL text, as a backup would have it.
    ///
    /// # Errors
    /// When `pg_dump` fails.
    pub fn dump(&self, database_url: &str) -> Result<Vec<u8>, PostgresError> {
        let output = self
            .command(&self.programs.join("pg_dump"))
            .args(["--inserts", "--dbname", database_url])
            .stdin(Stdio::null())
            .output()
            .map_err(io("running pg_dump"))?;
        if !output.status.success() {
            return Err(PostgresError::Program {
                program: "pg_dump".to_owned(),
                fault: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(output.stdout)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command.current_dir(self.folder.path()).env("LC_ALL", "C.UTF-8");
        command
    }

    fn initialise(&self) -> Result<(), PostgresError> {
        let password_file = self.folder.path().join("password");
        fs::write(&password_file, &self.password).map_err(io("writing the password"))?;
        if let Some((uid, gid)) = self.user {
            for path in [self.folder.path(), &password_file] {
                chown(path, Some(uid), Some(gid)).map_err(io("giving the folder away"))?;
            }
        }
        let output = self
            .command(&self.programs.join("initdb"))
            .args([
                "--username=postgres",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-sync",
                "--pgdata",
            ])
            .arg(self.data())
            .arg("--pwfile")
            .arg(&password_file)
            .stdin(Stdio::null())
            .output()
            .map_err(io("running initdb"))?;
        if !output.status.success() {
            return Err(PostgresError::Program {
                program: "initdb".to_owned(),
                fault: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        let path = self.data().join("postgresql.auto.conf");
        let settings = format!("{SETTINGS}port = {}\n", self.port);
        fs::write(path, settings).map_err(io("writing the settings"))
    }

    /// Stops the server at once, as a crash would; its data stay.
    pub fn stop(&self) {
        let running = self
            .running
            .lock()
            .map(|mut running| running.take())
            .unwrap_or_default();
        if let Some((mut child, mut pipe)) = running {
            // Who closes the pipe without a word is gone, and so are its data.
            let _ = pipe.write_all(b"keep\n");
            drop(pipe);
            // It ends by itself when the pipe is closed; there is nobody to tell a failure to.
            let _ = child.wait();
        }
    }

    /// Kills the server and its processes with SIGKILL, wherever they are; its data stay.
    pub fn kill(&self) {
        let Some(server) = self.pid() else { return };
        // It starts nothing more; then it goes first.
        signal(server, Signal::STOP);
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        let all: Vec<u32> = std::iter::once(server).chain(children).collect();
        for pid in &all {
            signal(*pid, Signal::KILL);
        }
        self.stop();
        // What is dead and not yet buried has no command line any more.
        let lives = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
        while all.iter().any(lives) {
            std::thread::sleep(Duration::from_millis(5));
        }
        // It still says that the server is ready.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// Starts the server where it was, after [`Self::stop`] or [`Self::kill`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&self) -> Result<(), PostgresError> {
        let mut child = self
            .command(Path::new("/bin/sh"))
            .arg("-c")
            .arg(SUPERVISOR)
            .arg(self.programs.join("postgres"))
            .arg(self.data())
            .arg(self.log())
            .arg(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not of the group of who started it: when all of that is killed, it has the server's data to remove.
            .process_group(0)
            .spawn()
            .map_err(io("starting the server"))?;
        let pipe = child.stdin.take();
        let Some(pipe) = pipe else {
            return Err(self.failed("it has no pipe"));
        };
        if let Ok(mut running) = self.running.lock() {
            *running = Some((child, pipe));
        }
        // The first line of the file says that it accepts connections, in its eighth line.
        for _ in 0..600 {
            let ready = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            if ready.lines().nth(7).is_some_and(|state| state.trim() == "ready") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(self.failed("it is not ready within 30 s"))
    }

    /// The process id of the server.
    pub fn pid(&self) -> Option<u32> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        file.lines().next()?.trim().parse().ok()
    }

    fn failed(&self, what: &str) -> PostgresError {
        let mut log = String::new();
        if let Ok(mut file) = fs::File::open(self.log()) {
            // What cannot be read is left out.
            let _ = file.read_to_string(&mut log);
        }
        PostgresError::Program {
            program: "postgres".to_owned(),
            fault: format!("{what}; its log:\n{log}"),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whoever is gone needs no signal.
fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let _ = pid.map(|pid| kill_process(pid, signal));
}

fn secret() -> String {
    data_encoding::HEXLOWER.encode(&rand::random::<[u8; 16]>())
}

fn io(doing: &'static str) -> impl Fn(std::io::Error) -> PostgresError {
    move |source| PostgresError::Io { doing, source }
}

/// Where the server's programs are.
fn programs() -> Option<PathBuf> {
    let has = |folder: &PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
    let path = env::var_os("PATH").unwrap_or_default();
    if let Some(found) = env::split_paths(&path).find(has) {
        return fs::canonicalize(found.join("postgres"))
            .ok()?
            .parent()
            .map(Path::to_owned);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, folder)| has(folder))
        .collect();
    versions.sort();
    versions.pop().map(|(_, folder)| folder)
}

/// PostgreSQL refuses to run as root: then it runs as the user of Debian's package, or as nobody.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody")).or(Some((65_534, 65_534)))
}

/// A port that is free now.
fn free_port() -> Result<u16, PostgresError> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(io("finding a port"))?;
    let address = listener.local_addr().map_err(io("finding a port"))?;
    Ok(address.port())
}
