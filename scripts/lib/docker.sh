# shellcheck shell=bash disable=SC2034,SC2154  # `work` and `reason` are the sourcing script's
# A throw-away Docker Engine in $work/docker with the image flotilla-test/busybox:1; exports FLOTILLA_TEST_DOCKER.
#
# It has network, process and mount namespaces of its own: its bridge and its containers' addresses can't meet those of
# another engine, no rule of the machine's firewall is touched, and ending its first process ends every container.
# An engine that already runs on the machine is left alone, because tests remove what they take for strays.

start_docker() {
    if [[ -n ${FLOTILLA_TEST_DOCKER:-} ]]; then
        export FLOTILLA_TEST_DOCKER
        build_test_image && return
        unset FLOTILLA_TEST_DOCKER
        return 1
    fi
    if ! has_root; then
        reason='a Docker Engine of its own needs root; FLOTILLA_TEST_DOCKER=unix://… can name another'
        return 1
    fi
    command -v dockerd >/dev/null || install_packages docker.io || return
    # A package of its own in newer Debians.
    command -v docker >/dev/null || install_packages docker-cli || return

    docker_home=$work/docker
    mkdir "$docker_home"
    # `unshare` writes its own process id, as the machine counts, and is what is killed in the end.
    # Through a new /run/containerd, a containerd of the machine's isn't found, so dockerd starts its own.
    # shellcheck disable=SC2016
    local inside='
        ip link set lo up 2>/dev/null || busybox ip link set lo up
        mkdir -p /run/containerd && mount -t tmpfs none /run/containerd
        "$@" &
        wait'
    set -m
    # shellcheck disable=SC2016
    as_root bash -c 'echo $$ >"$1/pid.unshare" && shift && exec unshare "$@"' bash "$docker_home" \
        --mount --net --pid --mount-proc --fork --kill-child bash -c "$inside" bash \
        dockerd --host "unix://$docker_home/docker.sock" --group "$(id -gn)" \
        --data-root "$docker_home/data" --exec-root "$docker_home/exec" --pidfile "$docker_home/pid" \
        --iptables=false --ip6tables=false \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$(basename -- "$work")" \
        >"$work/docker.log" 2>&1 &
    docker_job=$!
    disown "$docker_job"
    set +m

    export FLOTILLA_TEST_DOCKER=unix://$docker_home/docker.sock
    local tenth
    for tenth in {1..300}; do
        if docker_here version >/dev/null 2>&1; then
            build_test_image && return
            unset FLOTILLA_TEST_DOCKER
            return 1
        fi
        as_root kill -0 "$docker_job" 2>/dev/null || break
        sleep 0.1
    done
    reason="dockerd did not answer after $tenth tenths of a second: $(grep -v level=info "$work/docker.log" | tail -n1)"
    unset FLOTILLA_TEST_DOCKER
    return 1
}

# Tests that pull start registries of their own, each on a free port of the loopback, next to daemons of their own that
# share it: they end them, too. Here is only seen to it that there is a program to start.
start_registry() {
    command -v docker-registry >/dev/null || install_packages docker-registry
}

stop_docker() {
    [[ -n ${docker_home:-} && -s $docker_home/pid.unshare ]] || return 0
    local attempt cgroups
    as_root kill -KILL "$(<"$docker_home/pid.unshare")" 2>/dev/null || true
    # The groups can be removed once the last process in them is gone.
    for attempt in {1..50}; do
        cgroups=$(find /sys/fs/cgroup -depth -type d -path "*/$(basename -- "$work")*" 2>/dev/null || true)
        [[ -n $cgroups ]] || break
        [[ $attempt -eq 1 ]] || sleep 0.1
        # shellcheck disable=SC2086
        as_root rmdir -- $cgroups 2>/dev/null || true
    done
    docker_home=
}

# Everything a test's container may want, in two megabytes, without a registry.
build_test_image() {
    local rootfs=$work/rootfs busybox applet
    if ! busybox=$(static_busybox); then
        install_packages busybox-static || return
        busybox=$(static_busybox) || { reason='the package busybox-static brings no static busybox'; return 1; }
    fi
    mkdir -p "$rootfs"/{bin,etc,root,tmp}
    cp -- "$busybox" "$rootfs/bin/busybox"
    for applet in $("$busybox" --list | grep -vx busybox); do
        ln -s busybox "$rootfs/bin/$applet"
    done
    chmod 1777 "$rootfs/tmp"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$rootfs/etc/passwd"
    echo 'root:x:0:' >"$rootfs/etc/group"
    if ! tar -C "$rootfs" --owner=0 --group=0 --numeric-owner -c . |
        docker_here import --change 'ENV PATH=/bin' --change 'CMD ["sh"]' - flotilla-test/busybox:1 >"$work/import.log" 2>&1; then
        reason="docker import: $(tail -n1 "$work/import.log")"
        return 1
    fi
}

static_busybox() {
    local busybox
    # In an image that holds nothing else, one that needs libraries would not start.
    busybox=$(command -v busybox) && ! ldd "$busybox" >/dev/null 2>&1 && echo "$busybox"
}

docker_here() {
    env -u DOCKER_CONTEXT DOCKER_HOST="$FLOTILLA_TEST_DOCKER" timeout 60 docker "$@"
}
