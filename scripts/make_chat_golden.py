#!/usr/bin/env python3
"""Makes the rendered chats that Firebox's templates, token ids and masks are compared with, by transformers.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install -r scripts/requirements.txt
    /tmp/venv/bin/python scripts/make_chat_golden.py    # writes crates/data/src/chat/golden/

The same versions give the same bytes. `apply_chat_template` writes 500 generated conversations by four templates as their
models publish them. The mask is its own, from `{% generation %}` around each answer and what ends its turn; Firebox has
to find it in the template without those tags. Of most conversations only hashes are kept.
"""

import json
import os
import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "crates", "data", "src", "chat")
OUT = os.path.join(ROOT, "golden")
RANDOM = random.Random(11)
COUNT = 500
WHOLE = 4
SPECIAL = ["<|endoftext|>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>",
           "<|end_header_id|>", "<|eot_id|>"]

# Each as published, and with its answers marked. `bos_token` is what the tokenizer of its models calls so.
LLAMA2_HEAD = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
    "user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}"
    "{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
)
ZEPHYR_TURN = "{% elif message['role'] == 'assistant' %}\n"
TEMPLATES = {
    # OpenHermes, and the documentation of transformers.
    "chatml": (
        "<s>",
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
        "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n'}}{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
        "{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}",
    ),
    # meta-llama/Llama-2-7b-chat-hf
    "llama2": (
        "<s>",
        LLAMA2_HEAD + "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        LLAMA2_HEAD + "{{ ' ' }}{% generation %}{{ content.strip() + ' ' + eos_token }}{% endgeneration %}{% endif %}"
        "{% endfor %}",
    ),
    # meta-llama/Meta-Llama-3-8B-Instruct
    "llama3": (
        "<|begin_of_text|>",
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
        "message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
        "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
        "{% for message in messages %}{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}{{ '<|start_header_id|>' + "
        "message['role'] + '<|end_header_id|>\\n\\n' }}{% if message['role'] == 'assistant' %}{% generation %}"
        "{{ message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}{% else %}"
        "{{ message['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}",
    ),
    # HuggingFaceH4/zephyr-7b-beta
    "zephyr": (
        "<s>",
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + "
        "eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n"
        + ZEPHYR_TURN + "{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + "
        "eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n"
        + ZEPHYR_TURN + "{{ '<|assistant|>\\n' }}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
        "{{ '\\n' }}{% endif %}\n{% endfor %}",
    ),
}

WORDS = ["the", "fox", "said", "hello", "how", "are", "you", "today", "I", "am", "fine", "thanks", "ask", "again", "1234",
         "x=1;", "don't", "it's", "a", "of", "Füchse", "été", "e\u0301", "狐狸", "你好，世界", "こんにちは", "привет", "שלום",
         "مرحبا", "🦊", "👩‍🚀", "\u00a0", "\u3000", "\t", "\n", "\n\n", "```py\nprint(1)\n```", "- ", "[INST]", "user",
         "assistant", "<|user|>", "\u200b", "ﬁ"]
ENDS = ["", "", "", "", " ", "\n", "  \n", "\t", "\n\n", "\u00a0", "\u3000 "]


def content():
    if RANDOM.random() < 0.04:
        return RANDOM.choice(["", " ", "\n", " \n\t"])
    words = [RANDOM.choice(WORDS) for _ in range(RANDOM.randint(1, 8))]
    if RANDOM.random() < 0.02:
        words.append(RANDOM.choice(["</s>", "<|im_end|>", "<|eot_id|>", "<|im_start|>"]))
    return RANDOM.choice(ENDS) + " ".join(words) + RANDOM.choice(ENDS)


def conversation():
    messages = []
    if RANDOM.random() < 0.5:
        messages.append(("system", RANDOM.choice(["", "Be brief.", " Be kind.\n", content()])))
    for _ in range(RANDOM.choice([1, 1, 1, 2, 2, 3, 4])):
        messages += [("user", content()), ("assistant", content())]
    return messages[:-1] if RANDOM.random() < 0.05 else messages


def make_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def fnv(data):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def rendered(tokenizer, bos, published, marked, built_in, messages):
    tokenizer.bos_token = bos
    turns = [{"role": role, "content": said} for role, said in messages]
    text = tokenizer.apply_chat_template(turns, chat_template=published, tokenize=False)
    # What is shipped, and what has tags, writes the same.
    for other in (marked, built_in):
        assert tokenizer.apply_chat_template(turns, chat_template=other, tokenize=False) == text, (other, turns)
    asked = [tokenizer.apply_chat_template(turns[:-1], chat_template=template, tokenize=False, add_generation_prompt=True)
             for template in (published, built_in) if len(turns) > 1]
    assert len(set(asked)) <= 1, asked
    ids = tokenizer.apply_chat_template(turns, chat_template=published, tokenize=True)["input_ids"]
    encoded = tokenizer.apply_chat_template(turns, chat_template=marked, tokenize=True, return_dict=True,
                                            return_assistant_tokens_mask=True)
    assert encoded["input_ids"] == ids
    return text, ids, encoded["assistant_masks"]


def main():
    conversations = [conversation() for _ in range(COUNT)]
    library = make_tokenizer([said for messages in conversations for _, said in messages])
    os.makedirs(OUT, exist_ok=True)
    library.save(os.path.join(OUT, "tokenizer.json"), pretty=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=library, bos_token="<s>", eos_token="</s>")
    cases = {}
    for name, (bos, published, marked) in TEMPLATES.items():
        with open(os.path.join(ROOT, "templates", f"{name}.jinja"), encoding="utf-8") as file:
            built_in = file.read().rstrip()
        made = [rendered(tokenizer, bos, published, marked, built_in, messages) for messages in conversations]
        whole = [{"text": text, "ids": ids, "mask": "".join(map(str, mask))} for text, ids, mask in made[:WHOLE]]
        hashes = [[fnv(text.encode()), fnv(b"".join(id.to_bytes(4, "little") for id in ids)), fnv(bytes(mask))]
                  for text, ids, mask in made]
        cases[name] = {"bos": bos, "trained": sum(sum(mask) for *_, mask in made), "whole": whole,
                       "hashes": [" ".join(three) for three in hashes]}
    golden = {"conversations": conversations, "templates": cases}
    with open(os.path.join(OUT, "chats.json"), "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
