# shellcheck shell=bash disable=SC2154  # `scripts/kube` sets them
# Kubernetes's four programs in $cache/bin, built from Debian's source package; and the packages that a cluster needs.

readonly programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet)

# What is built is shared by clusters, so one builds and the others wait.
build() {
    mkdir -p -- "$cache"
    (
        flock 8
        need_packages
        ! is_built || exit 0
        install_missing dpkg-source:dpkg-dev
        go_program >/dev/null || install_missing /usr/lib/go-1.19/bin/go:golang-1.19-go
        [[ -f $cache/build/src/cmd/kubelet/kubelet.go ]] || get_source
        SECONDS=0
        compile
        chmod -R u+w -- "$cache/build"
        rm -rf -- "$cache/build"
        say "built in $SECONDS s, $(du -h -- "$bin/flotilla-kube" | cut -f1)"
    ) 8>"$cache/build.lock"
}

is_built() {
    local program
    for program in "${programs[@]}"; do
        [[ -x $bin/$program ]] || return 1
    done
}

# What is built needs these to be of use.
need_packages() {
    install_missing etcd:etcd-server openssl:openssl curl:curl kubectl:kubernetes-client containerd:containerd \
        runc:runc /usr/lib/cni/bridge:containernetworking-plugins busybox:busybox-static bash-static:bash-static \
        ip:iproute2 iptables:iptables
}

# install_missing PROGRAM:PACKAGE…: those packages whose program is not there.
install_missing() {
    local pair missing=() reason policy=/usr/sbin/policy-rc.d ours=
    for pair in "$@"; do
        [[ -n $(type -P "${pair%%:*}") ]] || missing+=("${pair#*:}")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    # A package starts no service of the machine's: a cluster starts what it needs by itself.
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        ours=$policy
    fi
    install_packages "${missing[@]}" || { [[ -z $ours ]] || rm -f "$ours"; fail "$reason"; }
    [[ -z $ours ]] || rm -f "$ours"
}

# Through package lists of our own: the machine's are only read, with `deb-src` for `deb`.
get_source() {
    local build=$cache/build log=$cache/source.log tree
    local lists=$build/apt
    rm -rf -- "$build/download" "$lists"
    mkdir -p "$lists/parts" "$lists/state/partial" "$build/download"
    source_lists "$lists/parts"
    local options=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$lists/parts" -o "Dir::State::lists=$lists/state")
    say "getting Debian's source package \`kubernetes\`"
    (
        cd -- "$build/download"
        apt-get -q "${options[@]}" update && apt-get -q "${options[@]}" source kubernetes
    ) >"$log" 2>&1 || fail "apt-get could not get the source package \`kubernetes\`: $(tail -n1 "$log")"
    tree=$(find "$build/download" -mindepth 1 -maxdepth 1 -type d -name 'kubernetes-*' | head -n1)
    [[ -f $tree/cmd/kubelet/kubelet.go ]] ||
        fail "the source package \`kubernetes\` of this Debian holds no servers; that of Debian 12 does"
    replace_reflect2 "$tree"
    rm -rf -- "$build/src"
    mv -- "$tree" "$build/src"
}

# source_lists FOLDER: where Debian's own archive has sources, by what the machine says of its programs.
source_lists() {
    local file number=0
    for file in /etc/apt/sources.list.d/*.sources; do
        if [[ -e $file ]] && grep -q '/debian/\?$' "$file"; then
            number=$((number + 1))
            sed -E 's/^Types:.*/Types: deb-src/' "$file" >"$1/$number.sources"
        fi
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -e $file ]] || continue
        number=$((number + 1))
        sed -nE 's/^deb(-src)? (.*\/debian\/? .*)/deb-src \2/p' "$file" | sort -u >"$1/$number.list"
    done
    find "$1" -type f -empty -delete
}

# The API server built with the source's own reflect2, which is older than Go 1.18, panics on the first node that it
# writes as JSON; Debian's package of it does not.
replace_reflect2() {
    local package=golang-github-modern-go-reflect2-dev vendored=$1/vendor/github.com/modern-go/reflect2
    local download=$cache/build/download log=$cache/source.log
    (
        cd -- "$download"
        apt-get -q download "$package" || { apt-get -q update && apt-get -q download "$package"; }
    ) >>"$log" 2>&1 || fail "apt-get could not get $package: $(tail -n1 "$log")"
    dpkg-deb -x "$download/$package"_*.deb "$download/reflect2"
    rm -f -- "$vendored"/*.go "$vendored"/*.s
    cp -- "$download/reflect2/usr/share/gocode/src/github.com/modern-go/reflect2"/*.{go,s} "$vendored/"
    rm -f -- "$vendored"/*_test.go
}

# A Go that still builds a tree without modules, with libraries of 2020.
go_program() {
    local version
    for version in 1.19 1.20 1.21; do
        [[ -x /usr/lib/go-$version/bin/go ]] && echo "/usr/lib/go-$version/bin/go" && return
    done
    return 1
}

compile() {
    local build=$cache/build version go program
    go=$(go_program)
    mkdir -p "$build/go/src/k8s.io" "$bin"
    ln -sfn "$build/src" "$build/go/src/k8s.io/kubernetes"
    cd -- "$build/go/src/k8s.io/kubernetes" || exit
    export GO111MODULE=off GOPATH=$build/go GOCACHE=$build/objects CGO_ENABLED=0 GOFLAGS='' GOTOOLCHAIN=local
    version=$(sed -n '1s/.*really\([0-9.]*\)-.*/\1/p' debian/changelog)
    version=${version:-1.20.2}
    say "building Kubernetes $version: 4 to 15 minutes on two cores, this once"
    generate_openapi "$go" || fail 'the OpenAPI document of Kubernetes could not be generated'
    # All in one: one link, and a quarter of the size.
    mkdir -p cmd/flotilla-kube
    cp -- "$scripts/lib/kube/main.go" cmd/flotilla-kube/main.go
    local package flags='-s -w'
    for package in component-base/version client-go/pkg/version; do
        package=k8s.io/kubernetes/vendor/k8s.io/$package
        flags+=" -X $package.gitVersion=v$version -X $package.gitMajor=${version%%.*} -X $package.gitMinor=$(cut -d. -f2 <<<"$version")"
    done
    # `providerless` leaves out what belongs to a cloud.
    "$go" build -trimpath -tags providerless -ldflags "$flags" -o "$bin/flotilla-kube.new" ./cmd/flotilla-kube ||
        fail 'Kubernetes could not be built'
    mv -- "$bin/flotilla-kube.new" "$bin/flotilla-kube"
    for program in "${programs[@]}"; do
        ln -sfn flotilla-kube "$bin/$program"
    done
}

# The one file of the tree that is made as it is built.
generate_openapi() {
    local made=pkg/generated/openapi/zz_generated.openapi.go described
    [[ ! -s $made ]] || return 0
    "$1" build -o "$cache/build/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen || return
    described=$(grep -rl --include='*.go' '+k8s:openapi-gen=' pkg staging |
        grep -vE '/(code-generator|sample-apiserver)/' | xargs -n1 dirname | sort -u |
        sed 's,^staging/src/,vendor/,; s,^,k8s.io/kubernetes/,' | paste -sd,)
    "$cache/build/openapi-gen" --logtostderr -i "$described" -p k8s.io/kubernetes/pkg/generated/openapi \
        -O zz_generated.openapi -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r "$cache/build/openapi.report"
}
