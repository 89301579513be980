# shellcheck shell=bash disable=SC2154  # `scripts/kube` sets them
# The node: containerd and the kubelet, and what both leave on the machine outside of the cluster's folder.

# The kubelet sets these for the whole machine.
readonly sysctls=(vm/overcommit_memory kernel/panic kernel/panic_on_oops)
# What they were, and which clusters are up.
readonly shared=/run/flotilla-kube

# Some folders of a kubelet are the same for all on a machine, and it removes what it doesn't know from them: logs of
# another cluster's pods. So containerd and kubelet see folders of their own there.
start_mounts() {
    ! is_alive mounts || return 0
    # They must see the same, and what they had mounted goes with the old one.
    stop kubelet containerd
    rm -f -- "$run/mounted"
    # shellcheck disable=SC2016
    launch mounts unshare --mount --propagation slave bash -c '
        set -e
        run=$1
        shift
        for folder in "$@"; do
            mkdir -p "$folder" "$run/mounts$folder"
            mount --bind "$run/mounts$folder" "$folder"
        done
        : >"$run/mounted"
        exec sleep infinity' bash "$run" /var/log/pods /var/log/containers /var/lib/kubelet
    wait_for 10 mounts test -e "$run/mounted"
}

# launch_in_node NAME COMMAND…
launch_in_node() {
    launch "$1" nsenter --mount="/proc/$(pid_of mounts)/ns/mnt" -- "${@:2}"
}

start_containerd() {
    start_mounts
    cat >"$run/containerd.toml" <<END
version = 2
root = "$home/containerd"
state = "$run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "$run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/$pause_image"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  # A sandbox asks for -998, which takes CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$run/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
END
    mkdir -p "$run/cni"
    cat >"$run/cni/10-pods.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{
  "type": "bridge", "bridge": "$bridge", "isGateway": true, "ipMasq": false,
  "ipam": {"type": "host-local", "dataDir": "$run/ipam",
           "ranges": [[{"subnet": "$pod_network.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
END
    launch_in_node containerd containerd --config "$run/containerd.toml" --log-level warn
    wait_for 30 containerd ctr_here version
}

start_kubelet() {
    local name_server
    remember_machine
    make_cgroups
    # There is no name server of the cluster's.
    name_server=$(awk '/^nameserver/ { print $2; exit }' /etc/resolv.conf 2>/dev/null || true)
    cat >"$run/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: $kubelet_port
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
healthzPort: $health_port
tlsCertFile: $keys/server.crt
tlsPrivateKeyFile: $keys/server.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $keys/ca.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$bridge
clusterDNS: [${name_server:-$pod_network.1}]
failSwapOn: false
makeIPTablesUtilChains: false
enforceNodeAllocatable: [pods]
evictionHard: {memory.available: 100Mi}
imageGCHighThresholdPercent: 100
serializeImagePulls: false
syncFrequency: 10s
nodeStatusUpdateFrequency: 1s
nodeStatusReportFrequency: 1m
kubeAPIQPS: 100
kubeAPIBurst: 200
eventRecordQPS: 0
maxPods: 110
END
    launch_in_node kubelet "$bin/kubelet" --config="$run/kubelet.yaml" --kubeconfig="$run/kubelet.conf" \
        --hostname-override="$node" --root-dir="$run/kubelet" --cert-dir="$run/kubelet-cert" \
        --container-runtime=remote --container-runtime-endpoint="unix://$run/containerd.sock" \
        --containerd="$run/containerd.sock" --containerd-namespace=k8s.io --runtime-request-timeout=2m \
        --volume-plugin-dir="$run/volume-plugins"
    # Pods reach each other also where the machine forwards nothing, as Docker has it.
    local rule=(FORWARD -i "$bridge" -o "$bridge" -j ACCEPT)
    iptables -w -C "${rule[@]}" 2>/dev/null || iptables -w -I "${rule[@]}" 2>/dev/null || true
}

is_node_ready() {
    local description
    # The API server says so for a while also of a kubelet that is gone.
    curl -sf --max-time 5 "http://127.0.0.1:$health_port/healthz" && (: </dev/tcp/127.0.0.1/"$kubelet_port") || return
    description=$(ask_api "/api/v1/nodes/$node" | tr -d ' \n')
    [[ $description == *'"type":"Ready","status":"True"'* && $description != *node.kubernetes.io/not-ready* ]]
}

# The pods' control group, in each hierarchy of version 1 or in the one of version 2.
make_cgroups() {
    local hierarchy file
    if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
        mkdir -p "/sys/fs/cgroup/$bridge"
        sed 's/[a-z]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
        return
    fi
    for hierarchy in /sys/fs/cgroup/*/; do
        [[ -e $hierarchy/cgroup.procs && ! -e $hierarchy/cgroup.controllers ]] || continue
        mkdir -p "$hierarchy$bridge"
        for file in cpuset.cpus cpuset.mems; do
            [[ ! -e $hierarchy$file ]] || cat "$hierarchy$file" >"$hierarchy$bridge/$file"
        done
    done
}

remember_machine() {
    local name
    mkdir -p "$shared"
    (
        flock 7
        [[ -s $shared/sysctls ]] || for name in "${sysctls[@]}"; do
            echo "$name $(<"/proc/sys/$name")"
        done >"$shared/sysctls"
        echo "$run" >"$shared/$port.cluster"
    ) 7>"$shared/lock"
}

# What the kubelet did to the machine; what it did for all clusters, after the last of them.
restore_machine() {
    local cluster name value group
    for group in /sys/fs/cgroup/*/"$bridge" "/sys/fs/cgroup/$bridge"; do
        [[ ! -d $group ]] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
    ip link del "$bridge" 2>/dev/null || true
    iptables -w -D FORWARD -i "$bridge" -o "$bridge" -j ACCEPT 2>/dev/null || true
    [[ -e $shared/$port.cluster ]] || return 0
    (
        flock 7
        rm -f -- "$shared/$port.cluster"
        for cluster in "$shared"/*.cluster; do
            [[ ! -e $cluster || ! -d $(<"$cluster") ]] || exit 0
        done
        while read -r name value; do
            echo "$value" >"/proc/sys/$name" || true
        done <"$shared/sysctls"
        rm -f -- "$shared/sysctls" "$shared"/*.cluster
    ) 7>"$shared/lock"
}

# Containers outlive a containerd that was killed, so one is started to remove them.
remove_containers() {
    local container network networks=()
    [[ -d $run/containerd ]] || return 0
    (start_containerd) || return 0
    for container in $(ctr_here containers ls -q); do
        network=$(ctr_here containers info "$container" 2>/dev/null | grep -oE '/run/netns/[A-Za-z0-9-]+' | head -n1 || true)
        [[ -z $network ]] || networks+=("${network##*/}")
        ctr_here tasks rm -f "$container" >/dev/null 2>&1 || true
        ctr_here containers rm "$container" >/dev/null 2>&1 || true
    done
    for network in "${networks[@]}"; do
        nsenter --mount="/proc/$(pid_of mounts)/ns/mnt" -- ip netns del "$network" 2>/dev/null || true
        rm -f -- "/run/netns/$network"
    done
}
