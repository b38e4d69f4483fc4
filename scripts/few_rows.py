#!/usr/bin/env python3
"""Draws a few rows of each label from a part that `firebox data split` wrote.

    firebox data split configs/classify-banking77.toml parts
    python3 scripts/few_rows.py parts/train.jsonl --label category --rows 10 --seed 0 > few.jsonl
"""

import argparse
import json
import random
from collections import defaultdict

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--label", default="label")
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    of_label = defaultdict(list)
    with open(given.file, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            of_label[row[given.label]].append(row)
    draw = random.Random(given.seed)
    few = [row for label in sorted(of_label) for row in draw.sample(of_label[label], min(given.rows, len(of_label[label])))]
    draw.shuffle(few)
    for row in few:
        print(json.dumps(row, ensure_ascii=False))
