# SPDX-License-Identifier: GPL-3.0-or-later
# What the compared ways know about ptxas: sh look_at_ptxas.sh VENV ARCH CANDIDATE
# Prints the environment file that this Triton needs, after running both binaries for real.
# Much less than ptxas_probe does (one rule for one Triton, no reasons), the same runs of ptxas.
set -eu
site=$(echo "$1"/lib/python3*/site-packages)
version=$(sed -n 's/^Version: //p' "$site"/triton-*.dist-info/METADATA)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '.version 8.8\n.target %s\n.address_size 64\n.visible .entry probe() { ret; }\n' "$2" > "$work/probe.ptx"
assembles() {
    "$1" --version > "$work/version" && "$1" --gpu-name="$2" "$work/probe.ptx" -o "$work/probe.cubin" 2> "$work/error"
}
own=false
candidate=false
if assembles "$site/triton/backends/nvidia/bin/ptxas" "$2"; then own=true; fi
if assembles "$3" "$2"; then candidate=true; fi
echo '# Made by role ptxas from what ptxas_probe found; lines added by hand are drift.'
case $version:$own:$candidate in
    3.5.*:false:true) printf 'TRITON_PTXAS_PATH="%s"\n' "$3" ;;
esac
