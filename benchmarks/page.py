"""
The live page of an MNIST run, 784-400-200, measured in headless Chromium: its size, how soon it is there, and how fast.

An untrained model's page is as large and as fast as a trained one's, so a few steps are trained. Run with
`python benchmarks/page.py`; chromium (`apt-get install chromium`) and the extra `[dev]` must be there.
"""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

import vsc
from vsc.measure.measured import Measured
from vsc.report import run
from vsc.settings.config import Config, DataConfig, ModelConfig, TrainConfig

SLIDE = """async () => {
    const sliders = [...document.querySelectorAll("#live-latents [type=range]")], slider = sliders[0], took = [];
    const frame = () => new Promise(requestAnimationFrame);
    const idled = performance.now();
    let idle = 0, frames = 0;
    for (; performance.now() - idled < 1000; idle++) await frame();
    const begun = performance.now();
    while (performance.now() - begun < 2000) {
        slider.value = Number(slider.min) + (slider.max - slider.min) * ((frames % 50) / 50);
        const moved = performance.now();
        slider.dispatchEvent(new Event("input"));
        await frame();  // asked for after the page's own, so it comes when the page has drawn
        took.push(performance.now() - moved);
        frames++;
    }
    const ended = performance.now(), update = [];
    for (let i = 0; i < 200; i++) {
        slider.value = Number(slider.min) + (slider.max - slider.min) * (i / 200);
        const moved = performance.now();
        slider.dispatchEvent(new Event("change"));  // decodes and draws at once
        update.push(performance.now() - moved);
    }
    return { idle: 1000 * idle / (begun - idled), frames: 1000 * frames / (ended - begun), took, update };
}"""
OPENED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="training steps")
    parser.add_argument("--rounds", type=int, default=5, help="times that the page is opened")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = _page(Path(folder) / "run", options.steps)
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        opened, idle, frames, took, update = [], [], [], [], []
        for _ in range(options.rounds):
            tab = browser.new_page()
            tab.goto(page.as_uri())
            opened.append(tab.evaluate(OPENED))
            found = tab.evaluate(SLIDE)
            idle.append(found["idle"])
            frames.append(found["frames"])
            took += found["took"]
            update += found["update"]
            tab.close()
        print(f"chromium {browser.version}, {options.rounds} rounds: median, and the range or the slowest of a hundred")
        print(f"size of the page: {page.stat().st_size / 1e6:.2f} MB")
        print(f"opened: {statistics.median(opened):.0f} ms ({min(opened):.0f} to {max(opened):.0f})")
        print(f"decoding and drawing: {statistics.median(update):.1f} ms ({_slow(update):.1f})")
        print(f"from a slider's move to the drawn frame: {statistics.median(took):.1f} ms ({_slow(took):.1f})")
        for what, rate in (("while nothing moves", idle), ("while a slider moves", frames)):
            print(f"frames a second, {what}: {statistics.median(rate):.0f} ({min(rate):.0f} to {max(rate):.0f})")
        browser.close()


def _slow(values: list[float]) -> float:
    return sorted(values)[int(0.99 * len(values))]


def _page(folder: Path, steps: int) -> Path:
    config = Config(DataConfig("mnist"), ModelConfig(latent_dim=200), TrainConfig(steps=steps))
    data = vsc.load_data("mnist")
    model = vsc.train(data, config, folder)
    return run.write(folder, Measured(model, data))


if __name__ == "__main__":
    main()
