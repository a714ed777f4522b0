#!/usr/bin/env bash
# clang's thread-safety analysis, as errors, over every source of common, client and server that sees a lock: in its own text, or in
# that of a header of ours that it includes, however deep. Parses only; what to include is read from the compile commands of a build without batches of sources.
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset thread-safety >/dev/null
# Generated headers have to exist before anything can be parsed.
cmake --build build/thread-safety --target ckpt_proto ckpt_grpc ckpt_staging_proto >/dev/null

python3 - <<'EOF'
import concurrent.futures, functools, json, os, re, shlex, subprocess, sys

root = os.getcwd()
locks = re.compile(r"GUARDED_BY|MutexLock|common/mutex\.h")
ours = re.compile(r'^\s*#include\s+"((?:common|client|server)/[^"]+)"', re.MULTILINE)

@functools.cache
def sees_a_lock(name):
    if not os.path.exists(name):  # generated
        return False
    text = open(name, encoding="utf-8").read()
    return bool(locks.search(text)) or any(sees_a_lock(include) for include in ours.findall(text))

commands = {}
for entry in json.load(open("build/thread-safety/compile_commands.json")):
    name = os.path.relpath(entry["file"], root)
    if not name.startswith(("common/", "client/", "server/")):
        continue
    if sees_a_lock(name):
        words = [word for word in shlex.split(entry["command"]) if not word.endswith("ccache")]
        keep = [word for word in words[1:] if word.startswith(("-I", "-isystem", "-D", "-std"))]
        following = [words[i + 1] for i, word in enumerate(words) if word == "-isystem"]
        keep = [word for word in keep if word != "-isystem"] + [part for path in following for part in ("-isystem", path)]
        commands[name] = ["clang++-14", "-fsyntax-only", "-Wthread-safety", "-Werror=thread-safety", *keep, name]

def check(name):
    done = subprocess.run(commands[name], cwd=root, capture_output=True, text=True)
    return name, done.returncode, done.stderr

failed = 0
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for name, code, text in pool.map(check, sorted(commands)):
        if code:
            failed += 1
            print(f"--- {name}\n{text}")
print(f"thread safety: {len(commands) - failed} passed, {failed} failed of {len(commands)} sources that see a lock")
sys.exit(1 if failed or not commands else 0)
EOF
