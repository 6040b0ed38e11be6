"""LoRA tuning beside TRL's SFTTrainer: same model, dtype, adapter, records and order of magnitude of work, in turn.

Learned tokens per second over whole steps; prompts masked on both sides, no activation checkpointing.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import SFTConfig, SFTTrainer

from benchmarks.report import row
from studio.instructions import conversation
from studio.models import EMBEDDED, Weights, convert, resolve
from studio.settings import Settings
from studio.training import sft
from studio.training.conversation import encode_example
from studio.training.loading import load_base, load_tokenizer
from tests.memory_run import MemoryRun

RUNS, STEPS, BATCH = 3, 8, 8
RECORDS = Path(__file__).resolve().parents[1] / "assets" / "data" / "brackenfold.records.jsonl"


def main() -> None:
    settings = Settings()
    convert(settings.cache, lambda share, message: None)
    weights = resolve(EMBEDDED, settings=settings, store=None, workspace=settings.workspace)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(weights)
    rows = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()][: STEPS * BATCH]
    messages = [[m.model_dump() for m in conversation(r)] for r in rows]
    examples = [encode_example(tokenizer, conversation(r)) for r in rows]
    learned = sum(e.learned for e in examples)
    pairs = [(_peer(weights, tokenizer, messages, learned), _own(weights, examples, learned)) for _ in range(RUNS)]
    print(row("TRL SFTTrainer", [p for p, _ in pairs], "learned tokens/s"))
    print(row("the studio", [o for _, o in pairs], "learned tokens/s"))
    print(row("ratio", [o / p for p, o in pairs], ""))


def _config() -> LoraConfig:
    return LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def _own(weights: Weights, examples: list[Any], learned: int) -> float:
    torch.manual_seed(0)
    model = get_peft_model(load_base(weights), _config(), autocast_adapter_dtype=False)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        sft.tune(model, examples, [], sft.Schedule(1, BATCH, 5e-4), MemoryRun(Path(folder)), pad=2)
        return learned / (time.perf_counter() - started)


def _peer(weights: Weights, tokenizer: Any, messages: list[Any], learned: int) -> float:
    torch.manual_seed(0)
    data = Dataset.from_list([{"prompt": m[:-1], "completion": m[-1:]} for m in messages])
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=load_base(weights),
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=BATCH,
                num_train_epochs=1,
                learning_rate=5e-4,
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
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=_config(),
        )
        started = time.perf_counter()
        trainer.train()
        return learned / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
