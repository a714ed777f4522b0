#include "client/cli/torch_file/torch_calls.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

using GlobalKind = TorchGlobal::Kind;

constexpr size_t kStorageKeyBytesMax = 64;
constexpr size_t kMetadataMax = 16;

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("malformed ", what));
}

bool IsStorageKey(absl::string_view key) {
  return !key.empty() && key.size() <= kStorageKeyBytesMax &&
         std::all_of(key.begin(), key.end(),
                     [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-'; });
}

// Whether the last element that the view can reach lies in a storage of so many elements.
absl::Status CheckWithin(const TorchTensor& tensor, uint64_t elements) {
  const auto outside = absl::InvalidArgumentError("a tensor reaches beyond the end of its storage");
  const std::optional<uint64_t> volume = Volume(tensor.shape);
  if (!volume || *volume > kPartBytesMax) {
    return absl::InvalidArgumentError("a tensor's size is too large");
  }
  if (tensor.offset > elements) return outside;
  if (*volume == 0) return absl::OkStatus();
  uint64_t left = elements - tensor.offset;
  if (left == 0) return outside;
  --left;
  for (size_t d = 0; d < tensor.shape.size(); ++d) {
    const uint64_t steps = tensor.shape[d] - 1;
    if (steps == 0 || tensor.strides[d] == 0) continue;
    if (tensor.strides[d] > left / steps) return outside;
    left -= steps * tensor.strides[d];
  }
  return absl::OkStatus();
}

}  // namespace

bool TorchCalls::IsEmptyDict(const PickleValue& value) const {
  const auto* dict = std::get_if<PickleDict>(&value);
  return dict != nullptr && pickle_.dicts[dict->index].empty();
}

absl::StatusOr<Extents> TorchCalls::Numbers(const PickleValue& value) const {
  const auto* list = std::get_if<PickleList>(&value);
  if (list == nullptr) return Malformed("size or strides of a tensor");
  const std::vector<PickleValue>& items = pickle_.lists[list->index];
  if (items.size() > kDimensionsMax) {
    return absl::InvalidArgumentError(absl::StrCat("a tensor of ", items.size(),
                                                   " dimensions, at most ", kDimensionsMax,
                                                   " are kept"));
  }
  Extents numbers;
  for (const PickleValue& item : items) {
    const auto* number = std::get_if<int64_t>(&item);
    if (number == nullptr || *number < 0) return Malformed("size or strides of a tensor");
    numbers.push_back(static_cast<uint64_t>(*number));
  }
  return numbers;
}

// {"conj": True}: the bytes alone are not the tensor.
absl::Status TorchCalls::CheckMetadata(const PickleValue& value) const {
  if (std::holds_alternative<std::monostate>(value)) return absl::OkStatus();
  const auto* dict = std::get_if<PickleDict>(&value);
  if (dict == nullptr) return Malformed("metadata of a tensor");
  const auto& entries = pickle_.dicts[dict->index];
  const auto is_false = [](const auto& entry) {
    const bool* set = std::get_if<bool>(&entry.second);
    return set != nullptr && !*set;
  };
  if (entries.size() > kMetadataMax || !std::all_of(entries.begin(), entries.end(), is_false)) {
    return absl::InvalidArgumentError(
        "a tensor is a lazy conjugate or negative: save tensor.resolve_conj().resolve_neg()");
  }
  return absl::OkStatus();
}

absl::StatusOr<PickleValue> TorchCalls::LoadStorage(const PickleValue& id) {
  const auto* tuple = std::get_if<PickleList>(&id);
  if (tuple == nullptr || pickle_.lists[tuple->index].size() != 5) {
    return Malformed("reference to a storage");
  }
  const std::vector<PickleValue>& items = pickle_.lists[tuple->index];
  const auto* what = std::get_if<PickleText>(&items[0]);
  const auto* type = std::get_if<TorchGlobal>(&items[1]);
  const auto* key = std::get_if<PickleText>(&items[2]);
  const auto* count = std::get_if<int64_t>(&items[4]);
  if (what == nullptr || what->utf8 != "storage" || type == nullptr ||
      type->kind != GlobalKind::kStorage || key == nullptr || count == nullptr || *count < 0) {
    return Malformed("reference to a storage");
  }
  if (!IsStorageKey(key->utf8)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a storage is called ", Quoted(key->utf8), ", which names no entry"));
  }
  const uint64_t element_bytes = std::max<uint64_t>(1, DTypeBytes(type->dtype));
  if (static_cast<uint64_t>(*count) > kPartBytesMax / element_bytes) {
    return absl::InvalidArgumentError("a storage's size is too large");
  }
  const TorchStorage storage{.key = key->utf8,
                             .dtype = type->dtype,
                             .bytes = static_cast<uint64_t>(*count) * element_bytes};
  const auto [found, is_new] =
      storage_by_key_.emplace(storage.key, static_cast<uint32_t>(pickle_.storages.size()));
  if (is_new) {
    pickle_.storages.push_back(storage);
  } else if (const TorchStorage& first = pickle_.storages[found->second];
             first.dtype != storage.dtype || first.bytes != storage.bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("storage ", storage.key, " is of two types or sizes"));
  }
  return PickleStorage{found->second};
}

// `extra_min` arguments must follow storage, offset, size and strides; one more may.
absl::StatusOr<PickleValue> TorchCalls::Rebuild(const std::vector<PickleValue>& arguments,
                                                size_t extra_min, DType dtype) {
  if (arguments.size() < 4 + extra_min || arguments.size() > 4 + extra_min + (extra_min > 0)) {
    return Malformed("tensor");
  }
  const auto* storage = std::get_if<PickleStorage>(&arguments[0]);
  const auto* offset = std::get_if<int64_t>(&arguments[1]);
  if (storage == nullptr || offset == nullptr || *offset < 0) return Malformed("tensor");
  TorchTensor tensor;
  tensor.storage = storage->index;
  tensor.dtype = dtype;
  tensor.offset = static_cast<uint64_t>(*offset);
  CKPT_ASSIGN_OR_RETURN(tensor.shape, Numbers(arguments[2]));
  CKPT_ASSIGN_OR_RETURN(tensor.strides, Numbers(arguments[3]));
  if (tensor.shape.size() != tensor.strides.size()) return Malformed("size or strides of a tensor");
  if (extra_min > 0) {
    // Hooks are functions; requires_grad says nothing of the bytes.
    const PickleValue& hooks = arguments[5];
    if (!IsEmptyDict(hooks) && !std::holds_alternative<std::monostate>(hooks)) {
      return absl::InvalidArgumentError("a tensor has backward hooks");
    }
    if (arguments.size() == 5 + extra_min) CKPT_RETURN_IF_ERROR(CheckMetadata(arguments.back()));
  }
  const TorchStorage& of = pickle_.storages[storage->index];
  if (tensor.dtype == v1::DTYPE_UNSPECIFIED) tensor.dtype = of.dtype;
  if (tensor.dtype == v1::DTYPE_UNSPECIFIED) return Malformed("tensor: it has no dtype");
  CKPT_RETURN_IF_ERROR(CheckWithin(tensor, of.bytes / DTypeBytes(tensor.dtype)));
  pickle_.tensors.push_back(std::move(tensor));
  return PickleTensor{static_cast<uint32_t>(pickle_.tensors.size() - 1)};
}

absl::StatusOr<PickleValue> TorchCalls::Call(TorchGlobal function,
                                             const std::vector<PickleValue>& arguments) {
  switch (function.kind) {
    case GlobalKind::kOrderedDict:
      if (!arguments.empty()) return Malformed("OrderedDict");
      pickle_.dicts.emplace_back();
      return PickleDict{static_cast<uint32_t>(pickle_.dicts.size() - 1)};
    case GlobalKind::kRebuildTensor:
      return Rebuild(arguments, 0, v1::DTYPE_UNSPECIFIED);
    case GlobalKind::kRebuildTensorV2:
      return Rebuild(arguments, 2, v1::DTYPE_UNSPECIFIED);
    case GlobalKind::kRebuildTensorV3: {
      const auto* dtype =
          arguments.size() < 7 ? nullptr : std::get_if<TorchGlobal>(&arguments[6]);
      if (dtype == nullptr || dtype->kind != GlobalKind::kDType) return Malformed("tensor");
      return Rebuild(arguments, 3, dtype->dtype);
    }
    case GlobalKind::kRebuildParameter:
      if (arguments.size() != 3 || !std::holds_alternative<PickleTensor>(arguments[0]) ||
          !IsEmptyDict(arguments[2])) {
        return Malformed("parameter");
      }
      return arguments[0];
    case GlobalKind::kSize:
      if (arguments.size() != 1 || !std::holds_alternative<PickleList>(arguments[0])) {
        return Malformed("size");
      }
      return arguments[0];
    case GlobalKind::kEncode: {
      const auto* text = arguments.size() == 2 ? std::get_if<PickleText>(&arguments[0]) : nullptr;
      const auto* code = arguments.size() == 2 ? std::get_if<PickleText>(&arguments[1]) : nullptr;
      if (text == nullptr || code == nullptr || code->utf8 != "latin1") return Malformed("bytes");
      return PickleLatin1{text->utf8};
    }
    case GlobalKind::kEmptyBytes:
      if (!arguments.empty()) return Malformed("bytes");
      return PickleBytes{};
    case GlobalKind::kTagged:
      if (arguments.empty() || !(std::holds_alternative<PickleList>(arguments[0]) ||
                                 std::holds_alternative<PickleDict>(arguments[0]))) {
        return Malformed("list or dictionary");
      }
      return arguments[0];
    case GlobalKind::kStorage:
    case GlobalKind::kDType:
      break;
  }
  return absl::InvalidArgumentError("refuses to call a class of storages or a dtype");
}

}  // namespace ckpt::cli
