"""What the generation room's settings become in the engine's own configuration; nothing is started, no GPU is needed."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.running_stack import ROOT

# In a process of its own: the engine is told through the environment before it is imported, and takes a GiB.
PROGRAM = """
import json, os, sys
from services.generation.bootstrap import engine_environment, engine_options
from services.generation.settings import GenerationSettings
from services.chassis.models.folder import BaseModel
asked = json.load(sys.stdin)
for told in asked["settings"]:
    settings = GenerationSettings(model=asked["model"], **told)
    os.environ |= engine_environment(settings)
    base = BaseModel(folder=asked["model"], name="m", digest="d", template_hash="t", width=64)
    args = engine_options(settings, base, {}).engine_args()
    try:
        made = args.create_engine_config()
    except ValueError as error:
        print(json.dumps({"refused": str(error)}))
        continue
    parallel, executor = made.parallel_config, made.parallel_config.distributed_executor_backend
    print(json.dumps({
        "tensor": parallel.tensor_parallel_size, "pipeline": parallel.pipeline_parallel_size,
        "processes": parallel.world_size, "executor": executor if isinstance(executor, str) else executor.__name__,
        "keys_and_values": made.cache_config.cache_dtype, "weights": str(made.model_config.dtype),
    }))
"""
# A model that is nothing but its description: eight heads, four layers.
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "num_hidden_layers": 4,
    "vocab_size": 256,
    "max_position_embeddings": 2048,
    "dtype": "bfloat16",
}
ASKED: list[dict[str, Any]] = [
    {},
    {"tensor_parallel_size": 4},
    {"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "distributed_executor": "mp"},
    {"tensor_parallel_size": 3},
    {"dtype": "float32", "kv_cache_dtype": "bfloat16"},
]


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(MODEL))
    made = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps({"model": str(folder), "settings": ASKED}),
        env=os.environ | {"BRAIN_GENERATION_CACHE_DIR": str(folder / "cache")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    return [json.loads(line) for line in made.stdout.splitlines() if line.startswith("{")]


def test_one_device_is_one_process(configured: list[dict[str, Any]]) -> None:
    assert (configured[0]["processes"], configured[0]["executor"]) == (1, "UniProcExecutor")


def test_layers_are_shared_and_dealt_out(configured: list[dict[str, Any]]) -> None:
    shared, both = configured[1:3]
    assert (shared["tensor"], shared["pipeline"], shared["processes"]) == (4, 1, 4)
    assert (both["tensor"], both["pipeline"], both["processes"]) == (2, 2, 4)
    assert (shared["executor"], both["executor"]) == ("mp", "mp")


def test_the_engine_refuses_what_does_not_divide(configured: list[dict[str, Any]]) -> None:
    assert "divisible by tensor parallel size (3)" in configured[3]["refused"]


def test_number_formats_arrive(configured: list[dict[str, Any]]) -> None:
    assert (configured[4]["weights"], configured[4]["keys_and_values"]) == ("torch.float32", "bfloat16")
