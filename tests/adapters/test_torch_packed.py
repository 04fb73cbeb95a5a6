"""Models that decode weights when they use them: the same outputs, fewer bytes, and nothing of them left dense."""

import numpy as np
import pytest
import torch
from torch import nn

import attar
from adapters import transformers_models
from attar.adapters.torch.model import TorchModel
from attar.adapters.torch.packed import Store, hold
from attar.adapters.transformers.model import TransformersModel
from attar.errors import FormatError, ModelError, UsageError


class Net(nn.Module):
    """A table, a convolution, attention, a recurrent layer and dense ones, two of them tied."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1, groups=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.loop = nn.LSTM(8, 8, batch_first=True)
        self.inner = nn.Linear(8, 16)
        self.outer = nn.Linear(16, 8, bias=False)
        self.last = nn.Linear(8, 11, bias=False)
        self.last.weight = self.table.weight

    def forward(self, ids):
        x = self.table(ids)
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = self.loop(x)[0]
        return self.last(self.outer(torch.relu(self.inner(x))).mean(1))


def compressed(tmp_path, model, ids):
    """A .attar file of a model, made from its own answers."""
    result = attar.compress(model, (ids, ids[:, 0] % 3), max_drop=90, sensitivity="fisher")
    result.save(tmp_path / "net.attar")
    return tmp_path / "net.attar"


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    torch.manual_seed(0)
    model = Net().eval()
    ids = np.random.default_rng(0).integers(0, 11, (400, 5))
    return compressed(tmp_path_factory.mktemp("packed"), model, ids), model, torch.tensor(ids[:20])


@pytest.mark.parametrize("keep", [True, 100, 1 << 20])
@pytest.mark.parametrize("own", [True, False])
def test_outputs_are_those_of_the_dense_model(case, keep, own):
    path, model, ids = case
    into = None if own else model
    dense, packed = attar.load(path, into), attar.load(path, into, packed=keep)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(dense(ids), packed(ids))


def test_no_layer_is_held_dense(case):
    path, model, _ = case
    packed = attar.load(path, model, packed=True)
    left = {name for name, parameter in packed.named_parameters() if parameter.ndim > 1}
    assert left and all(name.startswith("loop.") for name in left)  # torch keeps references to recurrent kernels
    assert packed.table.weight.shape == (11, 8) and packed.last.weight.shape == (11, 8)
    assert isinstance(packed.conv, nn.Conv1d) and type(packed.conv).__name__ == "Conv1d"
    assert type(model.conv) is nn.Conv1d


def test_training_flags_are_as_they_came(case):
    path, model, _ = case
    assert not attar.load(path, model, packed=True).training
    model.train()
    try:
        assert attar.load(path, model, packed=True).conv.training
    finally:
        model.eval()


def test_a_store_decodes_once_what_fits():
    asked = []

    def decode(name):
        asked.append(name)
        return torch.zeros(4)

    store = Store(decode, 20)
    for name in ("a", "b", "a", "b", "a"):
        store(name)
    assert asked == ["a", "b", "b"]


def test_tied_places_read_one_owner():
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    both = nn.Sequential(first, second)
    hold(
        both, Store(lambda name: torch.full((2, 2), float(len(name)))), {"0.weight": "0.weight", "1.weight": "0.weight"}
    )
    assert torch.equal(first.weight, second.weight) and not list(both.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_of_transformers_is_held_packed(tmp_path, dtype):
    adapter = transformers_models_adapter(tmp_path, dtype)
    weights = {layer.name: adapter.read(layer.name) for layer in adapter.layers() if layer.tied_to is None}
    dense = adapter.model()
    packed = adapter.packed(weights.__getitem__, list(weights))
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        assert torch.equal(dense(ids).logits, packed(ids).logits)
    assert all(parameter.ndim < 2 for parameter in packed.parameters())


def transformers_models_adapter(tmp_path, dtype):
    """A tiny Llama with tied embeddings."""
    torch.manual_seed(0)
    transformers_models.llama().to(dtype).save_pretrained(tmp_path / "llama")
    return TransformersModel.opened(tmp_path / "llama")


def test_what_cannot_be_is_refused(case, tmp_path):
    path, model, _ = case
    with pytest.raises(UsageError, match="0 or more"):
        attar.load(path, model, packed=-1)
    with pytest.raises(FormatError, match="must be readable"):
        attar.load(tmp_path / "none.attar", packed=True)
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 4, len(data) // 2):
        data[place] ^= 0xFF
    (tmp_path / "bad.attar").write_bytes(data)
    with pytest.raises(FormatError):
        attar.load(tmp_path / "bad.attar", model, packed=True)


def test_other_frameworks_say_so(tmp_path):
    from attar.opening import packed_model

    class Other:
        framework = "keras"

        @staticmethod
        def rebuild(skeleton, remainder):
            return Other()

    class Held:
        files = parts = layers = ()
        meta = {"framework": "torch"}  # noqa: RUF012

        @staticmethod
        def remainder():
            return {}

        @staticmethod
        def skeleton():
            return b""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attar.registry.get", lambda *_: Other)
        with pytest.raises(ModelError, match="Received a keras model"):
            packed_model(Held())


def test_the_adapter_takes_any_weights():
    adapter = TorchModel.opened(nn.Linear(3, 2).eval())
    weight = adapter.read("weight")
    network = adapter.packed(lambda _: weight, ["weight"])
    x = torch.ones(1, 3)
    with torch.no_grad():
        np.testing.assert_allclose(network(x).numpy()[0], weight.matrix.sum(1) + weight.bias, rtol=1e-6)
