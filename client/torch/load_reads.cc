#include "client/torch/load_reads.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/torch/tensor_bytes.h"
#include "common/key.h"

namespace ckpt {
namespace {

// Of a checkpoint with much damage; the report names all of it.
constexpr size_t kDamageTextsMax = 20;

bool IsDense(const at::Tensor& tensor) {
  return tensor.is_contiguous() && !tensor.is_conj() && !tensor.is_neg();
}

// Of some tensor's bytes, and no reason why others could not be read.
bool IsOfOneTensor(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsFailedPrecondition(status);
}

}  // namespace

std::string NameOf(const RestorePlan& plan) {
  return absl::StrCat(plan.checkpoint().id().run(), "@", plan.checkpoint().id().step());
}

void LoadReads::Into(const at::Tensor& target, uint32_t leaf_number, const Box& region,
                     c10::ScalarType stored, bool callers) {
  Target entry{leaf_number, region, target, target, callers};
  if (!IsDense(target) || target.scalar_type() != stored) {
    entry.buffer = NewTensor(stored, region.extent);
  }
  // The same memory seen the same way: two names of one tied tensor.
  const auto [found, is_new] =
      by_tensor_.emplace(target.unsafeGetTensorImpl(), targets_.size());
  if (is_new) {
    targets_.push_back(std::move(entry));
  } else {
    targets_[found->second] = std::move(entry);
  }
}

at::Tensor LoadReads::Own(uint32_t leaf_number, const Box& region, c10::ScalarType stored) {
  at::Tensor tensor = NewTensor(stored, region.extent);
  targets_.push_back({leaf_number, region, at::Tensor(), tensor});
  return tensor;
}

absl::StatusOr<std::vector<at::Tensor>> LoadReads::Ahead(
    absl::Span<const CheckpointNode* const> nodes) {
  std::vector<at::Tensor> tensors;
  std::vector<ReadTarget> reads;
  for (const CheckpointNode* node : nodes) {
    const v1::Leaf& leaf = node->leaf->leaf();
    const Box region = Box::Whole(Extents(leaf.shape().begin(), leaf.shape().end()));
    tensors.push_back(NewTensor(*ScalarTypeOf(leaf.dtype()), region.extent));
    reads.push_back({node->leaf->leaf_number(), region,
                     static_cast<std::byte*>(tensors.back().data_ptr())});
  }
  if (reads.empty()) return tensors;
  absl::Status status = ReadInto(reads);
  if (IsOfOneTensor(status)) {  // whose?
    for (size_t i = 0; i < reads.size() && (status.ok() || IsOfOneTensor(status)); ++i) {
      status = ReadInto({&reads[i], 1});
      if (!status.ok()) tensors[i] = at::Tensor();
    }
  }
  if (!status.ok() && !IsOfOneTensor(status)) return status;
  return tensors;
}

std::vector<ReadTarget> LoadReads::AllReads() const {
  std::vector<ReadTarget> reads;
  for (const Target& target : targets_) {
    if (!target.region.empty()) reads.push_back(target.read());
  }
  return reads;
}

absl::Status LoadReads::ReadInto(absl::Span<const ReadTarget> reads) {
  ReadStatistics statistics;
  const absl::Status status = plan_.Read(reads, &statistics);
  ReadStatistics& sum = report_.bytes;
  sum.bytes_asked += statistics.bytes_asked;
  sum.bytes_read += statistics.bytes_read;
  sum.bytes_from_memory += statistics.bytes_from_memory;
  sum.bytes_from_disk += statistics.bytes_from_disk;
  sum.bytes_hashed += statistics.bytes_hashed;
  sum.reads += statistics.reads;
  return status;
}

std::string LoadReads::KeyOf(const Target& target) const {
  return PrintKey(plan_.leaves()[target.leaf_number].leaf().key());
}

absl::Status LoadReads::Check() const { return plan_.Check(AllReads()); }

void LoadReads::NoteUnreadable() {
  for (const Target& target : targets_) {
    if (target.region.empty()) continue;
    const ReadTarget read = target.read();
    if (absl::IsDataLoss(plan_.Check({&read, 1}))) report_.damaged.push_back(KeyOf(target));
  }
}

// Targets may be views of the same memory without being the same tensor: reading into them at once
// would be a race, so all of them get buffers, which are copied one after another.
void LoadReads::SeparateOverlaps() {
  struct Interval {
    const std::byte* begin;
    const std::byte* end;
    size_t target;
  };
  std::vector<Interval> intervals;
  for (size_t i = 0; i < targets_.size(); ++i) {
    const at::Tensor& buffer = targets_[i].buffer;
    if (buffer.numel() == 0) continue;
    const auto* begin = static_cast<const std::byte*>(buffer.data_ptr());
    intervals.push_back({begin, begin + buffer.nbytes(), i});
  }
  std::sort(intervals.begin(), intervals.end(),
            [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  for (size_t first = 0, next; first < intervals.size(); first = next) {
    const std::byte* end = intervals[first].end;
    for (next = first + 1; next < intervals.size() && intervals[next].begin < end; ++next) {
      end = std::max(end, intervals[next].end);
    }
    for (size_t i = first; next - first > 1 && i < next; ++i) {
      Target& target = targets_[intervals[i].target];
      target.buffer = NewTensor(target.buffer.scalar_type(), target.region.extent);
    }
  }
}

absl::Status LoadReads::Read() {
  SeparateOverlaps();
  const absl::Status status = ReadInto(AllReads());
  if (absl::IsFailedPrecondition(status)) {
    return absl::FailedPreconditionError(absl::StrCat("cannot load ", NameOf(plan_),
                                                      ": cannot be read: ", status.message(),
                                                      ". Nothing was changed"));
  }
  if (!status.ok()) TellAutograd();
  return absl::IsDataLoss(status) ? FindDamage(status) : status;
}

// Bytes that are read in place change behind its back.
void LoadReads::TellAutograd() const {
  for (const Target& target : targets_) {
    if (!target.in_place() || target.target.is_inference()) continue;
    target.target.unsafeGetTensorImpl()->bump_version();
  }
}

absl::Status LoadReads::FindDamage(const absl::Status& first) {
  std::vector<std::string> texts;
  std::vector<std::pair<uint32_t, std::string>> whole;
  size_t tensors = 0;
  for (const Target& target : targets_) {
    if (target.region.empty()) continue;
    ++tensors;
    const ReadTarget read = target.read();
    const absl::Status status = plan_.Read({&read, 1});
    if (!status.ok() && !absl::IsDataLoss(status)) {
      report_.damaged.clear();  // nobody knows of all of it
      return absl::Status(
          status.code(),
          absl::StrCat("loading ", NameOf(plan_), ": ", status.message(),
                       ". That was while looking for all that is damaged, after ", first.message(),
                       ". Any tensor may have been touched: load again"));
    }
    if (status.ok()) {
      if (target.callers && target.in_place()) {
        whole.emplace_back(target.leaf_number, KeyOf(target));
      }
      continue;
    }
    report_.damaged.push_back(KeyOf(target));
    if (texts.size() < kDamageTextsMax) texts.emplace_back(status.message());
  }
  if (texts.empty()) texts.emplace_back(first.message());  // whole the second time: a failing disk
  std::sort(whole.begin(), whole.end());
  for (auto& [number, key] : whole) report_.restored.push_back(std::move(key));
  return absl::DataLossError(absl::StrCat(
      "loading ", NameOf(plan_), ": ", report_.damaged.size(), " of ", tensors,
      " tensors are damaged: ", absl::StrJoin(texts, "; "),
      report_.damaged.size() > texts.size() ? "; and more" : "", ". ", report_.restored.size(),
      " tensors of yours now have the checkpoint's bytes, the damaged ones may have parts of it, "
      "everything else is as it was: LoadOptions::report tells which. Load another checkpoint over "
      "them; `latest-valid` is the newest that verifies"));
}

void LoadReads::Copy() {
  at::NoGradGuard no_grad;
  TellAutograd();
  for (const Target& target : targets_) {
    if (!target.target.defined() || target.in_place()) continue;
    const at::Tensor destination = target.target;
    std::optional<c10::InferenceMode> inference;  // what was made in it changes only there
    if (destination.is_inference()) inference.emplace();
    destination.copy_(target.buffer);
  }
}

}  // namespace ckpt
