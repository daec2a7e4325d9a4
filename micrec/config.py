"""Every switch of a training run, with its default: the ``paper`` preset unless said otherwise.

Numbers in brackets, as in (N5), are the points of the reading of the paper listed in docs/paper.md.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    NonNegativeFloat,
    PositiveFloat,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import CoreSchema

from micrec.bounds import Days, Draws, Length, Repeats, RepeatsOrNone, RowsOrNone, Seconds, Seed, Width
from micrec.faults import KeyFaults
from micrec.frozen import Frozen
from micrec.item_loss_configs import FeatureConfig, ItemLossConfig, SemanticConfig, SessionConfig
from micrec.item_loss_kinds import ITEM_LOSSES
from micrec.named import NameIn, checked_options, inlined_schema
from micrec.rank_metrics import RANK_METRICS
from micrec.tower_configs import TowerConfig
from micrec.tower_schema import options_schema
from micrec.towers import TOWERS, Tower, tower_options

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class SplitConfig(Frozen):
    """Which clicks train, validate and test."""

    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.2, description="Last share of clicks, by time.")
    test_days: Days | None = Field(
        None, description="Last days of the log instead of a share, by dataset.yaml's clock."
    )
    valid_fraction: Fraction = Field(0.1, description="Last share of the clicks before the test; 0 = no validation.")


class SessionsConfig(Frozen):
    """What a session is (N16) and how its pairs are counted (N17)."""

    mode: Literal["window", "gap"] = Field(
        "window", description="window: a session lasts at most max_s; gap: it ends after max_s of inactivity."
    )
    max_s: Seconds = Field(3600, description="Seconds: one hour in the paper. In gap mode also the pair limit.")
    count: Literal["session", "occurrence"] = Field(
        "session", description="session: a pair counts once per session; occurrence: once per pair of clicks."
    )
    max_length: Length = Field(200, description="Distinct items kept per session, the latest; longer is cut.")
    top_partners: Length = Field(
        1000, description="Partners kept per item, the heaviest; the dropped weight is reported."
    )
    category_boost: PositiveFloat = Field(
        2.0, allow_inf_nan=True, description="Weight of a same-category pair (N18): 1 = off, .inf = same category only."
    )


class ModelConfig(Frozen):
    """The two towers."""

    name: Annotated[str, NameIn(TOWERS)] = Field("ican", description="Base model.")
    embedding_dim: Width = Field(64, description="Width of field, user and item embeddings (paper 5.3).")
    hidden: tuple[Width, ...] = Field((128, 64), description="Hidden widths of both MLPs before the output.")
    activation: Literal["tanh", "relu", "gelu"] = Field("tanh", description="Hidden activation (N3).")
    output_activation: Literal["tanh", "linear"] = Field("tanh", description="Activation of the tower outputs (N3).")
    l2_normalize: bool = Field(False, description="Unit-length tower outputs (N3).")
    dropout: Fraction = Field(0.0, description="Dropout on the hidden layers of the user tower.")
    item_tower: Literal["mlp", "linear", "id"] | None = Field(
        None,
        description="MLP or linear map of all fields, or the id alone (N4); null: youtube_dnn linear (N21), else mlp.",
    )
    user_fields: tuple[str, ...] | None = Field(None, description="User fields embedded; null = all of the dataset.")
    item_fields: tuple[str, ...] | None = Field(None, description="Item fields embedded; null = all of the dataset.")
    user_id: bool = Field(False, description="Embed the user id as one more user field.")
    item_id: bool = Field(True, description="Embed the item id as one more item field.")
    id_dropout: Fraction = Field(0.0, description="Share of ids read as unknown in training, for cold users and items.")
    history_length: Length = Field(20, description="Most recent clicks the user tower reads (paper 5.3).")
    history_dropout: Fraction = Field(0.0, description="Share of history clicks hidden at random in training.")
    half_life_days: PositiveFloat | None = Field(
        None,
        description="Age in days at which a click of the history counts half, where clicks are pooled and in the "
        "personal term; null: clicks do not fade.",
    )
    personal: bool = Field(
        False,
        description="Add a learned term to the score of every item of the user's own history, by its clicks there; "
        "served exactly beside the index.",
    )
    field_term: str | tuple[str, ...] | None = Field(
        None,
        description="Add a learned term for what the user has clicked of the item's value of this categorical field, "
        "relative to everybody, or one for each of several; auto: of the field that tells most of the latest training "
        "clicks, if one tells .1 nats a click, and of those that tell .05 more beside it. null: no such term.",
    )
    field_term_values: Width = Field(
        384,
        description="Most values of these fields together: each takes a number of the index; auto passes over fields "
        "of more.",
    )
    item_bias: bool = Field(False, description="Add a learned bias for each item to its score.")
    popularity_half_life_days: PositiveFloat | None = Field(
        None,
        description="Add the log of an item's clicks of late, which count half after so many days, with a learned "
        "weight; training sees it as of the day of each row. null: no such term.",
    )
    popularity_half_lives_days: tuple[PositiveFloat, ...] = Field(
        (),
        description="Instead of one half-life several: before training, the logs of an item's clicks under each, and "
        "of all of them, get weights that tell its clicks of the popularity_horizon_days after a morning of the log.",
    )
    popularity_horizon_days: Days = Field(
        14, description="Days after a morning whose clicks those weights are fitted to; of a short log a quarter."
    )
    popularity_words: bool = Field(
        False,
        description="The words of a title are weighted with them, for items with few clicks; nothing without titles.",
    )
    linear_skip: bool = Field(
        False,
        description="Add the FM sums (fields of user, clicks and item) to both towers' outputs; the MLPs' last layers "
        "start at zero, so that training starts from an FM.",
    )
    behaviour_pooling: Literal["mean", "attention"] = Field("mean", description="Pooling over clicks (N5).")
    init_scale: PositiveFloat = Field(0.05, description="Embedding tables start uniform in +-init_scale.")
    bias_init: NonNegativeFloat = Field(0.1, description="Start value of the dense biases, as in ICAN's code.")

    options: Any = Field(
        None, validate_default=True, description="Keys that only the base model of this name reads; it checks them."
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """With the keys of all towers under ``options``, for what explains keys."""
        found = handler(schema)
        handler.resolve_ref_schema(found)["properties"]["options"] = options_schema()
        return found

    @property
    def reads_popularity(self) -> bool:
        """Whether scores have a term for an item's clicks of late."""
        return self.popularity_half_life_days is not None or bool(self.popularity_half_lives_days)

    @property
    def reads_time(self) -> bool:
        """Whether the model needs to know when clicks were."""
        return self.half_life_days is not None or self.reads_popularity

    @property
    def tower(self) -> Tower:
        """What is known of the base model."""
        return TOWERS[self.name]

    @model_serializer(mode="wrap")
    def _leave_out_no_options(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``options`` where the base model has none."""
        data: dict[str, Any] = plain(self)
        if data.get("options") is None:
            data.pop("options", None)
        return data

    @field_validator("options", mode="plain")
    @classmethod
    def _check_options(cls, options: Any, info: ValidationInfo) -> Any:
        """An instance of the tower's own class, with every default; without one, None."""
        return tower_options(info.data["name"], options) if "name" in info.data else None

    @model_validator(mode="after")
    def _switches_fit(self) -> Self:
        """Rules between keys; every broken one is reported."""
        if broken := [*self._contradictions(), *self._option_contradictions()]:
            raise ValueError("; ".join(broken))
        return self

    def _contradictions(self) -> list[str]:
        """Keys that do not fit the base model or each other."""
        rules = {
            f"behaviour_pooling attention does not apply to name {self.name}: leave it out": (
                self.behaviour_pooling == "attention" and (self.tower.by_click or self.tower.two_sided)
            ),
            "item_tower id needs item_id true, got false: set item_id to true, or item_tower to mlp": (
                self.item_tower == "id" and not self.item_id
            ),
            f"name {self.name} needs item_id true, got false: set item_id to true, or another name": (
                self.tower.needs_item_id and not self.item_id
            ),
            "item_bias needs item_id true, got false: set one of the two": self.item_bias and not self.item_id,
            "popularity_half_lives_days and popularity_half_life_days are both given: leave one out": (
                bool(self.popularity_half_lives_days) and self.popularity_half_life_days is not None
            ),
            "popularity_words needs popularity_half_lives_days, got none: give some, or leave it out": (
                self.popularity_words and not self.popularity_half_lives_days
            ),
            f"linear_skip does not apply to name {self.name}, whose items have two vectors: leave it out": (
                self.linear_skip and self.tower.two_sided
            ),
        }
        return [rule for rule, is_broken in rules.items() if is_broken]

    def _option_contradictions(self) -> Iterator[str]:
        """Options that do not fit each other or the width of the embeddings."""
        if isinstance(self.options, TowerConfig):
            yield from (f"options.{fault}" for fault in self.options.contradictions(self.embedding_dim))


class SoftmaxConfig(Frozen):
    """The matching loss L_S, Eq. 7."""

    negatives: Literal["uniform", "popularity", "in_batch", "shared", "mixed", "full"] = Field(
        "uniform",
        description="uniform, popularity: per row (N20); in_batch: the batch's other items; shared: one uniform draw "
        "for the whole batch; mixed: in_batch and shared; full: every train item.",
    )
    num_negatives: Draws = Field(20, description="Negatives per row, or in all where they are shared.")
    popularity_power: NonNegativeFloat = Field(0.75, description="Popularity negatives are drawn by clicks ** power.")
    reject_clicked: bool = Field(True, description="Never use an item the user clicked in training as a negative.")
    logq: Literal["none", "standard", "refined"] = Field("none", description="Sampling correction (N20).")
    temperature: PositiveFloat = Field(1.0, description="tau of the matching loss, no unit.")
    denominator: Literal["with_positive", "negatives_only"] = Field(
        "with_positive", description="Whether the positive is in the denominator of Eq. 1 and 7 (N2)."
    )


class ContrastConfig(Frozen):
    """The item-contrastive losses and what they share.

    A loss that is registered in ``ITEM_LOSSES`` beside the paper's three has its keys under its name here as well;
    where its weight is 0, or it is not named, the config is as if there were no such loss.
    """

    temperature: PositiveFloat = Field(1.0, description="tau of Eq. 3-5.")
    denominator: Literal["with_positive", "negatives_only"] = Field(
        "with_positive", description="Whether the positive is in the denominators of Eq. 3-5 (N1)."
    )
    similarity: Literal["dot", "cosine"] = Field("dot", description="g of Eq. 2, 4 and 5.")
    projector: Literal["linear", "tanh", "relu", "none"] = Field("linear", description="One layer per loss (N11).")
    projector_dim: Width = Field(64, description="Output width of the projectors.")
    reduction: Literal["mean", "sum"] = Field("mean", description="Over anchors (N12).")
    group_size: Length = Field(
        64, description="Anchors that share one draw of negatives; 1 = a draw each (slower, same expectation)."
    )
    pool_size: Length = Field(
        512, description="Uniform items per step that all negatives of Eq. 4 and 5 are drawn from (N28)."
    )
    uniform_anchors: Length = Field(1024, description="Anchors per step where anchors are uniform.")
    most_anchors: Length | None = Field(
        None,
        description="Clicked items of a batch that the losses take as anchors at most; of more a random draw, the same "
        "for all losses. null: all of them.",
    )
    feature: FeatureConfig = Field(default_factory=FeatureConfig, description="L_fea.")
    semantic: SemanticConfig = Field(default_factory=SemanticConfig, description="L_sem.")
    session: SessionConfig = Field(default_factory=SessionConfig, description="L_sess.")
    further: SkipJsonSchema[dict[str, Any]] = Field(
        default_factory=dict, description="Configs of registered losses by name; written as keys of contrast itself."
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """With the keys of registered losses under their names, for what explains keys."""
        found = handler(schema)
        properties = handler.resolve_ref_schema(found)["properties"]
        for name, kind in ITEM_LOSSES.items():
            if name not in cls.model_fields:
                properties[name] = inlined_schema(kind.config)
        return found

    @model_validator(mode="before")
    @classmethod
    def _gather_further(cls, data: Any) -> Any:
        """Keys that name a registered loss, put together under ``further``."""
        if not isinstance(data, Mapping):
            return data
        if "further" in data:
            raise ValueError("further is no key: write those of a registered loss under its name")
        names = [name for name in data if name not in cls.model_fields and name in ITEM_LOSSES]
        rest = {key: value for key, value in data.items() if key not in names}
        return {**rest, "further": {name: data[name] for name in names}} if names else rest

    @field_validator("further")
    @classmethod
    def _check_further(cls, further: dict[str, Any]) -> dict[str, Any]:
        faults: list[str] = []
        checked: dict[str, Any] = {}
        for name, keys in further.items():
            kind = ITEM_LOSSES[name].config
            if not isinstance(keys, Mapping | kind):
                faults.append(f"{name}: must be a mapping of keys, got {keys!r}")
                continue
            try:
                checked[name] = checked_options(kind, keys) if isinstance(keys, Mapping) else keys
            except KeyFaults as fault:
                faults += [f"{name}.{line}" for line in fault.lines]
        if faults:
            raise KeyFaults(faults)
        return {name: checked[name] for name in ITEM_LOSSES if name in checked and checked[name].weight > 0}

    @model_serializer(mode="wrap")
    def _spread_further(self, plain: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Registered losses under their names, as they are written."""
        data: dict[str, Any] = plain(self)
        data.pop("further", None)
        return data | {name: keys.model_dump(mode=info.mode) for name, keys in self.further.items()}

    @property
    def losses(self) -> dict[str, ItemLossConfig]:
        """The configs of all losses by name, the paper's three first; those with weight 0 are off."""
        return {"feature": self.feature, "semantic": self.semantic, "session": self.session, **self.further}

    @property
    def on(self) -> tuple[str, ...]:
        """Names of the losses that are on."""
        return tuple(name for name, keys in self.losses.items() if keys.weight > 0)


class OptimConfig(Frozen):
    """Adam, row-sparse for the embedding tables."""

    learning_rate: PositiveFloat = Field(0.001, description="alpha of Adam (paper 5.3).")
    schedule: Literal["constant", "linear"] = Field(
        "constant", description="The learning rate stays, or falls to zero, step by step, over the epochs of the run."
    )
    beta1: Fraction = Field(0.9, description="Decay of the first moment.")
    beta2: Fraction = Field(0.999, description="Decay of the second moment.")
    eps: PositiveFloat = Field(1e-8, description="Added to the root of the second moment.")
    embedding_update: Literal["dense", "lazy", "catchup"] = Field(
        "catchup",
        description="dense: every row every step; lazy: touched rows only, skipped steps forgotten; "
        "catchup: touched rows only, equal to dense.",
    )


class TrainConfig(Frozen):
    """One training run."""

    epochs: Repeats = Field(10, description="Most passes over the training clicks.")
    batch_size: Length = Field(4096, description="Rows per step: clicks (paper 5.3), or sessions.")
    context: Literal["rolling", "before_session", "profile", "other_sessions"] = Field(
        "rolling",
        description="History of a training click: the clicks before it; those before its session; the user's other "
        "clicks, before and after; or those of other sessions.",
    )
    rows: Literal["click", "session"] = Field(
        "click",
        description="What the towers are computed for: each click, or the start of each session against all of its "
        "clicks, which needs context before_session or other_sessions.",
    )
    shuffle: Literal["rows", "blocks"] = Field(
        "rows",
        description="Order of an epoch: all rows shuffled; or blocks of users in random order and their rows shuffled "
        "window by window, so that of clicks larger than memory one window is read at a time.",
    )
    block_rows: Length = Field(16_384, description="Consecutive rows, by user, that shuffle blocks keeps together.")
    window_blocks: Length = Field(64, description="Blocks whose rows shuffle blocks mixes; a batch lies in one or two.")
    fit_start: bool = Field(
        False,
        description="Before the first epoch, fit the few numbers of the score that stand beside the vectors to a "
        "sample of the rows: the personal term, the weight of popularity, the factor of the titles.",
    )
    reduction: Literal["mean", "sum"] = Field("mean", description="Over rows and anchors (N12).")
    patience: RepeatsOrNone = Field(
        2, description="Epochs without a better validation metric before stopping; 0 = never."
    )
    metric: str = Field("hit@100", description="Validation metric that stops training and picks the epoch.")
    refit: bool = Field(
        True,
        description="After the best epoch is known, train anew on train + validation that long. If false, items first "
        "clicked in the validation slice are ranked untrained in the test.",
    )
    seed: Seed = Field(0, description="Seeds weights, batch order, negatives and dropouts.")
    device: str = Field("auto", description="auto = CUDA if present, else CPU; or cpu, cuda, cuda:1 …")
    threads: Repeats | None = Field(
        None, description="CPU threads; null: all cores for one model, 1 each for the models of a scenario."
    )
    shard_rows: Length = Field(
        10_000,
        description="Under torchrun, embedding tables of at least so many rows are divided over the processes.",
    )
    bf16: bool = Field(False, description="Autocast the towers to bfloat16.")
    compile: bool = Field(False, description="torch.compile the towers.")
    watch_gradients: RowsOrNone = Field(
        0,
        description="Steps per epoch at which the pull of each item loss on the item embeddings is measured; such a "
        "step costs about two. 0 = none; needs compile false.",
    )

    @field_validator("metric")
    @classmethod
    def _is_a_metric(cls, metric: str) -> str:
        at_n = [*RANK_METRICS, "coverage"]
        if not re.fullmatch(rf"mrr|({'|'.join(map(re.escape, at_n))})@[1-9][0-9]*", metric):
            raise ValueError(f"must be mrr or {', '.join(f'{kind}@N' for kind in at_n)}, such as hit@100")
        return metric

    @model_validator(mode="after")
    def _can_watch(self) -> Self:
        if self.watch_gradients and self.compile:
            raise ValueError("watch_gradients needs compile false, got true: set one of the two")
        return self

    @model_validator(mode="after")
    def _sessions_are_not_read(self) -> Self:
        if self.rows == "session" and self.context not in ("before_session", "other_sessions"):
            raise ValueError(
                f"rows session needs context before_session or other_sessions, got {self.context}: the history of a "
                "row must not hold the clicks that it is to find"
            )
        return self


class EvalConfig(Frozen):
    """The offline protocol (N25, N26)."""

    cutoffs: tuple[Length, ...] = Field((50, 100, 200, 500), description="N of HIT@N, recall@N, coverage@N.")
    history: Literal["frozen", "rolling"] = Field("frozen", description="Histories end at the split, or at each click.")
    users: Literal["known", "all"] = Field("known", description="Users with train clicks, or every test user.")
    candidates: Literal["train", "all"] = Field(
        "train", description="Items clicked in training, or the whole catalogue."
    )
    ties: Literal["mean", "optimistic", "pessimistic"] = Field("mean", description="Rank of a target among equals.")
    seen: Literal["keep", "filter"] = Field("keep", description="Whether items the user has clicked may be retrieved.")
    tail_fraction: Fraction = Field(0.8, description="The least clicked share of items is the tail slice.")
    cold_clicks: RowsOrNone = Field(5, description="Users with at most this many train clicks are the cold slice.")


class Config(Frozen):
    """Everything about one run of one model."""

    preset: Literal["paper", "modern", "best"] = Field("paper", description="Which defaults the rest started from.")
    split: SplitConfig = Field(default_factory=SplitConfig, description="Train, validation, test.")
    sessions: SessionsConfig = Field(default_factory=SessionsConfig, description="Sessions and co-occurrence.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The towers.")
    softmax: SoftmaxConfig = Field(default_factory=SoftmaxConfig, description="The matching loss.")
    contrast: ContrastConfig = Field(default_factory=ContrastConfig, description="The item-contrastive losses.")
    optim: OptimConfig = Field(default_factory=OptimConfig, description="The optimiser.")
    train: TrainConfig = Field(default_factory=TrainConfig, description="The training run.")
    evaluation: EvalConfig = Field(default_factory=EvalConfig, description="The offline protocol.")


def model_label(config: Config) -> str:
    """The base model and the item-contrastive losses that it was trained with: ``ican + feature, session``."""
    losses = ", ".join(config.contrast.on)
    return f"{config.model.name} + {losses}" if losses else config.model.name
