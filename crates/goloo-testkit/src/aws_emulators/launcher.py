"""Runs one AWS emulator for `aws_emulators.rs`, which starts this and holds its stdin.

    launcher.py moto|moto-single-threaded|ministack

It listens on a free port of loopback, writes the port to stdout, and ends when stdin ends: so it can't
outlive the test, however that dies.
"""

import hashlib
import json
import io
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


def mend_authorization_in_moto():
    """Who may what: the test itself may all; the rest is as on AWS.

    moto checks the signature of a form as Python would write it, where a blank is a "+", and takes the parsed
    parameters for the body of a GET: only boto3's are valid to it. And it has one shape of error for all
    services, which AWS's clients for Rust can't read.
    """
    from flask import request as flask_request
    from moto.core.authorization import ActionAuthenticatorMixin as Authenticator
    from moto.iam.access_control import IAMRequest
    from werkzeug.exceptions import HTTPException

    create_request = IAMRequest._create_aws_request

    def create_request_as_it_came(self):
        request = create_request(self)
        request.data = flask_request.environ["goloo.body"]
        return request

    check = Authenticator._authenticate_and_authorize_action

    def check_all_but_tests(self, *args, **kwargs):
        if f"Credential={TEST_KEY}/" in self.headers.get("Authorization", ""):
            return
        try:
            check(self, *args, **kwargs)
        except HTTPException as error:
            error.description = in_the_services_shape(self.service_name, error.error_type, error.message)
            raise

    IAMRequest._create_aws_request = create_request_as_it_came
    Authenticator._authenticate_and_authorize_action = check_all_but_tests


def mend_deletions_in_moto():
    """moto's Route 53 goes by a journal of changes: what was deleted couldn't be made again."""
    from moto.route53.models import ChangeList

    append = ChangeList.append

    def append_and_forget(self, change):
        append(self, change)
        if change["Action"] == "DELETE":
            gone = change["ResourceRecordSet"]
            self[:] = [known for known in self if known["ResourceRecordSet"] != gone]

    ChangeList.append = append_and_forget


def mend_masks_in_moto():
    """moto looks for a NoEcho parameter's value among the keys of such parameters, and so shows all of them."""
    from moto.cloudformation.models import Stack

    listed = Stack.parameter_list.fget

    def masked(self):
        hidden = self.resource_map.no_echo_parameter_keys
        return [
            one | {"ParameterValue": "****"} if one["ParameterKey"] in hidden else one
            for one in listed(self)
        ]

    Stack.parameter_list = property(masked)


def mend_filters_in_ministack():
    """ministack overlooks the filter `instance-id` of DescribeInstances."""
    from ministack.services import ec2

    matches = ec2._matches_filters

    def matches_with_id(instance, filters):
        ids = filters.get("instance-id")
        return matches(instance, filters) and (ids is None or instance["InstanceId"] in ids)

    ec2._matches_filters = matches_with_id


def in_the_services_shape(service, code, message):
    """For the pages that show the shapes see `error` in `aws_answers.rs`."""
    if service == "ssm":
        return json.dumps({"__type": code, "message": message})
    if service != "ec2":
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        return f"<ErrorResponse>{error}<RequestId>test</RequestId></ErrorResponse>"
    if code == "AccessDenied":
        code, message = "UnauthorizedOperation", f"You are not authorized to perform this operation. {message}"
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<Response><Errors>{error}</Errors><RequestID>test</RequestID></Response>"


def keeping_bodies(app):
    """Keeps what came for the check of its signature."""

    def keep(environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["goloo.body"] = body
        environ["wsgi.input"] = io.BytesIO(body)
        return app(environ, start_response)

    return keep


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
    mend_authorization_in_moto()
    mend_deletions_in_moto()
    mend_masks_in_moto()
    make_server(
        *listener.getsockname(),
        keeping_bodies(DomainDispatcherApplication(create_backend_app)),
        threaded=threaded,
        request_handler=MotoRequestHandler,
        fd=listener.fileno(),
    ).serve_forever()


def serve_ministack(listener):
    os.environ["GATEWAY_PORT"] = str(listener.getsockname()[1])
    # It removes containers when it starts and ends; those of this machine are none of its business.
    os.environ["DOCKER_HOST"] = "unix:///dev/null/no-docker"
    # It would listen on a port of its own, on every address.
    os.environ["IOT_MTLS_ENABLED"] = "0"
    import asyncio

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    mend_filters_in_ministack()
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
