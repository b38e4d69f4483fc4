#!/usr/bin/env python3
"""What a bag of words reaches on the rows that a config's classifier is trained and tested on.

    firebox data split configs/classify-banking77.toml /tmp/banking77
    python3 scripts/tfidf_baseline.py /tmp/banking77 --text text --label category --analyzer word --ngrams 2 --c 20

TF-IDF over n-grams with logistic regression (scikit-learn), fitted to the training and the validation part together and
measured on the test part: accuracy and macro F1.
"""

import argparse
import json
import os

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline


def rows(directory, part, text, label):
    with open(os.path.join(directory, part + ".jsonl"), encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [record[text] for record in records], [record[label] for record in records]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--analyzer", choices=["word", "char"], default="word")
    parser.add_argument("--ngrams", type=int, default=2, help="the longest run of words or characters")
    parser.add_argument("--c", type=float, default=20, help="inverse of the regularization")
    given = parser.parse_args()
    parts = [rows(given.directory, part, given.text, given.label) for part in ("train", "validation", "test")]
    texts, labels = (a + b for a, b in zip(parts[0], parts[1]))
    model = make_pipeline(
        TfidfVectorizer(analyzer=given.analyzer, ngram_range=(1, given.ngrams), sublinear_tf=True),
        LogisticRegression(C=given.c, max_iter=1000),
    )
    model.fit(texts, labels)
    guessed = model.predict(parts[2][0])
    print(f"accuracy {accuracy_score(parts[2][1], guessed):.4f}   macro F1 {f1_score(parts[2][1], guessed, average='macro'):.4f}"
          f"   ({len(texts)} rows fitted, {len(guessed)} tested)")
