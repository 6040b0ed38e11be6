"""A prompt as something to run elsewhere: Python, curl, or the JSON of OpenAI's chat format.

Whatever the texts hold, the quoting is right: Python literals come from `repr`, the shell's from `shlex`. Addresses and
keys are never written; the snippets read OPENAI_BASE_URL and OPENAI_API_KEY from the environment where they run.
A sampling setting that a format lacks is named in a comment (and in `left_out`), never dropped in silence.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from studio.errors import InputError, Unsupported
from studio.models.endpoints import split_endpoint
from studio.specs import Message, ModelRef, Sampling

__all__ = ["FORMATS", "Export", "Format", "export"]

Format = Literal["openai-python", "transformers-python", "curl", "openai-json"]
FORMATS: tuple[Format, ...] = get_args(Format)

_MOST_BYTES = 120_000  # Linux takes no longer argument than 128 KiB
_OPENAI = ("temperature", "top_p", "max_tokens", "stop", "seed", "json_schema")
_TRANSFORMERS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "stop", "seed")


@dataclass(frozen=True)
class Export:
    """The snippet, the language to colour it as, and the sampling settings that its format cannot say."""

    text: str
    language: Literal["python", "bash", "json"]
    left_out: tuple[str, ...]


def export(
    format: Format, model: ModelRef, messages: Sequence[Message], sampling: Sampling, folder: str = ""
) -> Export:
    """Write a prompt in one of `FORMATS`. `folder` is where transformers finds the weights.

    Raises Unsupported for transformers with a model that has no weights here, and InputError for a format that is not
    known or a prompt too long for one command line.
    """
    known = _TRANSFORMERS if format == "transformers-python" else _OPENAI
    left_out = _left_out(sampling, known)
    request = _request(model, messages, sampling)
    match format:
        case "openai-python":
            return Export(_openai_python(request, left_out), "python", left_out)
        case "transformers-python":
            return Export(
                _transformers_python(model, request["messages"], sampling, folder, left_out), "python", left_out
            )
        case "curl":
            return Export(_curl(request, left_out), "bash", left_out)
        case "openai-json":
            return Export(json.dumps(request, ensure_ascii=False, indent=2) + "\n", "json", left_out)
        case _:
            raise InputError(f"'{format}' is not a format to export to. The formats are: {', '.join(FORMATS)}.")


def _request(model: ModelRef, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    """The body of a chat completion."""
    request: dict[str, Any] = {
        "model": _name_for_server(model),
        "messages": [{"role": m.role, "content": _whole(m.content)} for m in messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
    }
    if sampling.stop:
        request["stop"] = [_whole(text) for text in sampling.stop]
    if sampling.json_schema:
        schema = {"name": "answer", "strict": True, "schema": json.loads(sampling.json_schema)}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    return request


def _name_for_server(model: ModelRef) -> str:
    """What a server calls the model: of `endpoint:NAME/model` the part that is the server's own."""
    return split_endpoint(model)[1] if model.kind == "endpoint" else str(model)


def _left_out(sampling: Sampling, known: Sequence[str]) -> tuple[str, ...]:
    """The settings that say something and that the format has no word for: 'top_k 40'."""
    neutral, found = Sampling(), []
    for name in type(sampling).model_fields:
        value = getattr(sampling, name)
        if name not in known and value != getattr(neutral, name):
            # A comment is one line, so a long setting is named only.
            found.append(f"{name} {value}" if isinstance(value, int | float) else name)
    return tuple(found)


def _comment(left_out: Sequence[str], what: str) -> list[str]:
    return [f"# Left out, since {what} has no such setting: {', '.join(left_out)}."] if left_out else []


def _openai_python(request: dict[str, Any], left_out: Sequence[str]) -> str:
    arguments = [
        f"    {name}={_literal(value, 1)}," if name != "messages" else _messages_argument(value)
        for name, value in request.items()
    ]
    return "\n".join(
        [
            "from openai import OpenAI",
            "",
            "client = OpenAI()  # OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom",
            *_comment(left_out, "the chat format"),
            "response = client.chat.completions.create(",
            *arguments,
            ")",
            "print(response.choices[0].message.content)",
            "",
        ]
    )


def _transformers_python(
    model: ModelRef, messages: Sequence[dict[str, str]], sampling: Sampling, folder: str, left_out: Sequence[str]
) -> str:
    if model.kind in ("endpoint", "echo"):
        raise Unsupported(f"{model} has no weights that transformers could load. Export it for the openai client.")
    place = folder or (model.name if model.kind == "hf" else "")
    if not place:
        raise InputError(f"Where the weights of {model} lie is not said. Give the folder that transformers loads.")
    settings = _generation(sampling)
    return "\n".join(
        [
            "import torch",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"place = {_literal(place, 0)}",
            "tokenizer = AutoTokenizer.from_pretrained(place)",
            'model = AutoModelForCausalLM.from_pretrained(place, dtype="auto").eval()',
            f"messages = {_turns(messages, 0)}",
            'inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")',
            f"torch.manual_seed({sampling.seed})",
            *_comment(left_out, "generate"),
            "with torch.inference_mode():",
            "    output = model.generate(",
            "        **inputs,",
            *(f"        {name}={_literal(value, 2)}," for name, value in settings.items()),
            *(["        tokenizer=tokenizer,  # to find the stop strings"] if sampling.stop else []),
            "    )",
            'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
            "",
        ]
    )


def _generation(sampling: Sampling) -> dict[str, Any]:
    """Every setting said out loud, so that none of a checkpoint's own leaks in."""
    settings: dict[str, Any] = {"max_new_tokens": sampling.max_tokens, "do_sample": sampling.temperature > 0}
    if sampling.temperature > 0:
        settings |= {name: getattr(sampling, name) for name in ("temperature", "top_p", "top_k", "min_p")}
    settings["repetition_penalty"] = sampling.repetition_penalty
    if sampling.stop:
        settings["stop_strings"] = [_whole(text) for text in sampling.stop]
    return settings


def _curl(request: dict[str, Any], left_out: Sequence[str]) -> str:
    body = json.dumps(request, ensure_ascii=False)
    if len(shlex.quote(body).encode()) > _MOST_BYTES:
        raise InputError(
            f"The prompt is too long for one command line ({len(body.encode()):,} bytes). "
            "Export it as OpenAI JSON, and send that file with curl --data-binary @FILE."
        )
    lines = [
        *_comment(left_out, "the chat format"),
        'curl -sS "$OPENAI_BASE_URL/chat/completions" \\',
        '  -H "Authorization: Bearer $OPENAI_API_KEY" \\',
        "  -H 'Content-Type: application/json' \\",
        f"  --data-binary {shlex.quote(body)}",
        "",
    ]
    return "\n".join(lines)


def _messages_argument(messages: Sequence[dict[str, str]]) -> str:
    return f"    messages={_turns(messages, 1)},"


def _turns(messages: Sequence[dict[str, str]], depth: int) -> str:
    inner = "    " * (depth + 1)
    lines = [f'{inner}{{"role": "{m["role"]}", "content": {_literal(m["content"], depth + 1)}}},' for m in messages]
    return "\n".join(["[", *lines, "    " * depth + "]"])


def _literal(value: Any, depth: int) -> str:
    """A Python literal; a text of several lines stands as one string a line, so that it can be read."""
    if not isinstance(value, str) or "\n" not in value.rstrip("\n"):
        return repr(value)
    inner = "    " * (depth + 1)
    *lines, last = value.split("\n")
    pieces = [repr(f"{line}\n") for line in lines] + ([repr(last)] if last else [])
    return "\n".join(["(", *(inner + piece for piece in pieces), "    " * depth + ")"])


def _whole(text: str) -> str:
    """Without half characters (lone surrogates), which no request can carry."""
    return text.encode("utf-8", "replace").decode()
