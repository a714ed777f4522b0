// What ckpt_bench was asked for.
#ifndef CKPT_TESTS_BENCHMARK_OPTIONS_H_
#define CKPT_TESTS_BENCHMARK_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ckpt::bench {

struct Options {
  std::string ckptd;       // path of the daemon's binary
  std::string data_dir;    // on the disk that is measured; a fresh folder is made in it
  std::string memory_dir;  // on a tmpfs; a fresh folder is made in it
  int pairs = 10;
  uint64_t state_bytes = uint64_t{2} << 30;
  std::vector<std::string> only;  // names of rows; empty: all
  bool json = false;
  bool strict = false;  // exit 3 where a bar is not met
  bool help = false;
  bool list = false;
};

// `binary_folder`: where ckpt_bench itself lies. INVALID_ARGUMENT says what was wrong.
absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments,
                                     const std::string& binary_folder);
std::string HelpText();

}  // namespace ckpt::bench

#endif  // CKPT_TESTS_BENCHMARK_OPTIONS_H_
