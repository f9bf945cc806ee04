"""Sending a request once more when a service refuses the keys that signed it. Sessions are
revoked and clocks jump, and then the expiry that STS gave is wrong.

botocore asks ``needs-retry`` handlers after each answer, in every retry mode, and signs the
request anew when one returns a delay.
"""

import logging
import re
from typing import Any
from weakref import ref

import botocore.session

from rolevault._concurrency.fork_lock import ForkLock
from rolevault._signin.renewal import Renewal

logger = logging.getLogger(__name__)

#: What services call keys that have ended or that they do not know, each with its source: AWS's
#: common errors (https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html), S3's
#: list (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), or EC2's
#: (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html). aws-sdk-go
#: (``aws/request/retryer.go``) and aws-sdk-ruby (``retries/error_inspector.rb``) refresh their
#: credentials for most of them. A revoked session gets AccessDenied, which has other causes too.
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

#: EC2's code for keys that it does not know, with status 401
#: (https://github.com/boto/boto3/issues/2529). With status 400 the code means that a resource
#: belongs to another account (https://github.com/Orange-Cyberdefense/GOAD/issues/304).
EC2_REFUSAL = ("AuthFailure", 401)

#: Codes that some operations declare themselves, about a token among their arguments:
#: ``InvalidToken`` of Step Functions (a task), ``ExpiredTokenException`` of AWS Marketplace (a
#: buyer). There the code is about the key only if the message says so, in the words that AWS
#: has for the key of a request in every protocol.
_TOKENS = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidToken"})
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
    """The two event handlers for the clients of one session."""

    def __init__(self, renewal: Renewal) -> None:
        # The session holds the handlers and the renewal. A weak reference makes no cycle.
        self._renewal = ref(renewal)

    def register(self, session: botocore.session.Session) -> None:
        """Serve the clients that the session makes from now on, in the place of others."""
        with _register_lock.lock:
            self.unregister(session)
            session.register(
                "request-created", self.remember_signer, unique_id="rolevault-remember-signer"
            )
            session.register("needs-retry", self.needs_retry, unique_id="rolevault-needs-retry")

    @staticmethod
    def unregister(session: botocore.session.Session) -> None:
        with _register_lock.lock:
            session.unregister("request-created", unique_id="rolevault-remember-signer")
            session.unregister("needs-retry", unique_id="rolevault-needs-retry")

    def remember_signer(self, **event: Any) -> None:
        """Keep the access key id that signed a request in the request's context. A client
        with explicit keys has this session's handlers too, and is told by its key.
        """
        request = event["request"]
        header = request.headers.get("Authorization", "")
        text = header.decode("ascii", "replace") if isinstance(header, bytes) else str(header)
        found = _ACCESS_KEY_ID.search(text)
        key = found[1] if found else None
        if key is None and isinstance(request.data, dict):
            # Signature version 2, of SimpleDB, puts the key among the parameters.
            key = request.data.get("AWSAccessKeyId")
        request.context[_KEY] = key

    def is_refusal(self, event: dict[str, Any]) -> bool:
        """Whether a service refused the key of a request for the first time. No file is
        read.
        """
        response, context = event["response"], event["request_dict"]["context"]
        if response is None or context.get(_KEY) is None or context.get(_RESENT):
            return False
        http, parsed = response
        return _is_refused(http, parsed, event["operation"])

    def needs_retry(self, **event: Any) -> Any:
        """0 to send the request again at once, None to leave it."""
        renewal = self._renewal()
        if renewal is None or not self.is_refusal(event):
            return None
        operation, request = event["operation"], event["request_dict"]
        context = request["context"]
        try:
            if not renewal.drop_refused_key(context[_KEY]):
                return None
        except Exception as error:  # noqa: BLE001  the service's own answer is what counts
            logger.warning(
                "A service refused the keys of %s, which could not be dropped: %s",
                renewal.role.name,
                error,
            )
            return None
        if not _can_rewind(request.get("body")):
            return None  # the next request signs with fresh keys
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
    # The Query protocol, of STS and EC2, has a dict for a body.
    if body is None or isinstance(body, str | bytes | bytearray | dict):
        return True
    try:
        # As botocore does before it sends again.
        body.seek(0)
    except Exception:  # noqa: BLE001  whatever kind of stream a user made
        return False
    return True
