#include "server/staging/memory_blocks.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace ckpt {
namespace {

class PinnedPart : public PartSource {
 public:
  explicit PinnedPart(std::unique_ptr<MemoryPin> pin) : pin_(std::move(pin)) {}
  absl::Status Read(uint64_t offset, void* out, uint64_t bytes) override {
    char* to = static_cast<char*>(out);
    while (bytes > 0) {
      const ssize_t got =
          pread(pin_->read_only_descriptor(), to, bytes, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return absl::DataLossError("the memory copy is shorter than its part");
      to += got;
      offset += static_cast<uint64_t>(got);
      bytes -= static_cast<uint64_t>(got);
    }
    return absl::OkStatus();
  }
  void Consumed(uint64_t) override {}

 private:
  const std::unique_ptr<MemoryPin> pin_;
};

}  // namespace

std::unique_ptr<PartSource> MemoryBlocks::Open(CheckpointUid uid, uint32_t rank) {
  std::unique_ptr<MemoryPin> pin = copies_->Pin(uid, rank);
  if (pin == nullptr) return nullptr;
  return std::make_unique<PinnedPart>(std::move(pin));
}

}  // namespace ckpt
