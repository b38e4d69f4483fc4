#!/usr/bin/env python3
"""Times Firebox against PyTorch, in turn (A B A B ...), and prints the ratio of tokens a second: training steps, or
greedy generation against `transformers`' `generate` with its cache.

    python3 scripts/bench_vs_pytorch.py target/release/firebox [--shape A] [--device ndarray] [--precision bf16] [--rounds 5]
    python3 scripts/bench_vs_pytorch.py target/release/firebox --task decode [--shape C] [--batch 16] [--weights int8]

Needs PyTorch and transformers (scripts/requirements.txt). Both sides run the same model (GPT-2's architecture, or BERT's), AdamW and
clipping by the global norm, with as many threads as there are cores; warm-up steps are left out on both sides. PyTorch
computes eagerly, attention through its fused `scaled_dot_product_attention`; bf16 there is `torch.autocast`. The peak
memory is that of each whole process, on PyTorch's side its interpreter and libraries included (see "at rest").

Generation continues a single token by `--tokens` more, from random weights; of the shape's context and batch only the
other sizes count. `transformers` computes in f32 whatever `--weights` says of Firebox.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

# layers, heads, width, context, batch, vocabulary, timed steps
SHAPES = {
    "A": (4, 4, 128, 64, 12, 65, 30),
    "B": (6, 6, 384, 256, 8, 65, 5),
    "C": (12, 12, 768, 256, 2, 50257, 3),
    # BERT base, learning masked tokens.
    "bert": (12, 12, 768, 128, 8, 30522, 3),
}


def in_torch(call):
    """PyTorch's figures, from a process of its own."""
    code = f"import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r}); " \
           f"import bench_vs_pytorch as b; print(b.{call})"
    return json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def torch_steps(shape, precision, dropout, threads, bert, padding):
    return in_torch(f"measure({shape!r}, {precision!r}, {dropout}, {threads}, {bert}, {padding})")


def torch_decode(shape, batch, tokens, threads):
    return in_torch(f"measure_decode({shape!r}, {batch}, {tokens}, {threads})")


def peak_memory_bytes():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def gpt_model_and_loss(shape, dropout):
    """A GPT-2, and a function that gives its loss on new rows."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, heads, width, context, batch, vocabulary, _ = shape
    model = GPT2LMHeadModel(GPT2Config(
        n_layer=layers, n_head=heads, n_embd=width, n_positions=context, vocab_size=vocabulary,
        resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, bos_token_id=0, eos_token_id=0,
        attn_implementation="sdpa")).train()

    def loss():
        rows = torch.randint(vocabulary, (batch, context + 1))
        logits = model(rows[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.reshape(-1, vocabulary).float(), rows[:, 1:].reshape(-1))

    return model, loss


def bert_model_and_loss(shape, dropout, padding):
    """A BERT that learns every seventh token, and a function that gives its loss on new rows."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    layers, heads, width, context, batch, vocabulary, _ = shape
    model = BertForMaskedLM(BertConfig(
        num_hidden_layers=layers, num_attention_heads=heads, hidden_size=width, intermediate_size=4 * width,
        max_position_embeddings=context, vocab_size=vocabulary, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout, attn_implementation="sdpa")).train()
    mask = torch.zeros((batch, context), dtype=torch.long)
    mask[:, :round((1 - padding) * context)] = 1
    chosen = (torch.arange(batch * context).reshape(batch, context) % 7 == 0) & (mask == 1)

    def loss():
        rows = torch.randint(vocabulary, (batch, context))
        labels = torch.where(chosen, rows, -100)
        return model(rows, attention_mask=mask if padding else None, labels=labels).loss

    return model, loss


def measure(shape, precision, dropout, threads, bert, padding):
    import contextlib

    import torch

    steps = shape[-1]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    at_rest = peak_memory_bytes()
    model, loss_of_new_rows = bert_model_and_loss(shape, dropout, padding) if bert else gpt_model_and_loss(shape, dropout)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=1e-4, betas=(0.9, 0.95))
    half = precision == "bf16"
    times = []
    for step in range(steps + max(2, steps // 10)):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
            loss = loss_of_new_rows()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        times.append(1e3 * (time.perf_counter() - start))
    return json.dumps({
        "ms_per_step": statistics.median(times[-steps:]), "peak_memory_bytes": peak_memory_bytes(), "at_rest_bytes": at_rest,
    })


def measure_decode(shape, batch, tokens, threads):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, heads, width, _, _, vocabulary, steps = shape
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    at_rest = peak_memory_bytes()
    model = GPT2LMHeadModel(GPT2Config(
        n_layer=layers, n_head=heads, n_embd=width, n_positions=tokens + 1, vocab_size=vocabulary,
        bos_token_id=0, eos_token_id=None, pad_token_id=0, attn_implementation="sdpa")).eval()
    prompt = torch.zeros((batch, 1), dtype=torch.long)
    times = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        with torch.inference_mode():
            ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, use_cache=True,
                                 min_new_tokens=tokens, max_new_tokens=tokens)
        times.append(1e3 * (time.perf_counter() - start))
        assert ids.shape == (batch, tokens + 1)
    return json.dumps({
        "ms_per_token": statistics.median(times[-steps:]) / tokens, "peak_memory_bytes": peak_memory_bytes(),
        "at_rest_bytes": at_rest,
    })


def firebox_steps(binary, device, shape, precision, dropout, bert, padding):
    layers, heads, width, context, batch, vocabulary, steps = shape
    command = [binary, "bench", "--task", "train", "--device", device, "--json", "--steps", str(steps),
               "--n-layer", str(layers), "--n-head", str(heads), "--d-model", str(width), "--seq", str(context),
               "--batch", str(batch), "--vocab", str(vocabulary), "--precision", precision, "--dropout", str(dropout)]
    if bert:
        command += ["--arch", "bert", "--padding", str(padding)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def firebox_decode(binary, device, shape, batch, tokens, weights):
    layers, heads, width, _, _, vocabulary, steps = shape
    command = [binary, "bench", "--task", "decode", "--device", device, "--json", "--steps", str(steps),
               "--n-layer", str(layers), "--n-head", str(heads), "--d-model", str(width), "--seq", str(tokens),
               "--batch", str(batch), "--vocab", str(vocabulary), "--weights", weights]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("firebox")
    parser.add_argument("--task", choices=["train", "decode"], default="train")
    parser.add_argument("--shape", choices=SHAPES, help="default: A to train, C (GPT-2 small) to decode")
    parser.add_argument("--device", default="ndarray")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--padding", type=float, default=0.0, help="share of each row, of the shape bert")
    parser.add_argument("--batch", type=int, default=1, help="rows that decode together")
    parser.add_argument("--tokens", type=int, default=64, help="tokens each row decodes")
    parser.add_argument("--weights", choices=["f32", "int8"], default="f32", help="of Firebox, to decode")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    name = arguments.shape or {"train": "A", "decode": "C"}[arguments.task]
    shape, threads = SHAPES[name], os.cpu_count()
    decode = arguments.task == "decode"
    key = "ms_per_token" if decode else "ms_per_step"
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        if decode:
            ours.append(firebox_decode(
                arguments.firebox, arguments.device, shape, arguments.batch, arguments.tokens, arguments.weights))
            theirs.append(torch_decode(shape, arguments.batch, arguments.tokens, threads))
        else:
            how = (arguments.precision, arguments.dropout)
            ours.append(firebox_steps(arguments.firebox, arguments.device, shape, *how, name == "bert", arguments.padding))
            theirs.append(torch_steps(shape, *how, threads, name == "bert", arguments.padding))

    def median(runs, key):
        return statistics.median(run[key] for run in runs)

    ratios = sorted(b[key] / a[key] for a, b in zip(ours, theirs))
    result = {
        "task": arguments.task, "shape": name, "device": arguments.device, "firebox_ms": median(ours, key),
        "pytorch_ms": median(theirs, key), "ratio": statistics.median(ratios), "ratios": ratios,
        "firebox_peak_mb": median(ours, "peak_memory_bytes") / 1e6,
        "pytorch_peak_mb": median(theirs, "peak_memory_bytes") / 1e6,
        "pytorch_at_rest_mb": median(theirs, "at_rest_bytes") / 1e6,
    }
    if decode:
        result |= {
            "batch": arguments.batch, "tokens": arguments.tokens, "weights": arguments.weights,
            "firebox_tokens_per_second": median(ours, "tokens_per_second"),
            "firebox_read_gb_per_second": median(ours, "read_bytes_per_second") / 1e9,
        }
        what = "{weights} weights, {batch} rows"
        more = "; {firebox_tokens_per_second:.0f} tokens a second, memory read at {firebox_read_gb_per_second:.1f} GB/s"
    else:
        result |= {"precision": arguments.precision, "dropout": arguments.dropout, "padding": arguments.padding}
        what, more = "{precision}", ""
    if arguments.json:
        print(json.dumps(result))
    else:
        print(("shape {shape} on {device}, " + what + ": firebox {firebox_ms:.1f} ms, PyTorch {pytorch_ms:.1f} ms a "
               + ("token" if decode else "step") + "; {ratio:.2f} times PyTorch's tokens a second; peak memory "
               "{firebox_peak_mb:.0f} MB and {pytorch_peak_mb:.0f} MB (PyTorch at rest {pytorch_at_rest_mb:.0f} MB)" + more)
              .format(**result))


if __name__ == "__main__":
    main()
