# shellcheck shell=bash disable=SC2154  # `scripts/vm` sets them
# Guests: machines that boot from a disk of their own, and what is asked of their agent.

up() {
    local second
    choose_guest "${1:-}"
    is_running || boot
    for ((second = 0; second < 300; second++)); do
        if ask --output /dev/null --max-time 5 "http://127.0.0.1:$agent/" 2>/dev/null; then
            print_env
            return
        fi
        if ! is_running && ((second > 1)); then
            cat "$dir/qemu.log" >&2
            fail "the machine has ended; $dir/console may say more"
        fi
        sleep 1
    done
    fail "no answer after 300 seconds; see $dir/console"
}

show_env() {
    choose_guest "${1:-}"
    must_run
    print_env
}

run() {
    local head code
    choose_guest "$1"
    shift
    if ! is_running; then
        say "$name is not up"
        return 255
    fi
    head=$(mktemp)
    printf '%s' "$*" | ask --data-binary @- --dump-header "$head" "http://127.0.0.1:$agent/" || true
    code=$(sed -n 's/^X-Exit: \([0-9]*\).*/\1/p' "$head")
    rm -f -- "$head"
    return "${code:-255}"
}

put() {
    choose_guest "$1"
    must_run
    [[ $3 == /* ]] || fail "not an absolute path: $3"
    ask --fail --upload-file "$2" --header "X-Path: $3" --header "X-Mode: ${4:-$(stat -Lc %a "$2")}" \
        "http://127.0.0.1:$agent/put"
}

throttle() {
    choose_guest "$1"
    must_run
    [[ $2 =~ ^[0-9]+$ ]] || fail "no number: $2"
    (cd "$dir" && python3 - "$2") <<'P'
import json, socket, sys
qmp = socket.socket(socket.AF_UNIX)
qmp.connect('qmp')
lines = qmp.makefile('rw')
lines.readline()
none = dict.fromkeys(('bps', 'bps_rd', 'bps_wr', 'iops', 'iops_rd'), 0)
limit = dict(none, device='d0', iops_wr=int(sys.argv[1]))
for execute, arguments in ('qmp_capabilities', {}), ('block_set_io_throttle', limit):
    lines.write(json.dumps({'execute': execute, 'arguments': arguments}) + '\n')
    lines.flush()
    answer = json.loads(lines.readline())
    if 'return' not in answer:
        sys.exit(f'vm: {answer}')
P
}

cut() {
    choose_guest "$1"
    must_run
    kill -9 "$pid"
    wait_until_gone 20 || fail "process $pid doesn't end"
}

down() {
    choose_guest "$1"
    is_running || return 0
    ask --output /dev/null --max-time 20 --data 'systemctl --no-block poweroff' "http://127.0.0.1:$agent/" || true
    wait_until_gone 120 || {
        say 'it does not shut down: cutting it'
        cut "$1"
    }
}

purge() {
    local each
    if [[ $# == 1 ]]; then
        choose_guest "$1"
        ! is_running || cut "$1"
        rm -rf -- "$dir"
        return
    fi
    for each in "$cache"/guests/*/; do
        [[ ! -d $each ]] || purge "$(basename "$each")"
    done
    rm -rf --one-file-system -- "$cache/images" "$cache/guests"
    [[ ! -d $cache ]] || rmdir --ignore-fail-on-non-empty "$cache"
}

# Sets name, dir, and what is known of the guest: pid, api and agent, its ports.
choose_guest() {
    name=${1:-default} dir=$cache/guests/${1:-default} pid='' api='' agent=''
    [[ $name =~ ^[a-z0-9][a-z0-9-]*$ ]] || fail "a guest can't be named $name: small letters, digits and -"
    [[ ! -e $dir/ports ]] || read -r api agent <"$dir/ports"
    [[ ! -e $dir/pid ]] || pid=$(<"$dir/pid")
}

# Whether the process of the pid file is there and is still the machine: its working directory is the guest's.
is_running() {
    {
        [[ $pid && $(readlink "/proc/$pid/cwd") == "$(readlink -f "$dir")" && $(<"/proc/$pid/comm") == qemu-system* ]]
    } 2>/dev/null
}

must_run() {
    is_running || fail "$name is not up"
}

wait_until_gone() {
    local tenth
    for ((tenth = 0; tenth < $1 * 10; tenth++)); do
        if ! is_running; then
            rm -f -- "$dir/pid"
            return
        fi
        sleep 0.1
    done
    return 1
}

boot() {
    local append='console=ttyS0 root=/dev/vda rw quiet' file
    if [[ ! -e $dir/disk ]]; then
        choose_release
        [[ -e $image/key ]] || fail "no image of $release: scripts/vm build $release"
        mkdir -p "$dir"
        # Under another name until all are there: an interrupted copy is no disk.
        for file in vmlinuz initrd disk; do cp --sparse=always --reflink=auto "$image/$file" "$dir/$file.new"; done
        for file in vmlinuz initrd disk; do mv "$dir/$file.new" "$dir/$file"; done
    fi
    choose_ports >"$dir/ports.new"
    mv "$dir/ports.new" "$dir/ports"
    read -r api agent <"$dir/ports"
    [[ ${FLOTILLA_VM_NODELALLOC:-} != 1 ]] || append+=' rootflags=nodelalloc'
    cd -- "$dir" || return
    setsid qemu-system-x86_64 -accel "${FLOTILLA_VM_ACCEL:-tcg,thread=multi}" -machine q35 -cpu max -smp 2 -m 2048 \
        -display none -nodefaults -kernel vmlinuz -initrd initrd -append "$append" \
        -drive file=disk,if=none,id=d0,format=raw,cache=writeback,discard=unmap -device virtio-blk-pci,drive=d0 \
        -netdev "user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:$api-:3000,hostfwd=tcp:127.0.0.1:$agent-:5301" \
        -device virtio-net-pci,netdev=n0 -device virtio-rng-pci -qmp unix:qmp,server=on,wait=off \
        -chardev file,id=s0,path=console,append=on -serial chardev:s0 \
        -chardev file,id=s1,path=witness,append=on -serial chardev:s1 </dev/null >qemu.log 2>&1 &
    pid=$!
    echo "$pid" >pid
}

# Two ports of the loopback: those from before if they are free, so that a client finds the guest again.
choose_ports() {
    python3 - ${api:+"$api" "$agent"} <<'P'
import socket, sys
def bound(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('127.0.0.1', int(port)))
    return s
try:
    held = [bound(port) for port in sys.argv[1:] or (0, 0)]
except OSError:
    held = [bound(0), bound(0)]
print(*(s.getsockname()[1] for s in held))
P
}

print_env() {
    printf '%s=%q\n' FLOTILLA_VM_URL "http://127.0.0.1:$api" FLOTILLA_VM_AGENT "http://127.0.0.1:$agent" \
        FLOTILLA_VM_PID "$pid" FLOTILLA_VM_CONSOLE "$dir/console" FLOTILLA_VM_WITNESS "$dir/witness"
}

# cURL, past any proxy.
ask() {
    curl --silent --show-error --noproxy '*' --header 'X-Flotilla-VM: 1' --header 'Expect:' "$@"
}
