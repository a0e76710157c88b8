"""The permissions of the gateways' role are config/iam's, word for word."""

import json
import string
import unittest

from aws import REGION
from stacks import PROBE_SECRET, PROBING, PROVING, Stacks
from templates import PROJECT

IAM = PROJECT / "config" / "iam"
# What the gateways need in each mode, whatever else is asked for.
NEEDED = {"lease-record": {"lease", "route53"}, "lease-route": {"lease", "route"}, "dns": {"cloudwatch"}}


class PermissionsTest(unittest.TestCase):
    def document(self, document, /, **values):
        """A document, filled in as README.md says."""
        return json.loads(string.Template((IAM / f"{document}.json").read_text()).substitute(values))

    def test_the_role_has_what_the_mode_needs_and_no_more(self):
        used = set()
        for mode, needed in NEEDED.items():
            with self.subTest(mode):
                stacks = Stacks.of(mode, **PROBING, **PROVING)
                policies = stacks.policies()
                package = policies.pop("package")
                self.assertEqual(package["Statement"][0]["Resource"], "arn:aws:s3:::my-packages/ftpgate.rpm")
                self.assertEqual(set(policies), needed | {"audit-archive", "probe-bucket", "probe-secret", "verify"})
                values = {
                    "region": REGION,
                    "account": "123456789012",
                    "lease_bucket": stacks.made["gateway"].get("LeaseBucket"),
                    "zone_id": stacks.outputs["network"]["HostedZone"],
                    "name": "gw.ftp-transferfamily.com",
                    "route_table": stacks.outputs["network"]["GatewayRouteTable"],
                    "namespace": "ftpgate",
                    "bucket": stacks.made["transfer"]["Bucket"],
                    "prefix": "home/ftpgate-probe/",
                    "secret": PROBE_SECRET,
                    "audit_bucket": "my-audit-trail",
                    "audit_prefix": "ftpgate/audit/",
                    "verify_bucket": stacks.made["transfer"]["Bucket"],
                    "verify_prefix": "home/",
                }
                for name, policy in policies.items():
                    self.assertEqual(policy, self.document(name, **values), name)
                used |= set(policies)
        # The last one is for whoever runs `ftpgate init`.
        self.assertEqual({path.stem for path in IAM.glob("*.json")}, used | {"init"})

    def test_no_document_has_a_wildcard_for_an_action(self):
        for path in IAM.glob("*.json"):
            document = json.loads(path.read_text())
            for statement in document["Statement"]:
                actions = statement["Action"]
                for action in [actions] if isinstance(actions, str) else actions:
                    self.assertNotRegex(action, r"[*?]", path.name)
