"""The identity provider with Secrets Manager as moto has it."""

import contextlib
import importlib.util
import io
import json
import os
import socket
import unittest
from unittest import mock

from botocore.exceptions import ClientError, EndpointConnectionError

from aws import ENVIRONMENT, moto
from templates import DIRECTORY

SERVER = "s-0123456789abcdef0"
ROLE = "arn:aws:iam::123456789012:role/ftp"
PASSWORD = "päss w0rd"
GOOD = {"Password": PASSWORD, "Role": ROLE, "HomeDirectory": "/my-bucket/alice"}
ACCEPTED = {"Role": ROLE, "HomeDirectory": "/my-bucket/alice"}


def load(url):
    """The function as Lambda loads it, once for many calls."""
    environment = {**ENVIRONMENT, "AWS_ENDPOINT_URL_SECRETS_MANAGER": url}
    with mock.patch.dict(os.environ, environment):
        spec = importlib.util.spec_from_file_location("index", DIRECTORY / "identity-provider" / "index.py")
        index = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(index)
    return index


class IdentityProviderTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.secrets = moto().client("secretsmanager")
        cls.index = load(moto().url)

    def put(self, user, content, server=SERVER):
        kind = "SecretBinary" if isinstance(content, bytes) else "SecretString"
        if not isinstance(content, (bytes, str)):
            content = json.dumps(content)
        name = f"aws/transfer/{server}/{user}"
        self.secrets.create_secret(Name=name, **{kind: content})
        self.addCleanup(self.secrets.delete_secret, SecretId=name, ForceDeleteWithoutRecovery=True)

    def ask(self, user="alice", password=PASSWORD, **other):
        """What Transfer gets, and what is logged."""
        event = {"username": user, "password": password, "serverId": SERVER, "protocol": "FTP", "sourceIp": "10.2.1.10"}
        event.update(other)
        event = {key: value for key, value in event.items() if value is not None}
        log = io.StringIO()
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            answer = self.index.handler(event, None)
        log = log.getvalue()
        for secret in (PASSWORD, "päss", ROLE, "my-bucket", "wrong-one"):
            self.assertNotIn(secret, log)
            self.assertNotIn(secret.encode("ascii", "backslashreplace").decode(), log)
        self.assertEqual(log.count("\n"), 1, log)
        return answer, json.loads(log)["outcome"]

    def test_the_right_password_is_accepted(self):
        self.put("alice", GOOD)
        self.assertEqual(self.ask(), (ACCEPTED, "accepted"))

    def test_a_binary_secret_is_as_good(self):
        self.put("alice", json.dumps(GOOD).encode())
        self.assertEqual(self.ask(), (ACCEPTED, "accepted"))

    def test_a_home_can_be_mapped_and_a_policy_added(self):
        details = [{"Entry": "/", "Target": "/my-bucket/alice"}]
        for given in (details, json.dumps(details)):
            policy = {"Version": "2012-10-17", "Statement": []}
            user = f"mapped-{type(given).__name__}"
            self.put(user, {**GOOD, "HomeDirectoryDetails": given, "Policy": policy})
            answer, _ = self.ask(user)
            self.assertEqual(json.loads(answer.pop("HomeDirectoryDetails")), details)
            self.assertEqual(json.loads(answer.pop("Policy")), policy)
            self.assertEqual(answer, {"Role": ROLE, "HomeDirectoryType": "LOGICAL"})

    def test_wrong_passwords_and_missing_users_get_the_same_answer(self):
        self.put("alice", GOOD)
        wrong = (PASSWORD + "x", PASSWORD[:-1], PASSWORD.upper(), "wrong-one", "\ud800")
        for password in wrong:
            self.assertEqual(self.ask(password=password), ({}, "refused: wrong password"))
        self.assertEqual(self.ask("nobody"), ({}, "refused: no such user"))
        self.assertEqual(self.ask("nobody", ""), ({}, "refused: no password"))

    def test_a_password_is_compared_for_missing_users_too_and_in_constant_time(self):
        self.put("alice", GOOD)
        compare = self.index.hmac.compare_digest
        with mock.patch.object(self.index.hmac, "compare_digest", side_effect=compare) as compared:
            for user, password in (("alice", PASSWORD), ("alice", "x"), ("nobody", "x" * 1000)):
                self.ask(user, password)
        self.assertEqual(compared.call_count, 3)
        self.assertEqual({len(side) for call in compared.call_args_list for side in call.args}, {32})

    def test_a_user_who_is_about_to_be_deleted_is_refused(self):
        self.put("alice", GOOD)
        self.secrets.delete_secret(SecretId=f"aws/transfer/{SERVER}/alice", RecoveryWindowInDays=7)
        self.assertEqual(self.ask(), ({}, "refused: no such user"))

    def test_a_user_of_another_server_is_none_of_this_one(self):
        self.put("alice", GOOD, "s-fedcba98765432100")
        self.assertEqual(self.ask(), ({}, "refused: no such user"))

    def test_an_event_that_lacks_something_is_refused(self):
        self.put("alice", GOOD)
        for missing in ("username", "password", "serverId"):
            for value in (None, "", 5, ["alice"], {"a": 1}):
                other = {"user" if missing == "username" else missing: value}
                answer, outcome = self.ask(**other)
                self.assertEqual(answer, {}, other)
                self.assertIn("refused: no ", outcome)

    def test_a_name_that_leads_elsewhere_is_not_looked_up(self):
        self.put("deep/alice", GOOD)
        for user in ("deep/alice", "../alice", "alice\n", "ab", "a" * 101, "-alice", "älice", "*"):
            with mock.patch.object(self.index, "read", side_effect=AssertionError):
                self.assertEqual(self.ask(user), ({}, "refused: no such name can be"))
        for server in ("s-1", "s-0123456789abcdef0/x", "S-0123456789ABCDEF0"):
            self.assertEqual(self.ask(serverId=server), ({}, "refused: no server"))

    def test_a_secret_that_lacks_something_is_refused_even_with_its_password(self):
        cases = {
            "password": ({**GOOD, "Password": None}, "the secret has no Password"),
            "empty": ({**GOOD, "Password": ""}, "the secret has no Password"),
            "number": ({**GOOD, "Password": 5}, "the secret has no Password"),
            "role": ({**GOOD, "Role": None}, "the secret has no Role"),
            "home": ({**GOOD, "HomeDirectory": ""}, "the secret has no HomeDirectory"),
            "list": ([PASSWORD], "the secret is no JSON object"),
            "text": (PASSWORD, "the secret is no JSON object"),
            "half": ('{"Password": "wrong-one', "the secret is no JSON object"),
            "bytes": (b"\xff\xfe\xff", "the secret is no JSON object"),
        }
        for user, (content, reason) in cases.items():
            self.put(user, content)
            self.assertEqual(self.ask(user), ({}, f"refused: {reason}"), user)

    def test_what_secrets_manager_cannot_answer_is_raised(self):
        def error(code):
            return ClientError({"Error": {"Code": code, "Message": "of the tests"}}, "GetSecretValue")

        for code in ("ThrottlingException", "AccessDeniedException", "DecryptionFailure", "InternalServiceError"):
            with mock.patch.object(self.index, "SECRETS") as secrets:
                secrets.get_secret_value.side_effect = error(code)
                with self.assertRaises(ClientError):
                    self.ask()
        nobody = socket.create_server(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        nobody.close()
        index = load(f"http://127.0.0.1:{port}")
        with mock.patch.object(type(self), "index", index), self.assertRaises(EndpointConnectionError):
            self.ask()
