"""Small parquet files as pyarrow (and so the Hugging Face hub) writes them, into test/golden/evaluation/. Package: pyarrow==26.0.1."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path(__file__).parent / "evaluation"

ROWS = [
    {"context": "One of the special magic numbers for quiet-river is: 4711.\n", "question": "What is the special magic number for quiet-river?", "answer_prefix": "The special magic number is",
     "answer": ["4711"], "max_new_tokens": 128, "task": "niah_single_1"},
    {"context": "A naïve 𝒜 text — 東京.", "question": "", "answer_prefix": "", "answer": ["ABCDE", "FGHIJ"], "max_new_tokens": 30, "task": "vt"},
    {"context": "Document 1: Paris is a city.", "question": "Where?", "answer_prefix": "Answer:", "answer": ["Paris", "paris"], "max_new_tokens": 32, "task": "qa_1"},
]


def write(name, table, **options):
    pq.write_table(table, FOLDER / f"{name}.parquet", **{"compression": "snappy", **options})


def text_of_bytes(*values):
    """A text column whose bytes nobody checked."""
    array = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers())


def main():
    FOLDER.mkdir(exist_ok=True)
    table = pa.Table.from_pylist(ROWS)
    write("ruler", table, row_group_size=2)
    for codec in ["none", "gzip", "zstd", "brotli", "lz4"]:
        write(f"ruler-{codec}", table, compression=codec, data_page_version="2.0" if codec in ["zstd", "none"] else "1.0", use_dictionary=codec == "gzip")

    def changed(**columns):
        return pa.table({name: columns.get(name, table[name]) for name in table.column_names})

    one = pa.array
    write("without-context", table.drop_columns(["context"]))
    write("wrong-type", changed(context=one([1, 2, 3])))
    write("wrong-list", changed(answer=one([[{"x": 1}], [], []])))
    write("null-context", changed(context=one(["a", None, "c"])))
    write("no-answers", changed(answer=one([["a"], [], ["c"]], pa.list_(pa.string()))))
    write("fraction-tokens", changed(max_new_tokens=one([1.5, 2.0, 3.0])))
    write("invalid-utf8", changed(context=text_of_bytes(b"fine", b"not \xff fine", b"fine")))
    write("long-text", changed(context=one(["short", "x" * 100_000_000, "short"])), compression="zstd", use_dictionary=False, write_statistics=False)
    # 60 MB of text in one row group: read in batches, of rows that lie on many pages
    large = [{**ROWS[0], "context": f"{i} " + "word " * 200_000, "answer": [str(i)] * (i % 3 + 1)} for i in range(60)]
    write("large-group", pa.Table.from_pylist(large), compression="zstd", use_dictionary=["task"], write_statistics=False, data_page_size=2**20)
    write("empty", table.slice(0, 0))

    write("needle", pa.table({"context": ["one two three four five six seven eight nine ten", "unused"], "needle": ["the needle", "unused"], "question": ["What?", ""],
                              "answer_prefix": ["It is", ""], "max_new_tokens": [50, 1]}))
    write("longbench", pa.table({
        "context": ["Say of what type it is.\n\nQuestion: Who?\nType: Human\n"], "question": ["Question: Where is Paris?\n"], "answers": [["Location"]], "length": [5321],
        "all_classes": [["Human", "Location"]], "answer_prefix": ["Type:"], "task": ["trec"], "max_new_tokens": [84]}))


if __name__ == "__main__":
    main()
