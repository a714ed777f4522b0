#!/usr/bin/env python3
"""Every test that the crash matrix (README.md) names exists: `Suite.Name`, or a prefix of it with a *."""
import glob
import os
import re
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(FOLDER)


def defined():
    for name in glob.glob(os.path.join(TESTS, "**", "*_test.cc"), recursive=True):
        with open(name, encoding="utf-8") as file:
            for suite, test in re.findall(r"^TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", file.read(), re.MULTILINE):
                yield f"{suite}.{test}"
    for name in glob.glob(os.path.join(TESTS, "**", "CMakeLists.txt"), recursive=True):
        with open(name, encoding="utf-8") as file:
            yield from re.findall(r"add_test\(NAME (\w+\.\w+)", file.read())


def complaints():
    with open(os.path.join(FOLDER, "README.md"), encoding="utf-8") as file:
        text = file.read()
    matrix = text.split("\n## The matrix\n")[1].split("\n## ")[0]
    tests = set(defined())
    named = 0
    for test in re.findall(r"`([A-Z]\w+\.[A-Z]\w+\*?)`", text):
        named += 1
        if test.endswith("*") and any(name.startswith(test[:-1]) for name in tests):
            continue
        if test not in tests:
            yield f"README.md names {test}: no such test"
    for row in [line for line in matrix.splitlines() if line.startswith("|")][2:]:
        if "`" not in row.split("|")[3]:
            yield f"a row without a test: {row.strip()}"
    if not named:
        yield "README.md names no test at all"


found = list(complaints())
print("\n".join(found) or "crash matrix: each of its tests exists")
sys.exit(1 if found else 0)
