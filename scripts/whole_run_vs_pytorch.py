#!/usr/bin/env python3
"""Times a whole run, evaluations and saves included, against the same run in PyTorch: nanoGPT's setting for a CPU.

    python3 scripts/whole_run_vs_pytorch.py target/release/firebox --text data/tinyshakespeare.txt [--rounds 1]

Firebox runs configs/gpt-shakespeare-cpu.toml as it is, in a fresh directory. PyTorch's side is written here after nanoGPT's
train.py: its model (fused attention, tanh GELU, tied head), AdamW with betas 0.9 and 0.99 and decay on matrices, clipping
at 1, cosine schedule with 100 steps of warm-up, 12 rows of 64 characters, 2000 steps; every 250 steps the loss over 20
batches of both splits, and a checkpoint when that of the validation split is the best. At the end both sides' models are
evaluated alike, over the whole validation split. Needs PyTorch (scripts/requirements.txt).
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

LAYERS, HEADS, WIDTH, CONTEXT, ROWS, STEPS = 4, 4, 128, 64, 12, 2000


def run_in_pytorch(text_file):
    import torch
    from torch import nn
    from torch.nn import functional as F

    start = time.perf_counter()
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(1337)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x):
            batch, seq, width = x.shape
            q, k, v = (part.view(batch, seq, HEADS, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(width, 2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(batch, seq, width))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Gpt(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH)
            for name, parameter in self.named_parameters():
                if parameter.dim() == 2:
                    residual = name.endswith(("out.weight", "down.weight"))
                    nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if residual else 0.02)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)

        def loss(self, x, y):
            h = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
            for block in self.blocks:
                h = block(h)
            logits = F.linear(self.norm(h), self.tokens.weight)
            return F.cross_entropy(logits.view(-1, logits.shape[-1]), y.reshape(-1))

    text = open(text_file, encoding="utf-8").read()
    ids = {character: i for i, character in enumerate(sorted(set(text)))}
    data = torch.tensor([ids[character] for character in text])
    cut = int(0.9 * len(data))
    splits = {"train": data[:cut], "validation": data[cut:]}

    def batch(split):
        starts = torch.randint(len(splits[split]) - CONTEXT, (ROWS,))
        rows = torch.stack([splits[split][i:i + CONTEXT + 1] for i in starts])
        return rows[:, :-1], rows[:, 1:]

    model = Gpt(len(ids))
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.99))
    best = math.inf
    with tempfile.TemporaryDirectory() as directory:
        for step in range(STEPS + 1):
            progress = (step - 100) / (STEPS - 100)
            lr = 1e-3 * (step + 1) / 101 if step < 100 else 1e-4 + 0.5 * (1 + math.cos(math.pi * progress)) * 9e-4
            for group in optimizer.param_groups:
                group["lr"] = lr
            if step % 250 == 0:
                with torch.no_grad():
                    losses = {split: statistics.mean(model.loss(*batch(split)).item() for _ in range(20)) for split in splits}
                if step and losses["validation"] < best:
                    best = losses["validation"]
                    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{directory}/ckpt.pt")
            if step == STEPS:
                break
            loss = model.loss(*batch("train"))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()
    seconds = time.perf_counter() - start
    rows = splits["validation"]
    rows = rows[:(len(rows) - 1) // CONTEXT * CONTEXT + 1]
    with torch.no_grad():
        loss = model.loss(rows[:-1].view(-1, CONTEXT), rows[1:].view(-1, CONTEXT)).item()
    return {"seconds": seconds, "validation_loss": loss}


def run_in_firebox(binary, text_file, device):
    config = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../configs/gpt-shakespeare-cpu.toml")
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        subprocess.run([binary, "train", config, "--device", device, "--set", f"data.text.files=[{json.dumps(text_file)}]",
                        "--set", f"train.output_dir={json.dumps(directory + '/run')}"], check=True, capture_output=True)
        seconds = time.perf_counter() - start
        events = [json.loads(line) for line in open(directory + "/run/metrics.jsonl")]
    return {"seconds": seconds, "validation_loss": [e["loss"] for e in events if e["type"] == "eval"][-1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("firebox")
    parser.add_argument("--text", required=True)
    parser.add_argument("--device", default="ndarray")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--pytorch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    text = os.path.abspath(arguments.text)
    if arguments.pytorch:
        print(json.dumps(run_in_pytorch(text)))
        return
    for _ in range(arguments.rounds):
        ours = run_in_firebox(arguments.firebox, text, arguments.device)
        command = [sys.executable, os.path.abspath(__file__), arguments.firebox, "--text", text, "--pytorch"]
        theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for name, side in [("firebox", ours), ("PyTorch", theirs)]:
            print(f"{name}: {side['seconds']:.1f} s, validation loss {side['validation_loss']:.4f}")


if __name__ == "__main__":
    main()
