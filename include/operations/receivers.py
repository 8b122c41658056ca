"""Those who are told: a signed webhook, a hook as Slack has it, e-mail, and a Kafka topic.

Each gives the message's id to the receiver, who can tell by it that a message came a second time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from email.message import EmailMessage
from email.utils import format_datetime

import httpx
from confluent_kafka import KafkaError, KafkaException, Producer

from include.broker.kafka import QUIET, writer_config
from include.operations.outbox import Message, SendFailed, SendRefused
from include.settings import Settings

ANSWER_SECONDS = 10.0
PATIENCE = timedelta(hours=24)  # how long an alarm is of use
ID_HEADER = "idempotency-key"
SIGNATURE_HEADER = "x-fraudstream-signature"
REFUSALS = (400, 410, 413, 422)  # this message is wrong, or nobody is there any more


class Topic:
    """Sends a channel's messages to a Kafka topic: the value as JSON, the message's id as a header."""

    batch = 500
    patience: timedelta | None = None

    def __init__(self, settings: Settings, topic: str):
        self._topic = topic
        self._producer = Producer(
            writer_config(
                settings,
                client_id="fraudstream-relay",
                partitioner="murmur2_random",
                message_timeout_ms=int(ANSWER_SECONDS * 1000),
            ),
            logger=QUIET,
        )

    def send(self, messages: Sequence[Message]) -> None:
        errors: list[KafkaError] = []

        def note(error: KafkaError | None, _: object) -> None:
            if error is not None:
                errors.append(error)

        for message in messages:
            value = json.dumps(message.value, separators=(",", ":")).encode()
            header: list[tuple[str, str | bytes | None]] = [(ID_HEADER, str(message.id))]
            try:
                self._producer.produce(
                    self._topic, value, message.key.encode() or None, headers=header, on_delivery=note
                )
            except KafkaException as error:
                errors.append(error.args[0])
        left = self._producer.flush(ANSWER_SECONDS + 5)
        if errors or left:
            text = f"topic {self._topic}: {errors[0].str() if errors else 'not acknowledged in time'}"
            refused = any(error.code() == KafkaError.MSG_SIZE_TOO_LARGE for error in errors)
            raise SendRefused(text) if refused else SendFailed(text)


class _Hook:
    """Posts JSON to an address."""

    batch = 1
    patience: timedelta | None = PATIENCE

    def __init__(self, url: str):
        self._url = url
        self._client = httpx.Client(timeout=ANSWER_SECONDS)

    def _post(self, message: Message, body: bytes, headers: Mapping[str, str]) -> None:
        sent = {"content-type": "application/json", ID_HEADER: str(message.id), **headers}
        try:
            with self._client.stream("POST", self._url, content=body, headers=sent) as answer:
                status = answer.status_code
        except httpx.HTTPError as error:  # its text may name the address, which may be a secret
            raise SendFailed(f"no answer: {type(error).__name__}") from None
        if status >= 300:
            text = f"the answer was {status}"
            raise SendRefused(text) if status in REFUSALS else SendFailed(text)


def signature(secret: str, at: int, body: bytes) -> str:
    """`t=TIME,v1=HMAC`: HMAC-SHA256 over the time (seconds), a point, and the body, as hexadecimal digits."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Webhook(_Hook):
    """Posts the whole message, signed."""

    def __init__(self, url: str, secret: str):
        super().__init__(url)
        self._secret = secret

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            body = json.dumps({"id": str(message.id), **message.value}).encode()
            signed = signature(self._secret, int(time.time()), body)
            self._post(message, body, {SIGNATURE_HEADER: signed})


class Slack(_Hook):
    """Posts the message's lines as Slack's incoming hooks, and those like it, take them."""

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            text = in_words(message.value)
            for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
                text = text.replace(sign, entity)
            self._post(message, json.dumps({"text": text}).encode(), {})


def in_words(value: Mapping[str, object]) -> str:
    """A message as a person reads it: its title and lines."""
    lines = value["lines"]
    assert isinstance(lines, list)
    return "\n".join([str(value["title"]), *map(str, lines)])


class Mail:
    """Sends e-mail, one for each address (the message's key)."""

    batch = 1
    patience: timedelta | None = PATIENCE

    def __init__(self, settings: Settings):
        self._settings = settings

    def send(self, messages: Sequence[Message]) -> None:
        try:
            with self._connection() as server:
                for message in messages:
                    server.send_message(self._mail(message))
        except smtplib.SMTPRecipientsRefused as error:
            ((code, text),) = error.recipients.values()
            raise _smtp_failure(code, text) from None
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            raise _smtp_failure(error.smtp_code, error.smtp_error) from None
        except (smtplib.SMTPException, OSError) as error:
            raise SendFailed(f"{type(error).__name__}: {error}") from None

    def _connection(self) -> smtplib.SMTP:
        settings = self._settings
        address = (settings.alarm_smtp_host, settings.alarm_smtp_port)
        context = ssl.create_default_context()
        if settings.alarm_smtp_security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(*address, timeout=ANSWER_SECONDS, context=context)
        else:
            server = smtplib.SMTP(*address, timeout=ANSWER_SECONDS)
        if settings.alarm_smtp_security == "starttls":
            server.starttls(context=context)
        if settings.alarm_smtp_username and settings.alarm_smtp_password:
            server.login(settings.alarm_smtp_username, settings.alarm_smtp_password.get_secret_value())
        return server

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = " ".join(str(message.value["title"]).split())
        mail["From"] = self._settings.alarm_mail_from
        mail["To"] = message.key
        mail["Date"] = format_datetime(message.created_at)
        mail["Message-ID"] = f"<{message.id}@fraudstream>"
        mail.set_content(in_words(message.value))
        return mail


def _smtp_failure(code: int, text: bytes | str) -> SendFailed:
    words = text.decode(errors="replace") if isinstance(text, bytes) else text
    return (SendRefused if code >= 500 else SendFailed)(f"the mail server said {code} {words}")
