# shellcheck shell=bash disable=SC2154  # `scripts/kube` sets them
# The servers of a cluster as processes: each has $run/NAME.pid, and writes to $run/log/NAME.log.

# `mounts` holds the node's view of the file system.
# shellcheck disable=SC2034
readonly processes=(etcd kube-apiserver kube-controller-manager kube-scheduler mounts containerd kubelet)

# launch NAME COMMAND…: where it does not run already. It outlives the script.
launch() {
    local name=$1
    shift
    ! is_alive "$name" || return 0
    rm -f -- "$run/$name.pid"
    # The process itself writes who it is, so that none is ever started without a trace.
    # shellcheck disable=SC2016
    setsid bash -c '
        started=$(sed "s/.*) //" /proc/$$/stat | cut -d" " -f20)
        echo "$$ $started" >"$1.new" && mv -- "$1.new" "$1" && shift && exec "$@"' bash "$run/$name.pid" "$@" \
        >>"$logs/$name.log" 2>&1 </dev/null 8>&- 9>&- &
    local tenth
    for tenth in {1..100}; do
        [[ ! -s $run/$name.pid ]] || return 0
        sleep 0.1
    done
    fail "$name was not started after $((tenth / 10)) s, see $logs/$name.log"
}

# stop NAME…: SIGTERM to all, and SIGKILL to what is left of one after ten seconds.
stop() {
    local name tenth
    for name in "$@"; do
        ! is_alive "$name" || kill -TERM "$(pid_of "$name")" 2>/dev/null || true
    done
    for name in "$@"; do
        for tenth in {1..200}; do
            is_alive "$name" || break
            [[ $tenth -ne 100 ]] || kill -KILL "$(pid_of "$name")" 2>/dev/null || true
            sleep 0.1
        done
        rm -f -- "$run/$name.pid"
    done
}

is_any_alive() {
    local name
    for name in "${processes[@]}"; do
        ! is_alive "$name" || return 0
    done
    return 1
}

# Whether the very process that was started here runs: a number may have gone to another since.
is_alive() {
    local pid started state fields
    [[ -s $run/$1.pid ]] && read -r pid started <"$run/$1.pid" || return 1
    fields=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) || return 1
    state=$(cut -d' ' -f1 <<<"$fields")
    [[ $(cut -d' ' -f20 <<<"$fields") == "$started" && $state != Z ]]
}

pid_of() {
    cut -d' ' -f1 "$run/$1.pid"
}

# wait_for SECONDS NAME COMMAND…: until the command succeeds; NAME is the process that it waits for.
wait_for() {
    local end=$((SECONDS + $1)) name=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! is_alive "$name"; then
            tail -n 5 -- "$logs/$name.log" >&2
            fail "$name has ended, see $logs/$name.log"
        fi
        [[ $SECONDS -lt $end ]] || fail "$name did not come up; \`$*\` still fails, see $logs/$name.log"
        sleep 0.1
    done
}
