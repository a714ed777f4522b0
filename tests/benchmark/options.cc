#include "tests/benchmark/options.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace ckpt::bench {

std::string HelpText() {
  return R"(ckpt_bench: how fast ckptd is, beside what this machine can do at best.

Starts a ckptd of its own and prints one line for each ratio: what was measured, the bar that it is
held to, and whether it is met. Each figure is the median of the ratios of pairs: the thing measured
and its baseline, one after the other, in alternating order. Raw settings (block sizes, threads) are
picked in a calibration pass and then kept.

Usage: ckpt_bench [FLAG...]
  --ckptd PATH       the daemon's binary (default: the one beside ckpt_bench)
  --data-dir FOLDER  on the disk to measure; never a tmpfs (default: the build folder)
  --memory-dir FOLDER  on a tmpfs (default: /dev/shm)
  --pairs N          pairs for each ratio, at least 3 (default: 10; fewer than 10 is marked)
  --gib SIZE         size of the state in GiB, such as 0.25 (default: 2)
  --only ROW[,ROW]   only these; see --list
  --list             names of the rows
  --json             one JSON object a line
  --strict           exit with 3 where a bar is not met
  --help             this text

Needs about five times the state in memory and in disk space. An idle machine, please.
Exit: 0 measured, 1 something failed, 2 wrong usage, 3 a bar not met (--strict only).
)";
}

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments,
                                     const std::string& binary_folder) {
  Options options;
  options.ckptd = absl::StrCat(binary_folder, "/ckptd");
  options.data_dir = absl::StrCat(binary_folder, "/..");
  options.memory_dir = "/dev/shm";
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::pair<absl::string_view, absl::string_view> flag =
        absl::StrSplit(arguments[i], absl::MaxSplits('=', 1));
    const bool joined = absl::StrContains(arguments[i], '=');
    bool* const switches[] = {&options.json, &options.strict, &options.help, &options.list};
    const absl::string_view names[] = {"--json", "--strict", "--help", "--list"};
    bool found = false;
    for (size_t s = 0; s < std::size(names); ++s) {
      if (arguments[i] != names[s]) continue;
      *switches[s] = true;
      found = true;
    }
    if (found) continue;
    std::string value(flag.second);
    if (!joined) {
      if (i + 1 == arguments.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat("unknown flag, or a value is missing: ", arguments[i], "; see --help"));
      }
      value = arguments[++i];
    }
    double gib = 0;
    if (flag.first == "--ckptd") {
      options.ckptd = value;
    } else if (flag.first == "--data-dir") {
      options.data_dir = value;
    } else if (flag.first == "--memory-dir") {
      options.memory_dir = value;
    } else if (flag.first == "--only") {
      for (absl::string_view row : absl::StrSplit(value, ',', absl::SkipEmpty())) {
        options.only.emplace_back(row);
      }
    } else if (flag.first == "--pairs") {
      if (!absl::SimpleAtoi(value, &options.pairs) || options.pairs < 3 || options.pairs > 1000) {
        return absl::InvalidArgumentError("--pairs takes a number from 3 to 1000");
      }
    } else if (flag.first == "--gib") {
      if (!absl::SimpleAtod(value, &gib) || !(gib >= 0.01 && gib <= 1024)) {
        return absl::InvalidArgumentError("--gib takes a number from 0.01 to 1024");
      }
      options.state_bytes = static_cast<uint64_t>(gib * (1 << 30)) / 4096 * 4096;
    } else {
      return absl::InvalidArgumentError(absl::StrCat("unknown flag ", flag.first, "; see --help"));
    }
  }
  return options;
}

}  // namespace ckpt::bench
