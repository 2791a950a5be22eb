#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# What the volume OEMDATA brings to a fresh DGX OS. Everything on it is verified before anything is done; each step can be
# repeated. Firmware is never written here: it is put aside for somebody who watches.
set -eu

OEM_MNT=${OEM_MNT:?is where OEMDATA is mounted}
OEM_SUMS=${OEM_SUMS:?is the list of sums that was verified}
LOG=/var/log/spark-hook.log
FIRMWARE=/var/lib/nusy/firmware
KEY=/etc/apt/keyrings/spark-install.asc
SOURCE=/etc/apt/sources.list.d/spark-install.sources
REMOTE=/etc/fwupd/remotes.d/spark-install.conf

umask 022
(umask 077 && : >>"$LOG")
exec >>"$LOG" 2>&1

say() {
    printf '%s spark-hook: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1"
}

stop() {
    say "stopped: $1"
    exit 1
}

# One line of a file that may be missing; anything else in it would be taken for options of a program.
line() {
    if [ -f "$OEM_MNT/$1" ]; then
        head -n 1 "$OEM_MNT/$1"
    fi
}

# The first boot is when unattended-upgrades and the vendor's own jobs hold the lock.
apt() {
    DEBIAN_FRONTEND=noninteractive timeout 3000 apt-get -q -y -o DPkg::Lock::Timeout=900 -o Acquire::Retries=3 "$@"
}

write() {
    mkdir -p "$(dirname "$1")"
    cat >"$1.new"
    chmod 0644 "$1.new"
    mv "$1.new" "$1"
}

cd "$OEM_MNT"
say "verifying"
sha256sum --check --strict --quiet "$OEM_SUMS" || stop "a file of OEMDATA is not what was declared, or missing"
for file in debs/* firmware/*; do
    if [ -e "$file" ] && ! grep -qF "  $file" "$OEM_SUMS"; then
        stop "$file is on OEMDATA, and nobody declared it"
    fi
done

url=$(line apt-repo.url)
if [ -n "$url" ]; then
    [ -f apt-repo.asc ] || stop "apt-repo.url without apt-repo.asc: packages of a repository that nobody signed are not installed"
    say "apt repository $url"
    write "$KEY" <apt-repo.asc
    printf 'Types: deb\nURIs: %s\nSuites: ./\nSigned-By: %s\n' "$url" "$KEY" | write "$SOURCE"
fi

apt update || say "apt update failed; going on with what apt knows"
set -- debs/*.deb
if [ -e "$1" ]; then
    say "packages of OEMDATA: $#"
    for file in "$@"; do
        set -- "$@" "./$file"
        shift
    done
    apt install --no-install-recommends "$@" || stop "apt refused a package of OEMDATA"
fi
if [ -s apt-packages.txt ]; then
    say "packages by name: $(tr '\n' ' ' <apt-packages.txt)"
    xargs -r -n 1 printf '%s\n' <apt-packages.txt | grep -qvE '^[a-z0-9][a-z0-9.+-]+$' && stop "apt-packages.txt names what is no package"
    # shellcheck disable=SC2046 # names without blanks, as was just seen
    apt install --no-install-recommends $(cat apt-packages.txt) || stop "apt refused a package of apt-packages.txt"
fi

url=$(line lvfs-mirror.url)
if [ -n "$url" ]; then
    say "firmware mirror $url"
    printf '[fwupd Remote]\nEnabled=true\nTitle=Site mirror\nMetadataURI=%s/firmware.xml.xz\nFirmwareBaseURI=%s\n' \
        "${url%/}" "${url%/}" | write "$REMOTE"
    # Not fatal: without fwupd there is nothing that asks the other remote.
    timeout 60 fwupdmgr disable-remote lvfs || say "fwupdmgr did not disable the remote lvfs"
fi

for file in firmware/*; do
    if [ -e "$file" ]; then
        mkdir -p "$FIRMWARE"
        cp "$file" "$FIRMWARE/"
        say "put aside, not installed: $FIRMWARE/${file#firmware/}"
    fi
done
say "done"
