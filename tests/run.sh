#!/usr/bin/env bash
# Installs what is missing, builds the stages below and runs their tests. Exits non-zero at the first that fails.
#
#   tests/run.sh                     everything (what CI runs)
#   tests/run.sh release             one or more of: release minimal asan fuzz tsan, and dev (release without optimisation), asan_torch
#   tests/run.sh release -- -R Save  arguments after -- go to ctest
set -euo pipefail
cd "$(dirname "$0")/.."

all=(release minimal asan fuzz tsan)
declare -A what=(
  [release]="everything, with LibTorch; real daemons, real kills; the image's steps"
  [minimal]="without LibTorch: configures, builds, passes (all but the kill loop)"
  [asan]="clang: -Wthread-safety as errors, AddressSanitizer and UndefinedBehaviorSanitizer, all that doesn't need LibTorch"
  [fuzz]="libFuzzer, with what asan built: each target of tests/fuzz for 10 s"
  [tsan]="ThreadSanitizer, all that doesn't need LibTorch and has threads"
  [asan_torch]="AddressSanitizer and UndefinedBehaviorSanitizer over what needs LibTorch; only when named"
  [dev]="everything, without optimisation: what is quick to build while working; only when named")
stages=()
while [[ $# -gt 0 && $1 != -- ]]; do
  case $1 in
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) [[ -n ${what[$1]:-} ]] || { echo "tests/run.sh: no stage '$1'; there are: ${all[*]} asan_torch dev" >&2; exit 2; }
       stages+=("$1"); shift ;;
  esac
done
[[ ${1:-} == -- ]] && shift
ctest_arguments=("$@")
[[ ${#stages[@]} -gt 0 ]] || stages=("${all[@]}")

echo "ckptd tests: this installs missing Debian packages, then builds and tests"
for stage in "${stages[@]}"; do printf '  %-14s %s\n' "$stage" "${what[$stage]}"; done

deploy/install-packages.sh build torch test

export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_COMPRESS=1
jobs=$(nproc)
began=$SECONDS
for stage in "${stages[@]}"; do
  stage_began=$SECONDS
  echo
  echo "=== $stage: ${what[$stage]}"
  if [[ $stage == fuzz ]]; then
    tests/fuzz/run.sh
  else
    cmake --preset "$stage" >"/tmp/ckptd-configure.$$" 2>&1 || { cat "/tmp/ckptd-configure.$$"; exit 1; }
    rm -f "/tmp/ckptd-configure.$$"
    cmake --build --preset "$stage" -j "$jobs"
    chosen=("${ctest_arguments[@]}")
    # The kill loop and the restart of a large catalogue run in the three other builds: here they would only take their time again.
    [[ $stage != minimal || ${#stages[@]} == 1 || ${#chosen[@]} -gt 0 ]] || chosen=(-LE crash)
    ctest --preset "$stage" -j "$((jobs + 1))" --no-tests=error "${chosen[@]}"
  fi
  echo "=== $stage passed in $((SECONDS - stage_began)) s"
done
echo
echo "ckptd tests: ${stages[*]} passed in $((SECONDS - began)) s"
