#!/usr/bin/env python3
"""Compares VMs that are made from a baked stack with one that is made from scratch, each until its provisioning is done: from the
baked disk, from saved memory, and eight from saved memory at once; and how long a VM takes to suspend and to continue. The
image debian-12 is taken from the test cache, or built first.

    bench-copies.py PATH-TO-GOLOO
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

goloo = os.path.abspath(sys.argv[1])
cache = os.environ.get("GOLOO_TEST_CACHE", "target/test-cache")
work = pathlib.Path(tempfile.mkdtemp())
env = dict(os.environ, GOLOO_STATE_DIR=str(work / "state"), GOLOO_CACHE_DIR=os.path.abspath(cache))
stack = work / "stacks" / "copies"
stack.mkdir(parents=True)
config = {"vm": {"cpus": 1, "memory": "512M", "disk": "3G", "image": "debian-12"}}
(stack / "config.json").write_text(json.dumps(config))
(stack / "cloud-init.yaml").write_text("#cloud-config\nruncmd: [[sleep, '60']]\n")


def start(*arguments):
    return subprocess.Popen([goloo, *arguments], cwd=work, env=env, stdout=subprocess.DEVNULL)


def run(*arguments):
    """The seconds that the command takes."""
    begin = time.monotonic()
    subprocess.run([goloo, *arguments], cwd=work, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


def create(name, *options):
    return run("create", "copies", "--provider", "qemu", "--as", name, *options)


def row(what, seconds, floor, target=None):
    reach = "" if target is None else f"  (target {target}x)"
    print(f"{what:32} {seconds:8.1f} s   {seconds / floor:5.2f}x{reach}", flush=True)


try:
    images = subprocess.check_output([goloo, "image", "list", "--json"], cwd=work, env=env, text=True)
    if "debian-12" not in images:
        run("image", "build", "debian-12")
    subprocess.run([goloo, "image", "rm", "baked:copies"], cwd=work, env=env, capture_output=True)
    cold = create("cold", "--no-bake")
    row("create from scratch", cold, cold)
    print(f"  of which the stack sleeps for 60 s; without that {cold - 60:.1f} s")
    boot = cold - 60
    row("suspend", run("stop", "cold", "--suspend"), boot)
    row("continue", run("start", "cold"), boot)
    run("delete", "--yes", "cold")
    run("bake", "copies", "--provider", "qemu")
    row("create from the baked disk", create("disk"), boot, 1.1)
    run("delete", "--yes", "disk")
    run("bake", "copies", "--provider", "qemu", "--memory")
    row("create from saved memory", create("memory"), boot, 0.1)
    names = [f"copy-{number}" for number in range(8)]
    begin = time.monotonic()
    creates = [start("create", "copies", "--provider", "qemu", "--as", name) for name in names]
    codes = [one.wait() for one in creates]
    if any(codes):
        sys.exit(f"exit codes {codes}")
    row("8 from saved memory at once, each", (time.monotonic() - begin) / 8, boot, 0.3)
finally:
    names = subprocess.run([goloo, "list", "-q"], cwd=work, env=env, capture_output=True, text=True).stdout.split()
    if names:
        subprocess.run([goloo, "delete", "--yes", *names], cwd=work, env=env)
    subprocess.run([goloo, "image", "rm", "baked:copies"], cwd=work, env=env, capture_output=True)
    shutil.rmtree(work)
