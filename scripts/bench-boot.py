#!/usr/bin/env python3
"""Compares `goloo create` until SSH answers with the same QEMU command line started manually, and eight creates at once
with a single one; and how long a running VM takes to get another port.

    bench-boot.py PATH-TO-GOLOO
"""
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

from bench_world import CONFIG, World


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


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def by_hand(folder, argv, endpoint):
    """The same without goloo, on a new disk: the seconds until SSH answers, and those of QEMU's processor time."""
    disk = folder / "disk.qcow2"
    base = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", disk]))
    disk.unlink()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", base["backing-filename-format"],
                    "-b", base["backing-filename"], disk, str(base["virtual-size"])], cwd=folder, check=True)
    begin = time.monotonic()
    # It opens its standard input as the console.
    with open(folder / "by-hand.log", "ab") as console:
        process = subprocess.Popen(argv, cwd=folder, stdin=console, stdout=subprocess.DEVNULL)
    banner(endpoint)
    return time.monotonic() - begin, cpu(process.pid), process


with World(sys.argv[1]) as world:
    create = ("create", "bench", "--no-wait")
    world.stack("bench")
    begin = time.monotonic()
    made = world.run(*create)
    vm = world.status("bench")["vm"]
    banner(vm["endpoint"])
    ours = time.monotonic() - begin
    folder = world.work / "state/vms" / vm["id"]
    pid = int((folder / "qemu.pid").read_text())
    ours_cpu = cpu(pid)
    argv = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    world.stack("bench", config={"vm": {**CONFIG["vm"], "ports": [f"{port}:80"]}})
    print(f"apply of a port: {world.run('apply', 'bench') * 1000:.0f} ms  (target 1000 ms)")
    world.run("stop", "bench", "--force")

    hand, hand_cpu, process = by_hand(folder, argv, vm["endpoint"])
    world.run("delete", "--yes", "bench")
    process.wait()
    print(f"create until SSH: {ours:.1f} s, by hand {hand:.1f} s   {ours / hand:.2f}x  (target 1.05x); "
          f"QEMU's processor time {ours_cpu:.1f} s and {hand_cpu:.1f} s")

    # Until QEMU is running, one VM and eight at once: goloo's own part, without the guests' boots.
    world.stack("bench")
    eight = world.at_once((*create, "--as", f"bench-{number}") for number in range(8))
    print(f"create until QEMU runs: {made * 1000:.0f} ms alone, {eight * 1000:.0f} ms for 8 at once")
