# shellcheck shell=bash disable=SC2154  # `scripts/kube` sets them
# The images of the node's containerd, made of Debian's static busybox and bash.

readonly test_image=flotilla-test/busybox
readonly pause_image=flotilla-test/pause:1

load_test_images() {
    local there
    there=$(ctr_here images ls -q | grep -cE "^docker.io/($test_image:(1|latest)|$pause_image)$" || true)
    [[ $there -ne 3 ]] || return 0
    local root=$run/rootfs applet
    rm -rf -- "$root"
    mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp,usr,var/tmp,work}
    chmod 1777 "$root/tmp" "$root/var/tmp"
    ln -s ../bin "$root/usr/bin"
    ln -s bin "$root/sbin"
    cp -- "$(type -P busybox)" "$root/bin/busybox"
    for applet in $(busybox --list); do
        [[ -e $root/bin/$applet ]] || ln -s busybox "$root/bin/$applet"
    done
    cp -- "$(type -P bash-static)" "$root/bin/bash"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    # Its process is the first of the pod: if it did not answer SIGTERM at once, no pod would go before its grace is over.
    archive "$root" '{"Entrypoint":["/bin/sh","-c","trap \"exit 0\" TERM INT; while :; do sleep 86400 & wait; done"]}' \
        "$pause_image" | ctr_here images import - >/dev/null
    archive "$root" '{"Env":["PATH=/bin:/usr/bin"],"Cmd":["/bin/sh"]}' \
        "$test_image:1" "$test_image:latest" | ctr_here images import - >/dev/null
    rm -rf -- "$root"
}

# archive FOLDER CONFIGURATION NAME…: the folder as an image of one layer, as `docker save` writes it.
archive() {
    local root=$1 configuration=$2 parts layer names
    shift 2
    parts=$(mktemp -d -- "$run/image.XXXXXX")
    tar -C "$root" --owner=0 --group=0 --sort=name -cf "$parts/layer.tar" .
    layer=$(sha256sum "$parts/layer.tar" | cut -d' ' -f1)
    printf '{"architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$(dpkg --print-architecture)" "$configuration" "$layer" >"$parts/config.json"
    names=$(printf '"docker.io/%s",' "$@")
    printf '[{"Config":"config.json","RepoTags":[%s],"Layers":["layer.tar"]}]' "${names%,}" >"$parts/manifest.json"
    tar -C "$parts" -c manifest.json config.json layer.tar
    rm -rf -- "$parts"
}

ctr_here() {
    ctr --address "$run/containerd.sock" --namespace k8s.io "$@"
}
