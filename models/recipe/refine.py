"""Continue training an exported model with the long mix (data.LONG). One command, run again to resume:

    ./run.sh refine.py --init ../needle --out ckpt --tokens 120e6

CPU only. Each thread computes its share of a batch with a copy of the model that shares the
weights (two threads that meet once a step lose less on a busy machine than parallel products).
Stop: SIGTERM, or a file STOP in --out: saves and exits (the file is removed at the next start).
Finish early: a file DECAY in --out with a number of tokens: the rate falls to zero over so many.
last.pt: everything; average.pt: exponential average of the weights, the one to evaluate and export.
"""
import argparse, collections, concurrent.futures, copy, json, os, random, shutil, signal, time
import torch
import model as net
from data import Gen, LONG
from export import load
from train import Muon

# (up to this share of the tokens, {length: share of the tokens})
PHASES = [(0.12, {256: 0.3, 512: 0.35, 1024: 0.2, 2048: 0.15}),
          (0.50, {256: 0.1, 512: 0.25, 1024: 0.3, 2048: 0.3, 4096: 0.05}),
          (9.00, {256: 0.05, 512: 0.15, 1024: 0.25, 2048: 0.35, 4096: 0.2})]
KEEP_TEXT = 0.25            # share of the context tokens whose loss is computed (weighted up in return)


def batch(gen, r, T, n):
    rows = [gen.sequence(T) for _ in range(n // T)]
    ids = torch.tensor([x[0] for x in rows]); w = torch.tensor([x[1] for x in rows])[:, 1:]
    text = w < 0.12
    w = torch.where(text, torch.where(torch.rand(w.shape, generator=r) < KEEP_TEXT, w / KEEP_TEXT, 0.0), w).contiguous()
    sets = [(b * T + i - 1, alt) for b, x in enumerate(rows) for i, alt in x[3]]
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), w, sets, [x[2] for x in rows]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--init", default="../needle"); a.add_argument("--out", default="ckpt")
    a.add_argument("--tokens", type=float, default=120e6); a.add_argument("--thread-tokens", type=int, default=4096)
    a.add_argument("--threads", type=int, default=2); a.add_argument("--lr", type=float, default=1.5e-3)
    a.add_argument("--muon-lr", type=float, default=0.01); a.add_argument("--wd", type=float, default=0.05)
    a.add_argument("--warmup", type=int, default=100); a.add_argument("--decay", type=float, default=0.35, help="share of the tokens for the final decay")
    a.add_argument("--average", type=float, default=0.998); a.add_argument("--seed", type=int, default=11)
    a.add_argument("--save-minutes", type=float, default=4); a.add_argument("--log-every", type=int, default=50)
    a.add_argument("--f32", action="store_true", help="no bfloat16 products")
    a = a.parse_args()
    torch.set_num_threads(1); torch.manual_seed(a.seed); os.makedirs(a.out, exist_ok=True)
    net.Linear.bf16 = not a.f32
    path = lambda n: os.path.join(a.out, n)
    if os.path.exists(path("STOP")): os.remove(path("STOP"))
    model, tok = load(a.init); model.train(); c = model.c
    if not os.path.exists(path("tokenizer.json")): shutil.copy(os.path.join(a.init, "tokenizer.json"), path("tokenizer.json"))
    for b in model.blocks:
        b.qkv.weight.splits = [c.heads * c.head_dim, c.kv_heads * c.head_dim, c.kv_heads * c.head_dim]
        b.gu.weight.splits = [c.inter, c.inter]
    named = list(model.named_parameters())
    hid = [p for n, p in named if p.dim() == 2 and not n.startswith("embed")]
    opts = [Muon(hid[i::a.threads], a.muon_lr, wd=a.wd) for i in range(a.threads)]
    opts.append(torch.optim.AdamW([p for n, p in named if p.dim() == 1 or n.startswith("embed")], lr=a.lr, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0))
    base = [[g["lr"] for g in o.param_groups] for o in opts]
    mean = {n: p.detach().clone() for n, p in named}
    s = dict(step=0, tokens=0, secs=0.0, decay_at=a.tokens * (1 - a.decay), end=a.tokens)
    if os.path.exists(path("last.pt")):
        ck = torch.load(path("last.pt")); model.load_state_dict(ck["model"]); s = ck["state"]; mean = ck["mean"]
        for o, d in zip(opts, ck["opts"]): o.load_state_dict(d)
        print("resumed at step", s["step"], "tokens", s["tokens"], flush=True)
    twins = [copy.deepcopy(model) for _ in range(a.threads)]
    for t in twins:                                # the weights are shared, the gradients are not
        for p, q in zip(model.parameters(), t.parameters()): q.data = p.data
    log = open(path("log.jsonl"), "a")

    def write(obj, name):
        torch.save(obj, path(name + ".tmp")); os.replace(path(name + ".tmp"), path(name))

    def save():
        write(dict(model=model.state_dict(), opts=[o.state_dict() for o in opts], mean=mean, state=s, config=c.dict()), "last.pt")
        write(dict(model=mean, state=s, config=c.dict()), "average.pt")

    stop = []
    for x in (signal.SIGTERM, signal.SIGINT): signal.signal(x, lambda *_: stop.append(1))
    start = s["step"]
    gens = [Gen(tok, f"refine-{a.seed}-{start}-{i}", 1.0, LONG) for i in range(a.threads)]
    noise = [torch.Generator().manual_seed(a.seed * 7919 + start * 31 + i) for i in range(a.threads)]
    pick = random.Random(f"{a.seed}-{start}")
    pool = concurrent.futures.ThreadPoolExecutor(a.threads)

    def work(i, T):
        x, y, w, sets, spans = batch(gens[i], noise[i], T, a.thread_tokens)
        twins[i].zero_grad(set_to_none=True)
        loss, nll, hit = twins[i].loss(x, y, w, sets)   # a sum: divided by the weight of all threads below
        loss.backward()
        ans = w >= 0.9
        return w.sum().item(), loss.item(), nll.view(x.shape)[ans].sum().item(), int(ans.sum()), hit.view(x.shape), spans

    acc = collections.defaultdict(lambda: [0, 0]); lsum = asum = an = nlog = 0; tok0, sec0 = s["tokens"], s["secs"]; prev = t_save = time.time()
    while s["tokens"] < s["end"] and not stop:
        if os.path.exists(path("STOP")): break
        if os.path.exists(path("DECAY")):
            s["decay_at"] = s["tokens"]; s["end"] = s["tokens"] + float(open(path("DECAY")).read()); os.remove(path("DECAY"))
        f = min(1.0, (s["step"] + 1) / a.warmup)
        if s["tokens"] > s["decay_at"]: f *= max(0.01, 1 - (s["tokens"] - s["decay_at"]) / (s["end"] - s["decay_at"]))
        for o, ls in zip(opts, base):
            for g, l in zip(o.param_groups, ls): g["lr"] = l * f
        lens = next(l for upto, l in PHASES if s["tokens"] < upto * a.tokens)
        T = pick.choices(list(lens), list(lens.values()))[0]
        res = list(pool.map(work, range(a.threads), [T] * a.threads))
        wsum = sum(r[0] for r in res)
        with torch.no_grad():
            for p, *qs in zip(model.parameters(), *[t.parameters() for t in twins]):
                p.grad = torch.stack([q.grad for q in qs]).sum(0).div_(wsum)
        gn = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        if gn == gn: list(pool.map(lambda o: o.step(), opts))
        k = min(a.average, (1 + s["step"]) / (10 + s["step"]))
        with torch.no_grad():
            for n, p in named: mean[n].lerp_(p, 1 - k)
        now = time.time(); s["secs"] += now - prev; prev = now
        s["step"] += 1; s["tokens"] += a.threads * a.thread_tokens
        lsum += sum(r[1] for r in res) / wsum; asum += sum(r[2] for r in res); an += sum(r[3] for r in res); nlog += 1
        for *_, hit, spans in res:
            cum = torch.cat([torch.zeros(hit.shape[0], 1, dtype=torch.long), hit.long().cumsum(1)], 1).tolist()
            for b, sp in enumerate(spans):
                for t, i, j in sp:
                    if t != "prose": e = acc[(t, T)]; e[0] += cum[b][j - 1] - cum[b][i - 1] == j - i; e[1] += 1
        if s["step"] % a.log_every == 0:
            r = dict(step=s["step"], tokens=s["tokens"], min=round(s["secs"] / 60, 2), lr=round(f, 4), loss=round(lsum / nlog, 4), ans_nll=round(asum / max(1, an), 4), gnorm=round(gn, 2),
                     tps=round((s["tokens"] - tok0) / (s["secs"] - sec0 + 1e-9)), acc={f"{t}@{L}": [round(v[0] / v[1], 3), v[1]] for (t, L), v in sorted(acc.items())})
            log.write(json.dumps(r) + "\n"); log.flush()
            tot = collections.defaultdict(lambda: [0, 0])
            for (t, _), v in acc.items(): tot[t][0] += v[0]; tot[t][1] += v[1]
            print(f"{r['step']} {r['tokens'] / 1e6:.2f}M {r['min']}m lr {r['lr']} loss {r['loss']} ans {r['ans_nll']} gn {r['gnorm']} {r['tps']}/s", {t: round(v[0] / v[1], 2) for t, v in sorted(tot.items())}, flush=True)
            acc.clear(); lsum = asum = an = nlog = 0; tok0, sec0 = s["tokens"], s["secs"]
        if now - t_save > a.save_minutes * 60: save(); t_save = now
    save(); print("done" if s["tokens"] >= s["end"] else "stopped", s["step"], s["tokens"], flush=True)


if __name__ == "__main__":
    main()
