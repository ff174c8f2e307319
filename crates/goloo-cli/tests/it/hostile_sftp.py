#!/usr/bin/env python3
"""Stands in for ssh into a guest that was taken over: an SFTP server that tries to make its client write elsewhere.

Every folder has names that lead out of it, links, and files that are none; every file is a gift. What was asked for
goes into the file beside this one, `.asked`. Protocol: draft-ietf-secsh-filexfer-02 (SFTP version 3).
"""
import os
import struct
import sys

out = sys.stdout.buffer
asked = open(__file__ + ".asked", "a")


def log(text):
    asked.write(text + "\n")
    asked.flush()


command = sys.argv[-1]
if "sftp-server" not in command:
    log("legacy " + command)
    # scp's old protocol: the server says what its files are called.
    out.write(b"C0644 5 ../escaped\nhello\0C0644 5 escaped\nhello\0D0755 0 ..\nC0644 5 escaped\nhello\0E\n")
    out.flush()
    sys.exit(0)
log("sftp")

FILE, FOLDER, LINK, FIFO, DEVICE = 0o100644, 0o040755, 0o120777, 0o010644, 0o060644
outside = os.environ["OUTSIDE"]
NAMES = [
    (b".", FOLDER), (b"..", FOLDER), (b"../escaped", FILE), (b"../../escaped", FILE), (b"sub/../../escaped", FILE),
    (outside.encode() + b"/escaped", FILE), (b"..", FILE), (b"", FILE), (b"link", LINK), (b"link", FOLDER),
    (b"fifo", FIFO), (b"device", DEVICE), (b"good", FILE), (b"-oProxyCommand=x", FILE),
    (b"setuid", 0o104755), (b"../folder", FOLDER), (b"sub", FOLDER),
]


def string(value):
    return struct.pack(">I", len(value)) + value


def attributes(mode, size=5):
    return struct.pack(">IQI", 1 | 4, size, mode)


def send(kind, number, body):
    packet = bytes([kind]) + (b"" if number is None else struct.pack(">I", number)) + body
    out.write(struct.pack(">I", len(packet)) + packet)
    out.flush()


def status(number, code):
    send(101, number, struct.pack(">I", code) + string(b"") + string(b""))


def mode_of(path):
    for name, mode in NAMES:
        if path.rstrip(b"/").endswith(b"/" + name) and name not in (b"", b".", b".."):
            return mode
    if os.environ.get("HOSTILE") == "folder-for-file" or b"data" in path:
        return FOLDER
    return FILE


handles = {}
depth = {}
while True:
    head = sys.stdin.buffer.read(4)
    if len(head) < 4:
        break
    packet = sys.stdin.buffer.read(struct.unpack(">I", head)[0])
    kind = packet[0]
    if kind == 1:
        send(2, None, struct.pack(">I", 3))
        continue
    number = struct.unpack(">I", packet[1:5])[0]
    length = struct.unpack(">I", packet[5:9])[0]
    first = packet[9:9 + length]
    if kind == 16:  # realpath
        answer = first if first.startswith(b"/") else b"/srv/" + first
        send(104, number, struct.pack(">I", 1) + string(answer) + string(answer) + attributes(FOLDER))
    elif kind in (7, 17):  # lstat, stat
        send(105, number, attributes(mode_of(first)))
    elif kind in (3, 11):  # open, opendir
        handle = b"%d" % len(handles)
        handles[handle] = [first, kind == 11 and first.rstrip(b"/").count(b"/") < 4]
        send(102, number, string(handle))
    elif kind == 8:  # fstat
        send(105, number, attributes(mode_of(handles[first][0])))
    elif kind == 12:  # readdir
        if handles[first][1]:
            handles[first][1] = False
            names = b"".join(string(name) + string(name) + attributes(mode) for name, mode in NAMES)
            send(104, number, struct.pack(">I", len(NAMES)) + names)
        else:
            status(number, 1)
    elif kind == 5:  # read
        offset = struct.unpack(">Q", packet[9 + length:17 + length])[0]
        if offset == 0:
            send(103, number, string(b"hello"))
        else:
            status(number, 1)
    elif kind == 4:  # close
        status(number, 0)
    else:
        status(number, 8)
