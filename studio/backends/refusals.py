"""What went wrong with a server, in words: which endpoint, what it said, and the cure.

What a server writes is somebody else's text: it is shortened to a line, the key is struck out of it, and it can hold
no markup, wherever the sentence ends up.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from studio.errors import ModelError
from studio.models.endpoints import Opened

if TYPE_CHECKING:
    import openai

__all__ = ["hanging", "in_words", "no_api", "quoted", "retry_after", "said_by"]

_LONGEST_QUOTE = 300
_WORTH_ANOTHER_TRY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_WEB_PAGE = re.compile(r"\s*(<!doctype\s+html|<html|<head|<body)", re.IGNORECASE)


def in_words(error: openai.APIError, opened: Opened, model: str, tries: int) -> ModelError:
    """The sentence for what the openai client raised."""
    import openai  # only here: see wire.connect

    name = opened.endpoint.name
    if isinstance(error, openai.APIStatusError):
        return ModelError(_of_status(error, opened, model, tries))
    if isinstance(error, openai.APIConnectionError):
        cause = quoted(str(error.__cause__ or ""), opened)
        return ModelError(
            f"{name} cannot be reached at {opened.endpoint.host}{f' ({cause})' if cause else ''}{_in_tries(tries)}. "
            "Start that server, or check its address in Models."
        )
    return ModelError(f"{name} broke off with an error: {said_by(error.body, opened) or quoted(str(error), opened)}")


def hanging(opened: Opened) -> str:
    """The sentence for a server that says nothing."""
    seconds = f"{opened.endpoint.timeout:g} seconds"
    return (
        f"{opened.endpoint.name} at {opened.endpoint.host} sent nothing for {seconds}, and the connection was closed. "
        "It may be overloaded or still loading the model: try again later, or give it more patience in Models."
    )


def no_api(opened: Opened, what: str) -> str:
    """The sentence for a server that answers with something else."""
    return (
        f"{opened.endpoint.name} answered with {what}, not as an OpenAI-compatible server does. "
        f"Check its address in Models ({opened.endpoint.url}): it usually ends with /v1."
    )


def _of_status(error: openai.APIStatusError, opened: Opened, model: str, tries: int) -> str:
    name, code = opened.endpoint.name, error.status_code
    said = said_by(error.body, opened)
    quote = f": {said}" if said else ""
    after = error.response.headers.get("retry-after", "")
    wait = f"It asks to wait {quoted(after, opened)} seconds. " if after else ""
    words = {
        401: f"{name} does not accept the key (401{quote}). Remove it in Models and add it with a valid key.",
        403: f"{name} does not let this key use {model} (403{quote}). Ask whoever runs it, or choose another model.",
        404: (
            f"{name} knows no model '{model}', or nothing is at its address (404{quote}). "
            f"Test it in Models to see what it has; {opened.endpoint.url} usually ends with /v1."
        ),
        429: (
            f"{name} takes no more questions for now (429{quote}){_in_tries(tries)}. {wait}"
            "Ask again later, or ask whoever runs it for more."
        ),
    }
    if 300 <= code < 400:
        return _of_redirect(error, opened)
    if code in words:
        return words[code]
    if code >= 500:
        return f"{name} failed ({code}{quote}){_in_tries(tries)}. Try again later, or tell whoever runs it."
    return f"{name} refused the question ({code}{quote}). Change what it names, or choose another model."


def _of_redirect(error: openai.APIStatusError, opened: Opened) -> str:
    try:
        target = urlsplit(error.response.headers.get("location", "")).netloc.rpartition("@")[2]
    except ValueError:
        target = ""
    to = quoted(target, opened) or "another address"
    return (
        f"{opened.endpoint.name} sends questions on to {to} ({error.status_code}). That is not followed: the key and "
        "the prompt would go there. If you trust it, add an endpoint with its final address."
    )


def said_by(body: Any, opened: Opened) -> str:
    """The message in an error's body: {"error": {"message": …}}, {"detail": …}, or the text itself."""
    if isinstance(body, str):
        return "a web page" if _WEB_PAGE.match(body) else quoted(body, opened)
    for key in ("error", "message", "detail"):
        if isinstance(body, dict) and body.get(key):
            return said_by(body[key], opened)
    return quoted(json.dumps(body), opened) if body else ""


def quoted(text: str, opened: Opened) -> str:
    """A server's text as one line that may be shown anywhere, without the key and without markup."""
    if opened.key:
        text = text.replace(opened.key, "[key]")
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text[:20_000]).split())
    # Toasts render HTML; a server's text is text.
    line = line.replace("<", "‹").replace(">", "›")
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}…"


def retry_after(error: openai.APIError) -> float | None:
    """Whether to ask again: the seconds that the server wants us to wait, 0 when it names none, None for never.

    A place that does not even refuse a connection is not tried again: nothing changes there within seconds.
    """
    import openai

    if isinstance(error, openai.APIStatusError):
        if error.status_code not in _WORTH_ANOTHER_TRY:
            return None
        try:
            return max(0.0, float(error.response.headers.get("retry-after", "0")))
        except ValueError:  # a date: then our own pace is as good a guess
            return 0.0
    if isinstance(error, openai.APITimeoutError):
        return None
    return 0.0 if isinstance(error, openai.APIConnectionError) else None


def _in_tries(tries: int) -> str:
    return f", in {tries} tries" if tries > 1 else ""
