"""library/: what the real kvpress scores, keeps and generates with every press that it can run here, in float32.

Left out, because kvpress itself does not run: cam_adakv_snapkv (AdaKV has no `score`), KVCompose with add_v_norm (the values of both passes
meet the scores of one). RestoreKV is kvpress_restore.py's.
duo_attention_on_the_fly downloads a data set.
"""

import base64
import contextlib
import itertools
import math
from types import SimpleNamespace

import kvpress.presses.cam_press as cam_module
import kvpress.presses.cur_press as cur_module
import kvpress.presses.kvcompose_press as kvcompose_module
import kvpress.presses.kvzip_press as kvzip_module
import kvpress.presses.leverage_press as leverage_module
import kvpress.presses.random_press as random_module
import numpy as np
import torch
from kvpress import (
    AdaKVPress,
    BlockPress,
    CAMPress,
    ChunkKVPress,
    ChunkPress,
    CompactorPress,
    ComposedPress,
    CompressionRatioDecodingPress,
    CriticalAdaKVPress,
    CriticalKVPress,
    CURPress,
    DecodingPress,
    DMSPress,
    DuoAttentionPress,
    ExpectedAttentionPress,
    ExpectedAttentionStatsPress,
    FastKVzipPress,
    FinchPress,
    KeyDiffPress,
    KeyRerotationPress,
    KnormPress,
    KVComposePress,
    KVzapPress,
    KVzipPress,
    LagKVPress,
    LeverageScorePress,
    NonCausalAttnPress,
    ObservedAttentionPress,
    PerLayerCompressionPress,
    PrefillDecodingPress,
    PyramidKVPress,
    QFilterPress,
    RandomPress,
    ScorerPress,
    SimLayerKVPress,
    SnapKVPress,
    StreamingLLMPress,
    ThinKPress,
    TOVAPress,
)
from kvpress.presses.cap_press import CapPress
from kvpress.presses.fastkvzip_press import FastKVzipGate
from kvpress.presses.kvzap_press import KVzapConfig, KVzapModel
from kvpress.presses.lukv_press import LUKVPress
from kvpress.presses.merging_press import MergingPress
from safetensors.torch import save_file
from transformers import AutoTokenizer, DynamicCache

from common import GOLDEN, NEEDLE, load_model, margin, samples, write_json
from tiny_models import VOCAB

FOLDER = GOLDEN / "library"
NEWLINE, SAMPLE = 15, 92  # as in kvpress_needle.py
TINY = {"qwen3": 4, "llama": 6}  # name -> seed of its prompt
TINY_TOKENS, TINY_SUFFIX = 300, 5
RATIOS = [0.25, 0.5, 0.75]
HALF = [0.5]
STEPS = 32
SEED = 7  # of what we draw
LAZY = [{"n_last": 1, "n_recent": 100, "n_initial": 4}, {"n_last": 3, "n_recent": 60, "n_initial": 8}]


# --- artefacts: seeded, small, in the layouts that edgepress reads ---


def artefacts(model, name):
    """Random ones of every kind, written beside the results; as tensors for kvpress."""
    config = model.config
    generator = torch.Generator().manual_seed(7)
    L, H, Hq, D = (
        config.num_hidden_layers,
        config.num_key_value_heads,
        config.num_attention_heads,
        config.hidden_size,
    )
    d = config.head_dim

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    root = normal(L, Hq, d, d) / d**0.5
    gate = {"q": Hq * 16, "k": H * 16}
    files = {
        "qfilter": {"filters": normal(L, H, d)},
        "statistics": {"mean": normal(L, Hq, d), "cov": root @ root.transpose(-1, -2)},
        "kvzap-linear": {
            f"layers.{i}.{part}": value
            for i in range(L)
            for part, value in (("weight", normal(H, D) / D**0.5), ("bias", normal(H)))
        },
        "kvzap-mlp": {
            f"layers.{i}.{part}": value
            for i in range(L)
            for part, value in (
                ("up.weight", normal(24, D) / D**0.5),
                ("up.bias", normal(24)),
                ("down.weight", normal(H, 24) / 24**0.5),
                ("down.bias", normal(H)),
            )
        },
        "fastkvzip": {
            f"layers.{i}.{part}": value
            for i in range(L)
            for part, value in (
                ("q_proj.weight", normal(gate["q"], D) / D**0.5),
                ("q_proj.bias", normal(gate["q"])),
                ("k_proj.weight", normal(gate["k"], D) / D**0.5),
                ("q_norm.weight", 1 + 0.3 * normal(16)),
                ("k_norm.weight", 1 + 0.3 * normal(16)),
                ("k_base", normal(H, 1, 16, 16)),
                ("b", normal(H, 1, Hq // H)),
            )
        },
        "curves": {"curves": curves(generator, L, H)},
        # As it multiplies: the 1/sqrt(k) is in it. The same in every layer.
        "sketch": {"sketch": normal(H, d, 48) / 48**0.5},
        "sketch-12": {"sketch": normal(H, d, 12) / 12**0.5},
    }
    folder = FOLDER / "artifacts" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, tensors in files.items():
        path = folder / f"{file}.safetensors"
        save_file({key: value.float().contiguous() for key, value in tensors.items()}, path)
        path.chmod(0o644)
    pattern = {
        "sink": 8,
        "recent": 40,
        "scores": [[round(torch.rand(1, generator=generator).item(), 4) for _ in range(H)] for _ in range(L)],
    }
    write_json(f"library/artifacts/{name}/duo.json", pattern)
    return SimpleNamespace(**{key.replace("-", "_"): value for key, value in files.items()}, duo=pattern)


def curves(generator, layers, heads):
    """Prune ratios [99, L, H] whose mean over layers and heads is i %, more or less unequal."""
    ratios = torch.arange(1, 100).view(-1, 1, 1) / 100
    tilt = (torch.rand(layers, heads, generator=generator) - 0.5).view(1, layers, heads)
    return (ratios + tilt * 1.2 * ratios * (1 - ratios)).clamp(0, 1)


# --- presses whose artefacts kvpress would download ---


def qfilter(ratio, a):
    press = QFilterPress(ratio)
    press.post_init_from_model = lambda model: None
    press.q_filters = a.qfilter["filters"]
    return press


def with_statistics(ratio, a, **parameters):
    press = ExpectedAttentionStatsPress(ratio, **parameters)
    press.mu, press.cov = a.statistics["mean"], a.statistics["cov"]
    return press


def kvzap(ratio, a, kind):
    press = KVzapPress(ratio, model_type=kind)
    tensors = a.kvzap_linear if kind == "linear" else a.kvzap_mlp
    layers = 1 + max(int(key.split(".")[1]) for key in tensors)
    weight = tensors["layers.0.weight" if kind == "linear" else "layers.0.up.weight"]
    heads = weight.shape[0] if kind == "linear" else tensors["layers.0.down.weight"].shape[0]
    hidden = None if kind == "linear" else weight.shape[0]
    net = KVzapModel(KVzapConfig(input_dim=weight.shape[1], output_dim=heads, n_modules=layers, hidden_dim=hidden))
    names = {"up": "0", "down": "2"}
    net.load_state_dict({".".join(names.get(part, part) for part in key.split(".")): t for key, t in tensors.items()})
    press.kvzap_model = net
    press.post_init_from_model = lambda model: None
    return press


def fastkvzip(ratio, a, **parameters):
    press = FastKVzipPress(ratio, **parameters)
    press.gates = []
    while f"layers.{len(press.gates)}.b" in a.fastkvzip:
        start = f"layers.{len(press.gates)}."
        tensors = {key.removeprefix(start): t for key, t in a.fastkvzip.items() if key.startswith(start)}
        heads, _, groups = tensors["b"].shape
        gate = FastKVzipGate(len(press.gates), tensors["q_proj.weight"].shape[1], heads, groups, torch.float32)
        gate.load_state_dict(tensors)
        press.gates.append(gate)
    return press


def duo(ratio, a):
    press = DuoAttentionPress(head_compression_ratio=ratio)
    scores = np.clip(np.array(a.duo["scores"]), 0, 1)
    press.load_attention_pattern = lambda model: (a.duo["sink"], a.duo["recent"], scores)
    return press


def lukv(ratio, a, inner=None, **parameters):
    press = LUKVPress(inner or ExpectedAttentionPress(epsilon=2e-2), compression_ratio=ratio, **parameters)
    press._budget_curves = a.curves["curves"].numpy()
    return press


def finch(ratio, a, **parameters):
    press = FinchPress(ratio, **parameters)
    press.delimiter_token_id = a.delimiter
    return press


def streaming_ratios(layers):
    return [round(0.2 + 0.6 * i / max(1, layers - 1), 3) for i in range(layers)]


# --- the library: name -> (how to make it from a ratio and artefacts, ratios, options) ---
# options: `ratios` (None for presses without one), `eager` attention, `only` some models, `renumbers` positions, `finch` (window inside the prompt)

ENTRIES = {}


def entry(name, make, ratios=RATIOS, **options):
    assert name not in ENTRIES, name
    ENTRIES[name] = SimpleNamespace(make=make, ratios=ratios, **({"eager": False, "only": None, "finch": False} | options))


entry("knorm", lambda r, a: KnormPress(r))
entry("random", lambda r, a: RandomPress(r))
entry("streaming_llm", lambda r, a: StreamingLLMPress(r))
entry("streaming_llm-sink9", lambda r, a: StreamingLLMPress(r, n_sink=9), HALF)
entry("keydiff", lambda r, a: KeyDiffPress(r))
entry("tova", lambda r, a: TOVAPress(r))
entry("snapkv", lambda r, a: SnapKVPress(r))
entry("snapkv-w32-k7", lambda r, a: SnapKVPress(r, window_size=32, kernel_size=7), HALF)
entry("pyramidkv", lambda r, a: PyramidKVPress(r))
entry("pyramidkv-w16-beta8", lambda r, a: PyramidKVPress(r, window_size=16, beta=8), HALF)
entry("cur", lambda r, a: CURPress(r))
for kind in ("key", "value", "kv_avg", "kv_product"):
    entry(f"cur-{kind}", lambda r, a, kind=kind: CURPress(r, leverage_type=kind, use_local_approximation=False, num_sinks=2), HALF)
entry("cur-local9", lambda r, a: CURPress(r, leverage_type="kv_avg", local_window_size=9), HALF)
entry("cur-random", lambda r, a: CURPress(r, use_random_leverage=True))
entry("lagkv", lambda r, a: LagKVPress(r))
entry("lagkv-cross", lambda r, a: LagKVPress(r, cross_scoring=True))
entry("lagkv-lag48", lambda r, a: LagKVPress(r, n_sink=7, lag_size=48, cross_scoring=True), HALF)
entry("observed_attention", lambda r, a: ObservedAttentionPress(r), eager=True)
entry("ea", lambda r, a: ExpectedAttentionPress(r))
entry("ea-mean", lambda r, a: ExpectedAttentionPress(r, use_covariance=False), HALF)
entry("ea-no-vnorm", lambda r, a: ExpectedAttentionPress(r, use_vnorm=False), HALF)
entry("ea-future64-sink9", lambda r, a: ExpectedAttentionPress(r, n_future_positions=64, n_sink=9, epsilon=0.02), HALF)
entry("expected_attention", lambda r, a: AdaKVPress(ExpectedAttentionPress(r, epsilon=1e-2)))
entry("ea-statistics", lambda r, a: with_statistics(r, a))
entry("ea-statistics-mean", lambda r, a: with_statistics(r, a, use_covariance=False, n_future_positions=100), HALF)
entry("non_causal", lambda r, a: NonCausalAttnPress(r))
entry("non_causal-chunk100", lambda r, a: NonCausalAttnPress(r, chunk_size=100), HALF)
entry("leverage", lambda r, a: LeverageScorePress(r))
entry("leverage-12", lambda r, a: LeverageScorePress(r, sketch_dimension=12), HALF)
entry("compactor", lambda r, a: CompactorPress(r))
entry("compactor-blend", lambda r, a: CompactorPress(r, sink_size_start=5, sink_size_end=3, chunk_size=64, sketch_dimension=12, blending=0.35), HALF)
entry("adakv_compactor", lambda r, a: AdaKVPress(CompactorPress(r)))
entry("cap", lambda r, a: CapPress(r))
entry("cap-tau2", lambda r, a: CapPress(r, tau=2, n_future_positions=100, n_sink=6, epsilon=1e-3), HALF)
entry("qfilter", qfilter)
entry("kvzap-linear", lambda r, a: kvzap(r, a, "linear"))
entry("kvzap-mlp", lambda r, a: kvzap(r, a, "mlp"))
entry("kvzap_mlp_layer", lambda r, a: AdaKVPress(kvzap(r, a, "mlp")))
entry("critical_snapkv", lambda r, a: CriticalKVPress(SnapKVPress(r)))
entry("critical_snapkv-first30", lambda r, a: CriticalKVPress(SnapKVPress(r), epsilon=1e-2, first_stage_ratio=0.3), HALF)
entry("critical_expected_attention", lambda r, a: CriticalKVPress(ExpectedAttentionPress(r, use_vnorm=False)))
entry("adakv_snapkv", lambda r, a: AdaKVPress(SnapKVPress(r)))
entry("adakv_snapkv-alpha50", lambda r, a: AdaKVPress(SnapKVPress(r), alpha_safeguard=0.5), HALF)
entry("critical_adakv_snapkv", lambda r, a: CriticalAdaKVPress(SnapKVPress(r)))
entry("critical_adakv_expected_attention", lambda r, a: CriticalAdaKVPress(ExpectedAttentionPress(r, use_vnorm=False)))
entry("critical_adakv-alpha40", lambda r, a: CriticalAdaKVPress(SnapKVPress(r), alpha_safeguard=0.4, epsilon=1e-2, first_stage_ratio=0.3), HALF)
entry("rerotate_knorm", lambda r, a: KeyRerotationPress(KnormPress(r)))
entry("rerotate_snapkv", lambda r, a: KeyRerotationPress(SnapKVPress(r)))
entry("finch", lambda r, a: finch(r, a), finch=True)
entry("finch-no-rerotation", lambda r, a: finch(r, a, rerotate_keys=False), HALF, finch=True)
entry("finch-not-normalised", lambda r, a: finch(r, a, normalize_scores=False), HALF, finch=True)
entry("finch-chunks", lambda r, a: finch(r, a, chunk_length=100), HALF, finch=True)
entry("segments_knorm", lambda r, a: ChunkPress(KnormPress(r), chunk_length=100))
entry("segments_keydiff", lambda r, a: ChunkPress(KeyDiffPress(r), chunk_length=100), HALF)
entry("chunkkv", lambda r, a: ChunkKVPress(SnapKVPress(r), chunk_length=20))
entry("chunkkv_knorm-7", lambda r, a: ChunkKVPress(KnormPress(r), chunk_length=7), HALF)
entry("block_keydiff", lambda r, a: BlockPress(KeyDiffPress(r), block_size=128))
entry("block_keydiff-16", lambda r, a: BlockPress(KeyDiffPress(r), block_size=16), HALF)
entry("block_knorm", lambda r, a: BlockPress(KnormPress(r), block_size=64), HALF)
entry("per_layer_knorm", lambda r, a: PerLayerCompressionPress(KnormPress(0), streaming_ratios(a.layers)), [None])
entry("merging_knorm", lambda r, a: MergingPress(KnormPress(r)))
entry("merging_snapkv", lambda r, a: MergingPress(SnapKVPress(r)))
entry("merging_expected_attention", lambda r, a: MergingPress(ExpectedAttentionPress(r, epsilon=1e-2)))
entry("merging_kvzap_mlp", lambda r, a: MergingPress(kvzap(r, a, "mlp")))
entry("merging_knorm-threshold", lambda r, a: MergingPress(KnormPress(r), similarity_threshold=0.6), HALF)
entry("merging_snapkv-fraction", lambda r, a: MergingPress(SnapKVPress(r), merge_fraction=0.6), HALF)
entry("think", lambda r, a: ThinKPress(r))
entry("think-w8", lambda r, a: ThinKPress(r, window_size=8), HALF)
entry("snap_think", lambda r, a: ComposedPress([SnapKVPress(r), ThinKPress(r)]))
entry("lazy", lambda r, a: SimLayerKVPress(lazy_threshold=a.lazy[0], **LAZY[0]), [None])
entry("lazy-last3", lambda r, a: SimLayerKVPress(lazy_threshold=a.lazy[1], **LAZY[1]), [None])
entry("duo", duo)
entry("lukv", lukv)
entry("lukv_snapkv", lambda r, a: lukv(r, a, SnapKVPress(), sink=2, window=12), HALF)
entry("dms_knorm", lambda r, a: DMSPress(KnormPress(), threshold=a.norms, sliding_window_size=64), [None])
entry("kvzap_linear", lambda r, a: DMSPress(kvzap(0, a, "linear"), threshold=0.1), [None])
entry("kvzap_mlp", lambda r, a: DMSPress(kvzap(0, a, "mlp"), threshold=0.1, sliding_window_size=40), [None])
# What it asks is needle's text and chat template there, and made-up token ids for the models without a tokenizer.
entry("kvzip", lambda r, a: KVzipPress(r))
entry("kvzip-layerwise", lambda r, a: KVzipPress(r, layerwise=True, n_sink=6), HALF)
entry("kvzip_plus", lambda r, a: KVzipPress(r, kvzip_plus_normalization=True))
entry("fastkvzip", fastkvzip)
entry("fastkvzip-layerwise", lambda r, a: fastkvzip(r, a, layerwise=True, n_sink=7, window_ratio=0.1), HALF)
entry("kvcompose", lambda r, a: KVComposePress(compression_ratio=r), eager=True)
entry("kvcompose-mean", lambda r, a: KVComposePress(compression_ratio=r, agg_task="mean", agg_group="max", agg_head="max", keep_token_lower_bound=10), HALF, eager=True)
# kvpress leaves the second pass in the cache: what is compared is what it keeps of the context.
entry("kvcompose_unstructured", lambda r, a: KVComposePress(compression_ratio=r, structured=False))
entry("kvcompose_unstructured-plain", lambda r, a: KVComposePress(compression_ratio=r, structured=False, add_mean_across_heads=False), HALF)

# name -> (how to make it from artefacts, how the context is prefilled first)
DECODING = {
    "decoding_knorm": lambda a: DecodingPress(KnormPress(), 8, a.target),
    "decoding_streaming_llm": lambda a: DecodingPress(StreamingLLMPress(), 8, a.target),
    "decoding_keydiff": lambda a: DecodingPress(KeyDiffPress(), 8, a.target),
    "decoding_tova": lambda a: DecodingPress(TOVAPress(), 8, a.target),
    "decoding_snapkv": lambda a: DecodingPress(SnapKVPress(window_size=4), 8, a.target),
    "decoding_qfilter": lambda a: DecodingPress(qfilter(0, a), 8, a.target),
    "decoding_adakv_snapkv": lambda a: DecodingPress(AdaKVPress(SnapKVPress(window_size=4)), 8, a.target),
    "decoding_adakv_expected_attention": lambda a: DecodingPress(AdaKVPress(ExpectedAttentionPress(epsilon=1e-2)), 8, a.target),
    "decoding_ratio_knorm": lambda a: CompressionRatioDecodingPress(KnormPress(), 8, a.target, target_compression_ratio=0.6),
    "prefill_decoding": lambda a: PrefillDecodingPress(SnapKVPress(0.3), DecodingPress(KnormPress(), 8, a.target)),
    "dms_decoding": lambda a: DMSPress(KnormPress(), threshold=a.norms, sliding_window_size=16, decoding=True),
    "dms_decoding_kvzap": lambda a: DMSPress(kvzap(0, a, "mlp"), threshold=0.1, sliding_window_size=16, decoding=True),
    "cam_knorm": lambda a: CAMPress(KnormPress(), 8, a.target, merge_budget=4),
    "cam_streaming_llm": lambda a: CAMPress(StreamingLLMPress(), 8, a.target),
    "cam_keydiff": lambda a: CAMPress(KeyDiffPress(), 8, a.target, merge_budget=4),
    "cam_tova": lambda a: CAMPress(TOVAPress(), 8, a.target),
}
DECODING_STEPS = 44


# --- running them ---


def record_scores(press, found):
    """Wraps `score` of the outermost scorer: what its wrapper ranks by. found[layer] gets a copy of every call's result [H, n]."""
    while not isinstance(press, (ScorerPress, FinchPress)):
        if isinstance(press, ComposedPress):
            press = press.presses[0]
        elif hasattr(press, "press"):
            press = press.press
        else:
            return
    original = press.score

    def score(module, *arguments, **named):
        result = original(module, *arguments, **named)
        found.setdefault(int(module.layer_idx), []).append(result[0].clone())
        return result

    press.score = score


@contextlib.contextmanager
def replaced(target, **attributes):
    before = {key: getattr(target, key) for key in attributes}
    for key, value in attributes.items():
        setattr(target, key, value)
    try:
        yield
    finally:
        for key, value in before.items():
            setattr(target, key, value)


class Torch:
    """torch, but for what is drawn at random: that is given."""

    def __init__(self, **given):
        self.__dict__.update(given)

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def given_sketch(a):
    """LeverageScore multiplies its normal numbers by 1/sqrt(k); ours have it already."""

    def randn(batch, heads, d, k, **_):
        sketch = (a.sketch if k == 48 else a.sketch_12)["sketch"]
        assert sketch.shape == (heads, d, k) and batch == 1
        return sketch.unsqueeze(0) * math.sqrt(k)

    with replaced(leverage_module, torch=Torch(randn=randn)):
        yield


def mixed(x):
    """32 bits of a counter, murmur3's finaliser: what our draws are made of."""
    x = (x + 0x9E3779B9) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return x ^ (x >> 16)


def uniform_number(seed, layer, i):
    return (mixed(mixed(mixed(seed) ^ layer) ^ i) >> 8) / 2**24


def normal_number(seed, layer, i):
    """The one that we draw there: Box-Muller, over two uniform ones."""
    one, two = (uniform_number(seed, layer, j) for j in (2 * i, 2 * i + 1))
    return math.sqrt(-2 * math.log(1 - one)) * math.cos(2 * math.pi * two)


@contextlib.contextmanager
def given_draws(layers):
    """Random's scores and CUR's directions are those that we draw: kvpress draws in one layer after the other."""
    calls = itertools.count()

    def drawing(number):
        def draw(*shape, **_):
            layer = next(calls) % layers
            size = math.prod(shape)
            return torch.tensor([number(SEED, layer, i) for i in range(size)], dtype=torch.float64).view(shape).float()

        return draw

    given = {random_module: Torch(rand=drawing(uniform_number)), cur_module: Torch(randn=drawing(normal_number))}
    with contextlib.ExitStack() as stack:
        for module, numbers in given.items():
            stack.enter_context(replaced(module, torch=numbers))
        yield


class MadeUpTokenizer:
    """Of models that have none: a text is as many made-up ids as it has words, a line break is one."""

    chat_template = None

    @staticmethod
    def encode(text, **_):
        ids = [4 + 11 * len(word) % (VOCAB - 8) for word in text.split()] or [5] * bool(text)
        return torch.tensor([ids], dtype=torch.long)


def tokenizer_of(model):
    path = model.config.name_or_path
    return AutoTokenizer.from_pretrained(path) if str(path) == str(NEEDLE) else MadeUpTokenizer


def given_tokenizer(model):
    return replaced(kvzip_module, AutoTokenizer=SimpleNamespace(from_pretrained=lambda _: tokenizer_of(model)))


def clear_masks(model):
    for layer in model.model.layers:
        layer.self_attn.masked_key_indices = None


@torch.no_grad()
def prefill(model, context_ids, press=None):
    """As kvpress's pipeline does: the model without its head, inside the press's context manager."""
    clear_masks(model)
    cache = DynamicCache()
    ids = torch.tensor([context_ids])
    with press(model) if press else contextlib.nullcontext():
        model.model(input_ids=ids, past_key_values=cache)
    return cache


def masked_positions(model, layer, head):
    masked = getattr(model.model.layers[layer].self_attn, "masked_key_indices", None)
    return set() if masked is None else set(masked[2][masked[1] == head].tolist())


def rows_by_position(cache, n):
    """[layer][head]: bytes of a key row -> its position. RoPE makes all rows of a head different."""
    result = []
    for layer in cache.layers:
        places = [{k.numpy().tobytes(): t for t, k in enumerate(head[:n])} for head in layer.keys[0]]
        assert all(len(place) == n for place in places)
        result.append(places)
    return result


def kept_positions(model, full, cache, n, rerotated):
    """[layer][head] -> positions in the cache's order; rows that are masked are left out."""
    kept = []
    for i, (all_, left) in enumerate(zip(full.layers, cache.layers)):
        row = []
        for h in range(all_.keys.shape[1]):
            if rerotated is not None:
                row.append(rerotated[i][h])
                continue
            keys, rows = all_.keys[0, h], left.keys[0, h]
            if rows.shape[0] >= n:  # nothing was removed: only masked (kvcompose unstructured: with a second pass behind)
                masked = masked_positions(model, i, h)
                row.append([t for t in range(n) if t not in masked])
                continue
            alive = (rows != 0).any(dim=0)  # ThinK zeroes channels
            place = {k.numpy().tobytes(): t for t, k in enumerate(keys[:, alive].contiguous())}
            assert len(place) == keys.shape[0]
            row.append([place[k.numpy().tobytes()] for k in rows[:, alive].contiguous()])
            assert len(set(row[-1])) == len(row[-1])
        kept.append(row)
    return kept


@torch.no_grad()
def continuation(model, keys, values, position, suffix_ids, steps=STEPS):
    """Greedy tokens over caches of any shape: keys and values are [layer][head] of [rows, d], each head attends to its own rows.

    Written without transformers' attention: this is what a cache that really frees rows must give.
    """
    config = model.config
    heads, groups = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
    size = config.head_dim
    half = size // 2
    keys = [[rows.clone() for rows in layer] for layer in keys]
    values = [[rows.clone() for rows in layer] for layer in values]
    frequencies = model.model.rotary_emb.inv_freq

    def rotate(x, cos, sin):
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin

    def forward(token, position):
        x = model.model.embed_tokens.weight[token]
        angles = position * frequencies
        cos, sin = (f(torch.cat((angles, angles))) for f in (torch.cos, torch.sin))
        for i, layer in enumerate(model.model.layers):
            attention = layer.self_attn
            y = layer.input_layernorm(x)
            q = attention.q_proj(y).view(heads, groups, size)
            k = attention.k_proj(y).view(heads, size)
            v = attention.v_proj(y).view(heads, size)
            if hasattr(attention, "q_norm"):
                q, k = attention.q_norm(q), attention.k_norm(k)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            outputs = []
            for h in range(heads):
                keys[i][h] = torch.cat((keys[i][h], k[h : h + 1]))
                values[i][h] = torch.cat((values[i][h], v[h : h + 1]))
                outputs.append((q[h] @ keys[i][h].T / size**0.5).softmax(-1) @ values[i][h])
            x = x + attention.o_proj(torch.cat(outputs).reshape(-1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return model.lm_head(model.model.norm(x))

    for offset, token in enumerate(suffix_ids):
        logits = forward(token, position + offset)
    ids, margins = [], []
    for step in range(steps):
        ids.append(int(logits.argmax()))
        margins.append(margin(logits))
        if step < steps - 1:
            logits = forward(ids[-1], position + len(suffix_ids) + step)
    return ids, margins


@torch.no_grad()
def kvpress_continuation(model, cache, position, suffix_ids, steps=STEPS):
    """kvpress's own, token by token: with layers of unequal length transformers can do nothing else."""
    feed, ids = list(suffix_ids), []
    while len(ids) < steps:
        for token in feed:
            logits = model(
                input_ids=torch.tensor([[token]]), past_key_values=cache, position_ids=torch.tensor([[position]])
            ).logits[0, -1]
            position += 1
        ids.append(int(logits.argmax()))
        feed = ids[-1:]
    return ids


def packed(kept, n):
    """Sets of positions as bits, low bit first, ceil(n / 8) bytes for every head."""
    bits = np.zeros((len(kept), len(kept[0]), (n + 7) // 8 * 8), dtype=np.uint8)
    for i, layer in enumerate(kept):
        for h, positions in enumerate(layer):
            bits[i, h, positions] = 1
    return base64.b64encode(np.packbits(bits, axis=-1, bitorder="little").tobytes()).decode()


class Scores:
    """Arrays [L, H, N] in one file; equal ones only once."""

    def __init__(self):
        self.binary, self.offsets = b"", {}

    def add(self, scores):
        data = scores.numpy().astype("<f4").tobytes()
        if data not in self.offsets:
            self.offsets[data] = len(self.binary)
            self.binary += data
        return self.offsets[data]


def run(model, name, ratio, a, prompt, full, scores):
    """One golden entry."""
    options = ENTRIES[name]
    context_ids, suffix_ids, n = prompt.context_ids, prompt.suffix_ids, len(prompt.context_ids)
    press = options.make(ratio, a)
    found, rerotated, whole = {}, {}, []
    record_scores(press, found)
    fed = context_ids
    if options.finch:
        fed = context_ids[: n - a.window] + [a.delimiter] + context_ids[n - a.window :]

    def rerotate(module, indices, keys, original=KeyRerotationPress.rerotate_keys):
        rerotated[int(module.layer_idx)] = indices[0].tolist()
        return original(module, indices, keys)

    if isinstance(press, (KVzipPress, FastKVzipPress)):
        original = press.compress_post

        def compress_post(model):
            original(model)
            whole.append(press.score_val[:, 0].clone())

        press.compress_post = compress_post
    if isinstance(press, KVComposePress):
        original = press.compress_cache

        def compress_cache(model):
            whole.append(press.scores.clone())
            original(model)

        press.compress_cache = compress_cache
    with contextlib.ExitStack() as stack:
        stack.enter_context(given_sketch(a))
        stack.enter_context(given_draws(a.layers))
        stack.enter_context(given_tokenizer(model))
        stack.enter_context(replaced(KeyRerotationPress, rerotate_keys=staticmethod(rerotate)))
        if options.eager:
            stack.enter_context(replaced(model.config, _attn_implementation="eager"))
            full = prefill(model, context_ids)  # other last digits
        cache = prefill(model, fed, press)
    kept = kept_positions(model, full, cache, n, rerotated or None)

    # What is left, each head its own rows
    keys, values = [], []
    for i, layer in enumerate(cache.layers):
        rows = [kept[i][h] if layer.keys.shape[2] >= n else slice(None) for h in range(len(kept[i]))]
        keys.append([layer.keys[0, h][rows[h]] for h in range(len(rows))])
        values.append([layer.values[0, h][rows[h]] for h in range(len(rows))])
    position = len(kept[0][0]) if rerotated else n
    ids, margins = continuation(model, keys, values, position, suffix_ids)
    entry = {"ratio": ratio, "kept": packed(kept, n), "generated": ids, "margins": margins}
    if rerotated:
        entry["next_position"] = position

    if isinstance(press, KVComposePress) and not press.structured:
        for layer in cache.layers:  # the second pass must go, or transformers attends to it
            layer.keys, layer.values = layer.keys[:, :, :n], layer.values[:, :, :n]
    own = kvpress_continuation(model, cache, position, suffix_ids)
    clear_masks(model)
    differs = next((i for i, (x, y) in enumerate(zip(own, ids)) if x != y), None)
    if differs is not None:
        print(f"    {name} {ratio}: kvpress itself differs at token {differs}, margin {margins[differs]}")
        assert margins[differs] < 5e-3, (name, ratio)

    calls = [found[i] for i in sorted(found)]
    if whole:
        entry["scores"] = scores.add(whole[0])
    elif name.startswith("streaming_llm"):
        pass  # 0 and 1: positions say it all
    elif calls and all(sum(part.shape[-1] for part in layer) == n for layer in calls):
        # ChunkPress scores its chunks one after the other
        entry["scores"] = scores.add(torch.stack([torch.cat(layer, dim=-1) for layer in calls]))
    return entry, kept


# --- compression while decoding ---


def stable_topk(self, k, dim=-1, largest=True, sorted=True):
    """torch's, but equal scores go to the lower place first. torch leaves that open, and kvpress's cache is in this order from then on."""
    values, indices = self.sort(dim=dim, descending=largest, stable=True)
    return torch.return_types.topk((values.narrow(dim, 0, k), indices.narrow(dim, 0, k)))


def unmasked(model, full, n):
    """[layer][head] -> positions, of presses that mask."""
    return [[sorted(set(range(n)) - masked_positions(model, i, h)) for h in range(len(heads))] for i, heads in enumerate(full)]


@torch.no_grad()
def run_decoding(model, name, a, prompt):
    """kvpress's own run, with the suffix in one call. Kept positions after every compression."""
    context_ids, suffix_ids, n = prompt.context_ids, prompt.suffix_ids, len(prompt.context_ids)
    press = DECODING[name](a)
    dms = isinstance(press, DMSPress)
    prefills = dms or isinstance(press, PrefillDecodingPress)
    masks = isinstance(getattr(press, "base_press", None), AdaKVPress)
    full = rows_by_position(prefill(model, context_ids), n)
    # CAM draws: merged where the probability exceeds this
    given = Torch(bernoulli=lambda p: (p > a.uniform).to(p.dtype))
    compressions, ids, margins = [], [], []
    with replaced(cam_module, torch=given), replaced(torch.Tensor, topk=stable_topk):
        cache = prefill(model, context_ids, press if prefills else None)
        total = sum(layer.keys.shape[2] for layer in cache.layers)
        with press(model):
            position, feed = n, suffix_ids
            while True:
                new_rows = record_new_rows(model)
                positions = torch.arange(position, position + len(feed)).unsqueeze(0)
                with new_rows:
                    logits = model(
                        input_ids=torch.tensor([feed]), past_key_values=cache, position_ids=positions
                    ).logits[0, -1]
                for i, rows in enumerate(new_rows.keys):
                    for h, head in enumerate(rows):
                        for t, k in enumerate(head):
                            full[i][h][k.numpy().tobytes()] = position + t
                position += len(feed)
                now = sum(layer.keys.shape[2] for layer in cache.layers)
                changed = now != total + len(cache.layers) * len(feed)
                if changed:
                    kept = [
                        [[full[i][h][k.numpy().tobytes()] for k in rows] for h, rows in enumerate(layer.keys[0])]
                        for i, layer in enumerate(cache.layers)
                    ]
                    compressions.append({"tokens": position, "kept": packed(kept, position)})
                total = now
                if masks and not compressions and masked_positions(model, 0, 0) | masked_positions(model, 0, 1):
                    # Only the first time: it puts fake keys where it masks, and scores them the next.
                    compressions.append({"tokens": position, "kept": packed(unmasked(model, full, position), position)})
                ids.append(int(logits.argmax()))
                margins.append(margin(logits))
                feed = ids[-1:]
                if len(ids) == DECODING_STEPS:
                    break
    if dms:  # it acts after every token: what is left at the end
        compressions.append({"tokens": position, "kept": packed(unmasked(model, full, position), position)})
    clear_masks(model)
    return {"compressions": compressions, "generated": ids, "margins": margins}


class record_new_rows:
    """The key rows [layer][head][new] that a call adds, before a press sees them."""

    def __init__(self, model):
        self.model, self.keys = model, []

    def __enter__(self):
        original = DynamicCache.update

        def update(cache, keys, values, layer_idx, *arguments, **named):
            self.keys.append(list(keys[0]))
            return original(cache, keys, values, layer_idx, *arguments, **named)

        self.original = original
        DynamicCache.update = update

    def __exit__(self, *_):
        DynamicCache.update = self.original


# --- checks and main ---


def check_counts(name, ratio, kept, n):
    """Of presses that are plain top-k: int(n * (1 - ratio)) in every head."""
    plain = {"knorm", "tova", "cur", "ea", "cap", "qfilter", "kvzap-mlp", "observed_attention", "non_causal", "leverage", "compactor"}
    if name in plain:
        assert all(len(head) == int(n * (1 - ratio)) for layer in kept for head in layer), name


def lazy_threshold(model, context_ids, sizes):
    """One that half of the layers exceed."""
    press, shares = SimLayerKVPress(lazy_threshold=0.5, **sizes), []

    def is_lazy(module, hidden_states, keys, positions):
        p = SnapKVPress.compute_window_attention(module, hidden_states, keys, press.n_last, positions).mean((0, 1, 2))
        shares.append((p[: press.n_initial].sum() + p[-press.n_recent :].sum()).item())
        return False

    press.is_lazy = is_lazy
    prefill(model, context_ids, press)
    shares.sort()
    middle = len(shares) // 2
    return round((shares[middle - 1] + shares[middle]) / 2, 4)


def prompts_for(name):
    if name == "needle":
        ids = samples()[SAMPLE]["prompt_token_ids"]
        cut = len(ids) - ids[::-1].index(NEWLINE)
        return SimpleNamespace(context_ids=ids[:cut], suffix_ids=ids[cut:])
    generator = torch.Generator().manual_seed(TINY[name])
    ids = torch.randint(4, VOCAB - 1, (TINY_TOKENS + TINY_SUFFIX,), generator=generator).tolist()
    return SimpleNamespace(context_ids=ids[:TINY_TOKENS], suffix_ids=ids[TINY_TOKENS:])


def kvzip_asks(model):
    """What KVzip has read over a context of one chunk, beside the context itself."""
    press = KVzipPress(0.5)
    with given_tokenizer(model), press(model):
        press._context_ids = torch.zeros(1, press.prefix_length + 1, dtype=torch.long)
        press.context_length = press._context_ids.shape[1]
        ((_, read),) = press.prepare(model, tokenizer_of(model))
        suffix = press._suffix_ids[0].tolist()
        press._context_ids = None  # nothing to compress
        asked = read[0].tolist()[: -len(suffix) - 1]
        return {"prefix_tokens": press.prefix_length, "repeat_prompt": asked, "repeat_answer_start": suffix}


def main(models=("needle", *TINY), only=None):
    torch.manual_seed(0)
    for name in models:
        model = load_model(NEEDLE if name == "needle" else GOLDEN / "models" / name)
        prompt = prompts_for(name)
        n = len(prompt.context_ids)
        a = artefacts(model, name)
        a.layers = model.config.num_hidden_layers
        # kvpress takes a delimiter out of the prompt before layer 0: any token that is nowhere else
        a.delimiter = next(t for t in reversed(range(model.config.vocab_size)) if t not in prompt.context_ids)
        a.window, a.target, a.uniform = 12, n // 2, 0.5
        full = prefill(model, prompt.context_ids)
        a.norms = float(f"{-torch.stack([layer.keys[0].norm(dim=-1) for layer in full.layers]).median().item():.3f}")
        a.lazy = [lazy_threshold(model, prompt.context_ids, sizes) for sizes in LAZY]
        scores, entries, decoding = Scores(), {}, {}
        for entry_name, options in ENTRIES.items():
            if (only and entry_name not in only) or (options.only and name not in options.only):
                continue
            runs = []
            for ratio in options.ratios:
                one, kept = run(model, entry_name, ratio, a, prompt, full, scores)
                check_counts(entry_name, ratio, kept, n)
                runs.append(one)
            entries[entry_name] = runs
        for entry_name in DECODING:
            if only and entry_name not in only:
                continue
            decoding[entry_name] = run_decoding(model, entry_name, a, prompt)
        ids, margins = continuation(
            model, [list(x.keys[0]) for x in full.layers], [list(x.values[0]) for x in full.layers], n, prompt.suffix_ids
        )
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.bin").write_bytes(scores.binary)
        print(f"  library/{name}.bin: {len(scores.binary)} bytes")
        write_json(
            f"library/{name}.json",
            {
                "context_ids": prompt.context_ids,
                "suffix_ids": prompt.suffix_ids,
                "shape": [a.layers, model.config.num_key_value_heads, n],
                "settings": {
                    "finch_window": a.window,
                    "per_layer_ratios": streaming_ratios(a.layers),
                    "lazy_threshold": a.lazy,
                    "dms_threshold": a.norms,
                    "target_size": a.target,
                    "cam_uniform": a.uniform,
                    "kvzip": kvzip_asks(model),
                },
                "full_cache": {"generated": ids, "margins": margins},
                "entries": entries,
                "decoding": decoding,
            },
        )


if __name__ == "__main__":
    main()
