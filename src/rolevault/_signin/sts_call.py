"""One call of STS: what an error may say, and whether a connection brought the answer."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, SSLError
from botocore.exceptions import ConnectionError as BotocoreConnectionError
from botocore.parsers import ResponseParserError
from urllib3.response import HTTPResponse

from rolevault._signin.sts_answer import check_refusal

_UNREADABLE = "STS's answer could not be read, and is not shown. Try again."


class StsCaller:
    """A botocore client of STS, and what is known of its last answer.

    :param client: a client that nobody else uses.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        #: Whether the last answer came from a mock and not from a connection: from moto's
        #: ``mock_aws``, botocore's ``Stubber``, a handler or a patched function. Such an answer
        #: must not be stored, because it is worth nothing to any other process.
        self.answer_is_mocked = False
        self._was_sent = False
        self._came_from_network = False
        # Handlers of "before-send" that the user has registered run before this one, so an
        # error of theirs is not taken for an unreadable answer.
        client.meta.events.register_last("before-send", self._note_request)
        client.meta.events.register("after-call", self._note_answer)

    def call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """Return STS's answer.

        :param operation: the name of the client's method.
        :raises ClientError: STS refused. The code and the message are text.
        :raises ResponseParserError: the answer is not one that STS gives.
        :raises BotoCoreError: botocore could not call. The error holds no secret.
        """
        self._was_sent = self._came_from_network = self.answer_is_mocked = False
        try:
            with self._redacted_errors():
                answer: Mapping[str, Any] = getattr(self._client, operation)(**arguments)
        except ClientError as error:
            self.answer_is_mocked = not self._came_from_network
            check_refusal(error)
            raise
        self.answer_is_mocked = not self._came_from_network
        return answer

    def _note_request(self, **event: Any) -> None:
        self._was_sent = True

    def _note_answer(self, **event: Any) -> None:
        # Mocks give an object of their own, or None, in the place of urllib3's response.
        raw = getattr(event.get("http_response"), "raw", None)
        self._came_from_network = isinstance(raw, HTTPResponse)

    @contextlib.contextmanager
    def _redacted_errors(self) -> Iterator[None]:
        """Remove secrets from the errors of the call in this block, because errors are logged
        and pickled. botocore's errors about connections hold the request, with a code or a
        session token. Its errors about an unreadable answer hold the answer, with keys.

        The errors are changed in place, because a new exception would carry the old one as its
        context.
        """
        try:
            yield
        except ResponseParserError as error:
            error.args = (_UNREADABLE,)
            raise
        except (HTTPClientError, BotocoreConnectionError) as error:
            _redact(error)
            raise
        except (BotoCoreError, ClientError):
            raise
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            # botocore's parser raises these for well-formed XML that is not an answer, such as a
            # page of a proxy, an error with two codes, or an expiry that is not a time.
            if not self._was_sent:
                raise
            raise ResponseParserError(_UNREADABLE) from None


def _redact(error: Any) -> None:
    """Leave of an HTTP error its type, its URL and the type of its cause.

    The text of the cause can hold a header: ``http.client`` says "Invalid header value" and the
    value, and the value can be a session token. An error of TLS is kept: it concerns the
    certificate, and comes before any header is sent.
    """
    if isinstance(error, SSLError):
        return
    if hasattr(error, "request"):  # botocore's stubs know neither attribute
        error.request = error.response = None
    if "error" in error.kwargs:
        error.kwargs["error"] = f"{type(error.kwargs['error']).__name__} (its text is not shown)"
        error.args = (error.fmt.format(**error.kwargs),)
    error.__cause__ = error.__context__ = None
