#!/usr/bin/env bash
# Everything that the crash matrix promises, in its long form. Installs and builds what is missing (presets release and asan),
# prints figures at the end. Many hours; each part may be left out with 0.
#
#   tests/crash/run.sh [--matrix 1] [--points ROUNDS] [--runs N] [--power-cuts N] [--bits N] [--load ROUNDS] [--fuzz-runs N] [--parallel P]
#
#   --matrix 1        each test that the matrix names, once (1)
#   --points ROUNDS   each protocol stopped at every call, so many rounds (2: before each call, and after it), and with each call failing;
#                     the real daemon killed at every system call that changes a file
#   --runs N          the kill loop (10000)
#   --power-cuts N    the kill loop with the power cut; needs root and loop devices (500)
#   --bits N          bits flipped in each region of each kind of file (12000)
#   --load ROUNDS     clients that come and go and vanish so often (360), and ckpt_bench's rows of what verification costs, of fair
#                     shares and of calls and watchers beside a save; on an idle machine
#   --fuzz-runs N     executions of each fuzz target (10000000; save_stream runs a whole daemon's inside, some 1,300 a second)
#   --parallel P      episodes of the kill loop side by side (as many as there are cores)
set -euo pipefail
cd "$(dirname "$0")/../.."

declare -A count=([matrix]=1 [points]=2 [runs]=10000 [power-cuts]=500 [bits]=12000 [load]=360 [fuzz-runs]=10000000 [parallel]=$(nproc))
while [[ $# -gt 0 ]]; do
  name=${1#--}
  if [[ $1 == -h || $1 == --help ]]; then sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 0; fi
  [[ $1 == --* && -n ${count[$name]:-} ]] || { echo "tests/crash/run.sh: no argument '$1'; see --help" >&2; exit 2; }
  [[ ${2:-} =~ ^[0-9]+$ ]] || { echo "tests/crash/run.sh: $1 needs a number" >&2; exit 2; }
  count[$name]=$2
  shift 2
done

deploy/install-packages.sh build torch test
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_COMPRESS=1
cmake --preset release >/dev/null
cmake --build --preset release -j "$(nproc)"

bin=build/release/bin
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
table=$out/table
figure() { printf '| %s | %s |\n' "$1" "$(grep -E "$2" "$3" | tail -1 || true)" >>"$table"; }
if ((count[matrix])); then
  echo "=== the matrix"
  ctest --preset release -j "$(($(nproc) + 1))" --no-tests=error -R "$(tests/crash/check_matrix.py --pattern)" | tee "$out/matrix"
  figure "tests of the matrix" "tests passed" "$out/matrix"
fi
if ((count[points])); then
  echo "=== every crash point"
  CKPT_CRASH_EVERY=1 CKPT_CRASH_ROUNDS=${count[points]} $bin/crash_points_test | tee "$out/points"
  sed -n 's/^\(crash points\|failed calls\): \(.*\): \([0-9]* of [0-9]*\).*/| \1, \2 | \3 |/p' "$out/points" >>"$table"
  echo "=== every system call"
  CKPT_CRASH_EVERY=1 CKPT_CRASH_ROUNDS=${count[points]} $bin/system_calls_test | tee "$out/calls"
  figure "system calls" "^system calls: " "$out/calls"
  echo "=== time until serving"
  $bin/serving_test | tee "$out/serving"
  figure "time until serving" "checkpoints and" "$out/serving"
fi
if ((count[runs])); then
  echo "=== kill loop"
  $bin/kill_loop --runs "${count[runs]}" --parallel "${count[parallel]}" | tee "$out/kills"
  figure "kill loop" "runs in" "$out/kills"
fi
if ((count[power-cuts])); then
  echo "=== power cuts"
  $bin/kill_loop --power --runs "${count[power-cuts]}" --folder build/release/test-data/power-loop | tee "$out/power" ||
    [[ ${PIPESTATUS[0]} == 77 ]]  # no root, or no loop devices
  figure "power cuts" "runs in" "$out/power"
fi
if ((count[bits])); then
  echo "=== flipped bits"
  CKPT_FLIPPED_BITS=${count[bits]} $bin/flipped_bits_test --gtest_filter='FlippedFiles.*-*AStartWithout*' | tee "$out/files"
  CKPT_FLIPPED_BITS=$((count[bits] / 10)) $bin/flipped_bits_test --gtest_filter='*FlippedIndex.IsReported*' | tee "$out/index"
  sed -n 's/^flipped bits: \([^:]*\): *\([0-9].*\)/| flipped bits, \1 | \2 |/p' "$out/files" "$out/index" >>"$table"
fi
if ((count[load])); then
  echo "=== load"
  CKPT_ENDURANCE_ROUNDS=${count[load]} $bin/integration_test --gtest_filter='Endurance.*' | tee "$out/endurance"
  figure "clients that come and go" "^endurance:" "$out/endurance"
  $bin/ckpt_bench --data-dir build --only verification,fair,calls | tee "$out/load"
  sed -n 's/^\([a-z_]\{1,\}\)  *\([0-9.]\{1,\} [^ ]*\) *\([<>]= [0-9.]*\|-\).*/| \1 (bar: \3) | \2 |/p' "$out/load" >>"$table"
fi
if ((count[fuzz-runs])); then
  echo "=== fuzzing"
  tests/fuzz/run.sh --runs "${count[fuzz-runs]}" | tee "$out/fuzz"
  sed -n 's/^fuzz: \([a-z_]*\) *\([0-9]* executions\), no finding/| fuzzing, \1 | \2 |/p' "$out/fuzz" >>"$table"
fi
echo
printf '| what | figure |\n| --- | --- |\n'
cat "$table"
