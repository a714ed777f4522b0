#include "tests/benchmark/sample_state.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/key.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/tensor_sizes.h"

namespace ckpt::bench {
namespace {

constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;

std::string TensorName(size_t i) { return absl::StrCat("tensor", i); }

}  // namespace

absl::StatusOr<Memory> Memory::Allocate(uint64_t bytes, Pages pages) {
  const uint64_t spare = pages == Pages::kHuge ? kHugePageBytes : 0;
  void* mapping =
      mmap(nullptr, bytes + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", PrintByteSize(bytes), ": ", std::strerror(errno)));
  }
  auto* data = static_cast<std::byte*>(mapping);
  if (spare > 0) {
    const uint64_t before = -reinterpret_cast<uintptr_t>(mapping) % kHugePageBytes;
    if (before > 0) munmap(data, before);
    data += before;
    if (before < spare) munmap(data + bytes, spare - before);
    madvise(data, bytes, MADV_HUGEPAGE);  // a hint: where the host has none, small ones do
  }
  std::memset(data, 0x5a, bytes);
  return Memory(data, bytes);
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Memory::~Memory() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

absl::StatusOr<std::unique_ptr<SampleState>> SampleState::Make(uint64_t bytes) {
  CKPT_ASSIGN_OR_RETURN(Memory source, Memory::Allocate(bytes));
  CKPT_ASSIGN_OR_RETURN(Memory destination, Memory::Allocate(bytes));
  uint64_t state = 88172645463325252;  // xorshift: nothing that compresses
  auto* words = reinterpret_cast<uint64_t*>(source.data());
  for (uint64_t i = 0; i < bytes / 8; ++i) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    words[i] = state;
  }
  return std::unique_ptr<SampleState>(
      new SampleState(std::move(source), std::move(destination), TensorSizes(bytes)));
}

absl::StatusOr<std::unique_ptr<SampleState>> SampleState::MakeEmpty(uint64_t bytes) {
  CKPT_ASSIGN_OR_RETURN(Memory none, Memory::Allocate(4096));
  CKPT_ASSIGN_OR_RETURN(Memory destination, Memory::Allocate(bytes));
  return std::unique_ptr<SampleState>(
      new SampleState(std::move(none), std::move(destination), TensorSizes(bytes)));
}

Part SampleState::MakePart() const {
  Part part;
  const std::byte* at = source();
  for (size_t i = 0; i < sizes_.size(); ++i) {
    const uint64_t elements = sizes_[i] / 4;
    part.leaves.push_back(TensorLeaf(MakeKey({TensorName(i)}), v1::DTYPE_F32, {elements}, at));
    at += sizes_[i];
  }
  return part;
}

double SampleState::MeasureCopy() const {
  const double begin = Now();
  std::memcpy(destination(), source(), bytes());
  const double middle = Now();
  uint64_t at = 0;
  for (const uint64_t size : sizes_) {
    std::memcpy(destination() + at, source() + at, size);
    at += size;
  }
  return std::min(middle - begin, Now() - middle);
}

absl::Status SampleState::Read(RestorePlan& plan, ReadStatistics* statistics) const {
  std::vector<ReadTarget> targets;
  targets.reserve(sizes_.size());
  std::byte* at = destination();
  for (size_t i = 0; i < sizes_.size(); ++i) {
    ReadTarget target;
    CKPT_ASSIGN_OR_RETURN(target.leaf_number, plan.Find(TensorName(i), 0));
    target.region = Box::Whole({sizes_[i] / 4});
    target.out = at;
    targets.push_back(std::move(target));
    at += sizes_[i];
  }
  return plan.Read(targets, statistics);
}

void SampleState::ScrubDestination() const { std::memset(destination(), 0xa5, bytes()); }

absl::Status SampleState::CheckDestination() const {
  if (std::memcmp(source(), destination(), bytes()) == 0) return absl::OkStatus();
  return absl::DataLossError("what was restored is not what was saved");
}

}  // namespace ckpt::bench
