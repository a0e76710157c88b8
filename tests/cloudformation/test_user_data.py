"""What an instance does when it is first started: the script is run, with stand-ins for what is not here."""

import os
import pathlib
import re
import subprocess
import tempfile
import tomllib
import unittest

from stacks import MODES, PROBE_SECRET, PROBING, PROVING, Stacks
from templates import PROJECT

FTPGATE = PROJECT / "target" / "debug" / "ftpgate"
# What stands for the system: it writes down how it was called. curl is the metadata service, and
# fetches a package as aws does.
STAND_IN = """#!/bin/bash
echo "${0##*/} $*" >>"$LOG"
case "${0##*/} $*" in
    "curl "*/api/token) echo a-token ;;
    "curl "*"X-aws-ec2-metadata-token: a-token"*/meta-data/local-ipv4) echo "$ADDRESS" ;;
    "curl "*169.254*) exit 22 ;;
    "curl "*) printf package >"$3" ;;
    "aws "*) if [ -e "$LOG.denied" ]; then printf package >"${@: -1}"; else touch "$LOG.denied"; exit 1; fi ;;
esac
"""
SHA256 = "bc4a71180870f7945155fbb02f4b0a2e3faa2a62d6d31b7039013055ed19869a"


class UserDataTest(unittest.TestCase):
    def setUp(self):
        self.assertTrue(FTPGATE.exists(), "ftpgate is missing: cargo build makes it")
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def start(self, script, address):
        """Runs it as on an instance of that address: its exit code, what it called, and where it wrote."""
        root = pathlib.Path(tempfile.mkdtemp(dir=self.root))
        for directory in ("bin", "etc/systemd/system", "var/tmp"):
            (root / directory).mkdir(parents=True)
        for name in ("apt-get", "aws", "curl", "dnf", "sleep", "systemctl"):
            (root / "bin" / name).write_text(STAND_IN)
            (root / "bin" / name).chmod(0o755)
        (root / "bin" / "ftpgate").symlink_to(FTPGATE)
        script = re.sub(r"(?<![\w.])/(etc|var/tmp)/", rf"{root}/\1/", script)
        script = script.replace("mkdir -p /etc", f"mkdir -p {root}/etc")
        environment = {"PATH": f"{root}/bin:{os.environ['PATH']}", "LOG": f"{root}/log", "ADDRESS": address}
        done = subprocess.run(["bash"], input=script, env=environment, capture_output=True, text=True, check=False)
        called = (root / "log").read_text().splitlines()
        return done.returncode, done.stdout + done.stderr, called, root

    def configured(self, stacks):
        """The configuration of both nodes."""
        found = []
        for zone in ("A", "C"):
            address = stacks.outputs["gateway"][f"Address{zone}"]
            code, told, called, root = self.start(stacks.user_data(), address)
            self.assertEqual(code, 0, told)
            self.assertIn("ftpgate.toml: ok", told)
            package = f"{root}/var/tmp/ftpgate.rpm"
            # The first time the role is not in force.
            fetch = f"aws s3 cp --region ap-northeast-1 --only-show-errors s3://my-packages/ftpgate.rpm {package}"
            started = ["systemctl enable ftpgate.service", "systemctl restart ftpgate.service"]
            self.assertEqual(called[2:6], [fetch, "sleep 5", fetch, f"dnf install -y {package}"])
            self.assertEqual(called[-2:], started)
            text = (root / "etc/ftpgate/ftpgate.toml").read_text()
            found.append((root, tomllib.loads(text)))
        return found

    def test_the_configuration_passes_the_check_in_every_mode(self):
        for mode in MODES:
            with self.subTest(mode):
                stacks = Stacks.of(mode)
                outputs = stacks.outputs["gateway"]
                addresses = [outputs["AddressA"], outputs["AddressC"]]
                for (root, config), name, own, peer in zip(
                    self.configured(stacks), ("gateway-a", "gateway-c"), addresses, reversed(addresses)
                ):
                    self.assertEqual(config["node"], {"name": name, "zone": "auto"})
                    self.assertEqual(config["upstream"]["endpoint"], [
                        {"address": "10.2.3.10:21", "zone": "ap-northeast-1a"},
                        {"address": "10.2.4.10:21", "zone": "ap-northeast-1c"},
                    ])  # fmt: skip
                    ha = config["ha"]
                    self.assertEqual((ha["peer"], ha["name"]), (f"{peer}:9121", "gw.ftp-transferfamily.com"))
                    getattr(self, "check_" + mode.replace("-", "_"))(stacks, config, own)
                    unit = root / "etc/systemd/system/ftpgate-overlay.service"
                    self.assertEqual(unit.exists(), mode == "lease-route")

    def check_lease_record(self, stacks, config, own):
        bucket, zone = stacks.made["gateway"]["LeaseBucket"], stacks.outputs["network"]["HostedZone"]
        ha = config["ha"]
        self.assertEqual((ha["mode"], ha["lease"]), ("lease", {"bucket": bucket}))
        self.assertEqual(ha["route53"], {"zone_id": zone, "addresses": [own]})
        self.assertNotIn("cloudwatch", config)

    def check_lease_route(self, stacks, config, _own):
        table = stacks.outputs["network"]["GatewayRouteTable"]
        self.assertEqual(config["ha"]["mode"], "lease")
        self.assertEqual(config["ha"]["route"], {"address": "10.99.0.1", "route_tables": [table]})

    def check_dns(self, stacks, config, _own):
        self.assertEqual(set(config["ha"]), {"mode", "peer", "name"})
        self.assertEqual(config["ha"]["mode"], "dns")
        expected = {"namespace": "ftpgate", "load_balancer": "gw.ftp-transferfamily.com"}
        self.assertEqual(config["cloudwatch"], expected)

    def test_a_round_trip_passes_the_check(self):
        stacks = Stacks.of("lease-record", **PROBING)
        for _, config in self.configured(stacks):
            probe, bucket = config["probe"], stacks.made["transfer"]["Bucket"]
            self.assertEqual((probe["bucket"], probe["prefix"]), (bucket, "home/ftpgate-probe/"))
            self.assertEqual(probe["password"], {"secret": PROBE_SECRET})

    def test_an_archive_and_verification_pass_the_check(self):
        stacks = Stacks.of("lease-record", **PROVING)
        bucket = stacks.made["transfer"]["Bucket"]
        for _, config in self.configured(stacks):
            self.assertEqual(config["audit"], {"path": "-", "archive": {"bucket": "my-audit-trail"}})
            directory = {"path": "/", "bucket": bucket, "prefix": "home/${user}/"}
            self.assertEqual(config["verify"], {"home": "/", "directory": [directory]})

    def test_a_package_of_debian_comes_from_anywhere_and_is_checked(self):
        for digest, fits in ((SHA256, True), ("0" * 64, False)):
            url = "https://example.com/ftpgate_arm64.deb"
            stacks = Stacks.of("dns", PackageUrl=url, PackageSha256=digest)
            self.assertNotIn("package", stacks.policies())
            code, told, called, root = self.start(stacks.user_data(), stacks.outputs["gateway"]["AddressA"])
            self.assertEqual(code == 0, fits, told)
            package = f"{root}/var/tmp/ftpgate_arm64.deb"
            self.assertIn(f"curl -fsSL -o {package} {url}", called)
            self.assertEqual(f"apt-get install -y {package}" in called, fits)
            self.assertEqual("systemctl restart ftpgate.service" in called, fits)
