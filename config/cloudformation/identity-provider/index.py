"""Says to Transfer Family who may log in, by the secrets aws/transfer/SERVER/USER.

Such a secret is a JSON object with Password, Role, and HomeDirectoryDetails or HomeDirectory. Whoever
is refused gets the same empty answer, whatever the reason; the log has it. What Secrets Manager cannot
answer is raised: Transfer refuses then, and the function's Errors metric counts it.
"""

import hashlib
import hmac
import json
import re

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

SECRETS = boto3.client(
    "secretsmanager",
    config=Config(connect_timeout=2, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2}),
)
# Transfer's own rules for names; no slash, which would lead to another server's secrets.
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{2,99}")
SERVER = re.compile(r"s-[0-9a-f]{17}")
# InvalidRequestException: it is about to be deleted.
MISSING = ("ResourceNotFoundException", "InvalidRequestException")


class Refused(Exception):
    """Why; it never holds anything out of a secret."""


def handler(event, _context):
    try:
        answer, outcome = answer_to(event), "accepted"
    except Refused as reason:
        answer, outcome = {}, f"refused: {reason}"
    told = {key: event.get(key) for key in ("serverId", "username", "protocol", "sourceIp")}
    print(json.dumps({"outcome": outcome, **told}))
    return answer


def answer_to(event):
    server, user, password = (event.get(key) for key in ("serverId", "username", "password"))
    if not is_text(password):
        raise Refused("no password")
    if not is_text(user) or not USER.fullmatch(user):
        raise Refused("no such name can be")
    if not is_text(server) or not SERVER.fullmatch(server):
        raise Refused("no server")
    fault, secret = read(f"aws/transfer/{server}/{user}")
    known = secret.get("Password")
    fault = fault or (None if is_text(known) else "the secret has no Password")
    # Also for who is not there: the answer takes as long.
    same = hmac.compare_digest(digest(password), digest(known if is_text(known) else ""))
    if fault or not same:
        raise Refused(fault or "wrong password")
    return grant(secret)


def read(name):
    """What is wrong with a secret, if anything, and what it holds."""
    try:
        answer = SECRETS.get_secret_value(SecretId=name)
    except ClientError as error:
        if error.response["Error"]["Code"] in MISSING:
            return "no such user", {}
        raise
    try:
        secret = json.loads(answer["SecretString"] if "SecretString" in answer else answer["SecretBinary"])
    except ValueError:
        secret = None
    return (None, secret) if isinstance(secret, dict) else ("the secret is no JSON object", {})


def grant(secret):
    role, home, details = (secret.get(key) for key in ("Role", "HomeDirectory", "HomeDirectoryDetails"))
    if not is_text(role):
        raise Refused("the secret has no Role")
    if details:
        details = details if isinstance(details, str) else json.dumps(details)
        answer = {"HomeDirectoryType": "LOGICAL", "HomeDirectoryDetails": details}
    elif is_text(home):
        answer = {"HomeDirectory": home}
    else:
        raise Refused("the secret has no HomeDirectory")
    policy = secret.get("Policy")
    if policy:
        answer["Policy"] = policy if isinstance(policy, str) else json.dumps(policy)
    return {"Role": role, **answer}


def is_text(value):
    return isinstance(value, str) and value != ""


def digest(text):
    """Of one length whatever the text's."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
