#!/usr/bin/env python3
"""Runs the steps of the Dockerfile in fresh Debian folders, by debootstrap and chroot, and starts what came out.

No image registry is needed: every FROM is a bare Debian 12 made by debootstrap. Understands exactly what our Dockerfile uses
(FROM [AS], WORKDIR, COPY [--from], RUN, USER, ENV, ENTRYPOINT) and fails on anything else, so the Dockerfile cannot drift away
from what was tested. Needs root.
"""
import glob
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile


def run(command, **options):
    return subprocess.run(command, check=True, **options)


def mirror():
    for path in ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*"))]:
        for line in open(path, errors="replace") if os.path.exists(path) else []:
            words = line.split()
            if words[:1] == ["URIs:"] and "debian" in words[1]:
                return words[1]
            if words[:1] == ["deb"]:
                for word in words[1:]:
                    if word.startswith("http") and "debian" in word:
                        return word
    return None


def bare_debian(cache, target):
    if not os.path.exists(os.path.join(cache, ".complete")):
        shutil.rmtree(cache, ignore_errors=True)
        os.makedirs(cache)
        where = [mirror()] if mirror() else []
        run(["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", cache, *where], stdout=subprocess.DEVNULL)
        open(os.path.join(cache, ".complete"), "w").close()
    run(["cp", "-a", cache + "/.", target])
    shutil.copy("/etc/resolv.conf", target + "/etc/resolv.conf")
    with open(target + "/usr/sbin/policy-rc.d", "w") as script:
        script.write("#!/bin/sh\nexit 101\n")
    os.chmod(target + "/usr/sbin/policy-rc.d", 0o755)


def steps(path):
    text = open(path).read().replace("\\\n", " ")
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            word, rest = line.split(None, 1)
            yield word, rest


def compiler_cache():
    """The folder in which ccache keeps what the other builds compiled, if there is one."""
    asked = subprocess.run(["ccache", "--get-config", "cache_dir"], stdout=subprocess.PIPE, text=True) if shutil.which("ccache") else None
    folder = asked.stdout.strip() if asked and asked.returncode == 0 else None
    return folder if folder and os.path.isdir(folder) else None


class Stage:
    def __init__(self, root):
        self.root, self.folder, self.user, self.environment, self.entrypoint = root, "/", "root", {}, None
        self.compiler_cache = None  # a folder of this machine that the stage's steps see as theirs

    def work_in(self, folder, source):
        """The folder, as a link to one that is called as the source's: what ccache knows, it knows by its path."""
        self.folder = folder
        os.makedirs(self.root + source, exist_ok=True)
        if folder != source:
            os.symlink(os.path.relpath(source, os.path.dirname(folder)), self.root + folder)
        self.compiler_cache = compiler_cache()

    def chroot(self, command, **options):
        inner = f"cd -P {shlex.quote(self.folder)} && {command}"
        variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8",
                     **self.environment}
        cache_mount = ""
        if self.compiler_cache:
            os.makedirs(self.root + "/ccache", exist_ok=True)
            cache_mount = f"mount --bind {shlex.quote(self.compiler_cache)} {self.root}/ccache && "
            variables |= {"CCACHE_DIR": "/ccache", **{k: v for k, v in os.environ.items() if k.startswith("CCACHE_") and k != "CCACHE_DIR"}}
        # In a chroot the root is no mount point, and nothing is to be changed there: who made the chroot has seen to it.
        script = (f"(mount --make-rprivate / 2>/dev/null || true) && mount -t proc proc {self.root}/proc && mount --rbind /dev {self.root}/dev && "
                  f"{cache_mount}exec chroot --userspec={self.user} {self.root} /usr/bin/env -i "
                  + " ".join(f"{k}={shlex.quote(v)}" for k, v in variables.items()) + f" sh -c {shlex.quote(inner)}")
        return subprocess.run(["unshare", "--mount", "--propagation", "unchanged", "--pid", "--fork", "--kill-child", "bash", "-c", script], **options)


def copy(stage, stages, words, source):
    origin = source
    if words[0].startswith("--from="):
        origin = stages[words[0].split("=", 1)[1]].root
        words = words[1:]
    *what, where = words
    target = os.path.normpath(stage.root + os.path.join(stage.folder, where))
    many = where.endswith("/") or len(what) > 1
    for item in what:
        if origin == source and item == ".":
            # As .dockerignore says: what is tracked or could be.
            files = run(["git", "-C", source, "ls-files", "-co", "--exclude-standard", "-z"], stdout=subprocess.PIPE).stdout
            os.makedirs(target, exist_ok=True)
            run(["rsync", "-a", "-0", "--files-from=-", source + "/", target] if shutil.which("rsync") else
                ["sh", "-c", f"tar -C {shlex.quote(source)} --null -T - -cf - | tar -C {shlex.quote(target)} -xf -"], input=files)
            continue
        path = os.path.normpath(origin + "/" + item)
        if os.path.isdir(path):
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            os.makedirs(target if many else os.path.dirname(target), exist_ok=True)
            shutil.copy(path, target)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: run_dockerfile.py SOURCE_FOLDER CACHE_FOLDER")
    source, cache = map(os.path.abspath, sys.argv[1:])
    if os.geteuid() != 0:
        sys.exit("run_dockerfile: needs root (debootstrap, chroot)")
    work = tempfile.mkdtemp(prefix="ckptd-image.", dir="/var/tmp")
    stages, stage = {}, None
    try:
        for word, rest in steps(os.path.join(source, "Dockerfile")):
            print(f"== {word} {rest}", flush=True)
            if word == "FROM":
                words = rest.split()
                assert words[0] == "debian:12", f"unknown base {words[0]}"
                root = os.path.join(work, str(len(stages)))
                os.makedirs(root)
                bare_debian(cache, root)
                stage = Stage(root)
                stages[words[2] if len(words) == 3 else str(len(stages))] = stage
            elif word == "WORKDIR":
                stage.work_in(rest, source)
            elif word == "COPY":
                copy(stage, stages, rest.split(), source)
            elif word == "RUN":
                done = stage.chroot(rest)
                if done.returncode != 0:
                    sys.exit(f"run_dockerfile: RUN {rest}: exit status {done.returncode}")
            elif word == "USER":
                stage.user = rest
            elif word == "ENV":
                stage.environment.update(pair.split("=", 1) for pair in shlex.split(rest))
            elif word == "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            else:
                sys.exit(f"run_dockerfile: step {word} is not understood")
        assert stage.user != "root", "the image runs as root"
        # What a user of the image would do: start it, ask it, stop it.
        program = shlex.join(stage.entrypoint)
        check = (f"id -u | grep -qvx 0 && mkdir -p /dev/shm && {program} --memory-dir /dev/shm/ckptd-image-test --memory-budget 64MiB & daemon=$!; "
                 "for i in $(seq 100); do ckptctl health >/dev/null 2>&1 && break; sleep 0.1; done; "
                 "ckptctl health && ckptctl status && ckptutil --help >/dev/null && kill -TERM $daemon && wait $daemon")
        done = stage.chroot(check)
        shutil.rmtree("/dev/shm/ckptd-image-test", ignore_errors=True)
        if done.returncode != 0:
            sys.exit(f"run_dockerfile: the image's programs: exit status {done.returncode}")
        print("run_dockerfile: every step passed, the daemon answered as a user without rights and stopped cleanly")
    finally:
        run(["rm", "-rf", "--one-file-system", work])


if __name__ == "__main__":
    main()
