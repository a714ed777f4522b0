// The protocols whose every call is a crash point: what stands before, what runs, and what the next
// daemon does about it beyond its start.
#ifndef CKPT_TESTS_CRASH_PROTOCOLS_H_
#define CKPT_TESTS_CRASH_PROTOCOLS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/crash/machine.h"

namespace ckpt::crash {

struct Protocol {
  const char* name;
  // Brings a fresh machine to where the protocol begins; the machine is stopped afterwards.
  absl::Status (*prepare)(Machine&);
  // Calls are counted from its beginning. `running`: the machine was started for it.
  bool running;
  absl::Status (*run)(Machine&);
  // After a restart by which the memory tier has lived: finishes what was promised. May be null.
  absl::Status (*resume)(Machine&) = nullptr;
  // Few: the index writes a table, and merges some, with nearly every batch.
  size_t memtables_bytes_max = 64 << 20;
};

const std::vector<Protocol>& Protocols();

// Which of the protocol's calls are tried: every so-manieth.
uint64_t Every(const Protocol& protocol);

}  // namespace ckpt::crash

#endif  // CKPT_TESTS_CRASH_PROTOCOLS_H_
