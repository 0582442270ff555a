"""Scores of the official metrics, by the official code itself, into test/golden/evaluation/metrics.json.

Checkouts are named by the environment: LONGBENCH (THUDM/LongBench 2e00731), INFINITEBENCH (OpenBMB/InfiniteBench 88b3daa), LOOGLE (bigai-nlco/LooGLE 6734382) and
KVPRESS (NVIDIA/kvpress 8bb29b9, its evaluation/benchmarks). Packages: rouge==1.0.1 rouge-score==0.1.2 fuzzywuzzy==0.18.0 nltk==3.10.4 jieba==0.42.1 pandas numpy, and
no python-Levenshtein, with which fuzzywuzzy counts otherwise.
"""

import importlib.util
import json
import os
import random
import sys
import types
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
HERE = Path(__file__).parent


class RougeSum:
    """What InfiniteBench gets from evaluate.load("rouge"): rouge_score with its defaults."""

    def compute(self, predictions, references, use_aggregator):
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeLsum"])
        return {"rougeLsum": [scorer.score_multi(r, p)["rougeLsum"].fmeasure for p, r in zip(predictions, references)]}


def stand_in(name, **members):
    """A module that the official code imports and its metrics do not need here."""
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


def official(variable, path):
    file = Path(os.environ[variable]) / path
    spec = importlib.util.spec_from_file_location(f"{variable}_{file.parent.name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WORDS = "the a an cat dog sat on mat Paris London river 7 12 blue, green; (red) it's end. Stop. an. naïve über 東京 A B x=1 <br>".split(" ")


def text(rng, most):
    return "".join(rng.choice(WORDS) + rng.choice([" ", " ", " ", " ", "\n", "  "]) for _ in range(rng.randint(0, most)))


def changed(rng, source):
    words = source.split(" ")
    for _ in range(rng.randint(0, 4)):
        words.insert(rng.randint(0, len(words)), rng.choice(WORDS))
    return " ".join(word for word in words if rng.random() > 0.25)


def pairs(seed, count, most):
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        answers = [text(rng, most).strip() or "none" for _ in range(rng.randint(1, 3))]
        made.append((changed(rng, rng.choice(answers)) if rng.random() < 0.8 else text(rng, most), answers))
    return made


PLAIN = [("", ["Paris"]), (" ", ["Paris"]), ("Paris", ["Paris"]), ("It is Paris.", ["Paris", "the city of Paris"]), ("...", ["a. b. "]), ("a. b.", ["b. a. "]), (".", ["."])]
UNICODE = [("\u00e9a", ["\u00e9"]), ("\ufeffParis", ["Paris"]), ("Paris\x1cfrance\x85x", ["france"]), ("caf\u00e9 \u00e9a an\u0301 the_a", ["\u00e9a the_a"]), ("İstanbul ΣΑΣ", ["i̇stanbul σας"]), ("𝒜 𝒷", ["𝒷 𝒜"])]
RULER = [
    ("The numbers are 3124567\nand 12.", ["12", "3124567"]),
    ("  UUID: AB-\ncd ", ["ab-cd"]),
    ("\x1c12\u3000", ["12"]),
    ("nothing", ["1", "2", "3"]),
    ("1 and 3", ["1", "2", "3"]),
    ("1\t2", ["12"]),
]
NONE = [("", ["None"]), ("", ["None of these"])]  # LooGLE puts None for an empty answer
NEEDLES = [("Eat a sandwich in the park.\n", ["The best thing to do is eat a sandwich."]), (" \nEat a sandwich. Sit. \n", [" Eat a sandwich. "])]
FEW_WORDS = [("x y z\ny x z", ["z y x y z\nx z y"]), ("x y\nz x", ["y x z y x"]), ("z y x w\nw x y z", ["w z x y w x z\nx y"]), ("y x\nx z y x", ["x y z x\ny y x"])]
CLASSES = ["Abbreviation", "Entity", "Animal", "Other entity", "Number of something", "Number", "Other number", "Other", "number"]
CLASSIFY = [(p, [r]) for r in ["Other number", "Other entity", "Number of something", "Abbreviation", "Other"] for p in
            ["Other number", "Other entity, Number", "Number of something", "Number", "Type: Abbreviation\nType: Other", "\nOther", " \nOther", "other", "Animal Other Number", ""]]
COUNTS = [("5", ["5"]), ("5 of 12", ["5"]), ("05", ["5"]), ("none", ["5"]), ("Paragraphs 5, 5 and 6", ["5", "6"]), ("٣", ["3"]), ("5.5", ["5"])]
RETRIEVE = [("Paragraph 12", ["Paragraph 12"]), ("12, 13", ["Paragraph 12"]), ("Paragraph 1", ["Paragraph 12"]), ("", ["Paragraph 3"]), ("段落3", ["Paragraph 3"])]
LONG_CODE = "for (int i = 0; i < n; ++i) { sum += values[i] * weights[i]; count[i] = values[i] > limit ? count[i] + 1 : count[i]; } return sum / (n + epsilon) * scale + offset; /* end of it */ int last = values[n - 1]; emit(last);"
CODE = [
    ("return x", ["return y"]), ("\n\nreturn x\nmore", ["return x"]), ("# comment\n`a`\nreturn x + 1", ["return x"]), ("    return x", ["return x"]), ("// only\n# comments", ["x"]),
    ("// only", [""]), ("  \nreturn x", ["return x"]), ("", ["x"]), (LONG_CODE[4:190], [LONG_CODE]), (LONG_CODE, [LONG_CODE[::-1]]), (LONG_CODE.replace("i", "index"), [LONG_CODE]),
    ("self.𝒜 = 𝒷", ["self.𝒷 = 𝒜"]), ("abcd", ["bcde", "abxcd"]), ("aab", ["abb"]), ("x" * 7, ["x" * 9 + "y" * 184]),
]
CHOICE2 = [
    ("The correct answer is (B).", ["B"]), ("The correct answer is **C**", ["C"]), ("The correct answer is (A). No: The correct answer is (B)", ["B"]),
    ("The correct answer is D. The correct answer is (A)", ["A"]), ("The correct answer is D. The correct answer is (A)", ["D"]), ("B", ["B"]), ("the correct answer is (B)", ["B"]),
    ("The correct answer is Between", ["B"]),
]
CLOZE_REFERENCE = "{'<mask-0>': 'Ann Lee', '<mask-1>': \"O'Hara\"}"
CLOZE = [
    CLOZE_REFERENCE, ' {"<mask-0>": "Ann Lee"}\n', "{'<mask-0>': 'Lee', '<mask-1>': \"O'Hara\",}", "{'<mask-0>': 'Ann' ' Lee'}", "{'<mask-0>': '''Ann Lee''', 7: [1, (2.5, None)]}",
    "{'<mask-0>': 'Ann\\x20Lee', '<mask-1>': 'O\\'Hara'}", "\n{'<mask-0>': 'Ann Lee'", "['Ann Lee']", "", "{'<mask-0>': 'x', '<mask-0>': 'Ann Lee'}", "The answer is {'<mask-0>': 'Ann Lee'}",
    "{}", "{'<mask-0>': true}", "{'<mask-2>': 'Ann Lee', '<mask-1>': 'Mr O\\u0027Hara'}", "{'<mask-0>': 'Ann\nLee'}", "{'<mask-0>': 'Ann Lee'} and more",
]
DIGITS = [("71432", ["71432"]), ("The pass key is 71432.", ["71432"]), ("7143 2", ["71432"]), ("1. 71432", ["71432"]), ("", ["71432"]), ("٣", ["٣"])]
KEYS = [('"ab-12"', ["ab-12"]), ("ab-12.", ["ab-12"]), ("xab-12", ["ab-12"]), ("key:ab-12,", ["ab-12"]), ("", ["ab-12"]), ("AB-12", ["ab-12"])]
NAMES = [("Ace", ["ACE", "ACE ROTHSTEIN"]), ("ace rothstein.", ["ACE ROTHSTEIN", "ACE"]), ("Face", ["ACE"]), ("the 'Ace'!", ["ACE"]), ("", ["ACE"])]
RUNS = [("-5", ["-5"]), ("The return value is: 12.", ["12"]), ("12 13", ["12"]), ("`+12`", ["12"]), ("1_2", ["12"]), ("012", ["12"]), ("1__2", ["12"]), ("twelve", ["12"]), ("", ["12"]), ("-0", ["0"])]
DEBUG = [
    "A.", "A: foo", "A", "The answer is: A", "The correct option is:  B", "Option A", "It is: foo.bar", "answer:", "is: B is: A", "the answer is A", "So B. Or\nA", "foo.bar has it", "**A**",
    "correct option is: **A**", "**Answer: A", "B then A on one line", "",
]
FIND = [("5", ["5"]), ("It is 5 of 7", ["5"]), ("-5", ["5"]), ("5.5", ["5.5"]), ("5", ["5.0"]), ("5.50", ["5.5"]), ("none", ["5"]), ("", ["5"])]
CALC = [("[1, 4, 8]", ["1", "4", "8"]), ("1 4", ["1", "4", "8"]), ("1, 5, 8", ["1", "4", "8"]), ("-1, 4", ["-1", "4"]), ("", ["1"]), ("01 4 8 9", ["1", "4", "8"])]
PICK = [
    "A", "A. Walking Georgie", "B", "The answer is A", "answer is: A", "answer is:", "I think option is A.", "Taking AB", "BC then A", "Walking Georgie", "walk", "", "the answer is B, answer: A", "x\nA\nB", "So D\nA",
    "Answer:A", "answer is  Walking Georgie",
]
BOXES = [(r"so \boxed{42}", ["42"]), (r"\boxed{1} then \boxed{42}", ["42"]), (r"\boxed{42} then \boxed{1}", ["42"]), ("42", ["42"]), (r"\boxed{\frac{1}{2}}", [r"\frac{1}{2}"]), ("42} x", ["42"]), (r"\boxed{ 42}", ["42"])]
CHINESE = [("北京。", ["北京"]), ("是北京市，《对》", ["北京"]), ("", ["北京"]), ("A 北 b", ["a北B"]), ("〈北〉", ["北"])]


def main():
    stand_in("evaluate", load=lambda name: RougeSum())
    stand_in("args", parse_args=None)
    stand_in("bert_score", score=None)
    from rouge import Rouge

    longbench = official("LONGBENCH", "LongBench/metrics.py")
    sys.modules["metrics"] = longbench
    longbench_eval = official("LONGBENCH", "LongBench/eval.py")
    infinite = official("INFINITEBENCH", "src/compute_scores.py")
    loogle = official("LOOGLE", "Evaluation/automatic_metrics.py")
    benchmarks = {name: official("KVPRESS", f"evaluation/benchmarks/{name}/calculate_metrics.py") for name in
                  ["longbench", "longbenchv2", "loogle", "infinite_bench", "ruler", "aime25", "math500"]}
    kvpress = types.SimpleNamespace(**benchmarks)
    v2 = official_extract_answer()

    cases = []

    def add(metric, examples, score, kvpress_score=None, **fields):
        for prediction, answers in examples:
            case = {"metric": metric, "prediction": prediction, "answers": answers, **fields, "score": float(score(prediction, answers))}
            if kvpress_score:
                case["kvpress"] = float(kvpress_score(prediction, answers))
            cases.append(case)

    def best(function):
        return lambda prediction, answers: max([0.0] + [float(function(prediction, answer)) for answer in answers])

    def task(name, classes=None):
        """One sample through LongBench's eval.py, unrounded."""
        metric = longbench_eval.dataset2metric[name]
        few_shot = name in ["trec", "triviaqa", "samsum", "lsht"]
        first = (lambda p: p.lstrip("\n").split("\n")[0]) if few_shot else (lambda p: p)
        theirs = kvpress.longbench.dataset2metric[name]
        return (best_of(lambda p, a: metric(p, a, all_classes=classes), first),
                best_of(lambda p, a: theirs(p.lstrip(), a, all_classes=classes), (lambda p: p.lstrip().split("\n")[0]) if few_shot else (lambda p: p)))

    def best_of(function, first):
        return lambda prediction, answers: best(function)(first(prediction), answers)

    clean = lambda p: kvpress.ruler.re.compile(r"[\x00-\x1f]").sub("", p.strip()).strip()
    add("string_match_all", RULER + UNICODE, lambda p, a: exact(kvpress.ruler.string_match_all, clean(p), a))
    add("string_match_part", RULER + UNICODE, lambda p, a: exact(kvpress.ruler.string_match_part, clean(p), a))
    add("token_f1", PLAIN + UNICODE + pairs(1, 25, 14), *task("hotpotqa"))
    add("token_f1_first_line", [("\nParis\nLondon", ["Paris"]), (" \nParis", ["Paris"]), ("", ["Paris"])], *task("triviaqa"))
    add("rouge_l", PLAIN + UNICODE + pairs(2, 30, 40), *task("gov_report"))
    add("rouge_l_first_line", [("\na cat\nb", ["a cat b"]), (" \na cat", ["a cat"])], *task("samsum"))
    add("classification", CLASSIFY, lambda p, a: longbench.classification_score(p, a[0], all_classes=CLASSES), classes=CLASSES)
    add("classification_first_line", CLASSIFY, *task("trec", CLASSES), classes=CLASSES)
    add("count", COUNTS, *task("passage_count"))
    add("retrieval", RETRIEVE, *task("passage_retrieval_en"))
    add("retrieval", [("段落3", ["段落3"]), ("3和4", ["段落3"])], *task("passage_retrieval_zh"))
    add("code_similarity", CODE + [(p, [" ".join(a)]) for p, a in pairs(3, 20, 60)], *task("lcc"))
    add("multiple_choice", CHOICE2, lambda p, a: v2(p) == a[0], lambda p, a: kvpress.longbenchv2.score(p, a[0]))

    def raised(function, otherwise=0.0):
        def scored(prediction, answers):
            try:
                return function(prediction, answers)
            except Exception:
                return otherwise
        return scored

    rouge = Rouge()
    for name, key in [("rouge_1", "rouge-1"), ("rouge_2", "rouge-2")]:
        add(name, PLAIN + NEEDLES + pairs(4, 12, 12), best(raised(lambda p, a, key=key: rouge.get_scores(a.strip(), p.strip())[0][key]["f"])))
    add("needle_rouge_l", PLAIN + NEEDLES + pairs(5, 15, 12), best(raised(lambda p, a: rouge.get_scores(a.strip(), p.strip())[0]["rouge-l"]["f"])))
    for i, name in enumerate(["rouge_1_recall", "rouge_2_recall", "rouge_l_recall"]):
        add(name, PLAIN + NONE + pairs(6, 12, 12), best(raised(lambda p, a, i=i: loogle.get_rouge_score("", a, p or "None", "")[i])))
    for i, name in enumerate(["bleu_1", "bleu_4"]):
        add(name, PLAIN + NONE + [("the cat sat on the mat", ["the cat sat on a mat", "the cat sat on the red mat"])] + pairs(7, 15, 14), best(lambda p, a, i=i: loogle.get_bleu_score("", a, p or "None", "")[i]))

    reference = eval(CLOZE_REFERENCE)
    add("exact_match", [(p, [CLOZE_REFERENCE]) for p in CLOZE], lambda p, a: quotient(loogle.get_exact_match("", reference, p, "")))
    add("partial_match", [(p, [CLOZE_REFERENCE]) for p in CLOZE], lambda p, a: quotient(kvpress.loogle.get_partial_match(a[0], p)))

    def infinite_task(name, label=lambda a: a):
        return lambda p, a: infinite.get_score_one(p, label(a), name, "model")

    def theirs(name):
        return lambda p, a: kvpress.infinite_bench.get_score_one(p, a, name, "model")

    number = lambda a: [float(x) if "." in x else int(x) for x in a]
    add("token_f1", pairs(8, 5, 10), infinite_task("longbook_qa_eng"))
    add("character_f1", CHINESE, infinite_task("longbook_qa_chn"))
    add("rouge_l_sum", PLAIN + pairs(9, 20, 30), infinite_task("longbook_sum_eng"))
    add("rouge_l_sum", FEW_WORDS, infinite_task("longbook_sum_eng"))
    add("first_integer", DIGITS, infinite_task("passkey"), theirs("passkey"))
    add("word_match", KEYS, infinite_task("kv_retrieval", lambda a: a[0]), theirs("kv_retrieval"))
    add("character_name", NAMES, infinite_task("longdialogue_qa_eng"), theirs("longdialogue_qa_eng"))
    add("code_run", RUNS, infinite_task("code_run", number))
    add("code_debug", [(p, ["foo.bar", "A"]) for p in DEBUG], infinite_task("code_debug"), theirs("code_debug"))
    add("math_find", FIND, infinite_task("math_find", number))
    add("math_calc", CALC, infinite_task("math_calc", number))
    add("choice", [(p, ["Walking Georgie", "A"]) for p in PICK], infinite_task("longbook_choice_eng"), theirs("longbook_choice_eng"))
    add("boxed_first", BOXES, lambda p, a: kvpress.math500.score_aime(p, a[0]))
    add("boxed_last", BOXES, lambda p, a: kvpress.aime25.score_aime(p, a[0]))

    folder = HERE / "evaluation"
    folder.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(case) for case in cases)
    (folder / "metrics.json").write_text(f"[\n{lines}\n]\n")
    print(len(cases), "cases")


def exact(function, prediction, answers):
    """RULER's score of one sample, which is rounded to two decimals of 100, as the fraction of references that it stands for."""
    value = function([prediction], [answers]) / 100
    return min((k / len(answers) for k in range(len(answers) + 1)), key=lambda fraction: abs(fraction - value))


def quotient(pair):
    return pair[0] / pair[1]


def official_extract_answer():
    """LongBench v2's pred.py imports a client of an API; only its function that reads the answer is taken."""
    import ast
    import re

    tree = ast.parse((Path(os.environ["LONGBENCH"]) / "pred.py").read_text())
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "extract_answer")
    scope = {"re": re}
    exec(compile(ast.Module([function], []), "pred.py", "exec"), scope)
    return scope["extract_answer"]


if __name__ == "__main__":
    main()
