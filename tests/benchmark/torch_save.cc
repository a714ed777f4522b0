// ckpt_bench_torch_save FOLDER BYTES: for each line on stdin, saves tensors of the benchmark's
// sizes with torch::save into a new file in FOLDER, syncs it, and prints the seconds. Ends with
// stdin.
#include <fcntl.h>
#include <torch/serialize.h>
#include <torch/types.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "tests/benchmark/tensor_sizes.h"

int main(int count, char** arguments) {
  if (count != 3) {
    std::fprintf(stderr, "usage: ckpt_bench_torch_save FOLDER BYTES\n");
    return 2;
  }
  const std::string path = std::string(arguments[1]) + "/torch-save.pt";
  try {
    std::vector<torch::Tensor> tensors;
    for (const uint64_t bytes :
         ckpt::bench::TensorSizes(std::strtoull(arguments[2], nullptr, 10))) {
      tensors.push_back(torch::rand({static_cast<int64_t>(bytes / 4)}));
    }
    char line[64];
    while (std::fgets(line, sizeof(line), stdin) != nullptr) {
      const auto begin = std::chrono::steady_clock::now();
      torch::save(tensors, path);
      const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
      if (file < 0 || fdatasync(file) != 0) return 1;
      close(file);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
      unlink(path.c_str());
      std::printf("%.6f\n", seconds.count());
      std::fflush(stdout);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    unlink(path.c_str());
    return 1;
  }
  return 0;
}
