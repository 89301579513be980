# shellcheck shell=bash disable=SC2030,SC2031,SC2154  # `scripts/vm` sets them; `work` is set in a subshell
# The image of a guest in $image: a kernel, an initrd, and the disk of a Debian that `scripts/vm run` can command.

# The newest kernel of the machine's own release serves guests of every release.
build() {
    local key
    choose_release "${1:-}"
    key=$(cat "$kit"/* "${BASH_SOURCE[0]}" | sha256sum)
    [[ ! -e $image/key || $(<"$image/key") != "$key" ]] || return 0
    [[ $EUID == 0 ]] || fail 'build must be run as root'
    [[ $(dpkg --print-architecture) == amd64 ]] || fail 'it runs on amd64 only'
    mkdir -p "$cache/images"
    (
        flock 8
        work=$(mktemp -d "$cache/images/build.XXXXXX")
        trap 'rm -rf --one-file-system -- "$work"' EXIT
        install_missing
        make_image
        echo "$key" >"$work/image/key"
        rm -rf -- "$image"
        mv -- "$work/image" "$image"
    ) 8>"$cache/images/lock"
}

install_missing() {
    local missing=() pair reason=
    for pair in qemu-system-x86_64=qemu-system-x86 debootstrap=debootstrap cpio=cpio mke2fs=e2fsprogs curl=curl \
        python3=python3-minimal xz=xz-utils; do
        [[ $(type -P "${pair%%=*}") ]] || missing+=("${pair#*=}")
    done
    if [[ ${#missing[@]} == 0 ]]; then
        apt-get update -qq >&2 || say 'apt-get update failed; the lists of packages stay as they are'
    else
        install_packages "${missing[@]}" || fail "$reason"
    fi
}

make_image() {
    local kernel mirror
    mkdir "$work/kernel" "$work/image"
    say 'unpacking the kernel'
    unpack_kernel
    # shellcheck disable=SC2016 # apt fills them in
    mirror=$(apt-get indextargets --format '$(LABEL) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "Debian" && $2 == "main" {print $3; exit}')
    [[ $mirror ]] || fail 'apt has no source of Debian'
    say "installing $release by debootstrap: a few minutes"
    install_release "$mirror" >"$work/log" 2>&1 || {
        tail -n 20 "$work/log" >&2
        fail 'debootstrap failed'
    }
    say 'making the image'
    copy_modules
    set_up_root
    make_initrd
    cp "$work/kernel/boot/vmlinuz-$kernel" "$work/image/vmlinuz"
    mke2fs -q -t ext4 -L root -d "$work/root" "$work/image/disk" 4G >/dev/null
}

# PostgreSQL and Docker are there; who wants them enables them. (debootstrap keeps packages from starting their services.)
install_release() {
    local packages=systemd,systemd-sysv,dbus,udev,kmod,iproute2,curl,sqlite3,procps,python3,busybox-static,libpam-systemd
    debootstrap --variant=minbase --include="$packages,postgresql,docker.io" "$release" "$work/root" "$1" &&
        chroot "$work/root" systemctl disable postgresql.service docker.service docker.socket containerd.service
}

# The kernel that linux-image-amd64 depends on, into $work/kernel; sets kernel, its version.
unpack_kernel() {
    local package
    package=$(apt-cache depends linux-image-amd64 |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-/ {print $2; exit}')
    [[ $package ]] || fail 'apt knows no linux-image-amd64'
    kernel=${package#linux-image-}
    (
        cd -- "$work/kernel" || exit
        apt-get download -qq -o APT::Sandbox::User=root "$package" >&2
        dpkg -x ./*.deb .
        rm ./*.deb
    )
}

# Those modules that a server without hardware can use.
copy_modules() {
    local modules=$work/root/usr/lib/modules/$kernel
    mkdir -p "$work/root/usr/lib/modules"
    cp -a "$(find "$work/kernel" -type d -path "*/lib/modules/$kernel")" "$modules"
    rm -rf -- "$modules/kernel/sound" "$modules/build" "$modules/source"
    find "$modules/kernel/drivers" -type f ! -path '*/virtio*' ! -path '*/drivers/block/*' ! -path '*/drivers/md/*' \
        ! -path '*/drivers/net/*.ko*' -delete
    find "$modules/kernel/drivers/net" -mindepth 2 -type f -delete
    chroot "$work/root" depmod "$kernel"
}

set_up_root() {
    local root=$work/root unit
    mkdir -p "$root/usr/lib/systemd/system" "$root/etc/systemd/system/multi-user.target.wants"
    install -m 644 "$kit/agent.py" "$root/opt/"
    install -m 644 "$kit/agent.service" "$root/usr/lib/systemd/system/"
    printf '[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\n' >"$root/etc/systemd/network/10-e.network"
    # What is written to the second serial port is on the host at once, and survives a cut: any user may write there.
    echo 'KERNEL=="ttyS1", MODE="0666"' >"$root/etc/udev/rules.d/90-witness.rules"
    echo vm >"$root/etc/hostname"
    echo '127.0.0.1 localhost vm' >"$root/etc/hosts"
    echo '/dev/vda / ext4 rw,relatime 0 0' >"$root/etc/fstab"
    for unit in agent systemd-networkd; do
        ln -s "/usr/lib/systemd/system/$unit.service" "$root/etc/systemd/system/multi-user.target.wants/"
    done
    for unit in systemd-firstboot.service serial-getty@ttyS0.service getty@tty1.service apt-daily.timer \
        apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    rm -rf -- "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log
}

# busybox, and the modules without which there is no disk and no network.
make_initrd() {
    local root=$work/root tree=$work/initrd module file number=10
    mkdir -p "$tree"/{bin,mods,dev,proc,sys,new}
    cp "$root/bin/busybox" "$tree/bin/"
    install -m 755 "$kit/init" "$tree/init"
    for module in virtio_pci virtio_blk virtio_net virtio_rng crc32c_generic ext4; do
        # Some are built in.
        chroot "$root" modprobe -S "$kernel" --show-depends "$module" 2>/dev/null || true
    done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r file; do
        number=$((number + 1))
        case $file in
            *.xz) xz -dc "$root$file" >"$tree/mods/$number-$(basename "$file" .xz)" ;;
            *) cp "$root$file" "$tree/mods/$number-$(basename "$file")" ;;
        esac
    done
    (cd "$tree" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/image/initrd"
}
