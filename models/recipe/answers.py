"""Answers the samples of a folder anew with the model of that folder: the questions, and so the line numbers that tests name, stay.

    python answers.py OUT      -> samples.jsonl: greedy_output_token_ids, greedy_output_text and recall of every line
"""
import json, os, sys
import torch
from evaluate import score
from export import load
from model import prefill_decode


def main(folder):
    torch.set_num_threads(1)  # the order of float sums must not depend on the machine
    model, tok = load(folder); path = os.path.join(folder, "samples.jsonl")
    rows = [json.loads(line) for line in open(path)]
    for s in rows:
        if tok.encode(tok.decode(s["prompt_token_ids"])) != s["prompt_token_ids"]: sys.exit(f"{path}: the tokens of a prompt are of another tokenizer")
        out, _ = prefill_decode(model, s["prompt_token_ids"], 128, {tok.end, tok.eos}); text = tok.decode(out, skip_special=True)
        s.update(greedy_output_token_ids=out, greedy_output_text=text, recall=score(s["answers"], text)[0])
    with open(path + ".new", "w") as f:
        for s in rows: f.write(json.dumps(s) + "\n")
    os.replace(path + ".new", path)
    print(f"{path}: {len(rows)} samples, mean recall {sum(s['recall'] for s in rows) / len(rows):.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
