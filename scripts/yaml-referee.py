"""Says which texts PyYAML, with which cloud-init reads, can read as a cloud-config document.

Standard input: JSON, a list of texts. Prints a JSON list: null for each that is one, else why it isn't. What
its values mean isn't looked at (unknown tags, dates that there aren't), but for tags that end in a comma,
which nobody knows.
"""

import json
import sys

import yaml


def tags(node, seen):
    if id(node) in seen:
        return
    seen.add(id(node))
    yield node.tag
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    else:
        children = []
    for child in children:
        yield from tags(child, seen)


def fault(text):
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    if root is None or root.tag == "tag:yaml.org,2002:null":
        return None
    if not isinstance(root, yaml.MappingNode):
        return "not a mapping"
    if any("," in tag.removeprefix("tag:yaml.org,") for tag in tags(root, set())):
        return "a tag with a comma"
    return None


json.dump([fault(text) for text in json.load(sys.stdin)], sys.stdout)
