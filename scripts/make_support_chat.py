#!/usr/bin/env python3
"""Writes datasets/support-chat.jsonl: conversations with the assistant of an imaginary online shop.

    python3 scripts/make_support_chat.py                    # writes datasets/support-chat.jsonl
    python3 scripts/make_support_chat.py --seed 7 --conversations 300 --out /tmp/x.jsonl
    python3 scripts/make_support_chat.py --stats            # writes nothing, describes the file
    python3 scripts/make_support_chat.py --show 40          # writes nothing, prints some conversations of the file

Standard library only, Python 3.9 or later; the same seed gives the same bytes on every version and machine.

Each line is `{"messages": [{"role", "content"}, ...]}`, the format of OpenAI's API. The shop is in support_chat/shop.py, what
is asked and answered in support_chat/intents/, the course of a conversation in support_chat/dialogue.py, and the customers'
moods and typos in support_chat/customer.py. No message contains a question of datasets/support-chat-questions.jsonl, which are
for evaluation: `{"messages": [...], "expects": [...]}`, where a right answer contains every string of `expects`.
"""

import argparse
import json
import os
import random
import re
from collections import Counter

from support_chat import grammar
from support_chat.dialogue import Writer

DATASETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "datasets")
OUT = os.path.join(DATASETS, "support-chat.jsonl")
QUESTIONS = os.path.join(DATASETS, "support-chat-questions.jsonl")
SAME_START = 2  # conversations that may begin with the same words


def read(path):
    with open(path, encoding="ascii") as file:
        return [json.loads(line) for line in file]


def said_by(role, rows):
    return [message["content"] for row in rows for message in row["messages"] if message["role"] == role]


def plain(text):
    """The text without case and punctuation: what makes two questions the same."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def conversations(seed, count):
    held_out = [plain(row["messages"][-1]["content"]) for row in read(QUESTIONS)]
    writer = Writer(random.Random(seed), grammar.load())
    found, seen, starts = [], set(), Counter()
    while len(found) < count:
        row = {"messages": writer.conversation()}
        users = [plain(text) for text in said_by("user", [row])]
        talk = tuple(message["content"] for message in row["messages"] if message["role"] != "system")
        if talk in seen or starts[users[0]] >= SAME_START or any(question in text for question in held_out for text in users):
            continue
        seen.add(talk)
        starts[users[0]] += 1
        found.append(row)
    return found


def stats(path):
    rows, questions = read(path), read(QUESTIONS)
    users, answers = said_by("user", rows), said_by("assistant", rows)
    firsts = Counter(plain(said_by("user", [row])[0]) for row in rows)
    words = Counter(re.findall(r"[a-z0-9']+", " ".join(users + answers).lower()))
    lengths = Counter(len(said_by("user", [row])) for row in rows)
    print(f"conversations               {len(rows):,}")
    print("  of 1, 2, 3, 4 turns       " + ", ".join(f"{lengths[n]:,}" for n in sorted(lengths)))
    print(f"  with a system message     {len(said_by('system', rows)):,}")
    print(f"  first messages that differ {len(firsts):,}")
    print(f"turns                       {len(users):,}")
    print(f"distinct user messages      {len(set(users)):,}")
    print(f"distinct answers            {len(set(answers)):,}")
    print(f"intents                     {len(grammar.load()):,}")
    print(f"different words             {len(words):,}, of them {sum(n >= 5 for n in words.values()):,} five times or more")
    print(f"characters of the messages  {sum(map(len, users)):,} by users, {sum(map(len, answers)):,} by the assistant")
    print(f"longest conversation        {max(sum(len(m['content']) for m in row['messages']) for row in rows):,} characters")
    print(f"bytes                       {os.path.getsize(path):,}")
    asked = {plain(text) for text in users}
    held_out = [plain(row["messages"][-1]["content"]) for row in questions]
    expected = sorted({fact for row in questions for fact in row["expects"]})
    facts = {fact: sum(fact.lower() in answer.lower() for answer in answers) for fact in expected}
    print(f"questions to evaluate       {len(questions)}")
    print(f"  asked in the file         {sum(any(question in text for text in asked) for question in held_out)}")
    fact, count = min(facts.items(), key=lambda item: item[1])
    print(f"  rarest expected fact      {fact!r}, in {count} answers")


def show(path, count, seed):
    rows = read(path)
    for row in random.Random(seed).sample(rows, min(count, len(rows))):
        for message in row["messages"]:
            print(f"{message['role'][0].upper()}: {message['content']}")
        print()


def main():
    parser = argparse.ArgumentParser(description="Writes conversations with the assistant of an imaginary shop.")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--conversations", type=int, default=2_400)
    parser.add_argument("--out", default=OUT)
    parser.add_argument("--stats", action="store_true", help="describe the file --out and write nothing")
    parser.add_argument("--show", type=int, metavar="N", help="print N conversations of the file --out and write nothing")
    args = parser.parse_args()
    if args.stats:
        return stats(args.out)
    if args.show:
        return show(args.out, args.show, args.seed)
    with open(args.out, "w", encoding="ascii", newline="\n") as file:
        for row in conversations(args.seed, args.conversations):
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
