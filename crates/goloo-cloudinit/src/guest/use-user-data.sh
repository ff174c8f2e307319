#!/bin/sh
# Runs at every boot between cloud-init's first two stages. The user-data that goloo last provisioned this machine with
# takes the place of the one that the machine was created with, in what the first stage has found: the data source, and
# with it the network and the hostname, stays as it is.
cache=/var/lib/cloud/instance/obj.pkl
[ -s /opt/goloo/user-data ] && [ -s $cache ] || exit 0
# cloud-init's own Python, which may be another one than the system's: "#!/usr/bin/python3 -s".
python=$(sed -n '1s/^#! *\([^ ]*\).*/\1/p' "$(command -v cloud-init)")
"$python" - $cache <<'PYTHON'
import os
import pickle
import sys

cache = sys.argv[1]
with open(cache, "rb") as file:
    source = pickle.load(file)
with open("/opt/goloo/user-data", "rb") as file:
    source.userdata_raw = file.read()
source.userdata = None
with open(cache + ".goloo-new", "wb") as file:
    os.fchmod(file.fileno(), 0o400)
    pickle.dump(source, file)
os.replace(cache + ".goloo-new", cache)
PYTHON
