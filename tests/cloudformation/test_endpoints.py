"""The function that tells CloudFormation where a server's endpoints are, with Transfer and EC2 as moto has them."""

import contextlib
import importlib.util
import io
import os
import sys
import types
import unittest
from unittest import mock

from botocore.exceptions import ClientError

from aws import ENVIRONMENT, REGION, moto
from templates import DIRECTORY


class EndpointsTest(unittest.TestCase):
    def setUp(self):
        self.answers = []
        # Lambda puts this module beside functions that are inside a template.
        response = types.ModuleType("cfnresponse")
        response.SUCCESS, response.FAILED = "SUCCESS", "FAILED"
        response.send = lambda event, context, status, data, physical, reason=None: self.answers.append(
            (status, data, physical, reason)
        )
        environment = {**ENVIRONMENT, "AWS_ENDPOINT_URL": moto().url}
        self.enterContext(mock.patch.dict(os.environ, environment))
        self.enterContext(mock.patch.dict(sys.modules, {"cfnresponse": response}))
        spec = importlib.util.spec_from_file_location("index", DIRECTORY / "endpoints" / "index.py")
        self.index = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.index)

    def ask(self, request, **properties):
        event = {"RequestType": request, "ResourceProperties": properties}
        with contextlib.redirect_stdout(io.StringIO()):
            self.index.handler(event, None)
        return self.answers.pop()

    def server(self):
        """A server with endpoints in two subnets: its ID, and the subnets with the addresses."""
        ec2 = moto().client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.2.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.2.{number}.0/24", AvailabilityZone=REGION + zone)["Subnet"]
            for number, zone in ((3, "a"), (4, "c"))
        ]
        ids = [subnet["SubnetId"] for subnet in subnets]
        service = f"com.amazonaws.{REGION}.transfer.server"
        endpoint = ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=service, VpcEndpointType="Interface", SubnetIds=ids)
        details = {"VpcId": vpc, "SubnetIds": ids, "VpcEndpointId": endpoint["VpcEndpoint"]["VpcEndpointId"]}
        transfer = moto().client("transfer")
        server = transfer.create_server(Protocols=["FTP"], EndpointType="VPC", EndpointDetails=details)["ServerId"]
        found = ec2.describe_network_interfaces(Filters=[{"Name": "subnet-id", "Values": ids}])["NetworkInterfaces"]
        return server, {each["SubnetId"]: each["PrivateIpAddress"] for each in found}

    def test_the_address_in_each_subnet_is_told(self):
        server, expected = self.server()
        (a, address_a), (c, address_c) = expected.items()
        for request in ("Create", "Update"):
            told = self.ask(request, ServerId=server, SubnetA=a, SubnetC=c)
            self.assertEqual(told, ("SUCCESS", {"A": address_a, "C": address_c}, server, None))

    def test_what_cannot_be_told_fails_with_the_reason(self):
        server, _ = self.server()
        status, _, _, reason = self.ask("Create", ServerId=server, SubnetA="subnet-1", SubnetC="subnet-2")
        self.assertEqual((status, reason), ("FAILED", "KeyError: 'subnet-1'"))
        status, _, _, reason = self.ask("Create", ServerId="s-fedcba98765432100", SubnetA="x", SubnetC="y")
        self.assertEqual(status, "FAILED")
        self.assertRegex(reason, "ClientError: .*DescribeServer")

    def test_permissions_are_waited_for_but_not_for_ever(self):
        def denied(code):
            return ClientError({"Error": {"Code": code, "Message": "of the tests"}}, "DescribeServer")

        early = [denied("AccessDeniedException"), denied("UnauthorizedOperation"), {"a": "10.2.3.10", "c": "10.2.4.10"}]
        for answers, expected, pauses in (
            (early, "SUCCESS", [2, 5]),
            ([denied("AccessDeniedException")] * 5, "FAILED", [2, 5, 10, 20]),
            ([denied("ThrottlingException")], "FAILED", []),
        ):
            with (
                mock.patch.object(self.index, "addresses", side_effect=answers),
                mock.patch.object(self.index.time, "sleep") as slept,
            ):
                status, *_ = self.ask("Create", ServerId="s-fedcba98765432100", SubnetA="a", SubnetC="c")
            self.assertEqual((status, [call.args[0] for call in slept.call_args_list]), (expected, pauses))

    def test_nothing_is_asked_at_the_end(self):
        with mock.patch.object(self.index, "addresses", side_effect=AssertionError):
            told = self.ask("Delete", ServerId="s-fedcba98765432100", SubnetA="x", SubnetC="y")
        self.assertEqual(told, ("SUCCESS", {}, "s-fedcba98765432100", None))
