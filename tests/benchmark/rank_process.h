// One of several processes that do the same at once: ckpt_bench itself, in a role of its own. It
// says "ready", waits until its stdin ends, works, and says what came of it, a line each.
#ifndef CKPT_TESTS_BENCHMARK_RANK_PROCESS_H_
#define CKPT_TESTS_BENCHMARK_RANK_PROCESS_H_

#include <sys/types.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ckpt::bench {

// The parent's side. The destructor lets it go and waits for its end.
class RankProcess {
 public:
  static absl::StatusOr<std::unique_ptr<RankProcess>> Start(std::vector<std::string> arguments);
  ~RankProcess();
  // The next line that it says. INTERNAL: it has ended.
  absl::StatusOr<std::string> Listen();
  void Go();

 private:
  RankProcess() = default;
  pid_t pid_ = 0;
  int go_ = -1;
  FILE* answers_ = nullptr;
};

// The child's side: "ready", and returns once the parent has let it go.
void SayReadyAndWait();

}  // namespace ckpt::bench

#endif  // CKPT_TESTS_BENCHMARK_RANK_PROCESS_H_
