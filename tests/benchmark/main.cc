// ckpt_bench: see options.cc for the help text, rows.h for the table's rows.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/byte_size.h"
#include "common/digest.h"
#include "tests/benchmark/bare_stream.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/options.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {
namespace {

std::string Names() {
  return absl::StrJoin(Rows(), ", ",
                       [](std::string* out, const Row& row) { absl::StrAppend(out, row.name); });
}

bool Wanted(const Options& options, absl::string_view name) {
  return options.only.empty() ||
         std::find(options.only.begin(), options.only.end(), name) != options.only.end();
}

int Measure(const Options& options, const std::string& binary) {
  CatchInterrupts();
  Bench bench(options, binary);
  if (const absl::Status status = bench.Open(); !status.ok()) {
    std::cerr << "ckpt_bench: " << status.message() << "\n";
    return 1;
  }
  bench.printer().Heading(
      absl::StrCat(PrintByteSize(bench.state().bytes()), " of state in ", bench.state().tensors(),
                   " tensors from 4 B to ", PrintByteSize(bench.state().largest_tensor()), "; ",
                   options.pairs, " pairs for each ratio, medians",
                   options.pairs < 10 ? " (too few to be held to: 10 or more count)" : "", "; ",
                   std::thread::hardware_concurrency(), " processors; hashing with ",
                   std::string(Xxh3InstructionSet()), "\n"));
  int failed = 0;
  for (const Row& row : Rows()) {
    if (!Wanted(options, row.name)) continue;
    const absl::Status status = row.run(bench);
    if (status.ok()) continue;
    std::cerr << "ckpt_bench: " << row.name << ": " << status << "\n";
    ++failed;
    if (absl::IsCancelled(status)) break;
  }
  if (failed > 0) return 1;
  return options.strict && bench.printer().unmet() > 0 ? 3 : 0;
}

int Main(const std::vector<std::string>& arguments) {
  std::error_code error;
  const std::string binary = std::filesystem::read_symlink("/proc/self/exe", error).string();
  // Roles of helper processes.
  if (arguments.size() == 2 && arguments[0] == "--bare-sink") return ServeBareSink(arguments[1]);
  if (arguments.size() == 4 && arguments[0] == "--fresh-restore") {
    uint64_t bytes = 0;
    return absl::SimpleAtoi(arguments[3], &bytes) ? FreshRestore(arguments[1], arguments[2], bytes)
                                                  : 2;
  }
  if (arguments.size() == 6 && arguments[0] == "--busy-rank") return BusyRank(arguments);
  if (arguments.size() == 5 && arguments[0] == "--restore-rank") {
    uint64_t bytes = 0;
    uint32_t together = 0;
    if (!absl::SimpleAtoi(arguments[3], &bytes) || !absl::SimpleAtoi(arguments[4], &together)) {
      return 2;
    }
    return RestoreRank(arguments[1], arguments[2], bytes, together);
  }
  const absl::StatusOr<Options> options =
      ParseOptions(arguments, std::filesystem::path(binary).parent_path().string());
  if (!options.ok()) {
    std::cerr << "ckpt_bench: " << options.status().message() << "\n";
    return 2;
  }
  if (options->help) {
    std::cout << HelpText();
    return 0;
  }
  if (options->list) {
    for (const Row& row : Rows()) std::printf("%-16s %s\n", row.name, row.what);
    return 0;
  }
  for (const std::string& name : options->only) {
    if (std::none_of(Rows().begin(), Rows().end(),
                     [&](const Row& row) { return name == row.name; })) {
      std::cerr << "ckpt_bench: no row is named " << name << "; there are: " << Names() << "\n";
      return 2;
    }
  }
  return Measure(*options, binary);
}

}  // namespace
}  // namespace ckpt::bench

int main(int count, char** arguments) {
  return ckpt::bench::Main(std::vector<std::string>(arguments + 1, arguments + count));
}
