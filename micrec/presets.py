"""The two sets of defaults a run may start from; rows of different presets never share a table.

``paper`` reads each silent point of the paper as docs/paper.md lists it. ``modern`` is what did best on validation
clicks of Online Retail (``tests/benchmarks/README.md``): it knows what matrix factorisation knows and the paper's
towers do not: the whole profile of a user, their id, and, by the linear skip, which items they have bought before.
"""

from micrec.config import Config, ContrastConfig, FeatureConfig, ModelConfig, SemanticConfig, SoftmaxConfig, TrainConfig

PAPER = Config()

MODERN = Config(
    preset="modern",
    model=ModelConfig(
        activation="gelu",
        output_activation="linear",
        l2_normalize=True,
        linear_skip=True,
        user_id=True,
        history_length=200,
    ),
    softmax=SoftmaxConfig(negatives="shared", num_negatives=1024, temperature=0.1),
    contrast=ContrastConfig(
        similarity="cosine",
        temperature=0.1,
        feature=FeatureConfig(weight=0.1, apply_on="tower"),
        semantic=SemanticConfig(weight=0.05),
    ),
    train=TrainConfig(batch_size=512, context="profile"),
)

PRESETS: dict[str, Config] = {"paper": PAPER, "modern": MODERN}
