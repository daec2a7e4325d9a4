"""One thread per test process: the sizes are tiny, and several threads on a busy machine wait for each other."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch, faiss and the BLAS libraries load
os.environ["POLARS_MAX_THREADS"] = "1"
os.environ.pop("COLUMNS", None)  # pytest-xdist tells its workers 80: output is as wide as where no terminal says so
