"""Sending a request once more if a service refuses the key that signed it.

A service may refuse a key before the expiry that STS gave: sessions are revoked, and clocks jump.
botocore calls the ``needs-retry`` handlers after each answer, in every retry mode, and signs the
request anew if a handler returns a delay.
"""

import logging
import re
from typing import Any
from weakref import ref

import botocore.session

from rolevault._concurrency.fork_lock import ForkLock
from rolevault._signin.renewal import Renewal

logger = logging.getLogger(__name__)

#: The codes by which services refuse a key that has ended or that they do not know, each with its
#: source: AWS's common errors
#: (https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html), S3's list
#: (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), or EC2's
#: (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html). aws-sdk-go
#: (``aws/request/retryer.go``) and aws-sdk-ruby (``retries/error_inspector.rb``) refresh their
#: credentials for most of these codes. The code for a session that was revoked in IAM is
#: AccessDenied, which has other causes too, and so is not here.
REFUSALS = {
    "ExpiredToken": "S3, and the Query protocol of STS",
    "ExpiredTokenException": "common errors: the JSON, REST-JSON and CBOR protocols",
    "InvalidAccessKeyId": "S3",
    "InvalidClientTokenId": "common errors: the Query protocol",
    "InvalidToken": "S3",
    "RequestExpired": "EC2, for a session that has ended",
    "TokenRefreshRequired": "S3",
    "UnrecognizedClientException": "common errors: the JSON, REST-JSON and CBOR protocols",
}

#: EC2's code and status for a key that it does not know (https://github.com/boto/boto3/issues/2529;
#: ServiceNow's KB0749275 has the status). With status 400 the code means that a resource belongs
#: to another account (https://github.com/Orange-Cyberdefense/GOAD/issues/304).
EC2_REFUSAL = ("AuthFailure", 401)

#: Codes that some operations declare themselves, about a token among their arguments:
#: ``InvalidToken`` of Step Functions (a task), ``ExpiredTokenException`` of AWS Marketplace (a
#: buyer). There the code is about the key only if the message says so, in the words that AWS
#: has for the key of a request in every protocol.
_TOKENS = frozenset({"ExpiredTokenException", "InvalidToken"})
_ABOUT_THE_KEY = "security token included in the request"

# botocore's models declare many more errors with such names, and none of them counts. They are
# about permissions (``NotAuthorizedException``, ``UnauthorizedException``,
# ``ForbiddenException``), about other credentials (``InvalidCredentialsException`` of
# ElastiCache) or about pages (``InvalidNextToken``).

_KEY = "rolevault_access_key_id"
_RESENT = "rolevault_resent"
_ACCESS_KEY_ID = re.compile(r"(?:Credential=|AWS )([A-Z0-9]{16,128})[/:]")

#: botocore's register of handlers has no lock.
_register_lock = ForkLock()


class RefusedKeyRetry:
    """The two event handlers for the clients of one session.

    :param renewal: the renewal of the session's role.
    """

    def __init__(self, renewal: Renewal) -> None:
        # The renewal refers to the session, whose event system refers to this object. A strong
        # reference here would close a cycle, and keep the keys in memory for longer.
        self._renewal = ref(renewal)

    def register(self, session: botocore.session.Session) -> None:
        """Have the clients that the session makes from now on call these handlers, and no other
        ones of rolevault.
        """
        with _register_lock.lock:
            self.unregister(session)
            session.register(
                "request-created", self.remember_signer, unique_id="rolevault-remember-signer"
            )
            session.register("needs-retry", self.needs_retry, unique_id="rolevault-needs-retry")

    @staticmethod
    def unregister(session: botocore.session.Session) -> None:
        """Remove the handlers of any role from the session."""
        with _register_lock.lock:
            session.unregister("request-created", unique_id="rolevault-remember-signer")
            session.unregister("needs-retry", unique_id="rolevault-needs-retry")

    def remember_signer(self, **event: Any) -> None:
        """Note in the context of a request which access key id signed it. Clients with explicit
        keys call this session's handlers too, and their key is not the role's.
        """
        request = event["request"]
        header = request.headers.get("Authorization", "")
        text = header.decode("ascii", "replace") if isinstance(header, bytes) else str(header)
        found = _ACCESS_KEY_ID.search(text)
        key = found[1] if found else None
        if key is None and isinstance(request.data, dict):
            # Signature version 2, which SimpleDB uses, has the key among the parameters.
            key = request.data.get("AWSAccessKeyId")
        request.context[_KEY] = key

    def is_refusal(self, event: dict[str, Any]) -> bool:
        """Return whether a service refused the key of a request, and the request was not sent
        again yet. No file is read.
        """
        response, context = event["response"], event["request_dict"]["context"]
        if response is None or context.get(_KEY) is None or context.get(_RESENT):
            return False
        http, parsed = response
        return _is_refused(http, parsed, event["operation"])

    def needs_retry(self, **event: Any) -> Any:
        """Return 0 if the request is to be sent again at once, else None."""
        renewal = self._renewal()
        if renewal is None or not self.is_refusal(event):
            return None
        operation, request = event["operation"], event["request_dict"]
        context = request["context"]
        try:
            if not renewal.drop_refused_key(context[_KEY]):
                return None
        except Exception as error:  # noqa: BLE001  the caller gets the service's own answer
            logger.warning(
                "A service refused the keys of %s, which could not be dropped: %s",
                renewal.role.name,
                error,
            )
            return None
        if not _can_rewind(request.get("body")):
            return None  # this request fails, and the next one signs with fresh keys
        context[_RESENT] = True
        logger.info(
            "%s refused the keys of %s. They are renewed, and the request is sent again.",
            operation.name,
            renewal.role.name,
        )
        return 0


def _is_refused(http: Any, parsed: Any, operation: Any) -> bool:
    if http.status_code < 400 or not isinstance(parsed, dict):
        return False
    error = parsed.get("Error", {})
    code = error.get("Code")
    if (code, http.status_code) == EC2_REFUSAL:
        return True
    if code in REFUSALS:
        declared = {
            name for shape in operation.error_shapes for name in (shape.name, shape.error_code)
        }
        is_about_argument = code in _TOKENS and code in declared
        return not is_about_argument or _ABOUT_THE_KEY in str(error.get("Message"))
    # S3 answers HEAD without a body, and so without a code: it says only 400
    # (https://github.com/boto/boto3/issues/2598).
    return bool(http.status_code == 400 and operation.http.get("method") == "HEAD")


def _can_rewind(body: Any) -> bool:
    # The body of the Query protocol, which STS and EC2 use, is a dict.
    if body is None or isinstance(body, str | bytes | bytearray | dict):
        return True
    try:
        # botocore does the same before it sends a request again.
        body.seek(0)
    except Exception:  # noqa: BLE001  a user's stream may raise anything
        return False
    return True
