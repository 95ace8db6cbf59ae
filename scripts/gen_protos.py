"""Generate `protos/gen` from `protos/brain`: messages, service stubs and their types.

The proto root is the import root, so nothing in the generated code is rewritten.
"""

import shutil
import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "protos"
TARGET = SOURCE / "gen"


def main() -> int:
    """Write the generated tree afresh; return protoc's exit status."""
    protos = sorted(str(path.relative_to(SOURCE)) for path in (SOURCE / "brain").rglob("*.proto"))
    shutil.rmtree(TARGET / "brain", ignore_errors=True)
    TARGET.mkdir(parents=True, exist_ok=True)
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    status: int = protoc.main(
        [
            "protoc",
            f"-I{SOURCE}",
            f"-I{well_known}",
            f"--python_out={TARGET}",
            f"--grpc_python_out={TARGET}",
            f"--mypy_out={TARGET}",
            f"--mypy_grpc_out={TARGET}",
            *protos,
        ]
    )
    for folder in sorted(path for path in (TARGET / "brain").rglob("*") if path.is_dir()):
        (folder / "__init__.py").touch()
    (TARGET / "brain" / "__init__.py").touch()
    return status


if __name__ == "__main__":
    sys.exit(main())
