"""MIND and ComiRec: K vectors per user, one for each interest; the score is the highest of their dot products."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from micrec.losses.label_attention import label_attention
from micrec.models.click_sequences import by_length, click_vectors, pad_clicks, worth_cutting
from micrec.models.columns import Ragged
from micrec.models.routing import route
from micrec.models.two_tower import TwoTower
from micrec.tower_configs import ComiRecDRConfig, ComiRecSAConfig, MultiInterestConfig

HIDDEN_PER_DIM = 4  # width of ComiRec-SA's hidden layer over D, as in its code


class MultiInterest(TwoTower):
    """Interests from the clicks, each joined with the user fields, through one 3-layer MLP.

    Clicks are the means of their items' field vectors, as in the sequence towers. An interest that a short history
    does not have is a copy of the first, which changes no maximum, and is left out of the training's attention.
    """

    options: MultiInterestConfig

    @property
    def interests(self) -> int:
        return self.options.interests

    def build_user_tower(self) -> None:
        width = self.config.embedding_dim + self.user_fields.width
        self.user_mlp = self.tower_mlp(width, dropout=self.config.dropout)
        self.build_extraction()

    @abstractmethod
    def build_extraction(self) -> None:
        """Create what ``extract`` needs."""

    @abstractmethod
    def extract(self, clicks: Tensor, mask: Tensor, allowed: Tensor | None) -> Tensor:
        """Interests (B, K, D) of padded clicks (B, T, D), newest last; ``mask`` (B, T), ``allowed`` (B, K)."""

    def encode_user(self, user_fields: Tensor, history: Ragged, item_fields: Tensor) -> Tensor:
        vectors = click_vectors(item_fields)

        def interests_of(clicks: Ragged, length: int) -> Tensor:
            return self.extract(*pad_clicks(clicks, vectors, length), self.existing(clicks))

        length = self.config.history_length
        cut = self.training and worth_cutting(history)
        capsules = by_length(history, length, interests_of) if cut else interests_of(history, length)  # (B, K, D)
        allowed = self.existing(history)
        profile = user_fields.flatten(1).unsqueeze(1).expand(-1, capsules.shape[1], -1)
        interests: Tensor = self.user_mlp(torch.cat([capsules, profile], dim=2))
        return interests if allowed is None else torch.where(allowed.unsqueeze(2), interests, interests[:, :1])

    def existing(self, history: Ragged) -> Tensor | None:
        """Which of the K interests a user has, bool, shape (B, K); None = all: max(1, min(K, log2 of their clicks))."""
        if not self.options.adaptive_interests:
            return None
        lengths = history.lengths
        number = torch.arange(1, self.interests + 1, device=lengths.device)
        least = torch.where(number > 1, 2**number, 0)  # clicks for each interest
        return lengths[:, None] >= least

    def readout(self, user_emb: Tensor, target_emb: Tensor, history: Ragged) -> Tensor:
        power = self.options.label_attention_power
        return label_attention(user_emb, target_emb, power=power, allowed=self.existing(history))


class RoutedInterests(MultiInterest):
    """Capsules by dynamic routing."""

    options: ComiRecDRConfig
    one_map = False
    logits: Tensor  # (K, T), where routing starts

    def build_extraction(self) -> None:
        dim = self.config.embedding_dim
        self.maps = nn.Parameter(torch.zeros(1 if self.one_map else self.interests, dim, dim))
        self.register_buffer("logits", torch.zeros(self.interests, self.config.history_length))

    def draw_start(self, generator: torch.Generator) -> None:
        for bilinear in self.maps:
            nn.init.xavier_uniform_(bilinear, generator=generator)

    def extract(self, clicks: Tensor, mask: Tensor, allowed: Tensor | None) -> Tensor:
        logits = self.logits[:, -clicks.shape[1] :]
        return route(clicks, mask, self.maps, logits, allowed, self.options.routing_iterations)


class Mind(RoutedInterests):
    """Dynamic routing with one map S for all interests, told apart by random start logits (Li et al. 2019).

    The logits are drawn once, for each interest and place in the history, and belong to the model; drawn anew for
    every user, as in the paper, they would answer one request in many ways.
    """

    one_map = True

    def draw_start(self, generator: torch.Generator) -> None:
        super().draw_start(generator)
        nn.init.normal_(self.logits, generator=generator)


class ComiRecDR(RoutedInterests):
    """Dynamic routing from equal logits, with a map for each interest (Cen et al. 2020).

    The paper's maps differ by place in the history too; these do not, so that a click counts alike wherever it stands.
    """


class ComiRecSA(MultiInterest):
    """Self-attention: softmax over the clicks of W2 tanh(W1 (e + position)), a row for each interest (Cen et al. 2020).

    A user without clicks has K times the interest that the MLP makes of their fields alone, as in all models here.
    """

    options: ComiRecSAConfig

    def build_extraction(self) -> None:
        config, options, dim = self.config, self.options, self.config.embedding_dim
        self.positions = nn.Parameter(torch.zeros(config.history_length, dim)) if options.positions else None
        self.hidden = nn.Linear(dim, options.interest_hidden or HIDDEN_PER_DIM * dim, bias=False)
        self.scores = nn.Linear(self.hidden.out_features, self.interests, bias=False)

    def draw_start(self, generator: torch.Generator) -> None:
        if self.positions is not None:
            nn.init.normal_(self.positions, std=0.02, generator=generator)

    def extract(self, clicks: Tensor, mask: Tensor, allowed: Tensor | None) -> Tensor:
        placed = clicks if self.positions is None else clicks + self.positions[-clicks.shape[1] :]
        scores = self.scores(torch.tanh(self.hidden(placed))).transpose(1, 2)  # (B, K, T)
        real = mask | ~mask.any(dim=1, keepdim=True)  # without clicks: over the zero vectors
        return torch.softmax(scores.masked_fill(~real.unsqueeze(1), -torch.inf), dim=2) @ clicks
