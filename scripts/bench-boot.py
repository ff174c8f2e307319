#!/usr/bin/env python3
"""Compares `goloo create` until SSH answers with the same QEMU command line started manually, and eight creates at once
with a single one; and how long a running VM takes to get another port. The image debian-12 is taken from the test cache, or built first.

    bench-boot.py PATH-TO-GOLOO
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

goloo = os.path.abspath(sys.argv[1])
cache = os.environ.get("GOLOO_TEST_CACHE", "target/test-cache")
work = pathlib.Path(tempfile.mkdtemp())
env = dict(os.environ, GOLOO_STATE_DIR=str(work / "state"), GOLOO_CACHE_DIR=os.path.abspath(cache))
stack = work / "stacks" / "bench"
stack.mkdir(parents=True)
config = {"vm": {"cpus": 1, "memory": "512M", "disk": "3G", "image": "debian-12"}}
(stack / "config.json").write_text(json.dumps(config))


def run(*arguments):
    subprocess.run([goloo, *arguments], cwd=work, env=env, check=True, stdout=subprocess.DEVNULL)


def banner(endpoint, limit=600):
    """Waits for the server's banner; a connection alone proves nothing."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            with socket.create_connection((endpoint["address"], endpoint["sshPort"]), 10) as connection:
                connection.settimeout(10)
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"no SSH at {endpoint}")


def status(name):
    output = subprocess.run([goloo, "status", name, "--json"], cwd=work, env=env, check=True, capture_output=True)
    return json.loads(output.stdout)["vm"]


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


try:
    images = subprocess.check_output([goloo, "image", "list", "--json"], cwd=work, env=env, text=True)
    if "debian-12" not in images:
        run("image", "build", "debian-12")
    begin = time.monotonic()
    run("create", "bench", "--provider", "qemu", "--no-wait")
    made = time.monotonic() - begin
    vm = status("bench")
    banner(vm["endpoint"])
    ours = time.monotonic() - begin
    folder = work / "state/vms" / vm["id"]
    pid = int((folder / "qemu.pid").read_text())
    ours_cpu = cpu(pid)
    argv = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    with socket.create_server(("127.0.0.1", 0)) as free:
        config["vm"]["ports"] = [f"{free.getsockname()[1]}:80"]
    (stack / "config.json").write_text(json.dumps(config))
    begin = time.monotonic()
    run("apply", "bench")
    print(f"apply of a port: {(time.monotonic() - begin) * 1000:.0f} ms  (target 1000 ms)")
    run("stop", "bench", "--force")

    # The same again without goloo, on a new disk.
    disk = folder / "disk.qcow2"
    base = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", disk]))
    disk.unlink()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", base["backing-filename-format"],
                    "-b", base["backing-filename"], disk, str(base["virtual-size"])], cwd=folder, check=True)
    begin = time.monotonic()
    # It opens its standard input as the console.
    with open(folder / "by-hand.log", "ab") as console:
        by_hand = subprocess.Popen(argv, cwd=folder, stdin=console, stdout=subprocess.DEVNULL)
    banner(vm["endpoint"])
    hand = time.monotonic() - begin
    hand_cpu = cpu(by_hand.pid)
    run("delete", "--yes", "bench")
    by_hand.wait()
    print(f"create until SSH: {ours:.1f} s, by hand {hand:.1f} s   {ours / hand:.2f}x  (target 1.05x); "
          f"QEMU's processor time {ours_cpu:.1f} s and {hand_cpu:.1f} s")

    # Until QEMU is running, one VM and eight at once: goloo's own part, without the guests' boots.
    begin = time.monotonic()
    create = [goloo, "create", "bench", "--provider", "qemu", "--no-wait", "--as"]
    creates = [subprocess.Popen([*create, f"bench-{number}"], cwd=work, env=env, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL) for number in range(8)]
    codes = [one.wait() for one in creates]
    eight = time.monotonic() - begin
    run("delete", "--yes", *(f"bench-{number}" for number in range(8)))
    if any(codes):
        sys.exit(f"exit codes {codes}")
    print(f"create until QEMU runs: {made * 1000:.0f} ms alone, {eight * 1000:.0f} ms for 8 at once")
finally:
    names = subprocess.run([goloo, "list", "-q"], cwd=work, env=env, capture_output=True, text=True).stdout.split()
    if names:
        subprocess.run([goloo, "delete", "--yes", *names], cwd=work, env=env)
    shutil.rmtree(work)
