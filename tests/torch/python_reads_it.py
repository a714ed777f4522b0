"""Reads a checkpoint's data file as plain safetensors with nothing but the standard library, and
gives the optimizer in it to PyTorch. Arguments: folder of data files, expected loss printed by the
C++ side as hex float. Trains one more step exactly as the C++ side does and compares."""
import json
import pathlib
import struct
import sys

import torch

TYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}


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


def main():
    [path] = [p for p in pathlib.Path(sys.argv[1]).rglob("*") if p.suffix == ".safetensors"]
    metadata, tensors = read_safetensors(path)
    values = json.loads(metadata["values"])
    group = {"betas": [0.0, 0.0], "params": []}
    for key, value in values.items():
        if not key.startswith("optimizer.param_groups.0."):
            continue
        name, *index = key[len("optimizer.param_groups.0."):].split(".")
        if not index:
            group[name] = value
        elif name == "betas":
            group["betas"][int(index[0])] = value
        else:
            group["params"].append(value)
    state = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer.state."):
            number, name = key[len("optimizer.state."):].split(".")
            state.setdefault(int(number), {})[name] = tensor

    model = torch.nn.Linear(3, 2)
    model.load_state_dict({k[len("model."):]: v for k, v in tensors.items() if k.startswith("model.")})
    optimizer = torch.optim.AdamW(model.parameters(), lr=123.0)
    optimizer.load_state_dict({"state": state, "param_groups": [group]})
    assert optimizer.param_groups[0]["lr"] == 0.125, optimizer.param_groups
    assert set(optimizer.state_dict()["state"]) == {0, 1}
    assert float(optimizer.state_dict()["state"][0]["step"]) == 2.0
    optimizer.zero_grad()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        wanted = torch.tensor([float.fromhex(x) for x in sys.argv[2 if name == "weight" else 3].split(",")])
        got = parameter.detach().flatten()
        assert torch.allclose(got, wanted, rtol=1e-6, atol=1e-7), (name, got, wanted)
    print("python reads it")


if __name__ == "__main__":
    main()
