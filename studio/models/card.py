"""The README.md of an exported model: what it is, what it stands on, what it obliges to, and the lines that load it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from studio.models.catalogue import Licence, catalogue
from studio.models.lineage import Step

__all__ = ["BESIDE", "ELSEWHERE", "Facts", "model_card"]

BESIDE = "./base"  # where the base lies in a folder that holds it too; with the dot, no hub has a model of that name
ELSEWHERE = "PATH/TO/BASE"

_ADAPTER = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies
base = "{base}"{note}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
model = PeftModel.from_pretrained(model, folder).eval()
"""
_WHOLE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
"""
_ASK = """
messages = [{"role": "user", "content": "What can you help me with?"}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens=60, do_sample=False, repetition_penalty=1.0)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""


@dataclass(frozen=True)
class Facts:
    """What is told of a model. `steps` are the runs behind it, the newest first; none for a model that came as it is."""

    ref: str
    base: str  # what its adapter goes on, or what it began as
    digest: str  # of the base's weights; '' where it is not known
    steps: Sequence[Step]
    obligations: Sequence[tuple[str, Licence]]


def model_card(facts: Facts, form: str, base: str = "") -> str:
    """The text. `form` says in words what the folder holds; `base` is where the adapter's base lies, '' for whole
    weights."""
    library = "peft" if base else "transformers"
    title = facts.steps[0].model.title if facts.steps else facts.ref
    parts = [
        f"---\nlibrary_name: {library}\npipeline_tag: text-generation\n---",
        f"# {_line(title)}",
        f"{form} Written by Ladder Studio.",
        "\n".join(_table(facts)),
        "## Load it",
        f"```python\n{_lines(base)}{_ASK}```",
        *_about_the_base(facts, base),
        "## What it obliges to",
        "\n".join(_duties(facts)),
    ]
    return "\n\n".join(parts) + "\n"


def _lines(base: str) -> str:
    return _ADAPTER.format(base=base, note="  # see below" if base == ELSEWHERE else "") if base else _WHOLE


def _table(facts: Facts) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    yield f"| Model | {_known(facts.ref)} |"
    whose = "its" if facts.base == facts.ref else "the base's"
    if facts.base != facts.ref:
        yield f"| Base | {_known(facts.base)} |"
    if facts.digest:
        yield f"| SHA-256 of {whose} weights | `{facts.digest}` |"
    for step in facts.steps:
        model = step.model
        frozen = f" (SHA-256 `{step.snapshot.digest}`)" if step.snapshot else ""
        learned = f", learned from `{model.snapshot}`{frozen}" if model.snapshot else ""
        day = time.strftime("%Y-%m-%d", time.gmtime(model.created_at))
        yield f"| Run | `{model.ref}`, method `{model.method}`{learned}, {day} |"
    if facts.steps:
        yield f"| New parameters | {facts.steps[0].model.new_parameters:,} |"


def _known(ref: str) -> str:
    known = {str(entry.ref): entry for entry in catalogue()}.get(ref)
    return f"`{ref}`, {known.title} ({known.licence_url})" if known else f"`{ref}`"


def _about_the_base(facts: Facts, base: str) -> Iterator[str]:
    if not base:
        return
    yield "## Its base"
    if base == BESIDE:
        yield (
            f"`adapter_config.json` says `{base}`: the folder beside it that holds the base, as seen from this one. "
            "Nothing else is needed."
        )
        return
    name = facts.base.split(":", 1)[1]
    found = (
        f"`ladder models export {facts.base} FOLDER`, on any machine with Ladder Studio, writes exactly these weights"
        if facts.base.startswith("embedded:")
        else f"They are those of the folder `{name}` in the models folder of the workspace"
    )
    yield (
        f"`adapter_config.json` says `{facts.base}`, which is a name and no path: no loader finds other weights under it by "
        f"accident. What goes in for `{base}` is a folder with the weights of the SHA-256 above; weights of "
        f"the same name from elsewhere may be rounded otherwise and answer differently. {found}. Or export this model with "
        "its base (`--with-base`), and the folder needs nothing else."
    )


def _duties(facts: Facts) -> Iterator[str]:
    for name, licence in facts.obligations:
        link = f" ({licence.url})" if licence.url else ""
        yield f"- `{name}`: {_line(licence.name)}{link}. {licence.duties}"


def _line(text: str) -> str:
    """Titles come from people: one line, and nothing in it that would end a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")
