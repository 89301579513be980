# shellcheck shell=bash disable=SC2016,SC2154  # a task's own shell expands its command; scripts/test-deploy sets the rest
# What scripts/test-deploy checks, a function each. All talk to the throw-away services of that script.

readonly image=flotilla-test/flotilla:1
readonly user=65532
readonly rights=system:serviceaccount:flotilla:flotilla

verify_unit() {
    command -v systemd-analyze >/dev/null || install_packages systemd
    # Verified is also that the program is there. An older systemd says that it leaves out what it does not know.
    sed "s,/usr/local/bin/flotilla,$(realpath -- "$program")," deploy/systemd/flotilla.service >"$work/flotilla.service"
    systemd-analyze verify "$work/flotilla.service" 2>&1 | tee "$work/verified"
    ! grep -v "Unknown key.*'DelegateSubgroup'" "$work/verified"
}

# The API server reads them, so that no misspelt field is just not there.
render_manifests() {
    local folder
    # What is dry is not there for what comes next.
    kubectl_here create namespace flotilla
    kubectl_here create namespace flotilla-runs
    for folder in deploy/kubernetes/base deploy/kubernetes/overlays/*/; do
        echo "$folder"
        # Of 1.20, which has the budget of disruption in a version that went with 1.25.
        kubectl kustomize "$folder" | sed 's,^apiVersion: policy/v1$,apiVersion: policy/v1beta1,' >"$work/rendered.yaml"
        kubectl_here apply --dry-run=server --validate=true --filename "$work/rendered.yaml"
    done
    kubectl_here delete namespace flotilla flotilla-runs
}

# From what the machine has in place of what a registry would have: the Dockerfile says what each is.
build_image() {
    local layers=$work/layers library
    mkdir -p "$layers"/program/flotilla/{bin,data} "$layers"/base/{etc/ssl/certs,tmp}
    cp -- "$program" "$layers/program/flotilla/bin/flotilla"
    for library in $(ldd "$program" | grep -oE '/[^ ]+'); do
        install -D -- "$(readlink -f -- "$library")" "$layers/base$library"
    done
    chmod 1777 "$layers/base/tmp"
    cp -- /etc/ssl/certs/ca-certificates.crt "$layers/base/etc/ssl/certs/"
    echo "nonroot:x:$user:$user::/:/sbin/nologin" >"$layers/base/etc/passwd"
    import_image "$layers/program" flotilla-test/program:1
    import_image "$layers/base" flotilla-test/base:1
    buildkit_docker build -f deploy/Dockerfile --build-arg PROGRAM=flotilla-test/program:1 \
        --build-arg BASE_IMAGE=flotilla-test/base:1 --tag "$image" .
    rm -rf -- "$layers"
}

import_image() {
    tar -C "$1" --owner=0 --group=0 --numeric-owner -c . | docker_here import - "$2"
}

# The engine may be one that was there before.
remove_images() {
    docker_here rmi "$image" flotilla-test/program:1 flotilla-test/base:1 >/dev/null 2>&1
}

# A newer docker without its plugin buildx has only the builder of old, which compiles also what is not asked for.
buildkit_docker() {
    local docker
    for docker in $(type -ap docker); do
        if "$docker" buildx version >/dev/null 2>&1 || [[ $("$docker" --version) == *" 20."* ]]; then
            env -u DOCKER_CONTEXT DOCKER_HOST="$FLOTILLA_TEST_DOCKER" DOCKER_BUILDKIT=1 timeout 600 "$docker" "$@"
            return
        fi
    done
    echo 'no docker here can build with BuildKit: its plugin buildx is missing'
    return 1
}

run_image() (
    socket=${FLOTILLA_TEST_DOCKER#unix://}
    container=flotilla-deploy-$$
    trap 'docker_here rm --force --volumes "$container"' EXIT
    docker_here run --detach --name "$container" --read-only --cap-drop ALL --security-opt no-new-privileges \
        --group-add "$(stat -c %g -- "$socket")" --volume "$socket:/var/run/docker.sock" --health-interval 1s "$image"
    wait_until 60 is_healthy "$container" || { docker_here logs "$container"; return 1; }
    task hi 'echo "hi from $(hostname)"' | docker_here exec --interactive "$container" /usr/local/bin/flotilla define -f -
    said=$(docker_here exec "$container" /usr/local/bin/flotilla run hi --follow)
    [[ $said == 'hi from '* ]]
    [[ $(docker_here inspect --format '{{.Config.User}}' "$container") == "$user:$user" ]]
)

is_healthy() {
    [[ $(docker_here inspect --format '{{.State.Health.Status}}' "$1") == healthy ]]
}

load_image() {
    docker_here save "$image" | as_root env FLOTILLA_KUBE_DIR="$kubernetes_home" FLOTILLA_KUBE_PORT="$kubernetes_port" \
        scripts/kube load -
}

# The base, with the image, the database and a disk; and without the network of a cluster, which `scripts/kube` has not:
# the pod is in that of the machine, where the API and the database answer on loopback.
apply_manifests() {
    local overlay=$work/overlay data=$work/data base api database port
    database=$(make_database)
    mkdir "$overlay" "$data"
    base=$(realpath --relative-to="$overlay" deploy/kubernetes)
    api=$(kubectl_here config view --minify --output 'jsonpath={.clusters[0].cluster.server}')
    listen=$(free_port)
    as_root chown "$user:$user" "$data"
    cat >"$overlay/kustomization.yaml" <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [$base/base, volume.yaml]
components: [$base/components/nodes]
images: [{name: flotilla, newName: "${image%:*}", newTag: "${image#*:}"}]
secretGenerator:
  - {name: flotilla-database, namespace: flotilla, literals: ["url=$database"]}
patches:
  - target: {kind: StatefulSet, name: flotilla}
    patch: |
      - {op: add, path: /spec/template/spec/hostNetwork, value: true}
      - {op: replace, path: /spec/template/spec/containers/0/ports/0/containerPort, value: $listen}
      - {op: add, path: /spec/template/spec/containers/0/startupProbe/httpGet/host, value: 127.0.0.1}
      - {op: add, path: /spec/template/spec/containers/0/livenessProbe/httpGet/host, value: 127.0.0.1}
      - {op: add, path: /spec/template/spec/containers/0/readinessProbe/httpGet/host, value: 127.0.0.1}
      - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: FLOTILLA_LISTEN, value: "127.0.0.1:$listen"}}
      - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: KUBERNETES_SERVICE_HOST, value: 127.0.0.1}}
      - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: KUBERNETES_SERVICE_PORT, value: "${api##*:}"}}
      - {op: add, path: /spec/volumeClaimTemplates/0/spec/storageClassName, value: ""}
END
    cat >"$overlay/volume.yaml" <<END
apiVersion: v1
kind: PersistentVolume
metadata: {name: flotilla}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {storage: 20Gi}
  hostPath: {path: $data, type: Directory}
END
    kubectl_here apply --kustomize "$overlay"
    kubectl_here --namespace flotilla rollout status statefulset/flotilla --timeout=120s
    # By way of the service.
    port=$(free_port)
    kubectl_here --namespace flotilla port-forward service/flotilla "$port:80" &
    forward=$!
    wait_until 30 curl -sf "http://127.0.0.1:$port/health/ready"
    kill "$forward"
    forward=
}

# Tells its address.
make_database() {
    local name=deploy_$$
    psql --quiet --dbname="$FLOTILLA_TEST_POSTGRES" --command="CREATE DATABASE $name" >&2
    echo "${FLOTILLA_TEST_POSTGRES%/*}/$name"
}

check_rights() {
    local right
    for right in 'create jobs' 'delete jobs' 'watch jobs' 'watch pods' 'get pods --subresource=log' 'list events' 'list resourcequotas' \
        'list limitranges' 'list nodes' 'get namespaces/flotilla-runs'; do
        # shellcheck disable=SC2086
        may --namespace flotilla-runs $right || { echo "it may not $right"; return 1; }
    done
    for right in '-n flotilla-runs get secrets' '-n flotilla-runs create pods --subresource=exec' '-n flotilla create pods' \
        '-n flotilla get secrets' '-n flotilla create jobs' '-n default list pods' '-n kube-system get secrets' \
        'get nodes --subresource=proxy' 'create clusterrolebindings' 'get namespaces/default'; do
        # shellcheck disable=SC2086
        ! may $right || { echo "it may $right"; return 1; }
    done
}

may() {
    kubectl_here auth can-i --quiet --as="$rights" "$@"
}

run_job() {
    local said code=0
    task hi 'echo "hi from $HOSTNAME"; exit 7' | flotilla define -f -
    said=$(flotilla run hi --follow) || code=$?
    echo "$said"
    [[ $code -eq 7 && $said == *'hi from flotilla-'* ]]
}

replace_pod() {
    local run pod
    task slow 'for i in $(seq 60); do echo "tick $i"; sleep 0.5; done' | flotilla define -f -
    run=$(flotilla run slow --quiet)
    wait_until 60 is_running "$run"
    pod=$(pod_of_server)
    kubectl_here --namespace flotilla delete pod flotilla-0
    is_running_job
    kubectl_here --namespace flotilla rollout status statefulset/flotilla --timeout=120s
    [[ $(pod_of_server) != "$pod" ]]
    wait_until 30 flotilla ps --quiet
    diff <(flotilla logs --follow "$run") <(printf 'tick %d\n' {1..60})
    flotilla show "$run" --json | grep -q '"exit_code": *0'
    # The one before is there as well.
    [[ $(flotilla ps --all --quiet | wc -l) -eq 2 ]]
}

is_running() {
    [[ $(flotilla ps --quiet --status running) == *"$1"* ]]
}

is_running_job() {
    [[ $(kubectl_here --namespace flotilla-runs get jobs --output 'jsonpath={.items[*].status.active}') == 1 ]]
}

pod_of_server() {
    kubectl_here --namespace flotilla get pod flotilla-0 --output 'jsonpath={.metadata.uid}'
}

task() {
    jq --null-input --arg alias "$1" --arg command "$2" \
        '{alias: $alias, group_name: "deploy", image: "flotilla-test/busybox:1", command: $command}'
}

flotilla() {
    timeout 120 "$program" --server "http://127.0.0.1:$listen" "$@"
}

kubectl_here() {
    kubectl --kubeconfig "$FLOTILLA_TEST_KUBERNETES" "$@"
}

# wait_until SECONDS COMMAND…
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [[ $SECONDS -lt $end ]] || { echo "still not so: $*"; return 1; }
        sleep 0.2
    done
}

describe_failure() {
    [[ -n ${FLOTILLA_TEST_KUBERNETES:-} ]] || return 0
    kubectl_here --namespace flotilla describe pods
    kubectl_here --namespace flotilla logs flotilla-0 --tail=30
    kubectl_here --namespace flotilla-runs get jobs,pods,events
}
