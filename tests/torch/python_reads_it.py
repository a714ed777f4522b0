"""Reads a checkpoint's data file as plain safetensors with nothing but the standard library, and
gives the optimizer in it to PyTorch. Arguments: folder of data files, the optimizer's class, what
the C++ side has after its next step: weight and bias as hex floats. Trains that step exactly as the
C++ side does and compares."""
import json
import pathlib
import struct
import sys

import torch

TYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}
# What each class keeps for a parameter, as its own state_dict() has it.
STATE = {
    "SGD": {"momentum_buffer"},
    "Adam": {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
    "AdamW": {"step", "exp_avg", "exp_avg_sq"},
    "RMSprop": {"step", "square_avg", "momentum_buffer", "grad_avg"},
    "Adagrad": {"step", "sum"},
}


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = bytearray(data[8 + length + begin:8 + length + end])
        tensor = torch.frombuffer(raw, dtype=TYPES[entry["dtype"]]) if raw else torch.empty(0)
        tensors[name] = tensor.reshape(entry["shape"])
    return metadata, tensors


def optimizer_state(values, tensors):
    group = {"params": []}
    for key, value in values.items():
        if not key.startswith("optimizer.param_groups.0."):
            continue
        name, *index = key[len("optimizer.param_groups.0."):].split(".")
        if not index:
            group[name] = value
        else:  # a list: betas, params
            group.setdefault(name, []).append(value)
    state = {}
    for key, value in [*values.items(), *tensors.items()]:  # RMSprop's step is a plain integer
        if key.startswith("optimizer.state."):
            number, name = key[len("optimizer.state."):].split(".")
            state.setdefault(int(number), {})[name] = value
    return {"state": state, "param_groups": [group]}


def main():
    folder, kind, *wanted = sys.argv[1:]
    [path] = [p for p in pathlib.Path(folder).rglob("*") if p.suffix == ".safetensors"]
    metadata, tensors = read_safetensors(path)
    saved = optimizer_state(json.loads(metadata["values"]), tensors)

    model = torch.nn.Linear(3, 2)
    prefix = "model."
    model.load_state_dict({k[len(prefix):]: v for k, v in tensors.items() if k.startswith(prefix)})
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=123.0)
    own = set(optimizer.state_dict()["param_groups"][0])
    assert own <= set(saved["param_groups"][0]), own - set(saved["param_groups"][0])
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.125, optimizer.param_groups
    loaded = optimizer.state_dict()["state"]
    assert set(loaded) == {0, 1}, loaded
    for parameter in loaded.values():
        assert set(parameter) == STATE[kind], parameter
        assert "step" not in parameter or float(parameter["step"]) == 2.0, parameter
    optimizer.zero_grad()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    for (name, parameter), floats in zip(model.named_parameters(), wanted, strict=True):
        there = torch.tensor([float.fromhex(x) for x in floats.split(",")])
        here = parameter.detach().flatten()
        assert torch.allclose(here, there, rtol=1e-6, atol=1e-7), (name, here, there)
    print("python reads it")


if __name__ == "__main__":
    main()
