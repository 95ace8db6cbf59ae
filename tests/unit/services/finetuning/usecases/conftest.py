import pytest

from services.finetuning.backends.tokenizer import FolderTokens
from tests.unit.services.finetuning.builder import Builder
from tests.unit.services.finetuning.small_model import write_model


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> FolderTokens:
    return FolderTokens(write_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def build(tokens: FolderTokens) -> Builder:
    return Builder(tokens)
