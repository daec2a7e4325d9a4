"""Training a two-tower model with the joint loss of Eq. 8: one step, one epoch, one run."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from micrec.checkpoint import flatten_state, pack_rng, restore_rng, tensor_bytes, unflatten_state
from micrec.config import Config
from micrec.contrast import STREAMS as CONTRAST_STREAMS
from micrec.contrast import ItemContrast
from micrec.data.dataset import Clicks, Dataset
from micrec.data.popularity_forecast import ForecastPopularity
from micrec.epoch_order import EpochOrder, epoch_order
from micrec.errors import MicrecError
from micrec.gradients import gradient_stats, mean_of
from micrec.matching import MatchingLoss
from micrec.models import make_model
from micrec.models.columns import Ragged
from micrec.models.counted import count_items
from micrec.models.layers import SeededDropout
from micrec.models.pool import ItemIndex, ItemPool
from micrec.models.score_terms import ScoreTerms
from micrec.models.start import StartValues
from micrec.models.two_tower import TwoTower
from micrec.optim import RowSparseAdam
from micrec.optim.adam import most_dense_numbers
from micrec.progress import Progress
from micrec.shapes import fixed_shapes
from micrec.sharded.batch_share import GradientExchange, share_of
from micrec.sharded.rank_group import RankGroup, present
from micrec.sharded.sharded_table import divide_tables, divided_tables
from micrec.sharded.support import check_modules
from micrec.sharded.whole_state import gather_whole, give_out
from micrec.sources import contrast_sources
from micrec.start_fit import MOST_SCORES, ScoreParts, minimise
from micrec.train_data import Batch, TrainData, drop_clicks, load_train_data

AfterStep: TypeAlias = Callable[[int, list[str], Tensor], None]
"""Told steps of all epochs from 1, the names of the losses and their weighted values, (L,); on a GPU every 50th."""

START_ROWS = 1_024  # of the fit before the first epoch
CHECK_EVERY = 50  # steps between looks at the loss; a look waits for the GPU
_NAMED = 1_000  # of the streams that are told apart by names; numbers below it are those of the fixed purposes


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU.

    Raises:
        MicrecError: If the device does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as fault:
        raise MicrecError(f"train.device: cannot use {name!r} here ({fault}): use auto or cpu.") from fault
    return device


def stream(seed: int, *purpose: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Independent random stream for one purpose of one seed."""
    state = np.random.SeedSequence([seed, *purpose]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state >> np.uint64(1)))


def named_stream(seed: int, *purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Independent random stream for a purpose in words: what else there is does not move it."""
    return stream(seed, _NAMED, *"\0".join(purpose).encode(), device=device)


@dataclass
class EpochLog:
    """What one epoch did."""

    epoch: int
    samples: int
    seconds: float
    losses: dict[str, float]
    metric: float | None = None
    gradients: dict[str, float] | None = None  # means over the watched steps, see micrec.gradients

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Trainer:
    """Model, losses, optimiser and random streams of one run on one set of clicks.

    Streams are keyed by purpose, so that two arms with one seed share initial weights, batch order and softmax
    negatives, whatever contrastive losses they add.

    Of several processes (``group``, by default those that this one has joined) each has a trainer. All of them call
    what trains, copies or puts back state, which is whole in the first and empty in the others.
    """

    def __init__(
        self,
        dataset: Dataset,
        train: Clicks,
        config: Config,
        *,
        progress: Progress | None = None,
        group: RankGroup | None = None,
        fixed: bool | None = None,
    ) -> None:
        """Make everything ready for the first step.

        Args:
            dataset: Users and items.
            train: The clicks to train on.
            config: Everything else.
            progress: Where to report.
            group: The processes that train together; None: those that torchrun started.
            fixed: Whether shapes are fixed beforehand (``micrec.shapes``); None: on a GPU of one process,
                unless the model's normalisation counts the items of a step.
        """
        self.config = config
        self.group = present() if group is None else group
        self.planned_epochs = config.train.epochs  # the learning rate of a linear schedule is zero after them
        self.device = resolve_device(config.train.device)
        seed = config.train.seed
        self.data: TrainData = load_train_data(dataset, train, config, self.device, progress)
        self.model = make_model(
            config.model,
            self.data.fields.user_specs,
            self.data.fields.item_specs,
            sparse=config.optim.embedding_update != "dense",
            generator=stream(seed, 0),
        ).to(self.device)
        if config.contrast.feature.weight:
            self.model.sums_fields = False  # its views hide some of them
        values = self._start_values()
        self.model.start_from(values)
        self._divide_tables()
        may = self.device.type != "cpu" and self.group.alone and not self.model.normalises_items
        self.fixed = may if fixed is None else fixed
        self.contrast = ItemContrast(
            config.contrast,
            self.model,
            contrast_sources(dataset, train, config, progress).on(self.device, self.data),
            generator=stream(seed, 1),
            named=lambda name: named_stream(seed, "start", name),
        ).to(self.device)
        self.matching = MatchingLoss(config.softmax, self.data, reduction=config.train.reduction)
        self.optimizer = RowSparseAdam.for_modules(self.model, self.contrast, config=config.optim)
        self._exchange = GradientExchange(self.group, (self.model, self.contrast))
        self.index = ItemIndex(self.data.n_items, self.device)
        self.generators = {
            name: stream(seed, 2 + i, device=self.device)
            for i, name in enumerate(("negatives", "noise", "context", *CONTRAST_STREAMS))
        }
        self.generators |= {
            name: named_stream(seed, "steps", name, device=self.device)
            for name in self.contrast.names
            if name not in self.generators
        }
        self.model.noise, self.model.bf16 = self.generators["noise"], config.train.bf16
        for module in self.model.modules():
            if isinstance(module, SeededDropout):
                module.generator = self.generators["noise"]
        if config.train.compile:
            self.model.encode_item = torch.compile(self.model.encode_item, dynamic=True)  # type: ignore[method-assign]
            self.model.encode_user = torch.compile(self.model.encode_user, dynamic=True)  # type: ignore[method-assign]
        self.after_step: AfterStep | None = None
        self._rows = self.data.rows(config.train.rows)
        self.epochs_done = 0
        if config.train.fit_start:
            self._fit_start()
        self.model.start_vectors(values)
        self._share_start()

    def _divide_tables(self) -> None:
        """Of several processes, each keeps its rows of the large tables."""
        if self.group.alone:
            return
        check_modules(self.model)
        train, optim = self.config.train, self.config.optim
        least_rows = 0 if optim.embedding_update == "lazy" else train.shard_rows  # lazy: no table has a dense gradient
        most = most_dense_numbers(self.device)
        divide_tables(self.model, self.group, least_rows=least_rows, most_numbers=most)

    def _share_start(self) -> None:
        """Every process begins with the numbers of the first, also where another processor rounds differently."""
        divided = divided_tables(self.model)
        whole = [tensor for name, tensor in self.model.state_dict().items() if name not in divided]
        self.group.copy_first([*whole, *self.contrast.state_dict().values()])

    def _fit_start(self) -> None:
        """Fit the numbers that stand beside the vectors to the last rows of users, by L-BFGS on the matching loss.

        Of their rows the last one has the history that is nearest to what lists will be made from.
        """
        numbers = self.model.score_numbers()
        users = self.data.users[self._rows]
        rows = self._rows[torch.cat([users[1:] != users[:-1], users.new_ones(1, dtype=torch.bool)])]
        rows = rows[torch.linspace(0, len(rows) - 1, min(START_ROWS, len(rows))).long()]
        if not numbers or not len(rows):
            return
        states = {name: generator.get_state() for name, generator in self.generators.items()}

        def as_before() -> None:
            for name, state in states.items():
                self.generators[name].set_state(state)

        def loss_of_rows() -> Tensor:
            """The loss with its gradient by the numbers alone; every call draws the same."""
            as_before()
            total = torch.zeros((), device=self.device)
            sums = [torch.zeros_like(number) for number in numbers]
            for part in rows.split(self.config.train.batch_size):
                loss = self.losses(part)["matching"] * (len(part) / len(rows))
                for known, grad in zip(sums, torch.autograd.grad(loss, numbers, allow_unused=True), strict=True):
                    known += 0.0 if grad is None else grad
                total += loss.detach()
            self.group.copy_first([total, *sums])  # so that all take the same steps
            for number, known in zip(numbers, sums, strict=True):
                number.grad = known
            return total

        self.model.eval()
        parts = self._score_parts(rows)
        minimise(numbers, loss_of_rows if parts is None else parts.loss_and_gradient)
        as_before()

    @torch.no_grad()
    def _score_parts(self, positions: Tensor) -> ScoreParts | None:
        """What the scores of rows with all items to be found among are made of; None where it is too much, or drawn."""
        model, data, softmax = self.model, self.data, self.config.softmax
        whole = softmax.negatives == "full" and softmax.denominator == "with_positive"
        if not whole or model.interests is not None or model.config.l2_normalize:
            return None
        catalogue = data.catalogue
        if len(positions) * len(catalogue) > MOST_SCORES or self.config.train.reduction != "mean":
            return None
        batch = data.batch(positions, self.config.train.rows)
        clicks = data.clicks_before(positions, self.config, self.generators["context"])
        counted = count_items(clicks, data.n_items)
        history = counted if model.counts_clicks else clicks
        pool = ItemPool(model, data.fields.items, self.index, [catalogue], history)
        user_emb = model.user_tower(data.fields.users.take(batch.tower_users), pool.history, pool.all_fields).float()
        dim, item_emb = model.encoding_dim, pool.embeddings(catalogue)
        block = model.scaled_block()
        scaled = None
        if block is not None:
            number, places = block
            scaled = user_emb[:, places] @ (item_emb[:, places] / number).T
            user_emb[:, places] = 0.0
        fixed = user_emb[:, :dim] @ item_emb[:, :dim].T
        if pool.biases is not None:
            fixed += pool.biases(catalogue)
        drifts = model.prior is not None and model.prior.drift is not None
        popularity = data.popularity.grid(data.days(positions), catalogue) if drifts and data.popularity else None
        place = data.catalogue_place
        own = counted.keep(place[counted.values] >= 0)
        rows = torch.arange(len(positions), device=self.device) if batch.rows is None else batch.rows
        codes = None
        if model.field_term is not None:
            codes = model.field_term.codes(data.fields.items.take(catalogue), model.field_dim)
        return ScoreParts(
            model=model,
            fixed=fixed,
            scaled=scaled,
            popularity=popularity,
            counted=own._replace(values=place[own.values]) if model.personal is not None else None,
            history=own._replace(values=place[own.values]) if model.field_term is not None else None,
            codes=codes,
            rows=rows,
            columns=place[batch.targets],
            temperature=softmax.temperature,
        )

    def _start_values(self) -> StartValues:
        data = self.data
        popularity = data.popularity
        return StartValues(
            users=data.users,
            items=data.items,
            item_clicks=data.click_counts,
            n_users=len(data.first) - 1,
            temperature=self.config.softmax.temperature,
            forecast=popularity.forecast if isinstance(popularity, ForecastPopularity) else None,
            item_columns=data.fields.items,
            user_columns=data.fields.users,
        )

    # -- one step ------------------------------------------------------------------------------------------------

    def losses(self, positions: Tensor, n_clicks: int | None = None, *, divided: bool = False) -> dict[str, Tensor]:
        """The weighted losses of Eq. 8 for the samples at ``positions``, shape (B,), each of shape ().

        If they are ``divided`` over the processes, only what is this one's share of each, to be summed over all. A GPU
        waits unless ``n_clicks``, how many clicks the rows have to find, is given where rows are sessions.
        """
        with fixed_shapes(self.fixed):
            return self._losses(positions, n_clicks, divided)

    def _losses(self, positions: Tensor, n_clicks: int | None, divided: bool) -> dict[str, Tensor]:
        data, model = self.data, self.model
        batch = data.batch(positions, self.config.train.rows, n_clicks)
        history_of: Callable[..., Any] = data.padded_before if self.fixed else data.clicks_before
        clicks = history_of(positions, self.config, self.generators["context"])
        counted = count_items(clicks, data.n_items) if model.counts_clicks or model.personal is not None else None
        if model.counts_clicks and counted is not None:
            history = counted  # the tower hides clicks itself
        else:
            history = drop_clicks(clicks, self.config.model.history_dropout, self.generators["context"])
        negatives = self.matching.draw(batch, self.generators["negatives"])
        draw = None
        if self.contrast.active:
            shared = negatives.items if self.config.softmax.negatives == "shared" else None
            draw = self.contrast.draw(batch.targets, self.generators, shared)
        share = share_of(batch, self.group, self.config.train.reduction) if divided else None
        if share is not None:
            own = torch.arange(share.rows.start, share.rows.stop, device=self.device)
            model.noise_range = (*history.offsets[own[[0, -1]] + own.new_tensor([0, 1])].tolist(), len(history.values))
            positions, batch, negatives = positions[share.rows], batch.part(*share[:2]), negatives.part(share.clicks)
            history, counted = history.take(own), None if counted is None else counted.take(own)
            draw = None if draw is None else self.contrast.part(draw, self.group.rank, self.group.size)
        tower = [batch.targets, negatives.items]
        if draw is not None:
            tower += draw.further_ids() if self.fixed else draw.item_ids()
        pool = ItemPool(model, data.fields.items, self.index, tower, history)
        users = data.fields.users
        users = users.take_padded(batch.tower_users) if self.fixed else users.take(batch.tower_users)
        user_emb = model.user_tower(users, pool.history, pool.all_fields)
        model.noise_range = None
        batch = batch._replace(terms=self._terms(positions, counted, pool))
        user_emb, batch = self._read_out(user_emb, batch, pool)
        matching = self.matching(user_emb, batch, negatives, pool)
        losses = {"matching": matching if share is None else matching * share.weight}
        if draw is not None:
            losses |= self.contrast(draw, pool, model, self.generators)
        return losses

    def _terms(self, positions: Tensor, counted: Ragged | None, pool: ItemPool) -> ScoreTerms | None:
        """What the scores of a step hold beside the dot product; None where the model has nothing of the kind."""
        model, data = self.model, self.data
        if model.personal is None and model.prior is None:
            return None
        own = None
        if model.personal is not None and counted is not None and counted.weights is not None:
            own = counted._replace(weights=model.personal(counted.weights))
        drift = None if model.prior is None else model.prior.drift
        return ScoreTerms(
            n_items=data.n_items,
            counted=own,
            biases=pool.biases,
            drift=drift,
            popularity=data.popularity,
            days=None if drift is None else data.days(positions),
        )

    def _read_out(self, user_emb: Tensor, batch: Batch, pool: ItemPool) -> tuple[Tensor, Batch]:
        """One vector per row, (B, D); of several interests one per click, since each click meets its own."""
        history = pool.history
        if self.model.interests is not None and batch.rows is not None:
            user_emb, history, batch = user_emb[batch.rows], history.take(batch.rows), batch.by_click()
        if not self.model.reads_targets:
            return user_emb, batch
        return self.model.readout(user_emb, pool.embeddings(batch.targets), history), batch

    def step(
        self, positions: Tensor, n_clicks: int | None = None, *, watch: list[dict[str, float]] | None = None
    ) -> Tensor:
        """One optimiser step; the losses as one detached tensor, in the order of ``loss_names``.

        Into ``watch`` goes how hard each item loss pulls (``micrec.gradients``); the step stays the same to the bit.
        ``n_clicks`` is as of ``losses``.
        """
        self.optimizer.zero_grad()
        self._exchange.begin()
        losses = self.losses(positions, n_clicks, divided=not self.group.alone)
        if watch is not None:
            watch.append(gradient_stats(losses, [table.weight for table in self.model.item_fields.tables.values()]))  # type: ignore[misc]
        with fixed_shapes(self.fixed):
            torch.stack(list(losses.values())).sum().backward()
            found = self._exchange.finish(torch.stack([loss.detach() for loss in losses.values()]))
            self.optimizer.step()
        return found

    @property
    def loss_names(self) -> list[str]:
        """Names of the losses that are on."""
        return ["matching", *self.contrast.names]

    # -- one epoch -----------------------------------------------------------------------------------------------

    def order(self, epoch: int) -> EpochOrder:
        """Rows of an epoch in their order, from (seed, epoch) alone, by the positions of their first clicks."""
        return epoch_order(self._rows, self.data, self.config.train, stream(self.config.train.seed, 100, epoch))

    def clicks_of_batches(self, order: EpochOrder) -> Sequence[int | None]:
        """Clicks to find in each batch of an order of sessions, so that no step waits for it; None where none would."""
        size = self.config.train.batch_size
        starts = range(0, len(order), size)
        if self.config.train.rows == "click" or not self.fixed:
            return [None] * len(starts)
        counts: list[int] = torch.stack([self.data.clicks_of(order[at : at + size]).sum() for at in starts]).tolist()
        return counts

    def epoch(self, progress: Progress, *, label: str = "train") -> EpochLog:
        """One pass over the training clicks.

        Raises:
            MicrecError: If a loss is not finite; the message names epoch, step and loss.
        """
        number = self.epochs_done + 1
        self.model.train()
        self.contrast.train()
        size = self.config.train.batch_size
        order = self.order(number)
        names = self.loss_names
        total = torch.zeros(len(names), dtype=torch.float64, device=self.device)
        first_bad = torch.full((len(names),), -1, dtype=torch.int64, device=self.device)
        started_s = time.perf_counter()
        progress.start(f"{label} epoch {number}", len(order), "samples")
        steps = -(-len(order) // size)
        watched: list[dict[str, float]] = []
        n_clicks = self.clicks_of_batches(order)
        watch_at = watched_steps(steps, self.config.train.watch_gradients if self.contrast.active else 0)
        for step in range(steps):
            self._set_learning_rate((self.epochs_done + step / steps) / self.planned_epochs)
            positions = order[step * size : (step + 1) * size]
            losses = self.step(positions, n_clicks[step], watch=watched if step in watch_at else None)
            total += losses.double() * len(positions)
            bad = ~torch.isfinite(losses) & (first_bad < 0)
            first_bad = torch.where(bad, step + 1, first_bad)
            if self.device.type == "cpu" or (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:
                self._stop_if_bad(first_bad, names, number, steps)
                if self.after_step is not None:
                    self.after_step(self.epochs_done * steps + step + 1, names, losses)
                progress.advance(len(positions) if self.device.type == "cpu" else size * CHECK_EVERY)
        self.optimizer.flush()
        seconds = time.perf_counter() - started_s
        means = dict(zip(names, (total / len(order)).tolist(), strict=True))
        progress.finish(" ".join(f"{name} {value:.4f}" for name, value in means.items()))
        self.epochs_done = number
        return EpochLog(number, len(order), seconds, means, gradients=mean_of(watched) if watched else None)

    def _set_learning_rate(self, done: float) -> None:
        """The rate after a share ``done`` of the planned epochs."""
        optim = self.config.optim
        rate = optim.learning_rate * (max(0.0, 1.0 - done) if optim.schedule == "linear" else 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _stop_if_bad(self, first_bad: Tensor, names: list[str], epoch: int, steps: int) -> None:
        worst = first_bad.tolist()
        for name, step in zip(names, worst, strict=True):
            if step >= 0:
                raise MicrecError(
                    f"training: the {name} loss is not finite in epoch {epoch}, step {step} of {steps}: lower "
                    "optim.learning_rate, use output_activation tanh or l2_normalize, or denominator with_positive."
                )

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def parameter_bytes(self) -> int:
        """What the parameters take in a file, divided tables as a whole."""
        parts = (*self.model.parameters(), *self.contrast.parameters())
        tables = divided_tables(self.model).values()
        return tensor_bytes(parts) + sum(4 * table.numbers - tensor_bytes([table.weight]) for table in tables)

    def parameters(self) -> dict[str, Tensor]:
        """A copy of the model's and the projectors' parameters, on the CPU."""
        self.optimizer.flush()
        return gather_whole(self._parameters(), self._divided(), self.group)

    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what ``parameters`` returned."""
        self._load_own(give_out(tensors, None, self._divided(), self.group)[0])

    def whole_model(self) -> TwoTower:
        """The model, ready for use; of several processes that of the first is a plain one with all rows."""
        self.model.eval()
        if self.group.alone:
            return self.model
        parameters = self.parameters()
        if not self.group.is_first:
            return self.model
        fields, nothing = self.data.fields, torch.Generator().manual_seed(0)
        model = make_model(self.config.model, fields.user_specs, fields.item_specs, sparse=False, generator=nothing)
        model.load_state_dict({k.removeprefix("model."): v for k, v in parameters.items() if k.startswith("model.")})
        return model.to(self.device).eval()

    def _parameters(self) -> dict[str, Tensor]:
        return {
            f"{part}.{name}": tensor
            for part, module in (("model", self.model), ("contrast", self.contrast))
            for name, tensor in module.state_dict().items()
        }

    def _divided(self) -> dict[str, int]:
        """Rows of the divided tables by the names that ``parameters`` gives them."""
        return {f"model.{name}": table.rows for name, table in divided_tables(self.model).items()}

    def _state_divided(self) -> dict[str, int]:
        """The same by the names of ``snapshot``, with the optimiser's moments."""
        rows = {table.weight: table.rows for table in divided_tables(self.model).values()}
        moments = {f"optimizer.{name}": rows[one] for name, one in self.optimizer.moments().items() if one in rows}
        return {f"parameters.{name}": count for name, count in self._divided().items()} | moments

    def _load_own(self, tensors: Mapping[str, Tensor]) -> None:
        for part, module in (("model", self.model), ("contrast", self.contrast)):
            prefix = f"{part}."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})

    def snapshot(self) -> tuple[dict[str, Tensor], Any]:
        """Everything a resumed run needs besides the epoch number, as named tensors and a JSON skeleton."""
        self.optimizer.flush()
        parameters = self.parameters() if self.group.alone else self._parameters()
        tensors, skeleton = flatten_state(
            {"parameters": parameters, "optimizer": self.optimizer.state_dict(), "rng": pack_rng(self.generators)}
        )
        if self.group.alone:
            return tensors, skeleton
        return gather_whole(tensors, self._state_divided(), self.group), skeleton

    def restore(self, tensors: Mapping[str, Tensor], skeleton: Any, *, epoch: int) -> None:
        """Put back what ``snapshot`` returned after ``epoch`` epochs."""
        state = unflatten_state(*give_out(tensors, skeleton, self._state_divided(), self.group))
        self._load_own(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        restore_rng(self.generators, state["rng"])
        self.epochs_done = epoch


def watched_steps(steps: int, wanted: int) -> set[int]:
    """Evenly spaced steps of an epoch, the first and the last among them; at most ``wanted``."""
    return set(np.linspace(0, steps - 1, min(wanted, steps)).astype(int).tolist())
