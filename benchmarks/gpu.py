"""
Step time on a GPU against the roofline: how near a training step is to what its products and its memory allow.

The machine's rates are measured in the same run, by one large product and one large copy. A step's floor is the longer
of its products (forward and backward, three of each layer) at that rate and its weights, gradients and moments at that
bandwidth. With and without `train.compile`. Where there is no GPU it says so.
"""

import time

import torch

import vsc
from peers import HIDDEN, B, M, images, ours, per_step


def seconds(call, times: int = 20) -> float:
    """Seconds of a call on the GPU, after a few that do not count."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / times


def main() -> None:
    if not torch.cuda.is_available():
        print("no GPU here: nothing is measured, and train.compile does nothing")
        return
    n = 8192
    square, long = torch.randn(n, n, device="cuda"), torch.empty(2**28, device="cuda")
    flops = 2 * n**3 / seconds(lambda: square @ square)
    bandwidth = 2 * 4 * long.numel() / seconds(long.clone)
    print(f"{torch.cuda.get_device_name()}: {flops / 1e12:.0f} TFLOP/s, {bandwidth / 1e9:.0f} GB/s in 32 bits")
    data = vsc.from_arrays(images(), name="random")
    for J, rows in ((200, B), (200, 4096), (16_384, 4096)):
        weights = M * HIDDEN + HIDDEN * 3 * J + J * HIDDEN + HIDDEN * M
        # each weight's gradient is written and read; it and both moments are read and written
        floor = max(6 * rows * weights / flops, 8 * 4 * weights / bandwidth)
        for compiled in (False, True):
            settings = {"model.latent_dim": J, "train.batch_size": rows, "train.compile": compiled}
            took = per_step(ours(data, "vsc-fixed", **settings, **{"train.device": "cuda"}), 200)
            words = f"J {J}, batch {rows}, {'compiled' if compiled else 'as it is'}:"
            print(f"{words:40} {took * 1e3:.2f} ms, {took / floor:.1f} times the floor of {floor * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
