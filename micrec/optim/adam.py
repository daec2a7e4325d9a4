"""Adam for two-tower models: fused for dense parameters, row-sparse for embedding tables."""

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from micrec.config import OptimConfig
from micrec.models.table import EmbeddingTable
from micrec.optim.rows import FUSED_DEVICES, AdamStep, Rows, decay_rows, merge_rows, move_rows, step_rows
from micrec.optim.skipped import SkippedSteps
from micrec.shapes import is_fixed

NEVER = 2**31 - 1  # stamp of a row that was never touched: always up to date
FLUSHED_ROWS = 1 << 16  # at a time where every row is looked at
DENSE_NUMBERS = {"cpu": 2**22, "cuda": 2**26}  # tables up to size * D are swept whole in catchup mode


class RowSparseAdam:
    """Adam (Kingma & Ba, arXiv 1412.6980, Algorithm 1) whose cost follows the rows touched, not the table sizes.

    Tables with dense gradients, and all other parameters, go through PyTorch's fused Adam. Tables with sparse
    gradients are updated as ``embedding_update`` says:

    - ``catchup``: equal to dense Adam within float tolerance. Before a row is read in training, the steps that it
      skipped are made up for in closed form (``micrec.optim.skipped``). Call ``flush`` before weights are read
      outside training. A table without gradient counts as one whose gradient is zero. Tables of at most
      ``dense_numbers`` numbers are switched to dense gradients: the same result, sooner.
    - ``lazy``: touched rows only, moments left as they were (LazyAdam of TensorFlow Addons). Not Adam: while nothing
      touches a row, its momentum neither moves it nor fades.
    - ``dense``: no table may have sparse gradients.

    Learning rates may be scheduled through ``param_groups``: the dense parameters are group 0, the tables group 1.

    It is no ``torch.optim.Optimizer``: the first of these that is made imports PyTorch's compiler, which takes two
    seconds and nothing here needs.
    """

    def __init__(
        self,
        dense_params: Iterable[nn.Parameter],
        tables: Iterable[EmbeddingTable],
        *,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        embedding_update: Literal["dense", "lazy", "catchup"] = "catchup",
        dense_numbers: int | None = None,
    ) -> None:
        """Take over the tables; in catchup mode their ``before_read`` is set.

        Args:
            dense_params: All parameters that are not tables.
            tables: The embedding tables, on one device.
            learning_rate: alpha of Adam.
            betas: Decays of the first and second moment.
            eps: Added to the root of the second moment.
            embedding_update: How sparse tables are updated, see above.
            dense_numbers: Largest table, size * D, that catchup sweeps whole; None = DENSE_NUMBERS of its device.

        Raises:
            ValueError: On a sparse table in dense mode, betas that catchup cannot handle, tables on two devices, or a
                parameter that is there twice.
        """
        tables = list(tables)
        if embedding_update == "catchup":
            for table in tables:
                limit = most_dense_numbers(table.weight.device) if dense_numbers is None else dense_numbers
                table.sparse = table.sparse and table.numbers > limit
        sparse = [table for table in tables if table.sparse]
        if sparse and embedding_update == "dense":
            raise ValueError("embedding_update is dense: make the embedding tables with sparse=False.")
        if len({table.weight.device for table in sparse}) > 1:
            raise ValueError("the embedding tables are on several devices: move them to one first.")
        dense = [*dense_params, *(table.weight for table in tables if not table.sparse)]
        if len({*dense, *(table.weight for table in sparse)}) < len(dense) + len(sparse):
            raise ValueError("a parameter is twice among the tables and the rest: name each once.")
        settings = {"lr": learning_rate, "betas": betas, "eps": eps}
        self.param_groups: list[dict[str, Any]] = [
            {"params": parameters, **settings} for parameters in (dense, [table.weight for table in sparse])
        ]
        self._dense = _DenseAdam(dense)
        self._tables = [_Table(table.weight) for table in sparse]
        self._step = 0
        self._skipped: SkippedSteps | None = None
        if sparse and embedding_update == "catchup":
            self._skipped = SkippedSteps(*betas, eps, device=sparse[0].weight.device)
            for i, table in enumerate(sparse):
                table.before_read = _hook(weakref.ref(self), i)

    @classmethod
    def for_modules(cls, *modules: nn.Module, config: OptimConfig) -> "RowSparseAdam":
        """Optimiser of all parameters of some modules that take gradients; their ``EmbeddingTable`` are the tables."""
        submodules = [submodule for module in modules for submodule in module.modules()]
        tables = dict.fromkeys(
            module for module in submodules if isinstance(module, EmbeddingTable) and module.weight.requires_grad
        )
        rows = {table.weight for table in tables}
        parameters = dict.fromkeys(parameter for module in modules for parameter in module.parameters())
        return cls(
            [parameter for parameter in parameters if parameter not in rows and parameter.requires_grad],
            tables,
            learning_rate=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            embedding_update=config.embedding_update,
        )

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in (parameter for group in self.param_groups for parameter in group["params"]):
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step with the present gradients."""
        dense, rows = self.param_groups
        self._dense.step(dense["lr"], dense["betas"], dense["eps"])
        beta1, beta2 = rows["betas"]
        settings = AdamStep(self._step + 1, rows["lr"], beta1, beta2, rows["eps"])
        for table in self._tables:
            if table.parameter.grad is not None:
                self._step_table(table, table.parameter.grad, settings)
        self._step += 1
        if self._skipped is not None:
            self._skipped.advance(rows["lr"])
            if self._step >= self._skipped.flush_at:
                self.flush()

    @torch.no_grad()
    def flush(self) -> None:
        """Bring all rows of all tables up to date: before evaluation, export, or reading ``weight`` directly."""
        if self._skipped is None:
            return
        for table in self._tables:
            if is_fixed(table.moments_of):
                parts = torch.arange(len(table.moments_of), device=table.moments_of.device).split(FLUSHED_ROWS)
            else:
                parts = ((table.moments_of < self._step).nonzero().squeeze(1),)
            for rows in parts:
                self._move(table, rows)
                decay_rows(table.rows, rows, self._decay(table, rows))
                table.moments_of[rows] = self._stamp(table.moments_of, rows)
        self._skipped.restart(self._step)

    def state_dict(self) -> dict[str, Tensor]:
        """All state as a flat mapping of tensors, not copied; brings all rows up to date first."""
        self.flush()
        tensors = {"step": torch.tensor(self._step)}
        for i, parameter in enumerate(self.param_groups[0]["params"]):
            tensors |= {f"dense.{i}.{name}": value for name, value in self._dense.state.get(parameter, {}).items()}
        for i, table in enumerate(self._tables):
            tensors |= {f"tables.{i}.exp_avg": table.exp_avg, f"tables.{i}.exp_avg_sq": table.exp_avg_sq}
        return tensors

    def moments(self) -> dict[str, nn.Parameter]:
        """The parameter of each tensor of ``state_dict`` that has a parameter's shape, by the tensor's name."""
        names = ("exp_avg", "exp_avg_sq")
        dense = enumerate(self.param_groups[0]["params"])
        found = {f"dense.{i}.{name}": parameter for i, parameter in dense for name in names}
        tables = enumerate(self._tables)
        return found | {f"tables.{i}.{name}": table.parameter for i, table in tables for name in names}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Copy in what ``state_dict`` gave; the parameters must be those of that moment.

        Raises:
            ValueError: If tensors are missing or have other shapes.
        """
        self._step = int(state_dict["step"])
        for i, parameter in enumerate(self.param_groups[0]["params"]):
            found = {name.rpartition(".")[2]: name for name in state_dict if name.startswith(f"dense.{i}.")}
            state = {name: state_dict[key].to(parameter.device, copy=True) for name, key in found.items()}
            if state and state["exp_avg"].shape != parameter.shape:
                raise ValueError(f"state of dense parameter {i} has another shape than the parameter.")
            self._dense.state[parameter] = state
        for i, table in enumerate(self._tables):
            for name, tensor in (("exp_avg", table.exp_avg), ("exp_avg_sq", table.exp_avg_sq)):
                saved = state_dict.get(f"tables.{i}.{name}")
                if saved is None or saved.shape != tensor.shape:
                    raise ValueError(f"state of table {i} is missing or has another shape: {name}.")
                tensor.copy_(saved)
            table.moved_to.fill_(self._step)
            table.moments_of.fill_(self._step)
        if self._skipped is not None:
            self._skipped.restart(self._step)

    # -- rows ------------------------------------------------------------------------------------------------------

    def _step_table(self, table: "_Table", grad: Tensor, settings: AdamStep) -> None:
        if grad.is_sparse:
            rows, grad = merge_rows(grad)
        else:  # read as a whole somewhere
            rows = torch.arange(len(grad), device=grad.device)
        if self._skipped is None:
            step_rows(table.rows, rows, grad, settings, None)
            return
        self._catch_up(table, rows)
        step_rows(table.rows, rows, grad, settings, self._decay(table, rows))
        table.moved_to.index_fill_(0, rows, settings.step)
        table.moments_of.index_fill_(0, rows, settings.step)

    @torch.no_grad()
    def _catch_up(self, table: "_Table", codes: Tensor) -> None:
        """Bring the weights of rows ``codes`` (n,), repeats allowed, up to date."""
        if is_fixed(codes):  # what is up to date does not move, and repeats move alike
            self._move(table, codes)
            return
        stale = codes[table.moved_to.index_select(0, codes) < self._step]
        if len(stale):
            self._move(table, torch.unique(stale))

    def _move(self, table: "_Table", rows: Tensor) -> None:
        assert self._skipped is not None
        moved_to, moments_of = table.moved_to.index_select(0, rows), table.moments_of.index_select(0, rows)
        if is_fixed(rows):
            moved_to, moments_of = moved_to.clamp_max(self._step), moments_of.clamp_max(self._step)
        move_rows(table.rows, rows, self._skipped.gather(moved_to, moments_of))
        table.moved_to[rows] = self._stamp(table.moved_to, rows)

    def _stamp(self, stamps: Tensor, rows: Tensor) -> Tensor | int:
        """The present step for rows that are up to date; one that was never touched stays as it is."""
        if not is_fixed(rows):
            return self._step
        return stamps.index_select(0, rows).clamp_min(self._step)

    def _decay(self, table: "_Table", rows: Tensor) -> tuple[Tensor, Tensor]:
        """Factors (n,) that bring the moments of rows to the present step."""
        assert self._skipped is not None
        skipped = (self._step - table.moments_of.index_select(0, rows)).clamp_(min=0)
        dtype = table.parameter.dtype
        return self._skipped.decay1(skipped).to(dtype), self._skipped.decay2(skipped).to(dtype)


def most_dense_numbers(device: torch.device) -> int:
    """Largest table, size * D, that catchup sweeps whole on a device."""
    return DENSE_NUMBERS.get(device.type, 0)


def _hook(reference: "weakref.ref[RowSparseAdam]", i: int) -> Callable[[Tensor], None]:
    """``before_read`` of table i; a model kept after training does not keep the optimiser's state alive."""

    def catch_up(codes: Tensor) -> None:
        optimizer = reference()
        if optimizer is not None:
            optimizer._catch_up(optimizer._tables[i], codes)

    return catch_up


class _DenseAdam:
    """State of the dense parameters that have had a gradient: ``step``, and the moments in the parameter's shape."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._fused = all(parameter.device.type in FUSED_DEVICES for parameter in parameters)
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}

    def step(self, learning_rate: float, betas: tuple[float, float], eps: float) -> None:
        """One step of those parameters that have a gradient."""
        moving = [parameter for parameter in self._parameters if parameter.grad is not None]
        if not moving:
            return
        states = [self._state_of(parameter) for parameter in moving]
        adam(
            list(moving),
            [parameter.grad for parameter in moving if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=self._fused or None,
            amsgrad=False,
            beta1=betas[0],
            beta2=betas[1],
            lr=learning_rate,
            weight_decay=0.0,
            eps=eps,
            maximize=False,
        )

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        if parameter not in self.state:
            where = parameter.device if self._fused else "cpu"
            moments = {name: torch.zeros_like(parameter, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
            self.state[parameter] = {"step": torch.zeros((), device=where), **moments}
        return self.state[parameter]


class _Table:
    """State of a row-updated table: moments (size, D), and stamps (size,), int32.

    ``moved_to`` is the step that a row's weights stand at, ``moments_of`` the one of its moments: reading a row moves
    its weights, and leaves the moments to the gradient that follows.
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self.exp_avg = torch.zeros_like(parameter, requires_grad=False)
        self.exp_avg_sq = torch.zeros_like(parameter, requires_grad=False)
        self.moved_to = torch.full((len(parameter),), NEVER, dtype=torch.int32, device=parameter.device)
        self.moments_of = self.moved_to.clone()

    @property
    def rows(self) -> Rows:
        """The tensors to update; ``data``, since autograd need not know of rows moved before they are read."""
        return Rows(self.parameter.data, self.exp_avg, self.exp_avg_sq)
