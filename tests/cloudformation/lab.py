"""Makes the stacks of one mode in a moto that runs, for the lab of the tests in Rust, and prints what it needs to know
of them, in JSON: `lab.py URL MODE TTL PARAMETER=VALUE...`. The TTL is that of all records, in seconds."""

import json
import sys

from aws import Moto
from stacks import Stacks
from templates import load

# The lab's network is there before its AWS.
ADDRESSES = {"InterfaceA": "10.2.1.10", "InterfaceC": "10.2.2.10"}


class Lab(Stacks):
    def __init__(self, url, mode, ttl, **settings):
        self.there, self.ttl = Moto(url), ttl
        super().__init__(mode, **settings)

    def moto(self):
        return self.there

    def template(self, name):
        template = super().template(name)
        for resource, each in template["Resources"].items():
            if resource in ADDRESSES:
                each["Properties"]["PrivateIpAddress"] = ADDRESSES[resource]
            if each["Type"] == "AWS::Route53::RecordSet":
                each["Properties"]["TTL"] = self.ttl
        return template

    def alarms(self):
        """What health checks follow, by their IDs: moto makes no alarm, and forgets which one a check is about."""
        found, resources = {}, load("gateway")["Resources"]
        for name, resource in resources.items():
            check = self.made["gateway"].get(name)
            if resource["Type"] == "AWS::Route53::HealthCheck" and check:
                config = resource["Properties"]["HealthCheckConfig"]
                alarm = resources[config["AlarmIdentifier"]["Name"]["Ref"]]["Properties"]
                # The lab has no others.
                assert config["InsufficientDataHealthStatus"] == "Unhealthy", name
                assert (alarm["Statistic"], alarm["Period"]) == ("Minimum", 60), name
                assert alarm["ComparisonOperator"] == "LessThanThreshold", name
                found[check] = {
                    "namespace": alarm["Namespace"],
                    "metric": alarm["MetricName"],
                    "dimensions": {each["Name"]: self._known(each["Value"]) for each in alarm["Dimensions"]},
                    "threshold": alarm["Threshold"],
                    "periods": alarm["EvaluationPeriods"],
                }
        return found

    def _known(self, value):
        return self.outputs["gateway"][value["Ref"]] if isinstance(value, dict) else value

    def lease(self):
        """The one object that the gateways may write: its bucket and its key."""
        document = self.policies().get("lease")
        if document is None:
            return None
        ((resource,),) = ([each["Resource"]] for each in document["Statement"] if "s3:PutObject" in each["Action"])
        return resource.removeprefix("arn:aws:s3:::").split("/", 1)


if __name__ == "__main__":
    url, mode, ttl, *settings = sys.argv[1:]
    lab = Lab(url, mode, ttl, **dict(setting.split("=", 1) for setting in settings))
    told = {
        "outputs": lab.outputs,
        "made": lab.made,
        "alarms": lab.alarms(),
        "lease": lab.lease(),
        "user_data": lab.user_data(),
    }
    print(json.dumps(told))
