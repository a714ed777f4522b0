#include "tests/fuzz/targets.h"

#include <cstdio>
#include <cstdlib>

namespace ckpt::fuzz {
namespace {

std::vector<Target>& Registered() {
  static std::vector<Target> targets;
  return targets;
}

}  // namespace

const std::vector<Target>& Targets() { return Registered(); }

const Target* FindTarget(absl::string_view name) {
  for (const Target& target : Registered()) {
    if (name == target.name) return &target;
  }
  return nullptr;
}

Registration::Registration(const char* name, void (*run)(absl::string_view bytes)) {
  Registered().push_back({name, run});
}

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

}  // namespace ckpt::fuzz
