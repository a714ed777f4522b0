// What is fuzzed: everything that reads bytes which somebody else made. Each target takes any bytes
// at all; it aborts (Require) where something that must hold doesn't, and otherwise must only
// return. One process, one thread. A program has those targets that are linked into it.
#ifndef CKPT_TESTS_FUZZ_TARGETS_H_
#define CKPT_TESTS_FUZZ_TARGETS_H_

#include <vector>

#include "absl/strings/string_view.h"

namespace ckpt::fuzz {

struct Target {
  const char* name;
  void (*run)(absl::string_view bytes);
};
const std::vector<Target>& Targets();
const Target* FindTarget(absl::string_view name);  // null: there is none

// A static one in the target's source makes it known.
struct Registration {
  Registration(const char* name, void (*run)(absl::string_view bytes));
};

// Says what did not hold and aborts.
void Require(bool holds, const char* what);

}  // namespace ckpt::fuzz

#endif  // CKPT_TESTS_FUZZ_TARGETS_H_
