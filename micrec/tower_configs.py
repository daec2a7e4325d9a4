"""Keys that only one base model reads, each class for one tower; they are written under ``model.options``."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from micrec.bounds import Depth, Width
from micrec.frozen import Frozen


class TowerConfig(Frozen):
    """Keys of one base model; a tower that has any has a subclass of its own."""

    def contradictions(self, embedding_dim: int) -> Iterator[str]:
        """Rules between keys that are broken, each as a sentence that begins with the key.

        Args:
            embedding_dim: The width of all embeddings, ``model.embedding_dim``.
        """
        yield from ()


class AttentionConfig(TowerConfig):
    """Keys of a tower of attention layers."""

    layers: Depth = Field(description="Attention layers.")
    heads: Depth = Field(description="Attention heads; they divide embedding_dim.")

    def contradictions(self, embedding_dim: int) -> Iterator[str]:
        if embedding_dim % self.heads:
            divisors = ", ".join(str(n) for n in range(1, embedding_dim + 1) if embedding_dim % n == 0)
            yield f"heads must divide embedding_dim {embedding_dim}, got {self.heads}: use one of {divisors}"


class IcanConfig(AttentionConfig):
    """Keys of ICAN."""

    layers: Depth = Field(1, description="Attention layers.")
    heads: Depth = Field(8, description="Attention heads; they divide embedding_dim.")
    block: Literal["transformer", "ican_attn"] = Field(
        "transformer", description="MHSA + residual + LayerNorm + FFN, or the attention of ICAN's code (N6)."
    )
    behaviour_tokens: Literal["field", "sequence"] = Field(
        "field", description="Rows of F^b (N5): one pooled token per item field, or one per click."
    )
    positions: bool = Field(False, description="Learned positions of the clicks; needs behaviour_tokens sequence.")

    def contradictions(self, embedding_dim: int) -> Iterator[str]:
        yield from super().contradictions(embedding_dim)
        if self.positions and self.behaviour_tokens != "sequence":
            yield "positions need behaviour_tokens sequence, got field: set that, or positions to false"


class FactorizationMachineConfig(TowerConfig):
    """Keys of the factorization machine."""

    item_terms: bool = Field(False, description="Append item bias and intra-item pairs (N22).")


class AutoIntConfig(AttentionConfig):
    """Keys of AutoInt."""

    layers: Depth = Field(2, description="Attention layers.")
    heads: Depth = Field(8, description="Attention heads; they divide embedding_dim.")
    dnn: bool = Field(False, description="AutoInt+: a DNN beside the attention (N23).")


class AfnConfig(TowerConfig):
    """Keys of AFN."""

    neurons: Width = Field(64, description="Logarithmic neurons of each tower, embedding_dim numbers each.")
    batch_norm: bool = Field(True, description="Batch normalisation after the logarithm and after the exponential.")
    dnn: bool = Field(False, description="AFN+: a DNN beside the neurons.")

    def contradictions(self, embedding_dim: int) -> Iterator[str]:
        if self.batch_norm and embedding_dim == 1:
            yield "batch_norm needs embedding_dim of at least 2, got 1: set batch_norm to false"


class SequenceConfig(AttentionConfig):
    """Keys of a tower that attends over the clicks in their order."""

    layers: Depth = Field(2, description="Attention layers.")
    positions: bool = Field(True, description="Learned positions of the clicks.")


class SasRecConfig(SequenceConfig):
    """Keys of SASRec."""

    heads: Depth = Field(1, description="Attention heads; they divide embedding_dim.")


class EsasRecConfig(SequenceConfig):
    """Keys of eSASRec."""

    layers: Depth = Field(4, description="Attention layers.")
    heads: Depth = Field(8, description="Attention heads; they divide embedding_dim.")
    widening: Depth = Field(4, description="Hidden width of the feed-forward part, in multiples of embedding_dim.")


class Bert4RecConfig(SequenceConfig):
    """Keys of BERT4Rec."""

    heads: Depth = Field(2, description="Attention heads; they divide embedding_dim.")


class MultiInterestConfig(TowerConfig):
    """Keys of a tower with several vectors per user, as ComiRec has them."""

    interests: Depth = Field(4, description="User vectors, of which the best one scores an item.")
    adaptive_interests: bool = Field(
        False, description="Users have only log2 of their clicks many interests, at least 1."
    )
    label_attention_power: float = Field(
        float("inf"),
        ge=1.0,
        allow_inf_nan=True,
        description="p of the training's attention to the interests by their score of the clicked item; .inf = the "
        "best alone.",
    )


class ComiRecDRConfig(MultiInterestConfig):
    """Keys of ComiRec-DR."""

    routing_iterations: Depth = Field(3, description="Rounds of dynamic routing.")


class MindConfig(ComiRecDRConfig):
    """Keys of MIND."""

    adaptive_interests: bool = Field(
        True, description="Users have only log2 of their clicks many interests, at least 1."
    )
    label_attention_power: float = Field(
        1.0,
        ge=1.0,
        allow_inf_nan=True,
        description="p of the training's attention to the interests by their score of the clicked item; .inf = the "
        "best alone.",
    )


class ComiRecSAConfig(MultiInterestConfig):
    """Keys of ComiRec-SA."""

    interest_hidden: Width | None = Field(
        None, description="Hidden width of the self-attention; null: 4 embedding_dim, as in its code."
    )
    positions: bool = Field(True, description="Learned positions of the clicks.")


class LightGcnConfig(TowerConfig):
    """Keys of LightGCN."""

    layers: Depth = Field(3, description="Steps over the graph of users and items; layers 0 to this one are averaged.")


class FismConfig(TowerConfig):
    """Keys of FISM."""

    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.5, description="A history of n items is divided by n ** alpha, more exactly by (sum of squares) ** alpha."
    )
    start: Literal["random", "ease"] = Field(
        "random",
        description="random, or the largest factors of EASE's item-item matrix for the 5,000 items of most clicks.",
    )
    ease_lambda: PositiveFloat = Field(500.0, description="Ridge of that EASE.")
    ease_scale: PositiveFloat = Field(5.0, description="Factor of both of its item vectors.")
    id_gate: NonNegativeFloat = Field(
        0.0, description="An item's id vectors count n / (n + id_gate), n being its training clicks; 0 = in full."
    )
    value_gate: NonNegativeFloat = Field(
        0.0,
        description="The vectors of a value of any other field, of items or users, count n / (n + value_gate), n being "
        "the training clicks on items, or by users, that have it; so do users' ids. 0 = in full.",
    )
    field_scale: PositiveFloat = Field(1.0, description="What each of these fields counts where an id counts 1.")
    title_dim: Annotated[int, Field(ge=0, le=16_384)] = Field(
        0,
        description="Fixed numbers of its title that stand beside the embedding of every item: a factor of the "
        "squared-cosine kernel of TF-IDF titles; 0 = none.",
    )
    title_scale: PositiveFloat = Field(1.0, description="Where the learned factor of the title vectors starts.")
