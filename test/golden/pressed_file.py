"""Reads a *.pressed.safetensors file with Python's safetensors, and holds its keys and values against transformers'.

    npm run -s edgepress -- press document.txt -p knorm -r 0.5 --out document.pressed.safetensors
    python test/golden/pressed_file.py document.pressed.safetensors [model folder, default models/needle]

For presses that leave kept entries as they are and where they were: every row is compared with the full cache's at its position.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

from common import NEEDLE, load_model

import torch
from safetensors import safe_open

PIECE = 4 << 20
SUMS = 1e-4  # in another order, on keys of a few units
HALF = 2**-11  # of the number, what f16 rounds at


def check_digest(path):
    """`digest` is of the header, then of the data before it in pieces."""
    file = Path(path).read_bytes()
    start = 8 + struct.unpack("<Q", file[:8])[0]
    begin, end = json.loads(file[8:start])["digest"]["data_offsets"]
    assert start % 8 == 0 and start + end == len(file)
    data = file[start : start + begin]
    parts = [file[:start]] + [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    assert b"".join(hashlib.sha256(part).digest() for part in parts) == file[start + begin :]


@torch.no_grad()
def main(path, folder=NEEDLE):
    check_digest(path)
    model = load_model(folder)
    with safe_open(path, "pt") as file:
        said = {key: json.loads(text) if text[0] == "{" else text for key, text in file.metadata().items()}
        assert (said["format"], said["version"]) == ("edgepress.pressed", "1")
        layers, heads, width = (said["model"][field] for field in ("layers", "kv_heads", "head_dim"))
        entry_type = said["context"]["entry_type"]
        assert said["context"]["shift"] == said["context"]["added_rows"] == 0
        tokens = file.get_tensor("tokens")
        cache = model(tokens.long()[None], use_cache=True).past_key_values
        most, total = 0.0, 0
        for layer in range(layers):
            part = lambda name: file.get_tensor(f"layers.{layer}.{name}")
            offsets, positions = part("offsets").tolist(), part("positions").long()
            assert offsets[0] == 0 and len(offsets) == heads + 1 and offsets[-1] == len(positions)
            full = cache.layers[layer]
            for name, there in (("k", full.keys[0]), ("v", full.values[0])):
                rows = part(name)
                assert rows.shape == (offsets[-1], width)
                scale = part(f"{name}_scale")[:, None] if entry_type == "int8" else torch.ones(len(rows), 1)
                values = rows.float() * scale
                for head in range(heads):
                    own = slice(offsets[head], offsets[head + 1])
                    kept = positions[own]
                    assert kept.unique().numel() == kept.numel()
                    want = there[head, kept]
                    off = (values[own] - want).abs()
                    rounding = {"f32": 0.0, "f16": HALF * want.abs(), "int8": scale[own] / 2}[entry_type]
                    assert (off <= SUMS + rounding).all(), (layer, name, head, off.max())
                    most = max(most, off.max().item())
            kept = len(positions) / heads - (len(tokens) - said["context"]["covered"])
            assert abs(kept - said["report"]["kept_per_layer"][layer]) < 1e-9
            total += len(positions)
    print(f"{path}: {total} entries of {entry_type} over {layers} layers, pressed by {said['press']['name']}, are off by at most {most:.2g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
