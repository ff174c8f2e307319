#!/usr/bin/env python3
"""The throughput between two machines of an environment on its private network, beside that from a machine to this computer through
QEMU's user networking; and the time of a round trip of one byte. Without hardware acceleration, the guests are the limit.

    bench-network.py PATH-TO-GOLOO
"""
import json
import socket
import sys
import time

from bench_world import CONFIG, World

MIB = 1 << 20
LENGTH = 64 * MIB
TRIPS = 200
SERVER = f"""
import socket
server = socket.create_server(("", 9000))
while True:
    connection = server.accept()[0]
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while byte := connection.recv(1):
        connection.sendall(bytes({LENGTH}) if byte == b"g" else byte)
"""
MEASURE = f"""
def measure(address):
    with socket.create_connection(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begin = time.monotonic()
        for _ in range({TRIPS}):
            connection.sendall(b"p")
            connection.recv(1)
        trip = (time.monotonic() - begin) / {TRIPS}
        begin, left = time.monotonic(), {LENGTH}
        connection.sendall(b"g")
        while left:
            left -= len(connection.recv(1 << 20))
        return [{LENGTH} / {MIB} / (time.monotonic() - begin), trip * 1000]
"""
exec(MEASURE)


def row(what, measured):
    print(f"{what:32} {measured[0]:8.1f} MiB/s   round trip {measured[1]:6.2f} ms", flush=True)


with World(sys.argv[1]) as world:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = "#cloud-config\nwrite_files: [{path: /srv/server.py, content: " + json.dumps(SERVER) + "}]\n" \
        "runcmd: [systemd-run python3 /srv/server.py]\n"
    world.stack("server", server, {"vm": {**CONFIG["vm"], "ports": [f"{port}:9000"]}})
    world.stack("client")
    machines = {"server": {"stack": "server"}, "client": {"stack": "client"}}
    (world.work / "goloo.json").write_text(json.dumps({"name": "net", "network": True, "machines": machines}))
    world.run("up", "--yes")
    asked = f"import json, socket, time\n{MEASURE}\nprint(json.dumps(measure(('server', 9000))))"
    inside = world.output("exec", "net-client", "--", "python3", "-c", asked)
    between = json.loads(inside)
    user = measure((world.status("net-server")["live"]["ip"], port))
    row("two machines, private network", between)
    row("machine to computer, user network", user)
    print(f"{'':32} {between[0] / user[0]:8.2f}x")
