# shellcheck shell=bash disable=SC2154  # `scripts/kube` sets them
# What a cluster is without its nodes: etcd, the API server, the controllers, the scheduler.

start_etcd() {
    launch etcd etcd --name flotilla --data-dir "$run/etcd" \
        --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
        --listen-peer-urls "http://127.0.0.1:$peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
        --initial-cluster "flotilla=http://127.0.0.1:$peer_port" --snapshot-count 10000 --logger zap
}

start_api_server() {
    launch kube-apiserver "$bin/kube-apiserver" \
        --bind-address=127.0.0.1 --secure-port="$port" --insecure-port=0 --advertise-address=127.0.0.1 \
        --endpoint-reconciler-type=none --etcd-servers="http://127.0.0.1:$etcd_port" \
        --tls-cert-file="$keys/apiserver.crt" --tls-private-key-file="$keys/apiserver.key" \
        --client-ca-file="$keys/ca.crt" --token-auth-file="$keys/tokens.csv" \
        --service-account-key-file="$keys/sa.pub" --service-account-signing-key-file="$keys/sa.key" \
        --service-account-issuer=https://kubernetes.default.svc \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
        --kubelet-certificate-authority="$keys/ca.crt" --kubelet-client-certificate="$keys/apiserver-kubelet.crt" \
        --kubelet-client-key="$keys/apiserver-kubelet.key" --kubelet-preferred-address-types=InternalIP,Hostname \
        --service-cluster-ip-range=10.96.0.0/16 --feature-gates=TTLAfterFinished=true --profiling=false
}

start_controllers() {
    launch kube-controller-manager "$bin/kube-controller-manager" \
        --kubeconfig="$run/controller-manager.conf" --bind-address=127.0.0.1 --port=0 --secure-port="$controllers_port" \
        --leader-elect=false --root-ca-file="$keys/ca.crt" --service-account-private-key-file="$keys/sa.key" \
        --use-service-account-credentials=true --kube-api-qps=200 --kube-api-burst=400 \
        --tls-cert-file="$keys/server.crt" --tls-private-key-file="$keys/server.key" \
        --feature-gates=TTLAfterFinished=true --profiling=false
}

start_scheduler() {
    launch kube-scheduler "$bin/kube-scheduler" \
        --kubeconfig="$run/scheduler.conf" --bind-address=127.0.0.1 --port=0 --secure-port="$scheduler_port" \
        --leader-elect=false --kube-api-qps=200 --kube-api-burst=400 --profiling=false \
        --tls-cert-file="$keys/server.crt" --tls-private-key-file="$keys/server.key"
}

# Pods are refused until the service account of their namespace has its token.
can_make_pods() {
    ask_api /api/v1/namespaces/default/serviceaccounts/default | grep -q '"secrets"'
}

ask_api() {
    curl -sf --max-time 5 --cacert "$keys/ca.crt" --cert "$keys/admin.crt" --key "$keys/admin.key" "https://127.0.0.1:$port$1"
}
