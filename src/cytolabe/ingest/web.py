"""Ask a web server, politely and warily: the one place where Cytolabe speaks HTTP.

What passes is tried again: no answer, a broken connection, 408, 429 and 5xx, after a growing pause or the one that the
server asks for (`Retry-After`). What will not pass is told at once: every other 4xx, a certificate that does not
verify, a redirect in a circle or from https to http. Plain http is spoken with this machine only, so that no answer
can be changed on the way. Only the standard library is needed; proxies come from the environment, as usual.
"""

import email.utils
import json
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from http import client as http_client
from ipaddress import ip_address
from typing import TypeVar
from urllib import error as url_error
from urllib import request as url_request

from cytolabe.errors import UnreachableSourceError, UsageError

__all__ = ["Answer", "PassingFaultError", "WebClient"]

_MAX_REDIRECTS = 5
_MAX_JSON_BYTES = 256 << 20
_MAX_PAUSE = 120.0
"""Seconds; a server that asks for a longer pause is believed, and the user is told instead of kept waiting."""
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_USER_AGENT = "cytolabe (single-cell atlas ingest)"

T = TypeVar("T")


class PassingFaultError(UnreachableSourceError):
    """A fault that may pass: `WebClient.persist` tries again, and only the last one reaches a caller."""

    def __init__(self, message: str, *, pause: float | None = None, offline: bool = False) -> None:
        super().__init__(message)
        self.pause = pause
        self.offline = offline
        self.progressed = False
        """Whether enough arrived before the fault that the count of tries starts anew."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An open answer: read `body` inside the context that gave it."""

    url: str
    status: int
    headers: Message
    body: http_client.HTTPResponse = field(repr=False)


class _WaryRedirects(url_request.HTTPRedirectHandler):
    max_redirections = _MAX_REDIRECTS
    max_repeats = 2

    def redirect_request(  # noqa: PLR0917 - the signature is urllib's
        self, req: url_request.Request, fp: object, code: int, msg: str, headers: Message, newurl: str
    ) -> url_request.Request | None:
        """Follow only to where the first address may lead: https stays https."""
        _require_safe(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


class WebClient:
    """Opens addresses and asks for JSON. Make one for a run; it holds no connection."""

    def __init__(
        self, *, timeout_seconds: float = 60.0, max_tries: int = 6, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._timeout = timeout_seconds
        self._max_tries = max_tries
        self._wait = wait
        self._opener = url_request.OpenerDirector()
        # Not `build_opener`: that one would also open file: and ftp: addresses.
        for handler in (
            url_request.ProxyHandler(),
            url_request.HTTPHandler(),
            url_request.HTTPSHandler(context=ssl.create_default_context()),
            url_request.HTTPDefaultErrorHandler(),
            _WaryRedirects(),
            url_request.HTTPErrorProcessor(),
        ):
            self._opener.add_handler(handler)

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Answer]:
        """Ask once, and close the answer at the end.

        Raises
        ------
        PassingFaultError
            If another try may help.
        UnreachableSourceError
            If it will not; `status` is set where there was an answer.
        """
        _require_safe(url)
        request = url_request.Request(  # noqa: S310 - the scheme was checked
            url, headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **(headers or {})}
        )
        try:
            response = self._opener.open(request, timeout=self._timeout)
        except url_error.HTTPError as error:
            with error:
                raise _of_status(url, error) from None
        except (OSError, http_client.HTTPException) as error:
            raise _of_connection(url, error) from None
        with response:
            try:
                yield Answer(url=response.geturl(), status=response.status, headers=response.headers, body=response)
            except (TimeoutError, ConnectionError, http_client.HTTPException, ssl.SSLError) as error:
                msg = f"{_shown(url)}: the connection broke while reading ({_reason(error)})."
                raise PassingFaultError(msg) from None

    def json(self, url: str, *, absent: frozenset[int] = frozenset()) -> object:
        """Return the JSON document at an address, or None for a status in `absent`.

        Raises
        ------
        UnreachableSourceError
            If no answer comes after several tries, or the answer is no JSON.
        """

        def ask() -> bytes:
            with self.open(url, {"Accept": "application/json"}) as answer:
                return answer.body.read(_MAX_JSON_BYTES + 1)

        try:
            content = self.persist(ask)
        except UnreachableSourceError as error:
            if error.status in absent:
                return None
            raise
        if len(content) > _MAX_JSON_BYTES:
            msg = f"{_shown(url)}: the answer is over {_MAX_JSON_BYTES:,} bytes, too long for a description."
            raise UnreachableSourceError(msg)
        try:
            return json.loads(content)
        except ValueError:
            page = content.lstrip()[:1] == b"<"
            what = "a web page" if page else f"{len(content):,} bytes that are no JSON"
            msg = f"{_shown(url)}: the server sent {what} where data was asked for. Is a proxy or a login page in between?"
            raise UnreachableSourceError(msg) from None

    def persist(self, action: Callable[[], T]) -> T:
        """Do something until it succeeds, pausing between tries.

        Raises
        ------
        UnreachableSourceError
            If a fault does not pass.
        """
        tries = 0
        while True:
            try:
                return action()
            except PassingFaultError as fault:
                tries = 1 if fault.progressed else tries + 1
                # A machine without a network is told so after seconds, not after minutes of hope.
                if tries >= (3 if fault.offline else self._max_tries) or (fault.pause or 0.0) > _MAX_PAUSE:
                    raise _given_up(fault, tries) from None
                self._wait(fault.pause if fault.pause is not None else min(60.0, 2.0 ** (tries - 1)))


def _given_up(fault: PassingFaultError, tries: int) -> UnreachableSourceError:
    tail = f" Tried {tries} time(s). Try again later: what was downloaded so far is kept and continued."
    if (fault.pause or 0.0) > _MAX_PAUSE:
        tail = f" The server asks to wait {fault.pause:.0f} s. Try again then; what was downloaded so far is kept."
    error = UnreachableSourceError(f"{fault}{'' if fault.offline else tail}")
    error.status = fault.status
    return error


def _require_safe(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname and _is_this_machine(parts.hostname):
        return
    msg = f"{_shown(url)}: only https addresses are read (http on this machine alone): on the way, anybody could change the answer."
    raise UsageError(msg)


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _of_status(url: str, error: url_error.HTTPError) -> UnreachableSourceError:
    """Return the error of an answer that is not a success."""
    found: UnreachableSourceError
    if error.code in _PASSING:
        found = PassingFaultError(
            f"{_shown(url)}: the server answered {error.code} ({error.reason}).", pause=_pause_of(error.headers)
        )
    elif 300 <= error.code < 400:
        found = UnreachableSourceError(
            f"{_shown(url)}: the server redirects in a circle or over {_MAX_REDIRECTS} times. Check the address."
        )
    else:
        found = UnreachableSourceError(
            f"{_shown(url)}: the server answered {error.code} ({error.reason}). Trying again will not help; check the id and the address."
        )
    found.status = error.code
    return found


def _of_connection(url: str, error: Exception) -> UnreachableSourceError:
    """Return the error of a connection that was not made."""
    reason = error.reason if isinstance(error, url_error.URLError) else error
    host = urllib.parse.urlsplit(url).hostname
    if isinstance(reason, ssl.SSLCertVerificationError):
        msg = f"{_shown(url)}: the certificate of {host} does not verify ({reason.verify_message}). Behind a company proxy, give its root certificate in SSL_CERT_FILE."
        return UnreachableSourceError(msg)
    if isinstance(reason, TimeoutError | http_client.HTTPException | ConnectionResetError):
        return PassingFaultError(f"{_shown(url)}: no answer from {host} ({_reason(reason)}).")
    msg = (
        f"no network: {host} cannot be reached ({_reason(reason)}). Connect this machine or set HTTPS_PROXY, or download "
        "the file where there is a network and give its path instead."
    )
    return PassingFaultError(msg, offline=True)


def _pause_of(headers: Message) -> float | None:
    """Return the seconds that `Retry-After` asks for: a number, or a date."""
    said = headers.get("Retry-After", "")
    if said.strip().isdigit():
        return float(said)
    try:
        until = email.utils.parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(tz=UTC)).total_seconds())


def _shown(url: str) -> str:
    """Return an address without user, password and query, which may be secrets."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _reason(error: object) -> str:
    return str(error) or type(error).__name__
