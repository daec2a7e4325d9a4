"""Keys of the item-contrastive losses, each under its name in ``contrast``."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat

from micrec.bounds import Draws, Width
from micrec.frozen import Frozen


class ItemLossConfig(Frozen):
    """Keys of every item loss; a loss has a subclass of its own."""

    weight: NonNegativeFloat = Field(0.0, description="Weight in the joint loss; 0 = off.")


class FormedLossConfig(ItemLossConfig):
    """Keys of the paper's losses: how an item and its positive, or its two views, are made alike."""

    queue_size: Draws = Field(512, description="Keys that are kept as negatives (form momentum).")
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.99,
        description="Share that the encoder of the keys keeps of itself in a step (form momentum); MoCo has .999, for "
        "some hundred thousand steps.",
    )
    redundancy: NonNegativeFloat = Field(
        0.005, description="Weight of the correlations between different numbers (form barlow_twins), lambda there."
    )


FORM = (
    "contrast: against drawn negatives, as in the paper. momentum: against a queue of keys by a slowly moving copy of "
    "the item tower (MoCo, He et al. 2020). barlow_twins: without negatives, by correlations (Zbontar et al. 2021)."
)


class FeatureConfig(FormedLossConfig):
    """The feature-level loss L_fea, Eq. 2-3."""

    weight: NonNegativeFloat = Field(1.0, description="lambda_1 of Eq. 8; 0 = off.")
    form: Literal["contrast", "momentum", "barlow_twins", "pseudo_clicks"] = Field(
        "contrast",
        description=f"{FORM} pseudo_clicks: somebody who has clicked a dropped view of the item alone clicks the item "
        "next, by the model's own scores and softmax over all train items.",
    )
    mask: Literal["element", "field", "categorical", "rfm", "cfm"] = Field(
        "element",
        description="What is dropped (paper 3.3); rfm, cfm: the masks of Yao et al., whose two views share no field.",
    )
    ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.5, description="Share dropped.")
    rescale: bool = Field(True, description="Divide what is kept by 1 - ratio (element dropout, N9).")
    mask_per: Literal["item", "batch"] = Field("item", description="Draw field masks per item or per batch (N9).")
    views: Literal["one", "two"] = Field("one", description="Clean anchor, or two dropped views (N8).")
    apply_on: Literal["input", "tower"] = Field("input", description="MLP_f reads the raw concat, or the tower (N7).")
    negatives: Draws | Literal["all"] = Field(50, description="In-batch negatives per anchor (N10).")
    duplicates: Literal["dedupe", "mask"] = Field("dedupe", description="Repeated items of the batch (N10).")


class SemanticConfig(FormedLossConfig):
    """The semantic-level loss L_sem, Eq. 4, and where its positives come from."""

    weight: NonNegativeFloat = Field(0.3, description="lambda_2 of Eq. 8; 0 = off.")
    form: Literal["contrast", "momentum", "barlow_twins", "pseudo_clicks"] = Field(
        "contrast",
        description=f"{FORM} pseudo_clicks: somebody who has clicked the anchor alone clicks a positive next, by the "
        "model's own scores and softmax over all train items.",
    )
    source: Literal["title", "taxonomy", "content"] = Field(
        "title", description="What makes items similar (paper 3.4)."
    )
    encoder: str = Field(
        "tfidf",
        description="Title encoder: tfidf (TF-IDF + SVD), static (pretrained token vectors, extra [static]), a "
        "sentence-transformers name (extra [bert]), or an .npy file.",
    )
    svd_dim: Width = Field(128, description="Dimensions kept by the TF-IDF encoder.")
    top_k: Draws = Field(10, description="Nearest items that are positives (N14).")
    same_title: Literal["keep", "exclude"] = Field("keep", description="Items with the very same title as positives.")
    num_positives: Draws = Field(1, description="Positives drawn per anchor and step (N14).")
    negatives: Draws = Field(50, description="Random negatives per anchor (N15).")
    anchors: Literal["batch", "uniform"] = Field("batch", description="Clicked items, or uniform ones (N13).")

    @property
    def reads_titles(self) -> bool:
        """Whether the loss is on and takes its positives from encoded titles."""
        return self.weight > 0 and self.source == "title"


class SessionConfig(FormedLossConfig):
    """The session-level loss L_sess, Eq. 5."""

    weight: NonNegativeFloat = Field(0.1, description="lambda_3 of Eq. 8; 0 = off.")
    form: Literal["contrast", "momentum", "barlow_twins", "pseudo_clicks"] = Field(
        "contrast",
        description=f"{FORM} pseudo_clicks: somebody who has clicked the anchor alone clicks a positive next, by the "
        "model's own scores and softmax over all train items.",
    )
    num_positives: Draws = Field(1, description="Positives drawn per anchor and step (N14).")
    negatives: Draws = Field(50, description="Never co-occurred negatives per anchor (N19).")
    anchors: Literal["batch", "uniform"] = Field("batch", description="Clicked items, or uniform ones (N13).")
