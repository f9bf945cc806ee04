"""Sending a request once more when a service no longer knows its credentials:
sessions are revoked and clocks jump, and the expiry that STS gave is then
wrong.

botocore asks ``needs-retry`` handlers after each answer, in every retry mode,
and signs the request anew when one returns a delay.
"""

import logging
import re
from typing import Any
from weakref import ref

import botocore.session

from rolevault._credentials import RoleCredentials
from rolevault._forks import ForkLock

logger = logging.getLogger(__name__)

#: What services call credentials that have ended or that they do not know.
_REFUSALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestExpired",
        "UnrecognizedClientException",
    }
)

_KEY = "rolevault_access_key_id"
_RESENT = "rolevault_resent"
_ACCESS_KEY_ID = re.compile(r"(?:Credential=|AWS )([A-Z0-9]{16,128})[/:]")


#: botocore's register of handlers has no lock.
_registering = ForkLock()


class Healer:
    """The two handlers of one session's clients."""

    def __init__(self, credentials: RoleCredentials) -> None:
        # The session holds the handlers and the credentials: no cycle through here.
        self._credentials = ref(credentials)

    def register(self, session: botocore.session.Session) -> None:
        """Clients that the session makes from now on heal themselves, by this one alone."""
        with _registering.lock:
            self.unregister(session)
            session.register("request-created", self.note, unique_id="rolevault-note")
            session.register("needs-retry", self.needs_retry, unique_id="rolevault-heal")

    @staticmethod
    def unregister(session: botocore.session.Session) -> None:
        with _registering.lock:
            session.unregister("request-created", unique_id="rolevault-note")
            session.unregister("needs-retry", unique_id="rolevault-heal")

    def note(self, **event: Any) -> None:
        """Keep in the request's context who signed it. A client with keys of its
        own has this session's handlers too, and its key tells.
        """
        request = event["request"]
        header = request.headers.get("Authorization", "")
        text = header.decode("ascii", "replace") if isinstance(header, bytes) else str(header)
        found = _ACCESS_KEY_ID.search(text)
        request.context[_KEY] = found[1] if found else None

    def is_refusal(self, event: dict[str, Any]) -> bool:
        """Whether a service does not know the key of a request that was signed here,
        for the first time. No file is read.
        """
        response, context = event["response"], event["request_dict"]["context"]
        if response is None or context.get(_KEY) is None or context.get(_RESENT):
            return False
        http, parsed = response
        return _refused(http, parsed, event["operation"])

    def needs_retry(self, **event: Any) -> Any:
        """0 to send the request again at once, None to leave it."""
        credentials = self._credentials()
        if credentials is None or not self.is_refusal(event):
            return None
        operation, request = event["operation"], event["request_dict"]
        context = request["context"]
        try:
            if not credentials.refused(context[_KEY]):
                return None
        except Exception as error:  # noqa: BLE001  the service's own answer is what counts
            logger.warning("%r was refused and could not be dropped: %s", credentials, error)
            return None
        if not _rewindable(request.get("body")):
            return None  # the next request signs with fresh ones
        context[_RESENT] = True
        logger.info("%s refused its credentials; renewing %r.", operation.name, credentials)
        return 0


def _refused(http: Any, parsed: Any, operation: Any) -> bool:
    if http.status_code < 400 or not isinstance(parsed, dict):
        return False
    if parsed.get("Error", {}).get("Code") in _REFUSALS:
        return True
    # S3 answers HEAD without a body, so without a code: 400 is all it says.
    return bool(http.status_code == 400 and operation.http.get("method") == "HEAD")


def _rewindable(body: Any) -> bool:
    # A dict is the Query protocol's: STS's, EC2's.
    if body is None or isinstance(body, str | bytes | bytearray | dict):
        return True
    try:
        # As botocore does before it sends again.
        body.seek(0)
    except Exception:  # noqa: BLE001  whatever kind of stream a user made
        return False
    return True
