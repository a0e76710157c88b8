"""The templates by themselves: cfn-lint, the functions inside them, and how they fit together."""

import subprocess
import unittest

from templates import ALL, DIRECTORY, PROJECT, load

LINT = PROJECT / "target" / "stand-ins" / "cfn-lint" / "bin" / "python"
# The most that CloudFormation takes of a function inside a template.
INLINE = 4096


class TemplatesTest(unittest.TestCase):
    def test_cfn_lint_finds_nothing(self):
        self.assertTrue(LINT.exists(), "cfn-lint is missing: tests/run installs it")
        names = [path.stem for path in ALL]
        self.assertEqual(names, ["client", "ftpgate", "gateway", "network", "transfer"])
        command = [LINT, "-c", "from cfnlint.runner import main; main()", "--include-checks", "W", "--", *ALL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
        for path in ALL:
            self.assertNotIn("cfn-lint", path.read_text(), "nothing is ignored")

    def test_the_functions_inside_are_the_files_beside(self):
        resources = load("transfer")["Resources"]
        for function, name in (("IdentityProvider", "identity-provider"), ("EndpointsFunction", "endpoints")):
            inside = resources[function]["Properties"]["Code"]["ZipFile"]
            self.assertEqual(inside, (DIRECTORY / name / "index.py").read_text(), name)
            self.assertLessEqual(len(inside.encode()), INLINE, name)

    def test_the_parent_knows_every_parameter_and_output_of_its_children(self):
        parent = load("ftpgate")
        children = {}
        for name, resource in parent["Resources"].items():
            stem = name.lower()
            url = resource["Properties"]["TemplateURL"]["Fn::Sub"]
            self.assertTrue(url.endswith(f"/${{TemplatePrefix}}/{stem}.yml"), url)
            children[name] = load(stem)
            parameters = children[name]["Parameters"]
            given = set(resource["Properties"]["Parameters"])
            self.assertLessEqual(given, set(parameters), name)
            needed = {key for key, parameter in parameters.items() if "Default" not in parameter}
            self.assertLessEqual(needed, given, name)
            for key in set(parent["Parameters"]) & given:
                ours, theirs = dict(parent["Parameters"][key]), dict(parameters[key])
                for both in ("Type", "Default", "AllowedValues"):
                    self.assertEqual(ours.get(both), theirs.get(both), f"{name}: {key}")
        for attribute, where in self.attributes(parent):
            name, outputs, key = attribute.split(".")
            self.assertEqual(outputs, "Outputs", where)
            self.assertIn(key, children[name]["Outputs"], where)

    def attributes(self, tree, path=""):
        """Every attribute that is asked for, and where."""
        if isinstance(tree, list):
            for index, item in enumerate(tree):
                yield from self.attributes(item, f"{path}/{index}")
        elif isinstance(tree, dict):
            for key, value in tree.items():
                if key == "Fn::GetAtt":
                    yield ".".join(value), path
                else:
                    yield from self.attributes(value, f"{path}/{key}")
