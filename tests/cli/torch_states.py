"""The states that the tests of torch files are about, made anew by every process: equal bytes each
time. `python3 torch_states.py save NAME FILE [PROTOCOL]` writes one with torch.save;
`... check NAME FILE` loads FILE with torch.load(weights_only=True) and compares it;
`... check_any NAME FILE` does so with a reader that knows floats and bytes too, as newer PyTorch's
own does, and finds nothing else; `... check_safetensors NAME FILE` compares the tensors alone, by
dotted name."""
import collections
import io
import json
import pickle
import struct
import sys
import zipfile

import torch

SAFE_TYPES = {"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16,
              "I32": torch.int32, "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16,
              "F32": torch.float32, "F64": torch.float64}


def model():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.ReLU(),
                               torch.nn.Linear(7, 3))


def tensors():
    """No plain floats and bytes: what every weights_only reader knows."""
    torch.manual_seed(5)
    base = torch.arange(60.0)
    weight = torch.randn(4, 6)
    return {
        "float64": torch.randn(3, 2, dtype=torch.float64),
        "float16": torch.randn(5).half(),
        "bfloat16": torch.randn(5).bfloat16(),
        "complex64": torch.randn(2, 2, dtype=torch.complex64),
        "bool": torch.tensor([True, False, True]),
        "uint8": torch.arange(5, dtype=torch.uint8),
        "int8": torch.arange(-3, 4, dtype=torch.int8),
        "int16": torch.arange(-3, 4, dtype=torch.int16),
        "int32": torch.arange(-3, 4, dtype=torch.int32),
        "int64": torch.tensor([[2**62, -2**62]]),
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(weight),
        "tied": weight,  # the same bytes as the parameter
        "tied_again": weight,
        "transposed": weight.t(),
        "slice": base[10:40].reshape(5, 6),
        "columns": base.reshape(6, 10)[:, 2:7],
        "stepped": base[::7],
        "permuted": torch.randn(2, 3, 4, 5).permute(3, 1, 0, 2),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "bytes_turned": torch.arange(12, dtype=torch.uint8).reshape(3, 4).t(),
        "expanded": torch.tensor([1.5, 2.5]).expand(4, 2),
        "of_one_row": torch.randn(1, 4).t(),
        "lists": [[torch.ones(1), [torch.zeros(2)]], [], {}, {"deep": [{"er": torch.ones(2, 2)}]}],
        "numbers": {7: torch.ones(1), -2: "minus two", 2**40: None},
        "plain": [None, True, False, 0, 255, 256, 65536, -1, 2**31, -2**31, 2**62, -2**63, "",
                  "\u00e9\U0001f600"],
        "long": "x" * 5000,
        "size": torch.Size([3, 4]),
        "tuple": (1, (2, 3), ()),
    }


def training():
    """A training loop's whole state, after a few steps."""
    net = model()
    optimizers = {"sgd": torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
                  "adam": torch.optim.AdamW(net.parameters(), lr=0.01, amsgrad=True)}
    scheduler = torch.optim.lr_scheduler.StepLR(optimizers["sgd"], 2)
    for _ in range(3):
        for optimizer in optimizers.values():
            optimizer.zero_grad()
            net(torch.linspace(0, 1, 40).reshape(8, 5)).square().mean().backward()
            optimizer.step()
        scheduler.step()
    return {"model": net.state_dict(), **{k: v.state_dict() for k, v in optimizers.items()},
            "scheduler": scheduler.state_dict(), "epoch": 3, "loss": 0.25,
            "rng": torch.get_rng_state(), "raw": bytes(range(256)), "no_bytes": b"",
            "long_raw": bytes(range(256)) * 20, "nan": float("nan"), "inf": float("-inf"),
            "dtype": torch.bfloat16}


def many():
    return {f"t{i}": torch.full((2,), float(i)) for i in range(70000)}


def flat():
    return model().state_dict()


STATES = {"tensors": tensors, "training": training, "many": many, "flat": flat}


class CheckingUnpickler(pickle.Unpickler):
    """Finds what the weights_only reader of newer PyTorch finds, and nothing else."""
    allowed = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"),
               ("_codecs", "encode")}

    def find_class(self, module, name):
        if module == "torch" and name.endswith("Storage"):
            return getattr(torch, name)
        assert (module, name) in self.allowed, (module, name)
        return super().find_class(module, name)


def load_any(path):
    module = type(sys)("restricted_pickle")
    module.Unpickler = CheckingUnpickler
    module.load = lambda file, **_: CheckingUnpickler(file).load()
    with zipfile.ZipFile(path) as archive:  # a second opinion on the archive
        assert archive.testzip() is None
        assert archive.read("archive/byteorder") == b"little"
    return torch.load(path, pickle_module=module)


def as_saved(value):
    """What a value has become on its way through a checkpoint."""
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [as_saved(item) for item in value]
    if isinstance(value, dict):
        return {key: as_saved(item) for key, item in value.items()}
    return value


def compare(here, there, where="state"):
    if isinstance(here, torch.Tensor):
        assert isinstance(there, torch.Tensor), (where, type(there))
        assert here.dtype == there.dtype and here.shape == there.shape, where
        assert there.is_contiguous(), where
        assert torch.equal(here.detach(), there), where
        return
    assert type(here) is type(there), (where, type(here), type(there))
    if isinstance(here, dict):
        assert list(here) == list(there), (where, list(here), list(there))
        for key in here:
            compare(here[key], there[key], f"{where}.{key}")
    elif isinstance(here, list):
        assert len(here) == len(there), where
        for i, (a, b) in enumerate(zip(here, there)):
            compare(a, b, f"{where}[{i}]")
    else:
        assert here == there or here != here and there != there, (where, here, there)


def check_aligned(path):
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for entry in archive.infolist():
            file.seek(entry.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            assert (entry.header_offset + 30 + name + extra) % 64 == 0, entry.filename


def flatten(value, name=""):
    """Tensors by dotted name; to safetensors a long string is one too."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, (str, bytes)) and len(value) > 4096:
        raw = value.encode() if isinstance(value, str) else value
        yield name, torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flatten(item, f"{name}.{key}" if name else str(key))


def check_safetensors(wanted, path):
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__")
    wanted = dict(flatten(wanted))
    assert set(header) == set(wanted), set(header) ^ set(wanted)
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = bytearray(data[8 + length + begin:8 + length + end])
        tensor = wanted[name].detach().contiguous()
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor)
        assert list(tensor.shape) == entry["shape"], name
        assert SAFE_TYPES[entry["dtype"]] == tensor.dtype, name
        if raw:
            there = torch.frombuffer(raw, dtype=tensor.dtype).reshape(tensor.shape)
            assert torch.equal(tensor, there), name


def main():
    act, name, path, *protocol = sys.argv[1:]
    state = STATES[name]()
    if act == "save":
        torch.save(state, path, pickle_protocol=int(protocol[0]) if protocol else 2)
        return
    wanted = as_saved(state)
    if act == "check_safetensors":
        check_safetensors(wanted, path)
        return
    loaded = torch.load(path, weights_only=True) if act == "check" else load_any(path)
    compare(wanted, loaded)
    check_aligned(path)
    if name == "tensors":  # one storage, as before
        assert loaded["tied"].data_ptr() == loaded["parameter"].data_ptr()
        loaded["tied"].zero_()
        assert not loaded["tied_again"].any()
    if name == "training":
        net = model()
        net.load_state_dict(loaded["model"])
        optimizer = torch.optim.AdamW(net.parameters())
        optimizer.load_state_dict(loaded["adam"])
        assert optimizer.param_groups[0]["lr"] == 0.01


if __name__ == "__main__":
    main()
