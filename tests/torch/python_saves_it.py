"""Trains a small model and writes its whole training state with torch.save. Arguments: that file, and
one for the parameters after the next step, which the C++ side takes as well: one line for each, a
name and hex floats."""
import sys

import torch


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.linspace(0, 1, 40).reshape(8, 5)).square().mean().backward()
    optimizer.step()


def main():
    path, results = sys.argv[1:]
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.ReLU(),
                                torch.nn.Linear(7, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.75, 0.875), amsgrad=True)
    for _ in range(3):
        step(model, optimizer)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3,
                "history": [0.5, 0.25, 0.125]}, path)
    step(model, optimizer)
    with open(results, "w", encoding="utf-8") as file:
        for name, parameter in model.named_parameters():
            floats = ",".join(float(x).hex() for x in parameter.detach().flatten())
            file.write(f"{name} {floats}\n")


if __name__ == "__main__":
    main()
