"""The two-tower matching model: user tower, item tower, dot product (paper 3.1.1).

A multi-interest model has K user vectors; its score is the highest of their dot products, in training, evaluation and
serving alike.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micrec.config import ModelConfig
from micrec.models.columns import FieldColumns, FieldSpec, Ragged
from micrec.models.field_term import FieldTerms
from micrec.models.fields import FieldEmbeddings
from micrec.models.layers import ACTIVATIONS, AttentionPool, initialise, mean_pool, mlp
from micrec.models.score_terms import ItemPrior, PersonalTerm
from micrec.models.start import StartValues
from micrec.models.table import EmbeddingTable


class TwoTower(nn.Module):
    """Base of all matching models; the score of a user and an item is the dot product of the two towers' outputs.

    Items are read as raw field vectors f^d of shape (n, F, D), embedded once per step for all the places that need
    them: the item tower, the click histories, the feature-level loss. The item fields' tables are shared between the
    item tower and the histories.

    Subclasses fill in ``build_user_tower`` and ``encode_user`` and may replace the item tower. ``options`` holds the
    keys of a tower that has a class of its own for them, see ``micrec.towers``.
    """

    options: Any

    default_item_tower = "mlp"
    items_read_users = False  # whether item embeddings are made of users' embeddings too
    normalises_items = False  # whether an item's output depends on the other items of a step
    sums_fields = False  # whether the vectors of an item's fields come as their sum; never where a loss hides fields
    counts_clicks = False  # whether it reads distinct items with counts, in any order, and hides clicks itself

    def __init__(
        self,
        config: ModelConfig,
        user_specs: Sequence[FieldSpec],
        item_specs: Sequence[FieldSpec],
        *,
        sparse: bool = False,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.config = config
        self.options = config.options
        tables = {"dim": self.field_dim, "init_scale": config.init_scale, "sparse": sparse}
        embedded = [spec for spec in item_specs if spec.embedded]
        self.item_fields = FieldEmbeddings(embedded, **tables, id_dropout=config.id_dropout, generator=generator)  # type: ignore[arg-type]
        self.user_fields = FieldEmbeddings(user_specs, **tables, id_dropout=config.id_dropout, generator=generator)  # type: ignore[arg-type]
        self.pool = AttentionPool(config.embedding_dim) if config.behaviour_pooling == "attention" else None
        self.build_item_tower()
        self.build_user_tower()
        initialise(self, generator, bias=config.bias_init)
        self.draw_start(generator)
        if config.linear_skip:
            for layer in self.output_layers():
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        counted = [spec for spec in item_specs if spec.counted]
        self.field_term = FieldTerms(counted) if counted else None
        self.personal = PersonalTerm() if config.personal else None
        self.prior = self._make_prior(item_specs, sparse)

    def _make_prior(self, item_specs: Sequence[FieldSpec], sparse: bool) -> ItemPrior | None:
        config = self.config
        ids = [spec.size for spec in item_specs if spec.own_id and config.item_bias]
        if not ids and not config.reads_popularity:
            return None
        return ItemPrior(
            ids[0] if ids else None,
            drifts=config.reads_popularity,
            half_lives=len(config.popularity_half_lives_days),
            words=config.popularity_words,
            sparse=sparse,
        )

    def start_from(self, values: StartValues) -> None:
        """Start values, and constants, that come from the training clicks; before training, and never after it."""
        if self.prior is not None:
            self.prior.start(values.item_clicks, values.temperature, values.forecast)
        if self.personal is not None:
            self.personal.start(values.temperature)
        if self.field_term is not None:
            assert values.item_columns is not None
            self.field_term.start(values.item_columns, values.item_clicks, values.temperature)

    def start_vectors(self, values: StartValues) -> None:
        """Start values of vectors from the training clicks, after the numbers that stand beside the vectors."""

    def score_numbers(self) -> list[nn.Parameter]:
        """The numbers of the score that stand beside the vectors, shape () each."""
        found = [] if self.personal is None else [self.personal.by_count, self.personal.once]
        drift = None if self.prior is None else self.prior.drift
        if self.field_term is not None:
            found += self.field_term.numbers
        return found if drift is None else [*found, drift]

    def scaled_block(self) -> tuple[nn.Parameter, slice] | None:
        """A number that multiplies a part of the item vectors, and the places of that part; None: there is none."""
        return None

    @property
    def field_dim(self) -> int:
        """Width of one field embedding."""
        return self.config.embedding_dim

    @property
    def rows_per_item(self) -> int:
        """Vectors that ``embed_fields`` gives of an item: its fields, and what a subclass puts behind them."""
        return len(self.item_fields.specs)

    @property
    def encoding_dim(self) -> int:
        """Width of what ``encode_user`` and ``encode_item`` give."""
        return self.config.embedding_dim

    @property
    def output_dim(self) -> int:
        """Width of the towers' outputs: what they encode, and the field term if there is one."""
        return self.encoding_dim + (0 if self.field_term is None else self.field_term.width)

    @property
    def score_dim(self) -> int:
        """Numbers of an item in an index: the tower's output, and the prior if there is one."""
        return self.output_dim + int(self.prior is not None)

    @property
    def interests(self) -> int | None:
        """User vectors per user, K; None for the one of shape (B, D)."""
        return None

    @property
    def item_tower_kind(self) -> str:
        return self.config.item_tower or self.default_item_tower

    def build_item_tower(self) -> None:
        """MLP_d on the concatenation of all fields; or a linear map of it; or the id embedding itself."""
        if self.item_tower_kind == "mlp":
            self.item_mlp = self.tower_mlp(self.item_fields.width)
        elif self.item_tower_kind == "linear":
            self.item_mlp = nn.Sequential(
                nn.Linear(self.item_fields.width, self.config.embedding_dim),
                ACTIVATIONS[self.config.output_activation](),
            )

    def tower_mlp(self, width: int, *, dropout: float = 0.0) -> nn.Sequential:
        """The 3-layer MLP of both towers (paper 3.6, 5.3)."""
        config = self.config
        return mlp(
            width,
            config.hidden,
            config.embedding_dim,
            activation=config.activation,
            output_activation=config.output_activation,
            dropout=dropout,
        )

    def output_layers(self) -> list[nn.Linear]:
        """The last dense layer of each tower."""
        towers = [tower for name, tower in self.named_children() if name.startswith(("item_", "user_"))]
        linear = [[m for m in tower.modules() if isinstance(m, nn.Linear)] for tower in towers]
        return [layers[-1] for layers in linear if layers]

    @abstractmethod
    def build_user_tower(self) -> None:
        """Create the layers of the user tower."""

    def draw_start(self, generator: torch.Generator) -> None:
        """Start values of what is neither a table nor a dense layer, if there is any."""

    @abstractmethod
    def encode_user(self, user_fields: Tensor, history: Ragged, item_fields: Tensor) -> Tensor:
        """User outputs before normalisation; see ``user_tower``."""

    def encode_item(self, item_fields: Tensor) -> Tensor:
        """Item outputs before normalisation; see ``item_tower``."""
        if self.item_tower_kind == "id":
            return item_fields[:, 0]
        return self.item_mlp(item_fields.flatten(1))

    def user_tower(self, users: FieldColumns, history: Ragged, item_fields: Tensor) -> Tensor:
        """User embeddings u_i, shape (B, D) (Eq. 6); (B, K, D) if the model has K interests.

        Args:
            users: Encoded user fields, B rows.
            history: For each user the rows of ``item_fields`` they clicked, oldest first; B rows.
            item_fields: Raw field vectors of the items that occur in the histories, shape (n, F, D).
        """
        with self._precision(item_fields):
            return self._user_output(users, history, item_fields)

    def _user_output(self, users: FieldColumns, history: Ragged, item_fields: Tensor) -> Tensor:
        user_fields = self.embed_users(users)
        fields, values = self.parted(item_fields)
        embedding = self.encode_user(user_fields, history, fields)
        if self.config.linear_skip:
            skip = mean_pool(history, fields.sum(dim=1)) + user_fields.sum(dim=1)
            embedding = embedding + (skip if embedding.dim() == 2 else skip.unsqueeze(1))
        embedding = self._finish(embedding)
        if self.field_term is None:
            return embedding
        terms = self.field_term(history, values.flatten(1))
        terms = terms if embedding.dim() == 2 else terms[:, None].expand(-1, embedding.shape[1], -1)
        return torch.cat([embedding, terms.to(embedding)], dim=-1)

    @property
    def reads_targets(self) -> bool:
        """Whether ``readout`` looks at the clicked items, or is what the user tower gave."""
        return type(self).readout is not TwoTower.readout

    def readout(self, user_emb: Tensor, target_emb: Tensor, history: Ragged) -> Tensor:
        """What of the user's embeddings meets the clicked item in training, shape (B, D).

        Args:
            user_emb: Output of the user tower.
            target_emb: Embeddings of the clicked items, shape (B, D).
            history: What the user tower read.
        """
        return user_emb

    def item_tower(self, item_fields: Tensor) -> Tensor:
        """Item embeddings d_k, shape (n, D), from raw field vectors (n, F, D)."""
        with self._precision(item_fields):
            return self._item_output(item_fields)

    def _item_output(self, item_fields: Tensor) -> Tensor:
        fields, values = self.parted(item_fields)
        embedding = self.encode_item(fields)
        if self.config.linear_skip:
            embedding = embedding + fields.sum(dim=1)
        embedding = self._finish(embedding)
        if self.field_term is None:
            return embedding
        return torch.cat([embedding, self.field_term.of_items(values.flatten(1)).to(embedding)], dim=1)

    def parted(self, item_fields: Tensor) -> tuple[Tensor, Tensor]:
        """Field vectors (n, F, D), and what stands behind them for the field term, (n, 0 or 1, D)."""
        if self.field_term is None:
            return item_fields, item_fields[:, :0]
        return item_fields[:, : self.rows_per_item], item_fields[:, self.rows_per_item :]

    def embed_items(self, items: FieldColumns) -> Tensor:
        """What the towers read of n items: raw field vectors f^d, shape (n, F, D).

        With a field term the codes of the items' values stand behind them as one more vector.
        """
        fields = self.embed_fields(items)
        if self.field_term is None:
            return fields
        return torch.cat([fields, self.field_term.codes(items, self.field_dim)[:, None]], dim=1)

    def embed_fields(self, items: FieldColumns, *, keep: dict[str, Tensor] | None = None) -> Tensor:
        """Raw field vectors f^d of n items, shape (n, F, D)."""
        return self.item_fields(items, keep=keep, generator=self.noise if self.training else None)

    def embed_users(self, users: FieldColumns) -> Tensor:
        """Raw field vectors f^u of B users, shape (B, F, D)."""
        return self.user_fields(users, generator=self.noise if self.training else None)

    @property
    def embeds_apart(self) -> bool:
        """Whether some items of a step may be embedded anew: that is cheap, draws nothing and asks no other process."""
        tables = self.item_fields.tables.values()
        return not self.config.id_dropout and all(type(table) is EmbeddingTable for table in tables)

    def id_codes(self, items: FieldColumns) -> Tensor | None:
        """Codes of the items' own ids, shape (n,), int64, 0 = no training click; None if ids are not embedded."""
        names = [spec.name for spec in self.item_fields.specs if spec.own_id]
        return items.single[names[0]].long() if names else None

    noise: torch.Generator | None = None  # source of id dropout; set by the trainer
    noise_range: tuple[int, int, int] | None = None  # set by the trainer: of how many draws which are this process's

    def draw_noise(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Uniform in [0, 1), one for each of the history's distinct items; those of the batch where it is divided."""
        if self.noise_range is None:
            return self._uniform(shape).to(device)
        start, stop, total = self.noise_range
        return self._uniform((total,))[start:stop].view(shape).to(device)

    def _uniform(self, shape: Sequence[int]) -> Tensor:
        assert self.noise is not None
        return torch.rand(shape, generator=self.noise, device=self.noise.device)

    bf16 = False  # whether the towers compute in bfloat16 while they train; set by the trainer

    def _precision(self, like: Tensor) -> AbstractContextManager[Any]:
        """Where matrix products are those of bfloat16, if they are to be; parameters and results are float32."""
        if not (self.bf16 and self.training):
            return nullcontext()
        return torch.autocast(like.device.type, dtype=torch.bfloat16)

    def pool_history(self, history: Ragged, item_fields: Tensor) -> Tensor:
        """One pooled token per item field, shape (B, F, D): the rows of F^b."""
        return mean_pool(history, item_fields) if self.pool is None else self.pool(history, item_fields)

    def _finish(self, embedding: Tensor) -> Tensor:
        embedding = embedding.float() if embedding.dtype == torch.bfloat16 else embedding
        return F.normalize(embedding, dim=-1) if self.config.l2_normalize else embedding
