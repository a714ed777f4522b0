#!/usr/bin/env python3
"""Each row of rows.txt has a test of its name, and each test belongs to a row: its name is the row's, or goes on from it."""
import glob
import os
import re
import sys

FOLDER = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))


def complaints():
    with open(os.path.join(FOLDER, "rows.txt"), encoding="utf-8") as file:
        rows = [line.split()[0].replace("-", "_") for line in file if line.strip() and not line.startswith("#")]
    tests = []
    for name in sorted(glob.glob(os.path.join(FOLDER, "*_test.cc"))):
        with open(name, encoding="utf-8") as file:
            tests += re.findall(r"^TEST_F\(Conformance, (\w+)\)", file.read(), re.MULTILINE)
    for row in rows:
        if rows.count(row) > 1:
            yield f"{row}: twice in rows.txt"
        if row not in tests:
            yield f"{row}: no TEST_F(Conformance, {row})"
    for test in tests:
        if test not in rows and not any(test.startswith(row + "_") for row in rows):
            yield f"{test}: no row of rows.txt"


found = sorted(set(complaints()))
print("\n".join(found) or "conformance rows: each has its test")
sys.exit(1 if found else 0)
