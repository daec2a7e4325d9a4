"""Many tasks at once: in this process, in processes of this machine, or on the workers of a Dask cluster."""

from micrec.parallel.executor import EXECUTOR_HELP, ExecutorLike, check_executor, is_local, tasks_at_a_time
from micrec.parallel.tasks import LOSSES, run_tasks

__all__ = ["EXECUTOR_HELP", "LOSSES", "ExecutorLike", "check_executor", "is_local", "run_tasks", "tasks_at_a_time"]
