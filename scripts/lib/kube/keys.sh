# shellcheck shell=bash disable=SC2154  # `scripts/kube` sets them
# Keys and certificates of a cluster in $keys, made once, and the kubeconfigs that hold them.

make_keys() {
    mkdir -p -- "$keys"
    chmod 700 "$keys"
    make_authority
    local machine=IP:127.0.0.1,DNS:localhost
    make_certificate apiserver /CN=kube-apiserver \
        "$machine,IP:10.96.0.1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    # What the other servers answer with.
    make_certificate server /CN=flotilla-kube "$machine"
    make_certificate admin /O=system:masters/CN=flotilla-admin
    make_certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet
    make_certificate controller-manager /CN=system:kube-controller-manager
    make_certificate scheduler /CN=system:kube-scheduler
    make_certificate "node-$node" "/O=system:nodes/CN=system:node:$node"
    [[ -s $keys/token ]] || openssl rand -hex 24 >"$keys/token"
    printf '%s,flotilla-token,flotilla-token,system:masters\n' "$(<"$keys/token")" >"$keys/tokens.csv"
    chmod 600 "$keys"/*

    write_kubeconfig "$run/controller-manager.conf" controller-manager
    write_kubeconfig "$run/scheduler.conf" scheduler
    write_kubeconfig "$run/kubelet.conf" "node-$node"
    write_kubeconfig "$kubeconfig.new" admin "$(<"$keys/token")"
    mv -- "$kubeconfig.new" "$kubeconfig"
}

make_authority() {
    if [[ ! -s $keys/ca.crt ]]; then
        new_key >"$keys/ca.key"
        openssl req -x509 -new -key "$keys/ca.key" -subj /CN=flotilla-kube-ca -days 3650 -sha256 \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -out "$keys/ca.crt" 2>/dev/null
    fi
    # What the tokens of service accounts are signed with.
    [[ -s $keys/sa.key ]] || openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$keys/sa.key" 2>/dev/null
    [[ -s $keys/sa.pub ]] || openssl rsa -in "$keys/sa.key" -pubout -out "$keys/sa.pub" 2>/dev/null
}

# make_certificate NAME SUBJECT [ADDRESSES]
make_certificate() {
    local path=$keys/$1
    [[ ! -s $path.crt ]] || return 0
    new_key >"$path.key"
    openssl req -new -key "$path.key" -subj "$2" -out "$path.csr"
    {
        echo basicConstraints=critical,CA:FALSE
        echo keyUsage=critical,digitalSignature,keyEncipherment
        echo extendedKeyUsage=serverAuth,clientAuth
        [[ -z ${3:-} ]] || echo "subjectAltName=$3"
    } >"$path.ext"
    openssl x509 -req -in "$path.csr" -CA "$keys/ca.crt" -CAkey "$keys/ca.key" -CAcreateserial \
        -days 3650 -sha256 -extfile "$path.ext" -out "$path.crt" 2>/dev/null
    rm -f -- "$path.csr" "$path.ext"
}

new_key() {
    openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt
}

# write_kubeconfig FILE CERTIFICATE [TOKEN]: with a token, also a context that uses it.
write_kubeconfig() {
    local user='- name: certificate' context='- name: flotilla'
    (
        umask 077
        cat >"$1" <<END
apiVersion: v1
kind: Config
clusters:
- name: flotilla
  cluster:
    server: https://127.0.0.1:$port
    certificate-authority-data: $(base64 -w0 <"$keys/ca.crt")
users:
$user
  user:
    client-certificate-data: $(base64 -w0 <"$keys/$2.crt")
    client-key-data: $(base64 -w0 <"$keys/$2.key")
${3:+- name: token
  user: {token: $3\}
}contexts:
$context
  context: {cluster: flotilla, user: certificate, namespace: default}
${3:+- name: flotilla-token
  context: {cluster: flotilla, user: token, namespace: default\}
}current-context: flotilla
END
    )
}
