"""moto as a server."""

import atexit
import functools
import os
import random
import socket
import subprocess
import sys
import time

import boto3

REGION = "ap-northeast-1"
ZONES = {"ZoneA": f"{REGION}a", "ZoneC": f"{REGION}c"}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAFTPGATETESTS",
    "AWS_SECRET_ACCESS_KEY": "the-secret-key-of-the-tests",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@functools.cache
def moto():
    """One for all tests."""
    started = Started()
    atexit.register(started.stop)
    return started


class Moto:
    """One that runs."""

    def __init__(self, url):
        self.url = url

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
        )

    def create(self, name, template, parameters):
        """Creates a stack: its outputs, and its resources by name."""
        cloudformation = self.client("cloudformation")
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        cloudformation.create_stack(
            StackName=name, TemplateBody=template, Parameters=given, Capabilities=["CAPABILITY_IAM"]
        )
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        assert stack["StackStatus"] == "CREATE_COMPLETE", stack
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        resources = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
        # moto lists those whose condition does not hold, as nothing; and a permission has no ID there.
        made = {r["LogicalResourceId"]: r.get("PhysicalResourceId") for r in resources if "LogicalResourceId" in r}
        return outputs, made


class Started(Moto):
    """One of its own."""

    def __init__(self):
        address = ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])
        super().__init__(f"http://{address}:5000")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", address, "-p", "5000"],
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((address, 5000)).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise
                time.sleep(0.05)

    def stop(self):
        self._process.kill()
        self._process.wait()
