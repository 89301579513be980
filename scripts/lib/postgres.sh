# shellcheck shell=bash disable=SC2034,SC2154  # `work` and `reason` are the sourcing script's
# A throw-away PostgreSQL server in $work/postgres; exports FLOTILLA_TEST_POSTGRES. A test puts PgBouncer in front of it.

start_postgres() {
    if [[ -n ${FLOTILLA_TEST_POSTGRES:-} ]]; then
        export FLOTILLA_TEST_POSTGRES
        return
    fi
    # A test that needs it says so where it is missing, and fails where PostgreSQL is required.
    [[ -x /usr/sbin/pgbouncer ]] || install_packages pgbouncer || say "no pgbouncer: $reason"
    local bin
    if ! bin=$(postgres_programs); then
        install_packages postgresql || return
        bin=$(postgres_programs) || { reason='the package postgresql brings no initdb'; return 1; }
    fi
    postgres_home=$work/postgres
    mkdir "$postgres_home"
    # The server refuses to run as root.
    if [[ $EUID -eq 0 ]]; then
        postgres_user=$(id -un postgres 2>/dev/null || echo nobody)
        chown "$postgres_user" "$postgres_home"
    fi

    # Most people's databases sort text by a language's rules, so the tests' does where this PostgreSQL can.
    local locale=(--locale=C.UTF-8)
    if "$bin/initdb" --help | grep -q icu-locale; then
        locale+=(--locale-provider=icu --icu-locale=en-US)
    fi
    if ! as_postgres "$bin/initdb" --pgdata=data --username=flotilla --auth=trust --encoding=UTF8 --no-sync \
        "${locale[@]}" >"$work/postgres.log" 2>&1; then
        reason="initdb: $(tail -n1 "$work/postgres.log")"
        return 1
    fi

    local attempt port settings
    # Nothing here has to outlive a power cut. Tests run side by side, each with a pool.
    settings='-c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300'
    for attempt in 1 2 3 4 5; do
        port=$(free_port)
        postgres_ctl=$bin/pg_ctl
        if as_postgres "$bin/pg_ctl" start --wait --silent --pgdata=data --log=log \
            --options="$settings -p $port -k $postgres_home" >"$work/postgres.log" 2>&1; then
            export FLOTILLA_TEST_POSTGRES=postgres://flotilla@127.0.0.1:$port/postgres
            return
        fi
    done
    reason="after $attempt tries: $(as_root cat "$postgres_home/log" | grep -m1 -E 'FATAL|ERROR' || tail -n1 "$work/postgres.log")"
    postgres_ctl=
    return 1
}

stop_postgres() {
    if [[ -n ${postgres_ctl:-} ]]; then
        as_postgres "$postgres_ctl" stop --mode=immediate --silent --pgdata=data >/dev/null 2>&1 || true
        postgres_ctl=
    fi
}

# The folder of the newest installed server's programs.
postgres_programs() {
    local initdb
    initdb=$(find /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n1)
    initdb=${initdb:-$(command -v initdb)} && dirname -- "$(readlink -f -- "$initdb")"
}

as_postgres() {
    (
        cd -- "$postgres_home" || exit
        if [[ $EUID -eq 0 ]]; then
            exec runuser -u "$postgres_user" -- "$@"
        fi
        exec "$@"
    )
}
