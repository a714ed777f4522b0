#!/usr/bin/env python3
"""Every test that the crash matrix (README.md) and the threat model name exists: `Suite.Name`, or a prefix of it with a *. Whatever else
stands as code in a last column is the name of a test's file or a path.

With --pattern it prints a regular expression of those in the matrix, for ctest -R.
"""
import glob
import os
import re
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(FOLDER)
THREAT_MODEL = os.path.join(os.path.dirname(TESTS), "deploy", "THREAT_MODEL.md")


def defined():
    for name in glob.glob(os.path.join(TESTS, "**", "*_test.cc"), recursive=True):
        with open(name, encoding="utf-8") as file:
            for suite, test in re.findall(r"^TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", file.read(), re.MULTILINE):
                yield f"{suite}.{test}"
    for name in glob.glob(os.path.join(TESTS, "**", "CMakeLists.txt"), recursive=True):
        with open(name, encoding="utf-8") as file:
            yield from re.findall(r"add_test\(NAME (\w+\.\w+)", file.read())


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def matrix():
    return read(os.path.join(FOLDER, "README.md")).split("\n## The matrix\n")[1].split("\n## ")[0]


def named_in(text):
    return re.findall(r"`([A-Z]\w+\.(?!md`)(?:\*|\w+\*?))`", text)


def is_file(name):
    return os.path.exists(os.path.join(os.path.dirname(TESTS), name)) or glob.glob(os.path.join(TESTS, "**", name + ".cc"), recursive=True)


def last_columns(text):
    """Of the tables that end with tests."""
    tests = False
    for line in text.splitlines():
        columns = [column.strip() for column in line.split("|")]
        tests = line.startswith("|") and (tests or columns[-2:-1] == ["test"])
        if tests:
            yield columns[-2]


def complaints():
    tests = set(defined())
    for path in (os.path.join(FOLDER, "README.md"), THREAT_MODEL):
        named = named_in(read(path))
        for test in named:
            if test.endswith("*") and any(name.startswith(test[:-1]) for name in tests):
                continue
            if test not in tests:
                yield f"{os.path.basename(path)} names {test}: no such test"
        for cell in last_columns(read(path)):
            for name in re.findall(r"`([^`]*)`", cell):
                if name not in named and not is_file(name):
                    yield f"{os.path.basename(path)} names {name}: neither Suite.Name nor a file"
        if not named:
            yield f"{os.path.basename(path)} names no test at all"
    for row in [line for line in matrix().splitlines() if line.startswith("|")][2:]:
        if "`" not in row.split("|")[3]:
            yield f"a row without a test: {row.strip()}"


if sys.argv[1:] == ["--pattern"]:
    print("|".join(sorted({re.escape(name).replace(r"\*", ".*") for name in named_in(matrix())})))
    sys.exit()
found = list(complaints())
print("\n".join(found) or "crash matrix, threat model: each of their tests exists")
sys.exit(1 if found else 0)
