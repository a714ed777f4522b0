#!/usr/bin/env python3
"""small_round.py CKPT_BENCH with-torch|without-torch: a round of the benchmark on little data. Every line of the table is there, with
its bar and its fields. What is measured so is of no use; whether a bar is met does not count."""
import json
import subprocess
import sys

# Every line that ckpt_bench prints, with the bar that it is held to: a line that is added belongs here.
BARS = {
    "stall_1_thread": "<= 1.00",
    "stall_2_threads": "<= 0.70",
    "stall_persisting_1_thread": None,
    "stall_persisting_2_threads": None,
    "first_save": "<= 1.20",
    "durable": ">= 0.92",
    "restore_memory": ">= 0.90",
    "restore_memory_fresh_process": None,
    "restore_disk": ">= 0.95",
    "raw_read_added_up": None,
    "verification_durable": "<= 1.03",
    "verification_restore_disk": "<= 1.03",
    "verification_restore_memory": None,
    "partial_tensor": "<= 1.00",
    "partial_rows": "<= 1.00",
    "bytes_contiguous": "<= 1.02",
    "bytes_strided": "<= 1.02",
    "view": "<= 1.00",
    "read_once": "<= 1.05",
    "fair_save": "<= 1.50",
    "fair_restore": "<= 1.50",
    "calls": ">= 2.00",
    "stall_beside_calls": "<= 2.00",
    "stream": ">= 0.80",
    "commit": "<= 6.00",
    "commit_small": "<= 6.00",
    "glob over 1,000,000 keys": ">= 2.00",
    "first_tensor": "<= 1.00",
    "glob_through_daemon": None,
    "list_page": "<= 10.00",
    "resident": "<= 256.00",
    "declare": "<= 2.50",
    "declare_again": "<= 0.50",
}
TORCH_BARS = {"torch_save_over_durable": ">= 2.00", "torch_save_over_stall": ">= 10.00"}


def check(line, expected):
    for field in ("name", "unit", "baseline", "figures", "conditions"):
        assert isinstance(line[field], str) and line[field], f"{line['name']}: {field} is empty"
    assert line["value"] > 0, f"{line['name']}: {line['value']}"
    assert "thread" in line["conditions"] + line["baseline"], f"{line['name']}: thread counts are not stated"
    assert line["bar"] == expected, f"{line['name']}: bar {line['bar']}, expected {expected}"
    if expected is None:
        assert line["met"] is None, line
        return
    sign, bound = expected.split()
    rounding = 0.00005
    held = line["value"] >= float(bound) - rounding if sign == ">=" else line["value"] <= float(bound) + rounding
    broken = line["value"] < float(bound) + rounding if sign == ">=" else line["value"] > float(bound) - rounding
    assert held if line["met"] else broken, f"{line['name']}: {line['value']} is said to be met: {line['met']}"


def main():
    bench, torch = sys.argv[1:]
    expected = BARS | (TORCH_BARS if torch == "with-torch" else {})
    done = subprocess.run([bench, "--gib", "0.02", "--pairs", "3", "--json"], stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    assert done.returncode == 0, f"exit status {done.returncode}"
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    names = [line["name"] for line in lines]
    assert sorted(names) == sorted(expected), f"missing: {sorted(set(expected) - set(names))}, unexpected: {sorted(set(names) - set(expected))}"
    for line in lines:
        check(line, expected[line["name"]])
    print(f"{len(lines)} lines")


main()
