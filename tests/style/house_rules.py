#!/usr/bin/env python3
"""The rules of the house that a machine can check: which room may include which, names, sizes, words that must not stand in the tree."""
import os
import re
import subprocess
import sys

ROOT = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|misc|manager|stuff)(_|$)")
SERVER_ROOMS_BELOW = {  # room -> rooms it must not include
    "quota": ["storage", "index", "persist", "retention", "scrub", "staging", "session", "rpc", "offline"],
    "storage": ["index", "persist", "retention", "scrub", "staging", "session", "rpc", "offline"],
    "index": ["storage", "persist", "retention", "scrub", "staging", "session", "rpc", "offline"],
    "persist": ["retention", "scrub", "staging", "session", "rpc", "offline"],
    "retention": ["scrub", "staging", "session", "rpc", "offline"],
    "scrub": ["retention", "staging", "session", "rpc", "offline"],
    "staging": ["retention", "scrub", "rpc", "offline"],
    "access": ["storage", "index", "persist", "retention", "scrub", "staging", "rpc", "offline"],
    "session": ["access", "rpc", "staging", "retention", "scrub", "persist", "offline"],
}
LINES_MAX = 600


def includes(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            match = re.match(r'\s*#include\s+["<]([^">]+)[">]', line)
            if match:
                yield number, match.group(1)


def undocumented_calls(name, path):
    """Every rpc stands under a comment that lists its error codes."""
    comment = ""
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        text = line.strip()
        if text.startswith("//"):
            comment += text + "\n"
            continue
        if text.startswith("rpc ") and not re.search(r"Errors:(\n//   [A-Z_]{5,} .*(\n//     .*)*)+", comment):
            yield f"{name}:{number}: its comment does not list its error codes under 'Errors:'"
        comment = ""


def missing_files(name, path, known):
    """Every source file that a page names is somewhere in the tree."""
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        for file in re.findall(r"`([\w/]+\.(?:cc|h|py|sh|proto))`", line):
            if not any(known_name == file or known_name.endswith("/" + file) for known_name in known):
                yield f"{name}:{number}: names {file}, which is not there"


def complaints():
    files = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        path = os.path.join(ROOT, name)
        if not os.path.isfile(path):
            continue
        stem = os.path.splitext(os.path.basename(name))[0]
        if FORBIDDEN_NAMES.search(stem):
            yield f"{name}: a name that says nothing"
        if name.endswith(".md") and not name.startswith("server/decisions/"):  # those tell of their day
            yield from missing_files(name, path, files)
        if name.startswith("proto/") and name.endswith(".proto"):
            yield from undocumented_calls(name, path)
        if not name.endswith((".cc", ".h")):
            continue
        lines = sum(1 for _ in open(path, encoding="utf-8"))
        if lines > LINES_MAX:
            yield f"{name}: {lines} lines; split it by concept (at most {LINES_MAX})"
        top, *rest = name.split("/")
        for number, include in includes(path):
            where = f"{name}:{number}: includes {include}"
            if top == "common" and re.match(r"(client|server|grpcpp|rocksdb|torch)/", include):
                yield f"{where}: common knows neither client, server, gRPC, RocksDB nor Torch"
            if top == "client" and include.startswith(("server/", "rocksdb/")):
                yield f"{where}: client never includes server"
            if top == "client" and rest[0] not in ("transport", "cli") and ("grpcpp/" in include or ".grpc.pb.h" in include):
                yield f"{where}: only client/transport includes gRPC"
            if top == "client" and rest[0] not in ("torch", "collective", "examples") and re.match(r"(torch|ATen|c10)/", include):
                yield f"{where}: only the adapter includes Torch"
            if top == "server" and include.startswith(("client/", "torch/", "ATen/")):
                yield f"{where}: server never includes client or Torch"
            if top == "server" and rest[0] != "index" and include.startswith("rocksdb/"):
                yield f"{where}: RocksDB stays in server/index"
            if top == "server" and rest[0] in ("quota", "storage", "index", "persist", "retention", "scrub", "staging", "session", "access") and ("grpcpp/" in include or ".grpc.pb.h" in include):
                yield f"{where}: gRPC stays in server/rpc"
            for below in SERVER_ROOMS_BELOW.get(rest[0] if rest else "", []) if top == "server" else []:
                if include.startswith(f"server/{below}/"):
                    yield f"{where}: server/{rest[0]} must not know server/{below}"


found = list(complaints())
print("\n".join(found) or "house rules: no complaints")
sys.exit(1 if found else 0)
