#!/usr/bin/env bash
# Installs those of the named groups of deploy/packages.txt that are missing. Asks nothing; does nothing, and needs neither root nor
# a network, when all are there.
#
#   deploy/install-packages.sh build torch
set -euo pipefail
list=$(dirname "$0")/packages.txt

wanted=()
for group in "$@"; do
  grep -qxF "# [$group]" "$list" || { echo "install-packages: no group '$group' in $list" >&2; exit 2; }
  mapfile -t names < <(awk -v group="# [$group]" '/^# \[/ {on = ($0 == group); next} on && !/^#/ && NF' "$list")
  wanted+=("${names[@]}")
done

missing=()
for name in "${wanted[@]}"; do
  [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$name" 2>/dev/null) == ii* ]] || missing+=("$name")
done
if [[ ${#missing[@]} == 0 ]]; then
  echo "packages: all ${#wanted[@]} are installed"
  exit 0
fi
[[ $EUID == 0 ]] || { echo "install-packages: run as root, or install these yourself: ${missing[*]}" >&2; exit 1; }
echo "packages: installing ${#missing[@]} of ${#wanted[@]}: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  echo "install-packages: apt failed:" >&2
  tail -n 20 "$log" >&2
  exit 1
fi
echo "packages: done"
