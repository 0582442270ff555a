"""library/restore.json, restore.bin: RestoreKV as kvpress 0.5.5 runs it, with a small random adapter in the place of a trained one. It wants peft, and that kvpress."""

import json
import tempfile
from pathlib import Path

import torch
from kvpress import RestoreKVPress
from safetensors.torch import save_file

from common import GOLDEN, NEEDLE, load_model, write_json
from kvpress_library import continuation, kept_positions, kvpress_continuation, kvzip_asks, packed, prefill, prompts_for

ROWS, RANK, ALPHA = 8, 2, 3
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ENTRIES = {"RestoreKV": [0.25, 0.5, 0.75], "RestoreKV_plus": [0.5]}


def adapter(model):
    """Random tensors by PEFT's names, exact in float16; written as edgepress reads them."""
    generator = torch.Generator().manual_seed(11)

    def normal(*shape):
        return torch.randn(*shape, generator=generator).half()

    tensors = {}
    for name, module in model.model.named_modules():
        if name.rsplit(".", 1)[-1] not in PROJECTIONS:
            continue
        path = f"base_model.model.model.{name}"
        tensors[f"{path}.lora_A.weight"] = (normal(RANK, module.in_features) / module.in_features**0.5).half()
        tensors[f"{path}.lora_B.weight"] = (normal(module.out_features, RANK) * 0.2).half()
    embeddings = (normal(ROWS, model.config.hidden_size) * 0.5).half()
    return embeddings, tensors


def write_artefact(name, embeddings, tensors):
    folder = GOLDEN / "library" / "artifacts" / name
    scaling = torch.tensor([ALPHA / RANK])
    path = folder / "restore.safetensors"
    save_file({"restore_embeddings": embeddings, "scaling": scaling, **tensors}, path)
    path.chmod(0o644)


def made(model, embeddings, ratio, plus):
    press = RestoreKVPress(compression_ratio=ratio, kvzip_plus_normalization=plus)
    press.restore_embeddings = embeddings.float()

    def post_init_from_model(model):
        model.disable_adapters()

    press.post_init_from_model = post_init_from_model
    return press


def load_adapters(model, tensors):
    """As from the hub, one under each name that kvpress gives it."""
    with tempfile.TemporaryDirectory() as folder:
        config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": PROJECTIONS, "bias": "none", "task_type": "CAUSAL_LM"}
        Path(folder, "adapter_config.json").write_text(json.dumps(config))
        save_file({key: tensor.float().contiguous() for key, tensor in tensors.items()}, Path(folder, "adapter_model.safetensors"))
        for name in ("restorekv", "restorekv_plus"):
            model.load_adapter(folder, adapter_name=name)
    model.disable_adapters()


def main():
    torch.manual_seed(0)
    tiny = load_model(GOLDEN / "models" / "llama")
    write_artefact("llama", *adapter(tiny))

    model = load_model(NEEDLE)
    embeddings, tensors = adapter(model)
    write_artefact("needle", embeddings, tensors)
    prompt = prompts_for("needle")
    n = len(prompt.context_ids)
    bare = load_model(NEEDLE)
    asks = kvzip_asks(bare)
    full = prefill(bare, prompt.context_ids)
    load_adapters(model, tensors)
    again = prefill(model, prompt.context_ids)  # adapters that are off change nothing
    assert all(torch.equal(x.keys, y.keys) for x, y in zip(full.layers, again.layers))

    entries, added = {}, None
    for name, ratios in ENTRIES.items():
        runs = []
        for ratio in ratios:
            press = made(model, embeddings, ratio, name.endswith("_plus"))
            cache = prefill(model, prompt.context_ids, press)
            rows = torch.stack([torch.stack((layer.keys[0, :, n:], layer.values[0, :, n:])) for layer in cache.layers])  # [L, 2, H, R, d]
            assert rows.shape[3] == ROWS and (added is None or torch.equal(added, rows))
            added = rows
            kept = kept_positions(model, full, cache, n, None)
            total = len(kept) * len(kept[0]) * n
            assert sum(len(head) for layer in kept for head in layer) == total - int(total * min(1, ratio + ROWS / n))
            left = [[kept[i][h] + list(range(n, n + ROWS)) for h in range(len(kept[i]))] for i in range(len(kept))]
            keys = [[layer.keys[0, h][left[i][h]] for h in range(len(left[i]))] for i, layer in enumerate(cache.layers)]
            values = [[layer.values[0, h][left[i][h]] for h in range(len(left[i]))] for i, layer in enumerate(cache.layers)]
            ids, margins = continuation(bare, keys, values, n + ROWS, prompt.suffix_ids)
            own = kvpress_continuation(model, cache, n + ROWS, prompt.suffix_ids)
            differs = next((i for i, (x, y) in enumerate(zip(own, ids)) if x != y), None)
            assert differs is None or margins[differs] < 5e-3, (name, ratio, differs, margins[differs])
            runs.append({"ratio": ratio, "kept": packed(kept, n), "next_position": n + ROWS, "generated": ids, "margins": margins})
            print(f"    {name} {ratio}: {ids[:8]}, smallest margin {min(margins)}")
        entries[name] = runs
    (GOLDEN / "library" / "restore.bin").write_bytes(added.numpy().astype("<f4").tobytes())
    write_json(
        "library/restore.json",
        {
            "context_ids": prompt.context_ids,
            "suffix_ids": prompt.suffix_ids,
            "shape": [model.config.num_hidden_layers, model.config.num_key_value_heads, n],
            "settings": {"kvzip": asks},
            "rows": ROWS,
            "entries": entries,
        },
    )


if __name__ == "__main__":
    main()
