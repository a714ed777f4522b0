#!/usr/bin/env bash
# The main job, shown with figures: 4 processes train a language model and checkpoint through ckptd. While a checkpoint lies in
# memory only, all of them and the daemon get kill -9. Both are started again, the job goes on from that very checkpoint, and ends
# equal in every bit to a run that was never interrupted. Exits non-zero if any of that doesn't hold.
#
#   deploy/main_job.sh [--bin DIR] [--work DIR] [--steps N] [--kill-at STEP] [--hold TIME] [-- TRAIN_LM_FLAGS...]
#
#   --bin      where ckptd, ckptctl and train_lm are       (build/release/bin)
#   --work     data, logs and results; emptied at start    (build/main_job)
#   --hold     how long the daemon that will be killed leaves a staged checkpoint in memory (6s)
set -euo pipefail
cd "$(dirname "$0")/.."

bin=build/release/bin work=build/main_job steps=40 every=5 kill_at=20 hold=6s model=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --bin) bin=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --steps) steps=$2; shift 2 ;;
    --kill-at) kill_at=$2; shift 2 ;;
    --hold) hold=$2; shift 2 ;;
    --) shift; model=("$@"); break ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "main_job: unknown argument '$1'; see --help" >&2; exit 2 ;;
  esac
done
for program in ckptd ckptctl train_lm; do
  [[ -x $bin/$program ]] || { echo "main_job: no $bin/$program; deploy/quickstart.sh builds it" >&2; exit 2; }
done

ranks=4
sockets=$(mktemp -d /tmp/ckptd-job.XXXXXX)        # a unix socket's path is short
memory=$(mktemp -d /dev/shm/ckptd-job.XXXXXX)
daemon= job=
clean_up() {
  local status=$?
  trap - EXIT
  for pid in $job $daemon; do kill -9 "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$sockets" "$memory"
  [[ $status == 0 ]] || echo "main_job: failed (status $status); logs and events are in $work" >&2
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

rm -rf "$work"
mkdir -p "$work/reference" "$work/interrupted"

say() { printf '%s\n' "$@"; }
title() { printf '\n%s\n' "$1"; }
fail() { printf '  FAILED %s\n' "$@" >&2; exit 1; }
ok() { printf '  ok     %s\n' "$1"; }
now_ms() { date +%s%3N; }
# The values of a field of JSON lines on stdin.
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p"; }
events() { grep "\"event\":\"$1\"" "$work/$2/events.jsonl" 2>/dev/null || true; }
median() { sort -n | awk '{v[NR] = $1} END {if (NR) print v[int((NR + 1) / 2)]}'; }
await() {  # SECONDS WHAT COMMAND...
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    ((SECONDS < deadline)) || fail "$what: waited in vain"
    sleep 0.01
  done
}
ckptctl() { "$bin/ckptctl" --socket "$sockets/ckptd.sock" "$@"; }

healthy() {
  kill -0 "$daemon" 2>/dev/null || { tail -n 20 "$work/ckptd.log" >&2; fail "ckptd ended; above is its log"; }
  ckptctl health --timeout 1s >/dev/null 2>&1
}
start_daemon() {
  "$bin/ckptd" --socket "$sockets/ckptd.sock" --data-dir "$work/data" --memory-dir "$memory" --memory-budget 1GiB "$@" \
    >>"$work/ckptd.log" 2>&1 &
  daemon=$!
  await 60 "ckptd's start" healthy
}
train() {  # RUN: in the foreground, with a line for every fifth step
  "$bin/train_lm" launch --ranks=$ranks --run="demo/$1" --socket="$sockets/ckptd.sock" --out="$work/$1" --steps="$steps" \
    --save_every=$every "${model[@]}" 2>&1 | tee -a "$work/$1.log" |
    awk '$1 != "step" || $2 % 5 == 0 {print "  " $0; fflush()}'
}
staged_ranks() { events staged interrupted | grep -c "\"step\":$kill_at," || true; }
all_staged() { [[ $(staged_ranks) == "$ranks" ]] || { kill -0 "$job" 2>/dev/null || fail "the job ended before step $kill_at"; false; }; }

say "ckptd's main job: train, kill -9 everything, resume, compare every bit" \
  "  1. a reference run of $steps steps that nobody disturbs" \
  "  2. the same job again: as soon as step $kill_at is staged, kill -9 of all $ranks ranks, then of the daemon" \
  "  3. both are started again: the checkpoint that lay in memory only must become durable, and the job resume from it" \
  "  4. losses, parameters, optimizer state, data positions and random states are compared with the reference" \
  "  Data, logs and results: $work"

title "1. Reference run, never interrupted"
start_daemon
began=$(now_ms)
train reference
ok "$steps steps in $((($(now_ms) - began) / 1000)) s, $(events committed reference | wc -l) checkpoints committed"

title "2. The same job, hit in the worst moment (this daemon holds staged checkpoints in memory for $hold before it writes them)"
kill -TERM "$daemon"
wait "$daemon" || fail "ckptd did not end well on SIGTERM: status $?"
start_daemon --persist-delay "$hold"
train interrupted &
job=$!
await 300 "step $kill_at to be staged" all_staged
mapfile -t pids < <(events started interrupted | field pid)
kill -9 "${pids[@]}"
wait "$job" 2>/dev/null && fail "the job ended well although its ranks were killed"
job=
for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null && fail "rank process $pid is still there"; done
ok "kill -9 of ranks ${pids[*]}, right after step $kill_at was staged"
before=$(ckptctl checkpoint show "demo/interrupted@$kill_at" -o jsonl)
ckptctl checkpoint ls demo/interrupted | sed 's/^/         /'
{ kill -9 "$daemon" && wait "$daemon"; } 2>/dev/null || true
daemon=
ok "kill -9 of ckptd"
state=$(field state <<<"$before" | head -n 1)
uid=$(field uid <<<"$before" | head -n 1)
[[ $state == STAGED && -n $uid ]] || fail "step $kill_at should be STAGED when the daemon is killed, but is '$state'; try a longer --hold"
[[ ! -e $work/data/checkpoints/$uid.checkpoint ]] || fail "step $kill_at was durable already when the daemon was killed; try a longer --hold"
ok "on disk step $kill_at is not committed: there is no checkpoints/$uid.checkpoint"
ok "its bytes lie in memory that no process owns any more: $(du -sm "$memory" | cut -f 1) MB in tmpfs"

title "3. Both are started again"
began=$(now_ms)
start_daemon
ckptctl checkpoint wait "demo/interrupted@$kill_at" --state committed --timeout 60s >/dev/null ||
  fail "step $kill_at did not become durable after the restart"
[[ -e $work/data/checkpoints/$uid.checkpoint ]] || fail "step $kill_at is called committed, but its manifest is not on disk"
ok "ckptd adopted what it found in memory and committed step $kill_at, $(($(now_ms) - began)) ms after its start"
train interrupted
resumed=$(events resumed interrupted | field step | sort -u)
[[ $resumed == "$kill_at" ]] || fail "the job resumed at '$resumed', not at step $kill_at"
[[ $(events resumed interrupted | wc -l) == "$ranks" ]] || fail "not every rank resumed"
ok "all $ranks ranks resumed at step $kill_at: not one finished step was lost"

title "4. Compared with the reference"
sort -u "$work/interrupted/losses.txt" >"$work/interrupted/losses.sorted"
cmp -s "$work/reference/losses.txt" "$work/interrupted/losses.sorted" ||
  fail "losses differ: diff $work/reference/losses.txt $work/interrupted/losses.sorted"
[[ $(wc -l <"$work/reference/losses.txt") == "$steps" ]] || fail "the reference has not $steps losses"
twice=$(($(wc -l <"$work/interrupted/losses.txt") - steps))
ok "losses of all $steps steps are equal in every bit$( ((twice == 0)) || echo " ($twice of them computed twice, before and after the kill)")"
for what in parameters optimizer reader; do
  diff <(grep -o "$what [0-9a-f]*" "$work/reference/digests.txt") <(grep -o "$what [0-9a-f]*" "$work/interrupted/digests.txt") \
    >/dev/null || fail "$what differ at step $steps: see digests.txt in $work/reference and $work/interrupted"
done
[[ $(wc -l <"$work/reference/digests.txt") == $((ranks + 1)) ]] || fail "digests are missing in $work/reference/digests.txt"
digest=$(grep -o 'parameters [0-9a-f]*' "$work/interrupted/digests.txt" | cut -c 12-27)
ok "parameters are equal in every bit (SHA-256 $digest...)"
ok "AdamW's state on each of $ranks ranks, data positions and random states are equal in every bit"
ckptctl checkpoint verify "demo/interrupted@$steps" >/dev/null || fail "the last checkpoint does not verify"
ok "every block of the last checkpoint on disk matches its hash"

stalls=$(events stall reference; events stall interrupted)
# Rank 0 writes one for each save that was staged; the killed ranks may not have come to theirs.
for run in reference interrupted; do
  (($(events stall $run | wc -l) >= steps / every - 1)) || fail "stall events are missing in $work/$run/events.jsonl"
done
rounded() { awk '{printf "%.1f", $1}'; }
stood=$(awk -F'[:,}]' '{for (i = 1; i < NF; ++i) {if ($i == "\"call_ms\"") c = $(i + 1); if ($i == "\"await_ms\"") a = $(i + 1)} print c + a}' \
  <<<"$stalls" | median | rounded)
copy=$(field memcpy_ms <<<"$stalls" | median | rounded)
bytes=$(field bytes <<<"$stalls" | head -n 1)
first=$(head -n 1 "$work/reference/losses.txt" | cut -d ' ' -f 3)
last=$(tail -n 1 "$work/reference/losses.txt" | cut -d ' ' -f 3)
title "What this has shown, and why it matters"
printf '%s\n' \
  "  The moment that training may go on is the moment that the bytes are in ckptd's memory, not on disk:" \
  "  a save kept training still for $stood ms (median of $(wc -l <<<"$stalls"), slowest rank), with four ranks on $(nproc) cores;" \
  "  a bare memcpy of the same $((bytes / 1000000)) MB a rank takes $copy ms. And from that moment on the checkpoint is safe: neither" \
  "  the death of every trainer nor that of the daemon lost it, and the model (loss $first -> $last) is the one" \
  "  that it would have been anyway."
