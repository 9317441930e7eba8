//! `onboard run` under a service manager: the test plays systemd with a real datagram socket.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use kestrel_onboard::loopback::free_endpoint;

use crate::network::PATIENCE;
use crate::red::{self, RED, picture};

/// Ends the process whatever becomes of the test.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next message of which a line begins like this.
fn told(socket: &UnixDatagram, begins: &str) -> String {
    let mut bytes = [0; 4096];
    loop {
        let count = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("waiting for {begins}: {error}"));
        let text = std::str::from_utf8(&bytes[..count]).unwrap();
        if let Some(line) = text.lines().find(|line| line.starts_with(begins)) {
            return line.to_owned();
        }
    }
}

#[test]
fn a_service_manager_hears_of_start_life_and_end() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    red::write(&at("bundle"), "1", None);
    picture(320, 240, &[(100, 60, 50, RED)]).save(at("red.png")).unwrap();
    let endpoint = free_endpoint().unwrap();
    let config = format!(
        "[model]\nbundle = {:?}\n[camera]\npath = {:?}\n[engine]\nname = \"tract\"\n[link]\nlisten = [\"{endpoint}\"]\n",
        at("bundle").display().to_string(),
        at("red.png").display().to_string(),
    );
    std::fs::write(at("drone.toml"), config).unwrap();
    let socket = UnixDatagram::bind(at("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_onboard"))
        .args(["run", "--config"])
        .arg(at("drone.toml"))
        .env("NOTIFY_SOCKET", at("notify"))
        .env("WATCHDOG_USEC", "100000")
        .env_remove("WATCHDOG_PID")
        .env_remove("RUST_LOG")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Ended(child);
    assert_eq!(told(&socket, "READY="), "READY=1");
    assert_eq!(told(&socket, "WATCHDOG="), "WATCHDOG=1");
    assert_eq!(told(&socket, "WATCHDOG="), "WATCHDOG=1");
    let status = told(&socket, "STATUS=");
    assert!(status.starts_with("STATUS=red@1 on tract: ready"), "{status}");
    let asked = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.0.id())]).status().unwrap();
    assert!(asked.success());
    assert_eq!(told(&socket, "STOPPING="), "STOPPING=1");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}
