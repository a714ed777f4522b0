#!/usr/bin/env bash
# From a bare Debian 12 to the main job: installs the packages that are missing (apt, as root), builds, and runs
# deploy/main_job.sh. Asks nothing. Run again, it does only what is missing, and then the job.
#
#   deploy/quickstart.sh [arguments of deploy/main_job.sh]
set -euo pipefail
cd "$(dirname "$0")/.."
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0; }

step() { printf '\n[%s/3] %s\n' "$1" "$2"; }
cat <<'TEXT'
ckptd quickstart. This will
  1. install the Debian packages that are missing (compiler, gRPC, RocksDB, LibTorch: about 1.8 GB on a bare machine)
  2. build ckptd, ckptctl and the example trainer into build/release/bin (some minutes the first time)
  3. run the main job: train a small language model with 4 processes, kill -9 all of them and the daemon, resume, and
     compare every bit with a run that was never interrupted (two minutes on two cores)
TEXT

step 1 "Packages"
deploy/install-packages.sh build torch

step 2 "Build"
log=build/quickstart-configure.log
mkdir -p build
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
if ! cmake --preset release >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "quickstart: cmake could not configure; the whole log is $log" >&2
  exit 1
fi
# Files that include LibTorch take more than 1 GB of memory each.
memory_gib=$(awk '/^MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
jobs=$(nproc)
((jobs * 3 / 2 > memory_gib)) && jobs=$((memory_gib * 2 / 3 > 0 ? memory_gib * 2 / 3 : 1))
cmake --build --preset release -j "$jobs" --target ckptd ckptctl train_lm
echo "built: $(cd build/release/bin && ls -d ckptd ckptctl train_lm | xargs)"

step 3 "The main job"
deploy/main_job.sh --work build/quickstart "$@"
