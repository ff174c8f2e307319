"""Runs one AWS emulator for `aws_emulators.rs`, which starts this and holds its stdin.

    launcher.py moto|moto-single-threaded|ministack

It listens on a free port of loopback, writes the port to stdout, and ends when stdin ends: so it can't
outlive the test, however that dies.
"""

import hashlib
import logging
import os
import socket
import sys
import threading

# Exempt from the check of credentials; see `AwsEmulator::require_credentials`.
TEST_KEY = "GOLOO-TEST"

# AWS's public parameters that moto doesn't know: {path: (AMI's name, AMI's architecture)}.
# https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/
# https://wiki.debian.org/Cloud/AmazonEC2Image
MORE_IMAGES = {
    f"/aws/service/canonical/ubuntu/server/{release}/stable/current/{debian}/hvm/{volume}/ami-id": (
        f"ubuntu/images/hvm-ssd/ubuntu-{release}-{debian}-server",
        ec2,
    )
    for release, volume in (("22.04", "ebs-gp2"), ("24.04", "ebs-gp3"), ("26.04", "ebs-gp3"))
    for debian, ec2 in (("amd64", "x86_64"), ("arm64", "arm64"))
} | {
    f"/aws/service/debian/release/{release}/latest/{debian}": (f"debian-{release}-{debian}", ec2)
    for release in ("12", "13")
    for debian, ec2 in (("amd64", "x86_64"), ("arm64", "arm64"))
}


def ami_id(path):
    """The same path has the same AMI in every run."""
    return "ami-" + hashlib.sha256(path.encode()).hexdigest()[:17]


def add_images_to_moto():
    """Makes the systems that goloo offers known to moto's EC2 and to its Parameter Store.

    A test can't do it through the API: PutParameter refuses paths below /aws, as AWS does.
    """
    from moto.ec2.models import amis
    from moto.ssm import models as ssm

    for path, (name, architecture) in MORE_IMAGES.items():
        amis.AMIS.append(
            {
                "ami_id": ami_id(path),
                "name": name,
                "architecture": architecture,
                "public": True,
                "owner_id": "099720109477",
                "root_device_name": "/dev/sda1" if "ubuntu" in name else "/dev/xvda",
                "root_device_type": "ebs",
                "virtualization_type": "hvm",
                "hypervisor": "xen",
                "creation_date": "2025-01-15T10:30:00.000Z",
            }
        )

    class Parameters(ssm.ParameterDict):
        def __init__(self, account_id, region_name):
            super().__init__(account_id, region_name)
            for path in MORE_IMAGES:
                parameter = ssm.Parameter(
                    account_id=account_id,
                    name=path,
                    value=ami_id(path),
                    parameter_type="String",
                    description=None,
                    allowed_pattern=None,
                    keyid=None,
                    last_modified_date=1736937000.0,
                    version=1,
                    data_type="aws:ec2:image",
                )
                super().__getitem__(path).append(parameter)

    ssm.ParameterDict = Parameters


def exempt_test_key_in_moto():
    from moto.core.authorization import ActionAuthenticatorMixin as Authenticator

    check = Authenticator._authenticate_and_authorize_action

    def check_all_but_tests(self, *args, **kwargs):
        if f"Credential={TEST_KEY}/" not in self.headers.get("Authorization", ""):
            check(self, *args, **kwargs)

    Authenticator._authenticate_and_authorize_action = check_all_but_tests


def serve_moto(listener, threaded):
    os.environ["MOTO_PORT"] = str(listener.getsockname()[1])
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    # A line for each request hides what a failing test has to show.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    add_images_to_moto()
    exempt_test_key_in_moto()
    make_server(
        *listener.getsockname(),
        DomainDispatcherApplication(create_backend_app),
        threaded=threaded,
        request_handler=MotoRequestHandler,
        fd=listener.fileno(),
    ).serve_forever()


def serve_ministack(listener):
    os.environ["GATEWAY_PORT"] = str(listener.getsockname()[1])
    # It removes containers when it starts and ends; those of this machine are none of its business.
    os.environ["DOCKER_HOST"] = "unix:///dev/null/no-docker"
    import asyncio

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    asyncio.run(serve(app, config))


def end_with_stdin():
    while os.read(0, 4096):
        pass
    os._exit(0)


def main():
    threading.Thread(target=end_with_stdin, daemon=True).start()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    # From here on the port takes connections, which wait until the emulator serves them.
    listener.listen(128)
    print(listener.getsockname()[1], flush=True)
    # All that follows goes to the log.
    os.dup2(2, 1)
    match sys.argv[1]:
        case "moto":
            serve_moto(listener, threaded=True)
        case "moto-single-threaded":
            serve_moto(listener, threaded=False)
        case "ministack":
            serve_ministack(listener)
        case other:
            sys.exit(f"no emulator is called {other}")


main()
