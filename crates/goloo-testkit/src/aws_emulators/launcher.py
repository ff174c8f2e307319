"""Runs AWS emulators for tests.

    launcher.py moto|moto-single-threaded|ministack

runs one emulator on a free port of loopback, writes the port to stdout, and exits when stdin ends.

    launcher.py prefork SOCKET

serves `aws_emulators.rs`. Importing moto takes over 2 s, a fork of a process that has imported it takes none, so
all tests share one such process. A test connects to the Unix socket and sends a line, `KIND HOME LOG`; the answer is
the emulator's port and process id. The emulator exits when the test closes the connection, which the kernel does
however the test ends; this process exits when it has not been asked for IDLE seconds.
"""

import hashlib
import json
import io
import logging
import gc
import os
import signal
import socket
import sys
import threading
import traceback

# How long `prefork` waits for the next test, in seconds.
IDLE = 60

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


def mend_updates_in_moto():
    """Updates of stacks as on AWS: a security group keeps its id, an instance its disk, and outputs follow.

    moto replaces security groups, ignores changes of instances, and keeps the outputs of the first template.
    """
    from moto.cloudformation.models import ChangeSet
    from moto.ec2.models.instances import Instance
    from moto.ec2.models.security_groups import SecurityGroup

    def update_group(cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name):
        original_resource.ingress_rules.clear()
        for rule in cloudformation_json["Properties"].get("SecurityGroupIngress", []):
            original_resource.ec2_backend.authorize_security_group_ingress(
                group_name_or_id=original_resource.id,
                ip_protocol=rule["IpProtocol"],
                from_port=rule["FromPort"],
                to_port=rule["ToPort"],
                ip_ranges=rule.get("CidrIp", []),
                vpc_id=original_resource.vpc_id,
            )
        return original_resource

    def update_instance(cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name):
        properties = cloudformation_json["Properties"]
        if properties["ImageId"] != original_resource.image_id:
            raise NotImplementedError("AWS would replace the instance: it has another AMI")
        original_resource.instance_type = properties["InstanceType"]
        behavior = properties.get("InstanceInitiatedShutdownBehavior", "stop")
        original_resource.instance_initiated_shutdown_behavior = behavior
        return original_resource

    apply = ChangeSet.apply

    def apply_with_outputs(self):
        apply(self)
        self.stack.template = self.template
        self.stack._parse_template()
        self.stack.output_map = self.stack._create_output_map()

    SecurityGroup.update_from_cloudformation_json = classmethod(update_group)
    Instance.update_from_cloudformation_json = classmethod(update_instance)
    ChangeSet.apply = apply_with_outputs


def mend_change_sets_in_moto():
    """A stack has one change set of a name, and none after an execution; each says what it would replace.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-updating-stacks-changesets.html
    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ResourceChange.html
    """
    from moto.cloudformation.exceptions import AlreadyExistsException, CloudFormationError
    from moto.cloudformation.models import ChangeSet, CloudFormationBackend

    class ChangeSetNotFound(CloudFormationError):
        code = "ChangeSetNotFound"

    def find(self, change_set_name):
        for id, change_set in self.change_sets.items():
            if change_set_name in (id, change_set.change_set_name):
                return change_set
        raise ChangeSetNotFound(f"ChangeSet [{change_set_name}] does not exist")

    create = CloudFormationBackend.create_change_set

    def create_one(self, stack_name, change_set_name, **others):
        stack = self.get_stack(stack_name)
        for known in self.change_sets.values():
            if known.change_set_name == change_set_name and known.stack is stack:
                raise AlreadyExistsException(f"ChangeSet {change_set_name} already exists")
        return create(self, stack.name, change_set_name, **others)

    execute = CloudFormationBackend.execute_change_set

    def execute_and_forget(self, change_set_name, stack_name=None):
        stack = find(self, change_set_name).stack
        execute(self, change_set_name, stack_name)
        for id in [id for id, known in self.change_sets.items() if known.stack is stack]:
            del self.change_sets[id]

    def delete(self, change_set_name):
        del self.change_sets[find(self, change_set_name).change_set_id]

    def detail(name, recreation, cause=None):
        target = {"Attribute": "Properties", "Name": name, "RequiresRecreation": recreation}
        if cause is None:
            return {"Target": target, "Evaluation": "Static", "ChangeSource": "DirectModification"}
        return {
            "Target": target,
            "Evaluation": "Dynamic",
            "ChangeSource": "ResourceAttribute",
            "CausingEntity": cause,
        }

    # What changes of goloo's properties take; those of a resource's details can't be known in advance.
    RECREATION = {
        "SecurityGroupIngress": "Never",
        "CreditSpecification": "Never",
        "InstanceInitiatedShutdownBehavior": "Never",
        "InstanceType": "Conditionally",
    }
    REPLACEMENT = {"Never": "False", "Conditionally": "Conditional", "Always": "True"}
    diff = ChangeSet.diff

    def diff_with_details(self):
        changes = diff(self)
        old = self.stack.resource_map._resource_json_map
        for change in changes:
            if change.action != "Modify":
                continue
            name = change.logical_resource_id
            before, after = old[name]["Properties"], self.template_dict["Resources"][name]["Properties"]
            keys = sorted(key for key in before | after if before.get(key) != after.get(key))
            change.details = [detail(key, RECREATION.get(key, "Always")) for key in keys]
            worst = max((RECREATION.get(key, "Always") for key in keys), key=list(REPLACEMENT).index)
            change.replacement = REPLACEMENT[worst]
        groups = [c for c in changes if c.resource_type == "AWS::EC2::SecurityGroup" and c.action == "Modify"]
        instances = [name for name, json in old.items() if json["Type"] == "AWS::EC2::Instance"]
        for group in groups:
            for name in instances:
                changed = [c for c in changes if c.logical_resource_id == name]
                change = changed[0] if changed else type(group)("Modify", name, "AWS::EC2::Instance")
                if not changed:
                    change.details, change.replacement = [], "Conditional"
                    changes.append(change)
                change.details.append(
                    detail("NetworkInterfaces", "Always", f"{group.logical_resource_id}.GroupId")
                )
                if change.replacement == "False":
                    change.replacement = "Conditional"
        return changes

    CloudFormationBackend.create_change_set = create_one
    CloudFormationBackend.execute_change_set = execute_and_forget
    CloudFormationBackend.delete_change_set = delete
    CloudFormationBackend.describe_change_set = find
    ChangeSet.diff = diff_with_details


def mend_images_in_moto():
    """CreateImage: names are unique, an image is pending at first, it has the disk of its instance and a tagged snapshot.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html
    """
    from moto.ec2.exceptions import EC2ClientError
    from moto.ec2.models.amis import Ami, AmiBackend

    create, describe = AmiBackend.create_image, AmiBackend.describe_images
    mappings = Ami.block_device_mappings.fget

    def create_as_on_aws(self, instance_id, name, description, tag_specifications):
        if any(ami.name == name and ami.owner_id == self.account_id for ami in self.amis.values()):
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use")
        of_image = [one for one in tag_specifications if one["ResourceType"] != "snapshot"]
        ami = create(self, instance_id, name, description, of_image)
        instance = self.get_instance(instance_id)
        ami.root_device_name, ami.root_device_type, ami.state = instance.root_device_name, "ebs", "pending"
        root = dict(instance.get_block_device_mapping)[ami.root_device_name]
        ami.ebs_snapshot.volume.size = self.get_volume(root.volume_id).size
        for one in tag_specifications:
            for tag in one["Tags"] if one["ResourceType"] == "snapshot" else []:
                ami.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
        ami.polls = 0
        return ami

    def describe_as_on_aws(self, *args, **kwargs):
        for ami in list(self.amis.values()):
            if ami.state == "pending":
                ami.polls += 1
                ami.state = "pending" if ami.polls < 2 else "available"
        return describe(self, *args, **kwargs)

    def mappings_of_disk(self):
        found = mappings(self)
        found[0]["Ebs"]["VolumeSize"] = self.ebs_snapshot.volume.size
        return found

    AmiBackend.create_image = create_as_on_aws
    AmiBackend.describe_images = describe_as_on_aws
    Ami.block_device_mappings = property(mappings_of_disk)


def mend_groups_in_moto():
    """An instance of a stack is in the groups of its interface, and a group with an instance in it can't be deleted.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSecurityGroup.html
    """
    from moto.ec2.exceptions import DependencyViolationError
    from moto.ec2.models.instances import Instance
    from moto.ec2.responses.security_groups import SecurityGroups

    create = Instance.create_from_cloudformation_json.__func__

    def create_in_groups(cls, resource_name, cloudformation_json, *args, **kwargs):
        instance = create(cls, resource_name, cloudformation_json, *args, **kwargs)
        for spec in cloudformation_json["Properties"].get("NetworkInterfaces", []):
            groups = [instance.ec2_backend.get_security_group_from_id(id) for id in spec.get("GroupSet", [])]
            instance.nics[int(spec["DeviceIndex"])]._group_set = groups
        return instance

    delete = SecurityGroups.delete_security_group

    def delete_unused(self):
        id = self._get_param("GroupId")
        for interface in self.ec2_backend.get_all_network_interfaces(filters={"group-id": [id]}):
            # moto keeps the interfaces of terminated instances.
            if interface.instance is not None and interface.instance.state != "terminated":
                raise DependencyViolationError(f"resource {id} has a dependent object")
        return delete(self)

    Instance.create_from_cloudformation_json = classmethod(create_in_groups)
    SecurityGroups.delete_security_group = delete_unused


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


def prepare_moto():
    """Imports moto and changes what differs from AWS."""
    from moto.cloudformation import models as _all_services
    from moto.moto_server.werkzeug_app import create_backend_app

    # A line for each request hides what a failing test has to show.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    add_images_to_moto()
    mend_authorization_in_moto()
    mend_deletions_in_moto()
    mend_masks_in_moto()
    mend_updates_in_moto()
    mend_change_sets_in_moto()
    mend_images_in_moto()
    mend_groups_in_moto()
    # Fills moto's caches of each service's routes.
    for service in ("cloudformation", "dynamodb", "ec2", "iam", "route53", "s3", "ssm", "sts"):
        create_backend_app(service)


def serve_moto(listener, threaded):
    os.environ["MOTO_PORT"] = str(listener.getsockname()[1])
    from moto.moto_api._internal import mock_random
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    # A fork would draw the same ids as every other.
    mock_random.seed()
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


def exit_at_end_of(file):
    while os.read(file, 4096):
        pass
    os._exit(0)


def bind():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    # From here on the port takes connections, which wait until the emulator serves them.
    listener.listen(128)
    return listener


def serve(kind, listener):
    match kind:
        case "moto":
            serve_moto(listener, threaded=True)
        case "moto-single-threaded":
            serve_moto(listener, threaded=False)
        case "ministack":
            serve_ministack(listener)
        case other:
            sys.exit(f"no emulator is called {other}")


def serve_for(test, kind, home, log):
    """Runs in the fork: serves one test until it closes its connection."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), 1)
    os.dup2(1, 2)
    os.environ |= {"HOME": home, "TMPDIR": home}
    os.chdir(home)
    listener = bind()
    test.sendall(f"{listener.getsockname()[1]} {os.getpid()}\n".encode())
    threading.Thread(target=exit_at_end_of, args=(test.fileno(),), daemon=True).start()
    serve(kind, listener)


def prefork(path):
    prepare_moto()
    # The kernel reaps the forks.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    door = socket.socket(socket.AF_UNIX)
    # A path of a Unix socket is short: this one is relative to its folder.
    os.chdir(os.path.dirname(path))
    door.bind(os.path.basename(path))
    door.listen(128)
    door.settimeout(IDLE)
    while True:
        try:
            test, _ = door.accept()
        except TimeoutError:
            os.unlink(os.path.basename(path))
            return
        test.settimeout(None)
        words = test.makefile().readline().split()
        if len(words) == 3 and os.fork() == 0:
            door.close()
            try:
                serve_for(test, *words)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        test.close()


def main():
    if sys.argv[1] == "prefork":
        return prefork(sys.argv[2])
    threading.Thread(target=exit_at_end_of, args=(0,), daemon=True).start()
    listener = bind()
    print(listener.getsockname()[1], flush=True)
    # All that follows goes to the log.
    os.dup2(2, 1)
    if sys.argv[1] != "ministack":
        prepare_moto()
    serve(sys.argv[1], listener)


main()
