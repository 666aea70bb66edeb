"""What can become of a webhook request: one enum is the HTTP status, the metric's label and the log's field."""

from enum import Enum
from http import HTTPStatus

# Seconds. Shopify has a schedule of its own; proxies and `hooktape send` obey it. A leader election takes a few seconds.
_RETRY_AFTER = 5


class Outcome(Enum):
    """(status, what the sender is told). The text helps whoever debugs a request, and holds nothing from it."""

    ACCEPTED = 200, ""
    METHOD_NOT_ALLOWED = 405, "Webhooks are sent with POST."
    MALFORMED = 400, "This isn't a valid HTTP request."
    HEADERS_TOO_LARGE = 431, "The request has more than 100 headers or more than 32 KiB of them."
    SLOW_HEADERS = 408, "The request's headers didn't arrive in time."
    TOO_LARGE = 413, "The body is larger than HOOKTAPE_BODY_LIMIT."
    SLOW_BODY = 408, "The body didn't arrive in time."
    INCOMPLETE = 400, "The connection ended before the body did."
    EMPTY_BODY = 400, "The body is empty."
    BAD_SIGNATURE = 401, "X-Shopify-Hmac-Sha256 is missing or isn't the signature of this body under the app's client secret."
    REPEATED_HEADER = 400, "A header that may stand once only (signature, topic, shop domain, webhook id) is repeated."
    MISSING_HEADER = 400, "X-Shopify-Topic, X-Shopify-Shop-Domain or X-Shopify-Webhook-Id is missing."
    BAD_HEADER = 400, "The shop domain isn't a host name, or the topic or webhook id has over 255 or unprintable characters."
    SHOP_NOT_ALLOWED = 401, "This shop isn't among HOOKTAPE_ALLOWED_SHOPS."
    OVERLOADED = 503, "More webhooks are in flight than this process takes. Send it again."
    NOT_DURABLE = 503, "Kafka didn't acknowledge the event. Send it again."
    SHUTTING_DOWN = 503, "This process is stopping. Send it again."

    # Statuses repeat, and members of equal value would be aliases: the texts keep them apart.
    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text

    @property
    def label(self) -> str:
        """The metric's label and the log's field."""
        return self.name.lower()

    @property
    def closes(self) -> bool:
        """Whether the connection can't be used any more: what the client goes on sending isn't a new request."""
        return self in (Outcome.MALFORMED, Outcome.HEADERS_TOO_LARGE, Outcome.SLOW_HEADERS, Outcome.SLOW_BODY,
                        Outcome.SHUTTING_DOWN)  # fmt: skip

    def head(self) -> bytes:
        """The answer up to where `Date` and `Connection` may follow."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", f"content-length: {len(self.text)}"]
        if self.text:
            lines.append("content-type: text/plain; charset=utf-8")
        if self.status == 503:
            lines.append(f"retry-after: {_RETRY_AFTER}")
        if self.status == 405:
            lines.append("allow: POST")
        return "".join(f"{line}\r\n" for line in lines).encode()
