#!/usr/bin/env python3
"""Compares commands on a store in a bucket with the same number of bare requests. `make bench`

    bench-bucket.py PATH-TO-GOLOO STATE-FOLDER

The bucket is in ministack, on loopback, which accounts for most of both times.
"""

import concurrent.futures
import http.client
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
SIGNATURE = (
    "AWS4-HMAC-SHA256 Credential=test/20250115/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)
WRITERS = 32


def emulator():
    root = subprocess.run([HERE / "scripts/aws-emulators.sh"], check=True, capture_output=True, text=True).stdout
    launcher = HERE / "crates/goloo-testkit/src/aws_emulators/launcher.py"
    python = pathlib.Path(root.strip()) / "venv/bin/python"
    process = subprocess.Popen(
        [python, launcher, "ministack"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    return process, int(process.stdout.readline())


def put(port, path, body=b""):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("PUT", path, body, {"Authorization": SIGNATURE})
    connection.getresponse().read()
    connection.close()


def floor(port, count, body):
    """The time in seconds for `count` bare writes, with the same concurrency as goloo's."""
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda number: put(port, f"/team/floor/{number}", body), range(count)))
    return time.monotonic() - begin


def timed(goloo, environment, *arguments):
    begin = time.monotonic()
    subprocess.run([goloo, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - begin


def main():
    goloo, state = sys.argv[1:]
    process, port = emulator()
    with tempfile.TemporaryDirectory() as folder:
        # A move marks the folder that it leaves.
        source = pathlib.Path(folder) / "state"
        shutil.copytree(state, source)
        count = len(list((source / "active").iterdir()))
        environment = {
            "HOME": folder,
            "PATH": os.environ["PATH"],
            "GOLOO_STATE_DIR": str(source),
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        put(port, "/team")
        base = floor(port, count, b"x" * 2000)
        address = f"s3://team/goloo?region=us-east-1&endpoint=http://127.0.0.1:{port}"
        moved = timed(goloo, environment, "state", "move", "--yes", address)
        environment["GOLOO_STATE_BACKEND"] = address
        document = os.path.join(folder, "all.json")
        rows = [
            ("state move", moved),
            ("state pull", timed(goloo, environment, "state", "pull", document)),
            ("state push, nothing new", timed(goloo, environment, "state", "push", document)),
            ("state locks", timed(goloo, environment, "state", "locks")),
            ("history of one", timed(goloo, environment, "history", sorted(p.name for p in (source / "active").iterdir())[0])),
        ]
        print(f"{count} VMs in a bucket; {count} bare writes, {WRITERS} at once: {base:.2f} s")
        for what, seconds in rows:
            print(f"  {what:<26} {seconds:6.2f} s")
    process.stdin.close()
    process.wait()


main()
