#!/usr/bin/python3 -IS
"""Stands in for systemctl and its kin in a guest root, where no systemd runs.

Every call is logged. `ssh.service` is really started and stopped, as its unit and the drop-ins say that systemd
had read at boot or at the last `daemon-reload`; `enable` makes links; the state of other units is what the harness
or a `start` said last. The rest is logged and answered with success.

A boot makes dozens of calls, and starting Python is most of each: so there is no `site`, and what few calls need is
imported there.
"""

import glob
import json
import os
import re
import shlex
import sys
import time

HOME = "/run/goloo-harness"
CALLS = f"{HOME}/calls"
LOADED = f"{HOME}/loaded"
STATES = f"{HOME}/units"
SSHD_LOG = f"{HOME}/sshd.log"
# As systemd: what is earlier counts.
FOLDERS = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"]
SSH_NAMES = ["ssh.service", "sshd.service"]
START_LIMIT = 20


def log_call(program, arguments):
    with open(CALLS, "a", encoding="utf-8") as file:
        file.write(json.dumps({"program": program, "arguments": arguments}) + "\n")


def reload_units():
    """What systemd keeps in memory: the unit files as they are now."""
    import shutil

    shutil.rmtree(LOADED, ignore_errors=True)
    for folder in FOLDERS:
        if os.path.isdir(folder):
            # Units of the image don't change; only those that a document can write are copied.
            if folder.startswith("/usr"):
                os.makedirs(os.path.dirname(LOADED + folder), exist_ok=True)
                os.symlink(folder, LOADED + folder)
            else:
                shutil.copytree(folder, LOADED + folder, symlinks=True)


def is_masked(path):
    return os.path.islink(path) and os.readlink(path) == "/dev/null"


def fragments(name):
    """A unit's file and its drop-ins, in the order in which they count; None where it's masked or missing."""
    aliases = SSH_NAMES if name in SSH_NAMES else [name]
    unit = next(
        (path for path in (f"{LOADED}{folder}/{aliases[0]}" for folder in FOLDERS) if os.path.lexists(path)), None
    )
    if unit is None or is_masked(unit) or os.path.getsize(unit) == 0:
        return None
    dropins = {}
    kind = name.rsplit(".", 1)[1]
    for folder in reversed(FOLDERS):
        for owner in [kind] + aliases:
            for path in glob.glob(f"{LOADED}{folder}/{owner}.d/*.conf"):
                dropins[os.path.basename(path)] = path
    chosen = [dropins[key] for key in sorted(dropins)]
    return [unit] + [path for path in chosen if not is_masked(path)]


def settings_of(files):
    """All assignments as {(section, key): [values]}; an empty one resets the list."""
    found = {}
    for path in files:
        section = ""
        with open(path, encoding="utf-8", errors="replace") as file:
            text = re.sub(r"\\\n", " ", file.read())
        for line in text.splitlines():
            line = line.strip()
            if not line or line[0] in "#;":
                continue
            if line.startswith("["):
                section = line.strip("[]")
                continue
            key, equals, value = line.partition("=")
            if not equals:
                continue
            values = found.setdefault((section, key.strip()), [])
            if value.strip():
                values.append(value.strip())
            else:
                values.clear()
    return found


def environment(settings):
    values = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}
    for line in settings.get(("Service", "Environment"), []):
        for word in shlex.split(line):
            key, _, value = word.partition("=")
            values[key] = value
    for path in settings.get(("Service", "EnvironmentFile"), []):
        optional = path.startswith("-")
        path = path.lstrip("-")
        if not os.path.exists(path):
            if optional:
                continue
            raise RuntimeError(f"EnvironmentFile {path} is missing")
        with open(path, encoding="utf-8") as file:
            for line in file:
                line = line.strip()
                if line and line[0] not in "#;" and "=" in line:
                    key, _, value = line.partition("=")
                    values[key.strip()] = "".join(shlex.split(value.strip())) if value[:1] in "\"'" else value
    return values


def command_of(line, values):
    """A command line of a unit: (ignore failure, program, argv)."""
    prefix = re.match(r"[-@:+!|]*", line).group()
    words = shlex.split(line[len(prefix):].replace("%%", "%"))
    program = words.pop(0)
    argv0 = words.pop(0) if "@" in prefix else program
    argv = [argv0]
    for word in words:
        alone = re.fullmatch(r"\$([A-Za-z_][A-Za-z0-9_]*)", word)
        if ":" in prefix:
            argv.append(word)
        elif alone:
            argv.extend(shlex.split(values.get(alone.group(1), "")))
        else:
            word = re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", lambda m: values.get(m.group(1), ""), word)
            argv.append(word.replace("$$", "$"))
    return "-" in prefix, program, argv


def run_lines(settings, key, values, output):
    """Runs commands one after the other; False when one fails that mustn't."""
    import subprocess

    for line in settings.get(("Service", key), []):
        may_fail, program, argv = command_of(line, values)
        status = subprocess.run(
            argv, executable=program, env=values, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        ).returncode
        if status != 0 and not may_fail:
            return False
    return True


def conditions_hold(settings):
    for value in settings.get(("Unit", "ConditionPathExists"), []):
        negated = value.startswith("!")
        if os.path.exists(value.lstrip("!|")) == negated:
            return False
    return True


def set_state(name, active, pid=0):
    os.makedirs(STATES, exist_ok=True)
    with open(f"{STATES}/{name}", "w", encoding="utf-8") as file:
        json.dump({"ActiveState": active, "MainPID": pid}, file)


def state_of(name):
    if name in SSH_NAMES:
        name = SSH_NAMES[0]
    try:
        with open(f"{STATES}/{name}", encoding="utf-8") as file:
            state = json.load(file)
    except OSError:
        return {"ActiveState": "inactive", "MainPID": 0}
    if state["MainPID"] and not os.path.exists(f"/proc/{state['MainPID']}"):
        return {"ActiveState": "failed", "MainPID": 0}
    return state


def start_service(name):
    files = fragments(name)
    if files is None:
        return False
    settings = settings_of(files)
    if state_of(name)["ActiveState"] == "active" or not conditions_hold(settings):
        return True
    is_oneshot = settings.get(("Service", "Type"), ["simple"])[-1] == "oneshot"
    with open(SSHD_LOG if name in SSH_NAMES else f"{HOME}/{name}.log", "ab") as output:
        try:
            values = environment(settings)
            for folder in " ".join(settings.get(("Service", "RuntimeDirectory"), [])).split():
                os.makedirs(f"/run/{folder}", mode=0o755, exist_ok=True)
            if not run_lines(settings, "ExecStartPre", values, output):
                raise RuntimeError("ExecStartPre failed")
            if is_oneshot:
                done = run_lines(settings, "ExecStart", values, output)
                set_state(name, "inactive" if done else "failed")
                return done
            pid = start_daemon(settings, values, output)
        except (OSError, ValueError, IndexError, RuntimeError) as error:
            output.write(f"{name}: {error}\n".encode())
            set_state(name, "failed")
            return False
    set_state(name, "active", pid)
    return True


def run_after(name):
    """What a unit runs after its main process, which the harness has run itself."""
    settings = settings_of(fragments(name) or [])
    with open(f"{HOME}/{name}.log", "ab") as output:
        return run_lines(settings, "ExecStartPost", environment(settings), output)


def start_daemon(settings, values, output):
    """Starts the main process and waits until it says that it's ready."""
    import socket
    import subprocess

    _, program, argv = command_of(settings[("Service", "ExecStart")][-1], values)
    address = f"{HOME}/notify"
    if os.path.exists(address):
        os.unlink(address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(address)
        ready.settimeout(0.05)
        child = subprocess.Popen(
            argv,
            executable=program,
            env={**values, "NOTIFY_SOCKET": address},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        if settings.get(("Service", "Type"), ["simple"])[-1] != "notify":
            return child.pid
        end = time.monotonic() + START_LIMIT
        while time.monotonic() < end:
            if child.poll() is not None:
                raise RuntimeError(f"ended with status {child.returncode}")
            try:
                if b"READY=1" in ready.recv(4096):
                    return child.pid
            except socket.timeout:
                pass
        child.kill()
        raise RuntimeError("not ready in time")


def stop_service(name):
    import signal

    pid = state_of(name)["MainPID"]
    set_state(name, "inactive")
    if not pid:
        return
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    while os.path.exists(f"/proc/{pid}"):
        time.sleep(0.01)


def reload_service(name):
    state = state_of(name)
    files = fragments(name)
    if state["ActiveState"] != "active" or files is None:
        return False
    settings = settings_of(files)
    with open(SSHD_LOG, "ab") as output:
        values = {**environment(settings), "MAINPID": str(state["MainPID"])}
        return run_lines(settings, "ExecReload", values, output)


def enable(name):
    for folder in FOLDERS:
        if os.path.exists(f"{folder}/{name}"):
            install = settings_of([f"{folder}/{name}"])
            for target in " ".join(install.get(("Install", "WantedBy"), [])).split():
                wants = f"/etc/systemd/system/{target}.wants"
                os.makedirs(wants, exist_ok=True)
                if not os.path.lexists(f"{wants}/{name}"):
                    os.symlink(f"{folder}/{name}", f"{wants}/{name}")
            return


def disable(name):
    for link in glob.glob(f"/etc/systemd/system/*.wants/{name}"):
        os.unlink(link)


def waits_for(name):
    """The unit of cloud-init that a start of this one would wait for; None where it needn't wait.

    At boot all of cloud-init's units are queued, so that what is ordered behind one of them waits for it.
    """
    files = fragments(name) or []
    after = " ".join(settings_of(files).get(("Unit", "After"), [])).split()
    if name in SSH_NAMES:
        after += ["cloud-init-network.service", "cloud-init.service"]
    return next((unit for unit in after if state_of(unit)["ActiveState"] in ("queued", "activating")), None)


def act(verb, name, no_block=False):
    """One verb on one unit; whether it succeeded."""
    is_ssh = name in SSH_NAMES
    if verb in ("start", "restart", "reload-or-restart") and not no_block:
        blocker = waits_for(name)
        if blocker is not None:
            # What calls this is a part of cloud-init: on a machine both would wait for each other for ever.
            log_call("deadlock", [verb, name, blocker])
            print(f"{verb} {name} would wait for {blocker} for ever: --no-block is missing", file=sys.stderr)
            return False
    if verb in ("enable", "reenable"):
        enable(name)
    elif verb == "disable":
        disable(name)
    elif verb == "mask":
        path = f"/etc/systemd/system/{name}"
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink("/dev/null", path)
        reload_units()
    elif not is_ssh:
        if verb in ("start", "restart"):
            # Services of ours run when the stages are over: the harness does it.
            set_state(name, "activating" if name.endswith(".service") else "active")
        elif verb == "stop":
            set_state(name, "inactive")
    elif waits_for(name) is not None and verb in ("start", "restart", "reload-or-restart"):
        return True
    elif verb == "start":
        return start_service(name)
    elif verb in ("restart", "try-restart", "reload-or-restart", "try-reload-or-restart"):
        if verb.startswith("try") and state_of(name)["ActiveState"] != "active":
            return True
        stop_service(name)
        return start_service(name)
    elif verb == "reload":
        return reload_service(name)
    elif verb in ("stop", "kill"):
        stop_service(name)
    return True


def show(name, properties):
    state = state_of(name)
    active = state["ActiveState"]
    known = any(os.path.exists(f"{folder}/{name}") for folder in FOLDERS)
    values = {
        "Id": name,
        "LoadState": "loaded" if known else "not-found",
        "ActiveState": active,
        "SubState": {"active": "exited", "activating": "start", "failed": "failed"}.get(active, "dead"),
        "Result": "exit-code" if active == "failed" else "success",
        "UnitFileState": "enabled" if known else "",
        "MainPID": str(state["MainPID"]),
    }
    return {key: values.get(key, "") for key in properties} if properties else values


def systemctl(arguments):
    words, properties, only_values, now, no_block = [], [], False, False, False
    rest = iter(arguments)
    for word in rest:
        if word in ("-p", "--property"):
            properties += next(rest, "").split(",")
        elif word.startswith("--property="):
            properties += word.partition("=")[2].split(",")
        elif word == "--value":
            only_values = True
        elif word == "--now":
            now = True
        elif word == "--no-block":
            no_block = True
        elif word in ("-n", "-o", "-t", "-s", "-H", "-M"):
            next(rest, None)
        elif not word.startswith("-"):
            words.append(word)
    if not words:
        return 0
    verb, units = words[0], [unit if "." in unit else f"{unit}.service" for unit in words[1:]]
    if verb == "daemon-reload":
        reload_units()
    elif verb in ("is-active", "is-failed"):
        states = [state_of(unit)["ActiveState"] for unit in units]
        print("\n".join(states))
        wanted = "active" if verb == "is-active" else "failed"
        return 0 if wanted in states else 3 if verb == "is-active" else 1
    elif verb == "is-enabled":
        enabled = [bool(glob.glob(f"/etc/systemd/system/*.wants/{unit}")) for unit in units]
        print("\n".join("enabled" if one else "disabled" for one in enabled))
        return 0 if any(enabled) else 1
    elif verb == "is-system-running":
        print("running")
    elif verb == "show":
        for unit in units:
            for key, value in show(unit, properties).items():
                print(value if only_values else f"{key}={value}")
    else:
        verbs = [verb]
        if now:
            verbs.append({"enable": "start", "disable": "stop", "mask": "stop"}.get(verb, verb))
        return 0 if all([act(each, unit, no_block) for each in verbs for unit in units]) else 1
    return 0


def main():
    program = os.path.basename(sys.argv[0])
    os.makedirs(HOME, exist_ok=True)
    if program == "harness-boot":
        reload_units()
        return 0
    if program == "harness-start":
        set_state(sys.argv[1], "inactive")
        return 0 if start_service(sys.argv[1]) else 1
    if program == "harness-after":
        return 0 if run_after(sys.argv[1]) else 1
    log_call(program, sys.argv[1:])
    return systemctl(sys.argv[1:]) if program == "systemctl" else 0


sys.exit(main())
