"""Tiny models made on the spot: a real byte-level BPE with a ChatML template, and a random Llama that never ends an
answer by itself. Nothing is fetched. Imports torch, so fixtures import it only when they run.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import gguf
import numpy as np
import torch
from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXT = [
    "The quick brown fox jumps over the lazy dog. What is the capital of France? Paris is the capital of France.",
    "Say hello to everyone in the room, one after the other, and count to ten: one two three four five six seven.",
    "system user assistant answer question example 0 1 2 3 4 5 6 7 8 9",
]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(BPE())
    core.pre_tokenizer = ByteLevel(add_prefix_space=False)
    core.decoder = ByteLevelDecoder()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = ByteLevel.alphabet()
    core.train_from_iterator(
        _TEXT * 3,
        BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def tiny_llama(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.4,  # wide enough that the likeliest token is clearly so
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    # A logit of exactly 0 is never the largest of 400: greedy answers run to their length.
    with torch.no_grad():
        model.lm_head.weight[tokenizer.all_special_ids] = 0
    return model


def save_adapter(base: Path, folder: Path, config: PeftConfig, seed: int = 1) -> Path:
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # PEFT 0.21.2 asks transformers 5.23 by an old name.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        get_peft_model(LlamaForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


def save_lora(base: Path, folder: Path, seed: int = 1) -> Path:
    """A LoRA adapter that changes the base's answers."""
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return save_adapter(base, folder, config, seed)


def save_ia3(base: Path, folder: Path) -> Path:
    """An adapter that is not LoRA, and changes the base's answers."""
    layers = {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
    config = IA3Config(**layers, init_ia3_weights=False, task_type="CAUSAL_LM")
    return save_adapter(base, folder, config)


def write_gguf(path: Path) -> Path:
    """A GGUF file with random weights, laid out like the embedded model's."""
    tokenizer = tiny_tokenizer()
    core = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(core["vocab"], key=core["vocab"].get)
    size, wide, layers, keys = 32, 64, 2, 16
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_vocab_size(len(tokens))
    writer.add_context_length(512)
    writer.add_embedding_length(size)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges([" ".join(merge) if isinstance(merge, list) else merge for merge in core["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_chat_template(CHATML)
    random = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(np.float32))

    add("token_embd", len(tokens), size)
    add("output_norm", size)
    for layer in range(layers):
        block = f"blk.{layer}"
        add(f"{block}.attn_norm", size)
        add(f"{block}.ffn_norm", size)
        add(f"{block}.attn_q", size, size)
        add(f"{block}.attn_k", keys, size)
        add(f"{block}.attn_v", keys, size)
        add(f"{block}.attn_output", size, size)
        add(f"{block}.ffn_gate", wide, size)
        add(f"{block}.ffn_up", wide, size)
        add(f"{block}.ffn_down", size, wide)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
