"""Trains a small model and writes its state_dict() as safetensors, with nothing but the standard
library. Arguments: the safetensors file, a file for what this side computes with that model, and
perhaps what to write as __metadata__, in JSON. The second file has one line for each tensor of the
state, then one for the model's output: a name and hex floats."""
import json
import struct
import sys

import torch

TYPES = {torch.float32: "F32", torch.int64: "I64"}


def write_safetensors(path, tensors, metadata):
    header = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, tensor in tensors.items():
        raw = tensor.detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # aligned, as readers that map the file like it
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def main():
    path, results, *metadata = sys.argv[1:]
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.ReLU(),
                                torch.nn.Linear(7, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 5)).square().mean().backward()
        optimizer.step()
    write_safetensors(path, model.state_dict(), json.loads(metadata[0]) if metadata else None)
    model.eval()
    lines = [*model.state_dict().items(), ("output", model(torch.ones(2, 5)))]
    with open(results, "w", encoding="utf-8") as file:
        for name, tensor in lines:
            floats = ",".join(float(x).hex() for x in tensor.detach().flatten())
            file.write(f"{name} {floats}\n")


if __name__ == "__main__":
    main()
