"""The two sets of defaults a run may start from; rows of different presets never share a table."""

from micrec.config import Config, ContrastConfig, ModelConfig, SoftmaxConfig

PAPER = Config()

MODERN = Config(
    preset="modern",
    model=ModelConfig(activation="gelu", output_activation="linear", l2_normalize=True),
    softmax=SoftmaxConfig(negatives="shared", num_negatives=512, logq="standard", temperature=0.1),
    contrast=ContrastConfig(similarity="cosine", temperature=0.1),
)

PRESETS: dict[str, Config] = {"paper": PAPER, "modern": MODERN}
