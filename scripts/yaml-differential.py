"""Says which texts PyYAML, with which cloud-init reads, can load as a cloud-config document.

Standard input: JSON, a list of texts. Prints a JSON list: null for each that is one, else why it isn't. cloud-init
also keeps what it loads as JSON, which can't hold a value that contains itself.
"""

import json
import sys

import yaml


def plain(value):
    """What JSON has no word for, as a text."""
    return str(value)


def fault(text):
    try:
        value = yaml.safe_load(text)
    # Bad values of known types raise whatever Python's own functions raise.
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
