# shellcheck shell=bash disable=SC2034,SC2154  # `work` and `reason` are the sourcing script's
# A throw-away Kubernetes of one node in $work/kube, by `scripts/kube`; exports FLOTILLA_TEST_KUBERNETES, a kubeconfig.
#
# What it runs is built once and kept in the user's cache. Building takes minutes and two gigabytes for a while, so that
# nobody who wanted to run a test is made to: it is done where the service is required, or asked for.

start_kubernetes() {
    if [[ -n ${FLOTILLA_TEST_KUBERNETES:-} ]]; then
        export FLOTILLA_TEST_KUBERNETES
        command -v kubectl >/dev/null || install_packages kubernetes-client
        return
    fi
    if ! has_root || ! command -v apt-get >/dev/null; then
        reason='a cluster of its own needs root and Debian; FLOTILLA_TEST_KUBERNETES=PATH can name the kubeconfig of another'
        return 1
    fi
    kubernetes_cache=${FLOTILLA_KUBE_CACHE:-$HOME/.cache/flotilla-kube}
    if [[ ! -x $kubernetes_cache/bin/kubelet ]] && ! is_required kubernetes && [[ ${FLOTILLA_TEST_KUBERNETES_BUILD:-} != 1 ]]; then
        reason='it is not built yet; FLOTILLA_TEST_KUBERNETES_BUILD=1 does that, once, in 4 to 15 minutes on two cores'
        return 1
    fi
    kubernetes_home=$work/kube
    mkdir "$kubernetes_home"
    run_kube 16443 build || return

    local attempt
    # Another process may take a port between the look and the start.
    for attempt in 1 2 3; do
        if run_kube "$(free_kubernetes_port)" up; then
            # As root's, the tests might not be able to read it.
            as_root cat "$kubernetes_home/kubeconfig" >"$work/kubeconfig"
            chmod 600 "$work/kubeconfig"
            export FLOTILLA_TEST_KUBERNETES=$work/kubeconfig
            # By these, a test that kills a part of the cluster brings it back with `scripts/kube up`.
            export FLOTILLA_KUBE_CACHE=$kubernetes_cache FLOTILLA_KUBE_DIR=$kubernetes_home FLOTILLA_KUBE_PORT=$kubernetes_port
            return
        fi
        stop_kubernetes
    done
    reason="after $attempt tries: $reason"
    return 1
}

stop_kubernetes() {
    [[ -n ${kubernetes_home:-} ]] || return 0
    if [[ -n ${kubernetes_job:-} ]]; then
        as_root kill -TERM -- "-$kubernetes_job" 2>/dev/null || true
        wait "$kubernetes_job" 2>/dev/null || true
        kubernetes_job=
    fi
    [[ ! -d $kubernetes_home/run ]] || run_kube "$kubernetes_port" down || say "no clean end of Kubernetes: $reason"
}

# run_kube PORT VERB: in a process group of its own, so that a signal to this script need not wait for it.
run_kube() {
    local status=0 shown=/dev/null
    kubernetes_port=$1
    # What takes minutes is told as it goes on.
    [[ $2 != build ]] || shown=/dev/stderr
    set -m
    {
        as_root env FLOTILLA_KUBE_CACHE="$kubernetes_cache" FLOTILLA_KUBE_DIR="$kubernetes_home" FLOTILLA_KUBE_PORT="$1" \
            scripts/kube "$2" </dev/null 2>&1 | tee -a "$work/kube.log" >"$shown"
    } &
    kubernetes_job=$!
    set +m
    wait "$kubernetes_job" || status=$?
    kubernetes_job=
    [[ $status -eq 0 ]] || reason=$(tail -n1 "$work/kube.log")
    return "$status"
}

# The first of seven that nobody listens on, and whose pods' network no interface has.
free_kubernetes_port() {
    local port next
    while true; do
        port=$(free_port)
        for next in {1..6}; do
            ! (: </dev/tcp/127.0.0.1/$((port + next))) 2>/dev/null || continue 2
        done
        [[ -n $(ip -4 route show "10.244.$((port / 7 % 250)).0/24") ]] || break
    done
    echo "$port"
}
