#!/usr/bin/env python3
"""Opens a model directory with HuggingFace transformers and measures the loss of a text with it.

    python3 scripts/check_hf.py DIR TEXT [--firebox-json FILE]

DIR must open with `AutoModelForCausalLM` and `AutoTokenizer`. The first 20,000 characters of TEXT must survive encoding
and decoding unchanged. The loss is taken as `firebox eval` takes it: the whole file tokenized at once without special
tokens, cut into non-overlapping blocks of `n_positions` tokens, targets 2..N of each block, the remainder dropped.

Prints {"loss", "perplexity", "tokens"} as JSON on stdout. `--firebox-json FILE` (`-` is stdin) compares with the output
of `firebox eval DIR --data TEXT --json`. Exit codes: 0 agreed, 1 something differs, 2 bad usage or input.

Needs the packages of scripts/requirements.txt. Nothing is downloaded.
"""

import argparse
import json
import math
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

ROUND_TRIP_CHARS = 20_000
TOLERANCE = 1e-4
BATCH_TOKENS = 4096  # in one forward pass; keeps the logits of a large vocabulary within memory


def stop(code, message):
    print(f"check_hf: {message}", file=sys.stderr)
    sys.exit(code)


def check_round_trip(tokenizer, text):
    head = text[:ROUND_TRIP_CHARS]
    back = tokenizer.decode(tokenizer.encode(head, add_special_tokens=False))
    if back != head:
        at = next((i for i, (a, b) in enumerate(zip(head, back)) if a != b), min(len(head), len(back)))
        window = slice(max(0, at - 20), at + 20)
        stop(1, f"the tokenizer changes the text at character {at}: {head[window]!r} became {back[window]!r}")


def text_loss(model, tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    size = model.config.max_position_embeddings
    blocks = len(ids) // size
    if blocks == 0:
        stop(2, f"the text has {len(ids)} tokens, fewer than one block of {size}")
    blocks = torch.tensor(ids[: blocks * size]).view(blocks, size)
    total = 0.0
    with torch.no_grad():
        for batch in blocks.split(max(1, BATCH_TOKENS // size)):
            logits = model(batch).logits[:, :-1].flatten(0, 1)
            losses = torch.nn.functional.cross_entropy(logits, batch[:, 1:].flatten(), reduction="none")
            total += losses.double().sum().item()
    tokens = blocks.shape[0] * (size - 1)
    return total / tokens, tokens


def main():
    parser = argparse.ArgumentParser(description="Measures a text's loss with HuggingFace transformers.")
    parser.add_argument("dir", help="a model directory")
    parser.add_argument("text", help="a UTF-8 text file")
    parser.add_argument("--firebox-json", metavar="FILE", help="output of `firebox eval --json` to compare with")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not os.path.isdir(args.dir):
        stop(2, f"{args.dir} is not a directory")
    try:
        # newline="" keeps the file's own line ends: the loss is of the text as it is.
        with open(args.text, encoding="utf-8", newline="") as file:
            text = file.read()
        firebox = None
        if args.firebox_json == "-":
            firebox = json.load(sys.stdin)
        elif args.firebox_json:
            with open(args.firebox_json, encoding="utf-8") as file:
                firebox = json.load(file)
    except (OSError, ValueError) as error:
        stop(2, error)
    if firebox is not None and not (isinstance(firebox, dict) and {"loss", "tokens"} <= firebox.keys()):
        stop(2, f"{args.firebox_json} has no `loss` and `tokens`: it is not the output of `firebox eval --json`")

    tokenizer = AutoTokenizer.from_pretrained(args.dir)
    model, loading = AutoModelForCausalLM.from_pretrained(args.dir, dtype=torch.float32, output_loading_info=True)
    missing = sorted(loading["missing_keys"])
    if missing:
        stop(1, f"the directory lacks weights, transformers made them up: {missing}")
    model.eval()
    check_round_trip(tokenizer, text)
    loss, tokens = text_loss(model, tokenizer, text)
    print(json.dumps({"loss": loss, "perplexity": math.exp(loss), "tokens": tokens}))

    if firebox is not None:
        if firebox["tokens"] != tokens:
            stop(1, f"firebox counted {firebox['tokens']} tokens, transformers {tokens}")
        # Written so that a NaN fails too.
        if not abs(firebox["loss"] - loss) <= TOLERANCE:
            stop(1, f"firebox's loss {firebox['loss']} and transformers' {loss} differ by more than {TOLERANCE}")


if __name__ == "__main__":
    main()
