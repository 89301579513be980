//! A real nginx before a server, with the settings that Debian's package comes with.

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::program::{Server, free_address, until};
use crate::support;

/// Where Debian has the settings of its package.
const DEBIANS: &str = "/etc/nginx/nginx.conf";

/// How the server gets the path of a request to `/flotilla/…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Without `/flotilla`: `proxy_pass` has a path of its own, which takes the place of the location's.
    Stripped,
    /// As it came.
    Whole,
}

pub struct Nginx {
    /// Where people find the server.
    pub url: String,
    child: Child,
    _folder: TempDir,
}

impl Nginx {
    /// A server below `/flotilla/` of an nginx; `None` where there is no nginx to test with, which is told at the end.
    pub fn before_a_server(way: Way) -> Option<(Self, Server)> {
        let program = support::nginx_program()?;
        let address = free_address();
        let url = format!("http://{address}/flotilla");
        let server = Server::with_config(&format!("[server]\npublic_url = \"{url}/\"\n"));
        let behind = match way {
            Way::Stripped => format!("{}/", server.url),
            Way::Whole => server.url.clone(),
        };
        let folder = TempDir::new().unwrap();
        // Its workers are another user.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let site = format!("server {{ listen {address}; location /flotilla/ {{ proxy_pass {behind}; }} }}\n");
        fs::write(folder.path().join("site"), site).unwrap();
        fs::write(folder.path().join("nginx.conf"), settings(folder.path().to_str().unwrap())).unwrap();
        let mut command = Command::new(program);
        command
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .args(["-g", "daemon off;"]);
        let child = command.stdin(Stdio::null()).spawn().expect("FLOTILLA_TEST_NGINX is a program");
        until("nginx answers", || TcpStream::connect(&address).is_ok());
        Some((Self { url, child, _folder: folder }, server))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // In order, or its workers would stay.
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// Debian's own, but for where files are.
fn settings(folder: &str) -> String {
    let mut settings = fs::read_to_string(DEBIANS).expect("nginx was installed from Debian's package");
    for (theirs, ours) in [
        ("pid /run/nginx.pid;", format!("pid {folder}/pid;")),
        ("error_log /var/log/nginx/error.log;", format!("error_log {folder}/error.log;")),
        ("access_log /var/log/nginx/access.log;", format!("access_log {folder}/access.log;")),
        (
            "include /etc/nginx/sites-enabled/*;",
            format!("include {folder}/site; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;"),
        ),
    ] {
        assert!(settings.contains(theirs), "{DEBIANS} has no {theirs}");
        settings = settings.replace(theirs, &ours);
    }
    settings
}
