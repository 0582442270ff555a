"""Helpers shared by the golden-file scripts: paths, number formatting, loading and greedy decoding."""

import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging as hf_logging

hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)  # the order of float sums must not depend on the machine

GOLDEN = Path(__file__).resolve().parent
NEEDLE = GOLDEN.parent.parent / "models" / "needle"
GREEDY_STEPS = 64


def number(x):
    """A float with 7 significant digits; whole numbers stay short."""
    x = float(f"{float(x):.7g}")
    return int(x) if x == int(x) else x


def numbers(tensor):
    """A (nested) list of rounded floats."""
    if tensor.ndim > 1:
        return [numbers(row) for row in tensor]
    return [number(x) for x in tensor.tolist()]


def write_json(path, data):
    path = GOLDEN / path
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"  {path.relative_to(GOLDEN)}: {path.stat().st_size} bytes")


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def load_model(folder):
    """Any stored dtype is upcast to float32; CPU; sdpa attention."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    return model.eval()


def samples():
    with open(NEEDLE / "samples.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def margin(logits):
    best = logits.topk(2).values
    return float(f"{(best[0] - best[1]).item():.4g}")


@torch.no_grad()
def greedy(model, token_ids, steps=GREEDY_STEPS):
    """Greedy decoding with a cache that never stops at EOS: (ids, distance of the best to the second logit)."""
    cache = DynamicCache(config=model.config)
    ids, margins = [], []
    feed = list(token_ids)
    for _ in range(steps):
        last = model(torch.tensor([feed]), past_key_values=cache).logits[0, -1]
        feed = [int(last.argmax())]
        ids += feed
        margins.append(margin(last))
    return ids, margins


@torch.no_grad()
def prompt_entry(model, name, token_ids, all_positions=False):
    logits = model(torch.tensor([token_ids]), use_cache=False).logits[0]
    ids, margins = greedy(model, token_ids)
    entry = {"name": name, "token_ids": token_ids, "last_logits": numbers(logits[-1])}
    if all_positions:
        entry["all_logits"] = numbers(logits)
    return entry | {"greedy": ids, "greedy_margins": margins}
