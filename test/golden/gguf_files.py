"""gguf/: dequantisation of single blocks, two small GGUF models with logits, an SPM vocabulary."""

import base64
import io

import gguf
import numpy as np
import sentencepiece
import torch
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from common import GOLDEN, NEEDLE, read_json, samples, write_json
from tiny_models import check_entries, entries_for, prompts, random_weights

QK = 256


# ---- K quants: gguf-py reads them but cannot write them, so here is a plain absmax / min-max packer ----


def half(x):
    return x.astype(np.float16)


def divide(a, b):
    return np.where(b == 0, 0, a / np.where(b == 0, 1, b))


def pack_scales(scales, mins):
    """Eight 6-bit scales and eight 6-bit mins in 12 bytes."""
    low, high = slice(0, 4), slice(4, 8)
    return np.concatenate(
        [
            scales[:, low] | (scales[:, high] >> 4) << 6,
            mins[:, low] | (mins[:, high] >> 4) << 6,
            (scales[:, high] & 15) | (mins[:, high] & 15) << 4,
        ],
        axis=1,
    ).astype(np.uint8)


def quantize_k45(blocks, bits):
    """Q4_K (bits = 4) and Q5_K (bits = 5): x = d*scale*q - dmin*min per 32 values."""
    x = blocks.reshape(-1, 8, 32)
    low = np.maximum(-x.min(axis=2), 0)
    step = np.maximum(x.max(axis=2) + low, 0) / (2**bits - 1)
    d, dmin = half(step.max(axis=1, keepdims=True) / 63), half(low.max(axis=1, keepdims=True) / 63)
    scales = np.clip(np.rint(divide(step, d.astype(np.float32))), 0, 63).astype(np.uint8)
    mins = np.clip(np.rint(divide(low, dmin.astype(np.float32))), 0, 63).astype(np.uint8)
    real_step, real_low = (d * scales.astype(np.float32))[..., None], (dmin * mins.astype(np.float32))[..., None]
    q = np.clip(np.rint(divide(x + real_low, real_step)), 0, 2**bits - 1).astype(np.uint8)
    pairs = q.reshape(-1, 4, 2, 32)
    nibbles = (pairs[:, :, 0] & 15) | (pairs[:, :, 1] & 15) << 4
    parts = [d.view(np.uint8), dmin.view(np.uint8), pack_scales(scales, mins)]
    if bits == 5:
        parts.append(np.bitwise_or.reduce((q >> 4) << np.arange(8, dtype=np.uint8)[:, None], axis=1))
    return np.concatenate(parts + [nibbles.reshape(len(x), 128)], axis=1)


def quantize_k6(blocks):
    """Q6_K: x = d*scale*(q - 32) per 16 values."""
    x = blocks.reshape(-1, 16, 16)
    step = np.abs(x).max(axis=2) / 31
    d = half(step.max(axis=1, keepdims=True) / 127)
    scales = np.clip(np.rint(divide(step, d.astype(np.float32))), 0, 127).astype(np.int8)
    real_step = (d * scales.astype(np.float32))[..., None]
    q = np.clip(np.rint(divide(x, real_step)) + 32, 0, 63).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.concatenate([(q[:, :, i] & 15) | (q[:, :, i + 2] & 15) << 4 for i in (0, 1)], axis=2)
    high = np.bitwise_or.reduce((q >> 4) << np.array([0, 2, 4, 6], dtype=np.uint8)[:, None], axis=2)
    return np.concatenate(
        [low.reshape(-1, 128), high.reshape(-1, 64), scales.view(np.uint8), d.view(np.uint8)], axis=1
    )


def quantize(array, kind):
    """Rows of raw bytes (or float rows for F32 and F16, as gguf-py wants them)."""
    array = np.ascontiguousarray(array, dtype=np.float32)
    if kind in (Type.Q4_K, Type.Q5_K, Type.Q6_K):
        blocks = array.reshape(-1, QK)
        packed = quantize_k6(blocks) if kind == Type.Q6_K else quantize_k45(blocks, 4 if kind == Type.Q4_K else 5)
        packed = packed.reshape(array.shape[0], -1)
        error = np.abs(gguf.quants.dequantize(packed, kind) - array).max() / np.abs(array).max()
        assert error < (0.12 if kind == Type.Q4_K else 0.06), (kind, error)
        return packed
    return gguf.quants.quantize(array, kind)


# ---- single blocks ----

# Where the f16 scales stand inside a block, in bytes.
SCALE_OFFSETS = {
    Type.Q8_0: [0],
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
}


def random_row(kind, size, rng):
    """A row of valid blocks: every byte random, but for scales of sane size and either sign."""
    values, length = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (size // values, length), dtype=np.uint8)
    for offset in SCALE_OFFSETS[kind]:
        scales = half(rng.uniform(-0.05, 0.05, (len(blocks), 1)))
        blocks[:, offset : offset + 2] = scales.view(np.uint8)
    return blocks.reshape(1, -1)


def text64(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def make_blocks():
    rng = np.random.default_rng(7)
    entries = []
    for kind in [Type.F32, Type.F16, Type.BF16, *SCALE_OFFSETS]:
        data = rng.standard_normal((2, 512)).astype(np.float32)
        if kind in SCALE_OFFSETS:
            data[0, :32] = 0  # an all-zero block
            raw = np.concatenate([quantize(data[:1], kind), random_row(kind, 512, rng)])
        else:
            raw = quantize(data, kind)
        values = gguf.quants.dequantize(raw, kind).astype("<f4")
        assert values.shape == data.shape and np.isfinite(values).all()
        entries.append({"type": kind.name, "type_id": int(kind), "rows": 2, "columns": 512, "raw": text64(raw), "values": text64(values)})
    write_json("gguf/blocks.json", entries)


# ---- small models ----


def permute(weights, heads):
    """Row order of q and k in GGUF files of the llama architecture (pairs side by side)."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weights.shape)


def unpermute(weights, heads):
    return weights.reshape(heads, weights.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(weights.shape)


NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in TOP:
        return f"{TOP[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{kind}"


def add_tokenizer(writer):
    tokenizer = read_json(NEEDLE / "tokenizer.json")
    settings = read_json(NEEDLE / "tokenizer_config.json")
    vocab = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    special = {token["id"] for token in tokenizer["added_tokens"]}
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocab)
    writer.add_token_types([control if i in special else normal for i in range(len(vocab))])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(vocab.index(settings["bos_token"]))
    writer.add_eos_token_id(vocab.index(settings["eos_token"]))
    writer.add_pad_token_id(vocab.index(settings["pad_token"]))
    writer.add_add_bos_token(False)
    writer.add_chat_template(settings["chat_template"])
    return len(vocab)


def write_gguf(file, arch, config, weights, kinds):
    writer = gguf.GGUFWriter(file, arch)
    writer.add_name(file.stem)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if arch == "llama":
        writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    assert add_tokenizer(writer) == config["vocab_size"]
    for name, weight in weights.items():
        array, target = weight.numpy(), gguf_name(name)
        if arch == "llama" and ".attn_q." in target:
            array = permute(array, config["num_attention_heads"])
        if arch == "llama" and ".attn_k." in target:
            array = permute(array, config["num_key_value_heads"])
        kind = Type.F32 if array.ndim == 1 else kinds(target)
        if kind in (Type.F32, Type.F16):
            writer.add_tensor(target, array.astype(np.float32 if kind == Type.F32 else np.float16))
        else:
            writer.add_tensor(target, quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"  gguf/{file.name}: {file.stat().st_size} bytes")


def read_gguf(file, arch, config, weights):
    """Back to Hugging Face names and row order, dequantised by gguf-py."""
    reader = gguf.GGUFReader(file)
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    state = {}
    for name, weight in weights.items():
        target = gguf_name(name)
        array = tensors.pop(target).astype(np.float32).reshape(weight.shape)
        if arch == "llama" and ".attn_q." in target:
            array = unpermute(array, config["num_attention_heads"])
        if arch == "llama" and ".attn_k." in target:
            array = unpermute(array, config["num_key_value_heads"])
        state[name] = torch.from_numpy(np.array(array))
        error = (state[name] - weight).abs().max() / weight.abs().max()
        assert error < 0.13, (name, error)
    assert not tensors
    return state


LLAMA = {
    "model_type": "llama",
    "vocab_size": 1536,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
QWEN2 = LLAMA | {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
}


def llama_kind(name):
    kinds = {
        "token_embd": Type.Q4_0,
        "output": Type.Q4_K,
        "attn_q": Type.Q4_1,
        "attn_k": Type.Q5_K,
        "attn_v": Type.Q6_K,
        "attn_output": Type.F16,
        "ffn_gate": Type.Q4_K,
        "ffn_up": Type.Q8_0,
        "ffn_down": Type.Q6_K,
    }
    # The second layer's q and k get other types, so that permuted K quants with one and two scales are covered.
    if name.startswith("blk.1."):
        kinds |= {"attn_q": Type.Q4_K, "attn_k": Type.Q6_K, "attn_output": Type.Q5_K, "ffn_gate": Type.Q4_0}
    return kinds[name.split(".")[-2]]


def qwen2_kind(name):
    return Type.F16 if "attn" in name else Type.Q8_0


def make_model(name, arch, config, kinds, seed, config_type, model_type):
    file = GOLDEN / "gguf" / f"{name}.gguf"
    weights = random_weights(config, seed)
    write_gguf(file, arch, config, weights, kinds)
    state = read_gguf(file, arch, config, weights)
    model = model_type(config_type(**config, attn_implementation="sdpa")).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and missing in ([], ["lm_head.weight"]), (missing, unexpected)
    model.tie_weights()
    entries = entries_for(model, prompts(seed, config["vocab_size"]))
    check_entries(name, model, entries)
    # transformers has its own GGUF reader: it must give the same model.
    other = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    with torch.no_grad():
        ids = torch.tensor([entries[2]["token_ids"]])
        difference = (other(ids).logits - model(ids).logits).abs().max().item()
    assert difference < 1e-4, difference
    write_json(f"logits/{name}.json", {"model": name, "vocab_size": config["vocab_size"], "prompts": entries})


# ---- SentencePiece ----

TEXTS = [
    "",
    " ",
    "Hello world",
    " Hello world",
    "Hello  world",
    "Hello   world ",
    "One of the special magic numbers for brave otter is: 4821.",
    "What is the special magic number for brave otter mentioned in the provided text?",
    "VAR otter = 12345. VAR lamp = VAR otter.",
    "Anna lives in Oslo.\nWhere does Anna live?",
    "line one\n\nline two\n",
    "\ttabbed\ttext",
    "naïve café, Ünïcödé",
    "日本語のテキスト",
    "Привет, мир!",
    "emoji 😀👍🏽 and 👩‍👩‍👧",
    "a\u0301 combining, no\u00a0break, zero\u200bwidth",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "1234567890 3.14159 1,000",
    "<s> </s> <unk> <0x41>",
    "\u2581 looks like a space \u2581\u2581",
    "MiXeD CaSe wOrDs!!! ??? ...",
    "the the the other theother",
    "mathematical 𝕏 and \U0010ffff",
]


def make_spm():
    sentences = [line.strip() for s in samples()[:60] for line in s["context"].split("\n") if line.strip()]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=out,
        model_type="bpe",
        vocab_size=500,
        byte_fallback=True,
        character_coverage=1.0,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    sp = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    size = sp.get_piece_size()

    def token_type(i):
        if sp.is_unknown(i):
            return gguf.TokenType.UNKNOWN
        if sp.is_control(i):
            return gguf.TokenType.CONTROL
        return gguf.TokenType.BYTE if sp.is_byte(i) else gguf.TokenType.NORMAL

    cases = [{"text": text, "ids": sp.encode(text), "decoded": sp.decode(sp.encode(text))} for text in TEXTS]
    write_json(
        "gguf/spm-tokenizer.json",
        {
            "metadata": {
                "tokenizer.ggml.model": "llama",
                "tokenizer.ggml.tokens": [sp.id_to_piece(i) for i in range(size)],
                "tokenizer.ggml.scores": [sp.get_score(i) for i in range(size)],
                "tokenizer.ggml.token_type": [int(token_type(i)) for i in range(size)],
                "tokenizer.ggml.bos_token_id": sp.bos_id(),
                "tokenizer.ggml.eos_token_id": sp.eos_id(),
                "tokenizer.ggml.unknown_token_id": sp.unk_id(),
                "tokenizer.ggml.add_bos_token": True,
                "tokenizer.ggml.add_eos_token": False,
                "tokenizer.ggml.add_space_prefix": True,
            },
            "cases": cases,
        },
    )


def main():
    (GOLDEN / "gguf").mkdir(exist_ok=True)
    make_blocks()
    make_model("tiny-llama", "llama", LLAMA, llama_kind, 21, LlamaConfig, LlamaForCausalLM)
    make_model("tiny-qwen2", "qwen2", QWEN2, qwen2_kind, 31, Qwen2Config, Qwen2ForCausalLM)
    make_spm()


if __name__ == "__main__":
    main()
