// gRPC alone: one client stream of byte buffers over a unix socket, from this process to another
// that throws them away. No protobuf, no copy on either side that gRPC itself does not make.
#ifndef CKPT_TESTS_BENCHMARK_BARE_STREAM_H_
#define CKPT_TESTS_BENCHMARK_BARE_STREAM_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace ckpt::bench {

// Serves until it is killed. What `ckpt_bench --bare-sink SOCKET` runs.
int ServeBareSink(const std::string& socket);

// The sink as a process, and a channel to it.
class BareStream {
 public:
  // `binary`: ckpt_bench's own path.
  static absl::StatusOr<std::unique_ptr<BareStream>> Start(const std::string& binary);
  virtual ~BareStream() = default;
  // Seconds from opening the stream until the sink has answered that it has everything.
  virtual absl::StatusOr<double> Send(const std::byte* data, uint64_t bytes,
                                      uint64_t chunk_bytes) = 0;
};

}  // namespace ckpt::bench

#endif  // CKPT_TESTS_BENCHMARK_BARE_STREAM_H_
