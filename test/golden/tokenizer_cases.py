"""tokenizer/needle.json: token ids, decoded text and chat prompts by the tokenizer of models/needle."""

from transformers import AutoTokenizer

from common import NEEDLE, samples, write_json

TEXTS = [
    "",
    " ",
    "  ",
    "Hello world",
    " Hello  world ",
    "One of the special magic numbers for brave otter is: 4821.",
    "<|bos|><|user|>Where does Anna live?<|assistant|> Oslo<|end|>",
    "text<|end|>text <|not a token|> <|bos|",
    "VAR otter = 12345. VAR lamp=VAR otter.",
    "I'm we'll they've he'd it's can't you're I'M",
    "line one\n\nline two\r\n\ttab \n  indented",
    "trailing spaces   ",
    "naïve café, Ünïcödé ß İ",
    "a\u0301 e\u0301 combining; no\u00a0break\u2003em\u200bzero",
    "日本語のテキスト。中文，한국어",
    "Привет, мир! ٣٤٥ ½ ² Ⅷ",
    "emoji 😀👍🏽 👩‍👩‍👧 🇫🇷",
    "x=1;y=(2+3)*4 // #$%^&*_[]{}",
    "MiXeD CaSe___snake_case kebab-case",
    "1234567890 3.14159 1,000 0x1F",
    "\x00\x01\x7f control \ufeff bom",
    "𝕏 \U0010fffd astral",
    "https://example.org/a?b=c&d=%20",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
]

CHATS = [
    [{"role": "user", "content": "Where does Anna live?"}],
    [{"role": "user", "content": "  padded \n"}, {"role": "assistant", "content": " Oslo "}],
    [
        {"role": "system", "content": "Anna lives in Oslo."},
        {"role": "user", "content": "Where does Anna live?"},
        {"role": "assistant", "content": "Oslo"},
        {"role": "user", "content": "And Ben?"},
    ],
]


def main():
    tokenizer = AutoTokenizer.from_pretrained(NEEDLE)
    cases = []
    for text in TEXTS + [samples()[14]["context"]]:
        ids = tokenizer.encode(text, add_special_tokens=False)
        decoded = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert decoded == text, text
        plain = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        cases.append({"text": text, "ids": ids, "decoded_without_special": plain})
    chats = [
        {
            "messages": messages,
            "add_generation_prompt": add,
            "text": tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add),
        }
        for messages in CHATS
        for add in (False, True)
    ]
    write_json("tokenizer/needle.json", {"cases": cases, "chats": chats})


if __name__ == "__main__":
    main()
