"""The three sets of defaults a run may start from; rows of different presets never share a table.

``paper`` reads each silent point of the paper as docs/paper.md lists it. ``modern`` is what did best on validation
clicks of Online Retail (``tests/benchmarks/README.md``): it knows what matrix factorisation knows and the paper's
towers do not: the whole profile of a user, their id, and, by the linear skip, which items they have bought before.

``best`` is not the paper's model: a linear base that starts from EASE, one state per session, and terms beside the dot
product for what repeats, for what a user clicks of a field's values, and for how often an item is going to be clicked.
What differs between logs, how fast popularity drifts, which field tells and how much titles and repeats do, is fitted
to the training clicks.
"""

from micrec.config import Config, ContrastConfig, ModelConfig, OptimConfig, SoftmaxConfig, TrainConfig
from micrec.item_loss_configs import FeatureConfig, SemanticConfig, SessionConfig
from micrec.tower_configs import FismConfig

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

BEST = Config(
    preset="best",
    model=ModelConfig(
        name="fism",
        options=FismConfig(start="ease", title_dim=192, id_gate=30.0, value_gate=30.0, field_scale=0.25),
        history_length=10_000,
        history_dropout=0.1,
        half_life_days=180.0,
        personal=True,
        field_term="auto",
        popularity_half_lives_days=(1.0, 3.0, 7.0, 14.0, 30.0, 90.0),
        popularity_words=True,
    ),
    softmax=SoftmaxConfig(negatives="full"),
    contrast=ContrastConfig(
        feature=FeatureConfig(weight=0.0, form="pseudo_clicks", mask="field"),
        semantic=SemanticConfig(weight=0.0, form="pseudo_clicks", num_positives=5, anchors="uniform"),
        session=SessionConfig(weight=0.0, form="pseudo_clicks", num_positives=5),
        uniform_anchors=32,
        most_anchors=32,
    ),
    optim=OptimConfig(learning_rate=0.004, schedule="linear", eps=1e-5),  # items of few clicks move less
    train=TrainConfig(epochs=5, batch_size=256, rows="session", context="before_session", patience=0, fit_start=True),
)

PRESETS: dict[str, Config] = {"paper": PAPER, "modern": MODERN, "best": BEST}
