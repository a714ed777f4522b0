#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs them from their seeds. Exits non-zero when one finds something.
#
#   tests/fuzz/run.sh [--seconds N | --runs N] [--plain] [--keep] [TARGET...]
#
#   --seconds N  each target for so long (10)
#   --runs N     each target for so many executions
#   --plain      without the sanitizers, nearly twice as fast
#   --keep       put what reaches new code into the tree's seeds, minimised
set -euo pipefail
cd "$(dirname "$0")/../.."

declare -A program=([layout]=fuzz_daemon [manifest]=fuzz_daemon [safetensors]=fuzz_daemon [save_stream]=fuzz_daemon [selection]=fuzz_daemon
  [pickle]=fuzz_tool [torch_file]=fuzz_tool)
all=(layout manifest pickle safetensors save_stream selection torch_file)
limit=-max_total_time=10
preset=asan
keep=false
targets=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --seconds | --runs)
      [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { echo "tests/fuzz/run.sh: $1 needs a number" >&2; exit 2; }
      if [[ $1 == --seconds ]]; then limit=-max_total_time=$2; else limit=-runs=$2; fi
      shift 2 ;;
    --plain) preset=fuzz; shift ;;
    --keep) keep=true; shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) [[ " ${all[*]} " == *" $1 "* ]] || { echo "tests/fuzz/run.sh: no target '$1'; there are: ${all[*]}" >&2; exit 2; }
       targets+=("$1"); shift ;;
  esac
done
[[ ${#targets[@]} -gt 0 ]] || targets=("${all[@]}")

deploy/install-packages.sh build test
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_COMPRESS=1
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset" -j "$(nproc)" --target fuzz_daemon fuzz_tool

# What a target found so far lies in build/asan/fuzz/corpus, and is built upon the next time.
fuzz() {
  local target=$2 extra=() corpus=build/asan/fuzz/corpus/$2 findings=build/asan/fuzz/findings/$2 seeds=() log
  mkdir -p "$corpus" "$findings"
  for folder in tests/fuzz/seeds/$target tests/fuzz/hostile/$target; do [[ ! -d $folder ]] || seeds+=("$folder"); done
  # Its threads make every run look new: nothing that libFuzzer should ponder over.
  [[ $target != save_stream ]] || extra=(-entropic=0 -detect_leaks=0)
  log=$findings/log
  if ! CKPT_FUZZ_TARGET=$target TMPDIR=/dev/shm "build/$preset/bin/$1" "$limit" "${extra[@]}" -max_len=4096 -timeout=60 -rss_limit_mb=4096 \
      -artifact_prefix="$findings/" -print_final_stats=1 "$corpus" "${seeds[@]}" >"$log" 2>&1; then
    tail -60 "$log"
    echo "fuzz: $target found something: see $findings" >&2
    return 1
  fi
  printf 'fuzz: %-12s %12s executions, no finding\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
}
export -f fuzz
export limit preset
for target in "${targets[@]}"; do echo "${program[$target]} $target"; done |
  xargs -P "$(nproc)" -L1 bash -c 'set -euo pipefail; fuzz "$0" "$1"'

if $keep; then
  for target in "${targets[@]}"; do
    rm -rf "build/asan/fuzz/merged/$target"
    mkdir -p "build/asan/fuzz/merged/$target" "tests/fuzz/seeds/$target"
    CKPT_FUZZ_TARGET=$target TMPDIR=/dev/shm "build/$preset/bin/${program[$target]}" -set_cover_merge=1 -use_counters=0 -max_len=512 \
      "build/asan/fuzz/merged/$target" "tests/fuzz/seeds/$target" "build/asan/fuzz/corpus/$target" >/dev/null 2>&1
    rm -rf "tests/fuzz/seeds/$target"
    cp -r "build/asan/fuzz/merged/$target" tests/fuzz/seeds/
  done
fi
