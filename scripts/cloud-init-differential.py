"""Splits and merges user-data (standard input) with cloud-init's own code.

Prints JSON: "config" (the merged cloud-config), "parts" (content types with their content in base64, as
cloud-init passes them to its handlers), "scripts" and "boothooks" (what it would run: nothing is run here),
"errors" (from its schema).
"""

import base64
import json
import os
import sys
import tempfile

from cloudinit import handlers, helpers, user_data, util
from cloudinit.config.schema import SchemaValidationError, get_schema, validate_cloudconfig_schema
from cloudinit.handlers.cloud_config import CloudConfigPartHandler
from cloudinit.handlers.jinja_template import JinjaTemplatePartHandler
from cloudinit.handlers.shell_script import ShellScriptPartHandler


class DataSource:
    """What the handlers need from a data source."""

    ud_proc = None

    def get_instance_id(self):
        return "reference"

    def _filter_xdata(self, parts):
        return parts


class BootHooks(handlers.Handler):
    """Saves boothooks instead of running them: they are meant for disposable machines."""

    prefixes = ["#cloud-boothook"]

    def __init__(self, **_):
        super().__init__("always")
        self.kept = []

    def handle_part(self, data, ctype, filename, payload, frequency):
        if ctype not in handlers.CONTENT_SIGNALS:
            self.kept.append(payload)


class Cloud:
    """What part handlers need from cloud-init."""

    def __init__(self, datasource):
        self.datasource = datasource


def main():
    blob = sys.stdin.buffer.read()
    folder = tempfile.mkdtemp()
    paths = helpers.Paths({"cloud_dir": folder, "run_dir": folder}, DataSource())
    os.makedirs(paths.get_ipath_cur("scripts"))
    os.makedirs(paths.get_ipath())
    instance_data = {"v1": {"local_hostname": "reference"}, "ds": {}}
    util.write_file(paths.get_runpath("instance_data_sensitive"), json.dumps(instance_data))

    datasource = DataSource()
    datasource.ud_proc = user_data.UserDataProcessor(paths)
    options = {"paths": paths, "datasource": datasource}
    boothooks = BootHooks()
    known = [CloudConfigPartHandler(**options), ShellScriptPartHandler(**options), boothooks]
    registered = helpers.ContentHandlers()
    for handler in [*known, JinjaTemplatePartHandler(**options, sub_handlers=known)]:
        registered.register(handler)

    message = datasource.ud_proc.process(blob)
    parts = [
        {"type": part.get_content_type(), "content": base64.b64encode(part.get_payload(decode=True)).decode()}
        for part in message.walk()
        if part.get_content_maintype() != "multipart"
    ]
    for handler in known:
        handlers.call_begin(handler, None, "once")
    handler_folder = os.path.join(folder, "handlers")
    os.makedirs(handler_folder)
    sys.path.insert(0, handler_folder)
    data = {"handlers": registered, "handlerdir": handler_folder, "data": Cloud(datasource), "frequency": None,
            "excluded": [], "handlercount": 0}
    handlers.walk(message, handlers.walker_callback, data=data)
    for handler in known:
        handlers.call_end(handler, None, "once")

    config = util.load_yaml(util.load_file(paths.get_ipath("cloud_config")), default={})
    errors = []
    try:
        validate_cloudconfig_schema(config, get_schema(), strict=True, log_details=False)
    except SchemaValidationError as error:
        errors.append(str(error))
    folder = paths.get_ipath_cur("scripts")
    scripts = {name: util.load_file(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}
    json.dump({"config": config, "parts": parts, "scripts": scripts, "boothooks": boothooks.kept, "errors": errors},
              sys.stdout)


main()
