// The state that is saved, and a second stretch of memory of the same size that serves as the
// destination of copies and restores. Both are populated before anything is measured.
#ifndef CKPT_TESTS_BENCHMARK_SAMPLE_STATE_H_
#define CKPT_TESTS_BENCHMARK_SAMPLE_STATE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace ckpt::bench {

// Anonymous memory, every page touched.
class Memory {
 public:
  enum class Pages {
    kAsGiven,  // page-aligned; huge ones where the kernel gives them by itself
    kHuge,     // aligned to 2 MiB, and huge ones asked for: what the daemon's and the client's own
               // buffers are
  };
  // `bytes` is a multiple of 4096.
  static absl::StatusOr<Memory> Allocate(uint64_t bytes, Pages pages = Pages::kAsGiven);
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&&) = delete;
  ~Memory();
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  Memory(std::byte* data, uint64_t bytes) : data_(data), bytes_(bytes) {}
  std::byte* data_;
  uint64_t bytes_;
};

class SampleState {
 public:
  static absl::StatusOr<std::unique_ptr<SampleState>> Make(uint64_t bytes);

  // A destination alone, for a process that only restores.
  static absl::StatusOr<std::unique_ptr<SampleState>> MakeEmpty(uint64_t bytes);

  uint64_t bytes() const { return destination_.bytes(); }
  size_t tensors() const { return sizes_.size(); }
  uint64_t largest_tensor() const { return *std::max_element(sizes_.begin(), sizes_.end()); }
  std::byte* source() const { return source_.data(); }
  std::byte* destination() const { return destination_.data(); }

  Part MakePart() const;        // of one rank, all of it

  // Seconds of the faster of two one-thread memcpys of the state into the destination: tensor by
  // tensor, and in one piece.
  double MeasureCopy() const;

  // Reads everything that `plan` names into the destination.
  absl::Status Read(RestorePlan& plan, ReadStatistics* statistics = nullptr) const;
  void ScrubDestination() const;          // so that an equal destination proves something
  absl::Status CheckDestination() const;  // DATA_LOSS

 private:
  SampleState(Memory source, Memory destination, std::vector<uint64_t> sizes)
      : source_(std::move(source)),
        destination_(std::move(destination)),
        sizes_(std::move(sizes)) {}
  Memory source_;
  Memory destination_;
  std::vector<uint64_t> sizes_;  // tensors lie one after another
};

}  // namespace ckpt::bench

#endif  // CKPT_TESTS_BENCHMARK_SAMPLE_STATE_H_
