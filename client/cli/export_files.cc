#include "client/cli/export_files.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/key.h"
#include "common/layout.h"
#include "common/safetensors.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace ckpt::cli {
namespace {

constexpr uint64_t kBufferBytes = 64 << 20;
constexpr uint64_t kHeaderBytesReadable = 100'000'000;  // what the reference implementation reads

bool HasSuffix(const RestorePlan& plan, const v1::PlannedLeaf& leaf) {
  return leaf.leaf().placement() == v1::PLACEMENT_PER_RANK && plan.checkpoint().share_size() > 1;
}

std::string NameOfLeaf(const RestorePlan& plan, const v1::PlannedLeaf& leaf) {
  std::string name = PrintKey(leaf.leaf().key());
  if (HasSuffix(plan, leaf)) absl::StrAppend(&name, ".rank", leaf.rank());
  return name;
}

// The name of an entry of __metadata__ that was imported; null: it is something else.
const std::string* FileNote(const v1::PlannedLeaf& planned) {
  const v1::Leaf& leaf = planned.leaf();
  const auto& segments = leaf.key().segments();
  const bool text =
      leaf.placement() == v1::PLACEMENT_REPLICATED &&
      (leaf.kind() == v1::LEAF_KIND_STRING_BYTES ||
       (leaf.kind() == v1::LEAF_KIND_VALUE && planned.value().kind_case() == v1::Value::kText));
  return text && segments.size() == 2 && segments[0].name() == kSafetensorsMetadata &&
                 segments[1].kind_case() == v1::KeySegment::kName
             ? &segments[1].name()
             : nullptr;
}

absl::StatusOr<std::string> NoteText(RestorePlan& plan, const v1::PlannedLeaf& leaf) {
  if (leaf.leaf().kind() == v1::LEAF_KIND_VALUE) return leaf.value().text();
  const Box whole =
      Box::Whole({leaf.leaf().shape().data(), static_cast<size_t>(leaf.leaf().shape_size())});
  std::string text(whole.volume(), '\0');
  ReadTarget target{.leaf_number = leaf.leaf_number(),
                    .region = whole,
                    .out = reinterpret_cast<std::byte*>(text.data())};
  CKPT_RETURN_IF_ERROR(plan.Read({&target, 1}));
  return text;
}

// C64 is two F32 to safetensors.
SafetensorsTensor HeaderEntry(const ExportTensor& tensor) {
  SafetensorsTensor entry;
  entry.name = tensor.name;
  entry.dtype = tensor.dtype;
  entry.shape = tensor.shape;
  if (tensor.dtype == v1::DTYPE_C64) {
    entry.dtype = v1::DTYPE_F32;
    entry.shape.push_back(2);
  }
  return entry;
}

// Slabs that are read at once, and then handed on in order.
class ReadBatch {
 public:
  using Sink = absl::FunctionRef<absl::Status(size_t i, absl::string_view bytes)>;
  ReadBatch(RestorePlan& plan, Sink sink) : plan_(plan), sink_(sink), buffer_(kBufferBytes, '\0') {}

  absl::Status Add(size_t i, uint32_t leaf_number, const Box& region, uint64_t bytes) {
    if (used_ + bytes > buffer_.size()) CKPT_RETURN_IF_ERROR(Flush());
    targets_.push_back({.leaf_number = leaf_number,
                        .region = region,
                        .out = reinterpret_cast<std::byte*>(buffer_.data()) + used_});
    pieces_.emplace_back(i, absl::string_view(buffer_.data() + used_, bytes));
    used_ += bytes;
    return absl::OkStatus();
  }

  absl::Status Flush() {
    if (targets_.empty()) return absl::OkStatus();
    CKPT_RETURN_IF_ERROR(plan_.Read(targets_));
    for (const auto& [i, bytes] : pieces_) CKPT_RETURN_IF_ERROR(sink_(i, bytes));
    used_ = 0;
    targets_.clear();
    pieces_.clear();
    return absl::OkStatus();
  }

 private:
  RestorePlan& plan_;
  Sink sink_;
  std::string buffer_;
  uint64_t used_ = 0;
  std::vector<ReadTarget> targets_;
  std::vector<std::pair<size_t, absl::string_view>> pieces_;  // one for each target
};

}  // namespace

ExportTensor MakeExportTensor(const v1::PlannedLeaf& leaf, const SliceBoxes& boxes) {
  ExportTensor tensor{
      .leaf_number = leaf.leaf_number(),
      .dtype = leaf.leaf().dtype(),
      .shape = Extents(leaf.leaf().shape().begin(), leaf.leaf().shape().end())};
  if (const Box* box = boxes.Of(leaf.leaf()); box != nullptr) {
    tensor.offset = box->offset;
    tensor.shape = box->extent;
  }
  tensor.bytes = Volume(tensor.shape).value_or(0) * DTypeBytes(tensor.dtype);
  return tensor;
}

std::vector<ExportTensor> ExportTensors(const RestorePlan& plan, const SliceBoxes& boxes) {
  std::vector<ExportTensor> tensors;
  std::set<std::string> taken = {kSafetensorsMetadata};
  for (const v1::PlannedLeaf& planned : plan.leaves()) {
    if (!planned.selected() || !IsTensorKind(planned.leaf().kind())) continue;
    if (FileNote(planned) != nullptr) continue;
    ExportTensor tensor = MakeExportTensor(planned, boxes);
    tensor.name = NameOfLeaf(plan, planned);
    while (!taken.insert(tensor.name).second) tensor.name += "_";
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

absl::StatusOr<std::map<std::string, std::string>> ExportMetadata(RestorePlan& plan) {
  using Json = nlohmann::ordered_json;
  const v1::CheckpointId& id = plan.checkpoint().id();
  std::map<std::string, std::string> metadata;
  Json values = Json::object();
  for (const v1::PlannedLeaf& planned : plan.leaves()) {
    if (!planned.selected()) continue;
    if (const std::string* note = FileNote(planned); note != nullptr) {
      CKPT_ASSIGN_OR_RETURN(metadata[*note], NoteText(plan, planned));
      continue;
    }
    if (planned.leaf().kind() != v1::LEAF_KIND_VALUE) continue;
    const std::string text = ValueToJson(planned.value());
    Json value = Json::parse(text, nullptr, false);
    values[NameOfLeaf(plan, planned)] = value.is_discarded() ? Json(text) : std::move(value);
  }
  metadata.try_emplace("format", "pt");
  metadata["ckptd.run"] = id.run();
  metadata["ckptd.step"] = absl::StrCat(id.step());
  metadata["ckptd.incarnation"] = absl::BytesToHexString(id.incarnation());
  if (!values.empty()) {
    metadata["values"] = values.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  return metadata;
}

std::vector<std::vector<ExportTensor>> CutIntoFiles(std::vector<ExportTensor> tensors,
                                                    uint64_t file_bytes_max) {
  std::vector<std::vector<ExportTensor>> files(1);
  uint64_t used = 0;
  for (ExportTensor& tensor : tensors) {
    if (!files.back().empty() && tensor.bytes > file_bytes_max - std::min(used, file_bytes_max)) {
      files.emplace_back();
      used = 0;
    }
    used += tensor.bytes;
    files.back().push_back(std::move(tensor));
  }
  for (auto& file : files) {
    std::sort(file.begin(), file.end(), [](const ExportTensor& a, const ExportTensor& b) {
      const uint64_t a_bytes = DTypeBytes(a.dtype);
      const uint64_t b_bytes = DTypeBytes(b.dtype);
      return a_bytes != b_bytes ? a_bytes > b_bytes : a.name < b.name;
    });
  }
  return files;
}

absl::Status WriteSafetensors(RestorePlan& plan, absl::Span<const ExportTensor> tensors,
                              const std::map<std::string, std::string>& metadata, OutputFile& file,
                              absl::FunctionRef<void(uint64_t bytes)> wrote) {
  std::vector<SafetensorsTensor> entries;
  for (const ExportTensor& tensor : tensors) entries.push_back(HeaderEntry(tensor));
  const std::string header = MakePlainHeaderRegion(entries, metadata);
  if (header.size() > kHeaderBytesReadable) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the header of ", file.path(), " would take ", PrintByteSize(header.size()),
        ", more than readers of safetensors accept: export into a folder with a smaller "
        "--shard-size, or leave keys out with --exclude"));
  }
  CKPT_RETURN_IF_ERROR(file.WriteAt(0, header));
  uint64_t offset = header.size();
  CKPT_RETURN_IF_ERROR(ReadInOrder(plan, tensors, [&](size_t, absl::string_view bytes) {
    CKPT_RETURN_IF_ERROR(file.WriteAt(offset, bytes));
    offset += bytes.size();
    wrote(bytes.size());
    return absl::OkStatus();
  }));
  return file.SyncAndClose();
}

absl::Status ReadInOrder(RestorePlan& plan, absl::Span<const ExportTensor> tensors,
                         absl::FunctionRef<absl::Status(size_t i, absl::string_view bytes)> sink) {
  ReadBatch batch(plan, sink);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const ExportTensor& tensor = tensors[i];
    if (tensor.bytes == 0) continue;
    const uint64_t element_bytes = DTypeBytes(tensor.dtype);
    absl::Status status;
    ForEachSlab(tensor.shape, element_bytes, kBufferBytes, [&](Box slab) {
      for (size_t d = 0; d < tensor.offset.size(); ++d) slab.offset[d] += tensor.offset[d];
      if (!status.ok()) return;
      status = batch.Add(i, tensor.leaf_number, slab, slab.volume() * element_bytes);
    });
    CKPT_RETURN_IF_ERROR(status);
  }
  return batch.Flush();
}

void ForEachSlab(absl::Span<const uint64_t> shape, uint64_t element_bytes, uint64_t bytes_max,
                 absl::FunctionRef<void(const Box& slab)> slab) {
  Box box = Box::Whole(shape);
  if (box.empty()) return;
  // The first dimension whose inner rows fit: outer ones are walked one by one, it is cut, inner
  // ones stay whole.
  size_t cut = 0;
  uint64_t row_bytes = box.volume() * element_bytes;
  if (row_bytes <= bytes_max) {
    slab(box);
    return;
  }
  while (cut < shape.size()) {
    row_bytes /= shape[cut];
    if (row_bytes <= bytes_max) break;
    ++cut;
  }
  if (cut == shape.size()) --cut;  // not even one element fits: elements one by one
  const uint64_t rows_max = std::max<uint64_t>(1, bytes_max / std::max<uint64_t>(1, row_bytes));
  for (size_t d = 0; d < cut; ++d) box.extent[d] = 1;
  for (;;) {
    for (uint64_t row = 0; row < shape[cut]; row += rows_max) {
      box.offset[cut] = row;
      box.extent[cut] = std::min(rows_max, shape[cut] - row);
      slab(box);
    }
    size_t d = cut;
    while (d > 0 && ++box.offset[d - 1] == shape[d - 1]) box.offset[--d] = 0;
    if (d == 0) return;
  }
}

}  // namespace ckpt::cli
