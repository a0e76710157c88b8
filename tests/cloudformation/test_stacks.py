"""Every resource that moto can make is made there, in every mode, and what it is for can be seen."""

import unittest

from moto.cloudformation import parsing

from aws import REGION, moto
from stacks import MODES, PROBING, PROVING, SERVER, UNSUPPORTED, Stacks, reduced
from templates import ALL, load, types

# The resources that are there in some modes only.
ONLY = {
    "network": {
        "lease-record": {"Peering", "PeeringToClients", "PeeringToGateways", "Route53Endpoint"},
        "lease-route": {
            "Ec2Endpoint", "TransitGateway", "TransitToClients", "TransitToGateways", "TransitToOverlay",
        },
        "dns": {"CloudWatchEndpoint", "Peering", "PeeringToClients", "PeeringToGateways"},
    },
    "gateway": {
        "lease-record": {"LeaseBucket", "LeasePolicy", "Route53Policy"},
        "lease-route": {"LeaseBucket", "LeasePolicy", "OverlayRecord", "OverlayRoute", "RoutePolicy"},
        "dns": {"CloudwatchPolicy", "HealthA", "HealthC", "PrimaryRecord", "SecondaryRecord"},
    },
}  # fmt: skip
# And those that are there when something else is asked for.
ASKED_FOR = {
    "network": {"SecretsManagerEndpoint"},
    "gateway": {"AuditArchivePolicy", "Monitoring", "ProbeBucketPolicy", "ProbeSecretPolicy", "VerifyPolicy"},
}


class StacksTest(unittest.TestCase):
    def test_the_list_of_what_moto_cannot_make_is_exact(self):
        used = set().union(*(types(load(path.stem)) for path in ALL if path.stem != "ftpgate"))
        self.assertEqual(UNSUPPORTED, used - set(parsing.get_model_map()))

    def test_all_others_are_made_in_every_mode(self):
        for mode in MODES:
            with self.subTest(mode):
                stacks = Stacks.of(mode)
                for name, made in stacks.made.items():
                    sometimes = ONLY.get(name, {})
                    missing = set().union(ASKED_FOR.get(name, set()), *sometimes.values())
                    missing -= sometimes.get(mode, set())
                    self.assertEqual(set(made), set(reduced(name)["Resources"]) - missing, name)
                self.check_outputs(stacks)
                getattr(self, "check_" + mode.replace("-", "_"))(stacks)

    def check_outputs(self, stacks):
        for name, outputs in stacks.outputs.items():
            self.assertEqual(set(outputs), set(load(name)["Outputs"]), name)
        gateway, transfer = stacks.outputs["gateway"], stacks.outputs["transfer"]
        self.assertTrue(gateway["AddressA"].startswith("10.2.1."), gateway)
        self.assertTrue(gateway["AddressC"].startswith("10.2.2."), gateway)
        self.assertEqual(gateway["NextTransfer"], "curl -v --user alice -T test.txt ftp://gw.ftp-transferfamily.com/")
        self.assertIn(stacks.made["gateway"]["InstanceA"], gateway["NextStatusA"])
        instance = stacks.made["client"]["Instance"]
        expected = f"aws ssm start-session --region {REGION} --target {instance}"
        self.assertEqual(stacks.outputs["client"]["NextShell"], expected)
        self.assertEqual(
            transfer["NextPassword"],
            f"aws secretsmanager get-secret-value --region {REGION} --secret-id aws/transfer/{SERVER}/alice "
            "--query SecretString --output text",
        )

    def check_lease_record(self, stacks):
        self.assertEqual(self.routes(stacks, "ClientRouteTable"), {"10.1.0.0/16", "10.2.0.0/16"})
        self.assertEqual(self.records(stacks), {})

    def check_lease_route(self, stacks):
        overlay = "10.99.0.1/32"
        self.assertIn(overlay, self.routes(stacks, "ClientRouteTable"))
        table = self.table(stacks, "GatewayRouteTable")
        route = next(r for r in table["Routes"] if r.get("DestinationCidrBlock") == overlay)
        self.assertEqual(route["NetworkInterfaceId"], stacks.made["gateway"]["InterfaceA"])
        self.assertEqual([r["ResourceRecords"] for r in self.records(stacks).values()], [[{"Value": "10.99.0.1"}]])

    def check_dns(self, stacks):
        records, gateway = self.records(stacks), stacks.outputs["gateway"]
        for role, address in (("PRIMARY", gateway["AddressA"]), ("SECONDARY", gateway["AddressC"])):
            record = records[role]
            self.assertEqual(record["ResourceRecords"], [{"Value": address}])
            self.assertLessEqual(record["TTL"], 60)
            check = moto().client("route53").get_health_check(HealthCheckId=record["HealthCheckId"])
            config = check["HealthCheck"]["HealthCheckConfig"]
            self.assertEqual(config["Type"], "CLOUDWATCH_METRIC")

    def test_what_is_asked_for_is_made(self):
        settings = {
            **PROBING,
            **PROVING,
            "MonitoringCidr": "198.51.100.7/32",
            "CloudWatchMetrics": "true",
            "InstanceConnect": "false",
            "MoreClientsCidr": "",
            "NodeC": "none",
        }
        stacks = Stacks.of("lease-record", **settings)
        for name, resources in ASKED_FOR.items():
            self.assertLessEqual(resources, set(stacks.made[name]))
        self.assertIn("CloudWatchEndpoint", stacks.made["network"])
        gateway = stacks.made["gateway"]
        self.assertIn("CloudwatchPolicy", gateway)
        self.assertIn("InstanceA", gateway)
        for absent in ("InstanceC", "InstanceConnectIngress", "MoreClientsControl", "MoreClientsData"):
            self.assertNotIn(absent, gateway)

    def test_only_those_who_need_it_are_let_in(self):
        stacks = Stacks.of("lease-record")
        own = stacks.outputs["gateway"]["GatewaySecurityGroup"]
        clients, shells = ("10.1.0.0/16", "10.2.0.0/16"), stacks.made["gateway"]["InstanceConnectSecurityGroup"]
        self.assertEqual(
            self.ingress(stacks, own),
            {
                *((first, last, cidr) for first, last in ((21, 21), (8192, 8200)) for cidr in clients),
                (9121, 9121, own),
                (22, 22, shells),
            },
        )
        transfer = stacks.outputs["transfer"]["SecurityGroup"]
        self.assertEqual(self.ingress(stacks, transfer), {(21, 21, own), (8192, 8200, own)})
        client = stacks.made["client"]["ClientSecurityGroup"]
        self.assertEqual(self.ingress(stacks, client), set())

    # What moto has.

    def table(self, stacks, name):
        table = stacks.made["network"][name]
        return moto().client("ec2").describe_route_tables(RouteTableIds=[table])["RouteTables"][0]

    def routes(self, stacks, name):
        return {route.get("DestinationCidrBlock") for route in self.table(stacks, name)["Routes"]} - {None}

    def records(self, stacks):
        zone = stacks.outputs["network"]["HostedZone"]
        sets = moto().client("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        return {each.get("Failover", "plain"): each for each in sets if each["Type"] == "A"}

    def ingress(self, stacks, group):
        found = moto().client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
        return {
            (rule["FromPort"], rule["ToPort"], source)
            for rule in found["IpPermissions"]
            for source in [
                *(each["CidrIp"] for each in rule["IpRanges"]),
                *(each["GroupId"] for each in rule["UserIdGroupPairs"]),
            ]
        }


class HardeningTest(unittest.TestCase):
    """Of properties that moto does not keep."""

    def resources(self, kind):
        for path in ALL:
            for name, resource in load(path.stem)["Resources"].items():
                if resource["Type"] == kind:
                    yield f"{path.name}: {name}", resource

    def test_instances_want_session_tokens_and_have_encrypted_volumes(self):
        for name, resource in self.resources("AWS::EC2::LaunchTemplate"):
            data = resource["Properties"]["LaunchTemplateData"]
            self.assertEqual(data["MetadataOptions"]["HttpTokens"], "required", name)
            self.assertTrue(all(each["Ebs"]["Encrypted"] for each in data["BlockDeviceMappings"]), name)
        for name, resource in self.resources("AWS::EC2::Instance"):
            self.assertIn("LaunchTemplate", resource["Properties"], name)

    def test_what_probes_leave_goes_with_its_delete_markers(self):
        ((_, bucket),) = [each for each in self.resources("AWS::S3::Bucket") if "transfer" in each[0]]
        rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
        ((days, markers),) = [
            (rule["NoncurrentVersionExpiration"]["NoncurrentDays"], rule.get("ExpiredObjectDeleteMarker"))
            for rule in rules
            if rule.get("Prefix") == "home/ftpgate-probe/"
        ]
        self.assertEqual((days, markers), (1, True))

    def test_packets_for_other_addresses_are_taken_with_an_overlay_ip_only(self):
        interfaces = list(self.resources("AWS::EC2::NetworkInterface"))
        self.assertEqual(len(interfaces), 2)
        for name, resource in interfaces:
            expected = {"Fn::If": ["MovesRoute", False, True]}
            self.assertEqual(resource["Properties"]["SourceDestCheck"], expected, name)

    def test_nothing_is_open_to_the_world(self):
        for kind in ("AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress"):
            for name, resource in self.resources(kind):
                properties = resource["Properties"]
                for rule in properties.get("SecurityGroupIngress", [properties]):
                    self.assertNotIn(rule.get("CidrIp"), ("0.0.0.0/0",), name)
                    self.assertNotIn("CidrIpv6", rule, name)
        for kind in ("AWS::EC2::InternetGateway", "AWS::EC2::EIP", "AWS::EC2::NatGateway"):
            self.assertEqual(list(self.resources(kind)), [])

    def test_data_stays_when_a_stack_goes(self):
        for name, resource in self.resources("AWS::S3::Bucket"):
            self.assertIn(resource.get("DeletionPolicy"), ("Retain", "RetainExceptOnCreate"), name)
            self.assertEqual(resource.get("UpdateReplacePolicy"), "Retain", name)
            self.assertTrue(all(resource["Properties"]["PublicAccessBlockConfiguration"].values()), name)

    def test_logs_end(self):
        groups = list(self.resources("AWS::Logs::LogGroup"))
        self.assertEqual(len(groups), 3)
        for name, resource in groups:
            self.assertIn("RetentionInDays", resource["Properties"], name)
        for name, resource in self.resources("AWS::Lambda::Function"):
            self.assertIn("LoggingConfig", resource["Properties"], name)

    def test_alarms_take_silence_for_a_fault_and_are_what_route_53_follows(self):
        alarms = list(self.resources("AWS::CloudWatch::Alarm"))
        self.assertEqual(len(alarms), 2)
        for (name, resource), node in zip(alarms, ("gateway-a", "gateway-c")):
            properties = resource["Properties"]
            self.assertEqual(properties["TreatMissingData"], "breaching", name)
            self.assertEqual((properties["Namespace"], properties["MetricName"]), ("ftpgate", "HealthyHostCount"))
            self.assertEqual((properties["Statistic"], properties["Period"]), ("Minimum", 60), name)
            dimensions = {each["Name"]: each["Value"] for each in properties["Dimensions"]}
            self.assertEqual(dimensions, {"LoadBalancer": {"Ref": "RecordName"}, "Node": node})
        checks = [
            resource["Properties"]["HealthCheckConfig"]
            for _, resource in self.resources("AWS::Route53::HealthCheck")
        ]
        self.assertEqual({check["InsufficientDataHealthStatus"] for check in checks}, {"Unhealthy"})
        followed = [check["AlarmIdentifier"] for check in checks]
        here = {"Ref": "AWS::Region"}
        self.assertEqual(followed, [{"Name": {"Ref": alarm}, "Region": here} for alarm in ("AlarmA", "AlarmC")])
