"""models/<name>/ and logits/<name>.json: tiny random models, one per architecture feature.

The configs are written by hand in the form that published checkpoints have (rope_theta, rope_scaling, torch_dtype);
qwen3 uses the newer form (rope_parameters, dtype).
"""

import json
import random

import torch
from safetensors.torch import save_file

from common import GOLDEN, GREEDY_STEPS, load_model, prompt_entry, write_json

VOCAB = 160
PROMPT_LENGTHS = [1, 13, 150]

BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}

# Seeds are chosen so that no greedy step is close to a tie (see check_entries).
# No head_dim key in "llama" and "qwen2": there it is hidden_size / num_attention_heads = 16.
MODELS = {
    "llama": {"seed": 6},
    "llama3": {
        "seed": 2,
        "num_hidden_layers": 3,
        "head_dim": 32,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 64,
            "rope_type": "llama3",
        },
        "tie_word_embeddings": True,
        "eos_token_id": [2, 3],
        "torch_dtype": "bfloat16",
    },
    "llama-linear": {
        "seed": 3,
        "head_dim": 32,
        "intermediate_size": 96,
        "rope_scaling": {"type": "linear", "factor": 2.0},
        "tie_word_embeddings": True,
    },
    "mistral": {
        "seed": 3,
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "head_dim": 80,
        "intermediate_size": 96,
        "rope_theta": 1000000.0,
        "sliding_window": 24,
        "torch_dtype": "float16",
    },
    "qwen2": {
        "seed": 2,
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "num_hidden_layers": 3,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": 24,  # present but unused, as in the published Qwen2 configs
        "max_window_layers": 3,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    },
    "qwen3": {
        "seed": 2,
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": 32,
        "intermediate_size": 96,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "sliding_window": None,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "rope_theta": None,  # moved into rope_parameters
        "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
        "torch_dtype": None,  # called dtype in the newer form
        "dtype": "float32",
    },
}


def config_of(name):
    config = BASE | MODELS[name]
    del config["seed"]
    return {key: value for key, value in config.items() if value is not None or key == "sliding_window"}


def random_weights(config, seed):
    """State dict in float32. Scales are chosen so that attention is far from uniform and logits vary."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, std):
        return torch.randn(*shape, generator=generator) * std

    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim", hidden // config["num_attention_heads"])
    q_rows = config["num_attention_heads"] * head_dim
    kv_rows = config["num_key_value_heads"] * head_dim
    bias = config["model_type"] == "qwen2"
    head_norm = config["model_type"] == "qwen3"
    tied = config["tie_word_embeddings"]

    def norm_weight(size):
        return 1 + normal(size, std=0.3)

    def linear(rows, columns, gain):
        return normal(rows, columns, std=gain / columns**0.5)

    weights = {"model.embed_tokens.weight": normal(config["vocab_size"], hidden, std=0.3)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        weights[layer + "input_layernorm.weight"] = norm_weight(hidden)
        for part, rows in (("q", q_rows), ("k", kv_rows), ("v", kv_rows)):
            weights[layer + f"self_attn.{part}_proj.weight"] = linear(rows, hidden, 1.0 if part == "v" else 1.5)
            if bias:
                weights[layer + f"self_attn.{part}_proj.bias"] = normal(rows, std=0.5)
            if head_norm and part != "v":
                weights[layer + f"self_attn.{part}_norm.weight"] = norm_weight(head_dim) * 1.4
        weights[layer + "self_attn.o_proj.weight"] = linear(hidden, q_rows, 1.5)
        weights[layer + "post_attention_layernorm.weight"] = norm_weight(hidden)
        weights[layer + "mlp.gate_proj.weight"] = linear(inner, hidden, 1.5)
        weights[layer + "mlp.up_proj.weight"] = linear(inner, hidden, 1.5)
        weights[layer + "mlp.down_proj.weight"] = linear(hidden, inner, 1.5)
    weights["model.norm.weight"] = norm_weight(hidden)
    if not tied:
        weights["lm_head.weight"] = normal(config["vocab_size"], hidden, std=0.3)
    return weights


def save_tensors(tensors, file):
    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod(0o644)


def save_model(name, config, weights):
    folder = GOLDEN / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_tensors(weights, folder / "model.safetensors")
    return folder


def save_sharded(name, config, weights):
    """The same weights cut into two files inside layer 1, with the index that Hugging Face uses."""
    folder = GOLDEN / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    names = list(weights)
    cut = names.index("model.layers.1.self_attn.o_proj.weight")
    files = {
        "model-00001-of-00002.safetensors": names[:cut],
        "model-00002-of-00002.safetensors": names[cut:],
    }
    for file, members in files.items():
        save_tensors({n: weights[n] for n in members}, folder / file)
    index = {
        "metadata": {"total_size": sum(w.numel() * w.element_size() for w in weights.values())},
        "weight_map": {n: file for file, members in sorted(files.items()) for n in sorted(members)},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    return folder


def prompts(seed, vocab=VOCAB):
    chance = random.Random(seed)
    return [[chance.randrange(4, vocab) for _ in range(length)] for length in PROMPT_LENGTHS]


def entries_for(model, token_lists):
    return [
        prompt_entry(model, f"random-{len(ids)}", ids, all_positions=len(ids) == 13) for ids in token_lists
    ]


@torch.no_grad()
def check_entries(name, model, entries):
    """Greedy decoding must not depend on the cache, must vary, and must not hang on a tie."""
    for entry in entries:
        ids = list(entry["token_ids"])
        for expected in entry["greedy"]:
            assert int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()) == expected
            ids.append(expected)
    distinct = [len(set(e["greedy"])) for e in entries]
    smallest = min(min(e["greedy_margins"]) for e in entries)
    print(f"  {name}: distinct of {GREEDY_STEPS}: {distinct}, smallest margin {smallest}")
    assert min(distinct) >= 5 and smallest > 2e-3, (name, distinct, smallest)


@torch.no_grad()
def check_feature(name, model, entries):
    """The feature a model is there for must change its logits."""
    def change(ids, **settings):
        plain = type(model)(type(model.config)(**(model.config.to_dict() | settings))).eval()
        plain.load_state_dict(model.state_dict())
        ids = torch.tensor([ids])
        return (plain(ids, use_cache=False).logits - model(ids, use_cache=False).logits)[0, -1].abs().max().item()

    short, long = entries[1]["token_ids"], entries[2]["token_ids"]
    if name == "mistral":
        assert change(short, sliding_window=None) < 1e-4 and change(long, sliding_window=None) > 0.1
    if name in ("llama3", "llama-linear"):
        theta = model.config.rope_parameters["rope_theta"]
        assert change(long, rope_parameters={"rope_type": "default", "rope_theta": theta}) > 0.1


def main():
    for name, settings in MODELS.items():
        config = config_of(name)
        dtype = getattr(torch, config.get("torch_dtype") or config["dtype"])
        weights = {k: w.to(dtype).contiguous() for k, w in random_weights(config, settings["seed"]).items()}
        model = load_model(save_model(name, config, weights))
        for key, weight in weights.items():
            assert torch.equal(model.state_dict()[key], weight.float()), key
        entries = entries_for(model, prompts(settings["seed"]))
        check_entries(name, model, entries)
        check_feature(name, model, entries)
        write_json(f"logits/{name}.json", {"model": name, "vocab_size": VOCAB, "prompts": entries})
        if name == "llama":
            sharded = load_model(save_sharded("llama-sharded", config, weights))
            for key, weight in weights.items():
                assert torch.equal(sharded.state_dict()[key], weight), key


if __name__ == "__main__":
    main()
