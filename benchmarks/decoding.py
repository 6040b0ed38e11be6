"""The studio's decode loop beside transformers.generate: same model, same dtype, same prompts, greedy, in turn."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.report import row
from studio.models import EMBEDDED, convert, resolve
from studio.settings import Settings
from studio.specs import Sampling, user
from studio.training.conversation import encode_prompt
from studio.training.decode import generate
from studio.training.loading import best_dtype, load_base, load_tokenizer
from studio.training.packing import pack, packed

RUNS = 5
QUESTIONS = (
    "Tell me a long story about a lighthouse.",
    "Explain to a child of ten how a tent keeps the rain out.",
    "List as many animals as you can.",
    "Write a letter to a landlord about a broken heating and ask for a date.",
)


def main() -> None:
    settings = Settings()
    convert(settings.cache, lambda share, message: None)
    weights = resolve(EMBEDDED, settings=settings, store=None, workspace=settings.workspace)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(weights)
    prompts = [encode_prompt(tokenizer, [user(q)]) for q in QUESTIONS] * 8
    theirs, ours = load_base(weights), pack(load_base(weights))
    print(f"dtype {best_dtype()}, {torch.get_num_threads()} threads")
    for batch, tokens in ((1, 64), (32, 32)):
        pairs = [(_peer(theirs, prompts[:batch], tokens), _own(ours, prompts[:batch], tokens)) for _ in range(RUNS + 1)]
        peer, own = zip(*pairs[1:], strict=True)
        print(row(f"{batch} at once: transformers.generate", peer, "tokens/s"))
        print(row(f"{batch} at once: the studio", own, "tokens/s"))
        print(row(f"{batch} at once: ratio", [o / p for p, o in pairs[1:]], ""))


def _own(model: Any, prompts: list[list[int]], tokens: int) -> float:
    started = time.perf_counter()
    with packed(model):
        made = generate(model, prompts, Sampling(max_tokens=tokens), ())
    return sum(len(g.ids) for g in made) / (time.perf_counter() - started)


def _peer(model: Any, prompts: list[list[int]], tokens: int) -> float:
    width = max(map(len, prompts))
    ids = torch.tensor([[2] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    started = time.perf_counter()
    model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens)
    return len(prompts) * tokens / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
