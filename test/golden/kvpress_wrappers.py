"""kvpress/wrappers.json: what kvpress's wrappers keep around scorers that kvpress_library.py does not wrap: scorers of a window, and scorers by position.

The model is models/llama, the text the one of library/llama.json, so that step must have run.
"""

import torch
from common import GOLDEN, load_model, read_json, write_json
from kvpress import BlockPress, ChunkKVPress, ChunkPress, CURPress, SnapKVPress, TOVAPress
from kvpress_library import packed

PRESSES = {
    "segments_snapkv-100": lambda: ChunkPress(SnapKVPress(compression_ratio=0.5, window_size=16), chunk_length=100),
    "segments_snapkv-130": lambda: ChunkPress(SnapKVPress(compression_ratio=0.5, window_size=16), chunk_length=130),
    "segments_tova-80": lambda: ChunkPress(TOVAPress(compression_ratio=0.7), chunk_length=80),
    "chunks_tova-13": lambda: ChunkKVPress(TOVAPress(compression_ratio=0.7), chunk_length=13),
    "chunks_cur-11": lambda: ChunkKVPress(CURPress(compression_ratio=0.6, num_sinks=4), chunk_length=11),
    "blocks_cur-32": lambda: BlockPress(CURPress(compression_ratio=0.5, num_sinks=4), block_size=32),
}


def kept_by(press, model, ids):
    """[layer][head] positions, found again by their keys: no two tokens have the same."""
    kept = []
    compress = press.compress

    def watched(module, hidden_states, keys, values, attentions, kwargs):
        rest = compress(module, hidden_states, keys, values, attentions, kwargs)
        layer = []
        for all_keys, some in zip(keys[0], rest[0][0]):
            apart = torch.cdist(some, all_keys, compute_mode="donot_use_mm_for_euclid_dist")
            assert (apart.min(-1).values == 0).all()
            layer.append(sorted(apart.argmin(-1).tolist()))
        kept.append(layer)
        return rest

    press.compress = watched
    with torch.no_grad(), press(model):
        model(torch.tensor([ids]), use_cache=True)
    return kept


def main():
    ids = read_json(GOLDEN / "library" / "llama.json")["context_ids"]
    model = load_model(GOLDEN / "models" / "llama")
    kept = {name: packed(kept_by(make(), model, ids), len(ids)) for name, make in PRESSES.items()}
    write_json("kvpress/wrappers.json", {"model": "llama", "tokens": len(ids), "kept": kept})


if __name__ == "__main__":
    main()
