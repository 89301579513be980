//! A server that can't start says why in one line, exits with 1, and leaves what is there as it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::program::{Going, Server, flotilla};
use crate::world::Disk;

/// The one line that a server says which can't start.
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let listen: &[&str] = if arguments.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
    let mut command = flotilla(folder);
    let said = Going::start(command.arg("serve").args(listen).args(arguments)).end();
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{arguments:?}: {said:?}");
    assert_eq!(said.err.lines().count(), 1, "{arguments:?}: {said:?}");
    said.err.strip_prefix("error: ").unwrap_or_else(|| panic!("{said:?}")).trim_end().to_owned()
}

#[test]
fn a_port_in_use_is_told_before_anything_is_made() {
    let folder = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_eq!(
        refusal(folder.path(), &["--listen", &address]),
        format!("cannot listen on {address}: another program does; stop it, or choose another address by --listen")
    );
    assert_eq!(
        refusal(folder.path(), &["--listen", "192.0.2.1:80"]),
        "cannot listen on 192.0.2.1:80: this machine does not have that address; choose another by --listen"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_data_directory_that_can_not_be_one_is_named() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "mine").unwrap();
    for (data_dir, message) in [
        ("file", "cannot use the data directory file: it is not a directory"),
        ("file/below", "cannot make the data directory file/below: Not a directory (os error 20)"),
        ("/proc/flotilla", "cannot make the data directory /proc/flotilla: No such file or directory (os error 2)"),
    ] {
        assert_eq!(refusal(folder.path(), &["--data-dir", data_dir]), message);
    }
    assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "mine");
}

#[test]
fn a_data_directory_that_is_read_only_is_named() {
    let Some(disk) = Disk::new("size=1m,ro") else { return };
    let folder = TempDir::new().unwrap();
    let shown = disk.path().display().to_string();
    let message = refusal(folder.path(), &["--data-dir", &shown]);
    assert_eq!(message, format!("cannot write to the data directory {shown}: Read-only file system (os error 30)"));
    let message = refusal(folder.path(), &["--data-dir", &format!("{shown}/below")]);
    assert_eq!(message, format!("cannot make the data directory {shown}/below: Read-only file system (os error 30)"));
}

#[test]
fn a_disk_without_room_for_the_database_is_told_of_and_starts_with_room() {
    let Some(disk) = Disk::new("size=64k") else { return };
    let folder = TempDir::new().unwrap();
    let shown = disk.path().display().to_string();
    let filling = disk.fill();
    let message = refusal(folder.path(), &["--data-dir", &shown]);
    assert!(message.contains(&shown) && message.contains("No space left on device"), "{message}");
    drop(filling);
    let message = refusal(folder.path(), &["--data-dir", &shown]);
    let expected =
        format!("cannot use the database sqlite:{shown}/flotilla.db: the disk that holds the database is full");
    assert!(message.starts_with(&expected) && message.ends_with("; make room, and start again"), "{message}");
}

#[test]
fn a_second_server_on_a_data_directory_is_refused_and_the_first_goes_on() {
    let server = Server::start();
    server.define("task", "true");
    assert_eq!(
        refusal(server.folder(), &["--data-dir", "data"]),
        "another flotilla server uses the data directory data; stop it, or give this one another by --data-dir"
    );
    let run_id = server.launch("task");
    server.wait_for(&run_id, "STOPPED");
}

/// A data directory of a server that had a run, as an orderly copy of it would be.
struct Used {
    server: Server,
    run_id: String,
}

impl Used {
    fn new() -> Self {
        let mut server = Server::start();
        server.define("task", "echo done");
        let run_id = server.launch("task");
        server.wait_for(&run_id, "STOPPED");
        assert!(server.stop().success());
        let connection = Connection::open(server.data_dir().join("flotilla.db")).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        Self { server, run_id }
    }

    fn database(&self) -> std::path::PathBuf {
        self.server.data_dir().join("flotilla.db")
    }

    /// Why a server does not start on it, which changes nothing.
    fn refusal(&self) -> String {
        let before = self.content();
        let message = refusal(self.server.folder(), &["--data-dir", "data"]);
        assert!(before == self.content(), "something was changed");
        message
    }

    /// Every file and what is in it, but for the index that SQLite makes anew.
    fn content(&self) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.server.data_dir()).unwrap().map(|entry| entry.unwrap().path());
        let files =
            files.filter(|path| path.is_file() && path.extension().is_none_or(|extension| extension != "db-shm"));
        // A log of changes that holds none is as good as none.
        let contents = files.map(|path| (path.display().to_string(), fs::read(&path).unwrap()));
        contents.filter(|(name, bytes)| !(name.ends_with("-wal") && bytes.is_empty())).collect()
    }

    /// A server starts, and finds what was there.
    fn starts(mut self) {
        self.server.start_again();
        assert_eq!(self.server.text(&["logs", &self.run_id]), "done\n");
        let run_id = self.server.launch("task");
        self.server.wait_for(&run_id, "STOPPED");
    }
}

#[test]
fn a_damaged_database_is_refused_and_left_as_it_is() {
    let used = Used::new();
    let database = used.database();
    let whole = fs::read(&database).unwrap();
    let page = page_of_the_runs(&database);

    let damages: [(&str, Damage); 4] = [
        ("no database at all", &|file| file.write_all(&[b'x'; 4096]).unwrap()),
        ("half of it", &|file| file.set_len(whole.len() as u64 / 2).unwrap()),
        ("a page of rubbish in the middle", &|file| {
            file.seek(SeekFrom::Start(page)).unwrap();
            file.write_all(&[0xA5; 4096]).unwrap();
        }),
        ("a page of nothing in the middle", &|file| {
            file.seek(SeekFrom::Start(page)).unwrap();
            file.write_all(&[0; 4096]).unwrap();
        }),
    ];
    for (damage, make) in damages {
        make(&mut fs::File::options().write(true).open(&database).unwrap());
        let message = used.refusal();
        assert!(
            message.starts_with(
                "cannot use the database sqlite:data/flotilla.db: the database is damaged or no database: "
            ) && message.ends_with("; set the file aside, or put a copy in its place that was made before"),
            "{damage}: {message}"
        );
        fs::write(&database, &whole).unwrap();
    }
    used.starts();
}

type Damage<'a> = &'a dyn Fn(&mut fs::File);

/// Where in the file the table of runs begins.
fn page_of_the_runs(database: &Path) -> u64 {
    let connection = Connection::open(database).unwrap();
    let select = "SELECT rootpage FROM sqlite_schema WHERE name = 'runs'";
    let page: u32 = connection.query_row(select, [], |row| row.get(0)).unwrap();
    let size: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    assert_eq!(size, 4096);
    u64::from((page - 1) * size)
}

#[test]
fn a_killed_servers_damaged_database_keeps_its_log_of_changes() {
    let mut used = Used::new();
    used.server.start_again();
    let run_id = used.server.launch("task");
    used.server.wait_for(&run_id, "STOPPED");
    used.server.kill();
    let database = used.database();
    let whole = fs::read(&database).unwrap();
    assert!(used.content().keys().any(|name| name.ends_with("-wal")));
    fs::write(&database, vec![b'x'; whole.len()]).unwrap();
    let message = used.refusal();
    assert!(message.contains("is damaged or no database"), "{message}");
    fs::write(&database, whole).unwrap();
    used.run_id = run_id;
    used.starts();
}

#[test]
fn a_database_of_a_newer_version_or_with_another_history_is_refused_and_left_as_it_is() {
    let used = Used::new();
    let change = |sql: &str| {
        let connection = Connection::open(used.database()).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    };
    change("INSERT INTO schema_migrations VALUES (99, '0099_later', 'x')");
    let message = used.refusal();
    assert!(message.contains("was used by a newer flotilla (its schema is at step 99, 0099_later; "), "{message}");
    assert!(message.contains("run that version, or restore a copy"), "{message}");

    change(
        "DELETE FROM schema_migrations WHERE version = 99; UPDATE schema_migrations SET name = '0001_mine', checksum = '!' || checksum",
    );
    let message = used.refusal();
    assert!(message.contains("another history than this program expects: step 1 is 0001_mine there"), "{message}");

    change("UPDATE schema_migrations SET checksum = substr(checksum, 2)");
    used.starts();
}

#[test]
fn a_postgres_server_that_does_not_answer_is_told_of_soon_and_without_secrets() {
    let folder = TempDir::new().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let strangers_address = stranger.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in stranger.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    for (place, reason) in [
        (free.to_string(), "Connection refused"),
        (silent.local_addr().unwrap().to_string(), "it does not answer within 5 s"),
        (strangers_address.to_string(), ""),
        ("nowhere.invalid".to_owned(), ""),
    ] {
        let url = format!("postgres://me:s3cret@{place}/there?password=s3cret");
        let begun = Instant::now();
        let message = refusal(folder.path(), &["--database-url", &url]);
        let expected = format!("cannot use the database postgres://…@{place}/there: the database is unavailable: ");
        assert!(message.starts_with(&expected) && message.contains(reason), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    for url in ["postgres://me:s3cret@h:port/d", "postgres://me:s3cret@h/d?sslmode=maybe", "postgres://me:s3cret@[h/d"]
    {
        let message = refusal(folder.path(), &["--database-url", url]);
        assert!(!message.contains("s3cret"), "{url}: {message}");
    }
}
