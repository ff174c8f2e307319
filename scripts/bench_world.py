"""goloo with a state folder of its own, for the benchmarks that start machines. The image debian-12 is taken from the test cache,
or built first."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

CONFIG = {"vm": {"cpus": 1, "memory": "512M", "disk": "3G", "image": "debian-12"}}


class World:
    """Its VMs are deleted at the end of a `with`."""

    def __init__(self, goloo):
        self.goloo = os.path.abspath(goloo)
        cache = os.path.abspath(os.environ.get("GOLOO_TEST_CACHE", "target/test-cache"))
        self.work = pathlib.Path(tempfile.mkdtemp())
        (self.work / "config").mkdir()
        (self.work / "config" / "settings.json").write_text('{"localProvider": "qemu"}')
        self.env = dict(os.environ, GOLOO_STATE_DIR=str(self.work / "state"), GOLOO_CACHE_DIR=cache,
                        GOLOO_CONFIG_DIR=str(self.work / "config"))

    def __enter__(self):
        if "debian-12" not in self.output("image", "list", "--json"):
            self.run("image", "build", "debian-12")
        return self

    def __exit__(self, *_):
        names = self.output("list", "-q").split()
        if names:
            self.run("delete", "--yes", *names)
        shutil.rmtree(self.work)

    def stack(self, name, document=None, config=CONFIG):
        folder = self.work / "stacks" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        if document:
            (folder / "cloud-init.yaml").write_text(document)

    def start(self, *arguments):
        return subprocess.Popen([self.goloo, *arguments], cwd=self.work, env=self.env, stdout=subprocess.DEVNULL)

    def run(self, *arguments):
        """The seconds that the command takes."""
        begin = time.monotonic()
        subprocess.run([self.goloo, *arguments], cwd=self.work, env=self.env, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - begin

    def at_once(self, commands):
        """The seconds that several commands take together."""
        begin = time.monotonic()
        codes = [one.wait() for one in [self.start(*command) for command in commands]]
        if any(codes):
            raise SystemExit(f"exit codes {codes}")
        return time.monotonic() - begin

    def output(self, *arguments):
        return subprocess.run([self.goloo, *arguments], cwd=self.work, env=self.env, check=True, capture_output=True,
                              text=True).stdout

    def status(self, name):
        return json.loads(self.output("status", name, "--json"))
