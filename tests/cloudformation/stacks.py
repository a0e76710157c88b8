"""The stacks of ftpgate in moto. It makes nested stacks, but tells nothing of their outputs: what ftpgate.yml
gives to each is worked out here."""

import base64
import functools
import itertools
import re

from aws import REGION, ZONES, moto
from templates import body, load, without

PACKAGE = "s3://my-packages/ftpgate.rpm"
SERVER = "s-0123456789abcdef0"
MODES = ("lease-record", "lease-route", "dns")

# For probes that store a file, and what comes of it.
PROBING = {"ProbeDepth": "round-trip"}
PROBE_SECRET = f"aws/transfer/{SERVER}/ftpgate-probe"

# For gateways that archive their audit lines and look for uploads.
PROVING = {"AuditBucket": "my-audit-trail", "VerifyUploads": "true"}

# What moto's CloudFormation does not know.
UNSUPPORTED = {
    "AWS::CloudWatch::Alarm",
    "AWS::EC2::InstanceConnectEndpoint",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::TransitGatewayAttachment",
    "AWS::EC2::TransitGatewayRoute",
    "AWS::EC2::TransitGatewayRouteTable",
    "AWS::EC2::TransitGatewayRouteTableAssociation",
    "AWS::EC2::TransitGatewayRouteTablePropagation",
    "AWS::S3::BucketPolicy",
    "AWS::SecretsManager::Secret",
    "AWS::Transfer::Server",
    # It is a function of ours, which moto would run in Docker; test_endpoints.py runs it.
    "Custom::TransferEndpoints",
}
# What the rest wants to know of those.
STAND_INS = {
    "AlarmA": "alarm-a",
    "AlarmC": "alarm-c",
    "ClientAttachment": "tgw-attach-a",
    "Endpoints.A": "10.2.3.10",
    "Endpoints.C": "10.2.4.10",
    "GatewayAttachment": "tgw-attach-c",
    "Server.Arn": f"arn:aws:transfer:{REGION}:123456789012:server/{SERVER}",
    "Server.ServerId": SERVER,
    "TransitRouteTable": "tgw-rtb-1",
    "User": f"arn:aws:secretsmanager:{REGION}:123456789012:secret:aws/transfer/{SERVER}/alice-abcdef",
}


def reduced(name):
    """A template as moto can make it."""
    template = without(load(name), UNSUPPORTED, STAND_INS)
    for resource in template["Resources"].values():
        # moto does not look for it in the launch template.
        if resource["Type"] == "AWS::EC2::Instance":
            resource["Properties"].setdefault("ImageId", "ami-12c6146b")
    return template


class Stacks:
    """All of them for one mode, with parameters of ftpgate.yml or of gateway.yml; `outputs` and `made` are by
    template."""

    _numbers = itertools.count(1)

    @classmethod
    @functools.cache
    def of(cls, mode, **settings):
        """The same for all who ask for the same."""
        return cls(mode, **settings)

    def __init__(self, mode, **settings):
        self.number, self.outputs, self.made = next(self._numbers), {}, {}
        self.parent = load("ftpgate")
        settings = {"HaMode": mode, "TemplateBucket": "my-templates", "PackageUrl": PACKAGE, **ZONES, **settings}
        defaults = {key: each["Default"] for key, each in self.parent["Parameters"].items() if "Default" in each}
        self.parameters = {**defaults, **settings}
        for name in ("Network", "Client", "Transfer", "Gateway"):
            given = self.parent["Resources"][name]["Properties"]["Parameters"]
            given = {key: self._value(value) for key, value in given.items()}
            if name == "Gateway":
                known = load("gateway")["Parameters"]
                given |= {key: value for key, value in settings.items() if key in known}
            self._create(name.lower(), given)

    def _create(self, name, parameters):
        stack = f"{name}-{self.number}"
        self.outputs[name], self.made[name] = self.moto().create(stack, body(self.template(name)), parameters)

    def moto(self):
        """Where they are made."""
        return moto()

    def template(self, name):
        """What they are made from."""
        return reduced(name)

    def _value(self, tree):
        """What an expression of ftpgate.yml stands for."""
        if isinstance(tree, str):
            return tree
        ((function, argument),) = tree.items()
        if function == "Ref":
            return self.parameters[argument]
        if function == "Fn::GetAtt":
            stack, _, output = ".".join(argument).split(".")
            return self.outputs[stack.lower()][output]
        if function == "Fn::Sub":
            def known(match):
                name = match.group(1)
                return self._value({"Fn::GetAtt": [name]} if "." in name else {"Ref": name})

            return re.sub(r"\$\{([A-Za-z.]+)\}", known, argument)
        condition, then, otherwise = argument
        assert function == "Fn::If", function
        one, other = self.parent["Conditions"][condition]["Fn::Equals"]
        return self._value(then if self._value(one) == self._value(other) else otherwise)

    def user_data(self):
        """The script that both gateways run first."""
        ec2 = self.moto().client("ec2")
        template = self.made["gateway"]["LaunchTemplate"]
        versions = ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
        return base64.b64decode(versions[0]["LaunchTemplateData"]["UserData"]).decode()

    def policies(self):
        """The documents of the gateways' role by name."""
        iam, role = self.moto().client("iam"), self.made["gateway"]["Role"]
        names = iam.list_role_policies(RoleName=role)["PolicyNames"]
        return {name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names}
