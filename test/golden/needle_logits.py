"""logits/needle.json: logits and greedy tokens of models/needle."""

from common import NEEDLE, load_model, prompt_entry, read_json, samples, write_json

# (name, line of samples.jsonl): a list of values, several keys, a chain of variables.
LONG_PROMPTS = [("sample-10", 10), ("sample-95", 95), ("sample-136", 136)]


def main():
    model = load_model(NEEDLE)
    stored = read_json(NEEDLE / "logits.json")["prompts"]
    prompts = [(f"short-{i}", p["token_ids"]) for i, p in enumerate(stored)]
    lines = samples()
    prompts += [(name, lines[i]["prompt_token_ids"]) for name, i in LONG_PROMPTS]
    entries = [prompt_entry(model, name, ids) for name, ids in prompts]

    # models/needle/logits.json comes from another implementation: the two must agree.
    for entry, other in zip(entries, stored):
        worst = max(abs(a - b) for a, b in zip(entry["last_logits"], other["last_logits"]))
        assert worst < 1e-3, worst
    # So must the answers stored with the samples (they stop at <|end|>).
    for entry, (_, i) in zip(entries[3:], LONG_PROMPTS):
        answer = lines[i]["greedy_output_token_ids"]
        assert entry["greedy"][: len(answer)] == answer
    write_json("logits/needle.json", {"model": "needle", "vocab_size": model.config.vocab_size, "prompts": entries})


if __name__ == "__main__":
    main()
