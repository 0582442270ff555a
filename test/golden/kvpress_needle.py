"""kvpress/: what the real kvpress keeps, scores and generates with models/needle in float32."""

from types import SimpleNamespace

import torch
from kvpress import (
    AdaKVPress,
    KeyDiffPress,
    KnormPress,
    PyramidKVPress,
    SnapKVPress,
    StreamingLLMPress,
    TOVAPress,
)
from transformers import AutoTokenizer, DynamicCache

from common import GOLDEN, NEEDLE, load_model, margin, numbers, samples, write_json

NEWLINE = 15  # the last one before the question ends the context
CONTEXTS = [("multiquery-512", 92), ("multiquery-1024", 132)]  # (name, line of samples.jsonl)
RATIOS = [0.2, 0.5, 0.8]
STEPS = 24

# name -> (how to make it, parameters, whose scores it uses; None = scores depend on the ratio and are 0 or 1)
PRESSES = {
    "knorm": (KnormPress, {}, "knorm"),
    "streaming_llm": (StreamingLLMPress, {"n_sink": 4}, None),
    "streaming_llm-sink8": (StreamingLLMPress, {"n_sink": 8}, None),
    "tova": (TOVAPress, {}, "tova"),
    "snapkv": (SnapKVPress, {"window_size": 64, "kernel_size": 5}, "snapkv"),
    "snapkv-w32-k7": (SnapKVPress, {"window_size": 32, "kernel_size": 7}, "snapkv-w32-k7"),
    "pyramidkv": (PyramidKVPress, {"window_size": 64, "kernel_size": 5, "beta": 20}, "snapkv"),
    "keydiff": (KeyDiffPress, {}, "keydiff"),
    "adakv_snapkv": (SnapKVPress, {"window_size": 64, "kernel_size": 5}, "snapkv"),
}

COUNT_LENGTHS = [1, 5, 10, 63, 64, 65, 100, 4096]
COUNT_RATIOS = [0, 0.1, 0.25, 0.5, 0.75, 0.8, 0.875, 0.9, 0.99]


def make_press(name, ratio):
    """The press, and a list that receives a copy of every layer's scores."""
    kind, parameters, _ = PRESSES[name]
    press = kind(compression_ratio=ratio, **parameters)
    scores, original = [], press.score

    def recording_score(*arguments):
        result = original(*arguments)
        scores.append(result[0].clone())
        return result

    press.score = recording_score
    return (AdaKVPress(press) if name.startswith("adakv") else press), scores


@torch.no_grad()
def prefill(model, context_ids, press=None):
    """As kvpress's pipeline does: the model without its head, inside the press's context manager."""
    cache = DynamicCache()
    ids = torch.tensor([context_ids])
    if press is None:
        model.model(input_ids=ids, past_key_values=cache)
    else:
        with press(model):
            model.model(input_ids=ids, past_key_values=cache)
    return cache


def kept_positions(model, full, cache):
    """[layer][head] -> ascending positions, by exact row match with the full cache or from AdaKV's mask."""
    kept = []
    for i, (all_, left) in enumerate(zip(full.layers, cache.layers)):
        masked = getattr(model.model.layers[i].self_attn, "masked_key_indices", None)
        heads, length = all_.keys.shape[1], all_.keys.shape[2]
        row = []
        for h in range(heads):
            if masked is not None:
                assert torch.equal(all_.keys, left.keys)
                row.append(sorted(set(range(length)) - set(masked[2][masked[1] == h].tolist())))
                continue
            place = {k.numpy().tobytes(): t for t, k in enumerate(all_.keys[0, h])}
            assert len(place) == length
            positions = [place[k.numpy().tobytes()] for k in left.keys[0, h]]
            assert torch.equal(all_.values[0, h][positions], left.values[0, h])
            assert len(set(positions)) == len(positions)
            row.append(sorted(positions))
        kept.append(row)
    return kept


@torch.no_grad()
def kvpress_continuation(model, cache, context_length, suffix_ids, chunks):
    """kvpress's generate_answer, without stopping at EOS. chunks: how the suffix is cut into calls."""
    position, logits, ids = context_length, None, []
    start = 0
    for size in chunks:
        feed = torch.tensor([suffix_ids[start : start + size]])
        positions = torch.arange(position, position + size).unsqueeze(0)
        logits = model(input_ids=feed, past_key_values=cache, position_ids=positions).logits[0, -1]
        start, position = start + size, position + size
    assert start == len(suffix_ids)
    first = logits
    for step in range(STEPS):
        ids.append(int(logits.argmax()))
        if step < STEPS - 1:
            feed, positions = torch.tensor([[ids[-1]]]), torch.tensor([[position + step]])
            logits = model(input_ids=feed, past_key_values=cache, position_ids=positions).logits[0, -1]
    return ids, first


@torch.no_grad()
def reference_continuation(model, full, kept, context_length, suffix_ids):
    """The same without transformers' attention: one token at a time, each head over its own kept rows.

    This is what a cache that really frees the rows must give, so it judges the masked AdaKV run too.
    """
    config = model.config
    heads, groups = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
    size = config.head_dim
    keys = [[l.keys[0, h][kept[i][h]] for h in range(heads)] for i, l in enumerate(full.layers)]
    values = [[l.values[0, h][kept[i][h]] for h in range(heads)] for i, l in enumerate(full.layers)]
    half = size // 2

    def rotate(x, cos, sin):
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin

    def forward(token, position):
        x = model.model.embed_tokens.weight[token]
        angles = position * config.rope_parameters["rope_theta"] ** (-torch.arange(half) * 2 / size)
        cos, sin = (f(torch.cat((angles, angles))) for f in (torch.cos, torch.sin))
        for i, layer in enumerate(model.model.layers):
            attention = layer.self_attn
            y = layer.input_layernorm(x)
            q = rotate(attention.q_proj(y).view(heads, groups, size), cos, sin)
            k = rotate(attention.k_proj(y).view(heads, size), cos, sin)
            v = attention.v_proj(y).view(heads, size)
            outputs = []
            for h in range(heads):
                keys[i][h] = torch.cat((keys[i][h], k[h : h + 1]))
                values[i][h] = torch.cat((values[i][h], v[h : h + 1]))
                outputs.append((q[h] @ keys[i][h].T / size**0.5).softmax(-1) @ values[i][h])
            x = x + attention.o_proj(torch.cat(outputs).reshape(-1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return model.lm_head(model.model.norm(x))

    for offset, token in enumerate(suffix_ids):
        logits = forward(token, context_length + offset)
    first, ids, margins = logits, [], []
    for step in range(STEPS):
        ids.append(int(logits.argmax()))
        margins.append(margin(logits))
        if step < STEPS - 1:
            logits = forward(ids[-1], context_length + len(suffix_ids) + step)
    return ids, first, margins


def run(model, name, ratio, full, context_ids, suffix_ids):
    """One golden entry, and the scores [layer, head, N] that kvpress computed."""
    n = len(context_ids)
    press, scores = make_press(name, ratio)
    kept = kept_positions(model, full, prefill(model, context_ids, press))

    ids, first, margins = reference_continuation(model, full, kept, n, suffix_ids)
    entry = {"press": name, "ratio": ratio, "kept_counts": [[len(h) for h in row] for row in kept], "kept": kept}
    for key, chunks in (("whole", [len(suffix_ids)]), ("single", [1] * len(suffix_ids))):
        cache = prefill(model, context_ids, make_press(name, ratio)[0])
        try:
            got, got_first = kvpress_continuation(model, cache, n, suffix_ids, chunks)
        except RuntimeError as error:  # transformers masks by the first layer's length
            assert name == "pyramidkv" and key == "whole"
            print(f"  {name} {ratio}: suffix fed {key}: {str(error).splitlines()[0]}")
            entry["kvpress_" + key] = None
            continue
        difference = (got_first - first).abs().max().item()
        entry["kvpress_" + key] = {"generated": got, "max_first_logit_difference": float(f"{difference:.2g}")}
        assert got == ids and difference < 1e-3, (name, ratio, key, difference)
    entry |= {"generated": ids, "margins": margins, "first_logits": numbers(first)}
    return entry, torch.stack(scores)


def check_scores(entry, scores, ada):
    """The kept set is a top-k of the recorded scores."""
    for row, layer in zip(entry["kept"], scores):
        if ada:
            n_kept = sum(len(h) for h in row) // len(row)
            safe = int(n_kept * 0.2)
            raised = layer.clone()
            raised.scatter_(-1, layer.topk(safe).indices, torch.finfo(layer.dtype).max)
            chosen = torch.cat([raised[h][kept] for h, kept in enumerate(row)])
            assert torch.equal(chosen.sort().values, raised.flatten().topk(len(chosen)).values.sort().values)
        else:
            for head, kept in zip(layer, row):
                assert torch.equal(head[kept].sort().values, head.topk(len(kept)).values.sort().values)


def count_tables():
    """Kept counts computed by kvpress itself, with stand-ins for the layer."""
    base = []
    for n in COUNT_LENGTHS:
        for ratio in COUNT_RATIOS:
            keys = torch.randn(1, 1, n, 4)
            left = KnormPress(ratio).compress(SimpleNamespace(head_dim=4), None, keys, keys, None, {})[0]
            assert left.shape[2] == int(n * (1 - ratio))
            base.append({"n": n, "ratio": ratio, "kept": left.shape[2]})
    pyramid = []
    for window in (8, 64):
        for layers in (2, 6, 32):
            for n in (65, 100, 471, 1000, 1001, 4096, 32768):
                for ratio in COUNT_RATIOS[1:]:
                    press = PyramidKVPress(ratio, window_size=window)
                    config = SimpleNamespace(num_hidden_layers=layers)
                    counts = [press.get_layer_budget(SimpleNamespace(config=config, layer_idx=i), n) for i in range(layers)]
                    pyramid.append(
                        {"n": n, "ratio": ratio, "window_size": window, "beta": 20, "layers": layers, "kept": counts}
                    )
    write_json("kvpress/counts.json", {"base": base, "pyramidkv": pyramid})


def main():
    torch.manual_seed(0)
    count_tables()
    model = load_model(NEEDLE)
    tokenizer = AutoTokenizer.from_pretrained(NEEDLE)
    lines = samples()
    contexts, binary = [], b""
    for context_name, line in CONTEXTS:
        prompt = lines[line]["prompt_token_ids"]
        cut = len(prompt) - prompt[::-1].index(NEWLINE)
        context_ids, suffix_ids = prompt[:cut], prompt[cut:]
        assert tokenizer.decode(suffix_ids) == lines[line]["question"] + "<|assistant|>"
        full = prefill(model, context_ids)
        n = len(context_ids)
        everything = [[list(range(n))] * model.config.num_key_value_heads] * model.config.num_hidden_layers
        ids, first, margins = reference_continuation(model, full, everything, n, suffix_ids)
        answer = lines[line]["greedy_output_token_ids"][:STEPS]
        assert ids[: len(answer)] == answer
        runs, scores = [], {}
        for name, (_, _, scorer) in PRESSES.items():
            for ratio in RATIOS:
                entry, computed = run(model, name, ratio, full, context_ids, suffix_ids)
                check_scores(entry, computed, name.startswith("adakv"))
                runs.append(entry)
                if scorer is not None:
                    assert torch.equal(scores.setdefault(scorer, computed), computed), name
        score_index = {}
        for scorer, values in scores.items():
            score_index[scorer] = {"offset": len(binary), "shape": list(values.shape)}
            binary += values.numpy().astype("<f4").tobytes()
        contexts.append(
            {
                "name": context_name,
                "sample": line,
                "context_ids": context_ids,
                "suffix_ids": suffix_ids,
                "full_cache": {"generated": ids, "margins": margins, "first_logits": numbers(first)},
                "scores": score_index,
                "runs": runs,
            }
        )
    presses = {
        name: {"class": ("AdaKVPress " if name.startswith("adakv") else "") + kind.__name__, "scores": scorer}
        | parameters
        | ({"alpha_safeguard": 0.2} if name.startswith("adakv") else {})
        for name, (kind, parameters, scorer) in PRESSES.items()
    }
    (GOLDEN / "kvpress" / "scores.bin").write_bytes(binary)
    print(f"  kvpress/scores.bin: {len(binary)} bytes")
    write_json("kvpress/needle.json", {"presses": presses, "scores_file": "scores.bin", "contexts": contexts})


if __name__ == "__main__":
    main()
