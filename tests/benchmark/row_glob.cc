// Filtering by glob, as every listing, plan and diff does it: one filter of two globs over the keys
// of a large model, on one thread.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/filter.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {
namespace {

constexpr size_t kKeys = 1'000'000;
constexpr const char* kGlobs[] = {"model.layers.*.attention.*.weight", "**.bias"};

// model.layers.1234.attention.q_projection.weight and the like: about 45 bytes each.
std::vector<std::string> ManyKeys() {
  constexpr const char* kNames[] = {"attention.q_projection.weight", "attention.k_projection.bias",
                                    "mlp.gate_up_projection.weight", "post_attention_norm.weight"};
  std::vector<std::string> keys;
  keys.reserve(kKeys);
  for (size_t i = 0; i < kKeys; ++i) {
    keys.push_back(absl::StrCat("model.layers.", i / 4 % 1000, ".", kNames[i % 4]));
  }
  return keys;
}

}  // namespace

absl::Status GlobRow(Bench& bench) {
  bench.printer().Note("globs");
  const std::vector<std::string> keys = ManyKeys();
  v1::Selection selection;
  for (const char* glob : kGlobs) selection.add_include(glob);
  CKPT_ASSIGN_OR_RETURN(const LeafFilter filter, LeafFilter::FromSelection(selection));
  std::vector<double> seconds;
  for (int i = 0; i < std::min(bench.options().pairs, 10); ++i) {
    size_t matched = 0;
    const double begin = Now();
    for (const std::string& key : keys) matched += filter.Matches({.printed_key = key}) ? 1 : 0;
    seconds.push_back(Now() - begin);
    if (matched != kKeys / 2) return absl::InternalError("the filter took other keys");
    CKPT_RETURN_IF_ERROR(CheckInterrupt());
  }
  const double median = Median(seconds);
  bench.printer().Print({"glob over 1,000,000 keys", kKeys / median / 1e6, "M keys/s", "nothing",
                         Bar{2, true},
                         absl::StrCat("one thread; one filter with ", kGlobs[0], " and ", kGlobs[1],
                                      "; half of the keys match"),
                         PrintSeconds(median)});
  return absl::OkStatus();
}

}  // namespace ckpt::bench
