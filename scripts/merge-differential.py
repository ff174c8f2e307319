"""Checks with PyYAML, which cloud-init uses, whether documents were merged correctly.

Standard input: JSON, a list of {"before", "after", "additions"}: YAML texts, and the JSON object that was
merged in. Prints a JSON list: null for each correct document, else what is wrong with it.
"""

import json
import sys

import yaml


def typed(value):
    """A value with its types, because 1, 1.0 and True are equal in Python. The order of keys is ignored."""
    if isinstance(value, dict):
        return ["dict", sorted(([typed(key), typed(value)] for key, value in value.items()), key=repr)]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [typed(item) for item in value]]
    if isinstance(value, set):
        return ["set", sorted((typed(item) for item in value), key=repr)]
    return [type(value).__name__, repr(value)]


def expected(before, additions):
    """The user's values with the additions: after the items of lists, except for goloo's bootcmd, which comes first."""
    merged = dict(before or {})
    for key, addition in additions.items():
        if isinstance(addition, list):
            own = merged.get(key) or []
            merged[key] = addition + own if key == "bootcmd" else own + addition
        else:
            merged.setdefault(key, addition)
    return merged


def fault(case):
    try:
        before = yaml.safe_load(case["before"])
    except yaml.YAMLError as error:
        return f"the document itself can't be loaded: {error}"
    try:
        after = yaml.safe_load(case["after"])
    except yaml.YAMLError as error:
        return f"what it became can't be loaded: {error}"
    wanted = expected(before, case["additions"])
    if typed(after) == typed(wanted):
        return None
    wrong = [key for key in {**wanted, **after} if typed(after.get(key)) != typed(wanted.get(key))]
    return f"these differ: {[(key, wanted.get(key), after.get(key)) for key in wrong]}"


json.dump([fault(case) for case in json.load(sys.stdin)], sys.stdout)
