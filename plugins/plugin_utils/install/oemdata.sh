#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs what is on the volume OEMDATA, once. cloud-init starts this at every boot until it is done: it is switched off only
# after the hook has succeeded, so a stick that was not there, or a mirror that did not answer, can be mended by a reboot.
set -eu

DONE=/etc/cloud/cloud-init.disabled
LOG=/var/log/spark-oemdata.log
OEM_MNT=/mnt/oemdata
COPY=/run/spark-oemdata
# Of the file SHA256SUMS that was made with this script, and names every other file: whoever has a stick with that label
# could make root do anything otherwise, for as long as this waits for one.
WANTED=@SUMS@

if [ -e "$DONE" ]; then
    exit 0
fi
(umask 077 && : >>"$LOG")
exec >>"$LOG" 2>&1

say() {
    printf '%s spark-oemdata: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1"
}

# USB volumes appear some seconds after the boot.
tries=60
while ! device=$(blkid -L OEMDATA) && [ "$tries" -gt 0 ]; do
    tries=$((tries - 1))
    sleep 1
done
if [ -z "$device" ]; then
    say "no volume OEMDATA within 60 s; cloud-init stays on: plug it in and boot again"
    exit 1
fi

mkdir -p "$OEM_MNT"
if ! mountpoint -q "$OEM_MNT"; then
    mount -o ro "$device" "$OEM_MNT"
fi
trap 'umount "$OEM_MNT" || true; rm -rf "$COPY"' EXIT

if [ ! -f "$OEM_MNT/hook.sh" ] || [ ! -f "$OEM_MNT/SHA256SUMS" ]; then
    say "OEMDATA holds no hook.sh or no SHA256SUMS; cloud-init stays on"
    exit 1
fi
# Copies: what was verified is what is run, and a stick that is pulled out does not end the shell in the middle of a line.
rm -rf "$COPY"
mkdir -m 0700 "$COPY"
cp "$OEM_MNT/hook.sh" "$OEM_MNT/SHA256SUMS" "$COPY/"
if ! (cd "$COPY" && echo "$WANTED  SHA256SUMS" | sha256sum --check --strict --quiet &&
    sha256sum --check --strict --quiet --ignore-missing SHA256SUMS); then
    say "this OEMDATA was not made with the seed of this machine; nothing of it was run, and cloud-init stays on"
    exit 1
fi
OEM_SUMS=$COPY/SHA256SUMS
export OEM_MNT OEM_SUMS
# Longer than all the bounds in the hook together.
if timeout 10800 sh "$COPY/hook.sh"; then
    touch "$DONE"
    say "done; cloud-init is switched off"
else
    code=$?
    say "the hook ended with $code; cloud-init stays on: see /var/log/spark-hook.log, mend the cause and boot again"
    exit "$code"
fi
