"""From weights and a method to a model that learns: what is new beside it, what of it may change, how it is saved.

A `Learner` answers the training loop's few questions; everything else about a method is PEFT's own.
"""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, LoraModel, PeftConfig, PeftModel, PeftType, get_peft_model
from peft.tuners.adaption_prompt.config import TRANSFORMERS_MODEL_CONFIG
from torch import Tensor, nn

from studio.errors import ModelError, Unsupported
from studio.models import Weights
from studio.training.actors import save_adapter
from studio.training.beginnings import Prefixed, beginning_of, has_beginning
from studio.training.loading import best_device, load_base
from studio.training.method import Method, own_names
from studio.training.optimizer import trainable
from studio.training.sizes import no_ia3

__all__ = ["Learner", "learner", "quantization_refusal"]

_FEWEST_STEPS = 10  # in which AdaLoRA has anything to allot
_IA3_LAYERS = (("k_proj", "v_proj", "down_proj"), ("key", "value", "output.dense"), ("c_attn", "mlp.c_proj"))


class Learner:
    """A model with something in it that learns."""

    def __init__(self, model: Any, weights: Weights) -> None:
        self.model, self.weights = model, weights

    @property
    def causal(self) -> Any:
        """The model with its output layer, without PEFT around it."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def device(self) -> torch.device:
        return next(self.causal.parameters()).device

    def parameters(self) -> dict[str, nn.Parameter]:
        """What may change, by name."""
        return trainable(self.model)

    @property
    def size(self) -> int:
        """How many numbers may change."""
        return sum(p.numel() for p in self.parameters().values())

    def reading(self, *, learns: bool = False) -> Any:
        """The model as it is called: behind the beginning that some adapters are."""
        if has_beginning(self.model):
            return Prefixed(self.causal, beginning_of(self.model, learns=learns))
        return self.causal

    @property
    def is_neutral(self) -> bool:
        """Whether what learns changes nothing before its first step. A beginning is there from the start, and says
        something at random until it has learned."""
        return not has_beginning(self.model)

    @contextmanager
    def untouched(self) -> Iterator[Any]:
        """The model that learning begins with, called as `reading` is. To be asked before the first step."""
        if not self.is_neutral:
            yield self.causal
        elif (
            isinstance(self.model, PeftModel)
            and self.weights.adapter is None
            and isinstance(self.model.base_model, LoraModel)
        ):
            # The same numbers without the work of updates that are still zero: a quarter of the time of an answer.
            with self.model.disable_adapter():
                yield self.causal
        else:
            yield self.reading()

    def penalty(self) -> Tensor | float:
        """What the method adds to the loss, in nats per learned token."""
        return 0.0

    def after_step(self, step: int) -> bool:
        """Called after each optimizer step, gradients still there; True when it changed parameters itself."""
        return False

    def is_settled(self, step: int) -> bool:
        """Whether what is learned after that step can be kept as it is."""
        return True

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold besides parameters and optimizer."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""

    def save(self, folder: Path) -> None:
        """A finished model that plain peft or plain transformers loads; it names its base by reference."""
        save_adapter(self.model, folder, str(self.weights.ref))

    def save_part(self, folder: Path) -> None:
        """For a checkpoint: what people may want to look at. What training goes on from is the optimizer's."""
        self.save(folder)


class _OwnWeights(Learner):
    """Some or all of the model's own weights."""

    def __init__(self, model: Any, weights: Weights, method: Method) -> None:
        super().__init__(model, weights)
        model.requires_grad_(False)
        for name in own_names(method, [name for name, _ in model.named_parameters()], str(weights.ref)):
            model.get_parameter(name).requires_grad_(True)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(str(folder))
        for file in self.weights.base.iterdir():  # tokenizer and chat template: part of the model people use
            # Not what the base's owner notes of its weights: these are others.
            is_note = file.name.startswith(".") or file.name == "SHA256SUMS"
            if file.is_file() and not is_note and not (folder / file.name).exists() and not _is_weights(file):
                shutil.copy2(file, folder / file.name)

    def save_part(self, folder: Path) -> None:
        """Nothing: the optimizer's masters are these weights, in float32."""


class _AdaLora(Learner):
    """Low-rank updates whose ranks move to where they matter (Zhang et al. 2023, arXiv 2303.10512)."""

    def __init__(self, model: Any, weights: Weights) -> None:
        super().__init__(model, weights)
        for name, parameter in model.named_parameters():
            if ".ranknum." in name:  # in bfloat16 PEFT's count of ranks becomes a parameter; it is never saved
                parameter.requires_grad_(False)

    def penalty(self) -> Tensor | float:
        """How far P and Q are from orthogonal: the mean of ||P P^T - I|| over them (their equation 4)."""
        config: Any = self.model.peft_config["default"]
        parts = []
        for name, p in self.model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                product = p @ p.T if ".lora_A." in name else p.T @ p
                parts.append(torch.linalg.norm(product - torch.eye(len(product), dtype=p.dtype, device=p.device)))
        return config.orth_reg_weight * torch.stack(parts).mean() if parts else 0.0

    def after_step(self, step: int) -> bool:
        self.model.base_model.update_and_allocate(step)
        return True

    def is_settled(self, step: int) -> bool:
        """Not before the ranks are dealt out: what they are then cut to would be another model."""
        config: Any = self.model.peft_config["default"]
        return step > config.total_step - config.tfinal

    def save(self, folder: Path) -> None:
        with warnings.catch_warnings():
            # Layers that were left without a rank are what AdaLoRA is for, and no sign of a torn file.
            warnings.filterwarnings("ignore", message=".*LoRA tensor.*have invalid shape")
            super().save(folder)

    def tensors(self) -> dict[str, Tensor]:
        allocator, config = self.model.base_model.rankallocator, self.model.peft_config["default"]
        kept = {
            f"adalora/{kind}/{name}": value
            for kind in ("exp_avg_ipt", "exp_avg_unc")
            for name, value in getattr(allocator, kind).items()
        }
        pattern = {f"adalora/ranks/{n}": torch.tensor(ranks) for n, ranks in (config.rank_pattern or {}).items()}
        return {name: value.detach().cpu().clone() for name, value in {**kept, **pattern}.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        allocator, config = self.model.base_model.rankallocator, self.model.peft_config["default"]
        pattern: dict[str, list[bool]] = {}
        for key, value in tensors.items():
            if not key.startswith("adalora/"):
                continue
            _, kind, name = key.split("/", 2)
            if kind == "ranks":
                pattern[name] = value.tolist()
            else:
                getattr(allocator, kind)[name] = value.to(self.device)
                allocator.ipt.setdefault(name, torch.zeros_like(value, device=self.device))
        config.rank_pattern = pattern or None


def learner(weights: Weights, method: Method, *, steps: int) -> Learner:
    """The base with what learns in it, in training precision; `steps` of training will follow.

    Raises Unsupported for what the method cannot do on this model or this machine, InputError for layers that are not
    there, ModelError when the weights cannot be read.
    """
    if not method.peft:
        if weights.adapter is not None:
            raise Unsupported(
                f"{weights.ref} is an adapter on {weights.base.name}, which has no weights of its own to train. "
                "Choose its base, or tune it further with LoRA."
            )
        return _OwnWeights(load_base(weights), weights, method)
    if weights.adapter is not None:
        return _continued(weights, method)
    base = _quantized(weights) if method.is_quantized else load_base(weights)
    config = _config(method, base, weights, steps)
    kind = _AdaLora if method.peft == "ADALORA" else Learner
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Note that `r` is not used in AdaLora")
            model = get_peft_model(base, config, autocast_adapter_dtype=False)
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise Unsupported(
            f"{_spoken(method.peft)} cannot be put on {weights.ref} ({str(error).splitlines()[0]}). Choose LoRA instead."
        ) from error
    return kind(model, weights)


def quantization_refusal() -> str:
    """Why 4-bit weights cannot be had here, or ''."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return "QLoRA needs the package bitsandbytes, which is not installed here. Install it, or choose LoRA."
    if not torch.cuda.is_available():
        return "QLoRA needs a GPU that bitsandbytes can use, and this machine has none. Choose LoRA."
    return ""


def _continued(weights: Weights, method: Method) -> Learner:
    """LoRA goes on from a copy of a LoRA adapter, so that the result is one adapter on the original base."""
    assert weights.adapter is not None
    before = str(PeftConfig.from_pretrained(str(weights.adapter)).peft_type).removeprefix("PeftType.")
    if before != "LORA" or method.peft != "LORA":
        raise Unsupported(
            f"{weights.ref} was made with {_spoken(before)}, and {_spoken(method.peft)} cannot go on from it: adapters of "
            "different kinds do not share a base. Tune its base instead, or go on from a LoRA run with LoRA."
        )
    base = _quantized(weights) if method.is_quantized else load_base(weights)
    model = PeftModel.from_pretrained(base, str(weights.adapter), is_trainable=True, autocast_adapter_dtype=False)
    return Learner(model, weights)


def _config(method: Method, base: Any, weights: Weights, steps: int) -> PeftConfig:
    settings = dict(method.settings)
    match method.peft:
        case "LORA" | "ADALORA":
            settings["target_modules"] = "all-linear"
        case "IA3":
            settings["target_modules"], settings["feedforward_modules"] = _ia3_layers(base, weights)
        case "ADAPTION_PROMPT":
            layers = base.config.num_hidden_layers
            if base.config.model_type not in TRANSFORMERS_MODEL_CONFIG:
                raise Unsupported(
                    f"LLaMA-Adapter is not made for models of the kind '{base.config.model_type}', which {weights.ref} is. "
                    f"It knows {', '.join(sorted(TRANSFORMERS_MODEL_CONFIG))}. Choose LoRA instead."
                )
            settings["adapter_layers"] = min(settings["adapter_layers"], layers)
    if method.peft == "ADALORA":
        if steps < _FEWEST_STEPS:
            raise Unsupported(
                f"AdaLoRA moves its ranks over many steps, and this run has {steps}. Give it at least {_FEWEST_STEPS}: "
                "more epochs, a smaller batch or more records. Or choose LoRA."
            )
        settings |= {"total_step": steps, "tinit": steps // 10, "tfinal": steps // 4, "deltaT": 1}
    made: Any = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method.peft)]
    return made(task_type="CAUSAL_LM", **settings)


def _ia3_layers(base: Any, weights: Weights) -> tuple[list[str], list[str]]:
    """Keys, values and the last of the feed-forward layers (Liu et al. 2022, arXiv 2205.05638), by what they are called."""
    names = [name for name, module in base.named_modules() if isinstance(module, nn.Linear)]
    for layers in _IA3_LAYERS:
        if all(any(name.endswith(layer) for name in names) for layer in layers):
            return list(layers), [layers[-1]]
    raise Unsupported(no_ia3(str(base.config.model_type), weights))


def _quantized(weights: Weights) -> Any:
    """The base with its matrices in 4-bit NormalFloat, ready to have gradients pass through."""
    if refusal := quantization_refusal():
        raise Unsupported(refusal)
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    compute = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(weights.base),
            quantization_config=how,
            device_map={"": best_device()},
            dtype=compute,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{weights.ref} cannot be loaded in 4 bits ({error}). Choose LoRA instead.") from error
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False).eval()


def _is_weights(file: Path) -> bool:
    return file.suffix in (".safetensors", ".bin", ".gguf", ".pt") or file.name.endswith(".index.json")


def _spoken(peft: str) -> str:
    """A method's name for people."""
    return {
        "LORA": "LoRA",
        "ADALORA": "AdaLoRA",
        "IA3": "IA3",
        "PREFIX_TUNING": "prefix tuning",
        "PROMPT_TUNING": "prompt tuning",
        "P_TUNING": "p-tuning",
        "ADAPTION_PROMPT": "LLaMA-Adapter",
    }.get(peft, peft)
