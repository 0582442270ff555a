"""Regenerates all golden files: python test/golden/make.py [step ...]   (steps: see STEPS; default all; kvpress_library:needle does that model only)"""

import importlib
import sys

sys.dont_write_bytecode = True

# By itself, with other packages: see README.md
APART = ["kvpress_restore"]
STEPS = ["tiny_models", "needle_logits", "tokenizer_cases", "gguf_files", "kvpress_needle", "kvpress_library", "kvpress_wrappers"]

if __name__ == "__main__":
    wanted = sys.argv[1:] or STEPS
    known = STEPS + APART + [f"kvpress_library:{model}" for model in ("needle", "qwen3", "llama")]
    unknown = [step for step in wanted if step not in known]
    if unknown:
        sys.exit(f"unknown step: {', '.join(unknown)} (steps: {', '.join(STEPS + APART)})")
    for step in wanted:
        print(step)
        module, _, model = step.partition(":")
        importlib.import_module(module).main(*([(model,)] if model else []))
