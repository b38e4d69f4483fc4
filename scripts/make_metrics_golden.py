#!/usr/bin/env python3
"""Makes the predictions and figures that Firebox's metrics are compared with, by scikit-learn, scipy, seqeval,
torchmetrics (SQuAD), sacrebleu and rouge-score.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install -r scripts/requirements.txt
    /tmp/venv/bin/python scripts/make_metrics_golden.py    # writes crates/trainer/src/metrics/golden.json

The same versions give the same bytes. Every case holds random predictions and what the reference makes of them;
`null` stands for NaN.
"""

import json
import math
import os
import warnings

import numpy as np
import sacrebleu
import scipy.stats
import seqeval.metrics
from rouge_score.rouge_scorer import RougeScorer
from sklearn import metrics
from torchmetrics.functional.text import squad

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "crates", "trainer", "src", "metrics", "golden.json")
warnings.filterwarnings("ignore")
RANDOM = np.random.default_rng(20)


def scores(truth, predicted, average, **options):
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth, predicted, average=average, **options)
    return {"precision": precision, "recall": recall, "f1": f1}


def classes(name, classes, truth, predicted, probabilities=None):
    """The labels scikit-learn averages over are those that occur, its default; `per_class` is over all."""
    every = list(range(classes))
    figures = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        **scores(truth, predicted, "macro"),
        "macro": scores(truth, predicted, "macro"),
        "micro": scores(truth, predicted, "micro"),
        "weighted": scores(truth, predicted, "weighted"),
        "mcc": metrics.matthews_corrcoef(truth, predicted),
        "confusion": metrics.confusion_matrix(truth, predicted, labels=every),
        "per_class": scores(truth, predicted, None, labels=every),
    }
    if probabilities is not None:
        figures["log_loss"] = metrics.log_loss(truth, probabilities.astype(np.float64), labels=every)
        if classes == 2:
            figures["roc_auc"] = metrics.roc_auc_score(truth, probabilities[:, 1])
    return {"name": name, "classes": classes, "truth": truth, "predicted": predicted, "probabilities": probabilities,
            "figures": figures}


def random_probabilities(rows, width, steps=None):
    """Rows that add up to 1; with `steps`, of so few values that many tie. Whole multiples of 1/1024: exact in f32."""
    grid = steps or 1024
    cuts = np.sort(RANDOM.integers(1, grid, (rows, width - 1)), axis=1)
    edges = np.concatenate([np.zeros((rows, 1)), cuts, np.full((rows, 1), grid)], axis=1)
    probabilities = np.diff(edges, axis=1) / grid
    return np.where(probabilities == 0, 1 / 1024, probabilities).astype(np.float32)


def class_cases():
    seven = RANDOM.integers(0, 7, 80)
    absent = RANDOM.choice([0, 2, 3], 40)
    probabilities = random_probabilities(50, 2, steps=16)
    truth = (probabilities[:, 1] + RANDOM.normal(0, 0.3, 50) > 0.5).astype(int)
    three = RANDOM.integers(0, 3, 30)
    of_three = random_probabilities(30, 3, steps=16)
    of_three /= of_three.sum(axis=1, keepdims=True)
    return [
        classes("seven classes", 7, seven, np.where(RANDOM.random(80) < 0.6, seven, RANDOM.integers(0, 7, 80))),
        classes("classes that do not occur, or only as predictions", 6, absent,
                np.where(RANDOM.random(40) < 0.5, absent, RANDOM.choice([0, 2, 4], 40))),
        classes("two classes with tied scores", 2, truth, probabilities.argmax(axis=1), probabilities),
        classes("three classes with probabilities", 3, three, of_three.argmax(axis=1), of_three),
        classes("one class, always right", 3, np.ones(9, int), np.ones(9, int)),
        classes("one class, never right", 3, np.ones(9, int), np.zeros(9, int)),
        classes("always the same prediction", 3, RANDOM.integers(0, 3, 20), np.full(20, 2)),
    ]


def multi_label(name, truth, probabilities, threshold):
    predicted = (probabilities >= threshold).astype(int)
    return {"name": name, "labels": truth.shape[1], "truth": truth, "probabilities": probabilities,
            "threshold": threshold, "figures": {
                "accuracy": metrics.accuracy_score(truth, predicted),
                "hamming_loss": metrics.hamming_loss(truth, predicted),
                **scores(truth, predicted, "macro"),
                "macro": scores(truth, predicted, "macro"),
                "micro": scores(truth, predicted, "micro"),
                "weighted": scores(truth, predicted, "weighted"),
                "per_label": scores(truth, predicted, None)}}


def multi_label_cases():
    truth = RANDOM.integers(0, 2, (40, 5))
    truth[:, 3] = 0
    near = np.round((np.clip(truth * 0.4 + RANDOM.random((40, 5)) * 0.6, 0, 1)) * 64) / 64
    return [multi_label(f"threshold {threshold}", truth, near.astype(np.float32), threshold)
            for threshold in (0.5, 0.25, 2.0)]


def values(name, truth, predicted):
    figures = {
        "mse": metrics.mean_squared_error(truth, predicted),
        "rmse": metrics.root_mean_squared_error(truth, predicted),
        "mae": metrics.mean_absolute_error(truth, predicted),
        "r2": metrics.r2_score(truth, predicted),
        "pearson": scipy.stats.pearsonr(truth, predicted).statistic,
        "spearman": scipy.stats.spearmanr(truth, predicted).statistic,
    }
    return {"name": name, "truth": truth, "predicted": predicted, "figures": figures}


def value_cases():
    truth = np.round(RANDOM.normal(3, 2, 40), 3)
    stars = RANDOM.integers(1, 6, 40).astype(float)
    return [
        values("values", truth, np.round(0.8 * truth + RANDOM.normal(0, 0.7, 40), 3)),
        values("stars, with ties", stars, np.clip(stars + RANDOM.integers(-1, 2, 40), 1, 5)),
        values("against the truth", truth, np.round(-truth, 3)),
        values("constant prediction", truth, np.full(40, 2.5)),
        values("constant truth", np.full(5, 2.0), np.array([1.0, 2.0, 3.0, 2.0, 2.5])),
    ]


def tags(name, truth, predicted):
    figures = {"accuracy": seqeval.metrics.accuracy_score(truth, predicted)}
    for prefix, average in (("", "micro"), ("macro_", "macro"), ("weighted_", "weighted")):
        for figure in ("precision", "recall", "f1"):
            of = getattr(seqeval.metrics, f"{figure}_score")
            figures[prefix + figure] = of(truth, predicted, average=average)
            if average != "weighted":
                figures[f"{average}_{figure}"] = figures[prefix + figure]
    flat = [[tag for row in rows for tag in row] for rows in (truth, predicted)]
    labels = sorted(set(flat[0] + flat[1]) - {"O"})
    for prefix, average in (("token_", "micro"), ("token_macro_", "macro")):
        figures.update({prefix + key: value for key, value in scores(*flat, average, labels=labels).items()})
    return {"name": name, "truth": truth, "predicted": predicted, "figures": figures}


def tag_cases():
    def sequences(choices, lengths):
        return [[str(RANDOM.choice(choices)) for _ in range(length)] for length in lengths]

    def mostly(truth, choices):
        return [[tag if RANDOM.random() < 0.8 else str(RANDOM.choice(choices)) for tag in row] for row in truth]

    bio = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    mixed = bio + ["E-PER", "S-LOC", "I", "B-A-B", "I-A-B"]
    lengths = [int(length) for length in RANDOM.integers(1, 12, 20)]
    well = [["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-LOC"], ["O", "O"], ["B-ORG"]]
    return [
        tags("well formed", well, mostly(well, bio)),
        tags("ill formed", (truth := sequences(bio, lengths)), mostly(truth, bio)),
        tags("other schemes mixed in", (truth := sequences(mixed, lengths)), mostly(truth, mixed)),
        tags("parts of speech", [["DET", "NOUN", "VERB", "O"], ["NOUN", "O"], ["ADJ", "NOUN", "VERB"]],
             [["DET", "NOUN", "NOUN", "O"], ["ADV", "NOUN"], ["NOUN", "NOUN", "VERB"]]),
        tags("none found", [["B-PER", "O"]], [["O", "O"]]),
    ]


def answers(name, right, given):
    def asked(texts, key):
        return [{"id": str(index), **key(text)} for index, text in enumerate(texts)]

    of_squad = squad(asked(given, lambda text: {"prediction_text": text}),
                     asked(right, lambda text: {"answers": {"text": [text], "answer_start": [0]}}))
    rouge = RougeScorer(["rougeL"], use_stemmer=False)
    figures = {
        "exact_match": float(of_squad["exact_match"]) / 100,
        "token_f1": float(of_squad["f1"]) / 100,
        "bleu": sacrebleu.corpus_bleu(given, [right]).score,
        "rougeL": np.mean([rouge.score(a, b)["rougeL"].fmeasure for a, b in zip(right, given)]),
    }
    return {"name": name, "right": right, "given": given, "figures": figures}


def answer_cases():
    """The last to draw, so that the other cases stay as they are."""
    words = "the a an parcel refund of from is on its way 3 12.50 1,000 10-12 (really) state-of-the-art \"yes\" no. ok! why?".split()

    def sentence(most):
        return " ".join(str(RANDOM.choice(words)) for _ in range(int(RANDOM.integers(1, most))))

    def changed(text):
        return " ".join(str(RANDOM.choice(words)) if RANDOM.random() < 0.3 else word for word in text.split())

    sentences = [sentence(20) for _ in range(40)]
    odd = ["An  apple;\n a day", "x < y && z &lt; &amp; &quot;q&quot;", "über Größe, São Paulo", "你好，世界。", "-", "$3.99/item...",
           "1.2.3,4 5-6 a-b -7", "e.g. i.e., etc.", "<skipped>word-\nbreak", "tab\tand\u00a0space ", "the", "", "it's o'clock"]
    return [
        answers("near", sentences, [changed(text) for text in sentences]),
        answers("unrelated", sentences, [sentence(12) for _ in sentences]),
        answers("odd characters, the same", odd, odd),
        answers("odd characters, moved by one", odd, odd[1:] + odd[:1]),
        answers("odd characters, as if a sentence", [text + " and so on it goes" for text in odd], [text + "so on it goes." for text in odd]),
        answers("no length of four", ["one two", "a b c"], ["one two", "b c"]),
        answers("no match of four words", ["one two three four five"], ["one two three six five"]),
        answers("nothing said", ["one two three four"], [""]),
    ]


def plain(value):
    """For JSON: arrays flat, but a confusion matrix as it is; NaN as null."""
    if isinstance(value, dict):
        return {key: value.tolist() if key == "confusion" else plain(value) for key, value in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.ravel().tolist()]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


if __name__ == "__main__":
    cases = {"classes": class_cases(), "multi_label": multi_label_cases(), "values": value_cases(), "tags": tag_cases(),
             "answers": answer_cases()}
    lines = [f'"{kind}": [\n' + ",\n".join(json.dumps(plain(case)) for case in of_kind) + "\n]"
             for kind, of_kind in cases.items()]
    with open(OUT, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")
