"""The templates as CloudFormation reads them, and with what moto cannot make taken out."""

import json
import pathlib
import re

import yaml

PROJECT = pathlib.Path(__file__).resolve().parents[2]
DIRECTORY = PROJECT / "config" / "cloudformation"
ALL = sorted(DIRECTORY.glob("*.yml"))


class Loader(yaml.SafeLoader):
    """YAML with the short forms of CloudFormation's functions."""


def _function(loader, tag, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if tag in ("Ref", "Condition"):
        return {tag: value}
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{tag}": value}


Loader.add_multi_constructor("!", _function)
# A date stays the text that it is.
Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0] != "tag:yaml.org,2002:timestamp"]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(name):
    """A template as a tree, in the long form."""
    return yaml.load((DIRECTORY / f"{name}.yml").read_text(), Loader)


def types(template):
    return {resource["Type"] for resource in template["Resources"].values()}


def without(template, unsupported, stand_ins):
    """The template without resources of those types. `stand_ins` has what others want of them:
    "Server.Arn" is an attribute, "User" a reference."""
    gone = {name for name, resource in template["Resources"].items() if resource["Type"] in unsupported}
    kept = {name: resource for name, resource in template["Resources"].items() if name not in gone}
    return _replace({**template, "Resources": kept}, gone, stand_ins)


def _replace(tree, gone, stand_ins):
    if isinstance(tree, list):
        return [_replace(item, gone, stand_ins) for item in tree]
    if isinstance(tree, str):
        # In Fn::Sub.
        def value(match):
            name = match.group(1)
            return stand_ins[name] if name.split(".")[0] in gone else match.group(0)

        return re.sub(r"\$\{([A-Za-z][A-Za-z0-9.]*)\}", value, tree)
    if not isinstance(tree, dict):
        return tree
    if tree.get("Ref") in gone:
        return stand_ins[tree["Ref"]]
    if tree.get("Fn::GetAtt", [None])[0] in gone:
        return stand_ins[".".join(tree["Fn::GetAtt"])]
    return {key: _replace(value, gone, stand_ins) for key, value in tree.items()}


def body(template):
    return json.dumps(template)
