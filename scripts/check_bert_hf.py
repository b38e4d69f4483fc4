#!/usr/bin/env python3
"""Checks that transformers opens BERT directories that Firebox wrote, and computes the golden logits with them.

    FIREBOX_TEST_KEEP_BERT=/tmp/saved cargo test --release -p firebox --test integration a_saved_bert
    /tmp/venv/bin/python scripts/check_bert_hf.py /tmp/saved        # the needs of scripts/requirements.txt
"""

import argparse
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from make_bert_golden import CLASSES, FIXTURES
from safetensors.torch import load_file


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("saved", help="the directory that holds the four directories")
    saved = parser.parse_args().saved
    worst = 0.0
    for name, (cls, _) in CLASSES.items():
        golden = load_file(os.path.join(FIXTURES, name, "golden.safetensors"))
        directory = os.path.join(saved, name)
        model, info = cls.from_pretrained(directory, output_loading_info=True)
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info[kind]:
                sys.exit(f"{directory}: {kind}: {info[kind]}")
        config = transformers.AutoConfig.from_pretrained(directory)
        if config.architectures != [cls.__name__]:
            sys.exit(f"{directory}: architectures are {config.architectures}")
        keys = ("input_ids", "attention_mask", "token_type_ids")
        with torch.no_grad():
            out = model.eval()(**{key: golden[key] for key in keys})
        pairs = [(out.prediction_logits if "prediction_logits" in out else out.logits, golden["logits"])]
        if "seq_relationship_logits" in out:
            pairs.append((out.seq_relationship_logits, golden["next_sentence_logits"]))
        off = max((a - b).abs().max().item() for a, b in pairs)
        worst = max(worst, off)
        print(f"{name}: {cls.__name__} opens it; logits differ by {off:.1e}; id2label {config.id2label}")
    if worst > 1e-4:
        sys.exit("the logits are others")


if __name__ == "__main__":
    main()
