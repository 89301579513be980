use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::engine::container::pull_policy::PullPolicy;
use crate::engine::docker::{DockerSettings, Mount};
use crate::engine::kubernetes::{Toleration, Volume, VolumeSource};
use crate::engine::local::LocalSettings;
use crate::engine::settings::EngineSettings;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(DEFAULT_FILE, text, &Overrides::default())
}

fn faults(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

fn variables<const N: usize>(variables: [(&str, &str); N]) -> Overrides {
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Overrides { variables: variables.into(), ..Overrides::default() }
}

#[test]
fn without_a_file_there_is_a_local_cluster_and_the_default_is_what_is_found() {
    let config = Config::default();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:3000");
    assert_eq!(config.server.data_dir, Path::new("flotilla-data"));
    assert_eq!(config.server.database.to_string(), "sqlite:flotilla-data/flotilla.db");
    assert_eq!(config.launch, LaunchPolicy::default());
    assert_eq!(config.clusters.keys().collect::<Vec<_>>(), [LOCAL_CLUSTER]);
    assert_eq!(config.default_cluster, DefaultCluster::WhatIsFound);
    let cluster = &config.clusters[LOCAL_CLUSTER];
    assert_eq!(cluster.engine, EngineSettings::Local(Box::default()));
    assert!(cluster.max_running.is_some_and(|most| most.get() >= 16));
}

#[expect(clippy::too_many_lines, reason = "one line for each key")]
#[test]
fn every_key_of_the_file_is_read() {
    let config = parse(
        r#"
        [server]
        listen = "[::]:80"
        hosts = ["flotilla.example.org"]
        public_url = "https://tools.example/flotilla/"
        cors_origins = ["https://ui.example"]
        trusted_proxies = ["10.0.0.0/8", "::1"]
        data_dir = "/var/lib/flotilla"
        database_url = "postgres://h/d"
        max_body_bytes = 2048
        clusters_by_request = true
        mode = "staging"
        [lists]
        default_limit = 5
        max_limit = 50
        search_timeout_secs = 7
        [launch]
        require_owner = true
        owner_env_name = "OWNER"
        default_cluster = "big.one"
        [runs]
        grace_secs = 0
        [logs]
        max_bytes = 0x1_0000
        chunk_bytes = 65_536
        retention_days = 0
        [telemetry]
        log_format = "json"
        log_filter = "debug"
        [clusters.local]
        max_running = 0
        [clusters.off]
        engine = "local"
        enabled = false
        [clusters.boxes]
        engine = "docker"
        max_running = 1
        host = "tcp://boxes:2376"
        tls_dir = "/etc/tls"
        credentials_file = "/etc/docker.json"
        network_mode = "none"
        mounts = ["/data:/data", "/out:/mnt/out:rw"]
        user = "1000:1000"
        cap_drop = ["ALL"]
        read_only_root = true
        no_new_privileges = false
        pids_limit = 100
        allow_privileged = true
        shell = ["/bin/bash", "-c"]
        pull_policy = "always"
        pull_timeout_secs = 60
        image_check = false
        gpus = 2
        keep_failed_secs = 60
        [clusters."big.one"]
        engine = "local"
        shell = ["bash", "-c"]
        user = "flotilla-task"
        max_running = 3
        "#,
    );
    let local = |shell: [&str; 2], user: Option<&str>, most| Cluster {
        engine: EngineSettings::Local(Box::new(LocalSettings {
            shell: shell.map(str::to_owned).into(),
            user: user.map(Into::into),
        })),
        max_running: NonZeroU32::new(most),
    };
    let mount =
        |source: &str, target: &str, is_read_only| Mount { source: source.into(), target: target.into(), is_read_only };
    let boxes = Cluster {
        engine: EngineSettings::Docker(Box::new(DockerSettings {
            host: Some("tcp://boxes:2376".into()),
            tls_dir: Some("/etc/tls".into()),
            credentials_file: Some("/etc/docker.json".into()),
            network_mode: Some("none".into()),
            mounts: vec![mount("/data", "/data", true), mount("/out", "/mnt/out", false)],
            user: Some("1000:1000".into()),
            cap_drop: vec!["ALL".into()],
            read_only_root: true,
            no_new_privileges: false,
            pids_limit: Some(100),
            allow_privileged: true,
            shell: vec!["/bin/bash".into(), "-c".into()],
            pull_policy: PullPolicy::Always,
            pull_timeout_secs: 60,
            image_check: false,
            gpus: Some(2),
            keep_failed_secs: 60,
        })),
        max_running: NonZeroU32::new(1),
    };
    let expected = Config {
        server: Server {
            listen: "[::]:80".parse().unwrap(),
            hosts: vec!["flotilla.example.org".into()],
            public_url: Some("https://tools.example/flotilla".parse().unwrap()),
            cors_origins: CorsOrigins::These(vec!["https://ui.example".into()]),
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            data_dir: "/var/lib/flotilla".into(),
            database: Database::parse("postgres://h/d").unwrap(),
            max_body_bytes: 2048,
            clusters_by_request: true,
        },
        lists: Lists { default_limit: 5, max_limit: 50, search_timeout: Duration::from_secs(7) },
        launch: LaunchPolicy { is_owner_required: true, owner_variable: "OWNER".into(), server_mode: "staging".into() },
        runs: Runs { grace: Duration::ZERO, starts: StartLimits::default() },
        logs: Logs { max_bytes: 65_536, chunk_bytes: 65_536, retention: None },
        telemetry: Telemetry { format: LogFormat::Json, filter: "debug".parse().unwrap() },
        clusters: [
            ("local", local(["sh", "-ec"], None, 0)),
            ("big.one", local(["bash", "-c"], Some("flotilla-task"), 3)),
            ("boxes", boxes),
        ]
        .map(|(name, cluster)| (name.to_owned(), cluster))
        .into(),
        default_cluster: DefaultCluster::Named("big.one".into()),
    };
    assert_eq!(config.unwrap(), expected);
}

#[test]
fn other_clusters_stand_beside_the_local_one_and_one_of_them_is_the_default() {
    let default_of = |text: &str| parse(text).unwrap().default_cluster;
    let named = |name: &str| DefaultCluster::Named(name.into());
    let config = parse("[clusters.other]\nengine = \"docker\"").unwrap();
    assert_eq!(config.clusters.keys().collect::<Vec<_>>(), ["local", "other"]);
    assert_eq!(config.default_cluster, named("other"));
    assert_eq!(default_of("[clusters.local]\nmax_running = 1"), DefaultCluster::WhatIsFound);
    assert_eq!(default_of("[clusters.a]\nengine = 'local'\n[clusters.default]\nengine = 'docker'"), named("default"));
    assert_eq!(default_of("[clusters.a]\nengine = 'local'\n[clusters.local]\nenabled = false"), named("a"));
    assert_eq!(default_of("[launch]\ndefault_cluster = 'local'\n[clusters.a]\nengine = 'docker'"), named("local"));
    assert!(parse("[clusters.local]\nenabled = false\n[clusters.a]\nengine = 'docker'").unwrap().clusters.len() == 1);
}

#[test]
fn an_unclear_default_is_told() {
    for (text, message) in [
        (
            "[clusters.a]\nengine = 'docker'\n[clusters.b]\nengine = 'docker'",
            "[launch] names no `default_cluster`, and it is not clear which cluster is meant",
        ),
        (
            "[launch]\ndefault_cluster = 'c'\n[clusters.a]\nengine = 'docker'",
            "`default_cluster` in [launch] must be one of the clusters (a, local), not \"c\"",
        ),
        ("[clusters.local]\nenabled = false", "[launch] names no `default_cluster`"),
        ("[clusters.a]\nengine = 'docker'\nhost = 'here'", "`host` in [clusters.a] must start with unix://"),
        ("[clusters.a]\nengine = 'docker'\nmounts = ['data:/data']", "must hold absolute paths"),
        (
            "[clusters.a]\nengine = 'kubernetes'\nvolumes = ['claim:data']",
            "`volumes` in [clusters.a] must hold \"claim:NAME:/TARGET\"",
        ),
        ("[clusters.a]\nengine = 'kubernetes'\nvolumes = ['scratch:tmp']", "must hold \"claim:NAME:/TARGET\""),
        ("[clusters.a]\nengine = 'kubernetes'\ntolerations = ['gpu:Never']", "with an effect of NoSchedule"),
        ("[clusters.a]\nengine = 'docker'\npull_policy = 'often'", "must be `missing`, `always` or `never`"),
    ] {
        let told = faults(text);
        assert!(told.contains(message), "{text}: {told}");
    }
}

#[test]
fn a_flag_overrides_a_variable_and_a_variable_the_file() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nmode = \"file\"\n[runs]\ngrace_secs = 1";
    let mut overrides = variables([
        ("FLOTILLA_LISTEN", "127.0.0.1:2"),
        ("FLOTILLA_SERVER_MODE", "variable"),
        ("FLOTILLA_RUNS_GRACE_SECS", "2"),
        ("FLOTILLA_LAUNCH_REQUIRE_OWNER", "true"),
        ("FLOTILLA_LOG", "warn"),
        ("FLOTILLA_RUN_ID", "no setting at all"),
    ]);
    let by_variable = Config::parse("f", file, &overrides).unwrap();
    assert_eq!(by_variable.server.listen.port(), 2);
    assert_eq!(by_variable.launch.server_mode, "variable");
    assert!(by_variable.launch.is_owner_required);
    assert_eq!(by_variable.runs.grace, Duration::from_secs(2));
    assert_eq!(by_variable.telemetry.filter.to_string(), "warn");

    overrides.listen = Some("127.0.0.1:3".into());
    overrides.data_dir = Some("/d".into());
    let by_flag = Config::parse("f", file, &overrides).unwrap();
    assert_eq!(by_flag.server.listen.port(), 3);
    assert_eq!(by_flag.server.database.to_string(), "sqlite:/d/flotilla.db");
    overrides.database_url = Some("postgres://h/d".into());
    assert_eq!(Config::parse("f", file, &overrides).unwrap().server.database.to_string(), "postgres://h/d");
}

#[test]
fn an_unknown_name_is_told_with_the_one_that_was_probably_meant() {
    for (text, expected) in [
        ("\n[server]\nlisen = 1", "flotilla.toml line 3: unknown key `lisen` in [server]; did you mean `listen`?"),
        ("[sever]", "flotilla.toml line 1: unknown section [sever]; did you mean [server]?"),
        (
            "[mail]",
            "flotilla.toml line 1: unknown section [mail]; \
             the sections are clusters, launch, lists, logs, runs, server, telemetry",
        ),
        ("listen = 1", "flotilla.toml line 1: unknown key `listen` outside a section; it belongs in [server]"),
        (
            "nonsense = 1",
            "flotilla.toml line 1: unknown key `nonsense` outside a section; \
             every key belongs in a section such as [server]",
        ),
        (
            "[runs]\nretention_days = 1",
            "flotilla.toml line 2: unknown key `retention_days` in [runs]; it belongs in [logs]",
        ),
        (
            "[runs]\nmood = 1",
            "flotilla.toml line 2: unknown key `mood` in [runs]; the keys are grace_secs, start_secs, image_attempts, image_secs, machine_attempts, machine_secs, displaced_attempts, displaced_secs",
        ),
        (
            "[runs.deep]",
            "flotilla.toml line 1: unknown key `deep` in [runs]; the keys are grace_secs, start_secs, image_attempts, image_secs, machine_attempts, machine_secs, displaced_attempts, displaced_secs",
        ),
        (
            "[clusters.local]\nmax_runing = 1",
            "flotilla.toml line 2: unknown key `max_runing` in [clusters.local]; did you mean `max_running`?",
        ),
        (
            "[clusters.a]\nengine = 'local'\nimage = 1\n[clusters.default]\nengine = 'local'",
            "flotilla.toml line 3: unknown key `image` in [clusters.a]; the keys are enabled, engine, shell, user, max_running",
        ),
    ] {
        assert_eq!(faults(text), expected);
    }
}

#[test]
fn a_wrong_value_is_told_with_its_key() {
    let cores = "[clusters.local]\nmax_running = 1.5";
    for (text, expected) in [
        ("[server]\nlisten = 3000", "line 2: `listen` in [server] must be text in quotes, not 3000"),
        (
            "[server]\nlisten = 'localhost:3000'",
            "line 2: `listen` in [server] must be an IP address and a port such as 127.0.0.1:3000, 0.0.0.0:80 or \
             [::1]:3000, not \"localhost:3000\"",
        ),
        ("[server]\ndata_dir = ''", "line 2: `data_dir` in [server] must be a path, not \"\""),
        ("[server]\nmode = 'a b'", "line 2: `mode` in [server] must be one word, not \"a b\""),
        ("server = 1", "line 1: `server` must be a section, written [server]"),
        ("[[clusters]]", "line 1: `clusters` must be a section, written [clusters]"),
        ("[clusters]\na = 1", "line 2: `clusters.a` must be a section, written [clusters.a]"),
        ("[clusters.a]", "line 1: [clusters.a] needs the key `engine`"),
        (
            "[clusters.a]\nengine = 'x'",
            "line 2: `engine` in [clusters.a] must be `local`, `docker` or `kubernetes`, not \"x\"",
        ),
        (
            "[clusters.'a/b']\nengine = 'local'",
            "line 1: a name in [clusters] must be 1 to 255 letters, digits, `-`, `_` and `.`, beginning with a letter \
             or digit, not \"a/b\"",
        ),
        (cores, "line 2: `max_running` in [clusters.local] must be a whole number, not 1.5"),
        (
            "[clusters.local]\nshell = []",
            "line 2: `shell` in [clusters.local] must be a program and its arguments, not []",
        ),
        (
            "[clusters.local]\nshell = 'sh'",
            "line 2: `shell` in [clusters.local] must be a list of texts in quotes, not 'sh'",
        ),
        ("[lists]\nmax_limit = 0", "line 2: `max_limit` in [lists] must be between 1 and 1000000, not 0"),
        ("[lists]\nmax_limit = -1", "line 2: `max_limit` in [lists] must be between 1 and 1000000, not -1"),
        (
            "[lists]\nmax_limit = 9\ndefault_limit = 10",
            "line 3: `default_limit` in [lists] must be between 1 and 9, not 10 (`max_limit` is 9)",
        ),
        ("[launch]\nrequire_owner = 'yes'", "line 2: `require_owner` in [launch] must be true or false, not 'yes'"),
        (
            "[launch]\nowner_env_name = 'A-B'",
            "line 2: `owner_env_name` in [launch] must be a variable's name (letters, digits and `_`), not \"A-B\"",
        ),
        (
            "[launch]\nowner_env_name = 'FLOTILLA_RUN_ID'",
            "line 2: `owner_env_name` in [launch] must not be FLOTILLA_RUN_ID, which carries something else",
        ),
        (
            "[logs]\nchunk_bytes = 99999999999999999999999999999999999999999999",
            "line 2: `chunk_bytes` in [logs] must be a whole number, not 99999999999999999999999999999999999999999999",
        ),
        (
            "[telemetry]\nlog_format = 'xml'",
            "line 2: `log_format` in [telemetry] must be `text` or `json`, not \"xml\"",
        ),
    ] {
        assert_eq!(faults(text), format!("flotilla.toml {expected}"));
    }
}

#[test]
fn a_lower_maximum_lowers_the_default_page() {
    assert_eq!(
        parse("[lists]\nmax_limit = 9").unwrap().lists,
        Lists { default_limit: 9, max_limit: 9, search_timeout: Duration::from_secs(10) }
    );
}

#[test]
fn a_wrong_override_is_told_by_its_own_name() {
    let overrides = Overrides { listen: Some("x".into()), ..variables([("FLOTILLA_LOGS_MAX_BYTES", "1GB")]) };
    let told = Config::parse("f", "", &overrides).unwrap_err().to_string();
    let (listen, max_bytes) = told.split_once('\n').unwrap();
    assert!(listen.starts_with("`--listen` must be an IP address"), "{listen}");
    assert_eq!(max_bytes, "`FLOTILLA_LOGS_MAX_BYTES` must be a whole number, not \"1GB\"");
}

#[test]
fn all_that_is_wrong_is_told_together_in_the_order_of_the_file() {
    let told = faults("[runs]\ngrace_secs = -1\n[server]\nlisen = 1\nlisten = 2\n[clusters.x]\n[clusters.'/']");
    let lines: Vec<&str> = told.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(lines, [2, 4, 5, 6, 7].map(|line| format!("flotilla.toml line {line}")));
}

#[test]
fn what_is_not_toml_is_told_with_its_line_but_not_its_text() {
    let told = faults("[server]\ndatabase_url = \"postgres://u:s3cret@h");
    assert!(told.starts_with("flotilla.toml line 2: ") && !told.contains("s3cret"), "{told}");
    assert!(faults("[runs]\ngrace_secs = 1\ngrace_secs = 2").starts_with("flotilla.toml line 3: duplicate key"));
}

#[test]
fn no_error_and_no_debug_text_holds_a_password() {
    for text in [
        "[server]\ndatabase_url = 'mysql://u:s3cret@h/d'",
        "[server]\ndatabase_url = ['postgres://u:s3cret@h/d']",
        "[server]\ndatabase_url = 'u:s3cret@h/d'",
    ] {
        assert!(!faults(text).contains("s3cret"), "{}", faults(text));
    }
    for overrides in [
        variables([("FLOTILLA_DATABASE_URL", "mysql://u:s3cret@h/d")]),
        Overrides { database_url: Some("s3cret".into()), ..Overrides::default() },
    ] {
        assert!(!Config::parse("f", "", &overrides).unwrap_err().to_string().contains("s3cret"));
    }
    let config = parse("[server]\ndatabase_url = 'postgres://u:s3cret@h/d'").unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn a_named_file_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my.toml");
    let overrides = Overrides { file: Some(file.clone()), ..Overrides::default() };
    let told = Config::load(&overrides).unwrap_err().to_string();
    assert_eq!(told, format!("cannot read the configuration file {}", file.display()));

    std::fs::write(&file, "[server]\nlisen = 1").unwrap();
    let told = Config::load(&overrides).unwrap_err().to_string();
    assert!(told.starts_with(&format!("{} line 2: unknown key", file.display())), "{told}");

    std::fs::write(&file, "[lists]\nmax_limit = 7").unwrap();
    assert_eq!(Config::load(&overrides).unwrap().lists.max_limit, 7);
}

#[test]
fn the_databases_address_may_lie_in_a_file_or_come_as_a_credential() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let file = write("url", b"  postgres://u:s3cret@h/d\n");
    let toml = format!("[server]\ndatabase_url_file = {:?}", file.to_str().unwrap());
    let expected = Database::parse("postgres://u:s3cret@h/d").unwrap();
    assert_eq!(parse(&toml).unwrap().server.database, expected);
    let variables = |name: &str, value: &str| Overrides {
        variables: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..Overrides::default()
    };
    let by_variable = variables("FLOTILLA_DATABASE_URL_FILE", file.to_str().unwrap());
    assert_eq!(Config::parse("f", "", &by_variable).unwrap().server.database, expected);

    // Two sections that both set it are an error, wherever they are.
    let both = variables("FLOTILLA_DATABASE_URL", "sqlite:other");
    let told = Config::parse("f", &toml, &both).unwrap_err().to_string();
    assert!(told.contains("both `database_url` and `database_url_file`"), "{told}");

    for (path, expected) in [
        (folder.path().join("none"), "can't be read"),
        (folder.path().to_owned(), "can't be read"),
        (write("empty", b" \n"), "is empty"),
        (write("bytes", b"postgres://s3cret\xff"), "is no text"),
        (write("other", b"mysql://u:s3cret@h/d"), "must begin with `postgres://` or `sqlite:`, not with `mysql://`"),
    ] {
        let path = path.to_str().unwrap();
        let told = parse(&format!("[server]\ndatabase_url_file = {path:?}")).unwrap_err().to_string();
        assert!(told.contains(expected) && told.contains(path), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
    }

    let with_credentials = Overrides { credentials_dir: Some(folder.path().to_owned()), ..Overrides::default() };
    let database = |text: &str| Config::parse("f", text, &with_credentials).map(|config| config.server.database);
    assert_eq!(database("").unwrap(), Config::default().server.database, "there is none of that name");
    write("flotilla-database-url", b"postgres://u:s3cret@h/d");
    assert_eq!(database("").unwrap(), expected);
    // The operator's setting takes precedence.
    assert_eq!(database("[server]\ndatabase_url = 'sqlite:mine'").unwrap().to_string(), "sqlite:mine");
    write("flotilla-database-url", b"");
    let told = database("").unwrap_err().to_string();
    assert!(told.contains("credential `flotilla-database-url`") && told.contains("is empty"), "{told}");
}

#[test]
fn the_example_file_shows_every_key_with_its_default() {
    let example = include_str!("../../examples/flotilla.toml");
    assert_eq!(parse(example).unwrap(), Config::default());
    for (section, keys) in known() {
        assert!(example.contains(&format!("[{section}]")), "{section}");
        for key in keys {
            assert!(
                example.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} ="))),
                "{key}"
            );
        }
    }
}

#[test]
fn a_variable_that_is_written_in_another_way_is_no_setting() {
    for name in ["FLOTILLA_Lists_max_limit", "FLOTILLA_SERVER_LISTEN", "FLOTILLA_LISTS", "LISTS_MAX_LIMIT"] {
        assert_eq!(setting_of(name), None, "{name}");
    }
    assert_eq!(setting_of("FLOTILLA_LISTS_MAX_LIMIT"), Some(("lists".into(), "max_limit".into())));
}

fn variable_of(section: &str, key: &str) -> String {
    let short = SHORT_VARIABLES.iter().find(|(of_section, of_key, _)| (*of_section, *of_key) == (section, key));
    short.map_or_else(|| format!("FLOTILLA_{section}_{key}").to_uppercase(), |(_, _, name)| (*name).to_owned())
}

#[test]
fn the_manual_describes_every_key_and_its_variable() {
    let manual = include_str!("../../docs/configuration.md");
    for (section, keys) in known() {
        let heading = section.replace(".local", ".NAME").replace(".docker", ".NAME").replace(".kubernetes", ".NAME");
        assert!(manual.contains(&format!("## `[{heading}]`")), "{heading}");
        for key in keys {
            assert!(manual.contains(&format!("| `{key}` |")), "{section} {key}");
            let variable = variable_of(&section, key);
            assert!(section.contains('.') || manual.contains(&format!("`{variable}`")), "{variable}");
            assert!(section.contains('.') || setting_of(&variable) == Some((section.clone(), key.to_owned())));
        }
    }
}

#[test]
fn a_kubernetes_cluster_is_read_with_its_volumes_and_tolerations() {
    let text = "[clusters.far]\nengine = 'kubernetes'\ncontext = 'c'\nvolumes = ['claim:data:/data:rw', 'host:/etc:/etc', 'scratch:/tmp']\n\
                tolerations = ['a', 'b=c:NoExecute']";
    let config = parse(text).unwrap();
    let EngineSettings::Kubernetes(far) = &config.clusters["far"].engine else { panic!("the section says so") };
    let volume = |source, target: &str, is_read_only| Volume { source, target: target.into(), is_read_only };
    let volumes = [
        volume(VolumeSource::Claim("data".into()), "/data", false),
        volume(VolumeSource::Host("/etc".into()), "/etc", true),
        volume(VolumeSource::Scratch, "/tmp", false),
    ];
    assert_eq!(far.volumes, volumes);
    let toleration = |key: &str, value: Option<&str>, effect: Option<&str>| Toleration {
        key: key.into(),
        value: value.map(Into::into),
        effect: effect.map(Into::into),
    };
    assert_eq!(far.tolerations, [toleration("a", None, None), toleration("b", Some("c"), Some("NoExecute"))]);
    assert_eq!(
        (far.context.as_deref(), far.namespace.as_str(), far.cap_drop.as_slice()),
        (Some("c"), "default", &["ALL".to_owned()][..])
    );
}

/// Every section and key, with a cluster of each engine.
fn known() -> BTreeMap<String, Vec<&'static str>> {
    let mut reader = Reader::toml(
        "f",
        "launch.default_cluster = 'docker'\n[clusters.docker]\nengine = 'docker'\n[clusters.kubernetes]\nengine = 'kubernetes'",
        settings::Overrides::default(),
    )
    .unwrap();
    Config::read(&mut reader, None);
    let mut known = reader.known().clone();
    known.remove("clusters");
    known
}

proptest! {
    #[test]
    fn no_text_is_too_odd_to_be_told_what_is_wrong_with_it(
        lines in prop::collection::vec(
            prop_oneof![
                "\\[(server|clusters|clusters\\.[a-zé.]{1,3}|runs|server\\.listen)\\]",
                "(listen|engine|shell|grace_secs|é|clusters|server)(\\.[a-zé]{1,2})? = (1|-1|'é'|\\[1, 'é'\\]|\\{ é = 1 \\}|true|1979-05-27)",
                "(listen|'é\\\\n') = \"\"\"é",
                "\\[\\[(clusters|server)\\]\\]",
                "\\PC{0,9}",
            ],
            0..6,
        ),
    ) {
        match parse(&lines.join("\n")) {
            Ok(config) => prop_assert!(!config.clusters.is_empty()),
            Err(error) => prop_assert!(error.to_string().lines().all(|line| !line.is_empty())),
        }
    }
}

#[test]
fn settings_of_a_request_are_read_as_a_section_is() {
    let read = |name: &str, settings: serde_json::Value| {
        Cluster::from_settings(name, settings.as_object().expect("settings are an object"))
    };
    let given = serde_json::json!({"engine": "docker", "max_running": 2, "mounts": ["/a:/b"], "read_only_root": true});
    let section = "[clusters.far]\nengine = \"docker\"\nmax_running = 2\nmounts = [\"/a:/b\"]\nread_only_root = true";
    assert_eq!(read("far", given).as_ref(), Ok(&parse(section).unwrap().clusters["far"]));
    assert!(read("a.b c", serde_json::json!({"engine": "docker"})).unwrap_err().starts_with("`name` must be"));
    for (name, settings, expected) in [
        ("far", serde_json::json!({}), "`engine`"),
        ("far", serde_json::json!({"engine": "local"}), "must not be `local`"),
        (
            "far",
            serde_json::json!({"engine": "docker", "hots": "x"}),
            "unknown key `hots` in [clusters.far]; did you mean `host`?",
        ),
        (
            "far",
            serde_json::json!({"engine": "docker", "gpus": null}),
            "`gpus` in [clusters.far] must be a whole number, not null",
        ),
        ("far", serde_json::json!({"engine": "docker", "enabled": false}), "`enabled`"),
        ("local", serde_json::json!({"engine": "docker"}), "must not be local"),
        ("default", serde_json::json!({"engine": "docker"}), "must not be default"),
    ] {
        let fault = read(name, settings.clone()).expect_err(expected);
        assert!(fault.contains(expected) && !fault.contains("line "), "{settings}: {fault}");
    }
}
