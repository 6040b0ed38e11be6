"""PPO on the embedded model: episodes per second and peak memory, each value mode in a process of its own.

16 episodes an iteration, 48 response tokens, 2 epochs, LoRA r 16, the model's own precision: the settings at which
TRL 1.12's `trl.experimental.ppo` made 0.73 to 0.84 episodes/s with a peak of 4.9 to 5.3 GiB on two like cores. TRL has
removed its PPO trainer since, so that peer does not run beside this one; its figure is quoted.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.report import row
from studio.models import EMBEDDED, convert, resolve
from studio.settings import Settings
from studio.specs import user
from studio.training import alignment
from studio.training.actors import new_adapter, save_adapter
from studio.training.conversation import encode_prompt, end_of_turn, stop_ids
from studio.training.loading import load_tokenizer
from studio.training.ppo import Knobs, Trainer
from studio.training.reward import RewardHead

ITERATIONS = 5
PROMPTS = Path(__file__).resolve().parents[1] / "assets" / "data" / "brackenfold.prompts.jsonl"


def main() -> None:
    for mode in ("shared", "adapter"):
        made = subprocess.run(
            [sys.executable, "-m", "benchmarks.alignment", mode], check=True, capture_output=True, text=True
        )
        found = json.loads(made.stdout.splitlines()[-1])
        print(row(f"the studio, value {mode}", found["episodes"], "episodes/s"))
        print(row(f"the studio, value {mode}", [found["peak"]], "GiB at the peak"))
        print("  seconds of an iteration:", {name: round(s, 2) for name, s in found["spent"].items()})
    print("TRL 1.12 on two like cores (quoted)            0.73 to 0.84 episodes/s, 4.9 to 5.3 GiB at the peak")


def measure(mode: str) -> dict[str, object]:
    """Episodes per second of every iteration after the first, and the process's peak in GiB."""
    settings = Settings()
    convert(settings.cache, lambda share, message: None)
    weights = resolve(EMBEDDED, settings=settings, store=None, workspace=settings.workspace)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(weights)
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    prompts = [encode_prompt(tokenizer, [user(r["instruction"])]) for r in rows]
    knobs = Knobs(
        ITERATIONS, value_mode="adapter" if mode == "adapter" else "shared", max_tokens=48, target_kl=1e9, kl_stop=1e9
    )
    with tempfile.TemporaryDirectory() as folder:
        scorer = Path(folder)
        model = new_adapter(weights, 16, 32)
        save_adapter(model, scorer, str(EMBEDDED))
        RewardHead(model.config.hidden_size).save(scorer)
        del model
        torch.manual_seed(0)
        actors, head, reference = alignment.cast(weights, replace(weights, adapter=scorer), knobs)
    alignment.attend(actors, prompts, knobs)
    stops = stop_ids(tokenizer)
    score = alignment.scorer(actors, head, end_of_turn(tokenizer), tokenizer.pad_token_id)
    trainer = Trainer(actors, reference, prompts, score, stops, knobs, pad=tokenizer.pad_token_id)
    figures = [trainer.iterate() for _ in range(ITERATIONS)][1:]
    times = {name: sum(f[name] for f in figures) / len(figures) for name in figures[0] if name.startswith("time/")}
    return {
        "episodes": [f["perf/episodes_s"] for f in figures],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "spent": times,
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
