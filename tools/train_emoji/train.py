"""Trains the emoji CLIP on one device. Checkpoints and resumes; the schedule runs by wall clock or by steps.

    python train.py --pack PACK_DIR --output RUN_DIR --minutes 12            # one GPU
    python train.py --pack PACK_DIR --output RUN_DIR --minutes 12 --detach   # goes on after this shell has gone
    torchrun --nproc_per_node 4 train.py --pack …       # several GPUs of one host share --batch
    python train.py --pack PACK_DIR --output RUN_DIR --steps 20 --batch 64 --device cpu   # the whole path, small

Stopped, or started again after a crash, it goes on from RUN_DIR/checkpoint.pt; the time already spent counts.
"""

import argparse
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import torch
import torch.distributed as distributed

import captions as caption_writing
import evaluate
import glyphs
import model as towers
import optimizer
import render
import scenes as scene_types
import vocabulary

MUON_RATE, ADAM_RATE, WEIGHT_DECAY = 8e-3, 2e-3, 0.05


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pack", required=True, type=pathlib.Path, help="folder with the glyph pack and the vocabulary"
    )
    parser.add_argument("--output", required=True, type=pathlib.Path, help="folder of the run: checkpoint, log, result")
    parser.add_argument("--minutes", type=float, help="length of the whole schedule in minutes of training")
    parser.add_argument("--steps", type=int, help="length of the whole schedule in steps")
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1.0, help="factor on both learning rates")
    parser.add_argument("--average", type=float, default=0.998, help="decay of the weights' running mean")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--checkpoint-every", type=float, default=60, help="seconds")
    parser.add_argument("--evaluate-every", type=float, default=60, help="seconds")
    parser.add_argument(
        "--start-from", type=pathlib.Path, help="weights (result.pt) to begin with instead of random ones"
    )
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument(
        "--detach", action="store_true", help="run in a session of its own; output goes to RUN_DIR/log.txt"
    )
    options = parser.parse_args(arguments)
    if (options.minutes is None) == (options.steps is None):
        parser.error("give the schedule's length as --minutes or as --steps")
    return options


def detach(output):
    """Start this command again in a session of its own, without a terminal; returns at once."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    with open(output / "log.txt", "ab") as log:
        child = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    print(f"training runs as process {child.pid}, log: {output / 'log.txt'}")


class Trainer:
    def __init__(self, options):
        self.options = options
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.lead = self.rank == 0
        device = self.device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if options.device == "cuda" else options.device
        if self.world > 1:
            if options.device == "cuda":
                torch.cuda.set_device(device)
            distributed.init_process_group("nccl" if options.device == "cuda" else "gloo")
        self.rows = options.batch // self.world
        if self.rows * self.world != options.batch or self.rows % 2:
            raise SystemExit(f"--batch {options.batch} cannot be shared out to {self.world} processes in even parts")
        torch.manual_seed(options.seed)
        torch.set_float32_matmul_precision("high")
        self.cuda = torch.device(device).type == "cuda"
        entries, tiles, owner, kinds = glyphs.read_pack(options.pack)
        tokenizer = vocabulary.Tokenizer.from_folder(options.pack)
        self.sampler = scene_types.SceneSampler(entries, owner, kinds, device)
        compiled = self.cuda and not options.no_compile
        self.renderer = render.Renderer(tiles, self.sampler, device, self.rows if compiled else None)
        self.writer = caption_writing.CaptionWriter(entries, tokenizer, device)
        self.recipe = scene_types.Recipe()
        self.model = towers.Clip().to(device)
        if options.start_from:
            self.model.load_state_dict(torch.load(options.start_from, map_location=device))
        self.weights = list(self.model.parameters())
        self.mean_model = towers.Clip().to(device).requires_grad_(False)
        self.mean_model.load_state_dict(self.model.state_dict())
        matrices = list(self.model.block_matrices())
        taken = {id(weight) for weight, _ in matrices}
        rest = [weight for weight in self.model.parameters() if id(weight) not in taken]
        self.muon = optimizer.Muon(matrices, weight_decay=WEIGHT_DECAY)
        # Decay is for matrices; gains, biases, positions and the scale are left alone.
        decays = [
            weight
            for weight in rest
            if weight.ndim == 2 and weight is not self.model.image_position and weight is not self.model.text_position
        ]
        kept = {id(weight) for weight in decays}
        self.adam = torch.optim.AdamW(
            [
                {"params": decays, "weight_decay": WEIGHT_DECAY},
                {"params": [weight for weight in rest if id(weight) not in kept], "weight_decay": 0.0},
            ],
            lr=ADAM_RATE,
            betas=(0.9, 0.98),
            eps=1e-6,
            fused=self.cuda,
        )
        wrap = torch.compile if compiled else (lambda function: function)
        self.encode_image, self.encode_text = wrap(self.model.encode_image), wrap(self.model.encode_text)
        self.loss = wrap(towers.contrastive_loss)
        self.step, self.spent = 0, 0.0
        self.checker = evaluate.Checker(entries, tokenizer, self.sampler, self.renderer, self.writer, device)
        self.stop = False

    def progress(self):
        if self.options.steps:
            return self.step / self.options.steps
        return self.spent / (self.options.minutes * 60)

    def rate(self):
        part = min(self.progress(), 1.0)
        warm = min(1.0, (part + 1e-4) / 0.04)
        return self.options.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))

    def gather(self, rows):
        """All processes' rows in order of rank; gradients flow to this process's own."""
        if self.world == 1:
            return rows
        everyone = [torch.empty_like(rows) for _ in range(self.world)]
        distributed.all_gather(everyone, rows.detach().contiguous())
        everyone[self.rank] = rows
        return torch.cat(everyone)

    def add_gradients(self):
        """Every process has the gradient of the whole loss by way of its own rows: together they are the gradient.

        The scale does not depend on rows: all have its whole gradient already.
        """
        if self.world > 1:
            self.model.logit_scale.grad /= self.world
            flat = torch.cat([weight.grad.flatten() for weight in self.weights])
            distributed.all_reduce(flat)
            for weight, part in zip(self.weights, flat.split([weight.numel() for weight in self.weights])):
                weight.grad.copy_(part.view_as(weight))

    def agree(self):
        """All processes take the first one's clock and, should rounding ever have set them apart, its weights."""
        if self.world > 1:
            clock = torch.tensor([self.spent, float(self.stop)], dtype=torch.float64, device=self.device)
            distributed.broadcast(clock, 0)
            self.spent, self.stop = clock[0].item(), bool(clock[1].item())
            if self.step % 100 == 0:
                for weight in self.weights:
                    distributed.broadcast(weight.data, 0)

    def train_step(self, report=None):
        """One step; `report(stage)` is called after each stage (to see where the time goes)."""
        report = report or (lambda stage: None)
        seed = (self.options.seed * 1_000_003 + self.step) * 64 + self.rank
        generator = torch.Generator(self.device).manual_seed(seed)
        with torch.no_grad():
            scenes = self.sampler.sample(self.rows, self.recipe, generator)
            pixels = self.renderer.render(scenes, self.recipe, generator)
            captions = self.writer.write(scenes, generator)
            facts = caption_writing.Facts.unpack(self.gather(caption_writing.Facts.of(scenes, captions).pack()))
            possible, possible_name = caption_writing.may_be_true(facts, self.writer.concepts)
        report("pictures and captions")
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.cuda):
            image, text = self.encode_image(pixels), self.encode_text(captions.ids)
        scale = self.model.logit_scale.clamp(max=math.log(100)).exp()
        loss = self.loss(self.gather(image), self.gather(text), scale, possible, possible_name, facts.twin)
        loss.backward()
        self.add_gradients()
        report("forward and backward")
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        rate = self.rate()
        self.muon.step(rate * MUON_RATE)
        for group in self.adam.param_groups:
            group["lr"] = rate * ADAM_RATE
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
        with torch.no_grad():
            # Early on the mean forgets faster, so that it is of use from the first minute.
            keep = min(self.options.average, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.mean_model.parameters()), self.weights, 1 - keep)
        report("optimizer")
        self.step += 1
        return loss.detach()

    def save(self):
        state = {
            "model": self.model.state_dict(),
            "mean": self.mean_model.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "step": self.step,
            "spent": self.spent,
        }
        partial = self.options.output / "checkpoint.pt.partial"
        torch.save(state, partial)
        partial.replace(self.options.output / "checkpoint.pt")

    def resume(self):
        path = self.options.output / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, map_location=self.device)
            self.model.load_state_dict(state["model"])
            self.mean_model.load_state_dict(state["mean"])
            self.muon.load_state_dict(state["muon"])
            self.adam.load_state_dict(state["adam"])
            self.step, self.spent = state["step"], state["spent"]
            print(f"resumed at step {self.step}, {self.spent:.0f} s of training", flush=True)

    def report(self):
        """A step reporter that prints how long each stage took, waiting for the device between them."""
        torch.cuda.synchronize()
        last = [time.time()]

        def stage_done(stage):
            torch.cuda.synchronize()
            print(f"{stage}: {1000 * (time.time() - last[0]):.1f} ms", flush=True)
            last[0] = time.time()

        return stage_done

    def run(self):
        self.resume()
        started_at = self.step
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        last = saved = checked = time.time()
        losses = []
        while self.progress() < 1 and not self.stop:
            timed = self.cuda and self.lead and self.step - started_at == 60
            losses.append(self.train_step(self.report() if timed else None))
            if self.cuda and self.step - started_at <= 5:  # compiling is not training
                torch.cuda.synchronize()
                last = time.time()
            if self.step % 10 and self.cuda:
                continue
            if self.cuda:
                torch.cuda.synchronize()
            now = time.time()
            self.spent += now - last
            self.agree()
            if self.lead:
                if self.step % 100 == 0:
                    print(
                        f"step {self.step} {self.spent:.0f} s loss {torch.stack(losses).mean():.3f} "
                        f"scale {self.model.logit_scale.exp():.1f} rate {self.rate():.3f}",
                        flush=True,
                    )
                    losses.clear()
                if now - checked > self.options.evaluate_every:
                    figures = self.checker.quick(self.mean_model, None if self.cuda else 64)
                    print(json.dumps({"step": self.step, "seconds": round(self.spent)} | figures), flush=True)
                    checked = time.time()
                if now - saved > self.options.checkpoint_every:
                    self.save()
                    saved = time.time()
            last = time.time()  # measuring and saving are not training
        if self.lead:
            self.save()
            if self.progress() >= 1:
                torch.save(self.mean_model.state_dict(), self.options.output / "result.pt")
                print(
                    f"done: {self.step} steps, {self.spent:.0f} s, {self.step * self.options.batch / 1e6:.2f} M pairs",
                    flush=True,
                )
        if self.world > 1:
            distributed.destroy_process_group()


def main():
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.detach:
        return detach(options.output)
    started = time.time()
    trainer = Trainer(options)
    print(
        f"prepared in {time.time() - started:.0f} s: {sum(p.numel() for p in trainer.model.parameters()):,} parameters",
        flush=True,
    )
    trainer.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
