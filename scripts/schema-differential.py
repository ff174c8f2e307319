"""Checks cloud-config documents with cloud-init's own schema.

Standard input: JSON, a list of texts. Prints a JSON list: null for each that can't be loaded, else the errors,
each as [top-level key, message]; deprecations don't count. The schema is that of the unpacked cloud-init (22.4),
extended by what later versions (25.1) also accept.
"""

import json
import sys

import yaml
from cloudinit.config.schema import SchemaDeprecationError, get_jsonschema_validator, get_schema

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}


def widened(schema):
    """The schema, extended by what only later versions accept."""
    defs = schema["$defs"]
    user = defs["users_groups.user"]["properties"]
    user["doas"] = {**TEXTS, "minItems": 1}
    user["sudo"]["oneOf"].append({"type": "array", "items": {"type": ["string", "null"]}})
    user.update({name.replace("_", "-"): value for name, value in user.items()})
    del defs["cc_users_groups"]["properties"]["users"]["minItems"]

    defs["cc_locale"]["properties"]["locale"] = {"type": ["boolean", "string"]}
    ntp = defs["cc_ntp"]["properties"]["ntp"]["properties"]
    ntp["peers"] = ntp["allow"] = {**TEXTS, "uniqueItems": True}
    disk = defs["cc_disk_setup"]["properties"]["disk_setup"]["patternProperties"]["^.+$"]
    layout = disk["properties"]["layout"]["oneOf"][2]["items"]["oneOf"][1]
    layout["items"] = {"type": ["integer", "string"]}

    package = {"oneOf": [{**TEXTS, "minItems": 2, "maxItems": 2}, TEXT]}
    of_manager = {"type": "array", "items": package}
    packages = defs["cc_package_update_upgrade_install"]["properties"]["packages"]
    packages["items"]["oneOf"].append({
        "type": "object",
        "properties": {"apt": of_manager, "snap": of_manager},
        "additionalProperties": False,
    })
    files = defs["cc_write_files"]["properties"]["write_files"]["items"]["properties"]
    files["source"] = {
        "type": "object",
        "properties": {"uri": TEXT, "headers": {"type": "object", "additionalProperties": TEXT}},
        "required": ["uri"],
        "additionalProperties": False,
    }
    return schema


def main():
    validator, format_checker = get_jsonschema_validator()
    validator = validator(widened(get_schema()), format_checker=format_checker())

    def errors(text):
        try:
            config = yaml.safe_load(text) or {}
        except Exception:
            return None
        # One key at a time: if the schema itself fails on a value (a number as key), the other keys are still checked.
        found = []
        for key, value in config.items():
            try:
                each = list(validator.iter_errors({key: value}))
                each = [error.message for error in each if not isinstance(error, SchemaDeprecationError)]
            except TypeError as error:
                each = [f"TypeError: {error}"]
            found += [[str(key), message] for message in each]
        return found

    json.dump([errors(text) for text in json.load(sys.stdin)], sys.stdout)


main()
