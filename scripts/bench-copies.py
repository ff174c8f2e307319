#!/usr/bin/env python3
"""Compares VMs that are made from a baked stack with one that is made from scratch, each until its provisioning is done: from the
baked disk, from saved memory, and eight from saved memory at once; and how long a VM takes to suspend and to continue. The stack
sleeps for a minute, which isn't counted for the one from scratch.

    bench-copies.py PATH-TO-GOLOO
"""
import subprocess
import sys

from bench_world import World

ASLEEP = 60


def row(what, seconds, floor, target=None):
    reach = "" if target is None else f"  (target {target}x)"
    print(f"{what:32} {seconds:8.1f} s   {seconds / floor:5.2f}x{reach}", flush=True)


with World(sys.argv[1]) as world:
    def create(name, *options):
        return ["create", "copies", "--as", name, *options]

    def forget_image():
        # One of an earlier run may be there.
        subprocess.run([world.goloo, "image", "rm", "baked:copies"], env=world.env, capture_output=True)

    world.stack("copies", f"#cloud-config\nruncmd: [[sleep, '{ASLEEP}']]\n")
    forget_image()
    cold = world.run(*create("cold", "--no-bake")) - ASLEEP
    row("create from scratch", cold, cold)
    row("suspend", world.run("stop", "cold", "--suspend"), cold)
    row("continue", world.run("start", "cold"), cold)
    world.run("delete", "--yes", "cold")
    world.run("bake", "copies")
    row("create from the baked disk", world.run(*create("disk")), cold, 1.1)
    world.run("delete", "--yes", "disk")
    world.run("bake", "copies", "--memory")
    row("create from saved memory", world.run(*create("memory")), cold, 0.1)
    eight = world.at_once(create(f"copy-{number}") for number in range(8))
    row("8 from saved memory at once, each", eight / 8, cold, 0.3)
    world.run("delete", "--yes", "--all")
    forget_image()
