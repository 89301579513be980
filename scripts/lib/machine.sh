# shellcheck shell=bash disable=SC2034,SC2154  # `work` and `reason` are the sourcing script's
# What the scripts ask of the machine: to speak, to act as root, to have a package, to find a free port.

# Not everyone's path holds what the administrator's does: runuser, dockerd.
PATH=$PATH:/usr/sbin:/sbin

say() {
    echo "$(basename -- "$0"): $*" >&2
}

fail() {
    say "error: $*"
    exit 1
}

# Whether `as_root` can do anything more than the user.
has_root() {
    [[ $EUID -eq 0 ]] || sudo -n true 2>/dev/null
}

as_root() {
    if [[ $EUID -eq 0 ]] || ! has_root; then
        "$@"
    else
        sudo -n -- "$@"
    fi
}

# install_packages NAME…: from the distribution. Sets `reason` where that fails.
install_packages() {
    local log=$work/apt.log
    if ! command -v apt-get >/dev/null || ! has_root; then
        reason="$* is not installed, and can't be installed here without apt-get and root"
        return 1
    fi
    say "installing $*"
    local attempt
    # The lists are locked while another apt-get reads them.
    for attempt in 1 2 3 4 5; do
        as_root apt-get -q update >"$log" 2>&1 && break
        sleep "$attempt"
    done
    if ! as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@" >>"$log" 2>&1; then
        reason="apt-get could not install $*: $(grep -m1 '^E:' "$log" || tail -n1 "$log")"
        return 1
    fi
}

# A port of the loopback that nobody listens on now, below those that the system hands out by itself.
free_port() {
    local port
    while true; do
        port=$((RANDOM % 12000 + 20000))
        (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null || break
    done
    echo "$port"
}
