#!/usr/bin/env python3
"""Times Firebox's training steps against PyTorch's, in turn (A B A B ...), and prints the ratio of tokens a second.

    python3 scripts/bench_vs_pytorch.py target/release/firebox [--shape A] [--device ndarray] [--rounds 5] [--json]

Needs PyTorch and transformers (scripts/requirements.txt). Both sides run the same model (GPT-2's architecture), AdamW and
clipping by the global norm, in f32, with as many threads as there are cores; warm-up steps are left out on both sides.
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


def torch_step_ms(shape, threads):
    """The median time of a training step in PyTorch, in milliseconds, in a process of its own."""
    code = f"import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r}); " \
           f"import bench_vs_pytorch as b; print(b.measure({shape!r}, {threads}))"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def measure(shape, threads):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, heads, width, context, batch, vocabulary, steps = shape
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(
        n_layer=layers, n_head=heads, n_embd=width, n_positions=context, vocab_size=vocabulary,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0))
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=1e-4, betas=(0.9, 0.95))
    times = []
    for step in range(steps + max(2, steps // 10)):
        start = time.perf_counter()
        rows = torch.randint(vocabulary, (batch, context + 1))
        logits = model(rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, vocabulary), rows[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[-steps:])


def firebox_step_ms(binary, device, shape):
    layers, heads, width, context, batch, vocabulary, steps = shape
    command = [binary, "bench", "--task", "train", "--device", device, "--json", "--steps", str(steps),
               "--n-layer", str(layers), "--n-head", str(heads), "--d-model", str(width), "--seq", str(context),
               "--batch", str(batch), "--vocab", str(vocabulary)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["ms_per_step"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("firebox")
    parser.add_argument("--shape", choices=SHAPES, default="A")
    parser.add_argument("--device", default="ndarray")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        ours.append(firebox_step_ms(arguments.firebox, arguments.device, shape))
        theirs.append(torch_step_ms(shape, os.cpu_count()))
    ratios = sorted(b / a for a, b in zip(ours, theirs))
    result = {
        "shape": arguments.shape, "device": arguments.device, "firebox_ms": statistics.median(ours),
        "pytorch_ms": statistics.median(theirs), "ratio": statistics.median(ratios), "ratios": ratios,
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print("shape {shape} on {device}: firebox {firebox_ms:.1f} ms, PyTorch {pytorch_ms:.1f} ms a step; "
              "{ratio:.2f} times PyTorch's tokens a second".format(**result))


if __name__ == "__main__":
    main()
