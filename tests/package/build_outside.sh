#!/usr/bin/env bash
# build_outside.sh CMAKE BUILD_FOLDER WITH_TORCH: install what BUILD_FOLDER holds, look at its headers, then configure, build and run
# tests/package/outside against it, in a temporary folder, knowing nothing of this source tree.
set -euo pipefail
cmake=$1 build=$2 torch=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cmake" --install "$build" --prefix "$work/installed" >"$work/install.log" || { tail -n 20 "$work/install.log"; exit 1; }
# What an installed header includes in quotes is installed, too.
root=$work/installed/include/ckptd
missing=$(cd "$root" && grep -rhoP '^#include "\K(client|common|server|ckpt)/[^"]+' . | sort -u | while read -r header; do
  [[ -e $header ]] || grep -rl "#include \"$header\"" . | sed "s|\$| includes $header, which is not installed|"
done)
[[ -z $missing ]] || { echo "$missing"; exit 1; }
cp -r "$(dirname "$0")/outside" "$work/outside"
"$cmake" -G Ninja -S "$work/outside" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/installed" -DWITH_TORCH="$torch"
"$cmake" --build "$work/build"
"$work/build/outside"
if [[ $torch == ON ]]; then "$work/build/outside_torch"; fi
