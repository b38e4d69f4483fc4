#!/usr/bin/env python3
"""Times Firebox's training steps against PyTorch's, in turn (A B A B ...), and prints the ratio of tokens a second.

    python3 scripts/bench_vs_pytorch.py target/release/firebox [--shape A] [--device ndarray] [--precision bf16] [--rounds 5]

Needs PyTorch and transformers (scripts/requirements.txt). Both sides run the same model (GPT-2's architecture), AdamW and
clipping by the global norm, with as many threads as there are cores; warm-up steps are left out on both sides. PyTorch
computes eagerly, attention through its fused `scaled_dot_product_attention`; bf16 there is `torch.autocast`. The peak
memory is that of each whole process, on PyTorch's side its interpreter and libraries included (see "at rest").
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
}


def torch_steps(shape, precision, dropout, threads):
    """PyTorch's figures, from a process of its own."""
    code = f"import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r}); " \
           f"import bench_vs_pytorch as b; print(b.measure({shape!r}, {precision!r}, {dropout}, {threads}))"
    return json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def peak_memory_bytes():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(shape, precision, dropout, threads):
    import contextlib

    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, heads, width, context, batch, vocabulary, steps = shape
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    at_rest = peak_memory_bytes()
    model = GPT2LMHeadModel(GPT2Config(
        n_layer=layers, n_head=heads, n_embd=width, n_positions=context, vocab_size=vocabulary,
        resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, bos_token_id=0, eos_token_id=0,
        attn_implementation="sdpa")).train()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=1e-4, betas=(0.9, 0.95))
    half = precision == "bf16"
    times = []
    for step in range(steps + max(2, steps // 10)):
        start = time.perf_counter()
        rows = torch.randint(vocabulary, (batch, context + 1))
        with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
            logits = model(rows[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.reshape(-1, vocabulary).float(), rows[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        times.append(1e3 * (time.perf_counter() - start))
    return json.dumps({
        "ms_per_step": statistics.median(times[-steps:]), "peak_memory_bytes": peak_memory_bytes(), "at_rest_bytes": at_rest,
    })


def firebox_steps(binary, device, shape, precision, dropout):
    layers, heads, width, context, batch, vocabulary, steps = shape
    command = [binary, "bench", "--task", "train", "--device", device, "--json", "--steps", str(steps),
               "--n-layer", str(layers), "--n-head", str(heads), "--d-model", str(width), "--seq", str(context),
               "--batch", str(batch), "--vocab", str(vocabulary), "--precision", precision, "--dropout", str(dropout)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("firebox")
    parser.add_argument("--shape", choices=SHAPES, default="A")
    parser.add_argument("--device", default="ndarray")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        ours.append(firebox_steps(arguments.firebox, arguments.device, shape, arguments.precision, arguments.dropout))
        theirs.append(torch_steps(shape, arguments.precision, arguments.dropout, os.cpu_count()))

    def median(runs, key):
        return statistics.median(run[key] for run in runs)

    ratios = sorted(b["ms_per_step"] / a["ms_per_step"] for a, b in zip(ours, theirs))
    result = {
        "shape": arguments.shape, "device": arguments.device, "precision": arguments.precision,
        "dropout": arguments.dropout, "firebox_ms": median(ours, "ms_per_step"),
        "pytorch_ms": median(theirs, "ms_per_step"), "ratio": statistics.median(ratios), "ratios": ratios,
        "firebox_peak_mb": median(ours, "peak_memory_bytes") / 1e6,
        "pytorch_peak_mb": median(theirs, "peak_memory_bytes") / 1e6,
        "pytorch_at_rest_mb": median(theirs, "at_rest_bytes") / 1e6,
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print("shape {shape} on {device} in {precision}: firebox {firebox_ms:.1f} ms, PyTorch {pytorch_ms:.1f} ms a step; "
              "{ratio:.2f} times PyTorch's tokens a second; peak memory {firebox_peak_mb:.0f} MB and {pytorch_peak_mb:.0f} MB "
              "(PyTorch at rest {pytorch_at_rest_mb:.0f} MB)".format(**result))


if __name__ == "__main__":
    main()
