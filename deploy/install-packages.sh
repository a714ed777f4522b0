#!/usr/bin/env bash
# Installs those of the named groups of deploy/packages.txt that are missing. Asks nothing; does nothing, and needs neither root nor
# a network, when all are there. Says every ten seconds what apt is doing; where apt fails, the end of what it printed.
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

# apt's own account of where it is ("dlstatus:1:20.5:Retrieving file 3 of 10", "pmstatus:g++:45.0:Unpacking g++"), from stdin, as
# one line every ten seconds: a download of a gigabyte is not taken for a hang.
tell_progress() {
  local line percent text doing='asking the mirrors' said=$SECONDS begun=$SECONDS
  while true; do
    if read -r -t 1 line; then
      [[ $line == end ]] && return
      if [[ $line =~ ^(dl|pm)status:[^\ ]*:([0-9]+)[.0-9]*:(.*)$ ]]; then
        percent=${BASH_REMATCH[2]} text=${BASH_REMATCH[3]}
        [[ ${BASH_REMATCH[1]} == dl ]] && doing="downloading, $percent %: $text" || doing="installing, $percent %: $text"
      fi
    elif (($? <= 128)); then
      return  # apt has gone without a word
    fi
    if ((SECONDS - said >= 10)); then
      said=$SECONDS
      echo "packages: $doing ($((SECONDS - begun)) s)"
    fi
  done
}
run_apt() {
  local status=0
  { apt-get update -qq -o APT::Status-Fd=3 &&
    apt-get install -y -qq --no-install-recommends -o APT::Status-Fd=3 "${missing[@]}"; } >"$log" 2>&1 </dev/null || status=$?
  echo end >&3  # a service that a package has started may hold the pipe open
  return "$status"
}
if ! run_apt 3>&1 | tell_progress; then
  echo "install-packages: apt failed:" >&2
  tail -n 20 "$log" >&2
  exit 1
fi
echo "packages: done"
