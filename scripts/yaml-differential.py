"""Reports which texts PyYAML, which cloud-init uses, can load as a cloud-config document.

Standard input: JSON, a list of texts. Prints a JSON list: null for each that is one, else why it isn't. cloud-init
also saves what it loads as JSON, which can't represent a value that contains itself.
"""

import json
import sys

import yaml


def plain(value):
    """A value that JSON can't represent, as a string."""
    return str(value)


def fault(text):
    try:
        value = yaml.safe_load(text)
    # Invalid values of known types raise the exceptions of Python's own functions.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if value is not None and not isinstance(value, dict):
        return "not a mapping"
    try:
        json.dumps(value, skipkeys=True, default=plain)
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return None


json.dump([fault(text) for text in json.load(sys.stdin)], sys.stdout)
