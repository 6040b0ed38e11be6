"""LoRA tuning beside TRL's SFTTrainer: same model, dtype, adapter, records, seed and optimizer, in turn.

Each side in a process of its own, so that its peak memory is its own. Learned tokens per second over whole steps, one
pass over the same records; prompts masked on both sides, no activation checkpointing. What came of it is measured by one
plain computation: the validation loss of the adapter each side saved.

LLaMA-Factory 0.9.5's command line learned 139 tokens/s in 4.05 GiB on like records on such a machine; its parts cannot
be installed beside these, so that figure is quoted and not measured here.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import row

RUNS, BATCH, RATE = 3, 8, 5e-4
TRAIN, VALIDATION = 128, 32
RECORDS = Path(__file__).resolve().parents[1] / "assets" / "data" / "brackenfold.records.jsonl"


def main() -> None:
    sides = {"TRL SFTTrainer": "peer", "the studio": "own"}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for seed in range(RUNS):  # the spread of the losses is that of the seeds
        for name, side in sides.items():
            found[name].append(_measured(side, seed))
            told = ", ".join(f"{figure} {value:.3f}" for figure, value in found[name][-1].items())
            print(f"{name}: {told}", flush=True)
    for name, runs in found.items():
        print(row(name, [r["tokens_per_second"] for r in runs], "learned tokens/s"))
    pairs = list(zip(*found.values(), strict=True))
    print(row("ratio", [own["tokens_per_second"] / peer["tokens_per_second"] for peer, own in pairs], ""))
    for name, runs in found.items():
        print(row(f"{name}, peak memory", [r["peak_gb"] for r in runs], "GB"))
    for name, runs in found.items():
        print(row(f"{name}, validation loss after", [r["validation_loss"] for r in runs], "nats"))
    print(row("validation loss before", [runs[0]["validation_loss_before"] for runs in found.values()], "nats"))


def _measured(side: str, seed: int) -> dict[str, float]:
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.tuning", side, str(seed)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise SystemExit(made.stderr[-3000:])
    return json.loads(made.stdout.strip().splitlines()[-1])


def one_side(side: str, seed: int) -> None:
    import torch

    from studio.instructions import conversation
    from studio.models import EMBEDDED, convert, resolve
    from studio.settings import Settings
    from studio.training.conversation import encode_example
    from studio.training.loading import load_tokenizer

    settings = Settings()
    convert(settings.cache, lambda share, message: None)
    weights = resolve(EMBEDDED, settings=settings, store=None, workspace=settings.workspace)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(weights)
    rows = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]
    talks = [conversation(r) for r in rows]
    examples = [encode_example(tokenizer, talk) for talk in talks]
    train, held_out = examples[:TRAIN], examples[TRAIN : TRAIN + VALIDATION]
    learned = sum(e.learned for e in train)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        if side == "own":
            model, seconds = _own(weights, train, seed, Path(folder))
        else:
            model, seconds = _peer(weights, tokenizer, talks[:TRAIN], seed, Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        with model.disable_adapter():
            before = _loss(model, held_out)
        after = _loss(model, held_out)
    told = {"tokens_per_second": learned / seconds, "peak_gb": peak * 2**30 / 1e9}
    print(json.dumps({**told, "validation_loss": after, "validation_loss_before": before}))


def _loss(model: Any, examples: list[Any]) -> float:
    """Nats per learned token by the plain computation, the same for both sides."""
    import torch

    from studio.training.sft import collate

    total, learned = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(examples), BATCH):
            ids, mask, labels = collate(examples[start : start + BATCH], pad=2)
            logits = model.eval()(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            total += float(
                torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
            )
            learned += int((labels[:, 1:] != -100).sum())
    return total / learned


def _lora() -> dict[str, Any]:
    return {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0}


def _own(weights: Any, examples: list[Any], seed: int, folder: Path) -> tuple[Any, float]:
    from studio.training import sft
    from studio.training.attention import choose_attention
    from studio.training.method import Method
    from studio.training.methods import learner
    from tests.memory_run import MemoryRun

    schedule = sft.Schedule(1, BATCH, RATE, seed=seed)
    pupil = learner(weights, Method("LORA", _lora()), steps=len(examples) // BATCH)
    choose_attention(pupil.model, BATCH, max(len(e.ids) for e in examples))
    started = time.perf_counter()
    sft.tune(pupil, examples, [], schedule, MemoryRun(folder), pad=2)
    return pupil.model, time.perf_counter() - started


def _peer(weights: Any, tokenizer: Any, talks: list[Any], seed: int, folder: Path) -> tuple[Any, float]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from studio.training.loading import load_base

    messages = [[m.model_dump() for m in talk] for talk in talks]
    trainer = SFTTrainer(
        model=load_base(weights),
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, round(TRAIN / BATCH * 0.05)),
            max_grad_norm=1.0,
            seed=seed,
            completion_only_loss=True,
            gradient_checkpointing=False,
            bf16=False,  # the weights are bf16 already
            report_to=[],
            save_strategy="no",
            logging_steps=1000,
            use_cpu=not torch.cuda.is_available(),
            dataset_num_proc=None,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": m[:-1], "completion": m[-1:]} for m in messages]),
        processing_class=tokenizer,
        peft_config=LoraConfig(**_lora(), target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    started = time.perf_counter()
    trainer.train()
    return trainer.model, time.perf_counter() - started


if __name__ == "__main__":
    one_side(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 1 else main()
