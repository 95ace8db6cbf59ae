"""Imported by the forkserver alone, and the one module whose import does something.

The forkserver offers no other moment: what is loaded here is loaded once and shared by all children, so that a small
file costs a fork and not a second of imports.
"""

import os

# Read by native libraries when they load: a pool of threads does not survive the fork, and its stacks count as memory.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.putenv(_name, "1")
os.putenv("TOKENIZERS_PARALLELISM", "false")

import gc  # noqa: E402

from services.ingestion.backends import child, seccomp  # noqa: E402

if seccomp.available():
    seccomp.rules()
child.token_counter().starts("warm")
# Children then do not copy the pages of these objects when they collect garbage.
gc.collect()
gc.freeze()
