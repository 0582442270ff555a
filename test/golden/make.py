"""Regenerates all golden files: python test/golden/make.py [step ...]   (steps: see STEPS; default all)"""

import importlib
import sys

sys.dont_write_bytecode = True

# By itself, with other packages: see README.md
APART = ["kvpress_restore"]
STEPS = ["tiny_models", "needle_logits", "tokenizer_cases", "gguf_files", "kvpress_needle", "kvpress_library", "kvpress_wrappers"]

if __name__ == "__main__":
    wanted = sys.argv[1:] or STEPS
    unknown = [step for step in wanted if step not in STEPS + APART]
    if unknown:
        sys.exit(f"unknown step: {', '.join(unknown)} (steps: {', '.join(STEPS + APART)})")
    for step in wanted:
        print(step)
        importlib.import_module(step).main()
