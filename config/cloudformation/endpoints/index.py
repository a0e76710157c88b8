"""Tells CloudFormation the addresses that a Transfer server has in two subnets, A and C."""

import time

import boto3
import cfnresponse
from botocore.config import Config
from botocore.exceptions import ClientError

CONFIG = Config(connect_timeout=5, read_timeout=5)


def handler(event, context):
    properties = event["ResourceProperties"]
    status, data, reason = cfnresponse.SUCCESS, {}, None
    try:
        if event["RequestType"] != "Delete":
            found = patiently(lambda: addresses(properties["ServerId"]))
            data = {zone: found[properties["Subnet" + zone]] for zone in ("A", "C")}
    except Exception as error:  # Whatever it is: CloudFormation would wait for an answer.
        status, reason = cfnresponse.FAILED, f"{type(error).__name__}: {error}"
    print(status, reason, data)
    cfnresponse.send(event, context, status, data, properties.get("ServerId"), reason=reason)


def patiently(ask):
    """A new role's permissions take a while to be in force."""
    for pause in (2, 5, 10, 20):
        try:
            return ask()
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("AccessDeniedException", "UnauthorizedOperation"):
                raise
        time.sleep(pause)
    return ask()


def addresses(server):
    """The endpoint's addresses by subnet."""
    transfer, ec2 = boto3.client("transfer", config=CONFIG), boto3.client("ec2", config=CONFIG)
    details = transfer.describe_server(ServerId=server)["Server"]["EndpointDetails"]
    endpoints = ec2.describe_vpc_endpoints(VpcEndpointIds=[details["VpcEndpointId"]])
    ids = endpoints["VpcEndpoints"][0]["NetworkInterfaceIds"]
    interfaces = ec2.describe_network_interfaces(NetworkInterfaceIds=ids)["NetworkInterfaces"]
    return {interface["SubnetId"]: interface["PrivateIpAddress"] for interface in interfaces}
