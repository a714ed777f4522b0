"""PyTorch's side of a training that goes on in the other language. Every class of optimizer trains
the same small model, whose layers are parameter groups of different options; one parameter is
frozen.

`python_training.py save CLASS FILE RESULTS` trains, writes the training state with torch.save,
trains on and writes what it has then, of the optimizer too: one line for each tensor, a name and
hex floats.
`python_training.py resume CLASS RESULTS FILE...` loads each of the files (for torch.load, or
safetensors) that the C++ side saved, checks that it is laid out as PyTorch's own, trains on and
finds what the C++ side has then."""
import copy
import json
import pathlib
import struct
import sys

import torch

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
import torch_states  # noqa: E402

TORCH = int(torch.__version__.split(".")[0])
STEPS = 3  # before the save, and again after it
TYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}
FROZEN = "0.bias"  # its gradient would be the noise that batch normalisation leaves of it

# Options of the three groups. Whatever keeps a tensor is switched on in one and off in another.
GROUPS = {
    "SGD": [{"lr": 0.125, "momentum": 0.75, "dampening": 0.25, "weight_decay": 0.01},
            {"lr": 0.25, "momentum": 0.5, "nesterov": True},
            {"lr": 0.0625}],
    "Adam": [{"lr": 0.125, "betas": (0.75, 0.875)},
             {"lr": 0.25, "weight_decay": 0.01},
             {"lr": 0.0625, "betas": (0.5, 0.75), "amsgrad": True}],
    "AdamW": [{"lr": 0.125, "betas": (0.75, 0.875), "amsgrad": True},
              {"lr": 0.25, "eps": 0.001},
              {"lr": 0.0625, "weight_decay": 0.1}],
    "RMSprop": [{"lr": 0.125, "alpha": 0.75, "momentum": 0.5, "centered": True},
                {"lr": 0.03125, "momentum": 0.25, "weight_decay": 0.01},
                {"lr": 0.0625, "centered": True, "eps": 0.001}],
    "Adagrad": [{"lr": 0.125, "lr_decay": 0.25},
                {"lr": 0.25, "weight_decay": 0.01},
                {"lr": 0.0625, "eps": 0.001}],
}


def make_model():
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.ReLU(),
                                torch.nn.Linear(7, 3))
    dict(model.named_parameters())[FROZEN].requires_grad_(False)
    return model


def make_optimizer(kind, model, groups):
    layers = [layer for layer in model if list(layer.parameters())]
    # A learning rate that gets lost is noticed.
    return getattr(torch.optim, kind)(
        [{**group, "params": list(layer.parameters())}
         for layer, group in zip(layers, groups, strict=True)], lr=123.0)


def train(model, optimizer):
    data = torch.arange(40.0).mul(7).remainder(11).div(8).reshape(8, 5)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(data).square().mean().backward()
        optimizer.step()


def results_of(model, optimizer):
    """By name, flat."""
    results = dict(model.state_dict())
    for index, fields in optimizer.state_dict()["state"].items():
        for name, value in fields.items():
            if value is not None:
                results[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    return {name: [float(x) for x in value.flatten()] for name, value in results.items()}


def save(kind, path, results):
    model = make_model()
    optimizer = make_optimizer(kind, model, GROUPS[kind])
    train(model, optimizer)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3,
                "history": [0.5, 0.25, 0.125]}, path)
    train(model, optimizer)
    with open(results, "w", encoding="utf-8") as file:
        for name, floats in results_of(model, optimizer).items():
            file.write(f"{name} {','.join(x.hex() for x in floats)}\n")


def read_safetensors(path):
    """A training state from it, with nothing but the standard library."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    leaves = json.loads(header.pop("__metadata__")["values"])
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = bytearray(data[8 + length + begin:8 + length + end])
        leaves[name] = torch.frombuffer(raw, dtype=TYPES[entry["dtype"]]).reshape(entry["shape"])
    # By dotted name: of the optimizer, "state.0.step" or "param_groups.0.betas.1".
    model, state, groups = {}, {}, {}
    for name, value in leaves.items():
        part, name = name.split(".", 1)
        if part == "model":
            model[name] = value
            continue
        kind, index, name, *position = name.split(".")
        owner = {"state": state, "param_groups": groups}[kind].setdefault(int(index), {})
        if position:  # of a list, which comes in order
            owner.setdefault(name, []).append(value)
        else:
            owner[name] = value
    return {"model": model,
            "optimizer": {"state": state, "param_groups": [groups[i] for i in sorted(groups)]}}


def read(path):
    if path.endswith(".safetensors"):
        return read_safetensors(path)
    if TORCH >= 2:
        return torch.load(path, weights_only=True)
    return torch_states.load_any(path)  # torch.load, with what newer weights_only readers find


def layout(value):
    """Types, and what is called how; not the values."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape)
    if isinstance(value, dict):  # None is a tensor that SGD has none of
        return {key: layout(item) for key, item in value.items() if item is not None}
    return type(value)


def check_layout(kind, model, saved):
    """As PyTorch's own optimizer of these options writes it after as many steps."""
    model = copy.deepcopy(model)
    options = [{k: v for k, v in g.items() if k != "params"} for g in saved["param_groups"]]
    own = make_optimizer(kind, model, options)
    train(model, own)
    own = own.state_dict()
    state = {index: fields for index, fields in layout(own["state"]).items() if fields}
    assert layout(saved["state"]) == state, (layout(saved["state"]), state)
    for index, fields in saved["state"].items():
        if "step" in fields:
            assert float(fields["step"]) == float(own["state"][index]["step"]), (index, fields)
    for group, its_own, wanted in zip(saved["param_groups"], own["param_groups"], GROUPS[kind],
                                      strict=True):
        assert set(its_own) <= set(group), set(its_own) - set(group)
        assert group["params"] == its_own["params"], (group, its_own)
        for name, value in wanted.items():
            there = tuple(group[name]) if isinstance(value, tuple) else group[name]
            assert there == value, (name, there, value)


def resume(kind, results, *paths):
    with open(results, encoding="utf-8") as file:
        wanted = {name: [float.fromhex(x) for x in floats.split(",")]
                  for name, floats in map(str.split, file)}
    for path in paths:
        state = read(path)
        model = make_model()
        model.load_state_dict(state["model"])
        if TORCH == 1:  # the layout of the LibTorch that wrote it; later ones read it too
            check_layout(kind, model, state["optimizer"])
        optimizer = make_optimizer(kind, model, [{}, {}, {}])
        optimizer.load_state_dict(state["optimizer"])
        train(model, optimizer)
        now = results_of(model, optimizer)
        assert set(now) == set(wanted), (path, set(now) ^ set(wanted))
        for name, floats in now.items():
            assert floats == wanted[name], (path, name, floats, wanted[name])


def main():
    act, *words = sys.argv[1:]
    {"save": save, "resume": resume}[act](*words)


if __name__ == "__main__":
    main()
